"""What is wrong, or doubtful, in a policy: a message and the place it speaks of."""

from collections.abc import Iterable
from enum import StrEnum

import msgspec

from monitor.core.errors import InputError


class Severity(StrEnum):
    """Errors keep a policy from being used; warnings are told by `policy check` alone."""

    ERROR = "error"
    WARNING = "warning"


class Finding(msgspec.Struct, frozen=True):
    """One thing found. Line and column count from 1."""

    line: int
    column: int
    message: str
    severity: Severity = Severity.ERROR


class PolicyError(InputError):
    """A policy (or a file of cases) that can't be used: everything that is wrong with it, in order of place."""

    def __init__(self, name: str, findings: Iterable[Finding]) -> None:
        """`name` is the file's name as its author knows it."""
        self.name = name
        self.findings = tuple(sorted(findings, key=lambda finding: (finding.line, finding.column)))
        super().__init__(
            "\n".join(f"{name}:{found.line}:{found.column}: {found.message}" for found in self.findings)
        )
