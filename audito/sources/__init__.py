"""Where bytes come from. A source knows bytes and files, and never events.

One file a kind, each named in ``ALL`` (:mod:`audito.sources.all`); the contract below is what
``tests/sources/test_contract.py`` runs on every member.
"""

from __future__ import annotations

from typing import Any, Literal, Protocol

Stream = Literal["audit", "sshd"]
"""Which half of the join the bytes feed."""

Format = Literal["audit", "pipe", "syslog", "journal", "journal-json", "auto"]
"""How lines of a stream look: auditd records, ``PID MESSAGE``, syslog, the journal source's own form."""

GapReason = Literal["file_gone", "file_truncated", "place_lost", "journal_vacuumed"]
"""Why input may have gone unread: a file was removed or rotated away before its end was read, or cut; the place in the
saved state is of another log, or cannot be read; journald threw the entry away that was read last."""

READ_BYTES_MAX = 1 << 20
"""The most that one :meth:`Source.read` returns: a pipe enlarged to 1 MiB is emptied by one call."""


class Source(Protocol):
    """One input. Not thread safe; the daemon calls it from the loop, a test from anywhere.

    ``name``: for the log, metrics and /readyz. ``ended``: a finite input was read to its end.
    ``opened``: open() succeeded and close() was not called.
    """

    name: str
    stream: Stream
    format: Format
    ended: bool
    opened: bool

    def open(self) -> None:
        """Open the input. Errors: SourceError, naming path and cause; may be called again later."""

    def fileno(self) -> int:
        """A descriptor that turns readable when there may be something new, or -1: only poll."""

    def wake(self) -> None:
        """Take the wake-ups off the descriptor, where they are not the data itself (inotify, journal)."""

    def poll(self) -> None:
        """Look at the world again: called once a second, it is the truth that wake-ups only hint at."""

    def read(self) -> memoryview:
        """The next bytes, at most READ_BYTES_MAX; empty when there are none now. Valid until the next read."""

    def take_gaps(self) -> list[GapReason]:
        """What went unread since the last call, a reason each; asked before what was read is used."""

    def waiting_bytes(self) -> int:
        """How much lies there unread, for the metrics; -1 where that cannot be told. Errors: none."""

    def position(self, offset: int) -> dict[str, Any]:
        """Where the byte ``offset`` lies, for the checkpoint: bytes since the restored base."""

    def restore(self, state: dict[str, Any]) -> int:
        """Go on where position() said, before open(); returns the stream offset that the next read starts at."""

    def close(self) -> None:
        """Give up descriptors; safe to call twice."""
