"""What a finding holds, cut to what an alert may be: a record is at most 64 KiB, whatever a detector says.

Members are kept in their order for as long as there is room; `cut` in `seen` says that not all of it is there.
"""

from collections.abc import Iterable, Mapping
from typing import Final

import msgspec
import orjson

from monitor.detect.finding import MOST_SESSIONS, Finding

SMALL: Final = 4096
"""Bytes of a finding that is kept as it is, once it is plain."""
MOST_SUMMARY: Final = 4096
MOST_NAMED: Final = 12 * 1024
"""Bytes of JSON of all session ids together."""
MOST_MEMBERS: Final = 6 * 1024
"""Bytes of JSON of `expected`, of `seen` and of `cohort`."""
MOST_NAME: Final = 4096
"""Bytes of JSON of a subject, a session id, a gateway, a workload, a tenant."""
DEEPEST: Final = 4
MOST_ITEMS: Final = 100
CUT: Final = "cut"


def clip(text: str, most: int) -> str:
    """The text, or its beginning and an ellipsis: at most `most` bytes as JSON, and writable as UTF-8."""
    plain = text if text.isascii() else text.encode(errors="replace").decode()
    if len(plain) * 6 + 2 <= most or len(orjson.dumps(plain)) <= most:
        return plain
    # A character is 6 bytes at the most, where it is escaped; so the cut is further in only where that is needed.
    kept = plain[:most]
    while len(orjson.dumps(kept)) > most - 3:
        kept = kept[: len(kept) * 3 // 4]
    return f"{kept}\N{HORIZONTAL ELLIPSIS}"


def bounded(finding: Finding) -> Finding:
    """The finding with plain values alone, within bounds. What is within bounds already stays as it is."""
    expected, seen, cohort = _members(finding.expected), _members(finding.seen), _members(finding.cohort)
    sessions = _named(finding.sessions)
    summary = clip(finding.summary, MOST_SUMMARY)
    whole = all(not was_cut for _, was_cut in (expected, seen, cohort)) and sessions == finding.sessions and summary == finding.summary
    told = seen[0] if whole else {**seen[0], CUT: True}
    return msgspec.structs.replace(finding, expected=expected[0], seen=told, cohort=cohort[0], sessions=sessions, summary=summary)


def _named(sessions: Iterable[str]) -> tuple[str, ...]:
    found: list[str] = []
    room = MOST_NAMED
    for one in sessions:
        name = clip(one, MOST_NAME)
        room -= len(orjson.dumps(name)) + 1
        if room < 0 or len(found) == MOST_SESSIONS:
            break
        found.append(name)
    return tuple(found)


def _members(given: Mapping[str, object]) -> tuple[dict[str, object], bool]:
    """What fits of these members, and whether anything was cut."""
    kept: dict[str, object] = {}
    room, was_cut = MOST_MEMBERS, False
    for place, (name, value) in enumerate(given.items()):
        plain, shortened = _plain(value, 1)
        said = clip(str(name), MOST_MEMBERS // 8)
        size = len(orjson.dumps(plain)) + len(orjson.dumps(said)) + 2
        if place >= MOST_ITEMS or size > room:
            was_cut = True
            continue
        room -= size
        was_cut |= shortened
        kept[said] = plain
    return kept, was_cut


def _plain(value: object, depth: int) -> tuple[object, bool]:
    """The value as JSON has it, and whether it was cut."""
    if value is None or isinstance(value, bool):
        return value, False
    if isinstance(value, int):
        fits = -(1 << 63) <= value < 1 << 63
        return (int(value), False) if fits else (clip(hex(value), MOST_NAME), False)
    if isinstance(value, float):
        return (value, False) if -float("inf") < value < float("inf") else (str(value), False)
    if isinstance(value, str):
        kept = clip(value, MOST_NAME)
        return kept, kept != value
    if depth < DEEPEST and isinstance(value, Mapping):
        return _plain_mapping(value, depth)
    if depth < DEEPEST and isinstance(value, list | tuple | set | frozenset):
        items = sorted(value, key=repr) if isinstance(value, set | frozenset) else value
        found = [_plain(item, depth + 1) for _, item in zip(range(MOST_ITEMS), items, strict=False)]
        return [one for one, _ in found], len(items) > MOST_ITEMS or any(was_cut for _, was_cut in found)
    return clip(str(value), MOST_NAME), True


def _plain_mapping(value: Mapping[object, object], depth: int) -> tuple[object, bool]:
    found = {clip(str(name), MOST_MEMBERS // 8): _plain(item, depth + 1) for _, (name, item) in zip(range(MOST_ITEMS), value.items(), strict=False)}
    return {name: one for name, (one, _) in found.items()}, len(value) > MOST_ITEMS or any(was_cut for _, was_cut in found.values())
