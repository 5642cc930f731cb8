"""The known faults of the daemon that audito replaces, by number: what the tests of each part leave open.

Most numbered tests stand with the part that they are about (``grep -rn 'def test_u[0-9]' tests``). Each fault has rows
in ``tests/mutants`` that put it back, and with each of them a test of its number has to fail (``make mutants``).
"""

from __future__ import annotations

import json
import os
import signal
import stat
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from audito.core import LOGINS_PENDING_MAX, Core
from audito.sinks.file import FileSink
from audito.text import original
from tests.records import BASE_MS, Log, accepted
from tests.sources.journals import Journal, needs_journal
from tests.test_core import SETTINGS, actions, kinds, new_core, taken
from tests.test_daemon import (  # noqa: F401  # the fixtures
    ROOT,
    T0,
    Start,
    _files,
    _home,
    _pipes,
    _start,
    append,
    command,
    commands,
    events_of,
    identities,
    login_line,
    opened,
    sequences,
    wait_for,
)
from tests.test_logins import ROWS, expected

LINE_BYTES_MAX = 65_536
SSHD_LINE_BYTES_MAX = 8_192
"""Of an audit record, and of a line of sshd's."""

HELD_BYTES_MAX = 64 << 20
"""Of the events that wait for login lines, all sessions together: past that the longest waiting are given up."""

CERT = "Accepted publickey for bob from 9.9.9.9 port 5 ssh2: RSA-CERT SHA256:k ID "


def listening_core(**changes: Any) -> tuple[Core, list[tuple[bytes, str]]]:
    """A core, and the lines that it rejects."""
    rejected: list[tuple[bytes, str]] = []
    settings = {name: getattr(SETTINGS, name) for name in SETTINGS.__struct_fields__} | changes
    return Core(type(SETTINGS)(**settings), lambda line, reason: rejected.append((line, reason))), rejected


def at(line: bytes, ms: int) -> bytes:
    """A pipe's line as the journal has it, with a time of its own."""
    pid, _, message = line.partition(b" ")
    return b"%d %s 1 %s" % (ms * 1000, pid, message)


# ------------------------------------------------------------------------------------------- lines


@pytest.mark.parametrize("blank", [b"\n", b"\r\n", b"   \n", b"\0\0\0\0\n", b"  \0\0 \r\n"], ids=repr)
def test_u02_a_blank_line_is_ignored(blank: bytes) -> None:
    core, rejected = listening_core()
    log = Log()
    core.feed_sshd(blank + accepted(4000) + blank, "pipe", 0)
    core.feed_audit(blank + log.login(ses=7, pid=4000) + blank + log.execve(b"id", ses=7) + blank)
    assert actions(taken(core))[-1] == ("7", "bob@corp", "executed id")
    assert rejected == []
    assert (core.counters()["blank_lines"], core.counters()["sshd_blank"]) == (3, 2)


@pytest.mark.parametrize("split", [1 << 20, 1000])
@pytest.mark.parametrize("over", [0, 1])
def test_u08_the_limit_of_a_line_is_exact(over: int, split: int) -> None:
    core, rejected = listening_core()
    log = Log()
    login = log.login(ses=7, pid=4000)
    line = log.event(("USER_TTY", b"pid=5000 uid=1000 auid=1000 ses=7 data="))
    line = line[:-1] + b"1" * (LINE_BYTES_MAX + over - len(line) + 1) + b"\n"
    data = login + line + log.execve(b"id", ses=7)
    core.feed_sshd(accepted(4000), "pipe", 0)
    for start in range(0, len(data), split):
        core.feed_audit(data[start : start + split])
    assert len(actions(taken(core))) == 3 - over
    assert [(len(line), reason) for line, reason in rejected] == [(LINE_BYTES_MAX, "too long")] * over


@pytest.mark.parametrize("split", [1 << 20, 1000])
@pytest.mark.parametrize("over", [0, 1])
def test_u08_the_limit_of_a_line_of_sshds_is_exact(over: int, split: int) -> None:
    core, rejected = listening_core()
    line = b"9 Accepted password for %s from 10.0.0.5 port 22 ssh2"
    data = line % (b"u" * (SSHD_LINE_BYTES_MAX + over - len(line) + 2)) + b"\n" + accepted(4000)
    for start in range(0, len(data), split):
        core.feed_sshd(data[start : start + split], "pipe", 0)
    assert [event["subjects"]["pid"] for event in taken(core)] == ["9", "4000"][over:]
    assert [(len(line), reason) for line, reason in rejected] == [(SSHD_LINE_BYTES_MAX, "too_long")] * over


def test_u08_lines_without_end_take_no_memory_from_the_daemon(start: Start, pipes: list[str], home: Path) -> None:
    run = start(*pipes)
    before = run.metric("process_resident_memory_bytes")
    for name in ("sshd", "audit"):
        with (home / name).open("wb", buffering=0) as pipe:
            pipe.write(b"type=x" if name == "audit" else b"9 x")
            for _ in range(64):
                pipe.write(b"x" * (1 << 20))
            pipe.write(b"\n")
    run.write("sshd", login_line(100))
    run.write("audit", opened(7, 100, 1) + command(7, 2))
    assert identities(run.wait_sequences([2])) == {"alice@foo.com"}
    assert run.metric("audito_reject_too_long_total") == 1
    assert run.metric("audito_sshd_too_long_total") == 1
    after = run.metric("process_resident_memory_bytes")
    assert after < 64 << 20
    assert after - before < 8 << 20
    assert run.stop() == 0


# ------------------------------------------------------------------------------------------- sessions


@pytest.mark.parametrize("login_first", [True, False])
def test_u09_the_event_of_a_login_is_one_and_says_what_its_syscall_says(login_first: bool) -> None:
    """Also where another event's records stand between the two."""
    core = new_core()
    log = Log()
    line, *rest = log.login(ses=7, pid=4000).splitlines(keepends=True)
    if login_first:
        core.feed_sshd(accepted(4000), "pipe", 0)
    core.feed_audit(line + log.execve(b"true", ses=4_294_967_295) + b"".join(rest))
    if not login_first:
        core.feed_sshd(accepted(4000), "pipe", 0)
    core.flush()
    (action,) = [event for event in taken(core) if event["type"] == "UserAction"]
    extra = action["metadata"]["extra"]
    assert (extra["action"], extra.get("exe"), extra.get("ppid")) == ("changed-login-id-to", "/usr/sbin/sshd", 3999)
    assert core.counters()["events_late"] == 0


@pytest.mark.parametrize("kind", ["USER_END", "CRED_DISP"])
@pytest.mark.parametrize(
    ("pid", "exe", "ends"),
    [
        (4000, "/usr/sbin/sshd", True),
        (4000, "/usr/lib/openssh/sshd-session", True),
        (4000, "/usr/bin/sudo", False),
        (4100, "/usr/bin/su", False),
        (4100, "/usr/sbin/sshd", False),
    ],
)
def test_u10_only_sshds_record_of_the_logins_own_pid_ends_it(kind: str, pid: int, exe: str, ends: bool) -> None:
    core = new_core()
    log = Log()
    core.feed_sshd(accepted(4000), "pipe", 0)
    core.feed_audit(log.login(ses=7, pid=4000) + log.message(kind, ses=7, pid=pid, exe=exe))
    core.feed_audit(log.execve(b"id", ses=7))
    core.flush()
    found = taken(core)
    assert kinds(found).count("UserLogout") == ends
    assert actions(found)[-1] == ("7", "bob@corp", "executed id")


def test_u11_what_outlives_a_logout_stays_attributed_after_a_restart_too() -> None:
    core = new_core()
    log = Log()
    core.feed_sshd(accepted(4000), "pipe", 0)
    core.feed_audit(log.login(ses=7, pid=4000) + log.message("USER_END", ses=7, pid=4000))
    for ses in range(8, 500):
        core.feed_sshd(accepted(4000 + ses, "other"), "pipe", 0)
        core.feed_audit(log.login(ses=ses, pid=4000 + ses) + log.message("USER_END", ses=ses, pid=4000 + ses))
    core.feed_audit(log.execve(b"nohup", ses=7))
    core.flush()
    found = taken(core)
    assert actions(found)[-1] == ("7", "bob@corp", "executed nohup")
    assert kinds(found).count("UserLogout") == 493
    again = new_core()
    again.load(core.dump(), core.audit_resolved, core.sshd_resolved)
    again.feed_audit(log.execve(b"sort", ses=7) + log.message("CRED_DISP", ses=7, pid=4000))
    again.feed_audit(log.execve(b"tmux", ses=7))
    again.flush()
    found = taken(again)
    assert [what for what in actions(found) if "executed" in what[2]] == [
        ("7", "bob@corp", "executed sort"),
        ("7", "bob@corp", "executed tmux"),
    ]
    assert "UserLogout" not in kinds(found), "it is over already"


def test_u12_a_login_line_that_waits_survives_a_restart(start: Start, files: list[str], home: Path) -> None:
    run = start(*files)
    run.write("sshd", login_line(100))
    wait_for(lambda: run.events(), "the login")
    assert run.stop() == 0
    append(home / "log.d/audit.log", opened(7, 100, 1) + command(7, 2))
    run = start(*files)
    assert identities(run.wait_sequences([2])) == {"alice@foo.com"}
    assert run.stop() == 0


def test_u14_a_login_is_told_whether_or_not_its_session_comes() -> None:
    core = new_core()
    core.feed_sshd(accepted(4000), "pipe", BASE_MS * 1000)
    core.feed_sshd(b"4001 Failed password for bob from 10.0.0.5 port 22 ssh2\n", "pipe", BASE_MS * 1000)
    assert [(event["type"], event["outcome"]) for event in taken(core)] == [
        ("UserLogin", "succeeded"),
        ("UserLogin", "failed"),
    ]
    core.tick(BASE_MS)
    core.tick(BASE_MS + 3_600_000)
    assert core.counters()["logins_without_session"] == 1
    assert core.counters()["logins_waiting_now"] == 0


def test_u14_f28_the_window_is_counted_in_the_time_of_the_lines() -> None:
    """Fed all at once, as after a long stop: what was a second inside of the window is joined, a second past it is not."""
    late_ms = {"8": 59_000, "9": 61_000}
    core = new_core(join_window_ms=60_000)
    log = Log()
    opened_ms: dict[str, int] = {}
    for ses in late_ms:
        core.feed_audit(log.login(ses=int(ses), pid=4000 + int(ses)))
        opened_ms[ses] = log.ms
        core.feed_audit(log.execve(b"id", ses=int(ses)))
        log.ms += 600_000
    for ses, ms in late_ms.items():
        # A line of another process, twice: one that is far ahead of all before it is not believed at once.
        core.feed_sshd(at(b"1 Server listening on 0.0.0.0 port 22.\n", opened_ms[ses] + ms) * 2, "journal", 0)
        core.feed_audit(log.execve(b"whoever", ses=4_294_967_295))
        core.feed_sshd(at(accepted(4000 + int(ses), f"user {ses}"), opened_ms[ses] - 100), "journal", 0)
    assert [(ses, who) for ses, who, what in actions(taken(core)) if what == "executed id"] == [
        ("8", "user 8"),
        ("9", "unknown"),
    ]


def test_u15_events_that_wait_are_bounded_and_told() -> None:
    """Nobody stops feeding where the core asks for a pause: the longest waiting are written as they are."""
    core = new_core()
    log = Log(enriched=False)
    fat = b"1" * 60_000
    paused = False
    for ses in range(1, 41):
        core.feed_audit(log.login(ses=ses, pid=4000 + ses))
        for _ in range(40):
            core.feed_audit(log.event(("USER_TTY", b"pid=5000 uid=1000 auid=1000 ses=%d data=%s" % (ses, fat))))
        paused = paused or core.audit_paused
        assert core.counters()["held_bytes_now"] < HELD_BYTES_MAX + (1 << 20)
    assert paused
    given_up = core.counters()["joins_kernel"]
    assert 0 < given_up < 40
    told = actions(taken(core))
    assert {ses for ses, _, _ in told} == {str(ses) for ses in range(1, given_up + 1)}
    assert {who for _, who, _ in told} == {"unknown"}


def test_u15_login_lines_that_wait_are_bounded_and_counted() -> None:
    core = new_core()
    lines = b"".join(b"%d Accepted password for bob from 10.0.0.5 port 22 ssh2\n" % pid for pid in range(1, 1001))
    for pid in range(1, LOGINS_PENDING_MAX + 1001, 1000):
        core.feed_sshd(lines, "pipe", pid)
        core.take()
    fed = core.counters()["sshd_logins"]
    assert fed > LOGINS_PENDING_MAX
    assert core.counters()["logins_waiting_now"] == LOGINS_PENDING_MAX
    assert core.counters()["logins_without_session"] == fed - LOGINS_PENDING_MAX


@pytest.mark.parametrize("bound", [True, False])
def test_u15_sessions_are_bounded_and_evictions_counted_and_told(bound: bool) -> None:
    core = new_core(session_count_max=64)
    log = Log()
    for ses in range(1, 201):
        if bound:
            core.feed_sshd(accepted(4000 + ses), "pipe", 0)
        core.feed_audit(log.login(ses=ses, pid=4000 + ses) + log.execve(b"id", ses=ses))
    core.flush()
    counted = core.counters()
    assert counted["sessions_now"] == 64
    assert counted["sessions_evicted"] == 136
    told = actions(taken(core))
    assert [ses for ses, _, what in told if what == "executed id"] == [str(ses) for ses in range(1, 201)]
    assert {who for _, who, _ in told} == {"bob@corp" if bound else "unknown"}


# ------------------------------------------------------------------------------------------- sshd's lines


def test_u17_every_example_through_the_daemons_pipe(start: Start, pipes: list[str], home: Path) -> None:
    """One write a line, as rsyslog has it, with each of the ends that a writer may leave."""
    examples = [(row, example) for row in ROWS for example in row.examples]
    run = start(*pipes)
    with (home / "sshd").open("wb", buffering=0) as pipe:
        for number, (_, example) in enumerate(examples, 1):
            pipe.write(f"{number}  {example.line}".encode() + (b"\n", b"\r\n", b"\0\n")[number % 3])
    wait_for(lambda: run.metric("audito_sshd_lines_total") == len(examples), "all of the lines")
    meant = [(str(number), *expected(row, example)) for number, (row, example) in enumerate(examples, 1)]
    got = [
        (
            event["subjects"]["pid"],
            "login" if event["outcome"] == "succeeded" else "failure",
            event["subjects"]["loggedAs"],
            event["source"]["value"],
            event["source"]["extra"]["port"],
        )
        for event in run.events()
    ]
    # Ends say that an attempt failed only where no line of that connection did; of these examples others did.
    ends = {str(number) for number, (row, _) in enumerate(examples, 1) if row.yields in ("end", "child")}
    assert [told for told in got if told[0] not in ends] == [
        told for told in meant if told[0] not in ends and told[1] != "note"
    ]
    assert run.metric("audito_sshd_unmatched_lines_total") == 0
    assert run.stop() == 0


HOSTILE: tuple[tuple[str, tuple[str | None, str, str, str, str]], ...] = (
    # What is written to the pipe, and (pid, account, identity, address, port) of the event.
    # U18
    (
        "1  error: maximum authentication attempts exceeded for bob from ::1 port 1 ssh2 [preauth]",
        ("1", "bob", "unknown", "::1", "1"),
    ),
    # U19
    (
        "2  Invalid user x from 6.6.6.6 port 22 from 9.9.9.9 port 5",
        ("2", "x from 6.6.6.6 port 22", "unknown", "9.9.9.9", "5"),
    ),
    (
        "3  Failed none for invalid user invalid user root from 9.9.9.9 port 5 ssh2",
        ("3", "invalid user root", "unknown", "9.9.9.9", "5"),
    ),
    (
        "7  User bob from 9.9.9.9 not allowed because listed in DenyUsers",
        ("7", "bob", "unknown", "9.9.9.9", "unknown"),
    ),
    # U20
    (
        f"4  {CERT}x from 6.6.6.6 port 22 ssh2: ED25519-CERT SHA256:z ID alice (serial 7) CA ED25519 SHA256:f"
        " (serial 42) CA RSA SHA256:c",
        (
            "4", "bob", "x from 6.6.6.6 port 22 ssh2: ED25519-CERT SHA256:z ID alice (serial 7) CA ED25519 SHA256:f",
            "9.9.9.9", "5",
        ),
    ),
    (f"5  {CERT}alice (serial 7) (serial 42) CA RSA SHA256:c", ("5", "bob", "alice (serial 7)", "9.9.9.9", "5")),
    # U21: as sshd cuts it, after 500 bytes
    (f"6  {CERT}{'a' * 600}"[:503], ("6", "bob", "a" * (500 - len(CERT)), "9.9.9.9", "5")),
    # U22
    (f"x  {CERT}carol (serial 42) CA RSA SHA256:c", (None, "bob", "carol", "9.9.9.9", "5")),
    (f"4194305  {CERT}carol (serial 42) CA RSA SHA256:c", (None, "bob", "carol", "9.9.9.9", "5")),
    (f"8x  {CERT}carol (serial 42) CA RSA SHA256:c", (None, "bob", "carol", "9.9.9.9", "5")),
)  # fmt: skip


def test_u18_u19_u20_u21_u22_hostile_lines_through_the_daemons_pipe(start: Start, pipes: list[str]) -> None:
    run = start(*pipes)
    run.write("sshd", "".join(f"{line}\n" for line, _ in HOSTILE))
    wait_for(lambda: len(run.events()) >= len(HOSTILE), "an event a line")
    for event, (line, meant) in zip(run.events(), HOSTILE, strict=True):
        subjects, source = event["subjects"], event["source"]
        told = (subjects.get("pid"), subjects["loggedAs"], subjects["userID"], source["value"], source["extra"]["port"])
        assert told == meant, line
        assert event["metadata"].get("extra", {}).get("truncated", False) == line.endswith("aaa"), line
    assert run.stop() == 0


def test_u22_a_login_without_a_pid_meets_no_session_without_one() -> None:
    core, _ = listening_core()
    log = Log()
    core.feed_sshd(accepted(4000).replace(b"4000 ", b"x ", 1), "pipe", 0)
    core.feed_audit(log.login(ses=7, pid=4000).replace(b"pid=4000", b"pid=x") + log.execve(b"id", ses=7))
    core.feed_sshd(accepted(4000).replace(b"4000 ", b"0 ", 1), "pipe", 0)
    core.flush()
    found = taken(core)
    logins = [event["component"] for event in found if event["type"] == "UserLogin"]
    assert sorted(logins) == ["auditd", "sshd", "sshd"]
    assert {who for _, who, _ in actions(found)} <= {"unknown"}


FORGED: tuple[dict[str, str], ...] = (
    {"_UID": "1000"},
    {"_EXE": "/usr/bin/logger"},
    {"_UID": "1000", "_EXE": "/home/mallory/sshd"},
)
"""What journald adds to a message that is not from root's sshd, whatever identifier it was sent with."""


@pytest.mark.parametrize("fields", FORGED, ids=repr)
def test_u25_a_forged_entry_of_an_exported_journal_names_nobody(fields: dict[str, str]) -> None:
    core, _ = listening_core()
    log = Log()
    entry = {
        "SYSLOG_IDENTIFIER": "sshd", "_UID": "0", "_EXE": "/usr/sbin/sshd", "_PID": "4000", "SYSLOG_PID": "4000",
        "__REALTIME_TIMESTAMP": str(BASE_MS * 1000), "MESSAGE": accepted(4000, "mallory")[5:-1].decode(),
    }  # fmt: skip
    core.feed_sshd(json.dumps(entry | fields).encode() + b"\n", "journal-json", 0)
    core.feed_audit(log.login(ses=7, pid=4000) + log.execve(b"id", ses=7))
    core.flush()
    found = taken(core)
    # The kernel alone says that somebody logged in, and not who.
    logins = [(event["component"], event["subjects"]["userID"]) for event in found if event["type"] == "UserLogin"]
    assert logins == [("auditd", "unknown")]
    assert {who for _, who, _ in actions(found)} == {"unknown"}
    assert core.counters()["sshd_untrusted"] == 1


@needs_journal
def test_u25_f22_a_forged_entry_names_nobody(start: Start, home: Path) -> None:
    """Before and behind sshd's own: the forged ones are read, counted, and bind nothing."""
    journal = Journal(home / "journal", start_us=T0 * 1_000_000)
    journal.append(b"Server listening on 0.0.0.0 port 22.")
    run = start(
        "--journal-dir", f"{home}/journal", "-auditd-pipe-path", f"{home}/audit", "--output", f"{home}/out",
        "--boot-id", "01234567-89ab-cdef-0123-456789abcdef",
    )  # fmt: skip
    for fields in FORGED:
        journal.append(login_line(100, "mallory")[4:-1].encode(), _PID="100", SYSLOG_PID="100", **fields)
    run.write("audit", opened(7, 100, 1))
    journal.append(login_line(100)[4:-1].encode(), _PID="100")
    run.write("audit", command(7, 2))
    events = run.wait_sequences([2])
    assert identities(events) == {"alice@foo.com"}
    assert [event["subjects"]["userID"] for event in events if event["type"] == "UserLogin"] == ["alice@foo.com"]
    assert run.metric("audito_sshd_untrusted_total") == len(FORGED)
    assert run.stop() == 0


# ------------------------------------------------------------------------------------------- text


def test_u31_no_length_of_text_makes_two_arguments_look_alike() -> None:
    """Text is looked at eight bytes at a time: what needs an escape stands at each place once, and at each end."""
    core = new_core()
    log = Log()
    core.feed_sshd(accepted(4000), "pipe", 0)
    core.feed_audit(log.login(ses=7, pid=4000))
    taken(core)
    odd = (b"\xff", b"\\xff", b"\\\\xff", b"\xff\xff", b"\xff\\xff", b"\\", b"?")
    given = [b"a" * count + text + after for count in range(20) for text in odd for after in (b"", b"b" * 9)]
    core.feed_audit(log.execve(*given, ses=7))
    (event,) = taken(core)
    args = event["metadata"]["extra"]["process_args"]
    assert [original(arg) for arg in args] == given
    assert len(set(args)) == len(given)


# ------------------------------------------------------------------------------------------- the output's file


def test_u28_a_link_that_takes_the_files_place_while_it_is_opened_is_not_followed(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Between the look at the file and its opening somebody else may be faster."""
    path, victim = tmp_path / "out.log", tmp_path / "victim"
    path.touch()
    victim.write_bytes(b"precious, and without an end of line")
    look = os.stat

    def look_and_lose(name: Any, **more: Any) -> os.stat_result:
        status = look(name, **more)
        if name == path.name:
            path.unlink()
            path.symlink_to(victim)
        return status

    sink = FileSink(path)
    monkeypatch.setattr(os, "stat", look_and_lose)
    with pytest.raises(Exception, match="symbolic link"):
        sink.open()
    assert not sink.ready
    assert victim.read_bytes() == b"precious, and without an end of line"
    assert stat.S_ISLNK(path.lstat().st_mode)


# ------------------------------------------------------------------------------------------- auditd's directory


def test_u32_audit_log_10_is_read_before_9(start: Start, home: Path) -> None:
    logs = home / "log.d"
    for number, text in {
        "11": opened(7, 100, 1) + command(7, 2),
        "10": command(7, 3),
        "9": command(7, 4),
        "1": command(7, 5),
    }.items():
        append(logs / f"audit.log.{number}", text)
    append(logs / "audit.log", command(7, 6))
    stamp = time.strftime("%Y-%m-%dT%H:%M:%S+00:00", time.gmtime(T0))
    append(home / "secure", f"{stamp} blam sshd[100]: {login_line(100).partition(' ')[2]}")
    run = start("-audit-dir-path", str(logs), "--sshd-log-path", f"{home}/secure", "--output", f"{home}/out")
    assert identities(run.wait_sequences([2, 3, 4, 5, 6])) == {"alice@foo.com"}
    assert run.stop() == 0


@pytest.fixture(name="without_inotify")
def _without_inotify(home: Path) -> Iterator[Callable[..., subprocess.Popen[bytes]]]:
    """Starts a daemon that has no inotify, with these flags."""
    (home / "main.py").write_text(
        "import sys\nsys.modules['pyinotify'] = None\nfrom audito import cli\nsys.exit(cli.main(sys.argv[1:]))\n"
    )
    environ = {"PATH": os.environ["PATH"], "AUDITO_STATE_DIR": f"{home}/state", "PYTHONPATH": str(ROOT)}
    running: list[subprocess.Popen[bytes]] = []

    def start(*flags: str) -> subprocess.Popen[bytes]:
        argv = [sys.executable, str(home / "main.py"), *flags]
        with (home / "log").open("wb") as log:
            running.append(subprocess.Popen(argv, env=environ, stderr=log, cwd=home))
        return running[-1]

    yield start
    for process in running:
        if process.poll() is None:
            process.kill()
            process.wait()


def test_u32_what_inotify_does_not_tell_the_next_poll_finds(
    without_inotify: Callable[..., subprocess.Popen[bytes]], files: list[str], home: Path
) -> None:
    log, out = home / "log.d/audit.log", home / "out"

    def written(count: int) -> bool:
        return out.exists() and len(sequences(events_of(out.read_bytes()))) == count

    append(log, opened(7, 100, 1) + command(7, 2))
    process = without_inotify(*files)
    wait_for(lambda: b"no inotify, looking once a second" in (home / "log").read_bytes(), "the start")
    (home / "sshd").write_text(login_line(100))
    wait_for(lambda: written(1), "what was there")
    append(log, commands(7, 3, 2))
    log.rename(f"{log}.1")
    append(log, command(7, 5))
    wait_for(lambda: written(4), "the end of the renamed file, and the new one", 5)
    assert sequences(events_of(out.read_bytes())) == [2, 3, 4, 5]
    process.send_signal(signal.SIGTERM)
    assert process.wait(5) == 0
