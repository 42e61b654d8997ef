"""How verbs fail: one clear line on stderr, and an exit code that a script can act on."""

import sys
import traceback
from collections.abc import Callable
from enum import IntEnum

from monitor.cli.output import hint
from monitor.core.errors import AbsenceError, InputError, InvariantError, MonitorError


class ExitCode(IntEnum):
    """What the program says to the shell."""

    OK = 0
    FAILURE = 1
    USAGE = 2
    NOT_FOUND = 3
    REFUSED = 4


class NotFound(MonitorError):  # noqa: N818 - what it says, as the shell shows it
    """What was named is not there. Exit 3."""


class Refused(MonitorError):  # noqa: N818
    """A policy or a check says no. Exit 4."""


_CODES: tuple[tuple[type[MonitorError], ExitCode], ...] = (
    (InputError, ExitCode.USAGE),
    (NotFound, ExitCode.NOT_FOUND),
    (Refused, ExitCode.REFUSED),
    (AbsenceError, ExitCode.FAILURE),
    (InvariantError, ExitCode.FAILURE),
)


def exit_code(error: MonitorError) -> ExitCode:
    """What the program ends with."""
    return next((code for kind, code in _CODES if isinstance(error, kind)), ExitCode.FAILURE)


def guarded(run: Callable[[], object], *, traced: bool = False) -> None:
    """Run it; turn an error of ours into its line and code. Other exceptions are defects and pass with their trace.

    `traced` prints where it came from too.
    """
    try:
        run()
    except MonitorError as error:
        if traced:
            traceback.print_exc()
        hint(f"error: {error}")
        if isinstance(error, InvariantError):
            hint("this is a defect of Session Monitor: please report it, with the lines above and the log")
        sys.exit(exit_code(error))
