"""docs/gateway.md says what the sidecar's options are and do."""

import itertools
import re
import shlex
import tomllib
from pathlib import Path

import typer

from monitor.cli.gateway import GRANULARITIES
from monitor.cli.program import program
from monitor.core.instants import MINUTE, SECOND
from monitor.gateway.backlog import FURTHEST
from monitor.gateway.claims import LARGEST_LEEWAY, LEEWAY, NO_SESSION, ClaimRules
from monitor.gateway.dispatch import DELIVERY, HELD, IN_DELIVERY, MARGIN
from monitor.gateway.metrics import FATES, GatewayMetrics
from monitor.gateway.paths import MOST_READINGS
from monitor.gateway.routes import ACTIVITIES, KEYS, parse_routes
from monitor.policy.durations import format_duration

PAGE = (Path(__file__).parents[2] / "docs" / "gateway.md").read_text()
PROGRAM = typer.main.get_command(program)
OPTIONS = {
    name: option.default
    for option in PROGRAM.get_command(PROGRAM.make_context("session-monitor", [], resilient_parsing=True), "gateway").params
    for name in (*option.opts, *option.secondary_opts)
}


def fence(language: str) -> str:
    (text,) = re.findall(rf"^```{language}\n(.*?)^```", PAGE, re.MULTILINE | re.DOTALL)
    return text


def test_every_option_that_is_named_is_there():
    named = set(re.findall(r"`(--[a-z-]+)", PAGE)) - {"--origin"}
    assert named
    assert named <= OPTIONS.keys()


def test_the_examples_are_routes():
    words = shlex.split(fence("sh"))
    routes = parse_routes(value for option, value in itertools.pairwise(words) if option == "--route")
    assert [one.pattern for one in routes.routes] == ["/v1/models/fraud*", "/v1/*", "/health"]
    assert parse_routes(tomllib.loads(fence("toml"))["gateway"]["route"]).routes[0] == routes.routes[0]


def test_the_keys_are_those_of_the_code():
    rows = re.findall(r"^\| ((?:`[a-z-]+`(?:, )?)+) \| ", PAGE.partition("## What is in a token")[0], re.MULTILINE)
    assert re.findall(r"`([a-z-]+)`", " ".join(rows)) == list(KEYS)
    assert f"to a depth of {MOST_READINGS}:" in PAGE


def test_the_defaults_are_those_of_the_code():
    assert ClaimRules("i", ("a",)).subject == OPTIONS["--subject-claim"] == "sub"
    assert OPTIONS["--service-claim"] == NO_SESSION
    assert OPTIONS["--clock-leeway"] == format_duration(LEEWAY)
    for name in ("--subject-claim", "--service-claim", "--clock-leeway"):
        assert f"| `{name}` | `{OPTIONS[name]}` |" in PAGE
    assert f"at most `{format_duration(LARGEST_LEEWAY)}`" in PAGE


def test_what_is_said_of_activity_is_so():
    assert OPTIONS["--activity-granularity"] == "1s"
    least, most = map(format_duration, GRANULARITIES)
    assert f"; `{least}` to `{most}`" in PAGE
    assert f"{IN_DELIVERY:,} on their way, and {HELD:,} before that" in PAGE
    assert (MARGIN, FURTHEST, DELIVERY) == (SECOND // 2, MINUTE, 15 * MINUTE)
    metrics = GatewayMetrics()
    names = {sample.name: set(sample.labels) for family in metrics.registry.collect() for sample in family.samples}
    for name, label in re.findall(r"^\| `(session_monitor_\w+)(?:\{(\w+)\})?`", PAGE, re.MULTILINE):
        assert names[name] == ({label} if label else set())
    assert all(f"`{fate}`" in PAGE for fate in FATES)
    assert all(f"`{kind}`" in PAGE for kind in ACTIVITIES)
