"""A JSON Schema (2020-12) for every record, made from the types that read and write it.

Records may carry members that a schema does not name: readers pass over them. The words of `type` and `reason`
in a command are those written today; a reader copes with others.
"""

from inspect import cleandoc
from typing import Any, Final, TypeAlias

import msgspec
import orjson

from monitor.core.commands import CommandType
from monitor.core.events import ACTIVITY_KINDS, EventType, Principal
from monitor.core.reasons import Reason
from monitor.wire.alerts import AlertRecord
from monitor.wire.commands import CommandRecord, Watermark
from monitor.wire.controls import ControlRecord
from monitor.wire.dead_letters import Digest
from monitor.wire.events import ALIVE, TICK, AccessEvent
from monitor.wire.examples import examples
from monitor.wire.lifecycle import LifecycleRecord
from monitor.wire.problem import Problem
from monitor.wire.receipts import Applied, Refused, Stopped
from monitor.wire.silences import SilenceRecord
from monitor.wire.times import TokenInstant

Schema: TypeAlias = dict[str, Any]

_RECORDS: Final[dict[str, type[msgspec.Struct]]] = {
    "access-event": AccessEvent,
    "source-alive": AccessEvent,
    "tick": AccessEvent,
    "command": CommandRecord,
    "watermark": Watermark,
    "control": ControlRecord,
    "receipt-applied": Applied,
    "receipt-refused": Refused,
    "receipt-stopped": Stopped,
    "lifecycle": LifecycleRecord,
    "alert": AlertRecord,
    "silence": SilenceRecord,
    "dead-letter-digest": Digest,
    "problem": Problem,
}

_INSTANT: Final[Schema] = {"type": "string", "format": "date-time"}
_SECONDS: Final[Schema] = {"type": "number", "minimum": 0, "description": "seconds since 1970, as in a JWT"}
_TOKEN_INSTANT: Final[Schema] = {"anyOf": [_INSTANT, _SECONDS]}
_NULL: Final[Schema] = {"type": "null"}

_SPECIAL: Final = {"final", "owner", "controls_to", "specversion"}
"""Members of AccessEvent that only other records have."""

_DESCRIPTIONS: Final = {
    "access-event": "What a service or gateway tells of one session.",
    "source-alive": "Every event of this source up to `time` has been sent.",
    "tick": "The owner of a partition moves its log time, and lets controls up to an offset take effect. Only the monitor writes it.",
}


def schemas() -> dict[str, Schema]:
    """Every schema, by the record's name."""
    shown = examples()
    return {name: _schema(name, type_, shown[name]) for name, type_ in _RECORDS.items()}


def files() -> dict[str, bytes]:
    """Every schema as a file: name -> bytes."""
    option = orjson.OPT_INDENT_2 | orjson.OPT_APPEND_NEWLINE
    return {f"{name}.json": orjson.dumps(schema, option=option) for name, schema in schemas().items()}


def _schema(name: str, type_: type[msgspec.Struct], shown: list[Any]) -> Schema:
    _, components = msgspec.json.schema_components((type_,), schema_hook=_hook)
    body = components.pop(type_.__name__)
    _narrow(name, body)
    body.pop("title", None)
    described = _DESCRIPTIONS.get(name) or body.pop("description", "")
    body.pop("description", None)
    properties = {key: _plain(value) for key, value in body.pop("properties").items()}
    schema: Schema = {
        "$schema": "https://json-schema.org/draft/2020-12/schema",
        "$id": f"urn:session-monitor:schema:{name}",
        "title": name,
        "description": cleandoc(described),
        **body,
        "properties": properties,
    }
    if components:
        schema["$defs"] = components
    schema["examples"] = shown
    return schema


def _hook(type_: type) -> Schema:
    return _TOKEN_INSTANT if type_ is TokenInstant else _INSTANT


def _plain(schema: Schema) -> Schema:
    """Without a default: an absent member is absent, and no value."""
    return {key: value for key, value in schema.items() if key != "default"}


def _narrow(name: str, body: Schema) -> None:
    """Say what the decoders check beyond the shape of the types."""
    properties: Schema = body["properties"]
    if name in {"access-event", "source-alive", "tick"}:
        _narrow_event(name, body)
    elif name == "command":
        properties["type"] = {"type": "string", "enum": list(CommandType)}
        properties["reason"] = {"type": "string", "enum": list(Reason)}
        properties["id"] = {"type": "string", "pattern": "^[0-9a-f]{32}$"}
        properties["epoch"] = {"type": "integer", "minimum": 0}
        body["required"] = ["type", "id", "session_id", "epoch", "reason", "effective_at", "cutoff", "reauth", "forget_after", "src", "issued_at"]
    elif name == "control":
        for member in ("id", "by", "reason"):
            properties[member] = {**properties[member], "minLength": 1}
    elif name == "silence":
        properties["id"] = {"type": "string", "pattern": "^[0-9A-Za-z._-]{1,64}$"}
        for member in ("by", "reason"):
            properties[member] = {**properties[member], "minLength": 1}
        properties["matchers"] = {**properties["matchers"], "minItems": 1}


def _narrow_event(name: str, body: Schema) -> None:
    properties: Schema = body["properties"]
    source = {"type": "string", "minLength": 1, "maxLength": 1024}
    if name == "tick":
        body["properties"] = {"type": {"const": TICK}, "owner": source, "controls_to": {"type": "integer", "minimum": -1}}
        body["required"] = ["type", "owner", "controls_to"]
        return
    if name == "source-alive":
        final = {"type": "boolean", "description": "true: the source withdraws"}
        body["properties"] = {"type": {"const": ALIVE}, "source": source, "time": _INSTANT, "final": {"anyOf": [final, _NULL]}}
        body["required"] = ["type", "source", "time"]
        return
    for member in _SPECIAL:
        del properties[member]
    words = ", ".join(ACTIVITY_KINDS)
    properties["type"] = {"type": "string", "enum": list(EventType)}
    properties["session_id"] = {**properties["session_id"], "minLength": 1, "pattern": "^[^~]"}
    properties["time"] = {"anyOf": [_INSTANT, _NULL], "description": "absent: the time at which the broker appends the record"}
    properties["auth_time"] = {"anyOf": [_INSTANT, _SECONDS, _NULL], "description": "when the principal authenticated; a whole number stands for the end of its second"}
    properties["expires"] = {"anyOf": [_INSTANT, _SECONDS, _NULL], "description": "when the credential ends by itself"}
    properties["principal"] = {"enum": [*Principal, "", None]}
    properties["activity"]["description"] = f"one of {words}; another word is a keepalive; absent: human for a user, agent for a service"
    body["required"] = ["type", "session_id"]
