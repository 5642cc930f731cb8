"""What records say about auditing itself: the rows against the other tables and the events."""

from __future__ import annotations

from audito import events
from audito.tables import auditing
from audito.tables.record_types import RECORD_TYPES


def test_every_reason_is_one_of_an_event() -> None:
    assert {*auditing.DAEMONS.values(), *auditing.LIMITS.values()} <= set(events.GAP_REASONS)
    assert len(set(events.GAP_REASONS)) == len(events.GAP_REASONS)


def test_the_types_are_those_of_the_table() -> None:
    assert auditing.DAEMONS.keys() <= RECORD_TYPES.keys()
    told = {name for name, number in RECORD_TYPES.items() if auditing.tells_of_auditing(number)}
    assert told == {"CONFIG_CHANGE", *(name for name in RECORD_TYPES if name.startswith("DAEMON_"))}
