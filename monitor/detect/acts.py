"""What an alert does by itself when it fires: which controls are due. Nothing is written here."""

from hashlib import blake2b

import msgspec
import orjson

from monitor.core.controls import Control, ControlType, Target
from monitor.core.instants import NEVER, Millis
from monitor.core.reasons import Reason
from monitor.detect.finding import Finding, Subject
from monitor.detect.settings import Act, Common
from monitor.wire.alerts import AlertRecord


class ActDue(msgspec.Struct, frozen=True):
    """A control that an alert asks for: once in its life, when it fires; never of a storm, never of a silenced one."""

    alert: AlertRecord
    about: Subject
    kind: Act
    target: Target
    """One session of those that it names, or its subject."""
    reason: str
    """Of a revocation `risk`, as the command is to say; of a lock the words of the alert."""
    until: Millis
    """When a lock ends by itself. A session that was revoked stays so."""

    @property
    def id(self) -> str:
        """32 hex digits: the same when a replay asks for it again."""
        made = [self.alert.fingerprint, int(self.alert.since), self.kind.value, self.target.session_id, self.target.subject]
        return blake2b(orjson.dumps(made), digest_size=16).hexdigest()

    def control(self) -> Control:
        """What is to be written on session-control; written again it takes its own place there."""
        lock = self.kind is Act.LOCK
        type_, expires = (ControlType.LOCK, self.until) if lock else (ControlType.REVOKE, NEVER)
        return Control(-1, 0, type_, f"act-{self.id}", self.target, self.reason, f"detection/{self.about.detector.value}", expires=expires)


def acts(record: AlertRecord, finding: Finding, told: Common, at: Millis) -> list[ActDue]:
    """What this alert does now that it fires. Where it names nobody whom the act could meet, it does nothing."""
    about, until = finding.about, at + told.act_for
    if told.act is Act.RISK:
        sessions = dict.fromkeys((about.session_id, *finding.sessions) if about.session_id else finding.sessions)
        return [ActDue(record, about, told.act, Target(session_id=one), Reason.RISK.value, until) for one in sessions]
    if told.act is Act.LOCK and about.subject:
        target = Target(subject=about.subject, tenant=about.tenant or None)
        return [ActDue(record, about, told.act, target, f"{about.detector.value}: {record.summary}"[:1000], until)]
    return []
