"""Seeded traffic with limits of seconds: the monitor at work, for people who have no traffic of their own yet."""

from monitor.demo.player import Player
from monitor.demo.traffic import POLICY, Act, traffic

__all__ = ["POLICY", "Act", "Player", "traffic"]
