"""A worker process for the tests of the engine shell: bootstrap, topic, group, diary file."""

import asyncio
import json
import sys
from collections.abc import Sequence
from typing import Any

from transport_world import RecordingOwner

from monitor.broker.connection import Connection
from monitor.worker.engine_app import Engine, Ports
from monitor.worker.settings import EngineSettings


class DiaryOwner(RecordingOwner):
    def note(self, what: str, about: Any) -> None:
        with open(sys.argv[4], "a", encoding="utf-8") as diary:  # noqa: PTH123
            diary.write(json.dumps([what, about]) + "\n")

    async def records(self, partition: int, records: Sequence[Any], end_offset: int) -> None:
        await super().records(partition, records, end_offset)
        self.note("records", [partition, len(records)])


async def main() -> None:
    _, bootstrap, topic, group, _ = sys.argv

    async def factory(ports: Ports) -> DiaryOwner:
        return DiaryOwner(ports, "process", [], topic)

    settings = EngineSettings(
        app_id=group,
        topic=topic,
        connection=Connection(bootstrap_servers=bootstrap),
        session_timeout_ms=6000,
        heartbeat_ms=500,
    )
    await Engine(settings, factory).run()


if __name__ == "__main__":
    asyncio.run(main())
