"""What feeds and output share: watching a descriptor, and saying what is wrong without saying it too often."""

from __future__ import annotations

import asyncio
import contextlib
import logging
import select
import time
from collections.abc import Callable

log = logging.getLogger("audito")

COMPLAIN_AGAIN_MS = 60_000
"""The same trouble is logged again after this long."""


def monotonic_ms() -> int:
    """Milliseconds of a clock that nobody sets."""
    return time.monotonic_ns() // 1_000_000


def wall_ms() -> int:
    """Milliseconds since 1970."""
    return time.time_ns() // 1_000_000


class Complaints:
    """Logs a trouble when it begins, when it changes, once a minute while it lasts, and when it is over."""

    def __init__(self) -> None:
        self._since: dict[str, tuple[str, int]] = {}

    def trouble(self, about: str, problem: str) -> None:
        known, logged_ms = self._since.get(about, ("", 0))
        if problem == known and monotonic_ms() - logged_ms < COMPLAIN_AGAIN_MS:
            return
        self._since[about] = problem, monotonic_ms()
        log.warning("%s: %s", about, problem)

    def over(self, about: str) -> None:
        if self._since.pop(about, None):
            log.info("%s: works again", about)


class Watch:
    """Calls back, while started, as long as the descriptor that it is aimed at is ready.

    The loop sees only an epoll of ours: libuv makes what it watches non-blocking, which whoever else has the same
    open file (a shell, its terminal) would feel; and a descriptor that its owner closed leaves an epoll by itself.
    """

    def __init__(self, events: int, callback: Callable[[], None]) -> None:
        self.started = False
        self._events = events
        self._callback = callback
        self._epoll = select.epoll()
        self._fd = -1

    def aim(self, fd: int) -> bool:
        """Watch ``fd`` from now on, and again whenever it may be another file's; false where it cannot be watched."""
        if self._fd not in (-1, fd):
            with contextlib.suppress(OSError):
                self._epoll.unregister(self._fd)
        self._fd = -1
        if fd < 0:
            return False
        try:
            self._epoll.register(fd, self._events)
        except FileExistsError:
            pass
        except OSError:
            return False  # epoll knows no regular files, such as a redirected standard input
        self._fd = fd
        return True

    def start(self) -> None:
        if not self.started:
            asyncio.get_running_loop().add_reader(self._epoll.fileno(), self._callback)
            self.started = True

    def stop(self) -> None:
        if self.started:
            asyncio.get_running_loop().remove_reader(self._epoll.fileno())
            self.started = False

    def close(self) -> None:
        """Give up the epoll; not to be started again."""
        self._epoll.close()
