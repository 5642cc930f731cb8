"""Compiled writer of UserActions: a whole audit event in, a line of JSON out."""

from collections.abc import Collection, Iterable, Sequence
from typing import final

from msgspec import Raw, Struct

from audito._normalise import Reader, Rules
from audito.events import CONTEXT, ContainerOf
from audito.filters import Filters
from audito.redact import Redactor

@final
class ActionBuilder(Reader):
    """Writes each event as a line of JSON, a UserAction.

    ``redactor``: hides the secrets in what is written, None: nothing is hidden; ``filters``: decide which actions
    are written, None: all are.
    """

    args_incomplete: int
    """Events whose argv is not all there."""
    def __init__(
        self,
        rules: Rules,
        target: Raw,
        *,
        actions: bool = True,
        context: Collection[str] = CONTEXT,
        container_of: ContainerOf | None = None,
        redactor: Redactor | None = None,
        filters: Filters | None = None,
    ) -> None: ...
    def want(
        self, *, actions: bool, context: Collection[str], redactor: Redactor | None, filters: Filters | None
    ) -> None:
        """What is made of the next event on: as in __init__."""
    def dump_processes(self) -> list[tuple[int, int, int, int, str, int, tuple[str, ...]]]:
        """(slot, generation, pid, ppid, exe, parent's pid, ancestors) of what is known, for the checkpoint."""
    def load_processes(self, rows: Iterable[tuple[int, int, int, int, str, int, Sequence[str]]]) -> None:
        """Go on from dump_processes(), slots and generations being those of now."""
    def write(self, event: Struct) -> None:
        """Write an event that is no action behind the lines made so far; it must not change any more."""
    def take(self) -> bytes:
        """The lines made since the last take, in order."""
