"""Every example of every row of tables/sshd.py, in every envelope that there is, and through the daemon's own pipe."""

from __future__ import annotations

import json
from datetime import UTC, datetime
from typing import Any

import pytest

from audito.tables.sshd_grammar import MESSAGE_BYTES, Example, Row
from tests.sshd_lines import NOW_US, every_example, logins, meaning, meaning_of, told
from tests.test_daemon import Start, _home, _pipes, _start, wait_for  # noqa: F401

TIME = "2024-07-09T15:00:29.099504+02:00"
ENVELOPES = {
    "pipe": ("pipe", "{pid} {line}"),
    "pipe, the blank after the tag": ("pipe", "{pid}  {line}"),
    "RFC 3164": ("syslog", "Jul  9 15:00:29 host sshd[{pid}]: {line}"),
    "RFC 3164, no host": ("syslog", "<38>Jul  9 15:00:29 sshd[{pid}]: {line}"),
    "RFC 3164, FQDN": ("syslog", "<86>Jul 19 15:00:29 host.example.com sshd-auth[{pid}]: {line}"),
    "RFC 3164, IPv6": ("syslog", "Jul 19 15:00:29 fe80::1 sshd-session[{pid}]: {line}"),
    "RFC 3164, IPv6 that ends in colons": ("syslog", "Jul 19 15:00:29 fe80:: sshd[{pid}]: {line}"),
    "RFC 3164, day with a zero": ("syslog", "Jul 09 15:00:29 host sshd[{pid}]: {line}"),
    "RFC 3164, microseconds": ("syslog", "Jul 09 15:00:29.099504 host sshd[{pid}]: {line}"),
    "ISO 8601, priority": ("syslog", f"<86>{TIME} host sshd[{{pid}}]: {{line}}"),
    "ISO 8601, no host": ("syslog", f"{TIME} sshd-session[{{pid}}]: {{line}}"),
    "ISO 8601, IPv6": ("syslog", f"{TIME} 2001:db8::1 sshd[{{pid}}]: {{line}}"),
    "ISO 8601, offset without colon": ("syslog", "2024-07-09T15:00:29-0530 host sshd-auth[{pid}]: {line}"),
    "ISO 8601": ("syslog", f"{TIME} host sshd[{{pid}}]: {{line}}"),
    "ISO 8601, PAM": ("syslog", f"{TIME} host sshd(pam_unix)[{{pid}}]: {{line}}"),
    "RFC 3164, PAM": ("syslog", "Jul  9 15:00:29 host sshd(pam_google_authenticator)[{pid}]: {line}"),
    "RFC 5424": ("syslog", f"<86>1 {TIME} host sshd {{pid}} - - {{line}}"),
    "RFC 5424, BOM": ("syslog", f"<86>1 {TIME} host sshd {{pid}} - - \ufeff{{line}}"),
    "RFC 5424, structured data": (
        "syslog", f'<86>1 {TIME} - sshd-session {{pid}} ID47 [x@1 a="\\]\\"[" b=""][y@2] \ufeff{{line}}'
    ),
    "RFC 5424, FQDN": ("syslog", f"<86>1 {TIME} host.example.com sshd-auth {{pid}} - - {{line}}"),
    "RFC 5424, IPv6": ("syslog", f"<86>1 {TIME} 2001:db8::1 sshd {{pid}} MSGID - {{line}}"),
    "journal": ("journal", "1720530029099504 {pid} 1 {line}"),
    "journalctl -o json": ("journal-json", "{json}"),
    "sshd -E": ("syslog", "{line}"),
    "LogVerbose": ("pipe", "{pid} auth.c:auth_log():301 (bin=sshd-session, pid=123): {line}"),
    "LogVerbose up to 9.7": ("pipe", "{pid} auth.c:auth_log():301 (pid=123): {line}"),
}  # fmt: skip
EXAMPLES = list(enumerate(every_example(), 1))
OTHER_PID = 4_000_000


def wrapped(envelope: str, pid: int, line: str) -> str:
    """The line as it stands in an envelope."""
    entry = {"SYSLOG_IDENTIFIER": "sshd", "_UID": "0", "_EXE": "/usr/sbin/sshd", "__REALTIME_TIMESTAMP": "1"}
    return envelope.format(pid=pid, line=line, json=json.dumps(entry | {"_PID": str(pid), "MESSAGE": line}))


def expected(row: Row, example: Example, *, vouched: bool = False) -> tuple[str, dict[str, Any] | None]:
    """What an example means; an open row, and one at sshd's limit, is of lines whose end is missing.

    ``vouched``: journald says that sshd wrote it.
    """
    cut = row.cut in ("only", "open") or (row.cut == "tail" and len(example.line) == MESSAGE_BYTES)
    kind, said = meaning(row, example.fields, truncated=cut)
    if said is not None and not vouched:
        said["extra"]["trust"] = "low"
    return kind, said


def over(example: Example) -> str:
    """The end of the connection that an example is of: what was told of it before counts for the next no more."""
    peer = "{addr} port {port}".format(**{"addr": "::1", "port": "1"} | example.fields)
    return f"Connection closed by authenticating user x {peer}"


@pytest.mark.parametrize("ending", ["", "\n", "\r\n"], ids=["bare", "lf", "crlf"])
@pytest.mark.parametrize("name", ENVELOPES)
def test_every_example_in_every_envelope(name: str, ending: str) -> None:
    form, envelope = ENVELOPES[name]
    rejects: list[tuple[bytes, str]] = []
    reader = logins(reject=lambda line, why: rejects.append((line, why)))
    for pid, (row, example) in EXAMPLES:
        if name.startswith("LogVerbose") and len(example.line) == MESSAGE_BYTES:
            continue  # sshd's limit is one of the whole message
        reader.feed((wrapped(envelope, pid, over(example)) + "\n").encode(), form, NOW_US)
        line = (wrapped(envelope, pid, example.line) + ending).encode()
        records = reader.feed(line, form, NOW_US) + reader.flush(NOW_US)
        kind, said = expected(row, example, vouched=name.startswith("journal"))
        if name == "sshd -E":
            kind = "note" if kind == "child" else kind  # whose child it is nobody knows
            if said is not None:
                said["extra"]["unescaped"] = True
        assert meaning_of(records) == [(kind, said)], (line, rejects)
        if name == "sshd -E":
            assert (records[0].pid, records[0].child_pid) == (0, 0)
        else:  # the listener tells of the process that ended
            assert records[0].pid == (int(example.fields.get("pid", pid)) if row.yields == "end" else pid)
        assert records[0].trusted == name.startswith("journal")
        assert records[0].timed == (form != "pipe" and name != "sshd -E")
    assert rejects == []


@pytest.mark.parametrize(
    "wrap",
    ["error: {}", "fatal: {}", "{} [preauth]", "error: {} [preauth]", "{} [postauth]"],
)
def test_every_example_as_sshd_marks_it(wrap: str) -> None:
    """Levels and the monitor's mark stand around the message, and say nothing of it."""
    reader = logins()
    for pid, (row, example) in EXAMPLES:
        if len(example.line) == MESSAGE_BYTES or row.versions == "pam" or "\\" in example.line:
            continue  # what is cut has no end; PAM logs past sshd; the child's text is escaped twice
        reader.feed(f"{pid} {over(example)}\n".encode(), "pipe", NOW_US)
        records = reader.feed(f"{pid} {wrap.format(example.line)}\n".encode(), "pipe", NOW_US)
        kind, said = expected(row, example)
        if kind == "end" and wrap.endswith("[preauth]"):
            kind = "note"  # nobody had been let in
        assert meaning_of(records) == [(kind, said)], example.line


USER = "Invalid user {} from 10.0.0.5 port 50022"


@pytest.mark.parametrize(
    ("written", "user"),
    [
        ("a#011b", "a\tb"),  # rsyslog's
        (r"a\011b", "a\tb"),  # sshd's, by number and by letter
        (r"a\tb", "a\tb"),
        (r"a\\011b", r"a\011b"),  # a backslash of the name's own
        (r"a\\\tb", "a\\\tb"),
        ("a#012 from 6.6.6.6 port 22#015", "a\n from 6.6.6.6 port 22\r"),
        (r"a\n from 6.6.6.6 port 22\r", "a\n from 6.6.6.6 port 22\r"),
        (r"\040from 6.6.6.6 port 22", " from 6.6.6.6 port 22"),  # undone after the line was read, never before
        ("#101#08#0111", "#101#08\t1"),  # rsyslog has three digits, and control bytes only
    ],
)
@pytest.mark.parametrize("name", ["pipe", "RFC 3164", "ISO 8601", "RFC 5424", "RFC 5424, structured data"])
def test_escapes_are_undone_when_the_line_has_been_read(name: str, written: str, user: str) -> None:
    form, envelope = ENVELOPES[name]
    line = wrapped(envelope, 9, USER.format(written))
    ((_, said),) = meaning_of(logins().feed(f"{line}\n".encode(), form, NOW_US))
    assert said is not None
    assert (said["user"], said["source"]) == (user, ("IP", "10.0.0.5", "50022"))


def test_the_year_turns_between_two_lines() -> None:
    """A time without a year is the latest that can be meant, whenever the line is read."""
    reader = logins(zone=UTC)
    told = []
    for stamp, now in (
        ("Dec 31 23:59:58", "2024-12-31T23:59:58"),
        ("Dec 31 23:59:59", "2025-01-01T00:00:01"),
        ("Jan  1 00:00:00", "2025-01-01T00:00:01"),
        ("Dec 31 23:59:59", "2025-03-01T00:00:00"),
        ("Feb 28 12:00:00", "2025-03-01T00:00:00"),
        ("Feb 29 12:00:00", "2025-03-01T00:00:00"),
    ):
        now_us = int(datetime.fromisoformat(f"{now}+00:00").timestamp()) * 1_000_000
        line = f"{stamp} host sshd[9]: {USER.format('x')}\n"
        (record,) = reader.feed(line.encode(), "syslog", now_us)
        assert record.event is not None
        told.append(record.event.loggedAt)
    assert told == [
        "2024-12-31T23:59:58Z", "2024-12-31T23:59:59Z", "2025-01-01T00:00:00Z", "2024-12-31T23:59:59Z",
        "2025-02-28T12:00:00Z", "2024-02-29T12:00:00Z",
    ]  # fmt: skip


@pytest.mark.parametrize(
    "line",
    [
        "Jul  9 15:00:29 host sshd: {}",
        "2024-07-09T15:00:29Z host sshd[]: {}",
        "2024-07-09T15:00:29Z host sshd[0]: {}",
        "<86>1 2024-07-09T15:00:29Z host sshd - - - {}",
        "- {}",
    ],
)
def test_a_tag_without_a_pid_costs_only_the_pid(line: str) -> None:
    form = "pipe" if line.startswith("-") else "syslog"
    (record,) = logins().feed(f"{line.format(USER.format('x'))}\n".encode(), form, NOW_US)
    assert (record.kind, record.pid) == ("failure", 0)
    assert record.event is not None
    assert told(record.event)["extra"] == {"trust": "low"}


def test_every_example_repeated() -> None:
    """``message repeated 3 times``: of a failure three events, each marked; of all else one record."""
    reader = logins()
    for pid, (row, example) in EXAMPLES:
        reader.feed(f"Jul  9 15:00:29 host sshd[{pid}]: {over(example)}\n".encode(), "syslog", NOW_US)
        line = f"Jul  9 15:00:29 host sshd[{pid}]: message repeated 3 times: [ {example.line}]\n"
        found = meaning_of(reader.feed(line.encode(), "syslog", NOW_US))
        kind, said = expected(row, example)
        many = kind == "failure" and row.yields != "end"  # a connection ends once
        if many and said is not None:
            said["extra"]["repeated"] = 3
        assert found == [(kind, said)] * (3 if many else 1), line


def test_every_example_through_the_pipe_of_a_running_daemon(start: Start, pipes: list[str]) -> None:
    run = start(*pipes)
    with (run.home / "sshd").open("wb", buffering=0) as pipe:
        for pid, (_, example) in EXAMPLES:
            ending = "\r\n" if pid % 2 else "\n"
            pipe.write(f"{OTHER_PID} {over(example)}{ending}{pid} {example.line}{ending}".encode())
    wanted = {
        str(pid): said for pid, (row, example) in EXAMPLES for _, said in [expected(row, example)] if said is not None
    }

    def found() -> dict[str, dict[str, Any]]:
        events = ((event["subjects"]["pid"], event) for event in run.events())
        return {pid: told(event) for pid, event in events if pid != str(OTHER_PID)}

    wait_for(lambda: len(found()) >= len(wanted), "all events")
    assert found() == wanted
    assert run.metric("audito_sshd_unmatched_lines_total") == 0
    assert run.stop() == 0
