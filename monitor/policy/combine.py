"""Most restrictive wins, limit by limit: what the entries that match a session ask of it, together.

How each member combines over the defaults and the enforced rules that match:

| member | together |
|---|---|
| `idle`, `absolute` | the shortest; of equals the first. Then an exception, if it is longer |
| `idle_counts` | what all of them count (it may be nothing: then no activity moves the idle clock) |
| `reauth.acr_values` | what all of them accept; where they have nothing in common, what the first accepts |
| `reauth.max_age` | the shortest |
| `concurrent`, `on_exceed` | the smallest; the severest |
| `warn_before` | all leads of the rules that give any; of the defaults where no rule does. Advice: no limit |

A rule on trial (`enforce: observe`) gives `observed_idle` and `observed_absolute`, and nothing else.
"""

from collections.abc import Sequence

from monitor.core.events import COUNTING_BY_DEFAULT
from monitor.core.instants import NEVER, Millis
from monitor.core.plan import Because, Limit, LimitKind, Plan
from monitor.policy.rules import SEVERITY, OnExceed, Rule


def combine(version: str, rules: Sequence[Rule], exceptions: Sequence[Rule], source_grace: Millis) -> Plan:
    """The plan that these entries give: `rules` begins with the defaults, `exceptions` are all in force.

    Exactly one link of the chain has won for each limit. Links of rules on trial never have.
    """
    enforced = [rule for rule in rules if not rule.observe]
    trial = [rule for rule in rules if rule.observe]
    idle = _limit(LimitKind.IDLE, enforced, exceptions)
    absolute = _limit(LimitKind.ABSOLUTE, enforced, exceptions)
    observed_idle = _shortest(LimitKind.IDLE, trial)
    observed_absolute = _shortest(LimitKind.ABSOLUTE, trial)
    return Plan(
        policy=version,
        idle=idle,
        absolute=absolute,
        observed_idle=observed_idle if observed_idle.ms < idle.ms else Limit(NEVER, ""),
        observed_absolute=observed_absolute if observed_absolute.ms < absolute.ms else Limit(NEVER, ""),
        counts=_counts(enforced),
        warn_before=_leads(enforced),
        acr_values=_acr_values(enforced),
        max_age=min((rule.max_age for rule in enforced if rule.max_age is not None), default=None),
        concurrent=min((rule.concurrent for rule in enforced if rule.concurrent is not None), default=None),
        on_exceed=max(
            (rule.on_exceed for rule in enforced if rule.on_exceed is not None),
            key=SEVERITY.index,
            default=OnExceed.ALERT,
        ).value,
        source_grace=source_grace,
        valid_until=min((exception.until for exception in exceptions), default=NEVER),
        chain=_chain((*rules, *exceptions), {LimitKind.IDLE: idle.rule, LimitKind.ABSOLUTE: absolute.rule}),
    )


def asked(rule: Rule, kind: LimitKind) -> Millis | None:
    """What an entry says of one limit."""
    return rule.idle if kind is LimitKind.IDLE else rule.absolute


def _shortest(kind: LimitKind, rules: Sequence[Rule]) -> Limit:
    found = [Limit(ms, rule.name) for rule in rules if (ms := asked(rule, kind)) is not None]
    return min(found, key=lambda limit: limit.ms, default=Limit(NEVER, ""))


def _limit(kind: LimitKind, enforced: Sequence[Rule], exceptions: Sequence[Rule]) -> Limit:
    limit = _shortest(kind, enforced)
    for exception in exceptions:
        ms = asked(exception, kind)
        if ms is not None and ms > limit.ms:
            limit = Limit(ms, exception.name)
    return limit


def _counts(enforced: Sequence[Rule]) -> int:
    counts = int(COUNTING_BY_DEFAULT)
    for rule in enforced:
        if rule.counts is not None:
            counts &= rule.counts
    return counts


def _acr_values(enforced: Sequence[Rule]) -> tuple[str, ...]:
    values: tuple[str, ...] = ()
    for rule in enforced:
        if rule.acr_values is not None:
            common = tuple(word for word in values if word in rule.acr_values)
            values = common or values or rule.acr_values
    return values


def _leads(enforced: Sequence[Rule]) -> tuple[Millis, ...]:
    """Of the rules where any gives leads; the defaults come first in `enforced`."""
    given = {lead for rule in enforced[1:] if rule.warn_before is not None for lead in rule.warn_before}
    if any(rule.warn_before is not None for rule in enforced[1:]):
        return tuple(sorted(given, reverse=True))
    return enforced[0].warn_before or ()


def _chain(entries: Sequence[Rule], winners: dict[LimitKind, str]) -> tuple[Because, ...]:
    links = []
    for entry in entries:
        for kind in LimitKind:
            ms = asked(entry, kind)
            if ms is not None:
                won = entry.name == winners[kind]
                told = None if ms >= NEVER else ms
                links.append(Because(entry.name, kind, told, won, entry.origin.value, entry.observe))
    return tuple(links)
