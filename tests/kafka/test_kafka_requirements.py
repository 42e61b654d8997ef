"""The requirements on Apache Kafka: plain JSON in by a plain producer, plain JSON out by a plain consumer."""

from pathlib import Path

import msgspec
import pytest

from monitor.testing.timeline import Action, Seen
from tests.kafka.plain import PlainWorld, Worker
from tests.timelines import POLICY, TIMELINES

pytestmark = [pytest.mark.kafka, pytest.mark.timeout(180)]

ALONE = ("policy_applied_live",)
"""Requirements that change what rules all sessions: they are played by themselves."""


def _named(action: Action, name: str) -> Action:
    """The same action for sessions, subjects and controls that belong to one requirement only."""
    members = dict(action.members)
    for member in ("session_id", "subject", "id"):
        if member in members:
            members[member] = f"{name}/{members[member]}"
    if "target" in members:
        target = members["target"]
        members["target"] = {key: value if key == "role" else f"{name}/{value}" for key, value in target.items()}
    return msgspec.structs.replace(action, members=members)


def test_requirements_hold_on_a_real_broker(kafka_topics, tmp_path: Path) -> None:
    bootstrap, prefix = kafka_topics
    policy = tmp_path / "policy.yaml"
    policy.write_text(POLICY)
    timelines = {name: build() for name, build in TIMELINES.items() if name not in ALONE}
    actions = sorted((_named(a, name) for name, t in timelines.items() for a in t.actions), key=lambda a: a.at)
    until = max(e.latest for t in timelines.values() for e in t.expected) + 1500
    with Worker(bootstrap, prefix, policy, tmp_path / "worker.log") as worker:
        worker.wait_until_ready()
        seen = PlainWorld(bootstrap, prefix).play(POLICY, actions, until)
    wrong = []
    for name, timeline in timelines.items():
        mine = [_unnamed(s, name) for s in seen if s.session_id.startswith(f"{name}/")]
        wrong += [f"{name}: {difference}" for difference in timeline.differences(mine)]
    assert not wrong, "\n".join(wrong)


def _unnamed(seen: Seen, name: str) -> Seen:
    return msgspec.structs.replace(seen, session_id=seen.session_id.removeprefix(f"{name}/"))


@pytest.mark.parametrize("name", ALONE)
def test_requirement_that_rules_everything_holds_on_a_real_broker(name: str, kafka_topics, tmp_path: Path) -> None:
    bootstrap, prefix = kafka_topics
    policy = tmp_path / "policy.yaml"
    policy.write_text(POLICY)
    with Worker(bootstrap, prefix, policy, tmp_path / "worker.log") as worker:
        worker.wait_until_ready()
        TIMELINES[name]().run(PlainWorld(bootstrap, prefix))
