"""Apache Kafka's jars: where they are, and how they get there."""

import fcntl
import os
import shutil
import subprocess
import tempfile
from pathlib import Path
from typing import Final

from monitor.core.errors import AbsenceError

VERSION: Final = "4.1.0"
HOME: Final = "SESSION_MONITOR_KAFKA_HOME"
"""Names a directory with Kafka's jars (its own, or that above its `libs`), where Maven is not to be asked."""
_FETCH_SECONDS: Final = 600

_POM: Final = f"""<project xmlns="http://maven.apache.org/POM/4.0.0">
  <modelVersion>4.0.0</modelVersion>
  <groupId>session-monitor</groupId><artifactId>kafka-libraries</artifactId><version>1</version>
  <dependencies>
    <dependency><groupId>org.apache.kafka</groupId><artifactId>kafka_2.13</artifactId><version>{VERSION}</version></dependency>
    <dependency><groupId>org.apache.kafka</groupId><artifactId>kafka-tools</artifactId><version>{VERSION}</version></dependency>
  </dependencies>
</project>
"""


def java() -> str:
    """The path of Java. Raises AbsenceError where there is none."""
    known = Path(os.environ.get("JAVA_HOME", "")) / "bin" / "java"
    found = str(known) if os.environ.get("JAVA_HOME") and known.is_file() else shutil.which("java")
    if found is None:
        raise AbsenceError(
            "Apache Kafka needs Java 17 or newer: install one (Debian: apt-get install openjdk-17-jre-headless), or set JAVA_HOME"
        )
    return found


def home() -> Path:
    """Where the jars are or will be."""
    if given := os.environ.get(HOME):
        path = Path(given).expanduser()
        return path / "libs" if (path / "libs").is_dir() else path
    cache = Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache")
    return cache / "session-monitor" / f"kafka-{VERSION}"


def libraries() -> Path:
    """The directory of the jars, fetched from Maven Central the first time (54 MB). Safe to be asked by several at once.

    Raises AbsenceError where they are not there and can't be fetched.
    """
    directory = home()
    if any(directory.glob("kafka_*.jar")):
        return directory
    if os.environ.get(HOME):
        raise AbsenceError(
            f"{HOME} is {os.environ[HOME]}, but there are no jars of Kafka: correct it, or unset it"
        )
    directory.parent.mkdir(parents=True, exist_ok=True)
    with (directory.parent / "fetching.lock").open("wb") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        if not any(directory.glob("kafka_*.jar")):
            _fetch(directory)
    return directory


def _fetch(directory: Path) -> None:
    maven = shutil.which("mvn")
    if maven is None:
        raise AbsenceError(
            f"Apache Kafka's jars are not in {directory}, and Maven, which would fetch them, is not installed: install it"
            f" (Debian: apt-get install maven), or set {HOME} to an unpacked Kafka {VERSION}"
        )
    with tempfile.TemporaryDirectory(dir=directory.parent) as scratch:
        pom, jars = Path(scratch) / "pom.xml", Path(scratch) / "jars"
        pom.write_text(_POM)
        command = [
            maven,
            "-q",
            "-B",
            "-f",
            str(pom),
            "dependency:copy-dependencies",
            f"-DoutputDirectory={jars}",
        ]
        done = subprocess.run(command, capture_output=True, text=True, check=False, timeout=_FETCH_SECONDS)  # noqa: S603
        if done.returncode:
            raise AbsenceError(
                f"Maven could not fetch Apache Kafka {VERSION}: {(done.stdout + done.stderr).strip()[-1000:]}"
            )
        shutil.rmtree(directory, ignore_errors=True)
        # Renamed when whole: a fetch cut short is never taken for one.
        jars.rename(directory)
