"""`Endpoint`: where a receiver listens, and one POST to it. Nothing is followed, nothing is kept open, nothing hangs.

Neither a proxy of the environment nor a redirect is heeded: what is sent goes where it was said, or nowhere.
"""

import http.client
import re
import socket
import ssl
import threading
from collections.abc import Iterator, Mapping
from contextlib import contextmanager, suppress
from copy import copy
from datetime import UTC, datetime
from email.utils import parsedate_to_datetime
from typing import Final
from urllib.parse import urlsplit

from monitor.core.errors import AbsenceError, InputError
from monitor.core.instants import SECOND, Millis
from monitor.notify.answer import Answer, Verdict, judge
from monitor.version import VERSION

TIMEOUT: Final[Millis] = 10 * SECOND
LARGEST_DETAIL: Final = 512
"""Bytes of an answer that are read: enough for people to see what was wrong."""
_SECONDS: Final = re.compile(r"[0-9]{1,9}")
_VISIBLE: Final = re.compile(r"[!-~]+")


class Endpoint:
    """A URL that takes POSTs. Thread-safe. Its path, query and credentials are in no text made of it."""

    def __init__(self, url: str, *, timeout: Millis = TIMEOUT, cafile: str = "") -> None:
        """`timeout` is for connecting and for the whole of the exchange, each. `cafile`: PEM of the authorities to trust, the system's where empty.

        Raises InputError for what is no `http` or `https` URL, AbsenceError where the authorities can't be read.
        """
        try:
            parts = urlsplit(url)
            host, port = parts.hostname, parts.port
        except ValueError:
            host, port = None, None
            parts = urlsplit("")
        if parts.scheme not in ("http", "https") or not host or port == 0 or parts.fragment or not _VISIBLE.fullmatch(url):
            raise InputError("a receiver's URL must be http://HOST[:PORT][/PATH] or https://..., without spaces or a fragment")
        if parts.username is not None or parts.password is not None:
            raise InputError(f"{host}: the receiver's URL has a name or password in it, which nobody would send; leave them out")
        if timeout <= 0:
            raise InputError(f"{host}: the receiver's timeout must be more than nothing")
        self.tls = parts.scheme == "https"
        self._host, self._port = host, port
        self._path = (parts.path or "/") + (f"?{parts.query}" if parts.query else "")
        self._timeout = timeout
        self._context = _context(cafile) if self.tls else None

    def __repr__(self) -> str:
        """Without the path: with many services it is the secret."""
        return f"Endpoint({self})"

    def __str__(self) -> str:
        """Scheme, host and port."""
        host = f"[{self._host}]" if ":" in self._host else self._host
        return f"{'https' if self.tls else 'http'}://{host}" + (f":{self._port}" if self._port else "")

    def below(self, path: str) -> "Endpoint":
        """The endpoint at this path below it."""
        base, question, query = self._path.partition("?")
        other = copy(self)
        vars(other)["_path"] = base.rstrip("/") + path + question + query
        return other

    def post(self, body: bytes, headers: Mapping[str, str]) -> Answer:
        """One attempt: a timeout for each address of the host at the most, and one for the exchange. Never raises: what goes wrong on the way is worth another one."""
        connection = self._connection()
        try:
            connection.connect()
            with _bounded(connection, self._timeout):
                connection.request("POST", self._path, body, {"User-Agent": f"session-monitor/{VERSION}", "Content-Type": "application/json", **headers})
                response = connection.getresponse()
                said = b"" if response.status < 300 else response.read(LARGEST_DETAIL)
                return judge(response.status, readable(said), waiting_time(response.getheader("Retry-After")))
        except ssl.SSLCertVerificationError as error:
            return Answer(Verdict.AGAIN, f"the certificate is not trusted: {error.verify_message}")
        except (OSError, http.client.HTTPException, ValueError) as error:
            # ValueError: a socket that was closed under a read, or a name that is no host name.
            return Answer(Verdict.AGAIN, _explain(error))
        finally:
            connection.close()

    def _connection(self) -> http.client.HTTPConnection:
        seconds = self._timeout / SECOND
        if self._context is not None:
            return http.client.HTTPSConnection(self._host, self._port, timeout=seconds, context=self._context)
        return http.client.HTTPConnection(self._host, self._port, timeout=seconds)


def waiting_time(said: str | None, now: datetime | None = None) -> Millis | None:
    """What `Retry-After` asks for (RFC 9110 section 10.2.3): seconds, or until a date; None where it says neither."""
    if said is None:
        return None
    if _SECONDS.fullmatch(said.strip()):
        return int(said) * SECOND
    try:
        until = parsedate_to_datetime(said)
    except ValueError:
        return None
    # Without a zone it is in none but GMT.
    until = until if until.tzinfo else until.replace(tzinfo=UTC)
    return max(0, round((until - (now or datetime.now(UTC))).total_seconds() * SECOND))


def readable(said: bytes) -> str:
    """The beginning of an answer, on one line and without what a terminal would obey."""
    text = " ".join(said.decode(errors="replace").split())
    return "".join(one if one.isprintable() else "\N{REPLACEMENT CHARACTER}" for one in text)


@contextmanager
def _bounded(connection: http.client.HTTPConnection, time: Millis) -> Iterator[None]:
    """Cut the exchange after so long: the socket's own timeout begins anew with each byte."""
    line = connection.sock
    over = threading.Event()

    def cut() -> None:
        over.set()
        with suppress(OSError):  # closed already
            line.shutdown(socket.SHUT_RDWR)

    timer = threading.Timer(time / SECOND, cut)
    timer.daemon = True
    timer.start()
    try:
        yield
    except (OSError, http.client.HTTPException, ValueError):
        if over.is_set():
            raise TimeoutError from None
        raise
    finally:
        timer.cancel()


def _context(cafile: str) -> ssl.SSLContext:
    try:
        return ssl.create_default_context(cafile=cafile or None)
    except OSError as error:
        raise AbsenceError(f"the authorities in {cafile} can't be read ({error}): give a PEM file of certificates") from error


def _explain(error: Exception) -> str:
    if isinstance(error, TimeoutError):
        return "it did not answer in time"
    if isinstance(error, OSError) and error.strerror:
        return error.strerror
    return type(error).__name__
