"""One syslog file with sshd's lines: /var/log/secure, /var/log/auth.log, and what the rotation made of it."""

from __future__ import annotations

import os
from pathlib import Path

from audito.sources import Format
from audito.sources.follow import Follower, Seen


class SyslogSource(Follower):
    """A log that syslogd writes and logrotate rotates.

    ``since_us``: a first start also reads the rotated files that were written to since then (microseconds
    since the epoch), so that the logins of an audit log that is read from its start are there; without it,
    only the live file. A file that is not there is an error: a wrong path would else wait for ever.
    """

    def __init__(
        self, path: Path, *, since_us: int | None = None, line_format: Format = "syslog", follow: bool = True
    ) -> None:
        super().__init__(path, name="sshd-syslog", stream="sshd", line_format=line_format, follow=follow)
        self.since_us = since_us

    def _first(self, files: list[Seen]) -> int:
        newest = len(files) - 1
        if self.since_us is None:
            return newest
        return next((i for i, seen in enumerate(files) if seen.changed_us >= self.since_us), newest)

    def _check(self) -> None:
        super()._check()
        # Once it was opened, a file may be away for as long as its rotation takes.
        if not self.opened:
            os.stat(self._live)
