"""Controls: what people order, and whom it meets."""

from enum import StrEnum

import msgspec

from monitor.core.events import Attributes
from monitor.core.instants import NEVER, LogMillis, Millis


class ControlType(StrEnum):
    """The controls of DESIGN section 4.3."""

    REVOKE = "control.revoke"
    LOCK = "control.lock"
    UNLOCK = "control.unlock"
    POLICY = "control.policy"


class Target(msgspec.Struct, frozen=True, omit_defaults=True, forbid_unknown_fields=True):
    """Whom a control meets: every member that is given must match."""

    session_id: str | None = None
    subject: str | None = None
    role: str | None = None
    tenant: str | None = None
    classification: str | None = None
    workload: str | None = None
    client_ip: str | None = None
    all: bool = False

    def names_anyone(self) -> bool:
        """Whether there is at least one member: an empty target meets nobody and is refused on the wire."""
        return self.all or any(getattr(self, name) is not None for name in self.__struct_fields__ if name != "all")

    def matches(self, session_id: str, attributes: Attributes) -> bool:
        """Whether a session with these attributes is met. What is not known does not match."""
        return (
            (self.session_id is None or self.session_id == session_id)
            and (self.subject is None or self.subject == attributes.subject)
            and (self.role is None or self.role in attributes.roles)
            and (self.tenant is None or self.tenant == attributes.tenant)
            and (self.classification is None or self.classification == attributes.classification)
            and (self.workload is None or self.workload == attributes.workload)
            and (self.client_ip is None or self.client_ip == attributes.client_ip)
        )


class Control(msgspec.Struct, frozen=True):
    """One record of `session-control`, with its place and append time there."""

    offset: int
    appended: LogMillis
    type: ControlType
    id: str
    target: Target = Target()
    reason: str = ""
    by: str = ""
    before: Millis | None = None
    expires: Millis = NEVER
    policy_text: str = ""
    """Of `control.policy` only."""
    policy_version: str = ""

    @property
    def cutoff(self) -> Millis:
        """The instant that a revocation speaks of: its append time, or its explicit earlier `before`."""
        return self.appended if self.before is None else min(self.before, self.appended)
