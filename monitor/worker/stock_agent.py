"""The yardstick: what the same job costs with Faust as its manual shows it, one event at a time, into a table.

Run as a program by `bench`: `python -m monitor.worker.stock_agent BOOTSTRAP APP_ID TOPIC PARTITIONS`.
"""

import sys
from typing import Any

import faust
import orjson


def build(bootstrap: str, app_id: str, topic: str, partitions: int) -> faust.App:
    """An app with one agent that keeps the last activity of each session in a table."""
    app = faust.App(
        app_id, broker=f"kafka://{bootstrap}", web_enabled=False,
        topic_partitions=partitions, cython_optimizations=True, broker_session_timeout=10,
        broker_heartbeat_interval=3, topic_disable_leader=True, worker_redirect_stdouts=False,
    )  # fmt: skip
    sessions = app.Table("last-activity", partitions=partitions, key_type=str, value_type=str)

    @app.agent(app.topic(topic, value_serializer="raw", key_serializer="raw"))
    async def watch(events: Any) -> None:
        async for value in events:
            event = orjson.loads(value)
            sessions[event["session_id"]] = event["time"]

    return app


if __name__ == "__main__":
    faust.Worker(build(sys.argv[1], sys.argv[2], sys.argv[3], int(sys.argv[4])), loglevel="WARN").execute_from_commandline()
