"""`session-monitor`: the program that the modules of this room register their verbs on.

A verb's module is imported when the verb is used: `session-monitor publish` starts without what `worker` needs.
"""

import importlib
from pathlib import Path
from types import MappingProxyType
from typing import Annotated, Any, Final

import typer
from typer.core import TyperGroup

from monitor.cli.failure import guarded
from monitor.cli.settings import PREFIX, SettingsFile, defaults_for, read_settings_file
from monitor.observe.logs import Level, LogFormat, configure_logs

NOUNS: Final = MappingProxyType(
    {
        "up": "up",
        "worker": "worker",
        "gateway": "gateway",
        "publish": "publish",
        "sessions": "sessions",
        "revoke": "acts",
        "lock": "acts",
        "unlock": "acts",
        "locks": "acts",
        "commands": "follow",
        "receipts": "receipts",
        "detect": "detect",
        "alerts": "alerts",
        "dead-letters": "dead_letters",
        "policy": "policy",
        "topics": "topics",
        "schemas": "schemas",
        "verify": "verify",
        "doctor": "doctor",
        "bench": "bench",
    }
)
"""Verb or noun -> the module of this room that registers it. The order is that of `--help`."""


class Program(TyperGroup):
    """Knows every verb by name, and imports its module when it is asked for."""

    def list_commands(self, ctx: Any) -> list[str]:
        """In the order of `NOUNS`."""
        return list(NOUNS)

    def get_command(self, ctx: Any, cmd_name: str) -> Any:
        """The verb, or None where there is none of this name."""
        if cmd_name not in self.commands and cmd_name in NOUNS:
            module = importlib.import_module(f"monitor.cli.{NOUNS[cmd_name]}")
            registered = typer.Typer()
            module.register(registered)
            self.commands.update(typer.main.get_group(registered).commands)
        return self.commands.get(cmd_name)


program = typer.Typer(
    cls=Program, name="session-monitor", no_args_is_help=True, pretty_exceptions_enable=False,
    context_settings={"auto_envvar_prefix": PREFIX, "help_option_names": ["-h", "--help"]},
)  # fmt: skip


def _version(wanted: bool) -> None:
    if wanted:
        from monitor.version import VERSION

        typer.echo(f"session-monitor {VERSION}")
        raise typer.Exit


@program.callback()
def session_monitor(
    context: typer.Context,
    config: Annotated[
        Path | None,
        typer.Option(
            help="Settings in TOML; by default session-monitor.toml of the working directory, where there is one."
        ),
    ] = None,
    log_format: Annotated[
        LogFormat, typer.Option(help="Of the log on stderr; auto: for people on a terminal, else JSON.")
    ] = LogFormat.AUTO,
    log_level: Annotated[Level, typer.Option(help="From which level on.")] = Level.INFO,
    version: Annotated[  # noqa: ARG001 - its callback does it
        bool,
        typer.Option(
            "--version", callback=_version, is_eager=True, allow_from_autoenv=False, help="Print the version."
        ),
    ] = False,
) -> None:
    """Watch every session, end it when policy says so, and prove that it ended."""
    context.obj = file = read_settings_file(config)
    # The file is known only now: what it says to the program itself is taken by hand.
    if _defaulted(context, "log_format"):
        log_format = _of_file(file, "log_format", LogFormat, log_format)
    if _defaulted(context, "log_level"):
        log_level = _of_file(file, "log_level", Level, log_level)
    configure_logs(log_format, log_level)
    verb = context.invoked_subcommand
    if verb is not None and isinstance(context.command, Program):
        command = context.command.get_command(context, verb)
        context.default_map = {verb: defaults_for(file, (verb,), command)}


def _defaulted(context: typer.Context, name: str) -> bool:
    source = context.get_parameter_source(name)
    return source is not None and source.name == "DEFAULT"


def _of_file(file: SettingsFile, name: str, kind: Any, default: Any) -> Any:
    said = next((value for key, value in file.content.items() if key.replace("-", "_") == name), default)
    try:
        return kind(said)
    except ValueError as error:
        from monitor.core.errors import InputError

        raise InputError(
            f"settings file {file.path}: {name} is {said!r}, must be one of {', '.join(kind)}"
        ) from error


def main() -> None:
    """Run the command line and exit with its code."""
    command = typer.main.get_command(program)
    guarded(lambda: command(prog_name="session-monitor"))
