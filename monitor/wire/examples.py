"""An example or more of every record: they stand in the schemas, and are tests."""

from typing import Any, Final

import orjson

from monitor.core.commands import Command, CommandType, Reauth
from monitor.core.controls import Control, ControlType, Target
from monitor.core.events import Attributes, Principal, SourceAlive, Tick
from monitor.core.instants import HOUR, MINUTE, SECOND
from monitor.core.lifecycle import Lifecycle, LifecycleType
from monitor.core.plan import Because, LimitKind
from monitor.core.reasons import MESSAGE, Reason
from monitor.wire.alerts import AlertRecord, AlertState, encode_alert
from monitor.wire.codec import encode
from monitor.wire.commands import encode_command, encode_watermark
from monitor.wire.controls import encode_control
from monitor.wire.dead_letters import Digest
from monitor.wire.events import encode_source_alive, encode_tick
from monitor.wire.lifecycle import encode_lifecycle
from monitor.wire.problem import refusal
from monitor.wire.receipts import Applied, Refused, Stopped, encode_receipt
from monitor.wire.silences import SilenceRecord, encode_silence
from monitor.wire.times import Instant, parse_time

NOON: Final = parse_time("2026-11-23T07:09:00.123Z")
DEADLINE: Final = NOON + 15 * MINUTE

ACCESS_EVENTS: Final = (
    {"type": "session.activity", "session_id": "s-81f2"},
    {
        "type": "session.activity", "session_id": "s-81f2", "time": "2026-11-23T07:09:00.123Z",
        "id": "01JD7Z6C9R4T5V6W7X8Y9Z0A1B", "source": "gateway/eu-1", "subject": "alice@example.com",
        "principal": "user", "roles": ["analyst"], "classification": "restricted", "workload": "inference",
        "route": "/v1/models/fraud", "activity": "human", "tenant": "acme", "client_ip": "10.0.0.1",
        "user_agent": "curl/8.11", "auth_time": "2026-11-23T07:00:00Z", "acr": "aal2", "expires": 1795500000,
    },
    {
        "type": "session.opened", "session_id": "run-7", "time": "2026-11-23T08:09:00+01:00", "subject": "svc-train",
        "principal": "service", "workload": "agent-run", "activity": "inflight", "auth_time": 1795417740,
    },
    {"type": "session.reauthenticated", "session_id": "s-81f2", "auth_time": 1795418700.25, "acr": "aal2"},
    {"type": "session.closed", "session_id": "s-81f2", "time": "2026-11-23T07:30:00Z"},
)  # fmt: skip

EXPIRE: Final = Command(
    type=CommandType.EXPIRE, session_id="s-81f2", epoch=0, reason=Reason.IDLE_TIMEOUT, effective_at=DEADLINE,
    cutoff=DEADLINE, limit_ms=15 * MINUTE, rule="restricted-data", policy="9b1f04c2", subject="alice@example.com",
    classification="restricted", reauth=Reauth(allowed=True, max_age=900, acr_values=("aal2",)),
    forget_after=DEADLINE + 24 * HOUR, partition=3, offset=1841, log_time=DEADLINE + 2 * SECOND,
    due=DEADLINE + 2 * SECOND, message=MESSAGE,
)  # fmt: skip
REVOKE: Final = Command(
    type=CommandType.REVOKE, session_id="s-81f2", epoch=1, reason=Reason.ADMIN_REVOKED, effective_at=NOON + HOUR,
    cutoff=NOON + HOUR, limit_ms=None, rule=None, policy="9b1f04c2", subject="alice@example.com",
    classification="restricted", reauth=Reauth(allowed=False), forget_after=NOON + 25 * HOUR, partition=3, offset=2207,
    log_time=NOON + HOUR, due=NOON + HOUR, control_id="ctl-19", message=MESSAGE,
)  # fmt: skip
REINSTATE: Final = Command(
    type=CommandType.REINSTATE, session_id="s-81f2", epoch=1, reason=Reason.IDLE_TIMEOUT, effective_at=NOON + 20 * MINUTE,
    cutoff=DEADLINE, limit_ms=None, rule=None, policy="9b1f04c2", subject="alice@example.com",
    classification="restricted", reauth=Reauth(allowed=True), forget_after=NOON + 25 * HOUR, partition=3, offset=1902,
    log_time=NOON + 20 * MINUTE, due=NOON + 20 * MINUTE,
)  # fmt: skip
WARN: Final = Command(
    type=CommandType.WARN, session_id="s-81f2", epoch=0, reason=Reason.IDLE_TIMEOUT, effective_at=DEADLINE,
    cutoff=DEADLINE, limit_ms=15 * MINUTE, rule="restricted-data", policy="9b1f04c2", subject=None, classification=None,
    reauth=Reauth(allowed=True), forget_after=DEADLINE, partition=3, offset=1799, log_time=DEADLINE - MINUTE,
    due=DEADLINE - MINUTE, message="Session expires in 60 s", lead_ms=MINUTE,
)  # fmt: skip
COMMANDS: Final = (EXPIRE, REVOKE, REINSTATE, WARN)

CONTROLS: Final = (
    Control(77, NOON, ControlType.REVOKE, "ctl-19", Target(subject="alice@example.com"), "left the company", "bob@example.com", NOON - HOUR),
    Control(78, NOON, ControlType.LOCK, "ctl-20", Target(tenant="acme", role="admin"), "incident 42", "bob@example.com", expires=NOON + HOUR),
    Control(79, NOON, ControlType.UNLOCK, "ctl-20", Target(), "incident closed", "bob@example.com"),
    Control(
        80, NOON, ControlType.POLICY, "policy", Target(), "tighter idle limit", "bob@example.com",
        policy_text="version: 1\ndefaults: {idle: 15m, absolute: 8h}\n", policy_version="9b1f04c2",
    ),
)  # fmt: skip

APPLIED: Final = Applied("gateway/eu-1", {0: 1841, 3: 77}, 79, Instant(NOON), 812)
REFUSED: Final = Refused("gateway/eu-1", "s-81f2", Instant(DEADLINE), 401, EXPIRE.id, 1)
STOPPED: Final = Stopped("gateway/eu-1", Instant(NOON))

LIFECYCLES: Final = (
    Lifecycle(
        LifecycleType.EXPIRED, "s-81f2", 0, DEADLINE, DEADLINE + 2 * SECOND, 3, 1841,
        Attributes("alice@example.com", Principal.USER, ("analyst",), "restricted", "inference", "/v1/models/fraud", "acme"),
        NOON - 9 * MINUTE, NOON - 9 * MINUTE, NOON, (41, 0, 2, 7), Reason.IDLE_TIMEOUT.value, "restricted-data",
        15 * MINUTE, "9b1f04c2", EXPIRE.id, deadline=DEADLINE,
        chain=(
            Because("defaults", LimitKind.IDLE, 30 * MINUTE, origin="defaults"),
            Because("restricted-data", LimitKind.IDLE, 15 * MINUTE, won=True),
            Because("defaults", LimitKind.ABSOLUTE, None, won=True, origin="defaults"),
        ),
    ),
    Lifecycle(
        LifecycleType.OPENED, "s-1", 0, NOON, NOON, 0, 12, Attributes(), NOON, NOON, NOON, (1, 0, 0, 0), implicit=True,
        source="gateway/eu-1", event_id="01JD7Z6C9R4T5V6W7X8Y9Z0A1B",
    ),
)  # fmt: skip

ALERT: Final = AlertRecord(
    "c1f0a7", "timeout_churn", AlertState.FIRING, "warning", Instant(NOON), Instant(DEADLINE),
    "alice@example.com timed out 6 times within an hour", "alice@example.com", evidence={"timeouts": 6, "window": "1h"},
)  # fmt: skip
RESOLVED: Final = AlertRecord(
    "7be204", "unenforced", AlertState.RESOLVED, "critical", Instant(NOON), Instant(DEADLINE),
    "gateway/eu-1 let 2 requests of an ended session pass after its receipt", None, "s-81f2",
    {"expected": {"late": 0}, "seen": {"late": 2}, "sessions": ["s-81f2"], "cohort": {}},
    "gateway/eu-1", "inference", "acme", ("s-20261123",), None, Instant(DEADLINE),
)  # fmt: skip
STORM: Final = AlertRecord(
    "0d41aa", "timeout_churn", AlertState.FIRING, "warning", Instant(NOON), Instant(DEADLINE),
    "timeout_churn: 9950 more since 50 alerts began within 10m; they are counted here and not raised one by one",
    evidence={"expected": {"alerts": 50, "window": "10m"}, "seen": {"alerts": 9950}, "sessions": ["s-1", "s-2"], "cohort": {}}, count=9950,
)  # fmt: skip
SILENCE: Final = SilenceRecord(
    "s-20261123", ("alert=unenforced", "gateway=~gateway/eu-[12]"), "bob@example.com", "eu is being upgraded, change 4711",
    Instant(NOON), Instant(NOON + 2 * HOUR),
)  # fmt: skip


def examples() -> dict[str, list[Any]]:
    """The examples of each record, by the record's name, as JSON values."""
    written: dict[str, list[bytes | None]] = {
        "source-alive": [encode_source_alive(SourceAlive("gateway/eu-1", NOON)), encode_source_alive(SourceAlive("gateway/eu-1", NOON, final=True))],
        "tick": [encode_tick(Tick("worker-1", 77))],
        "command": [encode_command(command, command.log_time + 187).value for command in COMMANDS],
        "watermark": [encode_watermark(3, NOON, NOON + 2 * SECOND, 77, NOON + 2 * SECOND, owner="worker-1").value],
        "control": [encode_control(control, NOON).value for control in CONTROLS],
        "receipt-applied": [encode_receipt(APPLIED).value],
        "receipt-refused": [encode_receipt(REFUSED).value],
        "receipt-stopped": [encode_receipt(STOPPED).value],
        "lifecycle": [encode_lifecycle(lifecycle).value for lifecycle in LIFECYCLES],
        "alert": [encode_alert(alert).value for alert in (ALERT, RESOLVED, STORM)],
        "silence": [encode_silence(SILENCE, NOON).value],
        "dead-letter-digest": [encode(Digest("e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855", 0))],
        "problem": [refusal("idle_timeout", EXPIRE.reauth, session_id="s-81f2", effective_at=DEADLINE).body],
    }  # fmt: skip
    read = {name: [orjson.loads(value or b"null") for value in values] for name, values in written.items()}
    return {"access-event": [dict(event) for event in ACCESS_EVENTS], **read}
