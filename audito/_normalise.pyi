"""Compiled half of :mod:`audito.normalise`: a whole audit event in, what it means out."""

from collections.abc import Callable, Iterable
from typing import final

from audito._fastparse import EventSink
from audito.events import DecodedEvent

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
class EventDecoder(Reader):
    """Makes what ``audito decode`` prints of each event, in go-libaudit's words."""

    def __init__(self, rules: Rules) -> None: ...
    def take(self) -> list[tuple[int, DecodedEvent]]:
        """(stream offset of the event's first line, event) of what was completed since the last take."""

def record_fields(line: bytes) -> dict[str, str]:
    """The fields of one record's line as text, those inside msg='…' among them. For the cold paths."""
