"""A policy ready for use: attributes in, plan out, hundreds of thousands of times a second."""

from bisect import bisect_right
from hashlib import blake2b
from typing import Final

from monitor.core.events import Attributes
from monitor.core.instants import LogMillis, Millis
from monitor.core.plan import Plan, Timing
from monitor.detect.settings import Settings
from monitor.policy.combine import combine
from monitor.policy.conditions import Axis
from monitor.policy.rules import Origin, Rule
from monitor.policy.sheet import Sheet, read_sheet

PLANS: Final = 65_536
"""Plans remembered: one per set of entries that some session matched."""

_ATTRIBUTES: Final = ("classification", "roles", "principal", "workload", "route", "subject", "tenant")


def version_of(text: str) -> str:
    """Eight hex digits, a function of the text alone."""
    return blake2b(text.encode(), digest_size=4).hexdigest()


def compile_policy(text: str, *, name: str = "policy.yaml") -> "CompiledPolicy":
    """The policy that `text` says. Raises PolicyError for any other text, with all that is wrong and where."""
    return CompiledPolicy(text, name, read_sheet(text, name))


class CompiledPolicy:
    """What `monitor.core.plan.Policy` asks for, with what it was made of."""

    def __init__(self, text: str, name: str, sheet: Sheet) -> None:
        """`sheet` must be what `text` says; `name` is the file's name as its author knows it."""
        self.text: Final = text
        self.name: Final = name
        self.classifications: Final[tuple[str, ...]] = sheet.classifications
        self.extends: Final[tuple[str, ...]] = sheet.extends
        self.defaults: Final[Rule] = sheet.defaults
        self.rules: Final[tuple[Rule, ...]] = sheet.rules
        """Those of the presets first, then the policy's own, in the order of the file."""
        self.exceptions: Final[tuple[Rule, ...]] = sheet.exceptions
        self.detection: Final[Settings] = sheet.detection
        self._version = version_of(text)
        self._timing = sheet.timing
        self._ranks = {word: place for place, word in enumerate(sheet.classifications)}
        # Strictest where the classification is absent or not in the list: the shortest grace of all.
        self._strictest_grace = min(sheet.source_graces.values())
        self._graces = dict(sheet.source_graces)
        self._entries = (*sheet.rules, *sheet.exceptions)
        axes = [Axis(attribute, self._entries, sheet.classifications) for attribute in _ATTRIBUTES]
        self._axes = tuple((axis.attribute, axis) for axis in axes if axis.used)
        self._all = (1 << len(self._entries)) - 1
        self._ends = tuple(sorted({exception.until for exception in sheet.exceptions}))
        self._in_force = tuple(self._still_in_force(ended) for ended in (-1, *self._ends))
        self._plans: dict[tuple[int, Millis], Plan] = {}

    @property
    def version(self) -> str:
        """Eight hex digits, a function of the text alone."""
        return self._version

    @property
    def timing(self) -> Timing:
        """The durations of DESIGN section 6. `source_grace` is the longest that any classification has."""
        return self._timing

    def rank(self, classification: str | None) -> int:
        """The place in the ordered list, from 0; an unknown word stands above the highest, `None` is -1."""
        if classification is None:
            return -1
        return self._ranks.get(classification, len(self._ranks))

    def plan(self, attributes: Attributes, at: LogMillis) -> Plan:
        """The plan for these attributes at this instant. Equal calls return the same object while it is remembered."""
        mask = self._mask(attributes, at)
        grace = self._graces.get(attributes.classification or "", self._strictest_grace)
        plan = self._plans.get((mask, grace))
        if plan is None:
            if len(self._plans) >= PLANS:
                self._plans.clear()
            plan = self._plans[mask, grace] = self._make(mask, grace)
        return plan

    def matching(self, attributes: Attributes, at: LogMillis) -> tuple[Rule, ...]:
        """The entries that bear on these attributes at this instant: defaults, rules, exceptions in force."""
        mask = self._mask(attributes, at)
        return (self.defaults, *(entry for n, entry in enumerate(self._entries) if mask >> n & 1))

    @property
    def personal(self) -> bool:
        """Whether some entry asks for the subject."""
        return any(attribute == "subject" for attribute, _ in self._axes)

    def period(self, at: LogMillis) -> int:
        """How many instants at which an exception ends have passed."""
        return bisect_right(self._ends, at)

    def _mask(self, attributes: Attributes, at: LogMillis) -> int:
        mask = self._in_force[self.period(at)] if self._ends else self._all
        for attribute, axis in self._axes:
            mask &= axis[getattr(attributes, attribute)]
        return mask

    def _still_in_force(self, ended: Millis) -> int:
        """The mask of the entries that have not ended when everything up to `ended` has."""
        return sum(1 << n for n, entry in enumerate(self._entries) if entry.until > ended)

    def _make(self, mask: int, grace: Millis) -> Plan:
        matched = [entry for n, entry in enumerate(self._entries) if mask >> n & 1]
        split = sum(1 for entry in matched if entry.origin is not Origin.EXCEPTION)
        return combine(self._version, (self.defaults, *matched[:split]), matched[split:], grace)
