"""Hypothesis strategies: policies and whole partition histories that sit on the boundaries of the limits.

A history is plain data: a policy, the records of `session-control` and the records of one partition of
`access-events`, each with its append time, in integer milliseconds; `monitor.testing.rendering` makes wire
records, core events and policy texts of its parts. Limits are a few seconds, and instants are drawn as
`something that happened + a limit + a grace + (-1 | 0 | 1) ms`, so that most histories touch a deadline.

    @given(histories())
    def test_mine(history): ...
"""

from collections.abc import Callable, Sequence
from datetime import UTC, datetime
from functools import cache
from random import Random
from typing import Any, Final, Protocol, TypedDict, TypeVar

from monitor.core.errors import MissingExtraError
from monitor.testing.rendering import NEVER, Step

try:
    from hypothesis import strategies as st
except ImportError as error:  # pragma: no cover - the extra is there wherever tests run
    raise MissingExtraError("test", "monitor.testing.strategies") from error

_T = TypeVar("_T")


class History(TypedDict):
    """One partition's life. Offsets are positions in the lists."""

    policy: dict[str, Any]
    controls: list[Step]
    log: list[Step]


MIDNIGHT: Final = int(datetime(2026, 11, 24, tzinfo=UTC).timestamp()) * 1000
"""Exceptions end at a midnight (UTC), so histories begin shortly before one."""

DAY: Final = 86_400_000
CLASSIFICATIONS: Final = ("public", "internal", "confidential", "restricted")
IDLE: Final = (5000, 4000, 6000, 8000, 12000)
ABSOLUTE: Final = (30000, 20000, 10000, 60000, 15000, 120000)

_NUDGES: Final = (0, 1, -1)
_RARELY: Final = (False,) * 11 + (True,)
_HALF: Final = (False, True)
_STEPS: Final = (1000, 0, 50, 500, 2000, 2999, 3000, 3001, 3500)
_RECORDS: Final = ("event",) * 13 + ("burst",) + ("tick",) * 4 + ("alive",) * 2 + ("control",) * 3
_TYPES: Final = (
    *("session.activity",) * 13,
    *("session.opened",) * 2,
    *("session.reauthenticated",) * 3,
    "session.closed",
)
_ACTIVITIES: Final = (None, None, None, "human", "agent", "inflight", "keepalive", "dance")
_SOURCES: Final = (None, "gateway-1", "gateway-1", "gateway-2")
_GATEWAYS: Final = ("gateway-1", "gateway-2")
_CLOCKS: Final = (0, 0, 0, 60_000, 1, -1000, -4000)
_ROLES: Final = (("analyst",), ("admin",), ("admin", "analyst"), ("root",))
_WORDS: Final = {
    "principal": ("user", "service"),
    "roles": _ROLES,
    "classification": (*CLASSIFICATIONS, "restricted", "secret"),
    "workload": ("console", "batch", "inference"),
    "route": ("/v1/models/fraud", "/v1/chat"),
    "client_ip": ("10.0.0.1", "10.0.0.2"),
}
_WORD_NAMES: Final = tuple(_WORDS)
_ACR: Final = ("aal2", None, "aal1")
_REASONS: Final = ("incident 4711", "risk", "idp_signal", "concurrency_limit", "closed", "locked")
_CONTROLS: Final = (
    *("control.revoke",) * 4,
    *("control.lock",) * 4,
    *("control.unlock",) * 2,
    *("control.policy",) * 4,
)
_CONDITIONS: Final = (
    {"classification": {"at_least": "confidential"}},
    {"classification": {"at_least": "restricted"}},
    {"roles": ["admin", "root"]},
    {"workload": ["batch"]},
    {"route": ["/v1/models/fraud*"]},
    {"subject": ["alice"]},
    {"principal": "service"},
    {"roles": ["admin"], "workload": ["batch", "inference"]},
)


class Pick(Protocol):
    """Takes one of several: by drawing (Hypothesis), or by rolling dice (`weave`)."""

    def __call__(self, options: Sequence[_T], /) -> _T:
        """One of the options; the first is the simplest."""


def _policy(pick: Pick, lateness: int) -> dict[str, Any]:
    limits = {"idle": IDLE, "absolute": ABSOLUTE}
    rules: list[dict[str, Any]] = []
    for number in range(pick(range(4))):
        rule: dict[str, Any] = {"name": f"rule-{number}", "when": pick(_CONDITIONS)}
        for kind in pick((("idle",), ("absolute",), ("idle", "absolute"))):
            rule[kind] = pick(limits[kind])
        if pick(range(4)) == 3:
            rule["enforce"] = "observe"
        elif pick(range(3)) == 2:
            rule["counts"] = pick((["agent", "inflight"], ["human"]))
        elif not any("acr_values" in other for other in rules) and pick(range(3)) == 2:
            rule["acr_values"] = ["aal2"]
        rules.append(rule)
    exceptions: list[dict[str, Any]] = []
    for number in range(pick((0, 0, 1, 2))):
        exception: dict[str, Any] = {
            "name": f"exception-{number}",
            "when": {"subject": ["alice", "bob"][number:]},
        }
        exception["until"] = MIDNIGHT + pick((0, 0, 0, DAY, -DAY))
        for kind in pick((("idle",), ("idle", "absolute"))):
            exception[kind] = 3 * pick(limits[kind])
        exceptions.append(exception)
    return {
        "classifications": list(CLASSIFICATIONS),
        "timing": {
            "lateness": lateness,
            "outage_grace": pick((4000, 2000, 10000)),
            "source_grace": pick((3000, 1000, 6000)),
            "credential_lifetime": pick((DAY, 60000, 20000, 8000)),
        },
        "defaults": {
            "idle": pick(limits["idle"]),
            "absolute": NEVER if pick(_RARELY) else pick(limits["absolute"]),
            "warn_before": pick(([2000], [], [3000, 1000], [5000, 2000])),
        },
        "rules": rules,
        "exceptions": exceptions,
    }


class _Weaver:
    """Draws one history, remembering what instants matter to it."""

    def __init__(self, pick: Pick, new_policy: Callable[[int], dict[str, Any]]) -> None:
        self.pick, self.new_policy = pick, new_policy
        self.lateness = pick((2000, 1000, 500))
        self.policy = new_policy(self.lateness)
        self.policies = [self.policy]
        self.now = MIDNIGHT - pick((10000, 4000, 20000, 600000))
        self.clocks = {source: pick(_CLOCKS) for source in _GATEWAYS}
        self.sessions = [f"s{number}" for number in range(pick(range(1, 5)))]
        self.subjects = {sid: pick((None, "alice", "bob")) for sid in self.sessions}
        self.classified = {sid: pick((None, "public", "internal")) for sid in self.sessions}
        self.instants = dict.fromkeys(self.sessions, (self.now, self.now))  # latest event, latest start
        self.controls: list[Step] = []
        self.log: list[Step] = []

    def history(self, shortest: int, longest: int) -> History:
        """Draw the records one by one, each from what the ones before make interesting."""
        for _ in range(self.pick(range(shortest, longest + 1))):
            self.advance()
            getattr(self, self.pick(_RECORDS))()
        return {"policy": self.policy, "controls": self.controls, "log": self.log}

    def advance(self) -> None:
        """Append times: mostly short steps, often right at an instant that matters, seldom backwards.

        A long way is an outage, or the owner's ticks fill it.
        """
        if self.pick(_HALF):
            self.now += self.pick(_STEPS)
        elif self.pick(_RARELY):
            self.now -= 700
        else:
            instant = self.instant()
            target = instant if 0 <= instant - self.now <= 60000 else self.now + 100
            if target - self.now > 3000 and self.log and self.pick(_HALF):
                between = range(self.now + 3000, target, 3000)
                self.log += [{"kind": "tick", "at": at, "controls_to": -1} for at in between]
            self.now = target

    def instant(self) -> int:
        """Something that happened, plus a limit, plus a grace, plus or minus a millisecond."""
        pick, policy = self.pick, self.policies[-1]
        latest, start = self.instants[pick(self.sessions)]
        limits = (policy["defaults"], *policy["rules"], *policy["exceptions"])
        bases = [latest + rule["idle"] for rule in limits if "idle" in rule]
        bases += [start + rule["absolute"] for rule in limits if rule.get("absolute", NEVER) < NEVER]
        bases += [latest, self.now, MIDNIGHT, self.now + policy["timing"]["credential_lifetime"]]
        for control in self.controls[-2:]:
            bases += [
                control["at"],
                control.get("expires", control["at"] + policy["timing"]["credential_lifetime"]),
            ]
        graces = (0, self.lateness, policy["timing"]["source_grace"], policy["timing"]["outage_grace"], -2000)
        base = pick(bases)
        return int(base + pick(graces) + pick(_NUDGES))

    def tick(self) -> None:
        """The owner's tick; often with all controls there are, sometimes with fewer (never takes any back)."""
        known = len(self.controls) - 1
        to = known if self.pick(_HALF) else self.pick(range(-1, known + 1))
        self.log.append({"kind": "tick", "at": self.now, "controls_to": to})

    def alive(self) -> None:
        """A source's word that all up to `time` is sent; now and then its last."""
        time = self.now if self.pick(_HALF) else self.instant()
        step = {
            "kind": "alive",
            "at": self.now,
            "source": self.pick(_GATEWAYS),
        }
        self.log.append({**step, "time": time, "final": self.pick(_RARELY)})

    def event(self) -> None:
        """An access event: most say little, as most do; some are copies, early or late, and sources have their own clocks."""
        pick = self.pick
        earlier = [step for step in self.log[-6:] if step["kind"] == "event"]
        doubled = pick(_RARELY)
        if earlier and doubled:
            self.log.append({**earlier[0], "at": self.now})
            return
        sid = pick(self.sessions)
        step: Step = {"kind": "event", "at": self.now, "type": pick(_TYPES), "session_id": sid}
        shape = pick(range(8))
        if shape >= 5:
            step["time"] = (
                self.instant() if shape == 5 else self.now - (self.lateness + pick(_NUDGES)) * (shape - 6)
            )
        self._say_who(step)
        for name in ("activity", "source"):
            word = pick(_ACTIVITIES if name == "activity" else _SOURCES)
            if word is not None:
                step[name] = word
        ahead = self.clocks.get(step.get("source", ""), 0)
        if ahead and "time" not in step:
            step["time"] = self.now + ahead
        if pick(range(4)) == 3 or step["type"] == "session.reauthenticated":
            self._say_when_authenticated(step)
        if pick(_RARELY):
            step["expires"] = self.now // 1000 * 1000 + pick((5000, 30000, 90000))
        self._send(step)

    def burst(self) -> None:
        """A source that was cut off sends all it kept, by its own clock: in any order, some of it twice."""
        pick = self.pick
        source = pick(_GATEWAYS)
        kept: list[Step] = []
        for _ in range(pick(range(2, 6))):
            time = self.instant() if pick(_HALF) else self.now - pick(_STEPS)
            step: Step = {"kind": "event", "at": self.now, "type": "session.activity", "source": source}
            kept.append({**step, "session_id": pick(self.sessions), "time": time + self.clocks[source]})
        while kept:
            step = kept.pop(pick(range(len(kept))))
            for _ in range(pick((1, 1, 1, 2))):
                self._send(dict(step))

    def _send(self, step: Step) -> None:
        self.log.append(step)
        time = min(step.get("time", self.now), self.now)
        latest, start = self.instants[step["session_id"]]
        self.instants[step["session_id"]] = (max(latest, time), max(start, step.get("auth_time", start)))

    def _say_who(self, step: Step) -> None:
        pick, subject = self.pick, self.subjects[step["session_id"]]
        if subject is not None and pick(_HALF):
            step["subject"] = subject
        classified = self.classified.pop(step["session_id"], None)
        if classified is not None:
            step["classification"] = classified
        if pick(_RARELY):
            step["subject"] = "bob"
        if pick(_RARELY):
            step["tenant"] = pick(("acme", "acme", "other"))
        for _ in range(pick((0, 0, 0, 1, 2))):
            name = pick(_WORD_NAMES)
            step[name] = pick(_WORDS[name])

    def _say_when_authenticated(self, step: Step) -> None:
        """`auth_time` as text (any millisecond) or as a number (the end of its second)."""
        pick = self.pick
        acr = pick(_ACR)
        if acr is not None:
            step["acr"] = acr
        form = pick(range(6))
        if form == 0:
            return
        if form == 1:
            step["auth_time"] = self.now + self.lateness + pick(_NUDGES)
        elif form == 2:
            step["auth_time"] = self.now
        elif form == 3:
            step["auth_second"] = self.now // 1000 + pick(_NUDGES)
        elif form == 4:
            step["auth_second"] = self.instant() // 1000
        else:
            step["auth_time"] = self.instant()

    def control(self) -> None:
        """A control, and the tick that lets it act (or, now and then, no tick yet)."""
        pick = self.pick
        type_ = pick(_CONTROLS)
        locks = [control["id"] for control in self.controls if control["type"] == "control.lock"]
        at = self.now - pick((0, 0, 300, 2500, -50))
        control: Step = {"at": at, "type": type_, "id": f"c{len(self.controls)}", "target": {}}
        control["reason"] = pick(_REASONS)
        if type_ == "control.policy":
            control["policy"] = self.new_policy(self.lateness)
            self.policies.append(control["policy"])
        elif type_ == "control.unlock" and locks:
            control["id"] = pick(locks)
        else:
            control["target"] = self._target()
            if type_ == "control.lock" and pick(_HALF):
                control["expires"] = self.instant()
            if type_ == "control.revoke" and pick(_HALF):
                control["before"] = self.instant()
        self.controls.append(control)
        if not pick(_RARELY):
            self.log.append({"kind": "tick", "at": self.now, "controls_to": len(self.controls) - 1})

    def _target(self) -> Step:
        pick = self.pick
        targets: tuple[Step, ...] = (
            {"session_id": pick(self.sessions)},
            {"subject": "alice"},
            {"role": "admin"},
            {"tenant": "acme"},
            {"all": True},
            {"classification": "restricted"},
            {"workload": "batch", "role": "analyst"},
            {"client_ip": "10.0.0.1"},
        )
        return pick(targets)


def _drawing(draw: st.DrawFn) -> Pick:
    def pick(options: Sequence[_T], /) -> _T:
        return draw(st.sampled_from(options))

    return pick


@st.composite
def policies(draw: st.DrawFn, lateness: int = 2000) -> dict[str, Any]:
    """A policy with short limits: defaults, up to three rules (some on trial), up to two exceptions."""
    return _policy(_drawing(draw), lateness)


@st.composite
def histories(draw: st.DrawFn, shortest: int = 5, longest: int = 60) -> History:
    """A whole history: 1 to 4 sessions; late, early, doubled and wrong events; outages, controls, policies."""
    pick = _drawing(draw)
    return _Weaver(pick, lambda lateness: _policy(pick, lateness)).history(shortest, longest)


@cache
def _numbered_policy(number: int, lateness: int) -> dict[str, Any]:
    return _policy(Random(number).choice, lateness)  # noqa: S311


def weave(number: int, shortest: int = 5, longest: int = 60) -> History:
    """The history with this number: the same as `histories` gives, but a hundred times as fast, and never shrunk.

    Its policies are of a few hundred, so that compiling them can be remembered. Nothing in it may be changed.
    """
    dice = Random(number)  # noqa: S311
    return _Weaver(dice.choice, lambda lateness: _numbered_policy(dice.randrange(200), lateness)).history(
        shortest, longest
    )
