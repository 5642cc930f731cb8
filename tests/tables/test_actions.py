"""tables/actions.py: each row, and equality with the facts that they were made from."""

from __future__ import annotations

import pytest

from audito.tables import actions
from audito.tables.actions import (
    INTERPRETER_PREFIXES,
    RECORD_ACTIONS,
    SYSCALL_ACTIONS,
    RecordAction,
    SyscallAction,
)
from audito.tables.record_types import RECORD_TYPES
from audito.tables.syscalls import ARCHES, SYSCALLS
from tests.tables.facts import facts_csv

FIELD_WORDS = {
    *"acct addr audit_backlog_limit audit_enabled audit_failure audit_pid auid bool capname cmd comm data".split(),
    *"denied_mask dev enforcing exe feature fp hostname id name new-auid new-level new_auid op operation pid".split(),
    *"printer requested_mask resrc rport selected-context sig syscall table tclass tcontext terminal unit vm".split(),
}

OBJECT_TYPES = {
    *"account audit-config file filesystem firewall keystrokes mac-config memory network-device policy".split(),
    *"printer process service socket system user-session virtual-machine".split(),
    "",
}


@pytest.mark.parametrize("row", actions._RECORD_ROWS, ids=lambda row: f"{row.record_type}-{row.when_field}".strip("-"))
def test_each_record_row(row: RecordAction) -> None:
    assert row.record_type in RECORD_TYPES
    assert row.when_field in ("", "apparmor", "seresult")
    assert row.action == row.action.strip().lower()
    assert " " not in row.action
    assert row.object_type in OBJECT_TYPES
    assert {*row.primary, *row.secondary, *row.how} <= FIELD_WORDS
    assert row in RECORD_ACTIONS[row.record_type]


@pytest.mark.parametrize("row", actions._SYSCALL_ROWS, ids=lambda row: row.syscall)
def test_each_syscall_row(row: SyscallAction) -> None:
    assert any(row.syscall in SYSCALLS[arch].values() for arch in ARCHES.values()) or row.syscall == "recv"
    assert row.object_kind in OBJECT_TYPES - {""}
    assert (row.path_index >= 0) == (row.object_kind in ("file", "filesystem"))
    assert row.socket == (row.object_kind == "socket")
    assert {*row.primary, *row.how} <= FIELD_WORDS
    assert SYSCALL_ACTIONS[row.syscall] is row


def test_a_row_with_a_condition_comes_before_one_without() -> None:
    assert [row.when_field for row in RECORD_ACTIONS["USER_AVC"]] == ["apparmor", "seresult", ""]
    assert [row.when_field for row in RECORD_ACTIONS["AVC"]] == ["apparmor", "seresult"]
    for rows in RECORD_ACTIONS.values():
        assert [row.when_field for row in rows if not row.when_field] in ([], [""])
        assert "" not in [row.when_field for row in rows[:-1]]


def test_record_rows_equal_the_facts() -> None:
    facts = {(row["record_type"], row["when_field"]): row for row in facts_csv("record_types.csv")}
    assert facts.keys() == {(row.record_type, row.when_field) for row in actions._RECORD_ROWS}
    for row in actions._RECORD_ROWS:
        fact = facts[row.record_type, row.when_field]
        assert (row.action, row.object_type) == (fact["action"], fact["object_type"]), row
        assert " ".join(row.secondary) == fact["object_secondary"], row
        if row.record_type != "SECCOMP":  # the facts miss its primary and how: their event had no SYSCALL fields
            assert " ".join(row.primary) == fact["object_primary"], row
            assert " ".join(dict.fromkeys((*row.how, "exe", "comm"))) == fact["how"], row


def test_syscall_rows_equal_the_facts() -> None:
    facts = {row["syscall"]: row for row in facts_csv("syscalls.csv")}
    others = {"mmap2", "stat64", "stime", "umount", "recv", "send"}  # not on x86_64, where the facts were made
    assert facts.keys() == SYSCALL_ACTIONS.keys() - others
    for name, fact in facts.items():
        row = SYSCALL_ACTIONS[name]
        assert row.action == fact["action"]
        # A filesystem is printed as a file once its PATH record has a mode, as the facts' events had.
        assert row.object_kind.removesuffix("system" if row.object_kind == "filesystem" else "") == fact["object_kind"]
        source = "socket_addr:port" if row.socket else "" if row.path_index < 0 else f"path[{row.path_index}]"
        assert source == fact["object_primary_source"]


@pytest.mark.parametrize("prefix", INTERPRETER_PREFIXES)
def test_interpreters_are_paths(prefix: str) -> None:
    assert prefix.startswith("/usr/bin/")


GOOD_RECORD = RecordAction("AVC", "", "did", "", (), (), ())
GOOD_SYSCALL = SyscallAction("read", "did", "file", 0, False)


@pytest.mark.parametrize(
    "rows",
    [
        (GOOD_RECORD, GOOD_RECORD._replace(action="did-else")),
        (GOOD_RECORD._replace(record_type=""),),
        (GOOD_RECORD._replace(record_type="avc"),),
        (GOOD_RECORD._replace(action=""),),
    ],
)
def test_a_bad_record_row_raises(rows: tuple[RecordAction, ...]) -> None:
    with pytest.raises(ValueError, match="record action"):
        actions._records(rows)


@pytest.mark.parametrize(
    "rows",
    [
        (GOOD_SYSCALL, GOOD_SYSCALL),
        (GOOD_SYSCALL._replace(syscall=""),),
        (GOOD_SYSCALL._replace(action=""),),
        (GOOD_SYSCALL._replace(object_kind=""),),
        (GOOD_SYSCALL._replace(path_index=3),),
    ],
)
def test_a_bad_syscall_row_raises(rows: tuple[SyscallAction, ...]) -> None:
    with pytest.raises(ValueError, match="syscall action"):
        actions._syscalls(rows)


def test_good_rows_do_not_raise() -> None:
    assert actions._records((GOOD_RECORD, GOOD_RECORD._replace(when_field="apparmor")))["AVC"][0].when_field
    assert actions._syscalls((GOOD_SYSCALL,)) == {"read": GOOD_SYSCALL}
