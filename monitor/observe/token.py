"""The bearer token of the sessions API: made once per user and machine, kept in a file that only they can read.

Every worker process of one user answers to the same token, and the command line finds it where they do.
"""

import os
import secrets
from collections.abc import Mapping
from pathlib import Path
from typing import Final

from monitor.core.errors import InputError

SHORTEST: Final = 16
"""Characters; what is shorter can be guessed."""
LONGEST: Final = 1024


def token_path(environ: Mapping[str, str] = os.environ) -> Path:
    """Where the token lies: below XDG_RUNTIME_DIR where there is one, else below the user's state directory."""
    runtime = environ.get("XDG_RUNTIME_DIR")
    if runtime and Path(runtime).is_dir():
        return Path(runtime, "session-monitor", "token")
    state = environ.get("XDG_STATE_HOME")
    base = Path(state) if state else Path(environ.get("HOME") or Path.home(), ".local", "state")
    return base / "session-monitor" / "token"


def check_token(token: str, whence: str) -> str:
    """The token, if it can stand in a header and is not easily guessed. Raises InputError without repeating it."""
    if (
        not SHORTEST <= len(token) <= LONGEST
        or not token.isascii()
        or any(c <= " " or c == "\x7f" for c in token)
    ):
        raise InputError(
            f"the API token of {whence} must be {SHORTEST} to {LONGEST} visible ASCII characters"
        )
    return token


def read_token(path: Path) -> str | None:
    """The token in this file, or None where there is no file. Raises InputError where others could read it."""
    try:
        with path.open(encoding="ascii", errors="replace") as file:
            if os.fstat(file.fileno()).st_mode & 0o077:
                raise InputError(
                    f"{path} can be read by others: chmod 600 it, or delete it and start the worker anew"
                )
            text = file.read(LONGEST + 2)
    except FileNotFoundError:
        return None
    except OSError as error:
        raise InputError(f"the API token in {path} can't be read: {error.strerror}") from error
    return check_token(text.strip(), str(path))


def read_or_create_token(path: Path) -> str:
    """The token in this file, made with mode 0600 where there is none. Safe for processes that start together."""
    token = read_token(path)
    if token is not None:
        return token
    draft = path.with_name(f".token-{secrets.token_hex(8)}")
    try:
        path.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
        with os.fdopen(os.open(draft, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600), "w") as file:
            file.write(secrets.token_urlsafe(32) + "\n")
        # A link fails where another process was first: a token, once read by somebody, is never replaced.
        os.link(draft, path)
    except FileExistsError:
        pass
    except OSError as error:
        raise InputError(
            f"the API token can't be kept in {path}: {error.strerror}; name another file, or give a token"
        ) from error
    finally:
        draft.unlink(missing_ok=True)
    made = read_token(path)
    if made is None:
        raise InputError(f"the API token in {path} has just been deleted: start again")
    return made
