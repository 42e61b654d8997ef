"""Every test here runs on a real Apache Kafka."""

import pytest


@pytest.fixture
def kafka_topics(kafka, own_topics):
    """Address and prefix of topics that belong to this test; also `.connection` and `.topics`."""
    return own_topics(kafka)


@pytest.fixture
def topics(kafka_topics):
    """The same, under the name that a test uses in either world."""
    return kafka_topics
