"""Finds secrets in command lines by the rows of :mod:`audito.tables.secrets`: names, flags of programs, URLs."""

from collections.abc import Callable, Iterable
from typing import final

from audito._needles import Needles
from audito.tables.secrets import Names, Program

@final
class Finder:
    """Finds where secrets stand; in time linear in the text, whatever it holds. Not thread safe.

    ``rows``: each with the number that what it finds gets; ``names``: more names, of row ``own_row``; ``url_row`` and
    ``header_row``: -1 where that row is switched off. ``needles``: of all rows; ``shape_needles``: of what is known by
    its form; ``own_search``: whether a pattern of the configuration matches.
    Errors: ValueError for more or longer rules than there is room.
    """

    needles: Needles
    def __init__(
        self,
        rows: Iterable[tuple[int, Names | Program]],
        names: Iterable[str],
        own_row: int,
        no_secrets: Iterable[str],
        switch_words: Iterable[str],
        switch_programs: Iterable[str],
        schemes: Iterable[str],
        url_row: int,
        header_row: int,
        needles: Needles,
        shape_needles: Needles,
        own_search: Callable[[bytes], bool] | None = None,
    ) -> None: ...
    def in_text(self, text: bytes) -> list[tuple[int, int, int, int]]:
        """(0, start, end, row) of the secrets in a text that may be a command line, with the quotes that were typed."""
    def in_args(self, args: list[bytes]) -> list[tuple[int, int, int, int]]:
        """(number of the argument, start, end, row) of the secrets in a command's arguments."""
