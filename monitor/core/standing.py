"""Controls as they stand: the record of all of them, and what rules one partition at its position."""

from bisect import bisect_right
from collections.abc import Callable, Iterator

from monitor.core.controls import Control, ControlType
from monitor.core.errors import InvariantError
from monitor.core.events import Attributes
from monitor.core.instants import LogMillis, Millis
from monitor.core.plan import Policy


class ControlLog:
    """What has been read of `session-control`, in offset order; shared by all partitions of a worker."""

    def __init__(self, compile_policy: Callable[[Control], Policy]) -> None:
        """`compile_policy` turns a `control.policy` into a policy; what it raises stops the worker."""
        self._compile = compile_policy
        self._controls: list[Control] = []
        self._policies: list[tuple[int, Policy]] = []
        self.read_to = -1
        """The last offset read (inclusive), whether or not a control stands there."""

    def add(self, control: Control) -> None:
        """Take the next control. Offsets only grow."""
        if control.offset <= self.read_to and self._controls and control.offset <= self._controls[-1].offset:
            raise InvariantError(f"control at offset {control.offset} was read after {self.read_to}")
        if control.type is ControlType.POLICY:
            self._policies.append((control.offset, self._compile(control)))
        self._controls.append(control)
        self.read_to = max(self.read_to, control.offset)

    def between(self, after: int, to: int) -> Iterator[Control]:
        """The controls with after < offset <= to, in order."""
        start = bisect_right(self._controls, after, key=lambda control: control.offset)
        for control in self._controls[start:]:
            if control.offset > to:
                return
            yield control

    def policy_at(self, controls_to: int) -> Policy | None:
        """The policy that rules at this position, or None before the first."""
        place = bisect_right(self._policies, controls_to, key=lambda entry: entry[0])
        return self._policies[place - 1][1] if place else None

    def ruling_at(self, controls_to: int) -> Policy:
        """The policy that rules at this position. Raises InvariantError before the first."""
        policy = self.policy_at(controls_to)
        if policy is None:
            raise InvariantError(f"no policy at control position {controls_to}: session-control has lost records")
        return policy

    def newest_policy(self) -> Policy | None:
        """The last policy read."""
        return self._policies[-1][1] if self._policies else None


class Standing:
    """The policy, locks and revocations that rule one partition."""

    def __init__(self, policy: Policy) -> None:
        """A policy from the start: no session is ever without limits."""
        self.policy = policy
        self._locks: dict[str, Control] = {}
        self._revocations: list[Control] = []

    def take(self, control: Control, policy: Policy | None) -> None:
        """Let one control stand. `policy` is the compiled one where it is a `control.policy`."""
        if control.type is ControlType.LOCK:
            self._locks[control.id] = control
        elif control.type is ControlType.UNLOCK:
            self._locks.pop(control.id, None)
        elif control.type is ControlType.REVOKE:
            self._revocations.append(control)
        elif policy is not None:
            self.policy = policy

    def lock(self, session_id: str, attributes: Attributes, now: LogMillis) -> Control | None:
        """The first lock in force that meets this session."""
        for control in self._locks.values():
            if now <= control.expires and control.target.matches(session_id, attributes):
                return control
        return None

    def revocation(
        self, session_id: str, attributes: Attributes, start: Millis, now: LogMillis
    ) -> Control | None:
        """The first standing revocation that meets a session whose epoch began at `start`."""
        if not self._revocations:
            return None
        lifetime = self.policy.timing.credential_lifetime
        for control in self._revocations:
            if start < control.cutoff and now <= control.appended + lifetime and control.target.matches(session_id, attributes):
                return control
        return None

    @property
    def quiet(self) -> bool:
        """Nothing stands: no session need be looked at."""
        return not self._locks and not self._revocations
