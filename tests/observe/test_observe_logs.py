"""Logs: an event name, fields, no secrets, and nothing that breaks a line."""

import io
import json
import logging

import pytest

from monitor.observe.logs import Human, JsonLines, Level, LogFormat, configure_logs


def line(formatter, message, *args, name="monitor.x", extra=None, error=None):
    caught = None if error is None else (type(error), error, error.__traceback__)
    record = logging.getLogger(name).makeRecord(
        name, logging.WARNING, __file__, 1, message, args, caught, extra=extra
    )
    return formatter.format(record)


def test_an_event_and_its_fields():
    said = json.loads(line(JsonLines(), "policy_differs", extra={"file": "a", "n": 3}))
    assert said.pop("time").endswith("Z")
    assert said == {"level": "warning", "event": "policy_differs", "logger": "monitor.x", "file": "a", "n": 3}


def test_what_libraries_say_is_carried():
    said = json.loads(line(JsonLines(), "joined %s in %d ms", "g", 3, name="aiokafka.group"))
    assert (said["event"], said["message"], said["library"]) == (
        "library_message",
        "joined g in 3 ms",
        "aiokafka",
    )


@pytest.mark.parametrize("formatter", [JsonLines(), Human()])
def test_secrets_are_hidden(formatter):
    fields = {"sasl_password": "hunter2", "api_token": "hunter2", "Authorization": "hunter2"}
    said = line(formatter, "connected", extra=fields)
    assert "hunter2" not in said
    assert said.count("***") == 3


@pytest.mark.parametrize(
    "value", [b"\xff", 1 << 80, {1: 2}, object(), "a\nb\x1b[2J", "\ud800", {"x": {1, 2}}]
)
@pytest.mark.parametrize("formatter", [JsonLines(), Human()])
def test_any_value_gives_one_line(formatter, value):
    said = line(formatter, "odd_value", extra={"value": value})
    assert "\n" not in said
    assert "\x1b" not in said
    assert "odd_value" in said
    if isinstance(formatter, JsonLines):
        assert json.loads(said)["event"] == "odd_value"


def test_a_field_never_takes_the_place_of_the_event():
    assert (
        json.loads(line(JsonLines(), "the_event", extra={"event": "x", "level": "y"}))["event"] == "the_event"
    )


def test_an_exception_is_one_field():
    try:
        int("why")
    except ValueError as error:
        said = line(JsonLines(), "it_failed", error=error)
    assert "ValueError: invalid literal" in json.loads(said)["exception"]


def test_a_broken_message_is_still_a_line():
    assert json.loads(line(JsonLines(), "%d apples", "no number"))["event"] == "library_message"


def test_the_process_logs_to_one_place():
    root = logging.getLogger()
    handlers, level, noisy = root.handlers[:], root.level, logging.getLogger("aiokafka").level
    try:
        stream = io.StringIO()
        configure_logs(LogFormat.JSON, Level.INFO, io.StringIO())
        configure_logs(LogFormat.AUTO, Level.INFO, stream)
        logging.getLogger("monitor.y").info("it_runs", extra={"port": 1})
        logging.getLogger("monitor.y").debug("not_shown")
        logging.getLogger("aiokafka.z").info("chatter")
        logging.getLogger("aiokafka.z").warning("worth it")
        assert [json.loads(one)["event"] for one in stream.getvalue().splitlines()] == [
            "it_runs",
            "library_message",
        ]
    finally:
        root.handlers[:] = handlers
        root.setLevel(level)
        for name in ("kafka", "aiokafka", "faust", "mode"):
            logging.getLogger(name).setLevel(noisy)
        logging.captureWarnings(False)
