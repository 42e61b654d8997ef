"""The sidecar's own API, `/v1/*`: sessions as their clients may see them, and events from any language."""

from monitor.gateway.api.app import Api
from monitor.gateway.api.hub import Hub
from monitor.gateway.api.intake import Intake

__all__ = ["Api", "Hub", "Intake"]
