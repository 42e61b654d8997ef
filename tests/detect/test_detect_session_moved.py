"""A session that is seen from several places at once, at the edges of the window, and whatever the order of the telling."""

import ipaddress
from typing import Any

import msgspec
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from monitor.core.events import Attributes
from monitor.core.instants import MINUTE
from monitor.core.lifecycle import Lifecycle, LifecycleType
from monitor.detect.finding import Cleared, Finding
from monitor.detect.session_moved import MOST_PLACES, Whereabouts, name_of, network_of
from monitor.detect.settings import SessionMoved

T = 1_795_500_000_000
USUAL = SessionMoved(user_agents=2)
WINDOW = USUAL.window
NOTHING = type(None)


def nobody(attributes: Attributes) -> bool:
    return False


def record(at: int, client_ip: str | None = None, user_agent: str | None = None, *, type_: LifecycleType = LifecycleType.ATTRIBUTES_CHANGED, **known: Any) -> Lifecycle:
    attributes = Attributes(subject="alice", tenant="acme", client_ip=client_ip, user_agent=user_agent, **known)
    return Lifecycle(type_, "s-1", 0, T + at, T + at + 2000, 3, at, attributes, T, T, T + at, (1, 0, 0, 0))


def told(*records: Lifecycle, settings: SessionMoved = USUAL) -> tuple[Whereabouts, list[Any]]:
    one = Whereabouts("s-1")
    return one, [one.take(told, settings, nobody) for told in records]


def held(one: Whereabouts, at: int) -> tuple[int, int]:
    found = one.judge(T + at, SessionMoved(networks=2, user_agents=2))
    return (0, 0) if isinstance(found, Cleared) else (found.seen["networks"], found.seen["user_agents"])


def kinds(found: list[Any]) -> list[type]:
    return [type(one) for one in found]


def test_the_third_network_within_the_window_stands_out_and_the_second_does_not() -> None:
    one, found = told(record(0, "10.0.0.1"), record(1, "10.1.0.1"), record(WINDOW - 1, "10.2.0.1"))
    assert kinds(found) == [NOTHING, NOTHING, Finding]
    finding = found[-1]
    assert (finding.at, finding.sessions, finding.about) == (T + WINDOW - 1, ("s-1",), one.judge(T + 2 * WINDOW, USUAL).about)
    assert (finding.about.session_id, finding.about.subject, finding.about.tenant) == ("s-1", "alice", "acme")
    assert finding.seen == {"networks": 3, "user_agents": 0, "sessions": 1, "addresses": ["10.0.0.0/16", "10.1.0.0/16", "10.2.0.0/16"]}
    assert finding.summary.startswith("one session from 3 networks with 0 user agents within 10m")
    edge = one.next_look(finding.at, USUAL)
    assert edge == T + WINDOW
    assert kinds([one.judge(edge - 1, USUAL), one.judge(edge, USUAL)]) == [Finding, Cleared]
    assert one.next_look(edge, USUAL) is None


def test_one_that_is_as_old_as_the_window_does_not_count() -> None:
    _, found = told(record(0, "10.0.0.1"), record(1, "10.1.0.1"), record(WINDOW, "10.2.0.1"))
    assert kinds(found) == [NOTHING, NOTHING, NOTHING]


def test_a_network_that_is_seen_again_is_no_other_and_stays() -> None:
    one, found = told(record(0, "10.0.0.1"), record(5, "10.1.0.1"), record(10, "10.0.255.9"), record(WINDOW + 4, "10.2.0.1"))
    assert kinds(found) == [NOTHING, NOTHING, NOTHING, Finding]
    assert one.next_look(T + WINDOW + 4, USUAL) == T + WINDOW + 5


def test_the_second_user_agent_within_the_window_stands_out() -> None:
    one, found = told(record(0, "10.0.0.1", "firefox"), record(9 * MINUTE, "10.0.0.1", "curl"))
    assert kinds(found) == [NOTHING, Finding]
    assert (found[1].seen["networks"], found[1].seen["user_agents"]) == (1, 2)
    assert one.next_look(T + 9 * MINUTE, USUAL) == T + WINDOW
    assert kinds(told(record(0, None, "firefox"), record(WINDOW, None, "curl"))[1]) == [NOTHING, NOTHING]


def test_it_stands_out_until_both_reasons_are_over() -> None:
    one, _ = told(record(0, "10.0.0.1", "a"), record(1, "10.1.0.1", "a"), record(2, "10.2.0.1", "b"), record(3, "10.3.0.1", "a"))
    assert one.next_look(T + 3, USUAL) == T + WINDOW + 2  # 10.1, 10.2, 10.3 until 1; both user agents until 2
    assert kinds([one.judge(T + WINDOW + 1, USUAL), one.judge(T + WINDOW + 2, USUAL)]) == [Finding, Cleared]


@pytest.mark.parametrize(
    ("address", "network"),
    [
        ("10.1.2.3", "10.1.0.0/16"), ("::ffff:10.1.2.3", "10.1.0.0/16"), ("2001:db8:7:1::9", "2001:db8:7::/48"), ("fe80::1%eth0", "fe80::/48"),
        ("", None), ("unknown", None), ("10.1.2.3:80", None), ("10.1.2.3, 10.9.0.1", None), ("10.1.2", None), (None, None), ("\x00", None), ("1" * 5000, None),
    ],
)  # fmt: skip
def test_the_network_of_an_address(address, network) -> None:
    found = network_of(address, USUAL)
    assert (found and name_of(found)) == network


@given(st.ip_addresses(), st.integers(1, 32), st.integers(1, 128))
def test_a_network_is_that_of_the_standard_library(address, four, six) -> None:
    prefix = four if address.version == 4 else six
    if address.version == 6 and address.ipv4_mapped is not None:
        address, prefix = address.ipv4_mapped, four
    found = network_of(str(address), SessionMoved(prefix_v4=four, prefix_v6=six))
    assert name_of(found) == str(ipaddress.ip_network((address, prefix), strict=False))


def test_what_is_no_sighting_says_nothing_and_neither_does_who_is_exempt() -> None:
    sightings = {LifecycleType.OPENED, LifecycleType.ATTRIBUTES_CHANGED, LifecycleType.REAUTHENTICATED}
    for type_ in LifecycleType:
        _, found = told(*(record(n, f"10.{n}.0.1", type_=type_) for n in range(3)))
        assert kinds(found) == [NOTHING, NOTHING, Finding if type_ in sightings else NOTHING]
    one = Whereabouts("s-1")
    for n in range(5):
        assert one.take(record(n, f"10.{n}.0.1"), USUAL, lambda attributes: attributes.tenant == "acme") is None
    assert one.forget(T + 5, USUAL)


def test_with_a_new_prefix_networks_begin_anew() -> None:
    one, _ = told(record(0, "10.0.0.1"), record(1, "10.0.1.1"), record(2, "10.0.2.1"))
    finer = SessionMoved(prefix_v4=24)
    for n in range(3):
        found = one.take(record(3 + n, f"10.0.{n}.1"), finer, nobody)
    assert isinstance(found, Finding)
    assert found.seen["networks"] == 3


def test_it_is_bounded_and_empties_with_time() -> None:
    one, found = told(*(record(n, f"{n // 250 + 1}.{n % 250}.0.1", f"agent {n}") for n in range(1000)))
    assert held(one, 999) == (MOST_PLACES, MOST_PLACES)
    assert found[-1].seen["networks"] == MOST_PLACES
    assert len(found[-1].seen["addresses"]) == 20
    assert len(one.to_bytes()) < 3000
    assert held(one, WINDOW + 997) == (2, 2)
    assert not one.forget(T + WINDOW + 998, USUAL)
    assert len(one.to_bytes()) < 70
    assert one.forget(T + WINDOW + 999, USUAL)


@settings(max_examples=25)
@given(st.permutations(range(MOST_PLACES + 3)))
def test_which_of_too_many_are_held_does_not_depend_on_the_order_of_the_telling(order) -> None:
    one, _ = told(*(record(0, f"10.{n}.0.1") for n in order))
    other, _ = told(*(record(0, f"10.{n}.0.1") for n in sorted(order)))
    assert one.judge(T, SessionMoved(networks=2)) == other.judge(T, SessionMoved(networks=2))
    assert held(one, 0)[0] == MOST_PLACES


def test_the_policy_allows_no_more_places_than_are_held() -> None:
    from monitor.policy import PolicyError, compile_policy

    text = "version: 1\ndetect: {{session_moved: {{networks: {0}, user_agents: {0}}}}}"
    assert compile_policy(text.format(MOST_PLACES)).detection.session_moved.networks == MOST_PLACES
    with pytest.raises(PolicyError, match="user_agents must be from 2 to 64"):
        compile_policy(text.format(MOST_PLACES + 1))


SIGHTINGS = st.lists(
    st.tuples(st.integers(0, 3 * WINDOW), st.sampled_from([None, "10.0.0.1", "10.1.0.1", "10.1.9.9", "10.2.0.1", "::1"]), st.sampled_from([None, "a", "b"])),
    max_size=12,
)


@given(SIGHTINGS, st.integers(0, 4 * WINDOW), st.randoms(use_true_random=False))
def test_it_is_what_a_look_at_all_sightings_says_whatever_their_order(sightings, now, rng) -> None:
    one, _ = told(*(record(*sighting) for sighting in sightings))
    shuffled = sightings * 2
    rng.shuffle(shuffled)
    other, _ = told(*(record(*sighting) for sighting in shuffled))
    now = max([now, *(at for at, _, _ in sightings)])
    lately = [sighting for sighting in sightings if now - sighting[0] < WINDOW]
    networks = {"10.1" if ip.startswith("10.1") else ip for _, ip, _ in lately if ip}
    agents = {agent for _, _, agent in lately if agent}
    wanted = Finding if len(networks) >= 3 or len(agents) >= 2 else Cleared
    found = one.judge(T + now, USUAL)
    assert type(found) is wanted
    assert other.judge(T + now, USUAL) == found
    if wanted is Finding:
        edge = one.next_look(T + now, USUAL)
        assert kinds([one.judge(edge - 1, USUAL), one.judge(edge, USUAL)]) == [Finding, Cleared]


@given(SIGHTINGS, st.data())
def test_what_is_written_and_read_goes_on_as_before_and_a_replay_changes_nothing(sightings, data) -> None:
    sightings = sorted(sightings, key=lambda sighting: sighting[0])
    records = [record(*sighting) for sighting in sightings]
    cut = data.draw(st.integers(0, len(records)))
    again = data.draw(st.integers(0, cut))
    whole, _ = told(*records)
    half, _ = told(*records[:cut])
    restored = Whereabouts.from_bytes(half.to_bytes())
    for told_again in records[again:cut]:
        restored.take(told_again, USUAL, nobody)
    assert restored.to_bytes() == half.to_bytes()
    for more in records[cut:]:
        restored.take(more, USUAL, nobody)
    assert restored.to_bytes() == whole.to_bytes()


def test_bytes_that_are_none_of_ours_are_refused() -> None:
    with pytest.raises(msgspec.DecodeError):
        Whereabouts.from_bytes(b"\x81\xa1x\x01")
