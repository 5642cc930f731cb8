"""What a whole audit event means: action, how and object, by the rows of :mod:`audito.tables`.

The work is done by the compiled half, :mod:`audito._normalise` and :mod:`audito._actions`; here the tables become their
rules, once.
"""

from __future__ import annotations

from functools import cache

from audito._actions import ActionBuilder
from audito._fastparse import FLAG_ENDS, FLAG_SESSION, FLAG_SINGLE, FLAG_STATE, Types
from audito._normalise import Action, EventDecoder, Names, Rules, record_fields
from audito.tables.actions import (
    DIRECTORY_FDS,
    INTERPRETER_PREFIXES,
    RECORD_ACTIONS,
    SECOND_NAMES,
    SOCKETCALLS,
    SYSCALL_ACTIONS,
)
from audito.tables.auditing import tells_of_auditing
from audito.tables.record_types import NAMES, RECORD_TYPES, is_single_record
from audito.tables.record_types import carries_session as record_carries_session
from audito.tables.syscalls import syscall_name

__all__ = ["ActionBuilder", "EventDecoder", "record_fields", "record_types", "rules"]


@cache
def rules() -> Rules:
    """The tables as the compiled rules, made once a process."""
    record_actions = {
        RECORD_TYPES[name]: tuple(
            Action(row.action, row.object_type, row.when_field, row.primary, row.secondary, row.how) for row in rows
        )
        for name, rows in RECORD_ACTIONS.items()
    }
    syscall_actions = {
        name: Action(row.action, row.object_kind, "", row.primary, (), row.how, row.path_index, row.socket)
        for name, row in SYSCALL_ACTIONS.items()
    }
    names = {
        name: Names(DIRECTORY_FDS.get(name), SECOND_NAMES.get(name, "")) for name in {*DIRECTORY_FDS, *SECOND_NAMES}
    }
    return Rules(record_actions, syscall_actions, syscall_name, NAMES, INTERPRETER_PREFIXES, SOCKETCALLS, names)


@cache
def record_types() -> Types:
    """Every record type, for :class:`audito._fastparse.AuditStream`, made once a process."""
    ends = (RECORD_TYPES["EOE"], RECORD_TYPES["PROCTITLE"])
    return Types(
        (
            name,
            number,
            FLAG_SESSION * record_carries_session(number)
            | FLAG_SINGLE * is_single_record(number)
            | FLAG_ENDS * (number in ends)
            | FLAG_STATE * tells_of_auditing(number),
        )
        for name, number in RECORD_TYPES.items()
    )
