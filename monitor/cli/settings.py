"""Where settings come from: an option, else the environment (SESSION_MONITOR_...), else a TOML file, else a default.

Names are the same everywhere: `--topic-prefix`, `SESSION_MONITOR_TOPIC_PREFIX`, `topic_prefix = "..."` at the top of
the file. What belongs to one verb stands in its section: `[worker]`, `[policy.check]`; in the environment it carries
the verb: `SESSION_MONITOR_WORKER_PROCESSES`.
"""

import functools
import inspect
import tomllib
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Annotated, Any, Final

import msgspec
import typer

from monitor.broker.connection import MECHANISMS, PROTOCOLS, Connection
from monitor.core.errors import InputError
from monitor.wire.topics import Topics

PREFIX: Final = "SESSION_MONITOR"
DEFAULT_FILE: Final = Path("session-monitor.toml")
_PANEL: Final = "Broker and topics"


class Installation(msgspec.Struct, frozen=True):
    """Which Session Monitor is meant: the brokers, and the topics on them."""

    connection: Connection
    topics: Topics


def _option(*names: str, text: str) -> Any:
    name = names[0].split("/")[0].removeprefix("--").replace("-", "_")
    return typer.Option(*names, envvar=f"{PREFIX}_{name.upper()}", help=text, rich_help_panel=_PANEL)


SHARED: Final[Mapping[str, tuple[Any, Any]]] = {
    "bootstrap_servers": (
        Annotated[str, _option("--bootstrap-servers", text="Where the brokers are: host:port, several with commas.")],
        "localhost:9092",
    ),
    "security_protocol": (
        Annotated[str, _option("--security-protocol", text=f"One of {', '.join(PROTOCOLS)}.")], "PLAINTEXT",
    ),
    "sasl_mechanism": (Annotated[str, _option("--sasl-mechanism", text=f"One of {', '.join(MECHANISMS)}.")], "PLAIN"),
    "sasl_username": (Annotated[str, _option("--sasl-username", text="Who we are to the brokers.")], ""),
    "sasl_password": (
        Annotated[str, _option("--sasl-password", text="Better given by file: options are seen by others on the machine.")], "",
    ),
    "sasl_password_file": (Annotated[str, _option("--sasl-password-file", text="Holds the password.")], ""),
    "ssl_cafile": (Annotated[str, _option("--ssl-cafile", text="PEM of the authorities to trust; else the system's.")], ""),
    "ssl_certfile": (Annotated[str, _option("--ssl-certfile", text="PEM of our own certificate.")], ""),
    "ssl_keyfile": (Annotated[str, _option("--ssl-keyfile", text="PEM of its key.")], ""),
    "ssl_key_password": (Annotated[str, _option("--ssl-key-password", text="Of the key; better given by file.")], ""),
    "ssl_key_password_file": (Annotated[str, _option("--ssl-key-password-file", text="Holds the key's password.")], ""),
    "ssl_check_hostname": (
        Annotated[bool, _option("--ssl-check-hostname/--no-ssl-check-hostname", text="Whether the certificate must name the host.")],
        True,
    ),
    "topic_prefix": (Annotated[str, _option("--topic-prefix", text="Stands before the topics' names.")], ""),
    "partitions": (
        Annotated[int, typer.Option(
            "--partitions", min=1, max=10_000, envvar=f"{PREFIX}_PARTITIONS", rich_help_panel=_PANEL,
            help="Of access-events, session-commands and the changelog.",
        )],
        8,
    ),
    "app_id": (Annotated[str, _option("--app-id", text="Names the consumer group and the changelog.")], "session-monitor"),
}  # fmt: skip
"""What every verb that talks to a broker takes, with its default."""

ROOT: Final = ("log_format", "log_level")
"""What the program itself takes."""


def takes_installation(verb: Callable[..., Any]) -> Callable[..., Any]:
    """Give the verb the options of `SHARED` in place of its parameter `installation`."""
    signature = inspect.signature(verb)
    own = [one for one in signature.parameters.values() if one.name != "installation"]
    added = [
        inspect.Parameter(name, inspect.Parameter.KEYWORD_ONLY, default=default, annotation=annotation)
        for name, (annotation, default) in SHARED.items()
    ]

    @functools.wraps(verb)
    def wrapped(**given: Any) -> Any:
        shared = {name: given.pop(name) for name in SHARED}
        return verb(installation=installation(**shared), **given)

    parameters = [one.replace(kind=inspect.Parameter.KEYWORD_ONLY) for one in own] + added
    # Typer reads the signature and the annotations, each for itself; following __wrapped__ it would find the verb's own.
    del wrapped.__wrapped__
    wrapped.__signature__ = signature.replace(parameters=parameters)  # type: ignore[attr-defined]
    wrapped.__annotations__ = {one.name: one.annotation for one in parameters} | {"return": None}
    return wrapped


def installation(
    *, topic_prefix: str, partitions: int, app_id: str, sasl_password: str, sasl_password_file: str,
    ssl_key_password: str, ssl_key_password_file: str, **others: Any,
) -> Installation:  # fmt: skip
    """The installation that these settings describe. Raises InputError for what can't be."""
    connection = Connection(
        sasl_password=read_secret("sasl-password", sasl_password, sasl_password_file),
        ssl_key_password=read_secret("ssl-key-password", ssl_key_password, ssl_key_password_file),
        **others,
    )
    return Installation(connection, Topics(topic_prefix, partitions, app_id))


def read_secret(name: str, value: str, file: str) -> str:
    """The secret, given as it is or by the file that holds it (a last line break is none of it)."""
    if value and file:
        raise InputError(f"--{name} and --{name}-file are both given: give one")
    if not file:
        return value
    try:
        return Path(file).read_text(encoding="utf-8").rstrip("\r\n")
    except (OSError, UnicodeDecodeError) as error:
        raise InputError(f"--{name}-file {file} can't be read: {error}") from error


class SettingsFile(msgspec.Struct, frozen=True):
    """A TOML file: where it is, and what it says. Without a path: none."""

    path: Path | None = None
    content: dict[str, Any] = {}


def read_settings_file(named: Path | None) -> SettingsFile:
    """The file that is named, or the one in the working directory, or none. Raises InputError for a bad one."""
    path = named or DEFAULT_FILE
    try:
        with path.open("rb") as file:
            return SettingsFile(path, tomllib.load(file))
    except FileNotFoundError as error:
        if named is None:
            return SettingsFile()
        raise InputError(f"settings file {path} is not there: correct --config or {PREFIX}_CONFIG") from error
    except (tomllib.TOMLDecodeError, UnicodeDecodeError) as error:
        raise InputError(f"settings file {path} is not TOML: {error}") from error
    except OSError as error:
        raise InputError(f"settings file {path} can't be read: {error.strerror}") from error


def defaults_for(file: SettingsFile, path: tuple[str, ...], command: Any) -> dict[str, Any]:
    """What the file says to one verb (or noun, with its verbs), in the form in which a click context takes it.

    Raises InputError for a key that nobody would read.
    """
    shared = {
        key.replace("-", "_"): value for key, value in file.content.items() if not isinstance(value, dict)
    }
    if unknown := shared.keys() - SHARED.keys() - set(ROOT):
        raise InputError(
            f"settings file {file.path}: {min(unknown)!r} is no setting of all verbs;"
            " what belongs to one verb stands in its section, such as [worker]"
        )
    section: Any = file.content
    for name in path:
        section = section.get(name, {})
        if not isinstance(section, dict):
            raise InputError(
                f"settings file {file.path}: {'.'.join(path)!r} must be a section: [{'.'.join(path)}]"
            )
    return _defaults(file, path, command, shared, section)


def _defaults(
    file: SettingsFile,
    path: tuple[str, ...],
    command: Any,
    shared: dict[str, Any],
    section: Mapping[str, Any],
) -> dict[str, Any]:
    words = {word: one.name for one in command.params for word in _words(one)}
    verbs: Mapping[str, Any] = getattr(command, "commands", {})
    found = {name: shared[name] for name in shared.keys() & set(words.values())}
    for key, value in section.items():
        if key not in verbs:
            if (word := key.replace("-", "_")) not in words:
                known = ", ".join(sorted({*verbs, *words} - {"help"}))
                raise InputError(
                    f"settings file {file.path}: [{'.'.join(path)}] has no {key!r}; it has {known}"
                )
            found[words[word]] = value
    for name, verb in verbs.items():
        found[name] = _defaults(file, (*path, name), verb, shared, section.get(name, {}))
    return found


def _words(option: Any) -> set[str]:
    """What an option is called in a file: as on the command line, without the dashes."""
    return {option.name} | {
        one.removeprefix("--").replace("-", "_") for one in option.opts if one.startswith("--")
    }
