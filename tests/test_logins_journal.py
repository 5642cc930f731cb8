"""What logins.py makes of the journal's entries: whose word they are, and which are none of sshd's."""

from __future__ import annotations

import json
from typing import Any

import pytest

from audito.tables.programs import EXECUTABLES
from tests.sshd_lines import NOW_US, logins
from tests.test_logins import CERT, FAILED, facts, read, who


def entry(**fields: object) -> str:
    """A line of journalctl -o json."""
    known: dict[str, object] = {
        "__REALTIME_TIMESTAMP": "1720530029099599",
        "_SOURCE_REALTIME_TIMESTAMP": "1720530029099504",
        "SYSLOG_IDENTIFIER": "sshd-session",
        "_PID": "9",
        "SYSLOG_PID": "10",
        "_UID": "0",
        "_EXE": "/usr/lib/openssh/sshd-session",
        "MESSAGE": CERT,
    }
    return json.dumps({name: value for name, value in (known | fields).items() if value is not None})


def test_an_entry_of_the_journal_is_trusted() -> None:
    for form in ("journal-json", "auto"):
        (record,) = read(entry(), form)
        assert (record.kind, record.pid, record.timed, record.trusted) == ("login", 9, True, True)
        assert record.event is not None
        assert record.event.loggedAt == "2024-07-09T13:00:29.099504Z"
    assert read(f"1720530029099504 9 1 {CERT}\n", "journal") == read(entry(), "journal-json")


@pytest.mark.parametrize("form", ["journal", "journal-json"])
def test_u25_a_journal_entry_that_is_not_sshds_binds_nothing(form: str) -> None:
    line = f"{NOW_US} 9 0 {CERT}" if form == "journal" else entry(_UID="1000")
    reader = logins()
    (record,) = reader.feed(f"{line}\n".encode(), form, 0)
    assert (record.kind, record.pid, record.trusted, record.event) == ("note", 9, False, None)
    counters = reader.counters()
    assert (counters["untrusted"], counters["logins"]) == (1, 0)


@pytest.mark.parametrize("executable", [None, "/usr/sbin/sshd"])
def test_an_entry_of_a_users_own_process_tells_its_audit_session(executable: str | None) -> None:
    message = "Disconnected from user bob 10.0.0.5 port 5022"
    line = entry(_UID="1000", _EXE=executable, _AUDIT_SESSION="7", MESSAGE=message)
    (record,) = read(line, "journal-json")
    assert (record.kind, record.pid, record.trusted) == ("end", 0, False)
    assert record.end is not None
    assert record.end.session == 7
    assert read(f"1720530029099504 7 3 {message}\n", "journal") == [record]


@pytest.mark.parametrize(
    ("line", "form", "extra"),
    [
        (entry(), "journal-json", None),
        (f"1720530029099504 9 1 {CERT}\n", "journal", None),
        (f"1720530029099504 9 1 {CERT[:-14]}\n", "journal", {"truncated": True}),
        (f"1720530029099504 9 1 message repeated 2 times: [ {FAILED}]\n", "journal", {"repeated": 2}),
        (f"9 {CERT}\n", "pipe", {"trust": "low"}),
        (f"9 {CERT[:-14]}\n", "pipe", {"truncated": True, "trust": "low"}),
        (f"2024-07-09T15:00:29Z h sshd[9]: {FAILED}\n", "syslog", {"trust": "low"}),
    ],
)
def test_u25_a_login_says_where_anybody_could_have_written_it(line: str, form: str, extra: dict[str, Any]) -> None:
    for record in read(line, form):
        assert record.event is not None
        assert facts(record.event)["metadata"].get("extra") == extra
        assert record.trusted == (form != "pipe" and form != "syslog")


def test_a_message_of_the_journal_may_be_bytes() -> None:
    (record,) = read(entry(MESSAGE=list(b"Invalid user \xff from ::1 port 1\n")), "journal-json")
    assert record.event is not None
    assert who(record.event)[0] == r"\xff"


@pytest.mark.parametrize(
    ("fields", "trusted", "pid"),
    [
        ({"_EXE": "/home/eve/sshd"}, False, 9),
        ({"_EXE": None}, False, 9),
        ({"_UID": None}, False, 9),
        ({"_UID": "1000"}, False, 9),
        ({"_PID": None}, True, 10),
        ({"_PID": "x", "SYSLOG_PID": None}, True, 0),
        ({"_SOURCE_REALTIME_TIMESTAMP": None}, True, 9),
    ],
)
def test_trust_of_the_journal(fields: dict[str, object], trusted: bool, pid: int) -> None:
    (record,) = read(entry(**fields), "journal-json")
    assert (record.trusted, record.pid, record.event is not None) == (trusted, pid, trusted)


def test_executables() -> None:
    assert {"/usr/sbin/sshd", "/usr/lib/openssh/sshd-session", "/usr/libexec/openssh/sshd-auth"} <= EXECUTABLES
    # Sources know no tables: the journal source has its own list, and live and replay have to trust the same.


@pytest.mark.parametrize(
    "line", ["{", "{}x", "[]", "{}", "null", '{"MESSAGE":1}', "[" * 5000, '{"SYSLOG_IDENTIFIER":"sshd","MESSAGE":null}']
)
def test_json_that_is_no_entry_is_passed(line: str) -> None:
    reader = logins()
    assert reader.feed(f"{line}\n{entry()}\n".encode(), "journal-json", 0)[0].kind == "login"
    counters = reader.counters()
    assert counters["no_envelope"] + counters["other_program"] == 1


def test_json_of_other_programs_is_passed() -> None:
    reader = logins()
    assert reader.feed(f"{entry(SYSLOG_IDENTIFIER='cron')}\n".encode(), "journal-json", 0) == []
    assert reader.counters()["other_program"] == 1
