"""Topics that a gateway follows, written as the monitor writes them."""

import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager

import msgspec
from kafka import KafkaProducer

from monitor.core.commands import Command, CommandType, Reauth
from monitor.core.controls import Control, ControlType, Target
from monitor.core.reasons import Reason
from monitor.gateway import Facts, Now, Posture, check
from monitor.gateway.follower import Follower, present
from monitor.wire.codec import Record
from monitor.wire.commands import encode_command, encode_watermark
from monitor.wire.controls import encode_control
from monitor.wire.partitioner import partition_for

T = 1_795_500_000_000


class Monitor:
    """Writes commands, watermarks and controls; each call returns once the broker has them."""

    def __init__(self, world) -> None:
        self._producer = KafkaProducer(bootstrap_servers=world.bootstrap_servers, linger_ms=20)
        self._topics, self._now = world.topics, T

    def close(self) -> None:
        self._producer.close()

    def end(self, *session_ids: str, epoch: int = 0, type_: CommandType = CommandType.EXPIRE) -> None:
        self.write(*((name, self.command(name, epoch, type_)) for name in session_ids))

    def warn(self, session_id: str) -> None:
        """Of its end within the minute."""
        now = present().wall
        command = msgspec.structs.replace(self._command(session_id, 0, CommandType.WARN), effective_at=now + 60_000, log_time=now, due=now)
        self.write((session_id, encode_command(command, now)))

    def forget(self, *session_ids: str) -> None:
        self.write(*((name, Record(name.encode(), None, [])) for name in session_ids))

    def command(self, session_id: str, epoch: int, type_: CommandType) -> Record:
        return encode_command(self._command(session_id, epoch, type_), T)

    def _command(self, session_id: str, epoch: int, type_: CommandType) -> Command:
        reason = Reason.ADMIN_REVOKED if type_ is CommandType.REVOKE else Reason.IDLE_TIMEOUT
        return Command(
            type=type_, session_id=session_id, epoch=epoch, reason=reason, effective_at=T, cutoff=T, limit_ms=60_000, rule="r",
            policy="p", subject=None, classification=None, reauth=Reauth(allowed=type_ is not CommandType.REVOKE),
            forget_after=T, partition=0, offset=0, log_time=T, due=T,
        )  # fmt: skip

    def write(self, *records: tuple[str, Record]) -> None:
        topic = self._topics.session_commands
        sent = [
            self._producer.send(
                topic.name, key=record.key, value=record.value, headers=record.headers,
                partition=partition_for(name.encode(), topic.partitions),
            )
            for name, record in records
        ]  # fmt: skip
        self._wait(sent)

    def watermarks(self, controls_to: int = -1) -> None:
        self._now += 1
        topic = self._topics.session_commands
        marks = [encode_watermark(n, self._now, self._now, controls_to, self._now) for n in range(topic.partitions)]
        self._wait([
            self._producer.send(topic.name, key=mark.key, value=mark.value, headers=mark.headers, partition=n)
            for n, mark in enumerate(marks)
        ])  # fmt: skip

    def lock(self, subject: str) -> int:
        control = Control(0, T, ControlType.LOCK, f"lock-{subject}", Target(subject=subject), "r", "b")
        record = encode_control(control, T)
        sent = self._producer.send(self._topics.session_control.name, key=record.key, value=record.value, partition=0)
        self._wait([sent])
        return sent.get().offset

    def _wait(self, sent) -> None:
        self._producer.flush()
        for one in sent:
            one.get(30)


@contextmanager
def monitor(world) -> Iterator[Monitor]:
    one = Monitor(world)
    try:
        yield one
    finally:
        one.close()


class Clocks:
    """The system's clocks, which can be moved ahead."""

    ahead = 0

    def __call__(self) -> Now:
        now = present()
        return Now(now.wall + self.ahead, now.monotonic + self.ahead)


@contextmanager
def following(world, *, wait: bool = True, now: Callable[[], Now] = present) -> Iterator[Follower]:
    follower = Follower(world.connection, world.topics, now=now)
    follower.start()
    try:
        assert not wait or follower.wait_ready(30), follower.last_error
        yield follower
    finally:
        follower.stop()


def until(holds: Callable[[], bool], seconds: float = 30) -> None:
    """Wait for it, a look every 10 ms."""
    deadline = time.monotonic() + seconds
    while not holds():
        assert time.monotonic() < deadline, "it did not come about in time"
        time.sleep(0.01)


def reason(follower: Follower, session_id: str, **facts) -> str:
    """What a session is refused for, by a best-effort gateway."""
    view = follower.view
    facts = {"posture": Posture.BEST_EFFORT} | facts
    return check(view, Facts(session_id=session_id, **facts), Now(T, 0)).reason
