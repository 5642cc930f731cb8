"""A journal, and systemd.journal.Reader on it, as far as audito.sources.journal asks."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from tests.sim.kernel import Kernel, Opened


@dataclass(slots=True)
class Entry:
    """One entry. ``number``: counts from the first that ever was; ``boot``: match of the boot that it is of."""

    number: int
    time_us: int
    fields: dict[str, bytes]
    boot: str


class Journal:
    """The entries that journald still has."""

    def __init__(self, kernel: Kernel, boot_id: str) -> None:
        self.kernel = kernel
        self.entries: list[Entry] = []
        self.boot_id = boot_id
        self._count = 0

    def add(self, pid: int, message: bytes, time_us: int) -> None:
        """``time_us``: when its sender sent it."""
        self._count += 1
        fields = {
            "MESSAGE": message, "_PID": b"%d" % pid, "_UID": b"0", "_EXE": b"/usr/sbin/sshd",
            "_TRANSPORT": b"syslog", "SYSLOG_IDENTIFIER": b"sshd",
            "_SOURCE_REALTIME_TIMESTAMP": b"%d" % time_us,
        }  # fmt: skip
        self.entries.append(Entry(self._count, self.kernel.wall_ns() // 1000, fields, self.boot_id))

    def vacuum(self, share: float) -> list[Entry]:
        """Throw the oldest away; returns them."""
        count = int(len(self.entries) * share)
        gone, self.entries = self.entries[:count], self.entries[count:]
        return gone

    def reader(self, path: str | None = None) -> Reader:
        del path
        return Reader(self)


class Reader:
    """The calls of ``Entries``. ``_at``: number of the entry at hand; a seek leaves none, and says where next begins."""

    def __init__(self, journal: Journal) -> None:
        journal.kernel.enter("journal_open", "/journal")
        self.data_threshold = 0
        self._journal = journal
        self._begin: int | None = 1
        self._at = 0
        self._known = 0
        self._boot = ""
        self._number = journal.kernel.add(Opened(None, ready=self._has_news))

    def _has_news(self) -> bool:
        return self._journal._count > self._known

    def add_match(self, match: str) -> None:
        """Everything here is sshd's; which boot's is asked for."""
        if match.startswith("_BOOT_ID="):
            self._boot = match.removeprefix("_BOOT_ID=")

    def _next(self) -> bool:
        self._journal.kernel.enter("journal_next", "/journal")
        least = self._begin if self._begin is not None else self._at + 1
        for entry in self._journal.entries:
            if entry.number >= least and self._boot in ("", entry.boot):
                self._at, self._begin = entry.number, None
                return True
        return False

    def _previous(self) -> bool:
        for entry in reversed(self._journal.entries):
            if self._boot in ("", entry.boot):
                self._at, self._begin = entry.number, None
                return True
        return False

    def _entry(self) -> Entry:
        for entry in self._journal.entries:
            if entry.number == self._at:
                return entry
        raise OSError(99, "Cannot assign requested address")

    def _get_realtime(self) -> int:
        return self._entry().time_us

    def _get_cursor(self) -> str:
        return f"i={self._at}"

    def _get(self, name: str) -> Any:
        self._journal.kernel.enter("journal_get", "/journal")
        return self._entry().fields[name]

    def seek_realtime(self, time_us: int) -> None:
        after = (entry.number for entry in self._journal.entries if entry.time_us >= time_us)
        self._begin = next(after, self._journal._count + 1)

    def seek_cursor(self, cursor: str) -> None:
        self._begin = int(cursor[2:])

    def test_cursor(self, cursor: str) -> bool:
        return self._get_cursor() == cursor

    def seek_head(self) -> None:
        self._begin = 1

    def seek_tail(self) -> None:
        self._begin = self._journal._count + 1

    def process(self) -> None:
        self._journal.kernel.enter("journal_process", "/journal")
        self._known = self._journal._count

    def fileno(self) -> int:
        return self._number

    def close(self) -> None:
        self._journal.kernel.close(self._number)
