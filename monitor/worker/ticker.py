"""Ticks: when a partition's log must move although nobody writes to it.

A tick is due every second, and at once when a deadline or a control waits for one: not before the deadline
is due by the broker's clock, and at most every `tick` of the policy. A tick on its way, or one appended but
not read back, that is late enough already serves.
"""

import msgspec

from monitor.core.instants import NEVER, SECOND, LogMillis, Millis

CADENCE: Millis = SECOND


class Ticks(msgspec.Struct):
    """What one partition's owner knows of its ticks. Local instants are monotonic milliseconds."""

    last_sent: Millis = -NEVER
    in_flight: bool = False
    appended_at: LogMillis = 0
    """The append time of the last acknowledged tick."""
    controls_to: int = -1
    """What the last tick said."""

    def wanted_at(
        self, now: Millis, broker_now: LogMillis, log_time: LogMillis, due: LogMillis, controls: int, interval: Millis
    ) -> Millis:
        """The local instant at which the next tick should leave (at or before `now`: at once).

        `due` is the partition's next due instant in log time, `controls` the last control offset read.
        """
        cadence = self.last_sent + CADENCE
        if self.in_flight and now - self.last_sent < CADENCE:
            return self.last_sent + CADENCE
        wanted = cadence
        if controls > self.controls_to:
            wanted = now
        elif due < NEVER and (self.appended_at < due or self.appended_at <= log_time):
            wanted = min(cadence, now + max(0, due - broker_now))
        return max(wanted, self.last_sent + interval)

    def sent(self, now: Millis, controls_to: int) -> None:
        """A tick has left."""
        self.last_sent = now
        self.in_flight = True
        self.controls_to = controls_to

    def acknowledged(self, appended_at: LogMillis) -> None:
        """It stands on the log."""
        self.in_flight = False
        self.appended_at = max(self.appended_at, appended_at)
