"""Kafka around us: how to reach it, the topics' administration, and brokers of our own for development and tests."""

from monitor.broker.connection import Connection

__all__ = ["Connection"]
