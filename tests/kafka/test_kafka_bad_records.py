"""Bad records on Apache Kafka: each is put aside as it came, and stops nothing."""

from pathlib import Path

import pytest

from tests.bad_input import play

pytestmark = [pytest.mark.kafka, pytest.mark.slow, pytest.mark.timeout(180)]


def test_bad_records_are_put_aside_and_stop_nothing(kafka_topics, tmp_path: Path) -> None:
    play(*kafka_topics, tmp_path)
