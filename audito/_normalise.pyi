"""Compiled half of :mod:`audito.normalise`: a whole audit event in, what it means out."""

from collections.abc import Callable, Collection, Iterable, Sequence
from typing import final

from msgspec import Raw

from audito._fastparse import EventSink
from audito.events import CONTEXT, ContainerOf, DecodedEvent
from audito.filters import Filters
from audito.redact import Redactor

@final
class Action:
    """One row of tables/actions.py, its field names ready for comparison."""

    action: str
    object_type: str | None
    def __init__(
        self,
        action: str,
        object_type: str,
        when_field: str,
        primary: Iterable[str],
        secondary: Iterable[str],
        how: Iterable[str],
        path_index: int = -1,
        socket: bool = False,
    ) -> None: ...

@final
class Names:
    """Whose names a syscall's PATH records are: the arguments with their directories, the nametype of a second one."""

    def __init__(self, directories: tuple[int, ...] | None, second: str) -> None: ...

@final
class Rules:
    """The tables, ready for lookups by number. ``syscall_name``: (arch value, number) to name or None."""

    type_names: dict[int, str]
    def __init__(
        self,
        record_actions: dict[int, tuple[Action, ...]],
        syscall_actions: dict[str, Action],
        syscall_name: Callable[[int, int], str | None],
        type_names: dict[int, str],
        interpreters: Iterable[str],
        socketcalls: dict[int, str],
        names: dict[str, Names],
    ) -> None: ...

class Reader(EventSink):
    """Reads events; its subclasses make something of them."""

    def __init__(self, rules: Rules) -> None: ...

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
    def take(self) -> bytes:
        """The lines made since the last take, in order."""

@final
class EventDecoder(Reader):
    """Makes what ``audito decode`` prints of each event, in go-libaudit's words."""

    def __init__(self, rules: Rules) -> None: ...
    def take(self) -> list[tuple[int, DecodedEvent]]:
        """(stream offset of the event's first line, event) of what was completed since the last take."""

def record_fields(line: bytes) -> dict[str, str]:
    """The fields of one record's line as text, those inside msg='…' among them. For the cold paths."""
