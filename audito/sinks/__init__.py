"""Where events go. A sink sees bytes only: whole JSON lines in, a count of bytes taken out."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any, Protocol


class Sink(Protocol):
    """One output. ``name``: for the log, metrics and /readyz. ``ready``: it took the last bytes that it was given."""

    name: str
    ready: bool

    @property
    def owed(self) -> bytes:
        """What was taken and is in no output: a restart has to write it, and then what was not taken."""

    def open(self) -> None:
        """Open the output. Errors: SinkError, naming path and cause; may be called again later."""

    def fileno(self) -> int:
        """A descriptor that turns writable when a full output can take more, or -1: retry by time."""

    def write(self, data: memoryview) -> int:
        """Take what fits now, return how many bytes: fewer than len(data) is a state, not an error (full, no reader).

        The caller offers the rest again, from the first byte not taken. Where a reader went away with half a
        line, the sink takes care that the next reader starts at the start of a line.
        Errors: SinkError when the output failed in a way that a retry after open() may mend.
        """

    def position(self) -> dict[str, Any]:
        """What of the output is durable, for the checkpoint: {"path", "inode", "length"} for a regular file."""

    def since(self, position: dict[str, Any]) -> Iterator[bytes]:
        """What was written behind a position() of the process before, in chunks of whole lines, where it can be read.

        Of an output whose position is not known, {}, its last lines. Errors: SinkError.
        """

    def sync(self) -> None:
        """Make what was taken durable, where that means something."""

    def reopen(self) -> None:
        """Open the path again: SIGHUP, or the file was rotated away."""

    def poll(self) -> None:
        """Called once a second: a file that was rotated away is opened anew."""

    def close(self) -> None:
        """Give up descriptors; safe to call twice."""
