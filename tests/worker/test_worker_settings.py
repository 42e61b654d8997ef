"""What follows from a session timeout."""

import pytest

from monitor.worker.settings import SHIPPED, EngineSettings, timeouts


def settings(**times):
    return EngineSettings(app_id="monitor", topic="access-events", connection=None, **times)


def test_the_shipped_session_timeout_changes_nothing():
    assert settings(**timeouts(SHIPPED)) == settings()


@pytest.mark.parametrize("session_timeout", [6_000, 9_999, SHIPPED, 60_000, 300_000])
def test_a_join_may_take_as_long_as_the_group_waits(session_timeout):
    chosen = settings(**timeouts(session_timeout))
    assert chosen.heartbeat_ms * 3 <= chosen.session_timeout_ms
    assert chosen.rebalance_timeout_ms < chosen.request_timeout_ms


def test_where_the_session_timeout_is_short_nobody_is_waited_for_much_longer():
    chosen = settings(**timeouts(6_000))
    assert (chosen.rebalance_timeout_ms, chosen.request_timeout_ms) == (5_000, 6_000)
