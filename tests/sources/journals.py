"""Journal files made without a journal daemon: systemd-journal-remote writes what its standard input says."""

from __future__ import annotations

import struct
import subprocess
from pathlib import Path

import pytest

REMOTE = next(
    (path for path in (Path("/lib/systemd/systemd-journal-remote"), Path("/usr/lib/systemd/systemd-journal-remote"))
     if path.exists()),
    None,
)  # fmt: skip

needs_journal = pytest.mark.skipif(REMOTE is None, reason="no systemd-journal-remote (package of the same name)")

BOOT = "0123456789abcdef0123456789abcdef"
SSHD = {"SYSLOG_IDENTIFIER": b"sshd", "_UID": b"0", "_EXE": b"/usr/sbin/sshd", "_PID": b"42"}
"""What journald stores beside the message of an sshd that root runs."""


class Journal:
    """A directory with one journal file. Times are given, one microsecond apart unless told otherwise."""

    def __init__(self, directory: Path, *, boot: str = BOOT, start_us: int = 1_700_000_000_000_000) -> None:
        directory.mkdir(exist_ok=True)
        self.directory = directory
        self.file = directory / "system.journal"
        self.boot = boot
        self.next_us = start_us
        self._monotonic_us = 1_000_000

    def append(self, *messages: bytes | None, **fields: bytes | str) -> None:
        """One entry a message, sshd's unless ``fields`` say otherwise; a field of b"" is left out, as is a None message."""
        entries = []
        for message in messages:
            entry = {**SSHD, **{name: _bytes(value) for name, value in fields.items()}}
            if message is not None:
                entry["MESSAGE"] = message
            entries.append(self._export({name: value for name, value in entry.items() if value or name == "MESSAGE"}))
        assert REMOTE is not None
        subprocess.run(
            [REMOTE, "-o", self.file, "-"], input=b"".join(entries), check=True, stderr=subprocess.DEVNULL, timeout=60
        )

    def rotate(self, number: int = 1) -> Path:
        """The file is kept under another name, as journald does, and a new one begins."""
        archived = self.directory / f"system@{number:032x}-{number:016x}-{number:016x}.journal"
        self.file.rename(archived)
        return archived

    def _export(self, fields: dict[str, bytes]) -> bytes:
        lines = [
            b"__REALTIME_TIMESTAMP=%d\n" % self.next_us,
            b"__MONOTONIC_TIMESTAMP=%d\n" % self._monotonic_us,
            b"_BOOT_ID=%s\n" % self.boot.encode(),
        ]
        self.next_us += 1
        self._monotonic_us += 1
        for name, value in fields.items():
            if b"\n" in value or not value.isascii():
                lines.append(name.encode() + b"\n" + struct.pack("<Q", len(value)) + value + b"\n")
            else:
                lines.append(name.encode() + b"=" + value + b"\n")
        return b"".join(lines) + b"\n"


def _bytes(value: bytes | str) -> bytes:
    return value if isinstance(value, bytes) else value.encode()
