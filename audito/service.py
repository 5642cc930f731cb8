"""What the service manager is told: that we are ready, how we are, that the loop still turns.

The protocol is that of sd_notify(3); ``systemd.daemon.notify`` speaks it. Without a manager, or without
systemd-python, nothing is sent and nothing else changes. A message is one datagram and is sent in the loop's
thread: it waits only when process 1 does not read, and then nothing on the host goes on.
"""

from __future__ import annotations

import importlib
from collections.abc import Callable, Mapping

from audito.watch import log

Notify = Callable[[str], object]
"""Sends one message: lines of ``NAME=value``."""

STATUS_MS = 10_000
"""Between two STATUS messages: systemctl shows figures that are this old at most."""

STATUS_CHARS_MAX = 400
"""systemd takes 4 KiB a message (PIPE_BUF); a longer one is dropped."""


def connect(environ: Mapping[str, str], pid: int) -> Service:
    """The manager that the environment names, or one that nothing is said to. ``pid``: ours.

    Source: sd_notify(3), sd_watchdog_enabled(3): ``WATCHDOG_PID`` says whom the watchdog is meant for.
    """
    if not environ.get("NOTIFY_SOCKET"):
        return Service()
    try:
        notify: Notify = importlib.import_module("systemd.daemon").notify
    except ImportError as exc:
        log.warning("the service manager waits for messages, and there is no systemd-python to send them: %s", exc)
        return Service()
    usec, whom = environ.get("WATCHDOG_USEC", ""), environ.get("WATCHDOG_PID", "")
    is_ours = usec.isdecimal() and whom in ("", str(pid))
    return Service(notify, int(usec) // 1000 if is_ours else 0)


class Service:
    """One run under a service manager. Times are monotonic milliseconds.

    ``beat_ms``: how often beat() has to come, half of what the manager waits for; 0 where it does not.
    """

    def __init__(self, notify: Notify | None = None, watchdog_ms: int = 0) -> None:
        self._notify = notify
        self.beat_ms = max(watchdog_ms // 2, 1) if watchdog_ms else 0
        self._is_ready = False
        self._beat_due_ms = self._status_due_ms = 0
        self._status = ""

    def beat(self, now_ms: int) -> None:
        """The loop turns; to be called at least every ``beat_ms``."""
        if self.beat_ms and now_ms >= self._beat_due_ms:
            self._beat_due_ms = now_ms + self.beat_ms
            self._send("WATCHDOG=1")

    def tell(self, now_ms: int, ready: bool, status: Callable[[], str]) -> None:
        """How we are: READY at the first time that all is ready, STATUS then and every STATUS_MS, if it is another."""
        if self._notify is None:
            return
        is_news = ready and not self._is_ready
        if not is_news and now_ms < self._status_due_ms:
            return
        self._status_due_ms = now_ms + STATUS_MS
        text = " ".join(status().split())[:STATUS_CHARS_MAX]
        lines = ["READY=1"] if is_news else []
        if text != self._status:
            lines.append(f"STATUS={text}")
        if lines:
            self._send("\n".join(lines))
        self._is_ready = self._is_ready or ready
        self._status = text

    def reloading(self, now_us: int) -> None:
        """The configuration is read again. ``now_us``: CLOCK_MONOTONIC, by which systemd knows which reload it is."""
        if self._is_ready:
            self._send(f"RELOADING=1\nMONOTONIC_USEC={now_us}")

    def reloaded(self) -> None:
        """That is over, for better or worse. systemd takes READY=1 for the end of a reload only."""
        self._status_due_ms = 0
        if self._is_ready:
            self._send("READY=1")

    def stopping(self, why: str) -> None:
        self._status = f"stopping: {why}"
        self._send(f"STOPPING=1\nSTATUS={self._status}")

    def _send(self, message: str) -> None:
        if self._notify is None:
            return
        try:
            self._notify(message)
        except OSError as exc:
            log.warning("the service manager cannot be told any more: %s", exc.strerror or exc)
            self._notify = None
