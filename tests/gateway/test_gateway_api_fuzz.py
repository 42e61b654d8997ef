"""Ten thousand requests that the API's document allows, or nearly: no 5xx but the intended 503, and answers as the document has them."""

import asyncio
import contextlib
import os
import socket
import threading

import jsonschema
import pytest
import requests
import schemathesis
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from schemathesis import GenerationMode

from monitor.broker.port import LOOPBACK
from monitor.gateway.api.openapi import document
from monitor.gateway.server import Server
from tests.gateway.asking import fresh
from tests.gateway.calling import HOLDER, NOW, Log, api, client

DOCUMENT = document()
OPERATIONS = [(path, method) for path, item in DOCUMENT["paths"].items() for method in item if method != "parameters" and path != "/v1/openapi.json"]
"""The document itself takes nothing that could be varied."""
EXAMPLES = int(max(1, 10_000 / len(OPERATIONS) / 2 * float(os.environ.get("PROPERTY_FACTOR", "1"))))
SCHEMA = schemathesis.openapi.from_dict(DOCUMENT)
TOKENS = st.sampled_from([HOLDER] * 6 + [client(), client(exp=1), {}, {"Authorization": "Bearer " + "x" * 20_000}])
"""Mostly the one that gets furthest."""
EXTRA = st.dictionaries(
    st.sampled_from(["ce-specversion", "ce-id", "ce-type", "ce-source", "ce-subject", "Content-Encoding", "Accept", "Range", "X-Long"]),
    st.sampled_from(["1.0", "session.opened", "e-1", "%ff", "gzip", "*/*", "bytes=0-", "x" * 30_000]), max_size=3,
)  # fmt: skip


@pytest.fixture(scope="module")
def url():
    """A server in a thread of its own; one event in three is lost."""
    view, started, found = fresh(), threading.Event(), []
    view.expire("0", NOW)
    log = Log()

    async def serve() -> None:
        called = api(view, log=log)
        server, over = Server(called.app, LOOPBACK, 0), asyncio.Event()
        await server.start()
        found.extend([server.url, asyncio.get_running_loop(), over])
        started.set()
        try:
            await over.wait()
        finally:
            await called.hub.stop()
            await server.stop()

    thread = threading.Thread(target=lambda: asyncio.run(serve()))
    thread.start()
    assert started.wait(30)
    yield found[0], log
    found[1].call_soon_threadsafe(found[2].set)
    thread.join(30)


@pytest.fixture(scope="module")
def session():
    with requests.Session() as one:
        yield one


@pytest.mark.slow
@pytest.mark.timeout(900)
@pytest.mark.parametrize("mode", [GenerationMode.POSITIVE, GenerationMode.NEGATIVE], ids=["allowed", "nearly"])
@pytest.mark.parametrize(("path", "method"), OPERATIONS, ids=lambda part: part.strip("/").replace("/", "-"))
def test_whatever_is_sent_the_answer_is_one_of_the_document(url, session, path, method, mode) -> None:
    base, log = url
    operation = SCHEMA[path][method]
    allowed = {int(status) for status in DOCUMENT["paths"][path][method]["responses"]}
    kinds: set[int] = set()

    @settings(max_examples=EXAMPLES, deadline=None, suppress_health_check=list(HealthCheck), database=None)
    @given(operation.as_strategy(generation_mode=mode), TOKENS, EXTRA, st.sampled_from([(), (), (0,)]))
    def ask(case, token, extra, loses) -> None:
        log.loses = loses
        said = case.as_transport_kwargs(base_url=base, headers={**token, **extra})
        with session.request(**said, stream=True, allow_redirects=False, timeout=30) as answered:
            kinds.add(answered.status_code)
            # A path with other slashes, or a method of no operation, is none of the document's.
            assert answered.status_code in allowed | {400, 404, 405}
            assert answered.status_code != 503 or answered.headers["retry-after"] == "5"
            kind = answered.headers["content-type"]
            if kind == "application/problem+json":
                problem = answered.json()
                jsonschema.validate(problem, {"$ref": "#/components/schemas/Problem", "components": DOCUMENT["components"]})
                assert problem["status"] == answered.status_code
            elif kind == "text/event-stream":
                assert next(answered.iter_content(13)) == b"retry: 3000\n\n"
            elif answered.status_code == 400:
                assert kind.startswith("text/plain")  # what is no HTTP is refused before it comes to the API
            else:
                assert (answered.status_code, kind) in ((200, "application/json"), (202, "application/json"))
                schema = DOCUMENT["paths"][path][method]["responses"][str(answered.status_code)]["content"][kind]["schema"]
                jsonschema.validate(answered.json(), {**schema, "components": DOCUMENT["components"]})

    ask()
    if EXAMPLES >= 100:
        assert kinds & {200, 202} or mode is GenerationMode.NEGATIVE


@pytest.mark.parametrize("path", ["/v1/sessions/s-1", "/v1/sessions/s-1/events", "/v1/events", "/check"])
@pytest.mark.parametrize(
    "headers",
    [["X: " + "x" * 100_000], [f"X-{n}: {'x' * 7000}" for n in range(20)], ["Authorization: Bearer " + "é" * 9000], ["Last-Event-ID: " + "e" * 30_000]],
    ids=["one", "many", "token", "last-event"],
)  # fmt: skip
def test_oversized_headers_are_a_fault_of_the_request(url, path, headers) -> None:
    method = "POST" if path == "/v1/events" else "GET"
    host, port = url[0].removeprefix("http://").split(":")
    with socket.create_connection((host, int(port)), 30) as talk:
        # It answers before all has been sent.
        with contextlib.suppress(ConnectionError):
            talk.sendall("\r\n".join([f"{method} {path} HTTP/1.1", "Host: x", *headers, "", ""]).encode())
        status = int(talk.makefile("rb").readline().split()[1])
    assert status in (400, 401)
