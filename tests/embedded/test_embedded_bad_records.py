"""Bad records on the embedded broker: each is put aside as it came, and stops nothing."""

from pathlib import Path

import pytest

from tests.bad_input import play

pytestmark = [pytest.mark.embedded, pytest.mark.slow, pytest.mark.timeout(180)]


def test_bad_records_are_put_aside_and_stop_nothing(topics, tmp_path: Path) -> None:
    play(*topics, tmp_path)
