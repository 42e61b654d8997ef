"""Ports of this machine: which are free, who holds the others."""

import socket
from typing import Final

from monitor.core.errors import AbsenceError

LOOPBACK: Final = "127.0.0.1"


def free_port() -> int:
    """A port that nobody listens on now. Somebody may a moment later: try again then."""
    with socket.socket() as probe:
        probe.bind((LOOPBACK, 0))
        return int(probe.getsockname()[1])


def require_free(port: int, what: str) -> None:
    """Raise AbsenceError where `port` is taken; `what` is who wanted it."""
    with socket.socket() as probe:
        # As servers do: connections of an earlier one that still linger are no hindrance.
        probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            probe.bind((LOOPBACK, port))
        except OSError as error:
            raise AbsenceError(
                f"{what}: port {port} of {LOOPBACK} can't be had ({error.strerror}): end what listens there,"
                " or choose another port (0: any free one)"
            ) from error
