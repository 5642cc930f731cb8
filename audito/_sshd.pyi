"""The line scanner of sshd's messages (compiled)."""

from collections.abc import Callable

from audito.tables.sshd_grammar import Grammar

KINDS: tuple[str, ...]
"""Strict kinds of fields, in the order of their numbers; "" is a literal."""
FORMATS: tuple[str, ...]
"""Formats of lines, in the order of the numbers that scan() takes."""
REJECTS: tuple[str, ...]
"""Why a line gave nothing, as take_rejected() and counters() name it."""
HEAD: int
"""Entries of a result before its fields."""
FORGED_ROW: int
"""The row of a result for a journal entry that is not sshd's own."""
TIMED: int
TRUSTED: int
CUT: int
AMBIGUOUS: int
UNESCAPED: int

def event_id(data: bytes) -> str:
    """A UUID (version 8, BLAKE2b) made from bytes: the same ones give the same."""

class Scanner:
    """Lines of sshd, told apart by a grammar of tables/sshd.py.

    ``meaning``: the fields that a result has, in this order. ``namespace``: of the ids, 16 bytes. ``minute``: what
    minute a time of RFC 3164 is: (month, day, hour, minute, now_us) -> µs since the epoch, or -1 for none.
    ``entry``: reads a journal entry's JSON: (time_us, pid, trust, message); "" for another program's; None for
    no entry. Trust is 0 for an entry that is not sshd's, 1, or 2 for one that came through its standard error.
    ``keep_all``: keep every line that is not read, not only samples.
    """

    def __init__(
        self,
        grammar: Grammar,
        *,
        meaning: tuple[str, ...],
        namespace: bytes,
        minute: Callable[[int, int, int, int, int], int],
        entry: Callable[[bytes], tuple[int, int, int, bytes] | str | None],
        keep_all: bool = False,
    ) -> None: ...
    def scan(self, data: bytes | bytearray | memoryview, form: int, now_us: int) -> list[tuple[object, ...]]:
        """Take bytes as they were read, split anywhere; one result for each line that a row knows.

        (row, pid, time_us, flags) where the row is a note, and for the others also logged_at, audit_id, repeat and
        the fields of ``meaning``, None where the line does not say.
        """

    def finish(self, form: int, now_us: int) -> list[tuple[object, ...]]:
        """The end of the input: a last line without a line end counts as one."""

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
