"""The line scanner of sshd's messages (compiled)."""

from collections.abc import Callable

from audito.tables.sshd_grammar import Grammar

KINDS: tuple[str, ...]
"""Strict kinds of fields, in the order of their numbers; "" is a literal."""
FORMATS: tuple[str, ...]
"""Formats of lines, in the order of the numbers that scan() takes."""
REJECTS: tuple[str, ...]
"""Why a line gave nothing, as take_rejected() and counters() name it."""
CUT: int
AMBIGUOUS: int
UNESCAPED: int

class LineSink:
    """What lines that a row knows are given to; compiled subclasses make something of them (``_logins``)."""

class Variants:
    """A grammar of tables/sshd.py, compiled: takes milliseconds, and is shared by all scanners."""

    def __init__(self, grammar: Grammar) -> None: ...

class Scanner:
    """Lines of sshd, told apart by a grammar of tables/sshd.py.

    ``sink``: what they are given to. ``minute``: what minute a time of RFC 3164 is: (month, day, hour, minute, now_us)
    -> µs since the epoch, or -1 for none. ``entry``: reads a journal entry's JSON: (time_us, pid, trust, message); ""
    for another program's; None for no entry. Trust is 0 for an entry that is not sshd's, 1, or 2 for one that came
    through its standard error. ``keep_all``: keep every line that is not read, not only samples.
    """

    def __init__(
        self,
        variants: Variants,
        sink: LineSink,
        *,
        minute: Callable[[int, int, int, int, int], int],
        entry: Callable[[bytes], tuple[int, int, int, bytes] | str | None],
        keep_all: bool = False,
    ) -> None: ...
    def scan(self, data: bytes | bytearray | memoryview, form: int, now_us: int) -> None:
        """Take bytes as they were read, split anywhere. ``now_us``: the time of lines that carry none."""

    def finish(self, form: int, now_us: int) -> None:
        """The end of the input: a last line without a line end counts as one."""

    def cut_line(self) -> None:
        """The unfinished line lost its rest, and is not read."""

    def read(self, message: bytes) -> tuple[int, dict[str, str], int] | None:
        """A bare message as (row, fields, flags), for tests and for people; None when no row knows it."""

    def take_rejected(self) -> list[tuple[bytes, str, bytes]]:
        """Lines that were not read since the last call, the reason, and the message where there is one.

        Samples only, unless ``keep_all``.
        """

    def counters(self) -> dict[str, int]:
        """Lines, those not read by reason, and those read with a mark; monotonic."""

    def row_hits(self) -> list[int]:
        """How many lines each row read."""

    @property
    def pending_bytes(self) -> int:
        """Bytes of the unfinished last line, also those past the limit that are not kept."""
