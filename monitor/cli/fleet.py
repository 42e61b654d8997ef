"""The running workers, found where they say so themselves: in the watermarks of session-commands.

Each worker answers for its partitions, so a question goes to all of them, and the answers are put together.
"""

import time
from collections.abc import Iterator, Mapping, Sequence
from typing import Annotated, Any, Final
from urllib.parse import urlsplit

import msgspec
import typer
from kafka import TopicPartition

from monitor.broker.clients import absent, consumer
from monitor.broker.connection import Connection
from monitor.cli.output import hint
from monitor.cli.settings import Installation
from monitor.core.errors import AbsenceError, InputError
from monitor.core.instants import SECOND, Millis
from monitor.observe.client import WorkerClient
from monitor.observe.token import check_token, read_token, token_path
from monitor.observe.views import Matches, SessionDetail, SessionRow
from monitor.wire.bad_record import BadRecord
from monitor.wire.codec import encode
from monitor.wire.commands import KeyKind, Watermark, decode_watermark, read_key
from monitor.wire.topics import Topics

LOOKED_AT: Final = (100, 10_000, None)
"""Records before the end of each partition that are looked at for a watermark; None: all of them."""
POLL: Final[Millis] = 200
STALE: Final[Millis] = 30 * SECOND

Workers = Annotated[
    list[str] | None,
    typer.Option(
        "--worker",
        help="Ask the worker at this address; repeat it for several. Else the topic says who they are.",
    ),
]
Token = Annotated[
    str | None,
    typer.Option(
        "--token", envvar="SESSION_MONITOR_TOKEN", help="The API's token; without it, this user's own."
    ),
]


class Fleet:
    """All workers at once."""

    def __init__(self, clients: Sequence[WorkerClient], silent: Sequence[int] = ()) -> None:
        """`silent`: partitions that nobody answers for."""
        self.clients = clients
        self.silent = list(silent)
        self.failed: list[str] = []
        """Workers that did not answer the last question."""

    def sessions(self, parameters: Mapping[str, str]) -> Iterator[SessionRow]:
        """Every session that matches. A worker that does not answer is told of and left out; AbsenceError if none does."""
        self.failed = []
        for client in self.clients:
            try:
                yield from client.sessions(parameters)
            except AbsenceError as error:
                self._missed(error)
        self._some_answered()

    def session(self, session_id: str) -> SessionDetail | None:
        """One session, or None where no worker holds it."""
        self.failed = []
        found: list[SessionDetail] = []
        for client in self.clients:
            try:
                detail = client.session(session_id)
            except AbsenceError as error:
                self._missed(error)
            else:
                found += [] if detail is None else [detail]
        self._some_answered()
        # At a rebalance two may hold it for a moment: the one that has read further knows.
        return max(found, key=lambda detail: detail.log_time, default=None)

    def matches(self, parameters: Mapping[str, str]) -> Matches:
        """How many match, over all."""
        self.failed = []
        found = []
        for client in self.clients:
            try:
                found.append(client.matches(parameters))
            except AbsenceError as error:
                self._missed(error)
        self._some_answered()
        return Matches(sum(one.live for one in found), sum(one.ended for one in found))

    @property
    def whole(self) -> bool:
        """Whether the last answer spoke for every partition, as far as is known."""
        return not self.failed and not self.silent

    def _missed(self, error: AbsenceError) -> None:
        self.failed.append(str(error))
        hint(str(error))

    def _some_answered(self) -> None:
        if self.clients and len(self.failed) == len(self.clients):
            raise AbsenceError(
                "no worker answers: is one running? (session-monitor worker, or name it with --worker)"
            )


def reach(workers: Sequence[str] | None, token: str | None, installation: Installation) -> Fleet:
    """The workers named, or else the ones that the topic names. Raises AbsenceError where there are none."""
    if workers:
        secret = _secret(token)
        return Fleet([WorkerClient(url, secret) for url in dict.fromkeys(workers)])
    found, partitions = find_workers(installation.connection, installation.topics)
    urls: dict[str, Millis] = {}
    for mark in found.values():
        if mark.api:
            urls[mark.api] = max(urls.get(mark.api, 0), mark.issued_at)
    if not urls:
        raise AbsenceError(
            "no worker has told its address on the commands topic: start one (session-monitor worker), or name it with --worker"
        )
    # One that went silent is left out where others have told since: its partitions are theirs by now.
    newest = max(urls.values())
    told = [url for url, at in urls.items() if newest - at < STALE]
    silent = sorted(n for n in range(partitions) if n not in found or found[n].api not in told)
    if silent:
        hint(f"nobody answers for partitions {', '.join(map(str, silent))}")
    age = time.time_ns() // 1_000_000 - newest
    if age > STALE:
        hint(f"the newest watermark is {age // SECOND} s old: the workers may be gone")
    if token is None and (far := [url for url in told if not _is_near(url)]):
        raise InputError(
            f"{far[0]} is not on this machine: this user's own token is not sent there; "
            "give the worker's token (SESSION_MONITOR_TOKEN) if you trust the address, or name workers with --worker"
        )
    secret = _secret(token)
    return Fleet([WorkerClient(url, secret) for url in sorted(told)], silent)


def find_workers(connection: Connection, topics: Topics) -> tuple[dict[int, Watermark], int]:
    """The newest watermark of each partition that has one, and how many partitions there are."""
    topic = topics.session_commands.name
    found: dict[int, Watermark] = {}
    with consumer(connection, auto_offset_reset="earliest") as client:
        numbers = client.partitions_for_topic(topic)
        if not numbers:
            raise absent(connection, topic)
        for last in LOOKED_AT:
            places = [TopicPartition(topic, number) for number in sorted(set(numbers) - set(found))]
            for record in _read_last(client, places, last):
                mark = _watermark(record.key, record.value)
                if mark is not None and mark.partition == record.partition:
                    found[mark.partition] = mark
            if len(found) == len(numbers):
                break
        return found, len(numbers)


def _read_last(client: Any, places: Sequence[TopicPartition], last: int | None) -> Iterator[Any]:
    """The records up to the end as it is now; of each partition only the `last` offsets, where given."""
    client.assign(places)
    ends, firsts = client.end_offsets(places), client.beginning_offsets(places)
    for place in places:
        client.seek(place, firsts[place] if last is None else max(firsts[place], ends[place] - last))
    # By position, not by the last record seen: compaction leaves holes before the end.
    while any(client.position(place) < ends[place] for place in places):
        for records in client.poll(POLL).values():
            yield from records


def _watermark(key: bytes | None, value: bytes | None) -> Watermark | None:
    try:
        return decode_watermark(value) if read_key(key)[0] is KeyKind.WATERMARK else None
    except BadRecord:
        return None


def _secret(token: str | None) -> str:
    if token is not None:
        return check_token(token, "--token")
    path = token_path()
    found = read_token(path)
    if found is None:
        raise AbsenceError(
            f"no API token: {path} is not there, so no worker of this user has run on this machine; give SESSION_MONITOR_TOKEN"
        )
    return found


def _is_near(url: str) -> bool:
    host = urlsplit(url).hostname or ""
    return host in {"localhost", "::1"} or (host.startswith("127.") and host.replace(".", "").isdigit())


def to_builtins(struct: msgspec.Struct) -> dict[str, object]:
    """A view as plain JSON values."""
    plain: dict[str, object] = msgspec.json.decode(encode(struct))
    return plain
