"""The partitioner agrees with the clients that people use, and with itself for ever."""

import warnings

import pytest
from aiokafka.partitioner import murmur2 as murmur2_of_aiokafka
from hypothesis import given
from hypothesis import strategies as st

from monitor.wire.partitioner import murmur2, partition_for

with warnings.catch_warnings():
    warnings.simplefilter("ignore", DeprecationWarning)  # kafka-python reads its schemas by a deprecated way
    from kafka.partitioner.default import murmur2 as murmur2_of_kafka_python

GOLDEN = {
    b"": 275646681,
    b"21": -973932308,
    b"foobar": -790332482,
    b"a-little-bit-long-string": -985981536,
    b"a-little-bit-longer-string": -1486304829,
    b"lkjh234lh9fiuh90y23oiuhsafujhadof229phr9h19h89h8": -58897971,
    b"abc": 479470107,
}
"""What the Java client says (the vectors of Apache Kafka's UtilsTest), as signed 32-bit numbers."""


@pytest.mark.parametrize(("key", "wanted"), GOLDEN.items())
def test_golden(key: bytes, wanted: int) -> None:
    assert murmur2(key) == wanted & 0xFFFFFFFF


@given(st.binary(max_size=300))
def test_both_python_clients_agree(key: bytes) -> None:
    assert murmur2(key) == murmur2_of_kafka_python(key) & 0xFFFFFFFF == murmur2_of_aiokafka(key) & 0xFFFFFFFF


@given(st.binary(max_size=64), st.integers(1, 1000))
def test_a_partition_is_one_of_those_there_are(key: bytes, partitions: int) -> None:
    wanted = (murmur2_of_kafka_python(key) & 0x7FFFFFFF) % partitions
    assert partition_for(key, partitions) == wanted < partitions
