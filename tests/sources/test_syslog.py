"""A syslog file: what logrotate does to it."""

from __future__ import annotations

import os
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from audito.errors import SourceError
from audito.sources.syslog import SyslogSource
from tests.sources.logs import Log, read_all


def line(number: int) -> bytes:
    return b"Nov 23 04:30:%02d host sshd[%d]: Accepted publickey for core\n" % (number % 60, number)


@pytest.fixture
def log(tmp_path: Path) -> Iterator[Log]:
    log = Log(tmp_path / "secure")
    log.write(b"")
    yield log
    log.close()


@pytest.fixture
def source(log: Log) -> Iterator[SyslogSource]:
    source = SyslogSource(log.live)
    source.open()
    yield source
    source.close()


def test_a_file_that_is_not_there_is_named(tmp_path: Path) -> None:
    with pytest.raises(SourceError, match=r"secure: No such file"):
        SyslogSource(tmp_path / "secure").open()


def test_reads_the_live_file_from_its_start(log: Log) -> None:
    log.write(line(1))
    log.rotate()
    log.write(line(2))
    source = SyslogSource(log.live)
    source.open()
    assert read_all(source) == line(2)
    source.close()


def test_since_also_reads_the_rotated_files_of_that_time(log: Log) -> None:
    now_s = time.time()
    for number in range(4):
        log.write(line(number))
        log.rotate()
    log.write(line(4))
    for age, path in enumerate([log.live, *(Path(f"{log.live}.{n}") for n in range(1, 5))]):
        os.utime(path, (now_s, now_s - 3600 * age))
    source = SyslogSource(log.live, since_us=int((now_s - 2.5 * 3600) * 1e6))
    source.open()
    assert read_all(source) == line(2) + line(3) + line(4)
    source.close()


def test_dated_rotation(log: Log, source: SyslogSource) -> None:
    log.write(line(1))
    got = read_all(source)
    for number, date in enumerate(("20240107", "20240114", "20240121"), 2):
        log.write(line(number))
        log.rotate_dated(date)
    log.write(line(9))
    assert got + read_all(source) == log.stream()
    assert source.counters()["rotations"] == 3


def test_compressed_at_once(log: Log, source: SyslogSource) -> None:
    """logrotate without delaycompress: the renamed file is gone, our descriptor still has it."""
    log.write(line(1))
    got = read_all(source)
    log.write(line(2))
    log.rotate()
    Path(f"{log.live}.1").rename(f"{log.live}.1.gz")
    log.write(line(3))
    assert got + read_all(source) == line(1) + line(2) + line(3)
    assert not source.gap


def test_copytruncate(log: Log, source: SyslogSource) -> None:
    log.write(line(1))
    got = read_all(source)
    log.write(line(2))
    log.copy_and_truncate()
    log.write(line(3))
    assert got + read_all(source) == line(1) + line(2) + line(3)


def test_a_rotation_may_leave_no_file_for_a_while(log: Log, source: SyslogSource) -> None:
    log.write(line(1))
    got = read_all(source)
    log.close()
    log.live.rename(f"{log.live}-20240101")
    source.poll()
    assert read_all(source) == b""
    log.write(line(2))
    source.poll()
    assert got + read_all(source) == line(1) + line(2)


def test_the_format_is_what_was_asked_for(log: Log) -> None:
    assert SyslogSource(log.live).format == "syslog"
    assert SyslogSource(log.live, line_format="auto").format == "auto"
