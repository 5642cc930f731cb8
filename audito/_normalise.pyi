"""Compiled half of :mod:`audito.normalise`: a whole audit event in, what it means out."""

from collections.abc import Callable, Iterable
from typing import final

from msgspec import Raw

from audito._fastparse import EventSink
from audito.events import DecodedEvent, UserAction, UserLogout

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
    ) -> None: ...

class Reader(EventSink):
    """Reads events; its subclasses make something of them."""

    def __init__(self, rules: Rules) -> None: ...

@final
class ActionBuilder(Reader):
    """Makes a UserAction of each event, and a UserLogout where sshd ended the session."""

    args_incomplete: int
    """Events whose argv is not all there."""
    def __init__(self, rules: Rules, *, actions: bool = True, logouts: bool = True) -> None: ...
    def want(self, *, actions: bool, logouts: bool) -> None:
        """Which of the two are made from the next event on."""
    def identify(self, slot: int, audit_id: str, source: Raw, subjects: Raw, target: Raw) -> None:
        """Whose the events of this session slot are; before the session is bound."""
    def identity(self, slot: int) -> tuple[str, Raw, Raw, Raw] | None:
        """What identify() was last told of this slot: audit id, source, subjects, target."""
    def take(self) -> list[UserAction | UserLogout]:
        """The events made since the last take, in order."""

@final
class EventDecoder(Reader):
    """Makes what ``audito decode`` prints of each event, in go-libaudit's words."""

    def __init__(self, rules: Rules) -> None: ...
    def take(self) -> list[tuple[int, DecodedEvent]]:
        """(stream offset of the event's first line, event) of what was completed since the last take."""

def record_fields(line: bytes) -> dict[str, str]:
    """The fields of one record's line as text, those inside msg='…' among them. For the cold paths."""
