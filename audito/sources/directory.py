"""The directory that auditd writes: audit.log and its rotated files, oldest first, then audit.log as it grows."""

from __future__ import annotations

import os
import re
from pathlib import Path

from audito.errors import SourceError
from audito.sources.follow import Follower, all_files, open_regular

LIVE_NAME = "audit.log"

FIRST_RECORD_BYTES_MAX = 64 << 10
"""How far into a file a first record is looked for: as long as one line may be."""

_RECORD_TIME = re.compile(rb"audit\((\d{1,12})\.(\d{3}):\d+\)")


def log_files(path: Path) -> list[Path]:
    """The log files of an auditd directory, oldest first: by number, so that .10 comes before .9.

    Errors: SourceError when the directory cannot be read.
    """
    try:
        return all_files(path / LIVE_NAME)
    except OSError as exc:
        raise SourceError(f"{exc.filename or path}: {exc.strerror or exc}") from exc


def oldest_record_ms(path: Path) -> int | None:
    """When the first record of the oldest file was made, in ms since the epoch; None where no file has one.

    Only the start of a file is read. Errors: SourceError when the directory or a file cannot be read.
    """
    for file in log_files(path):
        try:
            fd = open_regular(file)
        except FileNotFoundError:
            continue
        except OSError as exc:
            raise SourceError(f"{file}: {exc.strerror or exc}") from exc
        try:
            match = _RECORD_TIME.search(os.pread(fd, FIRST_RECORD_BYTES_MAX, 0))
        finally:
            os.close(fd)
        if match is not None:
            return int(match[1]) * 1000 + int(match[2])
    return None


class DirectorySource(Follower):
    """auditd's log directory. ``follow`` false: ends with the last byte of audit.log, for a replay.

    A directory without audit.log is no error: auditd may not have started yet.
    """

    def __init__(self, path: Path, *, follow: bool = True) -> None:
        super().__init__(path / LIVE_NAME, name="audit-directory", stream="audit", line_format="audit", follow=follow)
