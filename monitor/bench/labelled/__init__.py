"""Traffic with labels: seeded histories of healthy sessions with abuse among them, and how well alerts tell them apart.

It knows nothing of the detectors' thresholds, and may not import them: what is abuse is for people to say.
"""

from monitor.bench.labelled.history import History, Shape
from monitor.bench.labelled.records import Commanded, Entry, Label, Mismatched
from monitor.bench.labelled.score import COLUMNS, Alert, Score, alert_of, score, table

__all__ = ["COLUMNS", "Alert", "Commanded", "Entry", "History", "Label", "Mismatched", "Score", "Shape", "alert_of", "score", "table"]
