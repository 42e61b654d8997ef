"""What gateways have proven, as it stands on the topics."""

from collections.abc import Iterator
from typing import Any, Final

import msgspec
from kafka import KafkaConsumer, TopicPartition

from monitor.broker.clients import absent, consumer
from monitor.broker.tail import TailRecord, offsets_since, read_between
from monitor.cli.output import hint
from monitor.cli.settings import Installation
from monitor.core.instants import Millis
from monitor.detect.enforcement import SILENT_AFTER, Ledger, Ordered
from monitor.wire.bad_record import BadRecord
from monitor.wire.receipts import Receipt, decode_receipt

_SPECIAL: Final = ord("~")


class Enforced(msgspec.Struct, frozen=True):
    """Commands and receipts of a while, and where the topics of commands end."""

    ledger: Ledger
    ends: dict[int, int]
    """Partition of session-commands -> its end, before the receipts were read: no gateway is behind what came later."""
    control_end: int


def read_enforced(installation: Installation, since: Millis) -> Enforced:
    """What has been told since then, and the commands that a gateway still lacks, however old. Raises AbsenceError."""
    topics, ledger = installation.topics, Ledger()
    control = TopicPartition(topics.session_control.name, 0)
    with consumer(installation.connection, auto_offset_reset="earliest") as client:
        commands, receipts = (_partitions(client, installation, one.name) for one in (topics.session_commands, topics.enforcement_receipts))
        ends = client.end_offsets([*commands, control])
        control_end = ends.pop(control)
        told = client.end_offsets(receipts)
        # What was appended since then is judged by what each gateway had applied before.
        for record in read_between(client, offsets_since(client, told, since - SILENT_AFTER), told):
            if (receipt := receipt_in(record)) is not None:
                ledger.take_receipt(receipt)
        starts = offsets_since(client, ends, since)
        if ledger.gateways:
            starts = {one: min(start, ledger.lowest_position(one.partition) + 1) for one, start in starts.items()}
        for command in ordered(read_between(client, starts, ends)):
            ledger.take_command(command)
    return Enforced(ledger, {one.partition: end for one, end in ends.items()}, control_end)


def receipt_in(record: TailRecord) -> Receipt | None:
    """The receipt in a record; None where it is none, which is said."""
    try:
        return decode_receipt(record.value)
    except BadRecord as error:
        hint(f"{record.topic} partition {record.partition} offset {record.offset} is no receipt: {error}")
        return None


def ordered(records: Iterator[TailRecord]) -> Iterator[Ordered]:
    """The commands among records of session-commands, in their places."""
    for record in records:
        if record.key and record.key[0] != _SPECIAL and record.value is not None:
            yield place_of(record)


def place_of(record: TailRecord) -> Ordered:
    """The place of a command."""
    return Ordered(record.partition, record.offset, record.timestamp, (record.key or b"").decode(errors="replace"))


def _partitions(client: KafkaConsumer, installation: Installation, name: str) -> list[Any]:
    numbers = client.partitions_for_topic(name)
    if not numbers:
        raise absent(installation.connection, name)
    return [TopicPartition(name, number) for number in sorted(numbers)]
