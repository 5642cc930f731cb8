"""A search for many short texts at once, in one pass that mostly looks at every second byte."""

from collections.abc import Iterable
from typing import final

@final
class Needles:
    """Tells whether one of the needles stands in a text, in letters of either case.

    A needle of fewer than four bytes has to be the whole text. ``urls``: ``://`` with an ``@`` somewhere behind it
    counts, too. Errors: ValueError for a needle that is empty or too long, and for too many.
    """

    def __init__(self, needles: Iterable[str], urls: bool = False) -> None: ...
    def found(self, text: bytes) -> bool:
        """Whether the text has one; linear in its length."""
    def find(self, text: bytes, start: int = 0) -> tuple[int, str] | None:
        """Place and lower-case text of the first needle from ``start`` on; of short ones and URLs nothing."""
