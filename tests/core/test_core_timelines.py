"""Every requirement of `tests/timelines.py` in virtual time."""

import pytest

from tests.timelines import TIMELINES


@pytest.mark.parametrize("name", TIMELINES)
def test_requirement_holds_in_virtual_time(name: str) -> None:
    TIMELINES[name]().run()
