"""Which events are in the output already, after a process before this one was killed.

The input behind the last checkpoint is read again and gives the same events. Those of them that were written before the
kill are known by what names an event, and are not written twice.
"""

from __future__ import annotations

import logging
from collections.abc import Iterable

import msgspec

log = logging.getLogger(__name__)

TAIL_BYTES_MAX = 256 << 20
"""How much output may follow a checkpoint, which is made once a second: past that events come twice, and it is said."""


class _Extra(msgspec.Struct):
    sequence: int = -1
    pid: int = -1


class _Metadata(msgspec.Struct):
    audit_id: str = msgspec.field(default="", name="auditId")
    extra: _Extra = msgspec.field(default_factory=_Extra)


class _Head(msgspec.Struct):
    """What names an event, of any type. A session number alone comes again after a reboot: the time is part of it."""

    type: str = ""
    metadata: _Metadata = msgspec.field(default_factory=_Metadata)
    logged_at: str = msgspec.field(default="", name="loggedAt")


_decoder = msgspec.json.Decoder(_Head)
_NAMED_BY_ID = ("UserLogin", "UserAction", "UserLogout")


class Written:
    """The events that are in the output; each is taken off when it comes again."""

    def __init__(self) -> None:
        self._ids: set[int] = set()

    def __len__(self) -> int:
        return len(self._ids)

    def add(self, chunks: Iterable[bytes]) -> None:
        """Take in a piece of the output, in chunks of whole lines."""
        room = TAIL_BYTES_MAX
        for chunk in chunks:
            room -= len(chunk)
            if room < 0:
                log.warning("over %d bytes were written after the checkpoint: events may come twice", TAIL_BYTES_MAX)
                return
            self._ids.update(_id(line) for line in chunk.splitlines() if line)

    def new(self, lines: bytes) -> bytes:
        """Without the lines of the events that are there already."""
        if not self._ids:
            return lines
        kept = []
        for line in lines.splitlines(keepends=True):
            key = _id(line.rstrip(b"\n"))
            if key in self._ids:
                self._ids.remove(key)
            else:
                kept.append(line)
        return b"".join(kept)

    def forget(self) -> None:
        """All that could come again has come."""
        self._ids.clear()


def _id(line: bytes) -> int:
    """A number for what names the event; for a line that is none of ours, or has no name of its own, of all of it."""
    try:
        head = _decoder.decode(line)
    except msgspec.MsgspecError:
        return hash(line)
    if head.type not in _NAMED_BY_ID:
        return hash(line)
    extra = head.metadata.extra
    return hash((head.type, head.metadata.audit_id, head.logged_at, extra.sequence, extra.pid))
