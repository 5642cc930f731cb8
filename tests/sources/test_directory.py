"""auditd's log directory: rotation in every way there is, with nothing lost, doubled or out of order."""

from __future__ import annotations

import hashlib
import itertools
import mmap
import os
import random
import shutil
import signal
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from hypothesis import HealthCheck, example, given, settings
from hypothesis import strategies as st

from audito.errors import SourceError
from audito.sources import READ_BYTES_MAX
from audito.sources.directory import DirectorySource, log_files, oldest_record_ms
from audito.sources.follow import open_regular
from tests.sources.logs import Log, read_all, record

EMPTY_HASH = hashlib.blake2b(b"", digest_size=16).hexdigest()


@pytest.fixture
def log(tmp_path: Path) -> Iterator[Log]:
    log = Log(tmp_path / "audit.log")
    yield log
    log.close()


@pytest.fixture
def source(log: Log) -> Iterator[DirectorySource]:
    source = DirectorySource(log.live.parent)
    source.open()
    yield source
    source.close()


def restarted(source: DirectorySource, log: Log, offset: int) -> DirectorySource:
    """Another process that goes on from a checkpoint of this one."""
    other = DirectorySource(log.live.parent)
    assert other.restore(source.position(offset)) == offset
    source.close()
    return other


def names(paths: list[Path]) -> list[str]:
    return [path.name for path in paths]


# -- which files, in which order


def test_u32_rotated_files_are_in_numeric_order_oldest_first(tmp_path: Path) -> None:
    for name in ("audit.log", "audit.log.1", "audit.log.10", "audit.log.2", "audit.log.9", "audit.log.100"):
        (tmp_path / name).touch()
    assert names(log_files(tmp_path)) == [
        "audit.log.100", "audit.log.10", "audit.log.9", "audit.log.2", "audit.log.1", "audit.log",
    ]  # fmt: skip


def test_only_regular_files_of_the_log_are_in_the_list(tmp_path: Path) -> None:
    (tmp_path / "audit.log").touch()
    others = (
        "audit.log.gz",
        "audit.log.1.gz",
        "audit.log.x",
        "audit.log.",
        "audit.log.²",
        "audit.log1",
        "xaudit.log.1",
    )
    for name in others:
        (tmp_path / name).touch()
    (tmp_path / "audit.log.3").mkdir()
    (tmp_path / "audit.log.4").symlink_to("audit.log")
    os.mkfifo(tmp_path / "audit.log.5")
    (Path(os.fsdecode(os.fsencode(tmp_path) + b"/audit.log.\xff"))).touch()
    assert names(log_files(tmp_path)) == ["audit.log"]


def test_dated_files_come_before_numbered_ones(tmp_path: Path) -> None:
    for name in ("audit.log", "audit.log.1", "audit.log-20240102", "audit.log-20231231", "audit.log-20240102-1"):
        (tmp_path / name).touch()
    assert names(log_files(tmp_path)) == [
        "audit.log-20231231", "audit.log-20240102", "audit.log-20240102-1", "audit.log.1", "audit.log",
    ]  # fmt: skip


def test_a_directory_that_is_not_there_is_named(tmp_path: Path) -> None:
    with pytest.raises(SourceError, match="nowhere.*No such file"):
        log_files(tmp_path / "nowhere")
    with pytest.raises(SourceError, match="nowhere.*No such file"):
        oldest_record_ms(tmp_path / "nowhere")


def test_the_oldest_record_is_in_the_oldest_file_that_has_one(tmp_path: Path) -> None:
    assert oldest_record_ms(tmp_path) is None
    (tmp_path / "audit.log").write_bytes(b"type=A msg=audit(1700000300.500:9): x=1\n")
    assert oldest_record_ms(tmp_path) == 1700000300500
    (tmp_path / "audit.log.2").write_bytes(b"")
    (tmp_path / "audit.log.1").write_bytes(b"\0" * 100 + b"\ngarbage\nnode=n type=A msg=audit(1700000200.007:8): x=1\n")
    assert oldest_record_ms(tmp_path) == 1700000200007
    (tmp_path / "audit.log.3").write_bytes(b"no record in here\n" * 10_000)
    assert oldest_record_ms(tmp_path) == 1700000200007


# -- reading


def test_all_files_are_read_oldest_first(log: Log) -> None:
    for number in range(13):
        log.write(record(number))
        if number < 12:
            log.rotate()
    assert (log.live.parent / "audit.log.12").exists()
    source = DirectorySource(log.live.parent)
    source.open()
    assert read_all(source) == log.stream() == b"".join(record(n) for n in range(13))
    source.close()


def test_an_empty_log_and_one_that_appears_later(tmp_path: Path) -> None:
    source = DirectorySource(tmp_path)
    source.open()
    assert read_all(source) == b""
    log = Log(tmp_path / "audit.log")
    log.write(b"")
    assert read_all(source) == b""
    log.write(record(1))
    assert read_all(source) == record(1)
    source.close()
    log.close()


def test_bytes_are_given_as_they_are_written(log: Log, source: DirectorySource) -> None:
    line = record(1)
    for at in range(len(line)):
        log.write(line[at : at + 1])
        assert read_all(source) == line[at : at + 1]


def test_f08_a_line_that_is_finished_late_is_one_line(log: Log, source: DirectorySource) -> None:
    log.write(record(1)[:20])
    got = read_all(source)
    for _ in range(5):
        source.poll()
        assert read_all(source) == b""
    log.write(record(1)[20:])
    assert got + read_all(source) == record(1)


def test_every_byte_value_passes_unchanged(log: Log, source: DirectorySource) -> None:
    data = bytes(range(256)) + b"\r\n\0\0\0" + b"\x1d" + "utf-16 \n".encode("utf-16")
    log.write(data)
    assert read_all(source) == data


def test_u8_a_line_without_end_takes_no_more_memory_than_the_buffer(log: Log, source: DirectorySource) -> None:
    with log.live.open("wb") as file:
        file.truncate(40 << 20)
    total = 0
    while data := source.read():
        assert len(data) <= READ_BYTES_MAX
        total += len(data)
    assert total == 40 << 20


def test_finite_reading_ends_with_the_last_byte_of_the_live_file(log: Log) -> None:
    for number in range(3):
        log.write(record(number))
        log.rotate()
    source = DirectorySource(log.live.parent, follow=False)
    source.open()
    assert source.fileno() == -1
    assert read_all(source) == log.stream()
    assert source.ended
    source.close()


def test_finite_reading_of_no_file_ends(tmp_path: Path) -> None:
    source = DirectorySource(tmp_path, follow=False)
    source.open()
    assert read_all(source) == b""
    assert source.ended
    source.close()


# -- rotation


def test_u32_the_unread_tail_of_a_renamed_file_is_read_first(log: Log, source: DirectorySource) -> None:
    log.write(record(1))
    assert read_all(source) == record(1)
    log.write(record(2))
    log.rotate()
    log.write(record(3))
    assert read_all(source) == record(2) + record(3)
    assert source.counters() == {"rotations": 1, "truncations": 0, "gaps": 0}


def test_several_rotations_between_two_looks(log: Log, source: DirectorySource) -> None:
    log.write(record(1))
    got = read_all(source)
    for number in range(2, 15):
        log.write(record(number))
        log.rotate()
    log.write(record(15))
    assert got + read_all(source) == log.stream()
    assert source.counters()["rotations"] == 13
    assert not source.gap


def test_late_writes_to_the_renamed_file_are_not_lost(log: Log, source: DirectorySource) -> None:
    """rsyslogd writes to the old file until somebody tells it of the rotation."""
    log.write(record(1))
    got = read_all(source)
    log.live.rename(f"{log.live}.1")
    log.live.touch()
    got += read_all(source)
    log.write(record(2))
    got += read_all(source)
    log.write(record(3))
    log.close()
    log.write(record(4))
    assert got + read_all(source) == b"".join(record(n) for n in range(1, 5))


def test_u32_what_is_written_between_a_read_and_the_look_at_the_names_is_not_lost(
    log: Log, source: DirectorySource, monkeypatch: pytest.MonkeyPatch
) -> None:
    log.write(record(1))
    got = read_all(source)
    look = source._newer

    def rotate_first(*arguments: Any) -> Any:
        monkeypatch.undo()
        log.write(record(2))
        log.rotate()
        log.write(record(3))
        return look(*arguments)

    monkeypatch.setattr(source, "_newer", rotate_first)
    assert got + read_all(source) == b"".join(record(n) for n in range(1, 4))


def test_the_live_file_may_be_away_for_a_while(log: Log, source: DirectorySource) -> None:
    log.write(record(1))
    got = read_all(source)
    log.close()
    log.live.rename(f"{log.live}.1")
    source.poll()
    assert read_all(source) == b""
    log.write(record(2))
    assert got + read_all(source) == record(1) + record(2)


def test_a_line_torn_by_the_rotation_is_not_glued_to_the_next_file(log: Log, source: DirectorySource) -> None:
    log.write(record(1) + record(2)[:15])
    got = read_all(source)
    log.rotate()
    log.write(record(3))
    got += read_all(source)
    assert got == record(1) + record(2)[:15] + b"\n" + record(3)
    # Offsets count the line end that we put in; a place behind it is in the new file.
    for offset in range(len(got) + 1):
        other = DirectorySource(log.live.parent)
        assert other.restore(source.position(offset)) == offset
        other.open()
        assert read_all(other) == got[offset:]
        other.close()


def test_a_file_of_two_names_comes_round_but_once(log: Log, source: DirectorySource) -> None:
    for number in range(4):
        log.write(record(number))
        log.rotate()
    log.write(record(4))
    os.link(f"{log.live}.2", f"{log.live}.9")
    assert read_all(source).count(record(3)) == 1


def test_files_that_nobody_wrote_to_are_passed_over(log: Log, source: DirectorySource) -> None:
    log.write(record(1))
    for _ in range(5):
        log.rotate()
    log.write(record(2))
    assert read_all(source) == record(1) + record(2)


def test_the_file_at_hand_is_read_to_its_end_when_it_was_removed(log: Log, source: DirectorySource) -> None:
    log.write(record(1))
    got = read_all(source)
    log.write(record(2))
    log.live.unlink()
    log.close()
    got += read_all(source)
    log.write(record(3))
    got += read_all(source)
    assert got == record(1) + record(2) + record(3)
    assert not source.gap


def test_old_files_are_not_read_again_when_the_one_at_hand_is_removed(log: Log, source: DirectorySource) -> None:
    for number in range(6):
        log.write(record(number))
        log.rotate()
    log.write(record(6))
    got = read_all(source)
    log.live.unlink()
    log.close()
    log.write(record(7))
    got += read_all(source)
    assert got == b"".join(record(n) for n in range(8))


def test_rotated_out_of_the_directory_is_a_gap(log: Log, source: DirectorySource) -> None:
    log.keep = 3
    log.write(record(0))
    got = read_all(source)
    for number in range(1, 8):
        log.write(record(number))
        log.rotate()
    got += read_all(source)
    # What was still open is read to its end; of the rest, what the directory still has.
    assert got == record(0) + record(1) + record(6) + record(7)
    assert source.take_gaps() == ["file_gone"]
    assert source.take_gaps() == []
    assert source.gap


def test_f05_copytruncate_between_two_looks(log: Log, source: DirectorySource) -> None:
    log.write(record(1))
    got = read_all(source)
    log.write(record(2))
    log.copy_and_truncate()
    log.write(record(3))
    got += read_all(source)
    assert got == record(1) + record(2) + record(3)
    assert source.counters()["truncations"] == 1
    assert not source.gap


def test_f05_copytruncate_is_seen_when_the_file_has_grown_past_our_offset(log: Log, source: DirectorySource) -> None:
    log.write(record(1))
    got = read_all(source)
    log.copy_and_truncate()
    log.write(record(2, "longer than what was there"))
    got += read_all(source)
    assert got == log.stream()


def test_copytruncate_several_times_between_two_looks(log: Log, source: DirectorySource) -> None:
    log.write(record(1))
    got = read_all(source)
    for number in range(2, 6):
        log.write(record(number))
        log.copy_and_truncate()
    log.write(record(6))
    assert got + read_all(source) == log.stream()
    assert not source.gap


def test_f05_of_two_copies_that_begin_alike_the_newer_one_is_what_was_emptied(
    log: Log, source: DirectorySource
) -> None:
    """A power cut took back that the log was emptied, and left the copy: the log goes on behind its own first line."""
    log.write(record(1) + record(2))
    got = read_all(source)
    shutil.copyfile(log.live, f"{log.live}.1")
    log.write(record(3))
    got += read_all(source)
    log.copy_and_truncate()
    log.write(record(4))
    assert got + read_all(source) == record(1) + record(2) + record(3) + record(4)
    assert not source.gap


def test_emptied_without_a_copy_is_read_from_its_start_and_counted(log: Log, source: DirectorySource) -> None:
    log.write(record(1) + record(2)[:10])
    got = read_all(source)
    os.truncate(log.live, 0)
    log.write(record(3))
    assert got + read_all(source) == record(1) + record(2)[:10] + b"\n" + record(3)
    assert source.take_gaps() == ["file_truncated"]
    assert source.counters() == {"rotations": 0, "truncations": 1, "gaps": 1}


def test_a_file_that_lost_its_end_goes_on_where_it_ends(log: Log, source: DirectorySource) -> None:
    """After a power cut, a file may be shorter than what was read of it; auditd appends to that."""
    log.write(record(1) + record(2))
    got = read_all(source)
    os.truncate(log.live, len(record(1)))
    assert read_all(source) == b""
    log.write(record(3))
    assert got + read_all(source) == record(1) + record(2) + record(3)
    assert source.take_gaps() == ["file_truncated"]


def test_a_place_behind_the_end_of_a_file_that_lost_it(log: Log, source: DirectorySource) -> None:
    log.write(record(1) + record(2))
    read_all(source)
    other = restarted(source, log, len(record(1) + record(2)))
    os.truncate(log.live, len(record(1)))
    other.open()
    log.write(record(3))
    assert read_all(other) == record(3)
    assert other.take_gaps() == ["file_truncated"]
    other.close()


# -- places


def test_f05_shortened_between_its_opening_and_the_first_read_is_a_gap(log: Log, source: DirectorySource) -> None:
    log.write(record(1) + record(2) + record(3))
    assert read_all(source) == record(1) + record(2) + record(3)
    other = restarted(source, log, len(record(1)))
    other.open()
    os.truncate(log.live, len(record(1) + record(2)))
    assert read_all(other) == record(2)
    assert other.take_gaps() == ["file_truncated"]
    assert other.take_skipped() == len(record(3))
    log.write(record(4))
    assert read_all(other) == record(4)
    end = other.position(len(record(1) + record(2) + record(3) + record(4)))
    assert (end["offset"], end["end"]) == (log.live.stat().st_size, end["stream"])
    assert read_all(other) == b""
    assert other.take_gaps() == []
    assert other.counters() == {"rotations": 0, "truncations": 1, "gaps": 1}
    other.close()


def test_what_is_read_again_to_its_end_is_no_gap(log: Log, source: DirectorySource) -> None:
    """Also where the file that has it was renamed and a new one began."""
    log.write(record(1) + record(2))
    read_all(source)
    log.rotate()
    log.write(record(3))
    read_all(source)
    other = restarted(source, log, len(record(1)))
    other.open()
    assert read_all(other) == record(2) + record(3)
    assert other.take_gaps() == []
    assert not other.take_skipped()
    other.close()


@pytest.mark.parametrize("held", [0, 1])
def test_restarted_again_between_two_files_that_were_read_before(log: Log, source: DirectorySource, held: int) -> None:
    """The second process comes to the end of the first file, and not yet to the next one."""
    log.write(record(1) + record(2) + record(3))
    read_all(source)
    log.rotate()
    log.write(record(4))
    read_all(source)
    other = restarted(source, log, len(record(1)))
    other.open()
    assert bytes(other.read()) == record(2) + record(3)
    third = restarted(other, log, len(record(1) + (b"" if held else record(2) + record(3))))
    third.open()
    assert read_all(third) == (record(2) + record(3)) * held + record(4)
    assert third.take_gaps() == []
    assert not third.take_skipped()
    third.close()


def test_f05_shortened_behind_the_place_while_stopped_is_a_gap(log: Log, source: DirectorySource) -> None:
    """What waited for its login line is partly gone: the rest comes again, and the stream counts on behind the gap."""
    log.write(record(1) + record(2) + record(3))
    assert read_all(source) == record(1) + record(2) + record(3)
    other = restarted(source, log, len(record(1)))
    os.truncate(log.live, len(record(1) + record(2)))
    other.open()
    assert read_all(other) == record(2)
    assert other.take_gaps() == ["file_truncated"]
    assert other.take_skipped() == len(record(3))
    log.write(record(4))
    assert read_all(other) == record(4)
    third = restarted(other, log, len(record(1) + record(2) + record(3)))
    third.open()
    assert read_all(third) == record(4)
    assert third.take_gaps() == []
    third.close()


def test_f04_a_file_that_is_deleted_while_it_is_read_again_adjoins_the_next(log: Log, source: DirectorySource) -> None:
    """Read to its end before, it leads where it led then, though two newer ones are there now."""
    log.write(record(1) + record(2))
    read_all(source)
    log.rotate()
    log.write(record(3))
    assert read_all(source) == record(3)
    other = restarted(source, log, 0)
    other.open()
    Path(f"{log.live}.1").unlink()
    log.rotate()
    log.write(record(4))
    assert read_all(other) == record(1) + record(2) + record(3) + record(4)
    assert other.take_gaps() == []
    assert other.take_skipped() == 0
    other.close()


def test_what_waits_is_not_known_while_a_file_is_emptied(log: Log, source: DirectorySource) -> None:
    """Its copy may have what was not read: the daemon must not think that all was."""
    log.write(record(1))
    read_all(source)
    os.truncate(log.live, 0)
    assert source.waiting_bytes() == -1


@pytest.mark.parametrize("how", ["rotated", "emptied"])
def test_f06_behind_a_file_that_is_gone_all_keeps_its_offset(log: Log, source: DirectorySource, how: str) -> None:
    """The oldest unresolved byte lies in a file that is gone: what was read behind it is known to have been read."""
    old, new = record(1) + record(2), record(3) + record(4)
    log.write(old)
    assert read_all(source) == old
    if how == "rotated":
        log.rotate()
    else:
        os.truncate(log.live, 0)
    log.write(new)
    assert read_all(source) == new
    source.take_gaps()
    log.write(record(5))
    for offset, end in ((0, new + record(5)), (len(old + record(3)), record(4) + record(5))):
        other = restarted(source, log, offset)
        if how == "rotated":
            Path(f"{log.live}.1").unlink(missing_ok=True)
        other.open()
        assert read_all(other) == end
        assert other.take_gaps() == ["file_gone"] * (offset == 0)
        assert other.take_skipped() == (len(old) if offset == 0 else 0)
        assert other.take_skipped() == 0
        third = restarted(other, log, len(old + new))  # its places count on from the gap
        third.open()
        assert read_all(third) == record(5)
        assert third.take_gaps() == []
        third.close()


def test_f06_where_all_that_was_read_is_gone_what_comes_is_new(log: Log, source: DirectorySource) -> None:
    log.write(record(1) + record(2))
    got = read_all(source)
    other = restarted(source, log, len(record(1)))
    os.truncate(log.live, 0)
    new = record(3, "longer than both of those that were there before")
    log.write(new)
    other.open()
    assert read_all(other) == new
    assert other.take_gaps() == ["file_gone"]
    assert other.take_skipped() == len(got) - len(record(1))
    other.close()


def test_f06_a_checkpoint_between_two_kills_knows_what_is_still_to_come_again(
    log: Log, source: DirectorySource
) -> None:
    log.write(record(1))
    got = read_all(source)
    for number in (2, 3):
        log.rotate()
        log.write(record(number))
        got += read_all(source)
    other = restarted(source, log, 0)
    other.open()  # killed before it read anything again
    third = restarted(other, log, 0)
    for number in (1, 2):
        Path(f"{log.live}.{number}").unlink()
    third.open()
    assert read_all(third) == record(3)
    assert third.take_gaps() == ["file_gone"]
    assert third.take_skipped() == len(record(1) + record(2))
    third.close()


def test_f05_what_was_read_of_a_file_before_and_after_it_was_shortened(log: Log, source: DirectorySource) -> None:
    log.write(record(1) + record(2) + record(3))
    got = read_all(source)
    os.truncate(log.live, len(record(1)))
    assert read_all(source) == b""
    log.write(record(4) + record(5) + record(6))
    got += read_all(source)
    assert source.take_gaps() == ["file_truncated"]
    # In what is gone, and before it: the offset of what came later is the same.
    for offset, end in ((len(record(1)), 4), (len(record(1)) + 5, 4), (0, 1)):
        other = DirectorySource(log.live.parent)
        assert other.restore(source.position(offset)) == offset
        other.open()
        assert read_all(other) == b"".join(record(number) for number in (1, 4, 5, 6) if number >= end)
        assert offset + other.take_skipped() + sum(len(record(n)) for n in (1, 4, 5, 6) if n >= end) == len(got)
        assert other.take_gaps() == []
        other.close()


@pytest.mark.parametrize("cut", [len(record(1) + record(2)), len(record(1) + record(2)) - 9])
@pytest.mark.parametrize("half", [b"", record(4)[:20]])
def test_f05_half_a_line_before_the_place_where_a_shortened_file_went_on(
    log: Log, source: DirectorySource, cut: int, half: bytes
) -> None:
    """What went on behind a cut is a line of its own, also for a process that reads both again; and the next one."""
    log.write(record(1) + record(2) + record(3) + half)
    whole = read_all(source)
    os.truncate(log.live, cut)
    whole += read_all(source)
    log.write(record(5) + record(6))
    whole += read_all(source)
    assert whole.endswith(b"\n" * bool(half) + record(5) + record(6))
    assert source.take_gaps() == ["file_truncated"]
    left = (record(1) + record(2))[len(record(1)) : cut]
    for number in (7, 8):
        end = len(whole)
        source = restarted(source, log, len(record(1)))
        source.open()
        data, cuts, skipped = b"", 0, 0
        while chunk := bytes(source.read()):
            data += chunk
            cuts += source.take_cut()
            skipped += source.take_skipped() or 0
        later = b"".join(map(record, range(5, number)))
        is_half = not left.endswith(b"\n")
        assert data == left + b"\n" * is_half + later
        assert cuts == is_half
        assert source.take_gaps() == []
        assert len(record(1)) + skipped + len(data) == end == source.position(end)["stream"]
        assert source.position(end)["offset"] == log.live.stat().st_size
        log.write(record(number))
        whole += read_all(source)
    source.close()


def test_a_state_that_does_not_say_how_far_was_read(log: Log, source: DirectorySource) -> None:
    """Of an older version."""
    log.write(record(1) + record(2))
    read_all(source)
    state = {key: value for key, value in source.position(5).items() if key not in ("later", "end")}
    log.live.unlink()
    log.close()
    log.write(record(3))
    other = DirectorySource(log.live.parent)
    assert other.restore(state) == 5
    other.open()
    assert read_all(other) == record(3)
    assert other.take_gaps() == ["file_gone"]
    assert other.take_skipped() is None
    other.close()


def test_f05_a_line_whose_rest_is_lost_is_told_before_its_end(log: Log, source: DirectorySource) -> None:
    log.write(record(1) + record(2)[:30])
    assert read_all(source) == record(1) + record(2)[:30]
    assert not source.take_cut()
    os.truncate(log.live, 0)
    log.write(record(3))
    assert bytes(source.read()) == b"\n"
    assert source.take_cut()
    assert not source.take_cut()
    assert bytes(source.read()) == record(3)
    assert not source.take_cut()


def test_a_place_is_found_in_a_file_that_was_rotated_meanwhile(log: Log, source: DirectorySource) -> None:
    log.write(record(1) + record(2))
    assert read_all(source) == record(1) + record(2)
    other = restarted(source, log, len(record(1)))
    for number in range(3, 15):
        log.rotate()
        log.write(record(number))
    other.open()
    assert read_all(other) == b"".join(record(n) for n in range(2, 15))
    assert not other.gap
    other.close()


def test_a_place_is_found_in_a_copy(log: Log, source: DirectorySource) -> None:
    log.write(record(1) + record(2))
    read_all(source)
    other = restarted(source, log, len(record(1)))
    log.copy_and_truncate()
    log.write(record(3))
    other.open()
    assert read_all(other) == record(2) + record(3)
    assert not other.gap
    other.close()


def test_f06_rotated_away_while_stopped_goes_on_with_the_oldest_and_is_a_gap(log: Log, source: DirectorySource) -> None:
    log.keep = 3
    log.write(record(1))
    read_all(source)
    other = restarted(source, log, len(record(1)))
    for number in range(2, 8):
        log.rotate()
        log.write(record(number))
    other.open()
    assert read_all(other) == record(5) + record(6) + record(7)
    assert other.take_gaps() == ["file_gone"]
    assert other.counters()["gaps"] == 1
    other.close()


def test_f06_removed_while_stopped_reads_no_older_file_again(log: Log, source: DirectorySource) -> None:
    for number in range(6):
        log.write(record(number))
        log.rotate()
    log.write(record(6))
    got = read_all(source)
    other = restarted(source, log, len(got))
    log.live.unlink()
    log.close()
    log.write(record(7))
    other.open()
    assert read_all(other) == record(7)
    other.close()


@pytest.mark.parametrize("text", ["", "a line that is longer than the one that was there before it"])
def test_f07_an_inode_that_is_used_again_is_another_file(log: Log, source: DirectorySource, text: str) -> None:
    log.write(record(1) + record(2))
    got = read_all(source)
    inode = log.live.stat().st_ino
    state = source.position(len(got))
    source.close()
    for number in range(3, 100):  # until the inode comes back; some file systems never give one out twice
        log.close()
        log.live.unlink()
        log.write(record(number, text))
        if log.live.stat().st_ino == inode:
            break
    # The same inode in any case: as if it had come back.
    state["file"]["inode"] = log.live.stat().st_ino
    other = DirectorySource(log.live.parent)
    other.restore(state)
    other.open()
    assert read_all(other) == record(number, text)
    assert other.gap
    other.close()


def test_f07_a_new_file_is_not_taken_for_an_empty_one_that_had_its_inode(log: Log, source: DirectorySource) -> None:
    """An empty file that was passed over has nothing that tells it from another one but its size."""
    log.write(record(1))
    log.rotate()
    read_all(source)
    log.rotate()
    log.write(record(2))
    got = read_all(source)
    state = source.position(len(got))
    source.close()
    for file in log_files(log.live.parent):
        file.unlink()
    log.close()
    log.write(record(3))
    log.rotate()
    log.write(record(4))
    state["done"][-1].update(inode=os.stat(f"{log.live}.1").st_ino, head_bytes=0, head_hash=EMPTY_HASH, whole=False)
    other = DirectorySource(log.live.parent)
    other.restore(state)
    other.open()
    assert read_all(other) == record(3) + record(4)
    other.close()


def test_a_place_between_two_files_is_the_start_of_the_newer(log: Log, source: DirectorySource) -> None:
    log.write(record(1))
    log.rotate()
    log.write(record(2))
    read_all(source)
    other = restarted(source, log, len(record(1)))
    (log.live.parent / "audit.log.1").unlink()
    other.open()
    assert read_all(other) == record(2)
    assert not other.gap
    other.close()


def test_a_place_before_the_first_byte(log: Log, source: DirectorySource) -> None:
    other = restarted(source, log, 0)
    log.write(record(1))
    log.rotate()
    log.write(record(2))
    other.open()
    assert read_all(other) == record(1) + record(2)
    assert not other.gap
    other.close()


def test_a_line_left_open_is_ended_even_if_its_file_is_gone_and_reading_was_stopped(
    log: Log, source: DirectorySource
) -> None:
    log.write(record(1) + record(2)[:20])
    got = read_all(source)
    source.close()
    log.live.unlink()
    log.close()
    log.write(record(3))
    for _ in range(2):
        source.open()
        source.close()
    source.open()
    assert got + read_all(source) == record(1) + record(2)[:20] + b"\n" + record(3)


@pytest.mark.parametrize("state", [{}, {"stream": "x"}, {"path": 1, "stream": 0}, {"stream": 5}])
def test_a_place_that_cannot_be_read_starts_anew(log: Log, state: dict[str, object]) -> None:
    log.write(record(1))
    source = DirectorySource(log.live.parent)
    assert source.restore(state) == 0
    assert source.take_gaps() == ["place_lost"]
    source.open()
    assert read_all(source) == record(1)
    source.close()


def test_the_place_of_another_directory_starts_anew(log: Log, source: DirectorySource, tmp_path: Path) -> None:
    log.write(record(1))
    read_all(source)
    (tmp_path / "other").mkdir()
    (tmp_path / "other" / "audit.log").write_bytes(record(2))
    other = DirectorySource(tmp_path / "other")
    assert other.restore(source.position(len(record(1)))) == len(record(1))
    other.open()
    assert read_all(other) == record(2)
    other.close()


# -- what is wrong is named


def test_a_directory_that_goes_away_is_an_error_until_it_is_back(log: Log, source: DirectorySource) -> None:
    log.write(record(1))
    got = read_all(source)
    directory = log.live.parent
    directory.rename(f"{directory}.aside")
    with pytest.raises(SourceError, match=f"{directory}.*No such file"):
        source.poll()
    Path(f"{directory}.aside").rename(directory)
    source.poll()
    log.write(record(2))
    assert got + read_all(source) == record(1) + record(2)


def test_f30_a_symbolic_link_in_place_of_the_log_is_refused(log: Log, tmp_path: Path) -> None:
    secret = tmp_path / "secret"
    secret.write_bytes(b"not a log\n")
    log.live.symlink_to(secret)
    source = DirectorySource(log.live.parent)
    with pytest.raises(SourceError, match=r"audit\.log: .*symbolic link"):
        source.open()
    log.live.unlink()
    source.open()
    log.write(record(1))
    got = read_all(source)
    log.live.rename(f"{log.live}.1")
    log.live.symlink_to(secret)
    with pytest.raises(SourceError, match=r"audit\.log: .*symbolic link"):
        source.poll()
    assert got + read_all(source) == record(1)
    source.close()


def test_a_named_pipe_in_place_of_the_log_blocks_nobody(tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "audit.log")
    with pytest.raises(SourceError, match=r"audit\.log: .*not a regular file"):
        DirectorySource(tmp_path).open()


def test_f30_what_became_something_else_after_the_look_is_refused_by_the_opening(tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "pipe")
    with pytest.raises(SourceError, match="pipe: not a regular file"):
        open_regular(tmp_path / "pipe")
    (tmp_path / "file").touch()
    (tmp_path / "link").symlink_to("file")
    with pytest.raises(OSError, match="symbolic link"):
        open_regular(tmp_path / "link")


def test_a_file_instead_of_the_directory_is_named(tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    with pytest.raises(SourceError, match="file: .*[Nn]ot a directory"):
        DirectorySource(tmp_path / "file").open()


@pytest.mark.skipif(os.geteuid() != 0, reason="needs root, to become somebody else")
def test_a_file_that_may_not_be_read_is_named(log: Log) -> None:
    log.write(record(1))
    log.live.chmod(0o600)
    for directory in (log.live.parent, *log.live.parent.parents):
        if directory.stat().st_uid == 0 and directory.name.startswith(("pytest", "test", "audit")):
            directory.chmod(0o755)
    status = in_child(lambda: expect_denied(log.live.parent), uid=65534)
    assert status == 0


def expect_denied(directory: Path) -> None:
    with pytest.raises(SourceError, match="Permission denied"):
        DirectorySource(directory).open()


def in_child(work: object, uid: int) -> int:
    """The exit code of a child that becomes ``uid`` and does ``work``: 0 when it raised nothing."""
    pid = os.fork()
    if pid == 0:
        try:
            os.setuid(uid)
            work()  # type: ignore[operator]
        except BaseException as exc:  # noqa: BLE001
            print(exc, file=sys.stderr)
            os._exit(1)
        os._exit(0)
    return os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1])


# -- whatever happens, in whatever order


class Machine:
    """One log, one reader, and a list of steps; each step is a letter and a number."""

    def __init__(self, directory: Path) -> None:
        self.directory = directory
        self.log = Log(directory / "audit.log")
        self.source = self._source()
        self.source.open()
        self.got = b""
        self.base = 0
        self.numbers = itertools.count()
        self.torn = False

    def _source(self) -> DirectorySource:
        # No inotify, as if every event of it was lost: looking is the truth.
        return DirectorySource(self.directory, follow=False)

    def close(self) -> None:
        self.source.close()
        self.log.close()

    def step(self, what: str, number: int) -> None:
        getattr(self, f"do_{what}")(number)

    def do_write(self, number: int) -> None:
        for _ in range(number % 3 + 1):
            self.log.write(record(next(self.numbers), "x" * (number * 37 % 900)))

    def do_tear(self, number: int) -> None:
        """A crash in the middle of a line, and what a restarted writer does about it: begin a new file."""
        if self.log.generations[-1].endswith(b"\n"):
            self.log.write(record(next(self.numbers))[: number % 40 + 1])
            self.log.rotate()
            self.torn = True

    def do_rotate(self, number: int) -> None:
        for _ in range(number % 3 + 1):
            self.log.rotate()

    def do_copy(self, number: int) -> None:
        # What is written to an empty file, copied and emptied between two looks was never seen at all.
        self.do_write(number)
        self.do_read(0)
        self.do_write(number)
        self.log.copy_and_truncate()

    def do_read(self, number: int) -> None:
        self.got += bytes(self.source.read()) if number % 2 else read_all(self.source)

    def do_reopen(self, number: int) -> None:
        del number
        self.source.close()
        self.source.open()

    def do_restart(self, number: int) -> None:
        """Go on from a checkpoint that is a little older than what was read."""
        offset = max(self.base, len(self.got) - number * 13)
        state = self.source.position(offset)
        self.source.close()
        self.source = self._source()
        assert self.source.restore(state) == offset
        if number % 2:
            self.do_write(number)
            self.do_rotate(number)
        self.source.open()
        self.got = self.got[:offset]
        self.base = offset


STEPS = st.lists(
    st.tuples(
        st.sampled_from(["write", "write", "tear", "rotate", "copy", "read", "reopen", "restart"]), st.integers(0, 60)
    ),
    max_size=40,
)


@settings(max_examples=150, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(steps=STEPS)
@example(steps=[("copy", 0), ("write", 0), ("read", 0), ("restart", 4), ("read", 1), ("reopen", 0)])
@example(steps=[("write", 0), ("rotate", 1), ("copy", 0), ("restart", 4), ("read", 1), ("reopen", 0)])
def test_all_bytes_exactly_once_and_in_order(
    tmp_path_factory: pytest.TempPathFactory, steps: list[tuple[str, int]]
) -> None:
    machine = Machine(tmp_path_factory.mktemp("log"))
    try:
        for what, number in steps:
            machine.step(what, number)
        machine.do_read(0)
        assert machine.got == machine.log.stream()
        assert machine.torn or not machine.source.gap
    finally:
        machine.close()


@pytest.mark.parametrize("keep", [3, 12])
def test_f04_rotation_every_ten_milliseconds_while_reading(tmp_path: Path, keep: int) -> None:
    """A writer of its own rotates as auditd does; the reader restarts now and then, and is often behind."""
    seconds = 2.0
    seen = mmap.mmap(-1, 8)  # what the reader has: the writer takes no file away that was not read
    pid = os.fork()
    if pid == 0:
        try:
            write_and_rotate(tmp_path, keep, seconds, seen)
        finally:
            os._exit(0)
    randomness = random.Random(keep)
    source = DirectorySource(tmp_path)
    source.open()
    got = b""
    finished = False
    while not finished:
        finished = os.waitpid(pid, os.WNOHANG)[0] == pid
        got += read_all(source)
        seen[:] = got.count(b"\n").to_bytes(8)
        if randomness.random() < 0.02:
            state = source.position(len(got))
            source.close()
            source = DirectorySource(tmp_path)
            assert source.restore(state) == len(got)
            source.open()
        time.sleep(0.01 if randomness.random() < 0.2 else 0)
    got += read_all(source)
    counters, gap = source.counters(), source.gap
    source.close()
    seen.close()
    numbers = [int(line.split(b"n=")[1]) for line in got.splitlines()]
    assert numbers == list(range(len(numbers)))
    assert numbers[-1] + 1 == int((tmp_path / "count").read_text()) > 1000
    assert not gap, counters


def write_and_rotate(directory: Path, keep: int, seconds: float, seen: mmap.mmap) -> None:
    signal.alarm(60)
    log = Log(directory / "audit.log", keep=keep)
    number = 0
    ends = [0]  # of each file
    end = time.monotonic() + seconds
    while time.monotonic() < end:
        rotation = time.monotonic() + 0.01
        while time.monotonic() < rotation:
            for _ in range(10):
                log.write(record(number))
                number += 1
            time.sleep(0.0005)
        ends.append(number)
        while int.from_bytes(seen[:]) < ends[max(0, len(ends) - keep + 1)]:
            time.sleep(0.0005)
        log.generations = [b""]
        log.rotate()
    (directory / "count").write_text(str(number))


def test_what_waits_is_in_all_newer_files(tmp_path: Path) -> None:
    live = tmp_path / "audit.log"
    live.write_bytes(b"first\n")
    source = DirectorySource(tmp_path)
    source.open()
    assert bytes(source.read()) == b"first\n"
    with live.open("ab") as file:
        file.write(b"second\n")
    live.rename(tmp_path / "audit.log.1")
    live.write_bytes(b"third\n")
    assert source.waiting_bytes() == len(b"second\nthird\n")
    assert read_all(source) == b"second\nthird\n"
    assert source.waiting_bytes() == 0
    source.close()
