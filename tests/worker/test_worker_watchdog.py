"""The watchdog: it ends what hangs, and nothing else."""

import asyncio
import subprocess
import sys
import threading
import time
from types import SimpleNamespace

from monitor.worker.watchdog import EXIT_CODE, Limits, Watchdog

LIMITS = Limits(loop=30_000, progress=60_000, check_every=1000)


class Scene:
    """A watchdog on time by hand; `pass_time` lets it look every second."""

    def __init__(self, **options):
        self.now = 0
        self.partition = SimpleNamespace(offset=10, log_time=500)
        self.watched = SimpleNamespace(
            partition=self.partition, end_offset=10, ticks=SimpleNamespace(appended_at=500)
        )
        self.owned = {3: self.watched}
        self.dog = Watchdog(self.owned, LIMITS, monotonic=lambda: self.now, **options)

    def pass_time(self, seconds, *, beating=True, each=lambda: None):
        """The first thing found wrong, and when."""
        for _ in range(seconds):
            self.now += 1000
            if beating:
                self.dog.beat()
            each()
            wrong = self.dog.check()
            if wrong is not None:
                return wrong
        return None


def test_a_loop_that_turns_and_has_nothing_to_do_lives():
    assert Scene().pass_time(1000) is None


def test_a_loop_that_does_not_turn_is_ended_when_its_time_is_up():
    scene = Scene()
    assert scene.pass_time(29, beating=False) is None
    assert "event loop" in scene.pass_time(1, beating=False)


def test_unread_records_without_progress_end_it():
    scene = Scene()
    scene.watched.end_offset = 11
    wrong = scene.pass_time(100)
    assert "partition 3" in wrong
    assert "offset 10" in wrong
    assert scene.now == 61_000


def test_ticks_that_are_not_read_back_count_as_unread():
    scene = Scene()
    scene.watched.ticks.appended_at = 501
    assert "partition 3" in scene.pass_time(100)


def test_progress_however_slow_lives():
    scene = Scene()
    scene.watched.end_offset = 10_000

    def crawl():
        if scene.now % 59_000 == 0:
            scene.partition.offset += 1

    assert scene.pass_time(1000, each=crawl) is None


def test_time_begins_when_there_is_something_to_read():
    scene = Scene()
    assert scene.pass_time(500) is None
    scene.watched.end_offset = 11
    assert scene.pass_time(59) is None


def test_a_partition_that_is_given_away_and_comes_back_begins_anew():
    scene = Scene()
    scene.watched.end_offset = 11
    assert scene.pass_time(50) is None
    del scene.owned[3]
    assert scene.pass_time(100) is None
    scene.owned[3] = scene.watched
    assert scene.pass_time(59) is None
    scene.owned[3] = SimpleNamespace(partition=scene.partition, end_offset=11, ticks=scene.watched.ticks)
    assert scene.pass_time(59) is None


def test_an_excused_partition_may_wait():
    waiting = True
    scene = Scene(excused=lambda _: waiting)
    scene.watched.end_offset = 11
    assert scene.pass_time(500) is None
    waiting = False
    assert scene.pass_time(59) is None
    assert scene.pass_time(5) is not None


def test_after_the_machine_slept_everybody_gets_their_time_again():
    scene = Scene()
    scene.watched.end_offset = 11
    assert scene.pass_time(50) is None
    scene.now += 3_600_000
    assert scene.dog.check() is None
    assert scene.pass_time(29) is None
    assert "event loop" in scene.pass_time(35, beating=False)


async def test_it_beats_and_looks_by_itself_until_it_is_stopped():
    ended = []
    dog = Watchdog({}, Limits(loop=400, progress=400, check_every=20), end=ended.append, dump=lambda: None)
    await dog.start()
    await asyncio.sleep(0.8)
    await dog.stop()
    await dog.stop()
    assert ended == []
    assert not any(thread.name == "watchdog" for thread in threading.enumerate())


async def test_a_blocked_loop_is_found_from_the_thread(capfd):
    ended = threading.Event()
    codes = []

    def end(code):
        codes.append(code)
        ended.set()

    dog = Watchdog({}, Limits(loop=600, progress=600, check_every=20), end=end, dump=lambda: None)
    await dog.start()
    deadline = time.monotonic() + 20
    while not ended.is_set() and time.monotonic() < deadline:
        time.sleep(0.01)  # noqa: ASYNC251 - the block that it is to find
    await dog.stop()
    assert codes == [EXIT_CODE]
    assert "event loop has not turned" in capfd.readouterr().err


PROGRAM = """
import asyncio, time
from monitor.worker.watchdog import Limits, Watchdog

def hang_here():
    time.sleep(60)

async def main():
    await Watchdog({}, Limits(loop=600, progress=600, check_every=50)).start()
    await asyncio.sleep(0.1)
    hang_here()

asyncio.run(main())
"""


def test_the_process_ends_with_70_and_shows_where_it_hung():
    done = subprocess.run(
        [sys.executable, "-c", PROGRAM], capture_output=True, text=True, timeout=30, check=False
    )
    assert done.returncode == 70
    assert "watchdog: the event loop has not turned" in done.stderr
    assert "hang_here" in done.stderr
