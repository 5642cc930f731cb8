"""A descriptor that turns readable when a log or its directory may have changed.

inotify through pyinotify, and only as a hint: every wake-up means the same, look at the files again,
so a lost, coalesced or overflown event costs at most the second until the next poll. Nothing reads
the events: pyinotify's own reader raises on a name that is not UTF-8 and blocks on an empty queue.
"""

from __future__ import annotations

import contextlib
import fcntl
import importlib
import logging
import os
import warnings
from pathlib import Path
from types import ModuleType
from typing import Any

log = logging.getLogger(__name__)

DRAIN_BYTES = 64 << 10
DRAIN_READS_MAX = 8
"""One wake() takes at most 512 KiB of events; the descriptor stays readable when there are more."""


class Watcher:
    """Watches one directory for names, and one open file for writes. Every failure degrades to polling."""

    def __init__(self, directory: Path) -> None:
        self._directory = directory
        self._library: Any = None
        self._manager: Any = None
        self._directory_watch = -1
        self._directory_id = (0, 0)
        self._file_watch = -1
        self._masks = (0, 0)
        self._warned = False

    def open(self) -> None:
        """Start; where inotify is not to be had (instances used up, no library), warn once and stay with polling."""
        if self._manager is not None:
            return
        try:
            self._library = pyinotify = _import_pyinotify()
        except ImportError as exc:
            self._degrade(exc)
            return
        self._masks = (
            pyinotify.IN_CREATE | pyinotify.IN_MOVED_TO | pyinotify.IN_MOVED_FROM | pyinotify.IN_DELETE
            | pyinotify.IN_ONLYDIR,
            pyinotify.IN_MODIFY,
        )  # fmt: skip
        try:
            manager = pyinotify.WatchManager()
        except (OSError, pyinotify.PyinotifyError) as exc:
            self._degrade(exc)
            return
        self._manager = manager
        # The library sets neither: a child would inherit the descriptor, an empty queue would block the loop.
        fcntl.fcntl(manager.get_fd(), fcntl.F_SETFD, fcntl.FD_CLOEXEC)
        os.set_blocking(manager.get_fd(), False)
        self._watch_directory()

    def fileno(self) -> int:
        return self._manager.get_fd() if self._manager is not None else -1

    def watch(self, fd: int) -> None:
        """Watch the file open at ``fd``, by descriptor: a name could already mean another file."""
        if self._manager is None:
            return
        self._forget(self._file_watch)
        self._file_watch = self._add(f"/proc/self/fd/{fd}", self._masks[1])

    def drain(self) -> None:
        """Discard what woke us, an overflow mark like any other event."""
        if self._manager is None:
            return
        with contextlib.suppress(BlockingIOError):
            for _ in range(DRAIN_READS_MAX):
                os.read(self._manager.get_fd(), DRAIN_BYTES)

    def poll(self) -> None:
        """Watch the directory anew where another one took its place."""
        if self._manager is None:
            return
        try:
            status = os.stat(self._directory)
        except OSError:
            return
        if (status.st_dev, status.st_ino) != self._directory_id:
            self._watch_directory()

    def close(self) -> None:
        if self._manager is not None:
            self._manager.close()
        self._manager = None
        self._directory_watch = self._file_watch = -1
        self._directory_id = (0, 0)

    def _watch_directory(self) -> None:
        self._forget(self._directory_watch)
        self._directory_watch = self._add(str(self._directory), self._masks[0])
        if self._directory_watch >= 0:
            with contextlib.suppress(OSError):
                status = os.stat(self._directory)
                self._directory_id = (status.st_dev, status.st_ino)

    def _add(self, path: str, mask: int) -> int:
        try:
            (watch,) = self._manager.add_watch(path, mask, quiet=False).values()
        except self._library.PyinotifyError as exc:
            self._degrade(exc)
            return -1
        return int(watch)

    def _forget(self, watch: int) -> None:
        # Fails where the kernel removed it first (the file system went away), which is what we want.
        if watch >= 0:
            self._manager.rm_watch(watch, quiet=True)
            self._manager.watches.pop(watch, None)

    def _degrade(self, exc: Exception) -> None:
        if not self._warned:
            self._warned = True
            log.warning("%s: no inotify, looking once a second instead: %s", self._directory, exc)


def _import_pyinotify() -> ModuleType:
    """The library, without what its import prints: asyncore warns on 3.11, and it installs a log handler of its own."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        module = importlib.import_module("pyinotify")
    module.log.handlers.clear()
    # Its errors come to us as exceptions, and a rm_watch of a watch that the kernel already removed is none.
    module.log.setLevel(logging.CRITICAL)
    return module
