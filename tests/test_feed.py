"""How far behind an input is, of real inputs: a log, a pipe of lines without times, a journal that does not say."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from audito import feed as feeds
from audito.feed import Feed
from audito.health import Health
from audito.sources import Source
from audito.sources.directory import DirectorySource
from audito.sources.fifo import FifoSource
from audito.sources.journal import JournalSource
from audito.watch import Complaints
from tests.sources.journals import REMOTE, Journal

NOW_MS = 1_700_000_000_000
HOUR_MS = 3_600_000


def feed_of(source: Source) -> Feed:
    """An open feed of it, of which nothing was read."""
    feed = Feed(source.stream, lambda: source, lambda _: None, Health(dict), Complaints(), {})
    feed.open()
    assert feed.opened
    return feed


def drain(feed: Feed) -> None:
    feed.poll()
    while feed.read():
        pass


@pytest.fixture(name="later")
def _later(monkeypatch: pytest.MonkeyPatch) -> list[int]:
    """How many ms later than it is the feed's clock is."""
    later, real_ms = [0], feeds.monotonic_ms
    monkeypatch.setattr(feeds, "monotonic_ms", lambda: real_ms() + later[0])
    return later


def test_a_log_is_as_far_behind_as_its_newest_record(tmp_path: Path) -> None:
    log = tmp_path / "audit.log"
    log.write_bytes(b"one\n")
    feed = feed_of(DirectorySource(tmp_path))
    assert feed.lag_ms(NOW_MS - HOUR_MS, NOW_MS) == HOUR_MS
    assert feed.lag_ms(NOW_MS + HOUR_MS, NOW_MS) == 0, "a record of the future is not behind"
    drain(feed)
    assert feed.lag_ms(NOW_MS - HOUR_MS, NOW_MS) == 0, "all is read, however old it is"
    feed.poll()
    assert feed.lag_ms(NOW_MS - HOUR_MS, NOW_MS) == 0, "nothing waits, whether it was looked at or not"
    with log.open("ab") as file:
        file.write(b"two\n")
    assert feed.lag_ms(NOW_MS - HOUR_MS, NOW_MS) == HOUR_MS
    feed.close()


def test_lines_without_times_are_behind_since_all_was_read(tmp_path: Path, later: list[int]) -> None:
    pipe = tmp_path / "sshd"
    os.mkfifo(pipe)
    feed = feed_of(FifoSource(pipe, "sshd"))
    drain(feed)
    fd = os.open(pipe, os.O_WRONLY)
    os.write(fd, b"1 a line\n")
    os.close(fd)
    feed.poll()
    later[0] = 5_000
    assert 5_000 <= feed.lag_ms(0, NOW_MS) < 6_000
    drain(feed)
    assert feed.lag_ms(0, NOW_MS) == 0
    feed.close()


def test_a_quiet_journal_is_not_hours_behind(tmp_path: Path, later: list[int]) -> None:
    """It does not tell whether there is more; what there may be came after all was read."""
    if REMOTE is None:
        pytest.skip("no systemd-journal-remote (package of the same name)")
    journal = Journal(tmp_path / "journal")
    journal.append(b"before")
    feed = feed_of(JournalSource(tmp_path / "journal", since_us=0))
    assert feed.lag_ms(NOW_MS - HOUR_MS, NOW_MS) == HOUR_MS, "what is old and was not read yet is that far behind"
    drain(feed)
    assert feed.lag_ms(NOW_MS - HOUR_MS, NOW_MS) == 0
    feed.poll()
    later[0] = 7_000
    assert 7_000 <= feed.lag_ms(NOW_MS - HOUR_MS, NOW_MS) < 8_000
    feed.close()
