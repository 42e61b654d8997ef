"""Histories written by hand, one per clause of the specification, with what must be decided.

`CORPUS` holds (name, history, decisions); a decision is (type, session, epoch, reason, effective_at), instants
in milliseconds after `BASE`. The naive model must give them (tests/model) and so must the engine (tests/core).
`tell` writes any history as people read it.
"""

from tests.model.plans import NEVER

MIDNIGHT = 1795478400000
BASE = MIDNIGHT - 600_000
DAY = 86_400_000
IDLE, ABSOLUTE, LATENESS, OUTAGE, SOURCE = 10_000, 60_000, 2000, 4000, 3000

EXPIRE, REVOKE, REINSTATE = "session.expire", "session.revoke", "session.reinstate"
IDLED, AGED = "idle_timeout", "absolute_timeout"


def policy(*rules, exceptions=(), lifetime=DAY, **defaults):
    return {
        "classifications": ["public", "internal", "confidential", "restricted"],
        "timing": {
            "lateness": LATENESS,
            "outage_grace": OUTAGE,
            "source_grace": SOURCE,
            "credential_lifetime": lifetime,
        },
        "defaults": {"idle": IDLE, "absolute": ABSOLUTE, "warn_before": []} | defaults,
        "rules": list(rules),
        "exceptions": list(exceptions),
    }


def event(at, session_id="s", type_="session.activity", **fields):
    for name in ("time", "auth_time", "expires"):
        if name in fields:
            fields[name] += BASE
    return [{"kind": "event", "at": BASE + at, "type": type_, "session_id": session_id, **fields}]


def reauth(at, auth_time, session_id="s", **fields):
    return event(at, session_id, "session.reauthenticated", auth_time=auth_time, **fields)


def tick(at, to=-1):
    return [{"kind": "tick", "at": BASE + at, "controls_to": to}]


def ticks(first, last):
    """The owner's ticks, every second; the last exactly at `last`."""
    return [t for at in [*range(first, last, 1000), last] for t in tick(at)]


def alive(at, source="gateway-1", *, time=None, final=False):
    time = at if time is None else time
    return [{"kind": "alive", "at": BASE + at, "source": source, "time": BASE + time, "final": final}]


def control(at, type_, id_="c", **fields):
    for name in ("before", "expires"):
        if name in fields:
            fields[name] += BASE
    return {"at": BASE + at, "type": type_, "id": id_, "target": {}, "reason": "incident"} | fields


def history(rules, *parts, controls=()):
    return {"policy": rules, "controls": list(controls), "log": [step for part in parts for step in part]}


LOCK = control(5000, "control.lock", "l1", target={"subject": "alice"})
UNLOCK = control(8000, "control.unlock", "l1")
REVOCATION = control(5000, "control.revoke", "r1", target={"subject": "alice"}, reason="risk")
EARLIER = control(9000, "control.revoke", "r2", target={"all": True}, before=3000)
EXCEPTION = {"name": "migration", "when": {"subject": ["bob"]}, "idle": 40_000, "until": MIDNIGHT}
STRICTER = control(7000, "control.policy", policy=policy(idle=4000, absolute=20_000))
LOOSER = control(7000, "control.policy", policy=policy(idle=30_000, absolute=90_000))
RULE = {
    "name": "secret",
    "when": {"classification": {"at_least": "restricted"}},
    "idle": 4000,
    "acr_values": ["aal2"],
}
TRIAL = {"name": "trial", "when": {"roles": ["admin"]}, "idle": 4000, "enforce": "observe"}
LATE = 600_000 - 20_000
P = policy()

CORPUS = [
    ("idle: not before the lateness has passed", history(P, event(0), ticks(1000, 11_999)), []),
    ("idle: at deadline and lateness", history(P, event(0), ticks(1000, 12_000)), [(EXPIRE, "s", 0, IDLED, 10_000)]),
    (
        "idle: an activity at the deadline rescues",
        history(P, event(0), ticks(1000, 11_999), event(11_999, time=10_000), ticks(12_000, 21_999)),
        [],
    ),
    (
        "idle: an activity after the deadline does not",
        history(P, event(0), ticks(1000, 11_999), event(11_999, time=10_001), ticks(12_000, 21_999)),
        [(EXPIRE, "s", 0, IDLED, 10_000)],
    ),
    (
        "idle: a rescue that reaches the first kept activity counts the last",
        history(
            P,
            event(0),
            ticks(1000, 10_000),
            event(10_001),
            event(11_000),
            event(11_900, time=2000),
            ticks(12_000, 23_000),
        ),
        [(EXPIRE, "s", 0, IDLED, 21_000)],
    ),
    (
        "idle: keep-alives never extend",
        history(P, event(0), ticks(1000, 6000), event(6000, activity="keepalive"), ticks(7000, 12_000)),
        [(EXPIRE, "s", 0, IDLED, 10_000)],
    ),
    (
        "idle: a fast clock wins nothing",
        history(P, event(0, time=9000), ticks(1000, 12_000)),
        [(EXPIRE, "s", 0, IDLED, 10_000)],
    ),
    (
        "outage: a gap defers, the deadline stays",
        history(P, event(0), ticks(1000, 9000), tick(12_001), ticks(13_000, 16_000)),
        [],
    ),
    (
        "outage: and then it strikes",
        history(P, event(0), ticks(1000, 9000), tick(12_001), ticks(13_000, 16_001)),
        [(EXPIRE, "s", 0, IDLED, 10_000)],
    ),
    (
        "outage: the watermark waits for who was rescued after it, too",
        history(P, event(0, time=-1000), ticks(1000, 8000), tick(11_500), event(11_600, time=2000), ticks(12_000, 18_000)),
        [(EXPIRE, "s", 0, IDLED, 12_000)],
    ),
    ("outage: three seconds are none", history(P, event(0), ticks(1000, 9000), tick(12_000)), [(EXPIRE, "s", 0, IDLED, 10_000)]),
    (
        "source: the strike waits for its word, for its grace at the most",
        history(P, alive(0), event(0, source="gateway-1", classification="public"), ticks(1000, 14_999), tick(15_000)),
        [(EXPIRE, "s", 0, IDLED, 10_000)],
    ),
    (
        "source: within the grace an event still rescues",
        history(
            P,
            alive(0),
            event(0, source="gateway-1", classification="public"),
            ticks(1000, 14_999),
            event(14_999, time=9999, source="gateway-1"),
            ticks(15_000, 19_998),
        ),
        [],
    ),
    (
        "source: its word at the deadline, or its farewell, ends the wait",
        history(
            P,
            alive(0),
            alive(0, "gateway-2"),
            event(0, "s", source="gateway-1", classification="public"),
            event(0, "t", source="gateway-2", classification="public"),
            ticks(1000, 11_000),
            alive(11_500, time=10_000),
            alive(11_600, "gateway-2", final=True),
            tick(12_000),
        ),
        [(EXPIRE, "s", 0, IDLED, 10_000), (EXPIRE, "t", 0, IDLED, 10_000)],
    ),
    (
        "absolute: at its deadline, whatever the activity",
        history(policy(absolute=9000), event(0), ticks(1000, 8000), event(8900), tick(8999), event(9000)),
        [(EXPIRE, "s", 0, AGED, 9000)],
    ),
    (
        "absolute before idle where both strike at one instant",
        history(policy(absolute=12_000), event(0), ticks(1000, 12_000)),
        [(EXPIRE, "s", 0, AGED, 12_000)],
    ),
    (
        "past when set: lateness after, effective at the log time",
        history(P, event(0), event(1000, auth_time=-90_000, session_id="t"), ticks(2000, 2999), tick(3000)),
        [(EXPIRE, "t", 0, AGED, 1000)],
    ),
    (
        "past when set, by less than lateness: effective at the deadline",
        history(P, event(1000, auth_time=-60_000), ticks(2000, 2999), tick(3000)),
        [(EXPIRE, "s", 0, AGED, 0)],
    ),
    (
        "past when set: at the log time itself is past",
        history(P, event(1000, auth_time=-59_000), ticks(2000, 2999)),
        [],
    ),
    (
        "re-authentication reinstates",
        history(policy(absolute=9000), event(0), ticks(1000, 9000), reauth(9500, 9400), ticks(10_000, 18_399)),
        [(EXPIRE, "s", 0, AGED, 9000), (REINSTATE, "s", 1, AGED, 9400)],
    ),
    (
        "re-authentication at the cut-off does not count",
        history(P, event(0), ticks(1000, 12_000), reauth(12_000, 10_000), tick(13_000)),
        [(EXPIRE, "s", 0, IDLED, 10_000)],
    ),
    (
        "re-authentication with the wrong acr does not count, with the right one it does",
        history(
            policy(RULE),
            event(0, classification="restricted"),
            ticks(1000, 6000),
            reauth(7000, 6500, acr="aal1"),
            reauth(7000, 6600, acr="aal2"),
        ),
        [(EXPIRE, "s", 0, IDLED, 4000), (REINSTATE, "s", 1, IDLED, 6600)],
    ),
    (
        "a number of seconds is the end of its second",
        history(P, event(0), ticks(1000, 12_000), event(12_500, auth_second=BASE // 1000 + 10)),
        [(EXPIRE, "s", 0, IDLED, 10_000), (REINSTATE, "s", 1, IDLED, 10_999)],
    ),
    (
        "closed",
        history(P, event(0), event(700, type_="session.closed"), event(800, "t", "session.closed"), event(900)),
        [(EXPIRE, "s", 0, "closed", 700), (EXPIRE, "t", 0, "closed", 800)],
    ),
    (
        "a lock refuses until it is lifted",
        history(
            P,
            event(0, subject="alice"),
            ticks(1000, 6000),
            tick(6000, 0),
            reauth(7000, 6500),
            event(7500, "t", subject="alice"),
            tick(8500, 1),
            reauth(9000, 8800),
            controls=[LOCK, UNLOCK],
        ),
        [(EXPIRE, "s", 0, "locked", 5000), (EXPIRE, "t", 0, "locked", 7500), (REINSTATE, "s", 1, "locked", 8800)],
    ),
    (
        "a lock stands up to its end",
        history(
            P,
            tick(6000, 0),
            event(9000, "t", subject="alice"),
            event(9001, "u", subject="alice"),
            controls=[control(5000, "control.lock", "l2", target={"subject": "alice"}, expires=9000)],
        ),
        [(EXPIRE, "t", 0, "locked", 9000)],
    ),
    (
        "a revocation is final, and meets who comes later with an older authentication",
        history(
            P,
            event(0, subject="alice"),
            ticks(1000, 6000),
            tick(6000, 0),
            reauth(7000, 6500),
            event(7500, "t", subject="alice", auth_time=4999),
            event(7500, "u", subject="alice", auth_time=5000),
            controls=[REVOCATION],
        ),
        [(REVOKE, "s", 0, "risk", 5000), (REVOKE, "t", 0, "risk", 5000)],
    ),
    (
        "a policy lets a revocation that had run out stand again",
        history(
            policy(lifetime=2000),
            tick(6000, 0),
            event(8000, "t", subject="alice", auth_time=4999),
            tick(9000, 1),
            event(9500, "t"),
            controls=[REVOCATION, control(8500, "control.policy", policy=P)],
        ),
        [(REVOKE, "t", 0, "risk", 5000)],
    ),
    (
        "a revocation with `before` meets ended sessions too",
        history(P, event(0), event(2999, "t"), event(3000, "u"), event(4000, "s", "session.closed"), tick(6000), tick(9000, 0), controls=[EARLIER]),
        [(EXPIRE, "s", 0, "closed", 4000), (REVOKE, "s", 0, "admin_revoked", 3000), (REVOKE, "t", 0, "admin_revoked", 3000)],
    ),
    (
        "a stricter policy rules at its tick",
        history(P, event(0), ticks(1000, 7000), tick(7500, 0), ticks(8000, 9499), tick(9500), controls=[STRICTER]),
        [(EXPIRE, "s", 0, IDLED, 7500)],
    ),
    (
        "a looser policy moves the idle deadline, never the absolute one",
        history(policy(absolute=24_000), event(0), ticks(1000, 7000), tick(7500, 0), ticks(8000, 24_000), controls=[LOOSER]),
        [(EXPIRE, "s", 0, AGED, 24_000)],
    ),
    (
        "an exception ends at its midnight",
        history(policy(exceptions=[EXCEPTION]), event(LATE, subject="bob"), ticks(LATE + 1000, 601_999), tick(602_000)),
        [(EXPIRE, "s", 0, IDLED, 600_000)],
    ),
    (
        "what is not known meets the strictest reading; what becomes known first may lengthen",
        history(policy(RULE), event(0), ticks(1000, 5000), event(5000, time=3900, classification="public"), ticks(6000, 13_899)),
        [],
    ),
    (
        "a rule on trial commands nothing",
        history(policy(TRIAL), event(0, roles=("admin",)), ticks(1000, 12_000)),
        [(EXPIRE, "s", 0, IDLED, 10_000)],
    ),
    (
        "forgotten, and begun again",
        history(policy(lifetime=5000), event(0), event(100, type_="session.closed"), ticks(1000, 5099), tick(5100), event(6000), event(6001, type_="session.closed")),
        [(EXPIRE, "s", 0, "closed", 100), (EXPIRE, "s", 0, "closed", 6001)],
    ),
]  # fmt: skip


def tell(told):
    """A history as lines: instants relative to its first record, only what was said."""
    base = told["log"][0]["at"]

    def word(name, value):
        instant = isinstance(value, int) and name in {"at", "time", "auth_time", "before", "expires", "until"}
        if instant and value < NEVER:
            return f"{name}=+{value - base}"
        return f"{name}=+{value * 1000 + 999 - base}(second)" if name == "auth_second" else f"{name}={value}"

    def line(number, step):
        inner = [word(n, v) for n, v in step.items() if n not in {"kind", "policy"}]
        return f"  {number:>3} {step.get('kind', 'control'):<7} " + " ".join(inner)

    lines = [f"base {base}", f"policy {told['policy']}"]
    for number, step in enumerate(told["controls"]):
        lines.append(line(number, step) + (f"\n      {step['policy']}" if "policy" in step else ""))
    return "\n".join(lines + [line(number, step) for number, step in enumerate(told["log"])])
