"""Is there a broker? And where there is none: what is there instead, said so that one can act on it."""

import contextlib
import socket
import ssl
import time
from collections.abc import Iterator
from typing import Final

from monitor.broker.connection import Connection
from monitor.core.errors import AbsenceError

# ApiVersions v0: length, key 18, version 0, correlation id, client id "probe".
_CORRELATION: Final = (0x53_4D_0001).to_bytes(4, "big")
_BODY: Final = b"\x00\x12\x00\x00" + _CORRELATION + b"\x00\x05probe"
_REQUEST: Final = len(_BODY).to_bytes(4, "big") + _BODY


def require_broker(connection: Connection, timeout: float = 5.0) -> tuple[str, int]:
    """The first bootstrap server that speaks Kafka. Raises AbsenceError with a line for each one that doesn't.

    One round trip to the server, before any client is made: their own answers are slower and say less.
    """
    found = []
    deadline = time.monotonic() + timeout
    for host, port in connection.addresses():
        fault = probe(connection, host, port, max(0.5, deadline - time.monotonic()))
        if fault is None:
            return host, port
        found.append(f"{host}:{port} {fault}")
    raise AbsenceError("no Kafka broker: " + "; ".join(found))


def probe(connection: Connection, host: str, port: int, timeout: float) -> str | None:
    """What is wrong with the broker at this address and what to do; None where it answers as one."""
    try:
        with _connected(connection, host, port, timeout) as talk:
            talk.sendall(_REQUEST)
            answer = _read(talk, 8)
    except socket.gaierror as error:
        return f"is no known host ({error.strerror}): check the name"
    except ConnectionRefusedError:
        return "refuses connections: start the broker, or check the port (session-monitor up brings its own)"
    except ssl.SSLCertVerificationError as error:
        return f"shows a certificate that can't be trusted ({error.verify_message}): check --ssl-cafile and the host name"
    except ssl.SSLError as error:
        return f"does not speak TLS as we do ({error.reason}): check the port and --security-protocol"
    except TimeoutError:
        return f"did not answer as a Kafka broker within {timeout:.1f} s: check address, firewall and --security-protocol"
    except OSError as error:
        return f"can't be reached ({error.strerror or error}): check address and network"
    return _fault(answer, tls=connection.tls)


@contextlib.contextmanager
def _connected(connection: Connection, host: str, port: int, timeout: float) -> Iterator[socket.socket]:
    with socket.create_connection((host, port), timeout) as plain:
        if not connection.tls:
            yield plain
            return
        with connection.ssl_context().wrap_socket(plain, server_hostname=host) as wrapped:
            yield wrapped


def _read(talk: socket.socket, size: int) -> bytes:
    """Up to `size` bytes: fewer where the other side ends."""
    answer = b""
    while len(answer) < size and (more := talk.recv(size - len(answer))):
        answer += more
    return answer


def _fault(answer: bytes, *, tls: bool) -> str | None:
    if len(answer) == 8 and answer[4:] == _CORRELATION:
        return None
    if answer.startswith(b"HTTP/"):
        return "is a web server, not a Kafka broker: check the port"
    if answer[:2] == b"\x15\x03":
        return "speaks TLS: give --security-protocol SSL or SASL_SSL"
    if not answer:
        wanted = "PLAINTEXT or SASL_PLAINTEXT" if tls else "SSL or SASL_SSL"
        return (
            f"ended the connection at once: no Kafka broker, or one that wants --security-protocol {wanted}"
        )
    return f"does not speak Kafka (it answered {answer!r}): check the port"
