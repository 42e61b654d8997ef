"""Gateways: who is asking, the view of what has ended, the decision about a request, and what a refused client is told."""

from monitor.gateway.decide import Settings, check
from monitor.gateway.embedding import Gateway
from monitor.gateway.facts import Facts, Now, Posture, WithoutSession
from monitor.gateway.memory import MemoryView
from monitor.gateway.verdict import Outcome, Verdict
from monitor.gateway.view import View

__all__ = ["Facts", "Gateway", "MemoryView", "Now", "Outcome", "Posture", "Settings", "Verdict", "View", "WithoutSession", "check"]
