"""Who appears in the demo: people, services and agents, with their habits."""

from typing import Final

import msgspec

from monitor.core.events import Principal
from monitor.core.instants import Millis


class Persona(msgspec.Struct, frozen=True):
    """One principal: what its sessions say of themselves, and how fast it works."""

    subject: str
    roles: tuple[str, ...]
    tenant: str
    workload: str
    routes: tuple[str, ...]
    classification: str
    client_ip: str
    user_agent: str
    principal: Principal = Principal.USER
    rhythm: tuple[Millis, Millis] = (700, 2200)
    """The shortest and the longest wait between two uses."""


_BROWSER: Final = "Mozilla/5.0 (X11; Linux x86_64) Firefox/140.0"
_NOTEBOOK: Final = "jupyter/4.4"
_SDK: Final = "acme-sdk/3.1"

PEOPLE: Final = (
    Persona("alice@example.com", ("analyst",), "acme", "console", ("/app/reports", "/v1/datasets/sales"), "internal", "10.1.0.11", _BROWSER),
    Persona("bob@example.com", ("analyst",), "acme", "inference", ("/v1/models/fraud", "/v1/models/churn"), "confidential", "10.1.0.12", _NOTEBOOK),
    Persona("carol@example.com", ("admin",), "acme", "console", ("/admin/users", "/admin/keys"), "confidential", "10.1.0.13", _BROWSER),
    Persona("dave@example.com", ("engineer",), "acme", "training", ("/v1/jobs",), "internal", "10.1.0.14", _SDK),
    Persona("erin@globex.example", ("analyst", "auditor"), "globex", "console", ("/app/audit",), "restricted", "10.2.0.21", _BROWSER),
    Persona("frank@globex.example", ("support",), "globex", "console", ("/app/tickets",), "public", "10.2.0.22", _BROWSER),
    Persona("grace@globex.example", ("researcher",), "globex", "inference", ("/v1/models/triage",), "restricted", "10.2.0.23", _NOTEBOOK),
    Persona("heidi@example.com", ("engineer",), "acme", "console", ("/app/pipelines",), "internal", "10.1.0.15", _BROWSER),
)  # fmt: skip

SERVICES: Final = (
    Persona("svc-etl", ("loader",), "acme", "batch", ("/v1/datasets/raw",), "internal", "10.9.0.1", _SDK, Principal.SERVICE, (400, 900)),
    Persona("svc-scoring", ("scorer",), "acme", "inference", ("/v1/models/fraud",), "confidential", "10.9.0.2", _SDK, Principal.SERVICE, (300, 700)),
    Persona("svc-reports", ("reader",), "globex", "batch", ("/v1/datasets/sales",), "internal", "10.9.0.3", _SDK, Principal.SERVICE, (500, 1200)),
)  # fmt: skip

AGENTS: Final = (
    Persona("agent-research", ("agent",), "acme", "agent-run", ("/v1/tools/search", "/v1/models/planner"), "internal", "10.9.1.1", _SDK, Principal.SERVICE, (600, 1600)),
    Persona("agent-triage", ("agent",), "globex", "agent-run", ("/v1/tools/tickets",), "confidential", "10.9.1.2", _SDK, Principal.SERVICE, (600, 1600)),
)  # fmt: skip
