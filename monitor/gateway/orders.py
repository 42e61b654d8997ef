"""Commands read for their orders alone: half a dozen members of each, a million of them within seconds.

`wire.commands` reads the whole record, for people and tools; a gateway that loads its view can't afford that. What a
command says is the same in both (tested).
"""

from typing import Final, TypeAlias

import msgspec

from monitor.core.commands import CommandType, Reauth
from monitor.core.instants import Millis
from monitor.gateway.commanded import FOREVER, Commanded, Kind, Shared
from monitor.wire.bad_record import BadRecord
from monitor.wire.times import parse_time

_WARN: Final = CommandType.WARN.value
_KINDS: Final = {
    CommandType.REINSTATE.value: Kind.REINSTATE, CommandType.EXPIRE.value: Kind.EXPIRE, CommandType.REVOKE.value: Kind.REVOKE,
}  # fmt: skip
_UNREADABLE: Final = (msgspec.DecodeError, UnicodeDecodeError, RecursionError, BadRecord)
_MEMORY: Final = 4096


class _Order(msgspec.Struct, gc=False):
    type: str
    epoch: int = -1
    reason: str = ""
    effective_at: str = ""
    cutoff: str = ""
    rule: str | None = None
    reauth: msgspec.Raw = msgspec.Raw(b'{"allowed":false}')
    control_id: str = ""


class _Head(msgspec.Struct, gc=False):
    type: str = ""
    epoch: int = FOREVER


Order: TypeAlias = tuple[int, int, Millis, Millis, str]
"""What a command orders: epoch, number of what it shares with others, `effective_at`, cut-off, control id."""


class OrderReader:
    """Reads commands into the numbers of one `Commanded`."""

    def __init__(self, commanded: Commanded) -> None:
        """`commanded` is where the orders will be merged."""
        self._commanded = commanded
        self._decode = msgspec.json.Decoder(_Order).decode
        self._decode_head = msgspec.json.Decoder(_Head).decode
        self._numbers: dict[tuple[str, str, str | None, bytes], int] = {}
        self.not_understood = 0
        """Commands of an unknown type, or that can't be read: their sessions are refused."""

    def read(self, value: bytes) -> Order | None:
        """The order in these bytes. Never raises: what can't be understood refuses its session. None: advice only."""
        try:
            said = self._decode(value)
            type_ = said.type
            if type_ == _WARN:
                return None
            if type_ in _KINDS and said.epoch >= 0 and said.reason:
                cutoff = said.cutoff
                at = parse_time(said.effective_at)
                until = at if cutoff == said.effective_at else parse_time(cutoff)
                key = type_, said.reason, said.rule, bytes(said.reauth)
                number = self._numbers.get(key)
                if number is None:
                    number = self._share(key)
                return said.epoch, number, at, until, said.control_id
        except _UNREADABLE:
            pass
        self.not_understood += 1
        return self._epoch(value), Kind.UNKNOWN.value, -1, -1, ""

    def _share(self, key: tuple[str, str, str | None, bytes]) -> int:
        type_, reason, rule, raw = key
        number = self._commanded.number(Shared(_KINDS[type_], reason, rule, msgspec.json.decode(raw, type=Reauth)))
        if len(self._numbers) >= _MEMORY:
            self._numbers.clear()
        self._numbers[key] = number
        return number

    def _epoch(self, value: bytes) -> int:
        """The epoch of a command that is not understood, where it says one in our words."""
        try:
            epoch = self._decode_head(value).epoch
        except _UNREADABLE:
            return FOREVER
        return epoch if epoch >= 0 else FOREVER
