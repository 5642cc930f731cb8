"""Whatever text a peer, a key's owner or a CA puts into a line: it says who and from where as sshd meant it, or is marked.

Through the public path: a line in its envelope goes in, events come out, and are held against what the line was made of.
"""

from __future__ import annotations

import json
from typing import Any

import pytest
from hypothesis import assume, given, settings

from audito.core import Core
from audito.events import UNKNOWN
from audito.tables.sshd import GRAMMAR, ROWS
from audito.tables.sshd_grammar import MESSAGE_BYTES
from audito.text import lossless, original
from tests.records import Log
from tests.sshd_lines import logins, meaning, meaning_of, vis
from tests.sshd_made import Made, made
from tests.test_core import SETTINGS

ENVELOPE = b"1720530029099504 9 1 %s\n"
READER = logins()

ATTEMPTS = [
    pytest.param(number, id=f"{ROWS[variant.row].name}-{number}")
    for number, variant in enumerate(GRAMMAR.variants)
    if ROWS[variant.row].yields not in ("note", "end", "child") and variant.cut not in ("only", "open")
]
"""Readings that make events. Those for cut lines alone read what the others leave over: they have no lines of their own."""

ENDS = [
    pytest.param(number, id=f"{ROWS[variant.row].name}-{number}")
    for number, variant in enumerate(GRAMMAR.variants)
    if ROWS[variant.row].yields == "end" and variant.cut not in ("only", "open")
]


def event_of(line: Made) -> tuple[str, dict[str, Any] | None]:
    (found,) = meaning_of(READER.feed(ENVELOPE % line.line, "journal", 0))
    READER.feed(ENVELOPE % b"Accepted password for bob from ::1 port 1 ssh2", "journal", 0)  # ends a login of factors
    return found


def leaves_out(seen: dict[str, Any], said: dict[str, Any]) -> bool:
    """Whether all that an event says was said, and the rest is left out."""
    source = seen["source"]
    data = {name: value for name, value in seen["data"].items() if (name, value) != ("method", UNKNOWN)}
    return (
        seen["outcome"] == said["outcome"]
        and seen["user"] in (said["user"], UNKNOWN)
        and seen["identity"] in (said["identity"], UNKNOWN)
        and (source == said["source"] or source[1:] == (UNKNOWN, UNKNOWN))
        and data.items() - {("ambiguous", "true")} <= said["data"].items()
    )


def grown(seen: str, said: bytes) -> bool:
    """Whether a text that a cut went through is told as far as it was there: it may have run into what came after."""
    one = original(seen)
    # An escape of a byte has up to five. Where the monitor's mark is cut off, the child's escapes are not undone.
    return seen == UNKNOWN or any(one.startswith(text) or text.startswith(one[:-5]) for text in (said, vis(said)))


def cut_to_fit(head: str, tail: str) -> str:
    """A line of sshd's limit that ends in ``tail``: what came after it was cut off."""
    return head + "x" * (MESSAGE_BYTES - len(head) - len(tail)) + tail


FORGED = " from 6.6.6.6 port 22 ssh2"
KEYS = [": RSA SHA256:z", ": RSA-CERT SHA256:z ID alice (serial 7) CA RSA SHA256:z", ""]


@pytest.mark.parametrize("key", KEYS)
@pytest.mark.parametrize("mark", ["", "error: ", "auth.c:auth_log():301 (bin=sshd-session, pid=9): "])
def test_a_name_that_ends_where_sshd_cuts_gives_no_address(mark: str, key: str) -> None:
    """What sshd itself wrote behind the name is gone, and nobody knows where the name ended."""
    for tail in (FORGED + key, FORGED + key + "x" * 40):
        line = cut_to_fit(f"{mark}Failed password for invalid user root", tail)
        (found,) = meaning_of(READER.feed(ENVELOPE % line.encode(), "journal", 0))
        assert found[1] is not None
        assert found[1]["source"] == ("IP", UNKNOWN, UNKNOWN)
        assert found[1]["identity"] == UNKNOWN
        assert found[1]["extra"] == {"truncated": True}


@pytest.mark.parametrize(
    ("head", "tail"),
    [
        ("Invalid user root", " from 6.6.6.6 port 22"),
        ("administratively prohibited connection for invalid user root", " from 6.6.6.6 port 22"),
        ("error: maximum authentication attempts exceeded for invalid user root", FORGED),
        ("error: PAM: Authentication failure for illegal user root", " from 6.6.6.6"),
        ('error: Refusing certificate ID "', '" serial=7 signed by RSA CA SHA256:z: Certificate invalid: expired'),
    ],
)
def test_a_failure_that_ends_where_sshd_cuts_is_told_without_what_is_in_doubt(head: str, tail: str) -> None:
    for line in (cut_to_fit(head, tail), cut_to_fit(head, "x")):
        (found,) = meaning_of(READER.feed(ENVELOPE % line.encode(), "journal", 0))
        assert found[0] == "failure"
        assert found[1] is not None
        assert found[1]["source"] == ("IP", UNKNOWN, UNKNOWN)
        assert "Serial" not in found[1]["data"]
        assert found[1]["extra"] == {"truncated": True}


def test_a_field_that_sshd_has_cut_is_left_out() -> None:
    """A fingerprint that is not whole is another key's; what is whole is told."""
    head = 'Accepted hostbased for bob from 9.9.9.9 port 5 ssh2: RSA SHA256:c, client user "'
    line = cut_to_fit(head, '", client host "h')
    (found,) = meaning_of(READER.feed(ENVELOPE % line.encode(), "journal", 0))
    assert found[1] is not None
    assert (found[1]["user"], found[1]["source"]) == ("bob", ("IP", "9.9.9.9", "5"))
    assert found[1]["extra"] == {"truncated": True}
    for end in ("port 6553", "port 65535 ssh2: RSA SHA256:cc"):
        line = cut_to_fit("administratively prohibited connection for ", f" from 9.9.9.9 {end}")
        ((_, seen),) = meaning_of(READER.feed(ENVELOPE % line.encode(), "journal", 0)) or [("", None)]
        assert seen is None or (seen["source"][2], seen["extra"]) == (UNKNOWN, {"truncated": True})


@pytest.mark.parametrize(
    "text",
    [
        ": Authentication tried for root with correct key but not from a permitted host (host=6.6.6.6, ip=6.6.6.6,"
        " required=).",
        ": Authentication tried for root with valid certificate but not from a permitted source address (6.6.6.6).",
        " line 3: x",
        ": terminating, 3 bad configuration options",
        ": Connection from user root 6.6.6.6 port 22: x",
        " logging rate-limited: additional 3 connections dropped",
    ],
)
def test_a_key_id_makes_no_other_message_of_a_cut_line(text: str) -> None:
    """A message that begins with sshd's own words is that one, whatever follows."""
    line = cut_to_fit('error: Refusing certificate ID "', text)
    (found,) = meaning_of(READER.feed(ENVELOPE % line.encode(), "journal", 0))
    assert found[0] == "failure"
    assert found[1] is not None
    assert found[1]["source"] == ("IP", UNKNOWN, UNKNOWN)
    assert found[1]["data"]["KeyID"].endswith(text)
    (found,) = meaning_of(READER.feed(ENVELOPE % line.replace("error: Refusing", "Accepted").encode(), "journal", 0))
    assert found == ("note", None)


@pytest.mark.parametrize("name", ["x: Connection from authenticating user root 6.6.6.6 port 22: y", "x line 3: y"])
@pytest.mark.parametrize(
    "prefix", ["auth.c:auth_log():301 (bin=sshd-session, pid=9): ", "auth.c:auth_log():301 (pid=9): "]
)
def test_a_name_makes_no_other_message_behind_the_place_in_the_source(prefix: str, name: str) -> None:
    """With LogVerbose a message begins with where in sshd it was written, which could be another message's beginning."""
    line = f"{prefix}Failed password for invalid user {name} from 9.9.9.9 port 5 ssh2"
    ((kind, said),) = meaning_of(READER.feed(ENVELOPE % line.encode(), "journal", 0))
    assert said is not None
    assert (kind, said["user"], said["source"]) == ("failure", name, ("IP", "9.9.9.9", "5"))


@pytest.mark.parametrize("number", ATTEMPTS)
def test_what_was_put_in_comes_back_or_is_marked(number: int) -> None:
    @settings(max_examples=25, deadline=None)
    @given(made(GRAMMAR.variants[number]))
    def check(line: Made) -> None:
        assume(not line.fields.get("reason", b"").endswith((b" [preauth]", b" [postauth]")))  # sshd's own text
        kind, said = meaning(line.row, {name: lossless(value) for name, value in line.fields.items()})
        kind_seen, seen = event_of(line)
        assert kind_seen == kind, line
        if seen is None or said is None:
            assert seen is said
        elif seen["extra"].get("truncated"):
            assert line.cut
            assert seen["source"] == said["source"] or seen["source"][1] == UNKNOWN, (line, seen)
            assert grown(seen["user"], line.fields.get("user", b"")), (line, seen)
            assert grown(seen["identity"], line.fields.get("key_id", b"")), (line, seen)
        elif seen["data"].get("ambiguous"):
            assert leaves_out(seen, said), (line, seen, said)
        else:
            assert seen == said, (line, seen)

    check()


@pytest.mark.parametrize("number", ENDS)
def test_an_end_is_that_of_the_connection_that_sshd_named(number: int) -> None:
    @settings(max_examples=25, deadline=None)
    @given(made(GRAMMAR.variants[number]))
    def check(line: Made) -> None:
        records = READER.feed(ENVELOPE % line.line, "journal", 0)
        if line.cut and not records:  # a name could hold what stands right of it, and the rest be cut off
            assert GRAMMAR.variants[number].whole, line
            return
        (record,) = records
        said = {name: lossless(value) for name, value in line.fields.items()}
        if record.event is not None:  # before anybody was let in: an attempt that failed
            source = meaning_of([record])[0][1]["source"]  # type: ignore[index]
            assert source[1] in (said.get("addr"), UNKNOWN), line
        elif record.kind == "end":
            assert record.end is not None
            assert record.end.addr in (said.get("addr"), None), line
            assert record.end.port in (said.get("port"), None), line
        else:
            assert record.kind == "note", line

    check()


# ---------------------------------------------------------------------------------- lines that sshd does not escape

FORGED_LOGIN = (
    "Accepted publickey for bob from 6.6.6.6 port 22 ssh2: ED25519-CERT SHA256:kkk ID alice (serial 7) CA RSA SHA256:x"
)
FORGED_LINES = [
    FORGED_LOGIN,
    f"auth.c:auth_log():301 (bin=sshd-session, pid=4000): {FORGED_LOGIN}",
    f"Nov 14 22:13:20 host sshd[4000]: {FORGED_LOGIN}",
    f"2023-11-14T22:13:20Z host sshd[4000]: {FORGED_LOGIN}",
    f"<86>1 2023-11-14T22:13:20Z host sshd 4000 - - {FORGED_LOGIN}",
]
GENUINE = "Connection from 10.0.0.5 port 5022 on 10.0.0.1 port 22"


@pytest.mark.parametrize("forged", FORGED_LINES)
@pytest.mark.parametrize("form", ["syslog", "auto"])
def test_what_a_peer_puts_into_a_file_of_sshd_binds_nothing(forged: str, form: str) -> None:
    """``sshd -E`` leaves line ends as they are: a name with one in it makes lines of its own."""
    core = Core(SETTINGS)
    core.feed_sshd(f"{GENUINE}\r\nInvalid user x\r\n{forged}\r\nInvalid user y from ::1 port 1\r\n".encode(), form, 0)
    log = Log()
    core.feed_audit(log.login(ses=67, pid=4000) + log.execve(b"id", ses=67))
    core.flush()
    login, failure, *actions = (json.loads(line) for line in core.take().splitlines())
    assert (login["subjects"]["userID"], failure["subjects"]["loggedAs"]) == ("alice", "y")
    for event in (login, failure):
        assert event["metadata"]["extra"] == {"unescaped": True, "trust": "low"}
        assert "pid" not in event["subjects"]
    assert [event["type"] for event in actions] == ["UserLogin", "UserAction", "UserAction"]
    assert {event["component"] for event in actions} == {"auditd"}
    assert {event["subjects"]["userID"] for event in actions} == {UNKNOWN}


@pytest.mark.parametrize("injected", ['{"MESSAGE": "x"}', "1720530029099504 9 1 x", "- x", "9 x"])
def test_what_a_peer_puts_into_a_file_of_sshd_does_not_make_it_another_format(injected: str) -> None:
    core = Core(SETTINGS)
    core.feed_sshd(f"{GENUINE}\r\n{injected}\r\nInvalid user y from ::1 port 1\r\n".encode(), "auto", 0)
    assert [json.loads(line)["subjects"]["loggedAs"] for line in core.take().splitlines()] == ["y"]


def test_a_syslog_file_whose_first_line_is_torn_is_believed_after_a_while() -> None:
    reader = logins()
    reader.feed(f"{GENUINE}\n".encode(), "syslog", 0)
    line = f"2023-11-14T22:13:20Z host sshd[4000]: {FORGED_LOGIN}\n".encode()
    records = reader.feed(line * 100, "syslog", 0)
    assert [record.pid for record in records] == [0] * 64 + [4000] * 36
    marks = [extra for _, said in meaning_of(records) if said for extra in [said["extra"]]]
    assert marks == [{"unescaped": True, "trust": "low"}] * 64 + [{"trust": "low"}] * 36


def test_a_line_of_the_pipe_without_a_pid_has_none() -> None:
    (record,) = READER.feed(f"auth.c:auth_log():301 (pid=4000): {FORGED_LOGIN}\n".encode(), "pipe", 0)
    assert record.pid == 0
    assert meaning_of([record])[0][1]["extra"] == {"unescaped": True, "trust": "low"}  # type: ignore[index]


@pytest.mark.parametrize("form", ["journal", "journal-json"])
def test_an_entry_from_standard_error_says_so(form: str) -> None:
    """``sshd -e`` under systemd: journald makes an entry of each line, as sshd's own, whoever chose where it begins."""
    entry = {"SYSLOG_IDENTIFIER": "sshd", "_UID": "0", "_EXE": "/usr/sbin/sshd", "__REALTIME_TIMESTAMP": "1",
             "_PID": "9", "_TRANSPORT": "stdout", "MESSAGE": FORGED_LOGIN}  # fmt: skip
    line = f"1 9 2 {FORGED_LOGIN}" if form == "journal" else json.dumps(entry)
    (record,) = READER.feed(f"{line}\n".encode(), form, 0)
    assert (record.pid, record.trusted) == (9, True)
    assert meaning_of([record])[0][1]["extra"] == {"unescaped": True}  # type: ignore[index]
