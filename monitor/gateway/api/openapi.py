"""The API as an OpenAPI 3.1 document, as programs read it: `GET /v1/openapi.json`.

Written by hand; what events and problems look like is made from the types that read and write them. A test holds its paths against the
routes, and another asks the API whatever the document allows.
"""

import functools
from typing import Any, Final

import msgspec

from monitor.gateway.api.intake import BARE, BATCH, MOST, STRUCTURED, Published
from monitor.gateway.api.problems import ApiProblem
from monitor.gateway.api.standing import Standing
from monitor.version import VERSION
from monitor.wire.events import MAX_SESSION_ID
from monitor.wire.problem import CONTENT_TYPE
from monitor.wire.schemas import schemas
from monitor.wire.times import Instant

_COMPONENTS: Final = "#/components/schemas/"


def _hook(type_: type) -> dict[str, Any]:
    if type_ is Instant:
        return {"type": "string", "format": "date-time"}
    raise NotImplementedError


def _ref(name: str) -> dict[str, Any]:
    return {"$ref": f"{_COMPONENTS}{name}"}


def _json(schema: dict[str, Any], media: str = BARE) -> dict[str, Any]:
    return {media: {"schema": schema}}


def _answers(*names: str, **more: dict[str, Any]) -> dict[str, Any]:
    return {number.removeprefix("s"): answer for number, answer in more.items()} | {
        name: {"$ref": f"#/components/responses/{name}"} for name in names
    }


def _problem(description: str, *headers: str) -> dict[str, Any]:
    said: dict[str, Any] = {"description": description, "content": _json(_ref("Problem"), CONTENT_TYPE)}
    if headers:
        said["headers"] = {name: {"schema": {"type": "string"}} for name in headers}
    return said


_CLOUDEVENT: Final = {
    "type": "object",
    "required": ["specversion", "id", "source", "type"],
    "properties": {
        "specversion": {"const": "1.0"}, "id": {"type": "string", "minLength": 1}, "source": {"type": "string", "minLength": 1},
        "type": {"enum": ["session.opened", "session.activity", "session.reauthenticated", "session.closed"]},
        "subject": {"type": "string", "description": "The session, where the data does not name it."},
        "time": {"type": "string", "format": "date-time"}, "datacontenttype": {"const": BARE},
        "data": {"type": "object"},
    },
}  # fmt: skip
_SESSION_ID: Final = {
    "name": "id", "in": "path", "required": True, "description": "As it stands on the topics; percent-encoded.",
    "schema": {"type": "string", "minLength": 1, "maxLength": MAX_SESSION_ID, "pattern": "^[^~]"},
}  # fmt: skip
_LAST: Final = {
    "name": "Last-Event-ID", "in": "header", "required": False, "schema": {"type": "string", "pattern": "^[a-z0-9-]{1,64}$"},
    "description": "The id of the last event of an earlier feed: only what is new is told.",
}  # fmt: skip
_FEED: Final = "Server-sent events: session.expiring, session.expired, session.reinstated; comments in between."


def document() -> dict[str, Any]:
    """The document."""
    _, components = msgspec.json.schema_components((Standing, ApiProblem, Published), schema_hook=_hook, ref_template=f"{_COMPONENTS}{{name}}")
    event = {key: value for key, value in schemas()["access-event"].items() if not key.startswith("$")}
    components["Problem"] = components.pop("ApiProblem")
    return {
        "openapi": "3.1.0",
        "info": {"title": "Session Monitor: the sidecar's own API", "version": VERSION},
        "security": [{"bearer": []}],
        "paths": {
            "/v1/events": {"post": {
                "operationId": "publish", "summary": "Publish access events; all of them, or none",
                "description": "For the holder of the API's own token. Answered when the broker has acknowledged every event.",
                "requestBody": {"required": True, "content": {
                    **_json(_ref("AccessEvent")), **_json(_ref("CloudEvent"), STRUCTURED),
                    **_json({"type": "array", "maxItems": MOST, "items": _ref("CloudEvent")}, BATCH),
                }},
                "responses": _answers(
                    "400", "401", "403", "408", "413", "415", "422", "503",
                    s202={"description": "They are on the log.", "content": _json(_ref("Published"))},
                ),
            }},
            "/v1/sessions/{id}": {"parameters": [_SESSION_ID], "get": {
                "operationId": "session", "summary": "How the session stands",
                "description": "For the session's own client, and the holder of the API's own token.",
                "responses": _answers("400", "401", "403", "503", s200={"description": "So it stands.", "content": _json(_ref("Standing"))}),
            }},
            "/v1/sessions/{id}/events": {"parameters": [_SESSION_ID, _LAST], "get": {
                "operationId": "follow", "summary": "How the session stands, as it changes",
                "responses": _answers(
                    "400", "401", "403", "429", "503",
                    s200={"description": _FEED, "content": {"text/event-stream": {"schema": {"type": "string"}}}},
                ),
            }},
            "/v1/openapi.json": {"get": {
                "operationId": "openapi", "summary": "This document", "security": [],
                "responses": {"200": {"description": "It.", "content": _json({"type": "object"})}},
            }},
        },
        "components": {
            "securitySchemes": {"bearer": {"type": "http", "scheme": "bearer", "description": "The API's own token, or a token of the issuer."}},
            "schemas": {"AccessEvent": event, "CloudEvent": _CLOUDEVENT, **components},
            "responses": {
                "400": _problem("The body, or the session id, can't be used."),
                "401": _problem("No token, or one that is not taken.", "WWW-Authenticate"),
                "403": _problem("The token gives no access to this; the same whether there is such a session or not.", "WWW-Authenticate"),
                "408": _problem("The body came too slowly."),
                "413": _problem("The body, an event or the number of events is too large."),
                "415": _problem("The body is of no kind that is known here.", "Accept-Post"),
                "422": _problem("Some events can't be published, so none was; which ones, and why."),
                "429": _problem("The session has too many subscribers."),
                "503": _problem("Not now: the broker is away, the view is not loaded, or too much is asked at once.", "Retry-After"),
            },
        },
    }  # fmt: skip


@functools.cache
def encoded() -> bytes:
    """The document as it is sent."""
    return msgspec.json.encode(document())
