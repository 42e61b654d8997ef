"""The schemas on disk are those of the types; their examples are valid and are read by the decoders."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import orjson
import pytest
import typer
from jsonschema import Draft202012Validator, FormatChecker
from typer.testing import CliRunner

from monitor.cli.schemas import register
from monitor.wire.alerts import decode_alert
from monitor.wire.commands import decode_command, decode_watermark
from monitor.wire.controls import decode_control
from monitor.wire.events import decode_record
from monitor.wire.lifecycle import decode_lifecycle
from monitor.wire.receipts import decode_receipt
from monitor.wire.schemas import files, schemas
from monitor.wire.silences import decode_silence
from tests.data.bad_records import bad_records

ROOT = Path(__file__).parents[2]
SCHEMAS = schemas()
EXAMPLES = [(name, example) for name, schema in SCHEMAS.items() for example in schema["examples"]]
DECODERS: dict[str, Callable[[bytes], object]] = {
    "access-event": lambda value: decode_record(value, (), None, 1_795_500_000_000),
    "source-alive": lambda value: decode_record(value, (), None, 1_795_500_000_000),
    "tick": lambda value: decode_record(value, (), b"~tick", 1_795_500_000_000),
    "command": decode_command,
    "watermark": decode_watermark,
    "control": lambda value: decode_control(value, offset=0, appended=0),
    "receipt-applied": decode_receipt,
    "receipt-refused": decode_receipt,
    "receipt-stopped": decode_receipt,
    "lifecycle": decode_lifecycle,
    "alert": decode_alert,
    "silence": decode_silence,
}


def validator(name: str) -> Draft202012Validator:
    return Draft202012Validator(SCHEMAS[name], format_checker=FormatChecker())


@pytest.mark.parametrize("name", SCHEMAS)
def test_each_is_a_schema_with_an_id_and_examples(name: str) -> None:
    Draft202012Validator.check_schema(SCHEMAS[name])
    assert SCHEMAS[name]["$id"] == f"urn:session-monitor:schema:{name}"
    assert SCHEMAS[name]["examples"]
    assert SCHEMAS[name]["description"]


@pytest.mark.parametrize(("name", "example"), EXAMPLES)
def test_an_example_is_valid_and_is_read(name: str, example: Any) -> None:
    validator(name).validate(example)
    if name in DECODERS:
        DECODERS[name](orjson.dumps(example))


@pytest.mark.parametrize(("name", "example"), EXAMPLES)
def test_what_is_required_is_required(name: str, example: dict[str, Any]) -> None:
    for member in SCHEMAS[name]["required"]:
        assert not validator(name).is_valid({key: value for key, value in example.items() if key != member})


@pytest.mark.parametrize("record", [vector for vector in map(orjson.loads, (ROOT / "tests/data/access_events.ndjson").read_bytes().splitlines())
    if "headers" not in vector and "specversion" not in (vector["record"] or {})], ids=lambda v: v["name"].replace(" ", "-"))  # fmt: skip
def test_the_golden_events_are_valid(record: dict[str, Any]) -> None:
    name = {"Event": "access-event", "SourceAlive": "source-alive", "Tick": "tick"}[record["expected"]["kind"]]
    validator(name).validate(record["record"])


def test_the_schema_refuses_what_the_decoder_refuses_by_shape() -> None:
    shapes = {"missing_field", "wrong_type", "too_long", "not_an_object", "unknown_type"}
    cases = [case for case in bad_records() if case.reason in shapes and not case.headers and "CloudEvent" not in case.name]
    assert len(cases) > 40
    for case in cases:
        assert case.value is not None
        value = orjson.loads(case.value)
        for name in ("access-event", "source-alive", "tick"):
            assert not validator(name).is_valid(value), case.name


@pytest.fixture(scope="module")
def program() -> typer.Typer:
    app = typer.Typer()
    app.callback()(lambda: None)
    register(app)
    return app


def test_the_schemas_on_disk_are_those_of_the_types() -> None:
    assert {path.name: path.read_bytes() for path in (ROOT / "schemas").glob("*.json")} == files()


def test_write_then_check(program: typer.Typer, tmp_path: Path) -> None:
    run = CliRunner().invoke
    folder = str(tmp_path / "new")
    assert run(program, ["schemas", "check", "--dir", folder]).exit_code == 1
    assert run(program, ["schemas", "write", "--dir", folder]).exit_code == 0
    assert run(program, ["schemas", "check", "--dir", folder]).exit_code == 0


def test_check_names_what_is_stale_missing_or_too_much(program: typer.Typer, tmp_path: Path) -> None:
    run = CliRunner().invoke
    run(program, ["schemas", "write", "--dir", str(tmp_path)])
    tick = tmp_path / "tick.json"
    tick.write_text(tick.read_text().replace("owner", "possessor"))
    (tmp_path / "alert.json").unlink()
    (tmp_path / "gone.json").write_text("{}")
    result = run(program, ["schemas", "check", "--dir", str(tmp_path)])
    assert result.exit_code == 1
    for text in ("tick.json is stale", "possessor", "alert.json is missing", "gone.json belongs to no record", "schemas write"):
        assert text in result.stderr
    run(program, ["schemas", "write", "--dir", str(tmp_path)])
    assert run(program, ["schemas", "check", "--dir", str(tmp_path)]).exit_code == 0
