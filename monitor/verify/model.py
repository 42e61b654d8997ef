"""The specification in code: what one partition decides, by brute force.

No timers, no caches, no state between records but the facts themselves: before each record the instants of
*all* sessions are computed afresh and the earliest that is due happens, again and again, until none is due.
Slow and plain on purpose; it shares no line with the engine and imports nothing of it. What a policy says of a
session comes from outside (`Plans`): tests give brute force, the verifier the compiled policy.

A log record is a dict with `at` (append time, ms) and `kind`: `event` (the fields of an access event in ms;
`auth_second` is a whole-second auth_time), `tick` (`controls_to`) or `alive` (`source`, `time`, `final`). A
control is a dict with `at`, `type`, `id`, `target`, and what its type needs. Offsets are list positions. An event
that is not `home` lies on a partition its session does not belong to: it opens no session, it `strayed`.
"""

from collections.abc import Collection, Iterable
from dataclasses import dataclass, field
from typing import Any, Protocol

Said = dict[str, Any]
"""A record, control, policy or plan: plain members by name."""
Moment = tuple[Any, ...]

NEVER = 1 << 60
GAP = 3000
ENDED_BY_PEOPLE = {
    "admin_revoked",
    "concurrency_limit",
    "risk",
    "idp_signal",
    "parent_ended",
    "lease_expired",
}
ATTRIBUTES = ("subject", "tenant", "principal", "roles", "classification", "workload", "route", "client_ip")

FIRST_KNOWN = ("subject", "roles", "classification", "workload", "route", "tenant")


class Plans(Protocol):
    """What policies say. A policy is a dict with `timing` (durations by name, in ms); the rest of it is theirs."""

    def make_plan(self, policy: Said, attributes: Said, at: int) -> Said:
        """Limits as (ms, rule): `idle`, `absolute`, `observed_idle`, `observed_absolute`; and what else holds `until`."""

    def rank(self, policy: Said, word: str | None) -> int:
        """The place of a classification; above the highest where it is unknown, -1 for none."""


@dataclass
class Session:
    """What is known of one session."""

    id: str
    start: int
    last_activity: int
    attributes: Said
    epoch: int = 0
    plan: Said = field(default_factory=dict)
    absolute: tuple[int, str] = (NEVER, "")  # the limit in force: it only falls within an epoch
    deadlines: dict[str, tuple[int, int]] = field(default_factory=dict)  # limit -> (deadline, log time at which it was set)
    kept: tuple[int, int] | None = None  # the first and the last activity after the idle deadline
    source: str | None = None
    expires: int = 0
    ended: str | None = None  # the type of the strongest command of this epoch
    reason: str | None = None
    cutoffs: list[int] = field(default_factory=list)
    forget_after: int = NEVER
    warned: dict[tuple[str, int], int] = field(default_factory=dict)  # (limit, deadline) -> the shortest lead warned of
    observed: set[str] = field(default_factory=set)
    late: set[tuple[str | None, int]] = field(default_factory=set)  # (source, minute) of late activity told of
    counted: int = 0  # events of its life, late activity and `closed` apart


class Partition:
    """Feed it `records` in order; read `commands`, `warnings`, `dead_letters`, `lifecycle`, `watermarks`."""

    def __init__(self, policy: Said, controls: Iterable[Said], plans: Plans) -> None:
        """`policy` rules from the start."""
        self.policy, self.controls, self.plans = policy, list(controls), plans
        self.sessions: dict[str, Session] = {}
        self.alive: dict[str, int] = {}
        self.standing: list[Said] = []
        self.log_time = self.quiet_until = self.offset = -1
        self.previous: int | None = None
        self.controls_to = -1
        self.commands: list[Said] = []
        self.warnings: list[tuple[str, int, str, int, int]] = []
        self.dead_letters: list[int] = []
        self.strayed: list[int] = []
        self.lifecycle: list[tuple[Any, ...]] = []
        self.watermarks: list[int] = []

    def timing(self, name: str) -> int:
        return int(self.policy["timing"][name])

    def record(self, record: Said) -> None:
        """One record: gap, advance, apply."""
        at = record["at"]
        if self.previous is not None and at > self.previous + GAP:
            self.quiet_until = max(self.quiet_until, at + self.timing("outage_grace"))
        self.previous = at
        self.advance(max(at, self.log_time))  # at offset o - 1: self.offset still is that
        self.log_time = max(self.log_time, at)
        self.offset += 1
        {"event": self.event, "tick": self.tick, "alive": self.source_alive}[record["kind"]](record)
        self.watermarks.append(self.watermark())

    # -- what falls due ---------------------------------------------------------------------------------

    def advance(self, to: int) -> None:
        near = self.near(to)
        while True:
            near = [s for s in near if self.sessions.get(s.id) is s]
            due = [m for s in near for m in self.moments(s, to) if m[0] <= to]
            if not due:
                return
            instant, _, session_id, _, happen, *given = min(due, key=lambda m: m[:4])
            happen(self.sessions[session_id], instant, *given)

    def near(self, to: int) -> Collection[Session]:
        """Those to whom anything may happen by then: here, all."""
        return list(self.sessions.values())

    def moments(self, s: Session, to: int) -> list[Moment]:
        """Everything that is to come for a session: (instant, rank, session id, order, what, with what)."""
        if s.ended:
            return [(s.forget_after, 2, s.id, 0, self.forget)]
        found: list[Moment] = [(self.strikes_at(s, "absolute"), 0, s.id, 0, self.strike, "absolute")]
        found.append((self.strikes_at(s, "idle"), 1, s.id, 0, self.strike, "idle"))
        found.append((s.plan["until"], 2, s.id, 0, self.replan))
        found += [
            (self.strikes_at(s, "observed_" + kind), 2, s.id, 1, self.observe, kind)
            for kind in ("absolute", "idle")
            if kind not in s.observed
        ]
        for kind, limit in (("absolute", s.absolute[0]), ("idle", s.plan["idle"][0])):
            deadline = s.deadlines[kind][0]
            below = min(limit, s.warned.get((kind, deadline), NEVER))
            leads = [
                lead for lead in s.plan["warn_before"] if lead < below and deadline - lead <= to < deadline
            ]
            if leads:
                found.append((deadline - max(leads), 2, s.id, 2, self.warn, kind, deadline, min(leads)))
        return found

    def strikes_at(self, s: Session, kind: str) -> int:
        deadline, set_at = s.deadlines[kind]
        idle = kind.endswith("idle")
        if deadline <= set_at:
            instant = set_at + self.timing("lateness")
        else:
            instant = deadline + (self.timing("lateness") if idle else 0)
        if idle:
            instant = max(instant, self.quiet_until)
            if s.source in self.alive and self.alive[s.source] < deadline:
                instant = max(instant, deadline + self.timing("lateness") + s.plan["source_grace"])
        return instant

    def effective_at(self, s: Session, kind: str) -> int:
        deadline, set_at = s.deadlines[kind]
        return deadline if deadline > set_at - self.timing("lateness") else set_at

    def strike(self, s: Session, _instant: int, kind: str) -> None:
        at = self.effective_at(s, kind)
        limit, rule = s.absolute if kind == "absolute" else s.plan["idle"]
        cutoff = s.start if kind == "absolute" else at
        self.end(s, "session.expire", kind + "_timeout", at, cutoff=cutoff, rule=rule, limit_ms=limit)

    def observe(self, s: Session, _instant: int, kind: str) -> None:
        s.observed.add(kind)
        self.live(
            s, "session.expired", self.effective_at(s, "observed_" + kind), kind + "_timeout", observe=True
        )

    def warn(self, s: Session, _instant: int, kind: str, deadline: int, lead: int) -> None:
        s.warned[kind, deadline] = lead
        self.warnings.append((s.id, s.epoch, kind + "_timeout", deadline, lead))

    def forget(self, s: Session, _instant: int) -> None:
        del self.sessions[s.id]

    def watermark(self) -> int:
        decided = self.log_time - self.timing("lateness")
        waiting = [
            self.effective_at(s, k)
            for s in self.sessions.values()
            if not s.ended
            for k in ("idle", "absolute")
        ]
        return min([decided, *(at - 1 for at in waiting)])

    # -- what is written down ---------------------------------------------------------------------------

    def live(self, s: Session, what: str, at: int, reason: str | None = None, *, observe: bool = False) -> None:
        self.lifecycle.append((what, s.id, s.epoch, at, reason, observe))

    def command(self, s: Session, what: str, reason: str | None, at: int, cutoff: int, control_id: str = "", rule: str | None = None, limit_ms: int | None = None, *, allowed: bool = True) -> None:
        s.forget_after = max(
            s.expires, at + self.timing("credential_lifetime"), s.forget_after if s.ended else 0
        )
        self.commands.append(
            {
                "type": what, "session_id": s.id, "epoch": s.epoch, "reason": reason, "effective_at": at,
                "cutoff": cutoff, "control_id": control_id, "rule": rule, "limit_ms": limit_ms,
                "forget_after": s.forget_after, "reauth_allowed": allowed, "offset": self.offset,
            }
        )  # fmt: skip

    def end(self, s: Session, what: str, reason: str, at: int, cutoff: int, *, allowed: bool = True, **more: Any) -> None:
        s.cutoffs.append(cutoff)
        self.command(s, what, reason, at, cutoff, allowed=allowed, **more)
        s.ended, s.reason = what, reason
        words = {"session.revoke": "session.revoked"}
        self.live(
            s, "session.closed" if reason == "closed" else words.get(what, "session.expired"), at, reason
        )

    # -- records ----------------------------------------------------------------------------------------

    def source_alive(self, record: Said) -> None:
        if record.get("final"):
            self.alive.pop(record["source"], None)
        else:
            time = min(record["time"], record["at"])
            self.alive[record["source"]] = max(time, self.alive.get(record["source"], time))

    def tick(self, record: Said) -> None:
        taken = self.controls[self.controls_to + 1 : record["controls_to"] + 1]
        self.controls_to = max(self.controls_to, record["controls_to"])
        for control in taken:
            if control["type"] == "control.policy":
                self.policy = control["policy"]
                for s in self.sessions.values():
                    if not s.ended:
                        self.replan(s, self.log_time)
            elif control["type"] == "control.unlock":
                self.standing = [
                    c for c in self.standing if (c["type"], c["id"]) != ("control.lock", control["id"])
                ]
            else:
                self.standing.append(control)
                for s in self.sessions.values():
                    if self.concerns(s, control) and (
                        control["type"] == "control.revoke" or self.in_force(control)
                    ):
                        self.obey(s, control)

    def event(self, e: Said) -> None:
        time = min(e.get("time", e["at"]), e["at"])
        auth = e["auth_second"] * 1000 + 999 if "auth_second" in e else e.get("auth_time")
        s = self.sessions.get(e["session_id"])
        if s is None and not e.get("home", True):
            self.strayed.append(self.offset)
            return
        if s is None:
            start = auth if auth is not None and auth <= e["at"] + self.timing("lateness") else time
            s = self.sessions[e["session_id"]] = Session(e["session_id"], start, time, {"principal": "user"})
            self.take(s, e, ratchet=False)
            self.replan(s, self.log_time, epoch_begins=True)
            self.live(s, "session.opened", time)
        elif any(e.get(n) and s.attributes.get(n) and e[n] != s.attributes[n] for n in ("subject", "tenant")):
            self.dead_letters.append(self.offset)
            return
        elif self.reauthenticates(s, e, auth, time):
            self.begin_epoch(s, e, time if auth is None else auth, time)
        elif s.ended:
            s.expires = max(s.expires, e.get("expires", 0))
            minute = (e.get("source"), self.log_time // 60_000)
            if e["type"] != "session.closed" and minute not in s.late:
                s.late.add(minute)
                self.live(s, "session.late_activity", time)
            return
        else:
            before = s.attributes
            self.take(s, e, ratchet=True)
            known = any(not before.get(n) and s.attributes.get(n) for n in FIRST_KNOWN)
            self.replan(s, self.log_time, first_known=known)
        s.counted += e["type"] != "session.closed"
        met = (c for c in self.standing if self.in_force(c) and self.concerns(s, c))
        control = min(met, key=lambda c: c["type"] != "control.revoke", default=None)
        if control:
            self.obey(s, control)
        if s.ended:
            return
        if e["type"] == "session.closed":
            at = max(time, s.start)
            self.end(s, "session.expire", "closed", at, cutoff=at)
        elif kind_of(e, s) in s.plan["counts"]:
            self.activity(s, time)

    # -- what changes a session -------------------------------------------------------------------------

    def merged(self, s: Session, e: Said, *, ratchet: bool) -> Said:
        new = s.attributes | {n: e[n] for n in ATTRIBUTES if e.get(n) is not None}
        old = s.attributes.get("classification")
        if ratchet and self.plans.rank(self.policy, new.get("classification")) <= self.plans.rank(self.policy, old):
            new["classification"] = old
        return new

    def take(self, s: Session, e: Said, *, ratchet: bool) -> None:
        s.attributes = self.merged(s, e, ratchet=ratchet)
        s.source = e.get("source") or s.source
        s.expires = max(s.expires, e.get("expires", 0))

    def replan(self, s: Session, at: int, *, epoch_begins: bool = False, first_known: bool = False) -> None:
        """A new plan at `at`, which is the log time that its deadlines are set at."""
        s.plan = self.plans.make_plan(self.policy, s.attributes, at)
        if epoch_begins or first_known or s.plan["absolute"][0] < s.absolute[0]:
            s.absolute = s.plan["absolute"]
        if epoch_begins:
            s.deadlines = {}
        self.settle(s, at)

    def settle(self, s: Session, at: int) -> None:
        """Rescue what can be rescued, and note of every deadline that is new when it was set."""
        if s.kept and s.kept[0] <= s.last_activity + s.plan["idle"][0]:
            s.last_activity, s.kept = s.kept[1], None
        for kind, begins, limit in (
            ("absolute", s.start, s.absolute),
            ("idle", s.last_activity, s.plan["idle"]),
            ("observed_absolute", s.start, s.plan["observed_absolute"]),
            ("observed_idle", s.last_activity, s.plan["observed_idle"]),
        ):
            deadline = begins + limit[0]
            if kind not in s.deadlines or s.deadlines[kind][0] != deadline:
                s.deadlines[kind] = (deadline, at)

    def activity(self, s: Session, time: int) -> None:
        if time > s.last_activity + s.plan["idle"][0]:
            first, last = s.kept or (time, time)
            s.kept = (min(first, time), max(last, time))
        elif time > s.last_activity:
            s.last_activity = time
            self.settle(s, self.log_time)

    def reauthenticates(self, s: Session, e: Said, auth: int | None, time: int) -> bool:
        a = time if auth is None and e["type"] == "session.reauthenticated" else auth
        if a is None or s.ended == "session.revoke" or a <= max([s.start, *s.cutoffs]):
            return False
        if a > e["at"] + self.timing("lateness"):
            return False
        # What the epoch was, or what the event makes of it: neither is come by with less than it asks for.
        asked = self.plans.make_plan(self.policy, self.merged(s, e, ratchet=True), self.log_time)["acr_values"]
        if asked and e.get("acr") not in asked:
            return False
        after = self.merged(s, e, ratchet=False)
        met = [c for c in self.standing if self.in_force(c) and meets(c["target"], s.id, after)]
        return not any(c["type"] == "control.lock" or cutoff(c) >= a for c in met)

    def begin_epoch(self, s: Session, e: Said, a: int, time: int) -> None:
        lifted, had_ended = s.reason, s.ended
        s.epoch, s.start, s.last_activity = s.epoch + 1, a, max(a, time)
        s.kept, s.ended, s.reason, s.warned, s.observed = None, None, None, {}, set()
        self.take(s, e, ratchet=False)
        self.replan(s, self.log_time, epoch_begins=True)
        self.live(s, "session.reauthenticated", a)
        if had_ended:
            self.command(s, "session.reinstate", lifted, a, cutoff=max(s.cutoffs))
            self.live(s, "session.reinstated", a, lifted)

    def in_force(self, control: Said) -> bool:
        if control["type"] == "control.revoke":
            return bool(self.log_time <= control["at"] + self.timing("credential_lifetime"))
        return bool(self.log_time <= control.get("expires", NEVER))

    def concerns(self, s: Session, control: Said) -> bool:
        """Whether a control has something to say to a session as it stands."""
        if control["type"] == "control.lock":
            open_to_it = not s.ended
        else:
            open_to_it = s.ended != "session.revoke" and s.start < cutoff(control)
        return open_to_it and meets(control["target"], s.id, s.attributes)

    def obey(self, s: Session, control: Said) -> None:
        if control["type"] == "control.lock":
            at = self.log_time if s.start > control["at"] else control["at"]
            self.end(s, "session.expire", "locked", at, at, allowed=False, control_id=control["id"])
        else:
            reason = control["reason"] if control["reason"] in ENDED_BY_PEOPLE else "admin_revoked"
            at = cutoff(control)
            self.end(s, "session.revoke", reason, at, at, allowed=False, control_id=control["id"])


def kind_of(e: Said, s: Session) -> str:
    word = e.get("activity")
    if word is None:
        return "agent" if s.attributes.get("principal") == "service" else "human"
    return word if word in {"human", "agent", "inflight"} else "keepalive"


def cutoff(control: Said) -> int:
    return int(min(control.get("before", control["at"]), control["at"]))


def meets(target: Said, session_id: str, attributes: Said) -> bool:
    have = attributes | {"session_id": session_id}
    return all(
        want in have.get("roles", ()) if name == "role" else name == "all" or have.get(name) == want
        for name, want in target.items()
    )
