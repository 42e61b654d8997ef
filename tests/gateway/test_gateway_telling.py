"""What an instance tells is put together as it is asked for. That it arrives: `test_gateway_middleware.py`."""

import pytest

from monitor.broker.connection import Connection
from monitor.gateway import Facts, MemoryView, Now
from monitor.gateway.activity import Activity
from monitor.gateway.metrics import GatewayMetrics
from monitor.gateway.receipts import Receipts
from monitor.gateway.telling import Telling, TellsNobody, instance_name
from monitor.wire.topics import Topics


def telling(**settings) -> Telling:
    nowhere = Connection(bootstrap_servers="localhost:9")
    return Telling(nowhere, Topics(), "x", MemoryView(), lambda: Now(0, 0), GatewayMetrics(), **({"receipts": True, "granularity": 1000} | settings))


@pytest.mark.parametrize(("settings", "witnesses", "holds"), [
    ({}, [Receipts, Activity], True), ({"receipts": False}, [Activity], True), ({"granularity": None}, [Receipts], False),
    ({"receipts": False, "granularity": None}, [], False),
])  # fmt: skip
def test_parts_are_there_as_asked_for(settings, witnesses, holds) -> None:
    one = telling(**settings)
    assert [type(witness) for witness in one.witnesses] == witnesses
    assert (one.inflight.begin(Facts("s-1")) is not None) is holds
    # Without having begun.
    one.stop()


def test_without_kafka_nobody_is_told() -> None:
    one = TellsNobody()
    one.start()
    one.stop()
    assert (one.witnesses, one.inflight.begin(Facts("s-1"))) == ((), None)


def test_no_two_instances_have_the_same_name() -> None:
    names = {instance_name("shop") for _ in range(50)}
    assert len(names) == 50
    assert all(name.startswith("shop/") for name in names)
