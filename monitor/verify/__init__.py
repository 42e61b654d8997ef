"""Whether what stands on the topics is what had to stand there: the invariants, judged afterwards."""

from monitor.verify.judge import verify
from monitor.verify.report import Held, Report, Unjudged, Violation, Wrong

__all__ = ["Held", "Report", "Unjudged", "Violation", "Wrong", "verify"]
