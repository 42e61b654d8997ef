"""A sidecar that starts again among a million ended sessions: nobody who has ended passes, before its view is loaded or after."""

import asyncio
import signal
from random import Random

import pytest

from monitor.bench.asker import cookie
from monitor.bench.view import Spec, fill
from tests.gateway.test_gateway_command import Process
from tests.gateway.worlds import monitor, until

pytestmark = [pytest.mark.kafka, pytest.mark.slow, pytest.mark.timeout(600)]

ENDED = 1_000_000
AFTERWARDS = 2_000


def test_among_a_million_ended_sessions_nobody_passes_before_all_are_known(kafka_topics, tmp_path) -> None:
    world, random = kafka_topics, Random(0)
    asyncio.run(fill(Spec(
        bootstrap_servers=world.bootstrap_servers, prefix=world.prefix, partitions=world.topics.partitions, ended=ENDED, fill=True,
    )))  # fmt: skip
    process = Process(tmp_path, world)

    def status(session: str) -> int:
        return process.ask("/check", {"Cookie": f"session={session}"})[0]

    before: list[tuple[int, int]] = []
    try:
        while True:
            # In this order: who is told that it is not ready yet has had these two answers before that.
            answers = (status(cookie(random.randrange(ENDED))), status("alive"))
            if process.ask("/readyz")[0] == 200:
                break
            before.append(answers)
        assert set(before) == {(503, 503)}, f"answers before the view was loaded: {set(before)}"
        assert len(before) > 10, "it loads for seconds"
        assert {status(cookie(random.randrange(ENDED))) for _ in range(AFTERWARDS)} == {401}
        with monitor(world) as writer:
            writer.watermarks()
            until(lambda: status("alive") == 200)
    finally:
        process.end(signal.SIGTERM)
