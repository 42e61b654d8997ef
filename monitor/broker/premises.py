"""What `doctor` finds out about this installation: versions, extras, compiled parts."""

import importlib.metadata
import importlib.util
import os
import platform
import sys
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import Final

from monitor.broker.checkup import Check, Grade
from monitor.version import VERSION

EXTRAS: Final[Mapping[str, tuple[str, ...]]] = {
    "worker": ("faust", "aiokafka", "aiohttp", "uvloop"),
    "embedded": ("noida_db",),
    "dashboard": ("jinja2",),
}
"""Extra -> what it brings, by the names that are imported."""
_NO_EXTENSIONS: Final = "AIOKAFKA_NO_EXTENSIONS"
_SHOWN: Final = ("kafka-python", "msgspec", "orjson", "faust-streaming", "aiokafka", "noida-db")


def check_premises(locate: Callable[[str], Path | None] | None = None) -> Iterator[Check]:
    """Versions, extras, and whether aiokafka has its compiled parts. `locate` finds the directory of a package."""
    locate = locate or _locate
    yield Check(Grade.OK, "versions", ", ".join(_versions()))
    for extra, packages in EXTRAS.items():
        missing = [name for name in packages if locate(name) is None]
        if missing:
            what, advice = (
                f"not installed ({', '.join(missing)} missing)",
                f"where it is wanted: pip install 'session-monitor[{extra}]'",
            )
            yield Check(Grade.NOTE, f"extra {extra}", what, advice)
        else:
            yield Check(Grade.OK, f"extra {extra}", "installed")
    if (aiokafka := locate("aiokafka")) is not None:
        yield _compiled(aiokafka)


def _compiled(aiokafka: Path) -> Check:
    about, slow = "compiled extensions", "aiokafka runs without them, many times slower"
    if os.environ.get(_NO_EXTENSIONS):
        return Check(Grade.FAILURE, about, f"{slow}: {_NO_EXTENSIONS} is set", "unset it")
    if any((aiokafka / "record" / "_crecords").glob("default_records.*[do]")):  # .so, .pyd
        return Check(Grade.OK, about, "aiokafka has them")
    install = "pip install --force-reinstall --only-binary :all: aiokafka"
    return Check(Grade.FAILURE, about, slow, f"install a wheel of it: {install}")


def _versions() -> Iterator[str]:
    yield f"session-monitor {VERSION}"
    yield f"Python {platform.python_version()}"
    for name in _SHOWN:
        try:
            yield f"{name} {importlib.metadata.version(name)}"
        except importlib.metadata.PackageNotFoundError:
            continue


def _locate(name: str) -> Path | None:
    """Where the package is, without importing it."""
    try:
        spec = importlib.util.find_spec(name)
    except ValueError:  # Faust replaces itself by a module without a spec, once it is imported
        file = getattr(sys.modules.get(name), "__file__", None)
        return None if file is None else Path(file).parent
    if spec is None or spec.origin is None:
        return None
    return Path(spec.origin).parent
