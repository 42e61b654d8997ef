"""Session Monitor: watches every session from its access events, ends it when policy says so, and proves it."""

from monitor.version import VERSION

__all__ = ["VERSION"]
