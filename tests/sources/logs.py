"""A log as its writers treat it: appended to, rotated in each of the ways there are; and what a reader must get."""

from __future__ import annotations

import os
import shutil
from pathlib import Path


def record(number: int, text: str = "") -> bytes:
    """A line that looks like an audit record and is like no other."""
    return f"type=TEST msg=audit(1700000000.{number % 1000:03}:{number}): n={number} {text}\n".encode()


class Log:
    """A log file and its rotated ones. ``generations``: what was written to each file, oldest first."""

    def __init__(self, live: Path, *, keep: int = 999) -> None:
        self.live = live
        self.keep = keep
        self.generations = [b""]
        self._fd = -1

    def write(self, data: bytes) -> None:
        """Append, with a descriptor that is held open, as auditd and rsyslogd do."""
        if self._fd < 0:
            self._fd = os.open(self.live, os.O_WRONLY | os.O_CREAT | os.O_APPEND | os.O_CLOEXEC, 0o600)
        assert os.write(self._fd, data) == len(data)
        self.generations[-1] += data

    def rotate(self) -> None:
        """As auditd: .N to .N+1 from the highest down, the log to .1, then a new one."""
        self.close()
        self._shift()
        if self.live.exists():
            self.live.rename(f"{self.live}.1")
        self.generations.append(b"")
        self.write(b"")

    def rotate_dated(self, date: str) -> None:
        """As logrotate with dateext: the log to NAME-DATE, then a new one."""
        self.close()
        self.live.rename(f"{self.live}-{date}")
        self.generations.append(b"")
        self.write(b"")

    def copy_and_truncate(self) -> None:
        """As logrotate with copytruncate: the log is copied to .1 and emptied."""
        self._shift()
        shutil.copyfile(self.live, f"{self.live}.1")
        os.truncate(self.live, 0)
        self.generations.append(b"")

    def close(self) -> None:
        if self._fd >= 0:
            os.close(self._fd)
            self._fd = -1

    def stream(self) -> bytes:
        """All of it as a reader gets it: a last line without an end gets one before the next file's first byte."""
        files = [data for data in self.generations if data]
        return b"".join(data if data.endswith(b"\n") else data + b"\n" for data in files[:-1]) + (files or [b""])[-1]

    def _shift(self) -> None:
        numbers = [int(path.suffix[1:]) for path in self.live.parent.glob(self.live.name + ".*")]
        for number in sorted(numbers, reverse=True):
            path = Path(f"{self.live}.{number}")
            if number >= self.keep - 1:
                path.unlink()
            else:
                path.rename(f"{self.live}.{number + 1}")


def read_all(source: object) -> bytes:
    """Read until there is nothing more now."""
    parts = []
    while data := bytes(source.read()):  # type: ignore[attr-defined]
        parts.append(data)
    return b"".join(parts)
