"""Whether something that shows its health over HTTP is ready, asked from outside."""

from typing import Final
from urllib.error import URLError
from urllib.request import ProxyHandler, build_opener

_ANSWER_SECONDS: Final = 1.0
# A proxy from the environment is none of ours.
_open: Final = build_opener(ProxyHandler({})).open


def is_ready(url: str) -> bool:
    """Whether `/readyz` of what answers at `url` says so. Takes a second at most."""
    try:
        with _open(f"{url}/readyz", timeout=_ANSWER_SECONDS) as answer:
            return bool(answer.status == 200)
    except (URLError, OSError):
        return False
