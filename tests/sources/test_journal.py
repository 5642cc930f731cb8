"""The journal: who may be believed, what a line looks like, and where reading goes on."""

from __future__ import annotations

import os
import re
import select
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from audito import privileges
from audito.errors import SourceError
from audito.sources import journal as module
from audito.sources.journal import LINE_BYTES_MAX, MESSAGE_BYTES_MAX, JournalSource, journal_available
from audito.tables.programs import EXECUTABLES
from tests.sources.journals import BOOT, Journal, needs_journal
from tests.sources.logs import read_all

pytestmark = needs_journal

START_US = 1_700_000_000_000_000


@pytest.fixture
def journal(tmp_path: Path) -> Journal:
    return Journal(tmp_path / "journal", start_us=START_US)


@pytest.fixture
def source(journal: Journal) -> Iterator[JournalSource]:
    """Reads from the start on."""
    source = JournalSource(journal.directory, since_us=0)
    yield source
    source.close()


def lines_of(source: JournalSource) -> list[bytes]:
    source.open()
    source.poll()
    return read_all(source).splitlines()


def messages_of(source: JournalSource) -> list[bytes]:
    return [line.split(b" ", 3)[3] for line in lines_of(source)]


# -- one entry, one line


def test_an_entry_is_time_pid_trust_message(journal: Journal, source: JournalSource) -> None:
    journal.append(b"Accepted publickey for core from 6.6.6.2 port 59145 ssh2: ED25519 SHA256:abc")
    assert lines_of(source) == [
        b"1700000000000000 42 1 Accepted publickey for core from 6.6.6.2 port 59145 ssh2: ED25519 SHA256:abc"
    ]
    assert source.counters() == {"entries": 1, "untrusted": 0, "damaged": 0, "gaps": 0}


@pytest.mark.parametrize("identifier", ["sshd", "sshd-session", "sshd-auth"])
def test_the_three_programs_of_sshd_are_read(journal: Journal, source: JournalSource, identifier: str) -> None:
    journal.append(b"hello", SYSLOG_IDENTIFIER=identifier, _EXE=f"/usr/lib/openssh/{identifier}")
    trusted = identifier != "sshd"  # /usr/lib/openssh/sshd is no program that we know
    assert lines_of(source) == [b"1700000000000000 42 %d hello" % trusted]


def test_other_programs_are_not_read(journal: Journal, source: JournalSource) -> None:
    journal.append(b"cron", SYSLOG_IDENTIFIER="CRON")
    journal.append(b"no identifier", SYSLOG_IDENTIFIER="")
    journal.append(b"sftp", SYSLOG_IDENTIFIER="sshd-sftp")
    journal.append(b"sshd")
    assert messages_of(source) == [b"sshd"]


@pytest.mark.parametrize("executable", sorted(EXECUTABLES))
def test_known_executables_run_by_root_are_trusted(journal: Journal, source: JournalSource, executable: str) -> None:
    journal.append(b"hello", _EXE=executable)
    assert lines_of(source)[0].split()[2] == b"1"


@pytest.mark.parametrize(
    "fields",
    [
        {"_UID": "1000"},
        {"_UID": ""},
        {"_UID": "00"},
        {"_EXE": "/usr/bin/logger"},
        {"_EXE": "/home/mallory/usr/sbin/sshd"},
        {"_EXE": "/tmp/sshd"},
        {"_EXE": ""},
        {"_UID": "1000", "_EXE": "/usr/bin/logger", "UID": "0", "EXE": "/usr/sbin/sshd", "SYSLOG_PID": "42"},
    ],
    ids=repr,
)
def test_u25_an_identifier_proves_nothing(journal: Journal, source: JournalSource, fields: dict[str, str]) -> None:
    journal.append(b"Accepted publickey for root from 6.6.6.6 port 1 ssh2: ED25519 SHA256:x ID alice", **fields)
    (line,) = lines_of(source)
    assert line.split()[1:3] == [b"42", b"0"]
    assert source.counters()["untrusted"] == 1


def test_what_came_through_standard_error_is_trusted_less(journal: Journal, source: JournalSource) -> None:
    """``sshd -e`` does not escape line ends: a peer's text can be an entry of its own."""
    journal.append(b"Accepted password for root from 6.6.6.6 port 1 ssh2", _TRANSPORT="stdout")
    journal.append(b"hello", _TRANSPORT="syslog")
    assert [line.split()[2] for line in lines_of(source)] == [b"2", b"1"]


def test_u25_the_pid_is_the_kernels_word_and_not_the_senders(journal: Journal, source: JournalSource) -> None:
    """``logger -t sshd --id=42``: _PID is what journald was told by the kernel."""
    journal.append(b"forged", _UID="1000", _EXE="/usr/bin/logger", _PID="999", SYSLOG_PID="42")
    assert lines_of(source)[0].split()[1:3] == [b"999", b"0"]


@pytest.mark.parametrize(
    ("session", "executable", "line"),
    [
        ("7", "/usr/sbin/sshd", b"7 3 hello"),
        ("7", "", b"7 3 hello"),
        ("7", "/usr/bin/logger", b"42 0 hello"),
        ("", "/usr/sbin/sshd", b"42 0 hello"),
        ("4294967295", "/usr/sbin/sshd", b"42 0 hello"),
    ],
)
def test_a_users_own_process_is_known_by_its_audit_session(
    journal: Journal, source: JournalSource, session: str, executable: str, line: bytes
) -> None:
    journal.append(b"hello", _UID="1000", _EXE=executable, _AUDIT_SESSION=session)
    assert lines_of(source) == [b"1700000000000000 " + line]
    assert source.counters()["untrusted"] == (line != b"7 3 hello")


def test_without_the_kernels_word_the_senders_pid_is_given_untrusted(journal: Journal, source: JournalSource) -> None:
    journal.append(b"relayed", _UID="", _EXE="", _PID="", SYSLOG_PID="77")
    assert lines_of(source)[0].split()[1:3] == [b"77", b"0"]


@pytest.mark.parametrize("pid", ["", "x", "-1", "1 2", "12345678901", "٣"])
def test_a_pid_that_is_no_number_is_zero(journal: Journal, source: JournalSource, pid: str) -> None:
    journal.append(b"relayed", _UID="", _EXE="", _PID="", SYSLOG_PID=pid)
    assert lines_of(source)[0].split()[1] == b"0"


def test_executables_are_a_setting(journal: Journal) -> None:
    journal.append(b"hello", _EXE="/opt/ssh/sbin/sshd")
    source = JournalSource(journal.directory, since_us=0, executables=["/opt/ssh/sbin/sshd"])
    assert lines_of(source)[0].split()[2] == b"1"
    source.close()


def test_the_senders_time_comes_before_the_time_of_receipt(journal: Journal, source: JournalSource) -> None:
    journal.append(b"sent", _SOURCE_REALTIME_TIMESTAMP="1699999999123456")
    journal.append(b"received")
    journal.append(b"nonsense", _SOURCE_REALTIME_TIMESTAMP="yesterday")
    assert [line.split()[0] for line in lines_of(source)] == [
        b"1699999999123456", b"1700000000000001", b"1700000000000002",
    ]  # fmt: skip


@pytest.mark.parametrize(
    ("message", "given"),
    [
        (b"\xff\xfe bytes \x80", b"\xff\xfe bytes \x80"),
        (b"two\nlines", b"two#012lines"),
        (b"two\r\nlines\n", b"two#015#012lines#012"),
        (b"nul \0 in it", b"nul \0 in it"),
        (b"", b""),
        (b"  leading", b"  leading"),
        ("ünïcode".encode(), "ünïcode".encode()),
    ],
)
def test_messages_are_bytes_on_one_line(journal: Journal, source: JournalSource, message: bytes, given: bytes) -> None:
    journal.append(message, b"next")
    source.open()
    assert read_all(source) == b"1700000000000000 42 1 %s\n1700000000000001 42 1 next\n" % given


def test_a_long_message_is_cut(journal: Journal, source: JournalSource) -> None:
    journal.append(b"x" * 100_000, b"\n" * 100_000, b"next")
    first, second, third = messages_of(source)
    assert first == b"x" * MESSAGE_BYTES_MAX
    assert second == b"#012" * MESSAGE_BYTES_MAX
    assert len(second) < LINE_BYTES_MAX
    assert third == b"next"


def test_an_entry_without_a_message_is_passed_over_and_counted(journal: Journal, source: JournalSource) -> None:
    journal.append(None, b"one", None, b"two")
    assert messages_of(source) == [b"one", b"two"]
    assert source.counters()["damaged"] == 2
    end = source.position(1 << 40)
    other = JournalSource(journal.directory)
    other.restore(end)
    journal.append(b"three")
    assert messages_of(other) == [b"three"]
    other.close()


def test_many_entries_and_reads_of_bounded_size(journal: Journal, source: JournalSource) -> None:
    journal.append(*(b"%d %s" % (n, b"y" * 300) for n in range(6000)))
    source.open()
    parts = []
    while data := bytes(source.read()):
        assert data.endswith(b"\n")
        assert len(data) <= 1 << 20
        parts.append(data)
    assert len(parts) > 2
    numbers = [int(line.split()[3]) for line in b"".join(parts).splitlines()]
    assert numbers == list(range(6000))


def test_large_entries_end_a_read_before_the_buffer_is_full(journal: Journal, source: JournalSource) -> None:
    journal.append(*(b"%d %s" % (n, b"y" * 10_000) for n in range(300)))
    source.open()
    sizes = []
    while data := source.read():
        sizes.append(len(data))
    assert len(sizes) > 2
    assert max(sizes) <= 1 << 20
    assert sum(sizes) > 3_000_000


# -- where reading begins


def test_without_anything_only_new_entries_are_read(journal: Journal) -> None:
    journal.append(*(b"old %d" % n for n in range(60)))
    source = JournalSource(journal.directory)
    assert messages_of(source) == []
    journal.append(b"new 1", b"new 2")
    assert messages_of(source) == [b"new 1", b"new 2"]
    source.close()


def test_nothing_matches_yet_and_then_many_do(journal: Journal) -> None:
    """The trap: after seek_tail() and a get_previous() that finds nothing, the next read jumps to the newest entry."""
    journal.append(b"other", SYSLOG_IDENTIFIER="cron")
    source = JournalSource(journal.directory)
    assert messages_of(source) == []
    journal.append(*(b"%d" % n for n in range(60)))
    assert messages_of(source) == [b"%d" % n for n in range(60)]
    source.close()


def test_since_is_the_first_entry_of_that_time(journal: Journal) -> None:
    journal.append(*(b"%d" % n for n in range(5)))
    source = JournalSource(journal.directory, since_us=START_US + 2)
    assert messages_of(source) == [b"2", b"3", b"4"]
    source.close()


def test_since_may_be_set_until_it_is_opened(journal: Journal) -> None:
    journal.append(*(b"%d" % n for n in range(5)))
    source = JournalSource(journal.directory)
    source.since_us = START_US + 4
    assert messages_of(source) == [b"4"]
    source.close()


def test_only_the_boot_that_was_asked_for(journal: Journal) -> None:
    journal.append(b"this boot")
    journal.boot = "f" * 32
    journal.append(b"that boot")
    dashed = "01234567-89ab-cdef-0123-456789abcdef"
    assert dashed.replace("-", "") == BOOT
    source = JournalSource(journal.directory, since_us=0, boot_id=dashed)
    assert messages_of(source) == [b"this boot"]
    source.close()


# -- where reading goes on


def test_a_place_before_anything_was_read(journal: Journal) -> None:
    for first in ([], [b"old"]):
        journal.append(b"other", SYSLOG_IDENTIFIER="cron")
        journal.append(*first)
        source = JournalSource(journal.directory)
        assert messages_of(source) == []
        state = source.position(0)
        source.close()
        journal.append(b"new 1", b"new 2")
        other = JournalSource(journal.directory)
        assert other.restore(state) == 0
        assert messages_of(other) == [b"new 1", b"new 2"]
        assert not other.gap
        other.close()


def test_every_line_start_of_many_is_found_again(journal: Journal, source: JournalSource) -> None:
    journal.append(*(b"%d" % n for n in range(700)))
    source.open()
    got = read_all(source)
    starts = [0] + [match.end() for match in re.finditer(b"\n", got)]
    for number in (0, 1, 2, 254, 255, 256, 257, 511, 512, 513, 699, 700):
        state = source.position(starts[number])
        other = JournalSource(journal.directory)
        assert other.restore(state) == starts[number]
        other.open()
        assert read_all(other) == got[starts[number] :]
        assert not other.gap
        other.close()


def test_the_middle_of_a_line_is_its_start(journal: Journal, source: JournalSource) -> None:
    journal.append(b"one", b"two")
    source.open()
    got = read_all(source)
    other = JournalSource(journal.directory)
    assert other.restore(source.position(len(got) - 3)) == len(got) // 2
    other.open()
    assert read_all(other) == got[len(got) // 2 :]
    other.close()


def test_more_entries_than_are_remembered_start_at_the_oldest_remembered(
    journal: Journal, source: JournalSource, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(module, "MARK_ENTRIES_MAX", 4)
    source._marks = type(source._marks)(maxlen=3)
    journal.append(*(b"%02d" % n for n in range(20)))
    source.open()
    got = read_all(source)
    state = source.position(0)
    other = JournalSource(journal.directory)
    start = other.restore(state)
    assert 0 < start < len(got)
    other.open()
    assert read_all(other) == got[start:]
    other.close()


def test_f21_a_vacuumed_cursor_is_a_gap_and_nothing_that_is_left_is_lost(
    journal: Journal, source: JournalSource
) -> None:
    journal.append(b"1", b"2", b"3")
    source.open()
    got = read_all(source)
    state = source.position(len(got))
    source.close()
    journal.append(b"4")
    archived = journal.rotate()
    journal.append(b"5", b"6")
    archived.unlink()
    other = JournalSource(journal.directory)
    other.restore(state)
    assert messages_of(other) == [b"5", b"6"]
    assert other.take_gaps() == ["journal_vacuumed"]
    assert other.counters()["gaps"] == 1
    other.close()
    # The same when only the source was closed; its places after the gap do not count from before it.
    assert messages_of(source) == [b"5", b"6"]
    assert source.gap
    third = JournalSource(journal.directory)
    third.restore(source.position(1 << 40))
    journal.append(b"7")
    assert messages_of(third) == [b"7"]
    assert not third.gap
    third.close()


def test_f21_what_was_read_may_be_vacuumed_up_to_the_last_entry(journal: Journal, source: JournalSource) -> None:
    """By its time what is left would come again, where the clock was set back meanwhile."""
    journal.append(b"1", b"2")
    archived = journal.rotate()
    journal.append(b"3")
    assert messages_of(source) == [b"1", b"2", b"3"]
    state = source.position(1 << 40)
    source.close()
    archived.unlink()
    journal.append(b"4")
    other = JournalSource(journal.directory)
    other.restore(state)
    assert messages_of(other) == [b"4"]
    assert other.take_gaps() == []
    other.close()


def test_f21_a_cursor_in_a_rotated_file_is_found(journal: Journal, source: JournalSource) -> None:
    journal.append(b"1", b"2", b"3")
    source.open()
    got = read_all(source)
    state = source.position(len(got) // 3)
    source.close()
    journal.rotate()
    journal.append(b"4")
    other = JournalSource(journal.directory)
    other.restore(state)
    assert messages_of(other) == [b"2", b"3", b"4"]
    assert not other.gap
    other.close()


@pytest.mark.parametrize("cursor", ["garbage", "s=00000000000000000000000000000000;i=1", "s=" + "z" * 500])
def test_a_garbage_cursor_goes_on_by_time(journal: Journal, cursor: str) -> None:
    journal.append(b"1", b"2", b"3")
    other = JournalSource(journal.directory)
    assert other.restore({"stream": 7, "cursor": cursor, "skip": 1, "since_us": START_US + 1}) == 7
    assert messages_of(other) == [b"2", b"3"]
    assert other.gap
    other.close()


@pytest.mark.parametrize("state", [{}, {"stream": "x"}, {"stream": 1, "cursor": 5}])
def test_a_place_that_cannot_be_read_is_none(journal: Journal, state: dict[str, object]) -> None:
    journal.append(b"old")
    other = JournalSource(journal.directory)
    assert other.restore(state) == 0
    assert other.take_gaps() == ["place_lost"]
    assert messages_of(other) == []
    other.close()


def test_after_a_reboot_all_of_the_new_boot_is_read(journal: Journal) -> None:
    """Also where its clock began before the end of the last one."""
    journal.append(b"before 1", b"before 2")
    source = JournalSource(journal.directory, since_us=0, boot_id=BOOT)
    source.open()
    state = source.position(len(read_all(source)))
    source.close()
    journal.rotate()
    later = Journal(journal.directory, boot="f" * 32, start_us=START_US - 1000)
    later.append(b"after 1", b"after 2")
    other = JournalSource(journal.directory, boot_id="f" * 32)
    other.restore(state)
    assert messages_of(other) == [b"after 1", b"after 2"]
    assert not other.gap
    other.close()


# -- while it is open


def test_f21_rotation_and_vacuum_while_reading(journal: Journal, source: JournalSource) -> None:
    number = 0
    expected = []
    got = []
    archived: list[Path] = []
    journal.append(b"start")
    got += messages_of(source)
    for turn in range(1, 6):
        texts = [b"%d" % n for n in range(number, number + 10)]
        number += 10
        journal.append(*texts)
        expected += texts
        got += messages_of(source)
        archived.append(journal.rotate(turn))
        if len(archived) > 1:
            archived.pop(0).unlink()
    assert got == [b"start", *expected]


def test_a_new_entry_wakes_up(journal: Journal, source: JournalSource) -> None:
    journal.append(b"one")
    assert messages_of(source) == [b"one"]
    poll = select.poll()
    poll.register(source.fileno(), select.POLLIN)
    source.wake()
    assert not poll.poll(0)
    journal.append(b"two")
    assert poll.poll(5000)
    source.wake()
    assert messages_of(source) == [b"two"]


def test_f21_a_damaged_file_stops_nobody(journal: Journal, source: JournalSource) -> None:
    journal.append(*(b"%d" % n for n in range(200)))
    data = bytearray(journal.file.read_bytes())
    # Behind the header and the two hash tables there are objects; every one that is hit is damaged.
    for at in range(4096, len(data), 4001):
        data[at] ^= 0xFF
    journal.rotate().write_bytes(data)
    journal.append(b"whole")
    source.open()
    deadline = time.monotonic() + 20
    got: list[bytes] = []
    while b"whole" not in got and time.monotonic() < deadline:
        try:
            got += messages_of(source)
        except SourceError:
            source.close()  # what the daemon does: it comes back
    assert b"whole" in got


# -- is there one


def test_is_there_a_journal(journal: Journal, tmp_path: Path) -> None:
    assert not journal_available(journal.directory)
    journal.append(b"x")
    assert journal_available(journal.directory)
    assert journal_available(tmp_path), "one directory a machine, below"
    assert not journal_available(tmp_path / "nowhere")
    (tmp_path / "empty").mkdir()
    assert not journal_available(tmp_path / "empty")


def test_is_there_a_journal_of_this_host(journal: Journal, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "JOURNAL_ROOTS", (tmp_path / "var", tmp_path / "run"))
    monkeypatch.setattr(module, "MACHINE_ID", tmp_path / "machine-id")
    assert not journal_available()
    (tmp_path / "machine-id").write_text("deadbeef\n")
    assert not journal_available()
    journal.append(b"x")
    (tmp_path / "run" / "another").mkdir(parents=True)
    journal.file.rename(tmp_path / "run" / "another" / "system.journal")
    assert not journal_available(), "of another machine"
    (tmp_path / "run" / "another").rename(tmp_path / "run" / "deadbeef")
    assert journal_available()


def test_no_journal_is_named(tmp_path: Path) -> None:
    with pytest.raises(SourceError, match="nowhere: there are no journal files"):
        JournalSource(tmp_path / "nowhere").open()


@pytest.mark.skipif(os.geteuid() != 0, reason="needs root, to become somebody else")
def test_a_journal_that_may_not_be_read_is_named(journal: Journal) -> None:
    journal.append(b"x")
    journal.file.chmod(0o600)
    for directory in (journal.directory, *journal.directory.parents):
        if directory.stat().st_uid == 0 and directory.name.startswith(("pytest", "test", "journal")):
            directory.chmod(0o755)
    pid = os.fork()
    if pid == 0:
        os.setuid(65534)
        try:
            JournalSource(journal.directory).open()
        except SourceError as exc:
            os._exit(0 if "permission denied" in str(exc) else 1)
        os._exit(2)
    assert os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1]) == 0


@pytest.mark.skipif(os.geteuid() != 0, reason="needs root, to become somebody else")
def test_who_keeps_the_power_to_read_may_read(journal: Journal) -> None:
    """As after ``--user``, or in the unit: no root, no right by mode, CAP_DAC_READ_SEARCH."""
    journal.append(b"x")
    journal.file.chmod(0o600)
    pid = os.fork()
    if pid == 0:
        try:
            privileges.drop(privileges.find_user("65534"))
            JournalSource(journal.directory).open()
        finally:
            os._exit(1 if sys.exc_info()[0] else 0)
    assert os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1]) == 0
