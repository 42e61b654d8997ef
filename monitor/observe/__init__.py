"""What an operator sees of the monitor: metrics and health."""

from monitor.observe.health import Health, Verdict
from monitor.observe.metrics import WorkerMetrics

__all__ = ["Health", "Verdict", "WorkerMetrics"]
