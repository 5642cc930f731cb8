"""Compiled half of :mod:`audito.logins`: lines that the scanner knows in, records and events out."""

from collections.abc import Callable, Iterable
from typing import Any, final

from msgspec import Raw

from audito._sshd import LineSink
from audito.tables.sshd_grammar import Grammar

FIELDS: tuple[str, ...]
"""The fields of tables/sshd.py that an event is made from."""

def event_id(data: bytes) -> str:
    """A UUID (version 8, BLAKE2b) made from bytes: the same ones give the same."""

@final
class Meanings:
    """What each reading of a grammar means, compiled: shared by all builders."""

    def __init__(self, grammar: Grammar) -> None: ...

@final
class LoginBuilder(LineSink):
    """Makes a record of each line, and a UserLogin of one that tells of an attempt to log in.

    ``record``: makes a LoginRecord, ``end`` a LoginEnd. ``factors``: a Factors, asked about logins of several factors.
    ``repeat``: (record, count) -> the other records of a line that was repeated. ``methods``: those counted by name,
    UNKNOWN among them. ``namespace``: of the ids, 16 bytes.
    """

    logins: int
    failures: int
    notes: int
    ends: int
    children: int
    def __init__(
        self,
        meanings: Meanings,
        *,
        record: Callable[..., Any],
        end: Callable[..., Any],
        factors: Any,
        repeat: Callable[[Any, int], list[Any]],
        methods: tuple[str, ...],
        target: Raw,
        namespace: bytes,
    ) -> None: ...
    def take(self) -> list[Any]:
        """The records made since the last take, in order."""
    def cells(self) -> dict[tuple[str, str], int]:
        """How many logins by (method, outcome); monotonic."""
    def told(self) -> list[int]:
        """Connections of which a failure was told and that are not over, oldest first: for the checkpoint."""
    def load_told(self, keys: Iterable[int]) -> None:
        """Take in what told() gave."""
