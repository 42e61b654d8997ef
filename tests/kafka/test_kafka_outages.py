"""Outages longer than the idle limit: of the monitor, the broker, a source, a worker's network.

After each: not one active session expired, every idle one did with its own deadline, absolute limits struck; and the
verifier has nothing to say against it.
"""

import time
from contextlib import ExitStack
from pathlib import Path

import pytest

from tests.kafka.outages import POLICY, Behind, Cast, judged
from tests.kafka.plain import Worker

pytestmark = [pytest.mark.kafka, pytest.mark.slow, pytest.mark.timeout(300)]

OUTAGE = 60
SETTLED = 20
"""Seconds after which every grace has run out."""


@pytest.fixture
def behind(apache_kafka):
    with Behind(apache_kafka) as world:
        yield world


@pytest.fixture
def workers(tmp_path: Path):
    """Starts workers; those that still run at the end are killed."""
    policy = tmp_path / "policy.yaml"
    policy.write_text(POLICY)
    with ExitStack() as stack:

        def start(bootstrap: str, prefix: str, name: str) -> Worker:
            worker = Worker(bootstrap, prefix, policy, tmp_path / f"{prefix}{name}.log").start()
            stack.callback(worker.ensure_dead)
            return worker

        yield start


def finish(casts, workers):
    """The cast first: an active session that fell silent would soon be an idle one."""
    for cast in casts:
        cast.stop()
    time.sleep(3)  # a tick, a watermark and a checkpoint
    for worker in workers:
        assert worker.stop() == 0, worker.tail()


def came_through(behind, cast, prefix):
    """Judged both ways; the records that were acknowledged are all there."""
    assert not (wrongs := cast.wrongs(behind.direct)), prefix + "\n".join(wrongs)
    report = judged(behind.direct, prefix)
    assert sum(one.sessions for one in report.partitions) == 36
    assert sum(one.commands for one in report.partitions) == 24


def test_monitor_source_and_network_away_for_longer_than_the_idle_limit(behind, workers):
    """Three installations on one broker go through their outages during the same minute."""
    down, source, network = (behind.topics(prefix) for prefix in ("down-", "source-", "network-"))
    killed = workers(behind.direct, down, "worker")
    steady = workers(behind.direct, source, "worker")
    lonely = workers(behind.through_worker_proxy, network, "worker")
    for worker in (killed, steady, lonely):
        worker.wait_until_ready()
    casts = [
        Cast(behind.direct, down, "gateway"),
        Cast(behind.through_source_proxy, source, "gateway", announced=True),
        Cast(behind.direct, network, "gateway"),
    ]
    for cast in casts:
        cast.start()
    time.sleep(8)
    for cast in casts:
        cast.hush()
    # What is last said has to arrive: a deadline that a late event sets in the past takes effect when it was set.
    time.sleep(2)
    killed.kill()
    behind.source_proxy.refuse()
    behind.worker_proxy.stall()
    time.sleep(OUTAGE / 2)
    behind.worker_proxy.refuse()  # for good measure: what it wrote before the stall never arrives
    time.sleep(OUTAGE / 2)
    killed.start()
    behind.source_proxy.forward()
    behind.worker_proxy.forward()
    time.sleep(SETTLED)
    assert lonely.process.poll() is None, lonely.tail()
    finish(casts, [killed, steady, lonely])
    for cast, prefix in zip(casts, (down, source, network), strict=True):
        came_through(behind, cast, prefix)


def test_broker_away_for_longer_than_the_idle_limit(behind, workers):
    """Two workers and a producer wait for it; what happened meanwhile comes late, and with its own times."""
    prefix = behind.topics("away-")
    pair = [workers(behind.direct, prefix, name) for name in ("first", "second")]
    for worker in pair:
        worker.wait_until_ready()
    cast = Cast(behind.direct, prefix, "gateway")
    cast.start()
    time.sleep(8)
    cast.hush()
    time.sleep(2)
    behind.broker.kill()
    time.sleep(OUTAGE)
    behind.broker.restart()
    time.sleep(SETTLED)
    finish([cast], pair)
    came_through(behind, cast, prefix)
