"""The commands people type: one module per noun."""

from monitor.cli.program import main

__all__ = ["main"]
