"""Signals from our first line on: until the daemon handles them its imports take a third of a second.

Before that line the interpreter starts, and a signal does what it does to every program; to process 1 of a container
it does nothing, and its sender has to wait and kill.
"""

from __future__ import annotations

import os
import signal
from collections.abc import Sequence
from types import FrameType

DAEMON_COMMANDS = ("run", "namedpipe")


def is_daemon(words: Sequence[str]) -> bool:
    """Whether this command line starts the daemon. Any other command ends by the signal, as what is not finished."""
    return not words or words[0].startswith("-") or words[0] in DAEMON_COMMANDS


def hold() -> None:
    """A stop ends the process at once, with 0: nothing is open and nothing was read. SIGHUP waits for release()."""
    signal.signal(signal.SIGTERM, _end)
    signal.signal(signal.SIGINT, _end)
    signal.pthread_sigmask(signal.SIG_BLOCK, (signal.SIGHUP,))


def release() -> None:
    """There is a handler for SIGHUP now."""
    signal.pthread_sigmask(signal.SIG_UNBLOCK, (signal.SIGHUP,))


def ignore() -> None:
    """All is done: when the interpreter ends it gives its handlers up, and the exit code would be the signal's."""
    for number in (signal.SIGTERM, signal.SIGINT, signal.SIGHUP):
        signal.signal(number, signal.SIG_IGN)


def _end(number: int, frame: FrameType | None) -> None:
    del number, frame
    os._exit(0)
