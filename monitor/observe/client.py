"""Asks a worker's sessions API, as the command line does."""

import http.client
import time
from collections.abc import Iterator, Mapping
from email.message import Message
from typing import IO, Final, TypeVar
from urllib.error import HTTPError
from urllib.parse import quote, urlencode, urlsplit
from urllib.request import HTTPRedirectHandler, ProxyHandler, Request, build_opener

import msgspec

from monitor.core.errors import AbsenceError, InputError
from monitor.observe.views import Matches, PartitionList, SessionDetail, SessionPage, SessionRow
from monitor.wire.bad_record import BadRecord
from monitor.wire.codec import reader

SECONDS: Final = 5.0
LARGEST: Final = 16 * 1024 * 1024
TRIES: Final = 3

_T = TypeVar("_T")
_PAGE: Final = reader(SessionPage)
_DETAIL: Final = reader(SessionDetail)
_MATCHES: Final = reader(Matches)
_PARTITIONS: Final = reader(PartitionList)


class _Problem(msgspec.Struct):
    detail: str = ""


class _NoRedirect(HTTPRedirectHandler):
    """An API that sends us elsewhere is not ours: the token would go along."""

    def redirect_request(
        self, req: Request, fp: IO[bytes], code: int, msg: str, headers: Message, newurl: str
    ) -> None:  # fmt: skip
        """None at all."""


class WorkerClient:
    """One worker. Raises AbsenceError where it does not answer, InputError where it refuses."""

    def __init__(self, url: str, token: str, timeout: float = SECONDS) -> None:
        """`url` as the worker tells it. The token goes to this address and nowhere else."""
        if urlsplit(url).scheme not in {"http", "https"} or not urlsplit(url).hostname:
            raise InputError(f"{url!r} is no worker's address: it begins with http:// or https://")
        self.url = url.rstrip("/")
        self._token = token
        self._timeout = timeout
        # Workers are on this machine, or named by their operator: a proxy from the environment is none of ours.
        self._open = build_opener(ProxyHandler({}), _NoRedirect()).open

    def sessions(self, parameters: Mapping[str, str]) -> Iterator[SessionRow]:
        """Every session of this worker that matches, page by page."""
        cursor: str | None = None
        while True:
            page = self._get("/v1/sessions", {**parameters, **({"cursor": cursor} if cursor else {})}, _PAGE)
            yield from page.sessions
            cursor = page.cursor
            if cursor is None:
                return

    def session(self, session_id: str) -> SessionDetail | None:
        """One session, or None where this worker does not hold it."""
        # Dots too: "." and ".." alone would be taken for steps on the way.
        path = quote(session_id, safe="").replace(".", "%2E")
        try:
            return self._get(f"/v1/sessions/{path}", {}, _DETAIL)
        except LookupError:
            return None

    def matches(self, parameters: Mapping[str, str]) -> Matches:
        """How many match."""
        return self._get("/v1/matches", parameters, _MATCHES)

    def partitions(self) -> PartitionList:
        """What it owns."""
        return self._get("/v1/partitions", {}, _PARTITIONS)

    def _get(self, path: str, parameters: Mapping[str, str], decoder: msgspec.json.Decoder[_T]) -> _T:
        url = f"{self.url}{path}" + (f"?{urlencode(parameters)}" if parameters else "")
        request = Request(url, headers={"Authorization": f"Bearer {self._token}"})  # noqa: S310 - the scheme was checked
        for attempt in range(1, TRIES + 1):
            try:
                with self._open(request, timeout=self._timeout) as answer:
                    return decoder.decode(answer.read(LARGEST))
            except HTTPError as error:
                with error:
                    if error.code == 503 and attempt < TRIES:
                        time.sleep(0.2 * attempt)
                        continue
                    raise self._refused(error) from None
            except (OSError, http.client.HTTPException) as error:
                reason = getattr(error, "reason", error)
                raise AbsenceError(f"the worker at {self.url} does not answer: {reason}") from error
            except (msgspec.MsgspecError, BadRecord) as error:
                raise AbsenceError(
                    f"what answers at {self.url} is no worker of this version: {error}"
                ) from error
        raise AssertionError

    def _refused(self, error: HTTPError) -> Exception:
        try:
            detail = msgspec.json.decode(error.read(LARGEST), type=_Problem).detail
        except (msgspec.MsgspecError, OSError):
            detail = ""
        if error.code == 401:
            return InputError(
                f"the worker at {self.url} does not know this token: run as the user who runs the worker, "
                "or give its token (SESSION_MONITOR_TOKEN)"
            )
        if error.code == 404 and detail:
            return LookupError(detail)
        if error.code in {400, 410}:
            return InputError(f"the worker at {self.url} refuses: {detail}")
        return AbsenceError(f"the worker at {self.url} answers {error.code}: {detail or error.reason}")
