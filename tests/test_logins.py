"""logins.py, through its public path: bytes of any transport in, records and events out."""

from __future__ import annotations

import json
import os
import random
import threading
import uuid
from datetime import UTC, datetime, timedelta, timezone
from pathlib import Path
from typing import Any

import msgspec
import pytest
from hypothesis import assume, given, settings
from hypothesis import strategies as st

from audito import _sshd
from audito._logins import event_id
from audito.events import UNKNOWN, UserLogin
from audito.logins import PARTIALS_MAX, SHAPES_MAX, LoginEnd, LoginRecord, Logins, LoginsState, shape_of
from audito.tables.sshd import ROWS
from audito.tables.sshd_grammar import MESSAGE_BYTES, Example, Row
from audito.text import lossless
from tests.sshd_lines import NOW_US, logins, vis

CERT = (
    "Accepted publickey for core from 6.6.6.2 port 59145 ssh2: ECDSA-CERT SHA256:kkk"
    " ID user@foo.com (serial 350) CA ED25519 SHA256:ccc"
)
FAILED = "Failed password for invalid user admin from 10.0.0.5 port 50022 ssh2"
EXAMPLES = [pytest.param(row, example, id=f"{row.name}-{n}") for row in ROWS for n, example in enumerate(row.examples)]


def read(line: str | bytes, format: str = "pipe", **more: Any) -> list[LoginRecord]:
    """The records of lines that are all there is."""
    data = line if isinstance(line, bytes) else line.encode()
    reader = logins(**more)
    return [*reader.feed(data, format, NOW_US), *reader.flush(NOW_US)]


def event_of(line: str | bytes, format: str = "pipe", **more: Any) -> UserLogin:
    (record,) = read(line, format, **more)
    assert record.event is not None
    return record.event


def facts(event: UserLogin) -> dict[str, Any]:
    """An event as its readers see it."""
    seen: dict[str, Any] = json.loads(msgspec.json.encode(event))
    return seen


def who(event: UserLogin) -> tuple[str, str, str, str]:
    """(account, identity, address, port) as written."""
    seen = facts(event)
    return (
        seen["subjects"]["loggedAs"],
        seen["subjects"]["userID"],
        seen["source"]["value"],
        seen["source"]["extra"]["port"],
    )


# ---------------------------------------------------------------------------------- the shapes that readers know


def test_an_accepted_certificate_has_the_shape_that_readers_know() -> None:
    (record,) = read(f"3076344 {CERT}\n")
    assert (record.kind, record.pid, record.time_us, record.timed, record.trusted) == (
        "login", 3076344, NOW_US, False, False,
    )  # fmt: skip
    assert record.event is not None
    text = msgspec.json.encode(record.event).decode()
    seen = json.loads(text)
    uuid.UUID(seen["metadata"].pop("auditId"))
    assert seen == {
        "metadata": {"extra": {"trust": "low"}},
        "type": "UserLogin",
        "loggedAt": "2023-03-17T13:37:01.952459Z",
        "source": {"type": "IP", "value": "6.6.6.2", "extra": {"port": "59145"}},
        "outcome": "succeeded",
        "subjects": {"loggedAs": "core", "pid": "3076344", "userID": "user@foo.com"},
        "component": "sshd",
        "target": {"host": "blam", "machine-id": "deadbeef"},
        "data": {
            "Alg": "ECDSA-CERT SHA256",
            "CA": "CA ED25519 SHA256:ccc",
            "SSHKeySum": "kkk",
            "Serial": "350",
            "method": "publickey",
        },
    }
    assert list(seen) == "metadata type loggedAt source outcome subjects component target data".split()
    assert list(seen["data"]) == ["Alg", "CA", "SSHKeySum", "Serial", "method"]


@pytest.mark.parametrize(
    ("message", "data"),
    [
        ("publickey for bob from ::1 port 1 ssh2: ED25519 SHA256:abc", {"Alg": "ED25519 SHA256", "SSHKeySum": "abc"}),
        ("publickey for bob from ::1 port 1 ssh2: RSA MD5:aa:bb", {"Alg": "RSA MD5", "SSHKeySum": "aa:bb"}),
        ("publickey for bob from ::1 port 1 ssh2: RSA aa:bb:cc", {"Alg": "RSA MD5", "SSHKeySum": "aa:bb:cc"}),
        ("publickey for bob from ::1 port 1 ssh2: RSA (null)", {"Alg": "RSA"}),
        ("publickey for bob from ::1 port 1 ssh2", {}),
        ("password for bob from ::1 port 1 ssh2", {}),
        ("keyboard-interactive/pam for bob from ::1 port 1 ssh2", {}),
        (
            'hostbased for bob from ::1 port 1 ssh2: RSA SHA256:a, client user "b", client host "h"',
            {"Alg": "RSA SHA256", "SSHKeySum": "a", "clientUser": "b", "clientHost": "h"},
        ),
    ],
)
def test_an_accepted_login_without_a_certificate(message: str, data: dict[str, str]) -> None:
    event = event_of(f"7 Accepted {message}\n")
    assert who(event) == ("bob", "unknown", "::1", "1")
    assert event.outcome == "succeeded"
    assert event.data == data | {"method": message.partition(" ")[0]}


def test_an_old_certificate_line_has_no_fingerprint_of_the_key() -> None:
    event = event_of("7 Accepted publickey for bob from ::1 port 1 ssh2: RSA-CERT ID i (serial 5) CA RSA SHA256:ccc\n")
    assert who(event) == ("bob", "i", "::1", "1")
    assert event.data == {"Alg": "RSA-CERT", "CA": "CA RSA SHA256:ccc", "Serial": "5", "method": "publickey"}


@pytest.mark.parametrize(
    ("message", "seen", "data"),
    [
        (FAILED, ("admin", "10.0.0.5", "50022"), {"error": "invalid user", "method": "password"}),
        (
            "Failed password for bob from ::1 port 1 ssh2",
            ("bob", "::1", "1"),
            {"error": "authentication failed", "method": "password"},
        ),
        ("Invalid user  from ::1 port 1", ("", "::1", "1"), {"error": "invalid user", "method": "unknown"}),
        ("Invalid user x from ::1", ("x", "::1", "unknown"), {"error": "invalid user", "method": "unknown"}),
        (
            "error: Certificate invalid: expired",
            ("unknown", "unknown", "unknown"),
            {"error": "certificate invalid", "reason": "expired", "method": "publickey"},
        ),
        (
            "User bob from h.example.com not allowed because listed in DenyUsers",
            ("bob", "h.example.com", "unknown"),
            {"error": "user not allowed", "reason": "listed in DenyUsers", "method": "unknown"},
        ),
        (
            "ROOT LOGIN REFUSED FROM ::1 port 1",
            ("root", "::1", "1"),
            {"error": "root login refused", "method": "unknown"},
        ),
        (
            "error: PAM: Authentication failure for illegal user x from 10.0.0.5",
            ("x", "10.0.0.5", "unknown"),
            {"error": "invalid user", "reason": "Authentication failure", "method": "keyboard-interactive/pam"},
        ),
        (
            'error: Refusing certificate ID "a b" serial=7 signed by RSA CA SHA256:c via /k: Certificate invalid: old',
            ("unknown", "unknown", "unknown"),
            {
                "CA": "CA RSA SHA256:c", "Serial": "7", "KeyID": "a b", "error": "certificate invalid",
                "reason": "Certificate invalid: old", "method": "publickey",
            },
        ),
        (
            "fatal: Access denied for user bob by PAM account configuration [preauth]",
            ("bob", "unknown", "unknown"),
            {"error": "access denied", "reason": "PAM account configuration", "method": "unknown"},
        ),
        (
            "Failed none for invalid user x from UNKNOWN port 65535 ssh2",
            ("x", "unknown", "unknown"),
            {"error": "invalid user", "method": "none"},
        ),
    ],
)  # fmt: skip
def test_failures(message: str, seen: tuple[str, str, str], data: dict[str, str]) -> None:
    event = event_of(f"7 {message}\n")
    user, address, port = seen
    assert who(event) == (user, "unknown", address, port)
    assert event.outcome == "failed"
    assert event.data == data
    assert facts(event)["source"]["type"] == ("DNS" if "example" in address else "IP")


def test_a_refused_certificate_is_nobodys_identity() -> None:
    event = event_of(
        "7 Failed publickey for bob from ::1 port 1 ssh2: RSA-CERT SHA256:k ID root (serial 1) CA RSA SHA256:c\n"
    )
    assert who(event)[1] == "unknown"
    assert event.data is not msgspec.UNSET
    assert event.data["KeyID"] == "root"


@pytest.mark.parametrize(
    "message",
    [
        "Postponed publickey for bob from ::1 port 1 ssh2 [preauth]",
        "Address 10.0.0.5 maps to h.example.com, but this does not map back to the address.",
        "reverse mapping checking getaddrinfo for h [10.0.0.5] failed - POSSIBLE BREAK-IN ATTEMPT!",
        "Connection closed by invalid user root 10.0.0.5 port 1 [preauth]",
        "Connection closed by 10.0.0.5 port 1 [preauth]",
        "Received disconnect from 10.0.0.5 port 1:11: Bye Bye [preauth]",
        "Timeout before authentication for 10.0.0.5 port 1",
        "Close session: user bob from ::1 port 1 id 0",
        "User child is on pid 0",
        "pam_unix(sshd:auth): authentication failure; logname= uid=0 euid=0 tty=ssh ruser= rhost=10.0.0.5  user=bob",
        "pam_unix(sshd:session): session opened for user bob by (uid=0)",
        "Starting session: shell on pts/0 for bob from 10.0.0.5 port 1 id 0",
    ],
)
def test_notes_are_no_logins(message: str) -> None:
    reader = logins()
    (record,) = reader.feed(f"7 {message}\n".encode(), "pipe", NOW_US)
    assert (record.kind, record.pid, record.event) == ("note", 7, None)
    counters = reader.counters()
    assert (counters["notes"], counters["failures"], counters["logins"], counters["unmatched_lines"]) == (1, 0, 0, 0)


def test_logins_are_counted_by_method_and_outcome() -> None:
    reader = logins()
    for message in (CERT, FAILED, FAILED, "Accepted odd/thing for bob from ::1 port 1 ssh2"):
        reader.feed(f"7 {message}\n".encode(), "pipe", NOW_US)
    counters = reader.counters()
    assert counters["logins_certificate_succeeded"] == 1
    assert counters["logins_password_failed"] == 2
    assert counters["logins_unknown_succeeded"] == 1
    assert counters["logins_publickey_succeeded"] == 0


# ---------------------------------------------------------------------------------- ends, and who serves the user


@pytest.mark.parametrize(
    ("message", "end"),
    [
        (
            "Received disconnect from 10.0.0.5 port 50022:11: disconnected by user",
            (None, "10.0.0.5", "50022", "disconnected by user"),
        ),
        ("Received disconnect from ::1: 11: Bye Bye", (None, "::1", None, "Bye Bye")),
        ("Disconnected from user b o 10.0.0.5 port 50022", ("b o", "10.0.0.5", "50022", "disconnected")),
        ("Disconnected from 10.0.0.5", (None, "10.0.0.5", None, "disconnected")),
        ("Connection closed by user bob ::1 port 1", ("bob", "::1", "1", "Connection closed")),
        ("Connection reset by ::1 port 1", (None, "::1", "1", "Connection reset")),
        ("Connection closed by UNKNOWN port 65535", (None, None, "65535", "Connection closed")),
        ("Connection from user bob ::1 port 1 timed out", ("bob", "::1", "1", "timed out")),
        (
            "Timeout, client not responding from user bob ::1 port 1",
            ("bob", "::1", "1", "Timeout, client not responding"),
        ),
        ("Timeout, client not responding.", (None, None, None, "Timeout, client not responding")),
        (
            "terminating inactive connection from user bob ::1 port 1",
            ("bob", "::1", "1", "terminating inactive connection"),
        ),
        (
            "error: Read error from remote host user bob ::1 port 1: Connection timed out",
            ("bob", "::1", "1", "Connection timed out"),
        ),
        (
            "ssh_dispatch_run_fatal: Connection from user bob ::1 port 1: message authentication code incorrect",
            ("bob", "::1", "1", "message authentication code incorrect"),
        ),
        ("pam_unix(sshd:session): session closed for user bob", ("bob", None, None, None)),
        ("Disconnecting user bob ::1 port 1: Packet corrupt", ("bob", "::1", "1", "Packet corrupt")),
        ("Disconnecting: Packet corrupt", (None, None, None, "Packet corrupt")),
    ],
)
def test_ends_of_sessions(message: str, end: tuple[str | None, ...]) -> None:
    reader = logins()
    (record,) = reader.feed(f"7 {message}\n".encode(), "pipe", NOW_US)
    assert (record.kind, record.pid, record.event, record.child_pid) == ("end", 7, None, 0)
    assert record.end == LoginEnd(*end)
    assert reader.counters()["ends"] == 1
    before = read(f"7 {message} [preauth]\n")[0]
    assert (before.kind, before.end) == ("note", None), "of no session: nobody was authenticated yet"


def test_the_listener_tells_of_a_session_that_was_killed() -> None:
    (record,) = read("1 session process 4711 for connection from 10.0.0.5 to 10.0.0.1 killed by signal 9\n")
    assert (record.kind, record.pid, record.child_pid) == ("end", 4711, 0)
    assert record.end == LoginEnd(None, "10.0.0.5", None, "killed by a signal")


def test_an_end_whose_mark_may_have_been_cut_off_is_none() -> None:
    line = "Received disconnect from 10.0.0.5 port 1:11: " + "x" * 600
    assert [record.kind for record in read(f"7 {line[:499]}\n7 {line[:500]}\n")] == ["end", "note"]


def test_the_process_that_serves_the_user() -> None:
    reader = logins()
    records = reader.feed(b"7 User child is on pid 4711\n7 User child is on pid 99999999999\n", "pipe", NOW_US)
    assert [(record.kind, record.pid, record.child_pid) for record in records] == [("child", 7, 4711), ("note", 7, 0)]
    assert reader.counters()["children"] == 1


GIVEN_UP = "Connection closed by authenticating user bob 10.0.0.5 port 50022 [preauth]"


@pytest.mark.parametrize(
    ("message", "reason"),
    [
        (GIVEN_UP, "Connection closed"),
        ("Connection reset by authenticating user bob 10.0.0.5 port 50022 [preauth]", "Connection reset"),
        ("Disconnected from authenticating user bob 10.0.0.5 port 50022 [preauth]", "disconnected"),
        ("Connection from authenticating user bob 10.0.0.5 port 50022 timed out [preauth]", "timed out"),
        (
            "Disconnecting authenticating user bob 10.0.0.5 port 50022: Change of username or service not allowed:"
            " (bob,ssh-connection) -> (x 6.6.6.6 port 7: y,ssh-connection) [preauth]",
            "Change of username or service not allowed: (bob,ssh-connection) -> (x 6.6.6.6 port 7: y,ssh-connection)",
        ),
        (
            "ssh_dispatch_run_fatal: Connection from authenticating user bob 10.0.0.5 port 50022: Broken pipe [preauth]",
            "Broken pipe",
        ),
    ],
)
def test_a_user_who_gives_up_has_failed(message: str, reason: str) -> None:
    """At its usual log level sshd says nothing else of keys that it refused."""
    event = event_of(f"7 {message}\n")
    assert who(event) == ("bob", "unknown", "10.0.0.5", "50022")
    assert event.outcome == "failed"
    assert event.data == {"error": "authentication failed", "reason": reason, "method": "unknown"}


@pytest.mark.parametrize(
    "told",
    [
        "Failed password for bob from 10.0.0.5 port 50022 ssh2",
        "Failed publickey for bob from 10.0.0.5 port 50022 ssh2: RSA SHA256:abc",
        "error: maximum authentication attempts exceeded for bob from 10.0.0.5 port 50022 ssh2 [preauth]",
        "error: Certificate invalid: expired",  # names no peer: its process does
        "User bob not allowed because account is locked",
    ],
)
def test_the_end_of_a_failed_attempt_is_no_second_failure(told: str) -> None:
    records = read(f"7 {told}\n7 {GIVEN_UP}\n")
    assert [record.kind for record in records] == ["failure", "note"]
    other = GIVEN_UP.replace("50022", "50023")
    assert [record.kind for record in read(f"7 {told}\n8 {other}\n")] == ["failure", "failure"]


def test_of_a_connection_that_is_over_nothing_is_kept() -> None:
    reader = logins()
    for pid in range(1, 10_000):
        peer = f"10.0.{pid % 200}.{pid % 199} port {pid}"
        lines = (f"{pid} Failed password for bob from {peer} ssh2", f"{pid} error: Certificate invalid: expired")
        last = (
            "Accepted password for bob from {} ssh2" if pid % 2 else "Connection closed by authenticating user bob {}"
        )
        reader.feed("".join(f"{line}\n" for line in (*lines, f"{pid} {last.format(peer)}")).encode(), "pipe", NOW_US)
    assert reader.dump().told == []
    assert reader.counters()["failures"] == 2 * 9_999


def test_connections_that_never_end_are_bounded() -> None:
    reader = logins()
    for number in range(20_000):
        line = f"9 Failed password for bob from 10.1.{number % 256}.{number // 256} port 7 ssh2\n"
        reader.feed(line.encode(), "pipe", NOW_US)
    assert len(reader.dump().told) <= 4096
    (record,) = reader.feed(f"9 {line[2:].replace('Failed password for', 'Connection closed by authenticating user')}"
                            .replace(" from", "").replace(" ssh2", "").encode(), "pipe", NOW_US)  # fmt: skip
    assert record.kind == "note", "the latest is known"


# ---------------------------------------------------------------------------------- every example, every way in


def summary(records: list[LoginRecord]) -> list[tuple[Any, ...]]:
    """What must not depend on how the line came: all but times and ids."""
    return [
        (record.kind, record.pid, record.event and (who(record.event), record.event.outcome, record.event.data))
        for record in records
    ]


def expected(row: Row, example: Example) -> tuple[Any, ...]:
    """Kind, account, address and port that an example must give."""
    fields = example.fields
    kinds = {"Accepted": "login", "Failed": "failure", "Partial": "note", "Postponed": "note"}
    kind = kinds[fields["verb"]] if row.yields == "attempt" else row.yields
    if kind == "end":
        kind = {"authenticating user": "failure", "invalid user": "note"}.get(fields.get("state", ""), "end")
    if kind not in ("login", "failure"):
        return (kind,)
    address = fields.get("addr", fields.get("host", UNKNOWN)).replace("UNKNOWN", UNKNOWN)
    port = fields.get("port", UNKNOWN) if address != UNKNOWN else UNKNOWN
    return kind, fields.get("user", row.user or UNKNOWN), address, port


@pytest.mark.parametrize("ending", ["", "\n", "\r\n", "\0\n"], ids=["bare", "lf", "crlf", "nul"])
@pytest.mark.parametrize(("row", "example"), EXAMPLES)
def test_every_example(row: Row, example: Example, ending: str) -> None:
    (record,) = read(f"4711  {example.line}{ending}")
    seen: tuple[Any, ...] = (record.kind,)
    if record.event is not None:
        account, _, address, port = who(record.event)
        seen = (record.kind, account, address, port)
    assert seen == expected(row, example)
    assert record.pid == 4711


@pytest.mark.parametrize(("row", "example"), EXAMPLES)
def test_every_example_split_at_every_byte(row: Row, example: Example) -> None:
    line = f"4711 {example.line}\n1 {FAILED}\n".encode()
    whole = summary(read(line))
    assert len(whole) == 2
    reader = logins()
    fresh = reader.dump()
    for place in range(len(line)):
        reader.load(fresh)
        records = reader.feed(line[:place], "pipe", NOW_US)
        assert reader.pending_bytes == place - (line[:place].rfind(b"\n") + 1)
        assert summary(records + reader.feed(line[place:], "pipe", NOW_US)) == whole
    reader.load(fresh)
    records = [record for byte in line for record in reader.feed(bytes([byte]), "pipe", NOW_US)]
    assert summary(records) == whole


def test_u17_every_example_through_a_real_pipe(tmp_path: Path) -> None:
    """The line end stays on what a pipe gives: 16 of 20 of the Go daemon's patterns never matched there."""
    path = tmp_path / "sshd-pipe"
    os.mkfifo(path, 0o600)
    # Ends first: they are of the same connections as the failures, and one attempt is one failure.
    examples = sorted(_all_examples(), key=lambda found: found[0].yields != "end")
    lines = [f"{number + 1} {example.line}\n".encode() for number, (row, example) in enumerate(examples)]

    def write() -> None:
        with path.open("wb", buffering=0) as pipe:
            for line in lines:
                pipe.write(line)

    writer = threading.Thread(target=write)
    writer.start()
    reader = logins()
    records: list[LoginRecord] = []
    with path.open("rb", buffering=0) as pipe:
        while data := pipe.read(700):
            records += reader.feed(data, "pipe", NOW_US)
    writer.join()
    listeners = "child_killed"  # is told of another process, which it names: 4711
    pids = [4711 if row.name == listeners else number + 1 for number, (row, _) in enumerate(examples)]
    assert [record.pid for record in records] == pids
    kinds = [expected(row, example)[0] for row, example in examples]
    assert [record.kind for record in records] == kinds
    assert reader.counters()["unmatched_lines"] == 0


def _all_examples() -> list[tuple[Row, Example]]:
    return [(row, example) for row in ROWS for example in row.examples]


def told(records: list[LoginRecord]) -> list[tuple[str, dict[str, Any] | None]]:
    """Kinds and events, all but the ids: those count equal lines of one moment."""
    kinds = [(record.kind, record.event and facts(record.event)) for record in records]
    for _, event in kinds:
        if event is not None:
            del event["metadata"]["auditId"]
    return kinds


def test_what_is_kept_of_one_line_says_nothing_of_another() -> None:
    """Source, subjects and data are made once for many lines: each must be that of its own line."""
    rng = random.Random(1)
    lines = []
    for row, example in _all_examples():
        names = (example.fields.get(name, "") for name in ("user", "addr", "port"))
        for user, addr, port in (names, ("root", "10.0.0.7", "1"), ("root", "10.0.0.7", "11"), ("x" * 60, "::7", "1")):
            line = example.line
            for name, text in (("user", user), ("addr", addr), ("port", port)):
                if example.fields.get(name):
                    line = line.replace(example.fields[name], text, 1)
            if row.yields in ("attempt", "failure") and example.fields.get("verb") != "Partial":  # those join
                lines += [f"{pid} {line}\n" for pid in (7, 8, 1_000_007)]
    lines += [f"{n % 3} Invalid user u{n} from 10.0.{n % 256}.1 port {n}\n" for n in range(1, 600)]
    rng.shuffle(lines)
    for method in ("m" * 40, "m" * 41, "m" * 42, *(f"m{n}" for n in range(300))):
        for verb, invalid in (("Failed", ""), ("Failed", "invalid user "), ("Accepted", "")):
            lines.append(f"7 {verb} {method} for {invalid}root from 10.0.0.7 port 1 ssh2\n")
    alone = [fact for line in lines for fact in told(read(line))]
    reader = logins()
    for _ in range(2):
        assert told(reader.feed("".join(lines).encode(), "pipe", NOW_US)) == alone


ENVELOPES = [
    ("pipe", "9 {}"),
    ("pipe", "9   {}"),
    ("syslog", "Jul  9 15:00:29 host sshd[9]: {}"),
    ("syslog", "Jul  9 15:00:29 sshd[9]: {}"),
    ("syslog", "Jul 19 15:00:29 fe80::1 sshd-session[9]: {}"),
    ("syslog", "Jul 19 15:00:29 fe80:: sshd-session[9]: {}"),
    ("syslog", "<86>Jul  9 15:00:29 host.example.com sshd-auth[9]: {}"),
    ("syslog", "2024-07-09T15:00:29.099504+02:00 host sshd[9]: {}"),
    ("syslog", "2024-07-09T15:00:29Z host sshd(pam_unix)[9]: {}"),
    ("syslog", "<86>1 2024-07-09T15:00:29.099504+02:00 host sshd 9 - - {}"),
    ("syslog", "<86>1 2024-07-09T15:00:29.099504+02:00 host sshd 9 - - \ufeff{}"),
    ("syslog", '<86>1 2024-07-09T15:00:29.099504+02:00 host sshd-session 9 ID47 [a b="\\]"][c@1 d="e"] \ufeff{}'),
    ("syslog", "<86>1 - - sshd 9 - - {}"),
    ("journal", "1720530029099504 9 1 {}"),
    ("pipe", "- auth.c:auth_log():301 (bin=sshd-session, pid=9): {}"),
    ("pipe", "- auth.c:auth_log():301 (pid=9): {}"),
]


@pytest.mark.parametrize(("format", "envelope"), ENVELOPES)
@pytest.mark.parametrize("wrap", ["{}", "error: {}", "fatal: {}", "{} [preauth]", "error: {} [postauth]"])
def test_every_envelope(format: str, envelope: str, wrap: str) -> None:
    if "auth.c" in envelope:
        wrap = wrap.removeprefix("error: ").removeprefix("fatal: ")  # -E has no such prefixes
    for message in (CERT, FAILED, "Postponed publickey for bob from ::1 port 1 ssh2"):
        line = envelope.format(wrap.format(message)) + "\n"
        assert summary(read(line, format)) == summary(read(f"9 {message}\n")), line
        assert summary(read(line, "auto")) == summary(read(f"9 {message}\n")), line


def test_an_sshd_e_file_has_no_envelope() -> None:
    lines = f"Server listening on 0.0.0.0 port 22.\r\n{CERT}\r\n{FAILED} [preauth]\r\n"
    records = read(lines, "syslog")
    assert [record.kind for record in records] == ["note", "login", "failure"]
    assert [(record.pid, record.timed) for record in records] == [(0, False)] * 3
    assert "pid" not in facts(records[1].event)["subjects"]  # type: ignore[arg-type]


def test_a_line_without_envelope_is_nobodys_once_lines_have_one() -> None:
    reader = logins()
    lines = f"Jul  9 15:00:29 host sshd[9]: {FAILED}\n{CERT}\n"
    assert [record.kind for record in reader.feed(lines.encode(), "syslog", NOW_US)] == ["failure"]
    assert reader.counters()["no_envelope"] == 1


@pytest.mark.parametrize(
    "line",
    [
        f"Jul  9 15:00:29 host cron[9]: {CERT}",
        f"Jul  9 15:00:29 host sshdx[9]: {CERT}",
        f"Jul  9 15:00:29 host evil: sshd[9]: {CERT}",
        f"2024-07-09T15:00:29Z host sftp-server[9]: {CERT}",
        f"<86>1 2024-07-09T15:00:29Z host cron 9 - - {CERT}",
    ],
)
def test_lines_of_other_programs_are_not_sshds(line: str) -> None:
    reader = logins()
    assert reader.feed(f"{line}\n".encode(), "syslog", NOW_US) == []
    assert reader.counters()["other_program"] == 1


@pytest.mark.parametrize(
    "line",
    [
        "Jul 99 15:00:29 host sshd[9]: x",
        "Jul  9 25:00:29 host sshd[9]: x",
        "2024-13-09T15:00:29Z host sshd[9]: x",
        "2024-07-09T15:00:29 host sshd[9]: x",
        "<86>1 yesterday host sshd 9 - - x",
        "<86>1 2024-07-09T15:00:29Z host sshd 9 - [a x",
        "<86",
        "Jul  9 15:00:29 ",
        "Feb 30 15:00:29 host sshd[9]: x",
    ],
)
def test_a_broken_envelope_is_counted(line: str) -> None:
    reader = logins()
    reader.feed(b"Jul  9 15:00:29 host sshd[9]: Exiting on signal 15\n", "syslog", NOW_US)
    assert reader.feed(f"{line}\n".encode(), "syslog", NOW_US) == []
    assert reader.counters()["no_envelope"] == 1


# ---------------------------------------------------------------------------------- time


def test_u27_logged_at_is_the_time_of_the_line() -> None:
    event = event_of(f"2024-07-09T15:00:29.099504+02:00 host sshd[9]: {FAILED}\n", "syslog")
    assert event.loggedAt == "2024-07-09T13:00:29.099504Z"


@pytest.mark.parametrize(
    ("stamp", "logged_at"),
    [
        ("2024-07-09T15:00:29Z", "2024-07-09T15:00:29Z"),
        ("2024-07-09T15:00:29.1Z", "2024-07-09T15:00:29.1Z"),
        ("2024-07-09T15:00:29.123-0530", "2024-07-09T20:30:29.123Z"),
        ("2024-07-09T15:00:29.123456789+00:00", "2024-07-09T15:00:29.123456Z"),
        ("2024-02-29T23:59:59.999999-00:01", "2024-03-01T00:00:59.999999Z"),
        ("1969-12-31T23:59:59.5Z", "1969-12-31T23:59:59.5Z"),
        ("2000-02-29T00:00:00Z", "2000-02-29T00:00:00Z"),
        ("2100-03-01T00:00:00Z", "2100-03-01T00:00:00Z"),
    ],
)
def test_digits_are_those_of_the_source(stamp: str, logged_at: str) -> None:
    (record,) = read(f"{stamp} host sshd[9]: {FAILED}\n", "syslog")
    assert record.event is not None
    assert record.event.loggedAt == logged_at
    assert record.timed
    time = datetime.fromisoformat(logged_at).astimezone(UTC)
    assert record.time_us == (time - datetime(1970, 1, 1, tzinfo=UTC)) // timedelta(microseconds=1)


@settings(max_examples=200, deadline=None)
@given(st.datetimes(min_value=datetime(1, 1, 1), max_value=datetime(9999, 12, 31)))  # noqa: DTZ001
def test_any_time_comes_back(time: datetime) -> None:
    stamp = time.isoformat(timespec="microseconds")
    assert event_of(f"{stamp}Z host sshd[9]: {FAILED}\n", "syslog").loggedAt == f"{stamp}Z"


@pytest.mark.parametrize(
    ("stamp", "now", "logged_at"),
    [
        ("Jul  9 15:00:29", "2024-07-10", "2024-07-09T13:00:29Z"),
        ("Dec 31 23:59:59", "2025-01-01", "2024-12-31T21:59:59Z"),
        ("Jan  1 00:30:00", "2024-12-31", "2024-12-31T22:30:00Z"),  # their clock is ahead of ours
        ("Jan  3 00:30:00", "2024-12-31", "2024-01-02T22:30:00Z"),
        ("Feb 29 12:00:00", "2026-05-01", "2024-02-29T10:00:00Z"),
        ("Nov 11 08:09:10", "2024-11-11", "2024-11-11T06:09:10Z"),
    ],
)
def test_a_time_without_a_year_is_the_latest_that_can_be(stamp: str, now: str, logged_at: str) -> None:
    now_us = int(datetime.fromisoformat(f"{now}T12:00:00+00:00").timestamp()) * 1_000_000
    reader = logins(zone=timezone(timedelta(hours=2)))
    (record,) = reader.feed(f"{stamp} host sshd[9]: {FAILED}\n".encode(), "syslog", now_us)
    assert record.event is not None
    assert record.event.loggedAt == logged_at


def test_without_a_zone_the_hosts_own_counts(monkeypatch: pytest.MonkeyPatch) -> None:
    import time

    monkeypatch.setenv("TZ", "Europe/Berlin")
    time.tzset()
    try:
        winter = event_of(f"Jan  9 15:00:29 host sshd[9]: {FAILED}\n", "syslog")
        summer = event_of(f"Jul  9 15:00:29 host sshd[9]: {FAILED}\n", "syslog")
    finally:
        monkeypatch.undo()
        time.tzset()
    assert (winter.loggedAt, summer.loggedAt) == ("2023-01-09T14:00:29Z", "2022-07-09T13:00:29Z")


@pytest.mark.parametrize("now_us", [-(2**63), -1, 0, 2**53, 2**63 - 1])
def test_no_now_is_too_strange(now_us: int) -> None:
    for form, line in (("pipe", f"9 {FAILED}\n"), ("syslog", f"Jul  9 15:00:29 host sshd[9]: {FAILED}\n")):
        assert len(logins().feed(line.encode(), form, now_us)) == 1


# ---------------------------------------------------------------------------------- the known faults


def test_u18_sshds_own_prefix_is_expected() -> None:
    event = event_of("7 error: maximum authentication attempts exceeded for bob from ::1 port 1 ssh2 [preauth]\n")
    assert who(event) == ("bob", "unknown", "::1", "1")


@pytest.mark.parametrize(
    ("message", "user"),
    [
        ("Invalid user {} from 9.9.9.9 port 5", "x from 6.6.6.6 port 22"),
        ("Failed password for invalid user {} from 9.9.9.9 port 5 ssh2", "x from 6.6.6.6 port 22 ssh2"),
        ("Failed password for invalid user {} from 9.9.9.9 port 5 ssh2", "x from 6.6.6.6 port 22 ssh2: RSA SHA256:abc"),
        ("Failed none for invalid user {} from 9.9.9.9 port 5 ssh2", " from 6.6.6.6 port 22 ssh2: foo"),
        ("Failed none for invalid user {} from 9.9.9.9 port 5 ssh2", "invalid user root"),
        (
            "maximum authentication attempts exceeded for invalid user {} from 9.9.9.9 port 5 ssh2",
            "a from ::1 port 2 ssh2",
        ),
    ],
)
def test_u19_the_source_is_the_peers_address(message: str, user: str) -> None:
    event = event_of(f"7 {message.format(user)}\n")
    assert who(event) == (user, "unknown", "9.9.9.9", "5")


@pytest.mark.parametrize(
    "key_id",
    [
        "x from 6.6.6.6 port 22 ssh2",
        "x from 6.6.6.6 port 22 ssh2: ED25519-CERT SHA256:zzz ID alice (serial 7) CA ED25519 SHA256:fff",
        "alice (serial 7)",
        "alice (serial 7) CA ED25519 SHA256:fff",
        "bob ID alice",
        ") CA ",
        '"',
    ],
)
@pytest.mark.parametrize("fp", ["SHA256:kkk ", ""], ids=["7.9", "6.6"])
def test_u20_a_key_id_forges_nothing(key_id: str, fp: str) -> None:
    event = event_of(
        f"7 Accepted publickey for bob from 9.9.9.9 port 5 ssh2: ED25519-CERT {fp}ID {key_id}"
        " (serial 42) CA RSA SHA256:c\n"
    )
    assert who(event) == ("bob", key_id, "9.9.9.9", "5")
    assert event.data is not msgspec.UNSET
    assert (event.data["Serial"], event.data["CA"]) == ("42", "CA RSA SHA256:c")


@pytest.mark.parametrize("key_id", ["a" * 600, "alice (serial 7) CA ED25519 SHA256:" + "a" * 600])
def test_u21_a_cut_key_id_is_marked(key_id: str) -> None:
    head = "Accepted publickey for bob from 9.9.9.9 port 5 ssh2: RSA-CERT SHA256:k ID "
    line = f"{head}{key_id} (serial 42) CA RSA SHA256:c"
    event = event_of(f"7 {line[:500]}\n")
    account, identity, address, port = who(event)
    assert (account, address, port) == ("bob", "9.9.9.9", "5")
    assert identity == line[:500].partition(" ID ")[2]
    assert facts(event)["metadata"]["extra"] == {"truncated": True, "trust": "low"}
    assert event.data == {"Alg": "RSA-CERT SHA256", "SSHKeySum": "k", "method": "publickey"}


@pytest.mark.parametrize("key_id", ["a" * 1200, "alice (serial 7) CA ED25519 SHA256:" + "a" * 1200])
def test_u21_sshd_e_cuts_later(key_id: str) -> None:
    line = f"Accepted publickey for bob from 9.9.9.9 port 5 ssh2: RSA-CERT SHA256:k ID {key_id} (serial 42) CA RSA"
    event = event_of(f"{line[:1021]}\n", "syslog")
    assert who(event)[1] == line[:1021].partition(" ID ")[2]
    assert facts(event)["metadata"].get("extra") == {"truncated": True, "trust": "low", "unescaped": True}


def test_a_certificate_line_that_something_else_has_cut_is_marked() -> None:
    for end in (
        len(CERT) - len(tail)
        for tail in ("519 SHA256:ccc", ") CA ED25519 SHA256:ccc", ".com (serial 350) CA ED25519 SHA256:ccc")
    ):
        event = event_of(f"9 {CERT[:end]}\n")
        assert who(event) == ("core", CERT[:end].partition(" ID ")[2], "6.6.6.2", "59145")
        assert facts(event)["metadata"]["extra"] == {"truncated": True, "trust": "low"}


@pytest.mark.parametrize("pid", ["abc", "-", "0", "-1", "99999999999", "4194305", "1x", "\u0661"])
def test_u22_a_pid_that_is_no_number_costs_only_the_pid(pid: str) -> None:
    (record,) = read(f"{pid} {CERT}\n")
    assert (record.kind, record.pid) == ("login", 0)
    assert record.event is not None
    assert who(record.event) == ("core", "user@foo.com", "6.6.6.2", "59145")
    assert "pid" not in facts(record.event)["subjects"]


def test_a_line_without_any_pid_is_read() -> None:
    assert [(record.kind, record.pid) for record in read(f"{CERT}\n")] == [("login", 0)]


@pytest.mark.parametrize(
    ("text", "user"),
    [
        (rb"\303\251", "é"),
        (rb"\377\303\251", r"\xffé"),
        (rb"\377\\", "\\xff\\\\"),
        (rb"DOMAIN\\bob", "DOMAIN\\bob"),
        (rb"\\xff", "\\\\xff"),
        (b"\xff", r"\xff"),
        ("é".encode(), "é"),
        (rb"\n\t\001\033[m\0", "\n\t\x01\x1b[m\0"),
        (rb"\355\240\200", r"\xed\xa0\x80"),
        (b"a\\", "a\\"),
        (b"a\\3", "a\\3"),
    ],
)
def test_u31_text_is_escaped_and_never_replaced(text: bytes, user: str) -> None:
    event = event_of(b"7 Invalid user " + text + b" from 9.9.9.9 port 5\n")
    assert who(event) == (user, "unknown", "9.9.9.9", "5")


@given(st.binary(max_size=40), st.binary(max_size=40))
def test_u31_no_two_texts_look_alike(one: bytes, other: bytes) -> None:
    assert (lossless(one) == lossless(other)) == (one == other)
    lossless(one).encode()


@pytest.mark.parametrize(
    ("text", "user"),
    [
        (rb"\\303\\251", "é"),
        (rb"DOMAIN\\\\bob", "DOMAIN\\bob"),
        (rb"\303\251", "é"),
        (rb"\303\251\\n", "é\\n"),
        (b"plain", "plain"),
    ],
)
def test_what_the_unprivileged_child_wrote_is_escaped_twice(text: bytes, user: str) -> None:
    line = b"9 error: maximum authentication attempts exceeded for invalid user %s from ::1 port 1 ssh2%s\n"
    assert who(event_of(line % (text, b" [preauth]")))[0] == user


def test_escapes_of_rsyslog_are_undone_after_matching() -> None:
    assert who(event_of("7 Invalid user a#011b#101 from 9.9.9.9 port 5\n"))[0] == "a\tb#101"
    assert who(event_of(f"{NOW_US} 7 1 Invalid user a#011b from 9.9.9.9 port 5\n", "journal"))[0] == "a#011b"
    assert who(event_of("7 Invalid user #012 from 6.6.6.6 port 1 from 9.9.9.9 port 5\n"))[2] == "9.9.9.9"


# ---------------------------------------------------------------------------------- what cannot be told is not told


def test_a_line_that_reads_in_two_ways_is_not_trusted() -> None:
    event = event_of(
        "7 Failed publickey for invalid user bob from 1.1.1.1 port 1 ssh2: RSA-CERT SHA256:k ID x from 6.6.6.6 port 2"
        " ssh2: RSA-CERT SHA256:z ID alice (serial 7) CA RSA SHA256:c (serial 8) CA RSA SHA256:d\n"
    )
    assert who(event) == ("unknown", "unknown", "unknown", "unknown")
    assert event.data is not msgspec.UNSET
    assert event.data["ambiguous"] == "true"


@pytest.mark.parametrize(
    "message",
    [
        "Failed password for bob from 1.2.3 port 1 ssh2",
        "Failed password for bob from 1.2.3.256 port 1 ssh2",
        "Failed password for bob from 01.2.3.4 port 1 ssh2",
        "Failed password for bob from 1:2 port 1 ssh2",
        "Failed password for bob from 1::2::3 port 1 ssh2",
        "Failed password for bob from ::1% port 1 ssh2",
        "Failed password for bob from :1 port 1 ssh2",
        "Failed password for bob from h.example.com port 1 ssh2",
        "Failed password for bob from ::1 port 0 ssh2",
        "Failed password for bob from ::1 port 65536 ssh2",
        "Failed password for bob from ::1 port 022 ssh2",
        "Failed password for bob from ::1 port 1 ssh3",
        "Failed password for bob from ::1 port 1 ssh2 ",
    ],
)
def test_addresses_and_ports_are_checked(message: str) -> None:
    reader = logins()
    assert reader.feed(f"7 {message}\n".encode(), "pipe", NOW_US) == []
    assert reader.counters()["unmatched_lines"] == 1


@given(st.one_of(st.ip_addresses(v=6), st.ip_addresses(v=4)))
def test_every_address_is_read(address: Any) -> None:
    for text in {str(address), getattr(address, "exploded", str(address))}:
        assert who(event_of(f"7 Invalid user x from {text} port 5\n"))[2] == text


# ---------------------------------------------------------------------------------- repeated lines, several factors


def test_a_repeated_message_is_so_many_attempts() -> None:
    line = f"Jul  9 15:00:29 host sshd[9]: message repeated 3 times: [ {FAILED}]\n"
    records = read(line, "syslog")
    assert [record.kind for record in records] == ["failure"] * 3
    events = [record.event for record in records if record.event]
    assert {who(event) for event in events} == {("admin", "unknown", "10.0.0.5", "50022")}
    assert len({event.metadata.auditId for event in events}) == 3
    assert [facts(event)["metadata"]["extra"] for event in events] == [{"repeated": 3, "trust": "low"}] * 3
    assert records == read(line, "syslog")


def test_repetition_has_a_limit() -> None:
    reader = logins()
    line = f"9 message repeated 999999999 times: [ {FAILED}]\n"
    assert len(reader.feed(line.encode(), "pipe", NOW_US)) == 1024
    assert reader.counters()["repeated"] == 999999999


@pytest.mark.parametrize(
    "line",
    ["message repeated 0 times: [ x]", "message repeated x times: [ x]", f"message repeated 2 times: [ {FAILED}"],
)
def test_a_broken_repetition_is_no_message(line: str) -> None:
    assert read(f"9 {line}\n") == []


PARTIAL_CERT = CERT.replace("Accepted", "Partial")
SECOND = "Accepted keyboard-interactive/pam for core from 6.6.6.2 port 59145 ssh2"


def test_a_login_of_two_factors_is_one_login_with_the_identity_of_the_first() -> None:
    first, second = read(f"9 {PARTIAL_CERT}\n9 {SECOND}\n")
    assert (first.kind, second.kind) == ("note", "login")
    assert second.event is not None
    assert who(second.event) == ("core", "user@foo.com", "6.6.6.2", "59145")
    assert second.event.data == {
        "Alg": "ECDSA-CERT SHA256",
        "CA": "CA ED25519 SHA256:ccc",
        "SSHKeySum": "kkk",
        "Serial": "350",
        "factors": "publickey,keyboard-interactive/pam",
        "method": "keyboard-interactive/pam",
    }


def test_a_certificate_stays_the_identity_whichever_factor_it_was() -> None:
    key = "{} publickey for core from 6.6.6.2 port 59145 ssh2: RSA SHA256:abc"
    for lines in (
        [PARTIAL_CERT, key.format("Partial"), SECOND],
        [key.format("Partial"), PARTIAL_CERT, SECOND],
        [PARTIAL_CERT, key.format("Accepted")],
        [key.format("Partial"), CERT],
    ):
        record = read("".join(f"9 {line}\n" for line in lines))[-1]
        assert record.event is not None
        assert who(record.event)[1] == "user@foo.com"
        assert record.event.data is not msgspec.UNSET
        assert record.event.data["SSHKeySum"] == "kkk"


@pytest.mark.parametrize(
    "second",
    [
        f"10 {SECOND}",
        f"9 {SECOND.replace('core', 'root')}",
        f"9 {SECOND.replace('6.6.6.2', '6.6.6.3')}",
        f"9 {SECOND.replace('59145', '59146')}",
    ],
)
def test_a_first_factor_counts_for_its_own_login_only(second: str) -> None:
    record = read(f"9 {PARTIAL_CERT}\n{second}\n")[-1]
    assert record.event is not None
    assert who(record.event)[1] == "unknown"


def test_u12_a_first_factor_survives_a_restart() -> None:
    key = f"9 {PARTIAL_CERT}\n".encode()
    whole = logins()
    whole.feed(key, "pipe", NOW_US)
    before = logins()
    before.feed(key, "pipe", NOW_US)
    before.feed(b"10 Failed password for bob from 10.0.0.5 port 50022 ssh2\n", "pipe", NOW_US)
    after = logins()
    after.load(msgspec.json.decode(msgspec.json.encode(before.dump()), type=LoginsState))
    assert after.dump() == before.dump()
    second = f"9 {SECOND}\n".encode()
    assert after.feed(second, "pipe", NOW_US) == whole.feed(second, "pipe", NOW_US)
    assert [record.kind for record in after.feed(f"10 {GIVEN_UP}\n".encode(), "pipe", NOW_US)] == ["note"]
    assert after.dump() == LoginsState()


def test_first_factors_are_bounded() -> None:
    reader = logins()
    for pid in range(1, PARTIALS_MAX + 2):
        reader.feed(f"{pid} {PARTIAL_CERT}\n".encode(), "pipe", NOW_US)
    identities = []
    for pid in (1, 2):
        (record,) = reader.feed(f"{pid} {SECOND}\n".encode(), "pipe", NOW_US)
        assert record.event is not None
        identities.append(who(record.event)[1])
    assert identities == ["unknown", "user@foo.com"]


# ---------------------------------------------------------------------------------- ids


def test_a_replay_gives_the_same_ids() -> None:
    lines = f"9 {CERT}\n9 {FAILED}\n9 {FAILED}\n10 {FAILED}\n"
    first, again = read(lines), read(lines)
    assert first == again
    ids = [record.event.metadata.auditId for record in first if record.event]
    assert len(set(ids)) == 4, "three failures of one second are three events"
    assert {uuid.UUID(text).version for text in ids} == {8}
    other = [record.event.metadata.auditId for record in read(lines, boot_id="b002") if record.event]
    assert not set(ids) & set(other)


@given(st.binary(max_size=300))
def test_ids_are_blake2b(data: bytes) -> None:
    import hashlib

    digest = bytearray(hashlib.blake2b(data, digest_size=16).digest())
    digest[6] = digest[6] & 0x0F | 0x80
    digest[8] = digest[8] & 0x3F | 0x80
    assert event_id(data) == str(uuid.UUID(bytes=bytes(digest)))


# ---------------------------------------------------------------------------------- bad input


def test_what_is_not_read_is_counted_handed_over_and_passed() -> None:
    rejected: list[tuple[bytes, str]] = []
    reader = logins(reject=lambda line, reason: rejected.append((line, reason)))
    lines = b"".join(
        (
            b"\n", b" \r\n", b"9\n", b"9 \n", b"9 no such message of 7 words\n", bytes(range(128, 256)) + b"\n",
            b"9 " + b"x" * 8191 + b"\n", b"9 debug1: userauth-request\n", f"9 {FAILED}\n".encode(),
        )
    )  # fmt: skip
    assert [record.kind for record in reader.feed(lines, "pipe", NOW_US)] == ["failure"]
    assert [reason for _, reason in rejected] == ["unmatched", "unmatched", "too_long"]
    assert rejected[0][0] == b"9 no such message of 7 words"
    counters = reader.counters()
    assert (counters["lines"], counters["blank"], counters["unmatched_lines"], counters["too_long"], counters["debug"]) == (
        9, 4, 2, 1, 1,
    )  # fmt: skip
    assert reader.shapes()["no such message of * words"] == 1


def test_u8_a_line_without_end_costs_no_memory_and_no_other_line() -> None:
    reader = logins()
    for _ in range(100):
        assert reader.feed(b"x" * 65536, "pipe", NOW_US) == []
    assert reader.pending_bytes == 6_553_600
    (record,) = reader.feed(f"\n9 {FAILED}\n".encode(), "pipe", NOW_US)
    assert record.kind == "failure"
    assert (reader.pending_bytes, reader.counters()["too_long"]) == (0, 1)


def test_shapes_are_bounded() -> None:
    reader = logins()
    for number in range(SHAPES_MAX * 2):
        word = "".join(chr(ord("a") + number // 26**place % 26) for place in range(3))
        reader.feed(f"9 unheard {word}\n".encode(), "pipe", NOW_US)
    shapes = reader.shapes()
    assert len(shapes) == SHAPES_MAX + 1
    assert shapes["other"] == SHAPES_MAX
    assert reader.counters()["unmatched_lines"] == SHAPES_MAX * 2


def test_a_new_shape_is_told_once_and_again_when_ten_times_as_many_came() -> None:
    reader = logins()

    def told(count: int, now_ms: int) -> list[str]:
        for _ in range(count):
            reader.feed(b"9 no such thing as 7\n", "pipe", NOW_US)
        return reader.samples(now_ms)

    assert told(0, 0) == []
    assert told(1, 0) == ["no such thing as * (1 seen)"]
    assert told(0, 100_000) == []
    assert told(8, 200_000) == []
    assert told(1, 300_000) == ["no such thing as * (10 seen)"]
    assert told(90, 359_999) == [], "of one shape one a minute"
    assert told(1, 360_000) == ["no such thing as * (101 seen)"]
    assert told(900, 9_000_000) == []


def test_ten_shapes_are_told_a_minute_and_the_others_later() -> None:
    reader = logins()
    reader.feed(b"".join(b"9 unheard %c\n" % (97 + number) for number in range(25)), "pipe", NOW_US)
    minutes = [reader.samples(now_ms) for now_ms in (5_000, 6_000, 64_999, 65_000, 125_000, 185_000)]
    assert [len(told) for told in minutes] == [10, 0, 0, 10, 5, 0]
    assert sorted(text for told in minutes for text in told) == sorted(
        f"unheard {chr(97 + number)} (1 seen)" for number in range(25)
    )


def test_samples_hold_no_control_byte() -> None:
    reader = logins()
    reader.feed(b"9 " + bytes(set(range(256)) - {10}) + b"\n9 \x1b]0;evil\x07 \xff\n", "pipe", NOW_US)
    told = reader.samples(0)
    assert len(told) == 2
    assert "".join(told).isprintable()
    assert "".join(told).isascii()
    assert r"\x1b]*;evil\x07 \xff (1 seen)" in told


def test_a_shape_has_no_variable_parts() -> None:
    assert shape_of(b'Odd thing 7 from 10.0.0.5 port 22: "x y" fe80::1 a b c') == "Odd thing * from * port *: *"
    assert shape_of(shape_of(b"x" * 10_000).encode()) == "x" * 160


@settings(max_examples=300, deadline=None)
@given(
    st.lists(
        st.one_of(
            st.binary(max_size=60), st.sampled_from([b"\n", b"9 ", CERT.encode(), b"Jul  9 15:00:29 h sshd[1]: "])
        )
    ),
    st.sampled_from(_sshd.FORMATS),
    st.integers(1, 40),
)
def test_no_input_raises_and_no_split_matters(pieces: list[bytes], format: str, step: int) -> None:
    data = b"".join(pieces)
    whole = read(data, format)
    reader = logins()
    records = [
        r for place in range(0, len(data), step) for r in reader.feed(data[place : place + step], format, NOW_US)
    ]
    assert records + reader.flush(NOW_US) == whole


def test_auto_is_decided_by_the_first_line_that_leaves_no_doubt() -> None:
    for garbage in ("", "garbage\n", "\x00\n"):
        assert [r.pid for r in read(f"{garbage}9 {FAILED}\n", "auto")] == [9]
        assert [r.timed for r in read(f"{garbage}Jul  9 15:00:29 h sshd[9]: {FAILED}\n", "auto")] == [True]


# ---------------------------------------------------------------------------------- hostile names, as sshd writes them

PHRASES = st.sampled_from(
    [" from ", "6.6.6.6", " port 22", " ssh2", ": ", "RSA SHA256:x", "invalid user ", " ", "\\", "\n", "\0", "é",
     "#011",
     " from 6.6.6.6 port 22 ssh2: RSA-CERT SHA256:x ID alice (serial 7) CA RSA SHA256:x", " not allowed because x",
     " from 6.6.6.6 port 22 ssh2: foo", " [preauth]", "%s", "]", "message repeated 2 times: ["]
)  # fmt: skip
NAMES = st.lists(st.one_of(PHRASES, st.text(max_size=5)), max_size=8).map(lambda parts: "".join(parts).encode()[:100])
HOSTILE_LINES = [
    b"Invalid user %s from 9.9.9.9 port 5",
    b"Failed password for invalid user %s from 9.9.9.9 port 5 ssh2",
    b"Failed none for invalid user %s from 9.9.9.9 port 5 ssh2 [preauth]",
    b"error: maximum authentication attempts exceeded for invalid user %s from 9.9.9.9 port 5 ssh2 [preauth]",
]


@settings(max_examples=400, deadline=None)
@given(NAMES, st.sampled_from(HOSTILE_LINES), st.sampled_from(["journal", "syslog"]))
def test_hostile_names_change_no_source(name: bytes, template: bytes, format: str) -> None:
    message = template % (vis(vis(name)) if template.endswith(b"[preauth]") else vis(name))
    assume(len(message) != MESSAGE_BYTES)
    envelope = b"1720530029099504 9 1 %s\n" if format == "journal" else b"2024-07-09T15:00:29Z h sshd[9]: %s\n"
    account, identity, address, port = who(event_of(envelope % message, format))
    assert (identity, address, port) == ("unknown", "9.9.9.9", "5")
    assert account == lossless(name if format == "journal" else name.replace(b"#011", b"\t"))


@settings(max_examples=400, deadline=None)
@given(NAMES, st.booleans())
def test_hostile_key_ids_change_no_identity(name: bytes, old: bool) -> None:
    key = b"RSA-CERT" if old else b"RSA-CERT SHA256:k"
    line = b"9 Accepted publickey for bob from 9.9.9.9 port 5 ssh2: %s ID %s (serial 42) CA RSA SHA256:c\n"
    event = event_of(line % (key, vis(name)))
    identity = lossless(name.replace(b"#011", b"\t")) or UNKNOWN
    assume(len(line % (key, vis(name))) != len(b"9 \n") + MESSAGE_BYTES)
    assert who(event) == ("bob", identity, "9.9.9.9", "5")
    assert event.data is not msgspec.UNSET
    assert (event.data["Serial"], event.data["CA"]) == ("42", "CA RSA SHA256:c")


def test_readers_are_alike(tmp_path: Path) -> None:
    """bytes, bytearray and memoryview are all read, and none is kept."""
    line = f"9 {FAILED}\n".encode()
    buffer = bytearray(line)
    reader = Logins(host="h", machine_id="m", boot_id="b")
    first = reader.feed(memoryview(buffer)[:20], "pipe", NOW_US)
    buffer[:] = b"y" * len(buffer)
    buffer += b"z"  # refused while anybody holds the buffer
    assert first == []
    assert reader.feed(line[20:], "pipe", NOW_US)[0].event is not None
