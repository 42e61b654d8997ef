"""Which silences keep an alert from people, at which instant."""

import msgspec

from monitor.core.instants import MINUTE, NEVER
from monitor.detect.silences import MOST_NAMED, next_change, silenced
from monitor.wire.alerts import AlertRecord, AlertState
from monitor.wire.silences import Silence, SilenceRecord, checked
from monitor.wire.times import Instant

T = 1_795_500_000_000
ALERT = AlertRecord("c1f0", "timeout_churn", AlertState.FIRING, "warning", Instant(T), Instant(T), "x", "alice@example.com", tenant="acme")


def silence(id_: str, *matchers: str, since: int = 0, until: int = MINUTE) -> Silence:
    return checked(SilenceRecord(id_, matchers, "bob", "known", Instant(T + since), Instant(T + until)))


def test_an_alert_is_silenced_from_the_beginning_on_and_before_the_end() -> None:
    one = [silence("a", "alert=timeout_churn", since=10, until=20)]
    assert [silenced(ALERT, one, T + at) for at in (9, 10, 19, 20)] == [(), ("a",), ("a",), ()]


def test_all_that_meet_it_are_named_in_order() -> None:
    given = [silence("z", "tenant=acme"), silence("m", "subject=~.*@other.com"), silence("a", "subject=~alice@.*", "severity!=critical")]
    assert silenced(ALERT, given, T) == ("a", "z")
    assert silenced(msgspec.structs.replace(ALERT, severity="critical"), given, T) == ("z",)
    assert silenced(ALERT, [], T) == ()


def test_so_many_are_named_and_no_more() -> None:
    given = [silence(f"s-{n:03}", "tenant=acme") for n in range(50)]
    assert silenced(ALERT, reversed(given), T) == tuple(f"s-{n:03}" for n in range(MOST_NAMED))


def test_the_next_change_is_the_first_beginning_or_end_after_an_instant() -> None:
    given = [silence("a", "tenant=x", since=10, until=30), silence("b", "tenant=x", since=20, until=40)]
    expected = [(0, 10), (9, 10), (10, 20), (20, 30), (30, 40), (39, 40)]
    assert [next_change(given, T + at) - T for at, _ in expected] == [change for _, change in expected]
    assert next_change(given, T + 40) == next_change([], T) == NEVER
