"""The public test kit: try policies, producers and histories without a broker, in virtual time."""

from monitor.testing.clock import ManualClock
from monitor.testing.driver import DeadLetter, Driver
from monitor.testing.timeline import Timeline

__all__ = ["DeadLetter", "Driver", "ManualClock", "Timeline"]
