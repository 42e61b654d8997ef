"""A world on a real broker with nothing of ours on either side: plain JSON, a plain producer, a plain consumer."""

import contextlib
import hashlib
import json
import subprocess
import sys
import time
from collections.abc import Iterator, Sequence
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, Self

from kafka import KafkaConsumer, KafkaProducer, TopicPartition

from monitor.testing.timeline import Action, Seen


def rfc3339(millis: int) -> str:
    return datetime.fromtimestamp(millis / 1000, UTC).isoformat(timespec="milliseconds").replace("+00:00", "Z")


def millis(text: str) -> int:
    return round(datetime.fromisoformat(text).timestamp() * 1000)


def command_id(command: dict[str, Any]) -> str:
    """DESIGN section 4.2, written down a second time."""
    decision = [
        command["session_id"], command["epoch"], command["type"], command["reason"], millis(command["effective_at"]),
        command.get("control_id", ""),
    ]  # fmt: skip
    canonical = json.dumps(decision, separators=(",", ":"), ensure_ascii=False).encode()
    return hashlib.blake2b(canonical, digest_size=16).hexdigest()


class Worker:
    """One `session-monitor worker` process."""

    def __init__(self, bootstrap: str, prefix: str, policy: Path, log: Path, *options: str) -> None:
        self.log = log
        self._command = [
            sys.executable, "-m", "monitor", "worker", "--bootstrap-servers", bootstrap, "--topic-prefix", prefix,
            "--policy", str(policy), "--from", "earliest", "--session-timeout", "6s", *options,
        ]  # fmt: skip
        self.process: subprocess.Popen[bytes] | None = None
        self._offset = 0

    def start(self) -> Self:
        self._offset = self.log.stat().st_size if self.log.exists() else 0
        with self.log.open("ab") as log:
            self.process = subprocess.Popen(self._command, stdout=log, stderr=log, stdin=subprocess.DEVNULL)
        return self

    def kill(self) -> None:
        """SIGKILL."""
        assert self.process is not None
        self.process.kill()
        self.process.wait(10)

    def stop(self) -> int:
        """SIGTERM, and its exit code."""
        if self.process is None:
            return 0
        self.process.terminate()
        try:
            return self.process.wait(20)
        except subprocess.TimeoutExpired:
            self.process.kill()
            self.process.wait(10)
            raise AssertionError(f"the worker did not stop:\n{self.tail()}") from None

    def ensure_dead(self) -> None:
        if self.process is not None and self.process.poll() is None:
            self.kill()

    def wait_until_ready(self, seconds: float = 60) -> None:
        """Until it has recovered its partitions and delivers."""
        deadline = time.monotonic() + seconds
        while time.monotonic() < deadline:
            assert self.process is not None
            assert self.process.poll() is None, self.tail()
            if b"delivery_begun" in self.log.read_bytes()[self._offset :]:
                return
            time.sleep(0.05)
        raise AssertionError(f"the worker was not ready in time:\n{self.tail()}")

    def tail(self) -> str:
        return "\n".join(self.log.read_text(errors="replace").splitlines()[-40:])

    def __enter__(self) -> Self:
        return self.start()

    def __exit__(self, *_: object) -> None:
        if self.process is not None and self.process.poll() is None:
            self.stop()


@contextlib.contextmanager
def consumer(bootstrap: str, topic: str) -> Iterator[KafkaConsumer]:
    reader = KafkaConsumer(bootstrap_servers=bootstrap, auto_offset_reset="earliest", enable_auto_commit=False)
    try:
        partitions = reader.partitions_for_topic(topic) or set()
        reader.assign([TopicPartition(topic, number) for number in sorted(partitions)])
        reader.seek_to_beginning()
        yield reader
    finally:
        reader.close()


def read_all(bootstrap: str, topic: str) -> list[Any]:
    """Every record of a topic, as it stands now, partition by partition."""
    records: list[Any] = []
    with consumer(bootstrap, topic) as reader:
        ends = reader.end_offsets(list(reader.assignment()))
        while any(reader.position(tp) < end for tp, end in ends.items()):
            for batch in reader.poll(timeout_ms=500).values():
                records.extend(batch)
    return records


class PlainWorld:
    """Plays timelines against running workers. `prefix` names the topics."""

    def __init__(self, bootstrap: str, prefix: str) -> None:
        self._bootstrap, self._prefix = bootstrap, prefix
        self.commands: list[dict[str, Any]] = []

    def play(self, policy: str, actions: Sequence[Action], until: int) -> list[Seen]:
        producer = KafkaProducer(bootstrap_servers=self._bootstrap)
        seen: list[Seen] = []
        try:
            with consumer(self._bootstrap, f"{self._prefix}session-commands") as reader:
                start = int(time.time() * 1000)
                for action in [*actions, None]:
                    at = until if action is None else action.at
                    while (left := start + at - time.time() * 1000) > 0:
                        self._look(reader, start, seen, min(100, max(1, int(left))))
                    if action is not None:
                        self._do(producer, action, start)
                        producer.flush()
        finally:
            producer.close()
        return seen

    def _do(self, producer: KafkaProducer, action: Action, start: int) -> None:
        members = dict(action.members)
        if action.kind == "event":
            for name in ("time", "auth_time", "expires"):
                if name in members:
                    members[name] = rfc3339(start + members[name])
            topic, key = "access-events", members["session_id"]
        elif action.kind == "policy":
            text = members["text"]
            members = {
                "type": "control.policy", "id": "policy", "by": "test", "reason": "test", "policy_text": text,
                "policy_version": hashlib.blake2b(text.encode(), digest_size=4).hexdigest(),
            }  # fmt: skip
            topic, key = "session-control", "policy"
        else:
            topic, key = "session-control", members["id"]
        producer.send(self._prefix + topic, key=key.encode(), value=json.dumps(members).encode())

    def _look(self, reader: KafkaConsumer, start: int, seen: list[Seen], wait: int) -> None:
        for records in reader.poll(timeout_ms=wait).values():
            for record in records:
                command = json.loads(record.value) if record.value else {}
                if not command.get("type", "").startswith("session."):
                    continue
                self.commands.append(command)
                assert command["id"] == command_id(command)
                seen.append(
                    Seen(
                        record.timestamp - start, command["type"], command["session_id"], command["epoch"],
                        command["reason"], millis(command["effective_at"]) - start, command.get("rule"), command["id"],
                    )
                )  # fmt: skip
