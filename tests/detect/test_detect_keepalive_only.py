"""A session that only keep-alives hold open: as a look at it finds it, and as several looks do."""

import msgspec
import pytest

from monitor.core.events import Attributes
from monitor.core.instants import HOUR, MINUTE
from monitor.detect.finding import Cleared, Finding
from monitor.detect.keepalive_only import Held, hold, judge, next_look
from monitor.detect.living import Living
from monitor.detect.settings import KeepaliveOnly

T = 1_795_500_000_000
USUAL = KeepaliveOnly()


def nobody(attributes: Attributes) -> bool:
    return False


def living(keepalives: int, *, used: tuple[int, int, int] = (1, 0, 0), last: int = 0) -> Living:
    attributes = Attributes(subject="alice", tenant="acme", workload="console")
    return Living("s-1", 0, attributes, T, T, T + last, (*used, keepalives))


def test_at_the_hour_it_stands_out_and_not_before() -> None:
    one = living(60)
    before, at = judge(one, T + HOUR - 1, USUAL, nobody), judge(one, T + HOUR, USUAL, nobody)
    assert isinstance(before, Cleared)
    assert isinstance(at, Finding)
    assert at.about == before.about
    assert (at.about.session_id, at.about.subject, at.about.tenant, at.sessions) == ("s-1", "alice", "acme", ("s-1",))
    assert (at.seen["without_use_ms"], at.seen["keepalives"], at.seen["sessions"]) == (HOUR, 60, 1)
    assert at.summary == "held open for 1h by 60 keep-alives alone: use was expected within 1h"


@pytest.mark.parametrize(("keepalives", "wanted"), [(0, type(None)), (1, Cleared), (2, Cleared), (3, Finding)])
def test_so_many_keepalives_at_the_least(keepalives, wanted) -> None:
    assert type(judge(living(keepalives), T + 2 * HOUR, USUAL, nobody)) is wanted


@pytest.mark.parametrize("used", [(0, 0, 0), (1, 0, 0), (0, 1, 0), (0, 0, 1)])
def test_what_opened_it_is_no_use(used) -> None:
    assert isinstance(judge(living(3, used=used), T + HOUR, USUAL, nobody), Finding)


@pytest.mark.parametrize("used", [(2, 0, 0), (1, 1, 0), (1, 0, 1)])
def test_after_use_it_is_the_keepalives_that_come_since_which_count(used) -> None:
    one = living(50, used=used, last=10 * MINUTE)
    held = hold(one, T + HOUR)
    assert isinstance(judge(one, T + 3 * HOUR, USUAL, nobody, held), Cleared)
    for more, wanted in ((52, Cleared), (53, Finding)):
        found = judge(living(more, used=used, last=10 * MINUTE), T + 70 * MINUTE, USUAL, nobody, held)
        assert type(found) is wanted
    assert isinstance(judge(living(53, used=used, last=10 * MINUTE), T + 70 * MINUTE - 1, USUAL, nobody, held), Cleared)


def test_use_ends_it_at_once() -> None:
    held = hold(living(60), T + HOUR)
    after = living(60, used=(2, 0, 0), last=61 * MINUTE)
    held = hold(after, T + 61 * MINUTE, held)
    assert isinstance(judge(after, T + 61 * MINUTE, USUAL, nobody, held), Cleared)
    assert (held.since, held.before) == (T + 61 * MINUTE, 60)
    again = living(63, used=(2, 0, 0), last=61 * MINUTE)
    assert hold(again, T + 121 * MINUTE, held) is held
    assert isinstance(judge(again, T + 121 * MINUTE, USUAL, nobody, held), Finding)


def test_use_that_does_not_count_as_activity_ends_it_too() -> None:
    """An agent's work in a session whose idle clock only people reset."""
    held = hold(living(60), T + HOUR)
    working = living(63, used=(1, 400, 0))
    held = hold(working, T + 65 * MINUTE, held)
    assert isinstance(judge(working, T + 65 * MINUTE, USUAL, nobody, held), Cleared)
    assert held.since == T + 65 * MINUTE


def test_who_is_exempt_is_not_judged() -> None:
    assert judge(living(60), T + HOUR, USUAL, lambda attributes: attributes.workload == "console") is None
    assert isinstance(judge(living(60), T + HOUR, USUAL, lambda attributes: attributes.workload == "batch"), Finding)


def test_when_to_look() -> None:
    held = hold(living(0), T)
    assert next_look(held, T, USUAL) == T + HOUR
    assert next_look(held, T + HOUR - 1, USUAL) == T + HOUR
    assert next_look(held, T + HOUR, USUAL) == T + HOUR + 5 * MINUTE
    assert next_look(held, T + HOUR, KeepaliveOnly(after=1000)) == T + HOUR + 1000


def test_what_is_kept_of_a_look_can_be_written_and_read() -> None:
    held = hold(living(50, used=(7, 0, 0), last=5), T + HOUR)
    assert msgspec.msgpack.decode(msgspec.msgpack.encode(held), type=Held) == held
