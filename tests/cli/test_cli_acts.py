"""`revoke`, `lock`, `unlock`, `locks`: what stands on session-control afterwards, and what is refused before."""

import json
import time

import pytest

from monitor.cli import acts
from monitor.cli.failure import NotFound
from monitor.core.controls import Control, ControlType, Target
from monitor.core.errors import InputError
from monitor.wire.controls import decode_control, encode_control
from tests.cli.serving import TOKEN, serving
from tests.observe.owned_partitions import open_session, worker

WHY = ["--reason", "stolen laptop", "--by", "ops@example.com"]


def controls(world):
    records = world.read(world.topics.session_control.name)
    return [decode_control(r.value, offset=r.offset, appended=r.timestamp) for r in records]


@pytest.mark.embedded
class TestOnTheTopic:
    def test_a_revocation_by_subject(self, world, run_verb):
        result = run_verb(acts, "revoke", "--subject", "alice@example.com", *WHY, *world.options)
        assert result.exit_code == 0, result.output
        (control,) = controls(world)
        assert result.stdout.strip() == control.id
        assert control.type is ControlType.REVOKE
        assert control.target == Target(subject="alice@example.com")
        assert (control.reason, control.by, control.before) == ("stolen laptop", "ops@example.com", None)
        assert world.read(world.topics.session_control.name)[0].key == control.id.encode()

    def test_several_targets_and_before(self, world, run_verb):
        options = ["--role", "admin", "--tenant", "acme", "--before", "2026-01-02T03:04:05Z"]
        assert run_verb(acts, "revoke", *options, *WHY, *world.options).exit_code == 0
        (control,) = controls(world)
        assert control.target == Target(role="admin", tenant="acme")
        assert control.before == 1_767_323_045_000

    def test_everyone(self, world, run_verb):
        assert run_verb(acts, "revoke", "--all", *WHY, *world.options).exit_code == 0
        assert controls(world)[0].target == Target(all=True)

    def test_each_order_has_an_id_of_its_own(self, world, run_verb):
        for _ in range(2):
            run_verb(acts, "lock", "--all", *WHY, *world.options)
        assert len({control.id for control in controls(world)}) == 2

    def test_a_lock_for_two_hours(self, world, run_verb):
        began = int(time.time() * 1000)
        result = run_verb(acts, "lock", "--session", "s-1", "--expires", "2h", *WHY, *world.options)
        assert result.exit_code == 0, result.output
        (control,) = controls(world)
        assert control.target == Target(session_id="s-1")
        assert 0 <= control.expires - began - 2 * 3_600_000 < 60_000

    def test_locks_in_force_are_listed_until_they_are_lifted(self, world, run_verb):
        first = run_verb(acts, "lock", "--subject", "a", *WHY, *world.options).stdout.strip()
        second = run_verb(acts, "lock", "--all", *WHY, *world.options).stdout.strip()
        run_verb(acts, "revoke", "--all", *WHY, *world.options)
        listed = run_verb(acts, "locks", *world.options, "-o", "ndjson")
        rows = [json.loads(line) for line in listed.stdout.splitlines()]
        assert [(row["id"], row["target"]) for row in rows] == [
            (first, {"subject": "a"}),
            (second, {"all": "true"}),
        ]
        lifted = run_verb(acts, "unlock", first, *WHY, *world.options)
        assert lifted.exit_code == 0
        assert lifted.stdout.strip() == first
        assert controls(world)[-1].type is ControlType.UNLOCK
        table = run_verb(acts, "locks", *world.options)
        assert first not in table.stdout
        assert second in table.stdout

    def test_a_lock_that_is_over_is_not_in_force(self, world, run_verb):
        over = Control(-1, 0, ControlType.LOCK, "lock-old", Target(all=True), "r", "b", expires=1000)
        broken = (b"lock-broken", b"{}", [])
        record = encode_control(over, 1000)
        world.write(world.topics.session_control.name, (0, record), (0, broken))
        listed = run_verb(acts, "locks", *world.options, "-o", "ndjson")
        assert listed.exit_code == 0
        assert listed.stdout.strip() == ""
        assert isinstance(run_verb(acts, "unlock", "lock-old", *WHY, *world.options).exception, NotFound)

    def test_an_unlock_of_nothing_exits_3_and_writes_nothing(self, world, run_verb):
        result = run_verb(acts, "unlock", "lock-none", *WHY, *world.options)
        assert isinstance(result.exception, NotFound)
        assert "lock-none" in str(result.exception)
        assert controls(world) == []


@pytest.mark.parametrize(
    ("arguments", "says"),
    [
        (["revoke", "--subject", "a", "--reason", "  ", "--by", "b"], "--reason is empty"),
        (["revoke", "--subject", "a", "--reason", "r", "--by", ""], "--by is empty"),
        (["lock", "--subject", "a", "--reason", "", "--by", "b"], "--reason is empty"),
        (["unlock", "lock-1", "--reason", "", "--by", "b"], "--reason is empty"),
        (["revoke", *WHY], "--subject"),
        (["revoke", "--all", "--role", "admin", *WHY], "not both"),
        (["revoke", "--subject", "", *WHY], "empty"),
        (["revoke", "--all", "--before", "yesterday", *WHY], "RFC 3339"),
        (["revoke", "--all", "--before", "2199-01-01T00:00:00Z", *WHY], "ahead"),
        (["lock", "--all", "--expires", "2", *WHY], "no unit"),
        (["lock", "--all", "--expires", "0s", *WHY], "over already"),
        (["lock", "--all", "--expires", "2020-01-01T00:00:00Z", *WHY], "over already"),
        (["lock", "--all", "--expires", "Tomorrow", *WHY], "RFC 3339"),
    ],
)
def test_what_can_not_be_meant_is_refused_before_anything_is_connected(run_verb, arguments, says):
    result = run_verb(acts, *arguments, "--bootstrap-servers", "127.0.0.1:1")
    assert isinstance(result.exception, InputError), result.output
    assert says in str(result.exception)


@pytest.mark.parametrize("verb", ["revoke", "lock"])
def test_a_reason_must_be_given(run_verb, verb):
    result = run_verb(acts, verb, "--all", "--by", "b")
    assert result.exit_code == 2
    assert "--reason" in result.stderr


def test_who_orders_is_the_user_unless_said(run_verb, monkeypatch):
    monkeypatch.setattr(acts, "write_control", lambda _c, _t, key, value, _h: seen.append((key, value)) or 7)
    seen: list[tuple[str, bytes]] = []
    result = run_verb(
        acts, "revoke", "--all", "--reason", "r", env={"USER": "carol", "SESSION_MONITOR_BY": ""}
    )
    assert result.exit_code == 0, result.output
    assert decode_control(seen[0][1], offset=0, appended=0).by == "carol"


def test_a_dry_run_counts_and_orders_nothing(run_verb, monkeypatch):
    monkeypatch.setattr(acts, "write_control", None)
    one, other = worker(0), worker(1)
    open_session(one.owned[0], "a-1", subject="a")
    open_session(other.owned[1], "a-2", subject="a")
    open_session(other.owned[1], "b-1", subject="b")
    with serving(one, other) as urls:
        named = [*(part for url in urls for part in ("--worker", url)), "--token", TOKEN, "--dry-run"]
        some = run_verb(acts, "revoke", "--subject", "a", *WHY, *named)
        everyone = run_verb(acts, "lock", "--all", *WHY, *named)
        old = run_verb(acts, "revoke", "--subject", "a", "--before", "2026-01-01T00:00:00Z", *WHY, *named)
    assert "would end 2 live sessions" in some.stdout
    assert "would refuse 3 live sessions" in everyone.stdout
    assert "would end 0 live sessions" in old.stdout
