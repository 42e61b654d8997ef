"""Lists of sessions from live tables: whole, bounded, and harmless to what goes on meanwhile."""

import asyncio

import pytest

from monitor.core.errors import InputError
from monitor.core.events import EventType
from monitor.core.instants import MINUTE
from monitor.core.session import STATE_COLUMN, State
from monitor.observe import listing
from monitor.observe.listing import KEPT, LISTINGS, ListingGoneError, Listings, Query, read_query
from tests.observe.owned_partitions import START, open_session, owned, worker


class Turn:
    """Monotonic time by hand."""

    now = 0

    def __call__(self):
        return self.now


@pytest.fixture
def host():
    host = worker(0, 1)
    for number in range(30):
        open_session(
            host.owned[number % 2], f"s-{number:02}", at=number, subject=f"u{number % 3}", roles=("analyst",)
        )
    return host


async def every(listings, **parameters):
    pages, cursor = [], None
    while True:
        page = await listings.page(read_query({**parameters, **({"cursor": cursor} if cursor else {})}))
        pages.append(page.sessions)
        cursor = page.cursor
        if cursor is None:
            return pages


def ids(pages):
    return sorted(row.session_id for page in pages for row in page)


async def test_pages_hold_every_session_once(host):
    pages = await every(Listings(host.owned, Turn()), limit="7")
    assert all(len(page) <= 7 for page in pages)
    assert ids(pages) == [f"s-{n:02}" for n in range(30)]


async def test_sessions_that_come_and_go_meanwhile_do_no_harm(host):
    listings = Listings(host.owned, Turn())
    first = await listings.page(read_query({"limit": "5"}))
    for number in range(500):
        open_session(host.owned[0], f"new-{number}", at=1000)
    gone = [row.session_id for row in first.sessions] + ["s-20"]
    for session_id in gone:
        session = host.owned[0].partition.sessions.pop(session_id)
        session.columns[STATE_COLUMN][session.row] = State.FORGOTTEN
    cursor, seen = first.cursor, [row.session_id for row in first.sessions]
    while cursor:
        page = await listings.page(read_query({"limit": "5", "cursor": cursor}))
        seen += [row.session_id for row in page.sessions]
        cursor = page.cursor
    old = [s for s in seen if s.startswith("s-")]
    assert sorted(old) == [f"s-{n:02}" for n in range(30) if n != 20]
    assert len(seen) == len(set(seen))


async def test_filters_must_all_match(host):
    open_session(
        host.owned[0], "odd", subject="u1", tenant="acme", client_ip="10.0.0.1", roles=("admin", "dba")
    )
    listings = Listings(host.owned, Turn())
    assert ids(await every(listings, subject="u1", tenant="acme")) == ["odd"]
    assert ids(await every(listings, role="dba", client_ip="10.0.0.1")) == ["odd"]
    assert ids(await every(listings, role="dba", client_ip="10.0.0.2")) == []
    assert ids(await every(listings, session_id="s-03")) == ["s-03"]
    assert ids(await every(listings, session_id="s-03", subject="nobody")) == []
    assert len(ids(await every(listings, subject="u2"))) == 10


async def test_states_and_starts(host):
    open_session(host.owned[1], "s-01", at=40, type_=EventType.CLOSED)
    listings = Listings(host.owned, Turn())
    assert ids(await every(listings, state="expired")) == ["s-01"]
    assert ids(await every(listings, state="ended")) == ["s-01"]
    assert "s-01" not in ids(await every(listings, state="live"))
    assert len(ids(await every(listings, started_before="2026-11-24T06:00:00.003Z"))) == 3


async def test_counting_counts_what_a_revocation_would_meet(host):
    open_session(host.owned[1], "s-01", at=40, type_=EventType.CLOSED)
    counted = await Listings(host.owned, Turn()).count(read_query({"subject": "u1"}))
    assert (counted.live, counted.ended) == (9, 1)


async def test_a_page_asked_for_twice_is_given_twice(host):
    listings = Listings(host.owned, Turn())
    first = await listings.page(read_query({"limit": "3"}))
    query = read_query({"limit": "3", "cursor": first.cursor})
    again = [(await listings.page(query)).sessions for _ in range(2)]
    assert again[0] == again[1]


@pytest.mark.parametrize("cursor", ["x", "x.1.2", "..", "a.b.c"])
async def test_a_cursor_that_is_unknown_says_so(host, cursor):
    with pytest.raises(ListingGoneError, match="without a cursor"):
        await Listings(host.owned, Turn()).page(Query(cursor=cursor))


async def test_a_tampered_place_is_refused(host):
    listings = Listings(host.owned, Turn())
    page = await listings.page(read_query({"limit": "3"}))
    for place in ("999", "-1", "²", "x"):
        with pytest.raises(ListingGoneError):
            await listings.page(Query(cursor=page.cursor.rsplit(".", 1)[0] + "." + place))


async def test_what_nobody_continues_is_dropped(host):
    turn = Turn()
    listings = Listings(host.owned, turn)
    first = await listings.page(read_query({"limit": "3"}))
    turn.now += KEPT + 1
    await listings.page(read_query({"limit": "3"}))
    with pytest.raises(ListingGoneError):
        await listings.page(Query(cursor=first.cursor))


async def test_listings_are_few_and_the_one_in_use_stays(host):
    listings = Listings(host.owned, Turn())
    used = await listings.page(read_query({"limit": "1"}))
    cursor = used.cursor
    for _ in range(3 * LISTINGS):
        await listings.page(read_query({"limit": "1"}))
        cursor = (await listings.page(Query(cursor=cursor, limit=1))).cursor or cursor
    for _ in range(LISTINGS + 1):
        await listings.page(read_query({"limit": "1"}))
    with pytest.raises(ListingGoneError):
        await listings.page(Query(cursor=cursor))


async def test_a_partition_that_is_lost_meanwhile_is_left_out(host):
    listings = Listings(host.owned, Turn())
    first = await listings.page(read_query({"limit": "3"}))
    host.owned[0] = owned(0)
    del host.owned[1]
    page = await listings.page(Query(cursor=first.cursor))
    assert page.sessions == []
    assert page.cursor is None


async def test_a_rare_match_does_not_make_one_page_look_at_everything(host, monkeypatch):
    monkeypatch.setattr(listing, "SCAN", 10)
    monkeypatch.setattr(listing, "SLICE", 5)
    page = await Listings(host.owned, Turn()).page(read_query({"subject": "nobody"}))
    assert page.sessions == []
    assert page.cursor is not None


async def test_the_event_loop_turns_meanwhile():
    host = worker(0)
    for number in range(20_000):
        open_session(host.owned[0], f"s-{number}")
    turns, done = 0, False

    async def feel():
        nonlocal turns
        while not done:
            turns += 1
            await asyncio.sleep(0)

    feeling = asyncio.create_task(feel())
    listings = Listings(host.owned, Turn())
    counted = await listings.count(Query())
    rows = ids(await every(listings, limit="500"))
    done = True
    await feeling
    assert counted.live == len(rows) == 20_000
    assert turns >= 2 * 20_000 / listing.SLICE


@pytest.mark.parametrize(
    ("parameters", "names"),
    [
        ({"colour": "red"}, "colour"),
        ({"state": "asleep"}, "state"),
        ({"limit": "0"}, "limit"),
        ({"limit": "501"}, "limit"),
        ({"limit": "10000000000000000000"}, "limit"),
        ({"limit": "²"}, "limit"),
        ({"subject": ""}, "subject"),
        ({"subject": "x" * 2000}, "subject"),
        ({"started_before": "yesterday"}, "RFC 3339"),
    ],
)
def test_a_bad_query_is_refused_and_named(parameters, names):
    with pytest.raises(InputError, match=names):
        read_query(parameters)


async def test_a_row_says_what_is_left_by_log_time(host):
    open_session(host.owned[0], "tick", at=10 * MINUTE)
    row = (
        await Listings(host.owned, Turn()).page(Query(read_query({"session_id": "s-00"}).target))
    ).sessions[0]
    assert row.state == "live"
    assert row.next == "idle"
    assert row.idle.deadline == START + 30 * MINUTE
    assert row.idle.left_ms == 20 * MINUTE
    assert row.absolute.left_ms == 12 * 60 * MINUTE - 10 * MINUTE


async def test_no_limit_is_no_deadline(host):
    open_session(host.owned[0], "free", workload="endless")
    detail = Listings(host.owned, Turn()).find("free")
    assert detail.idle.deadline is None
    assert detail.idle.left_ms is None
    assert detail.next is None


async def test_a_detail_has_the_chain_counts_and_end(host):
    open_session(host.owned[0], "s-00", at=100, type_=EventType.ACTIVITY)
    open_session(host.owned[0], "s-00", at=200, type_=EventType.CLOSED)
    detail = Listings(host.owned, Turn()).find("s-00")
    assert [(link.rule, link.won, link.ms) for link in detail.chain] == [
        ("defaults", True, 30 * MINUTE), ("defaults", False, None),
    ]  # fmt: skip
    assert detail.activity["human"] == 2
    assert detail.counts == ("human", "agent", "inflight")
    assert detail.end.reason == "closed"
    assert detail.idle.left_ms is None
    assert detail.next is None
