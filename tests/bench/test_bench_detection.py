"""`bench detect`: a small history through the watches, judged by its labels."""

from monitor.bench import detection
from monitor.bench.labelled import Shape
from monitor.detect.settings import Detector


def test_abuse_is_found_and_what_is_watched_is_judged() -> None:
    kinds = (Detector.CONCURRENT_SESSIONS, Detector.SESSION_MOVED)
    found = detection.measure(Shape(seed=3, sessions=1000, days=4, each=2, kinds=kinds))
    scores = {one.detector: one for one in found.scores}
    assert set(scores) <= set(detection.WATCHED)
    assert [(scores[kind].labels, scores[kind].recall, scores[kind].false) for kind in kinds] == [(2, 1.0, 0), (2, 1.0, 0)]
    assert found.records > found.healthy_sessions > 500
    assert found.taking > 0
