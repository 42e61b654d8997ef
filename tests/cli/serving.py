"""Sessions APIs that serve in a thread, for clients that block."""

import asyncio
import threading
from contextlib import contextmanager

from monitor.observe.metrics import WorkerMetrics
from monitor.worker.api import Api

TOKEN = "test-token-0123456789"


@contextmanager
def serving(*hosts, token=TOKEN):
    """An API for each host, on an event loop of their own; gives their addresses."""
    apis, ready, loop = [], threading.Event(), asyncio.new_event_loop()

    async def begin():
        for host in hosts:
            api = Api(WorkerMetrics(), token=token, name="w")
            api.attach(host)
            await api.start()
            apis.append(api)
        ready.set()

    async def end():
        for api in apis:
            await api.stop()

    def run():
        asyncio.set_event_loop(loop)
        loop.run_until_complete(begin())
        loop.run_forever()
        loop.run_until_complete(end())
        loop.close()

    thread = threading.Thread(target=run)
    thread.start()
    try:
        assert ready.wait(20)
        yield [api.url for api in apis]
    finally:
        loop.call_soon_threadsafe(loop.stop)
        thread.join(20)
