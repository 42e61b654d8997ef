"""Numbers as summaries say them."""

import pytest

from monitor.detect.words import many, rounded


@pytest.mark.parametrize(("count", "said"), [(0, "0 activities"), (1, "1 activity"), (2, "2 activities")])
def test_many(count, said) -> None:
    assert many(count, "activity", "activities") == said
    assert many(count, "network") == f"{count} network{'' if count == 1 else 's'}"


@pytest.mark.parametrize(("millis", "said"), [(-5, "0s"), (0, "0s"), (151, "151ms"), (9_999, "9s999ms"), (10_001, "10s"), (3_600_999, "1h")])
def test_rounded(millis, said) -> None:
    assert rounded(millis) == said
