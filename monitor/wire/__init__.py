"""Bytes <-> types: every record, the topic catalogue, the partitioner, problem+json and challenges."""

from monitor.wire.bad_record import BadRecord, BadTime, DeadLetterReason
from monitor.wire.codec import Record
from monitor.wire.times import format_time, parse_time
from monitor.wire.topics import Topic, Topics

__all__ = ["BadRecord", "BadTime", "DeadLetterReason", "Record", "Topic", "Topics", "format_time", "parse_time"]
