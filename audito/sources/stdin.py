"""Standard input, or any descriptor that was opened for us, read once to its end."""

from __future__ import annotations

import os
import select
import stat
from typing import Any

from audito.errors import SourceError
from audito.sources import READ_BYTES_MAX, Format, GapReason, Stream
from audito.sources.unread import unread_bytes

EMPTY = memoryview(b"")


class StdinSource:
    """A finite input: ``ended`` once its last byte was read. The descriptor stays open: it is not ours.

    ``blocking``: read() waits for bytes, for a caller that has nothing else to do; otherwise it gives what is
    there. The descriptor's own flags are left alone, since a terminal shares them with the shell.
    """

    def __init__(self, stream: Stream, line_format: Format, *, fd: int = 0, blocking: bool = False) -> None:
        self.name = f"{stream}-stdin"
        self.stream: Stream = stream
        self.format: Format = line_format
        self.ended = False
        self.opened = False
        self._fd = fd
        self._blocking = blocking
        self._pollable = False
        self._buffer = bytearray(READ_BYTES_MAX)
        self._view = memoryview(self._buffer)
        self._ready = select.poll()

    def open(self) -> None:
        try:
            mode = os.fstat(self._fd).st_mode
        except OSError as exc:
            raise SourceError(f"standard input: {exc.strerror or exc}") from exc
        if stat.S_ISDIR(mode):
            raise SourceError("standard input: is a directory")
        # A regular file is always readable, and an event loop refuses to watch one.
        self._pollable = not stat.S_ISREG(mode)
        self._ready.register(self._fd, select.POLLIN)
        self.opened = True

    def fileno(self) -> int:
        return self._fd if self.opened and self._pollable and not self.ended else -1

    def wake(self) -> None:
        """Nothing to take: the descriptor is the data itself."""

    def poll(self) -> None:
        """Nothing to look at: a descriptor does not change under us."""

    def read(self) -> memoryview:
        """As the protocol has it. Errors: SourceError."""
        if self.ended or not self.opened:
            return EMPTY
        if not self._blocking and self._pollable and not self._ready.poll(0):
            return EMPTY
        try:
            count = os.readv(self._fd, [self._view])
        except BlockingIOError:
            return EMPTY
        except OSError as exc:
            raise SourceError(f"standard input: {exc.strerror or exc}") from exc
        self.ended = count == 0
        return self._view[:count]

    def take_gaps(self) -> list[GapReason]:
        """As the protocol has it: a descriptor skips nothing."""
        return []

    def waiting_bytes(self) -> int:
        return unread_bytes(self._fd) if self.opened and not self.ended else 0

    def position(self, offset: int) -> dict[str, Any]:
        return {"stream": offset}

    def restore(self, state: dict[str, Any]) -> int:
        """As the protocol has it: what was read is gone, counting goes on."""
        return int(state["stream"])

    def close(self) -> None:
        self.opened = False
