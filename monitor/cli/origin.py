"""Where each setting comes from: option, environment, file or default."""

from collections.abc import Iterator
from typing import Any, Final

import typer

from monitor.cli.settings import ROOT, SHARED, SettingsFile, defaults_for

_ORIGINS: Final = {
    "COMMANDLINE": "option",
    "ENVIRONMENT": "environment",
    "DEFAULT_MAP": "file",
    "DEFAULT": "default",
}
_SECRET_ENDINGS: Final = ("password", "token")


def origins(context: typer.Context) -> list[dict[str, Any]]:
    """A row for each setting of the program and of all verbs; of a single verb's own, those that are not the default."""
    root = context.find_root()
    file = root.obj if isinstance(root.obj, SettingsFile) else SettingsFile()
    rows = [_row("", one, root, file) for one in root.command.params if one.name in (*ROOT, "config")]
    rows += [_row("", one, context, file) for one in context.command.params if one.name in SHARED]
    program: Any = root.command
    for name in program.list_commands(root):
        command = program.get_command(root, name)
        if command is not None:
            rows += _of_verb(command, (name,), root, file, defaults_for(file, (name,), command))
    return rows


def _of_verb(
    command: Any, path: tuple[str, ...], parent: Any, file: SettingsFile, defaults: dict[str, Any]
) -> Iterator[dict[str, Any]]:
    # Resilient: nothing runs, nothing is required, and what can't be read is left for the verb itself to refuse.
    with command.make_context(
        path[-1], [], parent=parent, resilient_parsing=True, default_map=defaults
    ) as context:
        for one in command.params:
            if one.name not in SHARED and _source(context, one.name) not in ("DEFAULT", ""):
                yield _row(" ".join(path), one, context, file)
        for name, verb in getattr(command, "commands", {}).items():
            yield from _of_verb(verb, (*path, name), context, file, defaults.get(name, {}))


def _source(context: Any, name: str) -> str:
    source = context.get_parameter_source(name)
    return "" if source is None else str(source.name)


def _row(verb: str, option: Any, context: Any, file: SettingsFile) -> dict[str, Any]:
    source = _source(context, option.name)
    value = context.params.get(option.name)
    where = ""
    if not verb and option.name in ROOT and source == "DEFAULT" and option.name in file.content:
        source, value = "DEFAULT_MAP", file.content[option.name]
    if source == "DEFAULT_MAP":
        where = str(file.path)
    elif source == "ENVIRONMENT":
        where = str(option.envvar or f"{context.auto_envvar_prefix}_{option.name.upper()}")
    if option.name.endswith(_SECRET_ENDINGS) and value:
        value = "***"
    return {
        "verb": verb, "setting": max(option.opts, key=len), "value": value, "origin": _ORIGINS.get(source, source), "where": where,
    }  # fmt: skip
