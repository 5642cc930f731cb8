"""Daemons that begin as a fork of a process which has audito imported: all of a start but the interpreter's and the imports.

The server runs ``python -m audito`` as runpy does for the interpreter, in a child that has its own command line,
environment and standard streams. It has one thread, and audito opens nothing while it is imported. A start costs a
tenth of what it costs otherwise; tests of the start itself, and those in which the interpreter needs an environment of
its own (PYTHON…, LD_PRELOAD), start ``python -m audito`` as users do.
"""

from __future__ import annotations

import atexit
import functools
import json
import os
import runpy
import select
import signal
import subprocess
import sys
import time
from collections.abc import Mapping, Sequence
from pathlib import Path

ROOT = Path(__file__).parent.parent


class Forked:
    """One daemon, with what tests use of a Popen. The server is its parent, and tells its exit code."""

    def __init__(self, server: Forkserver, pid: int) -> None:
        self.pid, self._server = pid, server
        self._fd = os.pidfd_open(pid)  # readable once it has ended
        self.returncode: int | None = None

    def poll(self) -> int | None:
        if self.returncode is None and select.select([self._fd], [], [], 0)[0]:
            self.wait()
        return self.returncode

    def send_signal(self, number: int) -> None:
        if self.poll() is None:
            signal.pidfd_send_signal(self._fd, number)

    def kill(self) -> None:
        self.send_signal(signal.SIGKILL)

    def wait(self, timeout: float | None = None) -> int:
        """Errors: TimeoutExpired."""
        if self.returncode is None:
            if not select.select([self._fd], [], [], timeout)[0]:
                raise subprocess.TimeoutExpired("audito", timeout or 0)
            self.returncode = self._server.ask({"wait": self.pid})
            os.close(self._fd)
        return self.returncode


class Forkserver:
    """``tick_ms``: of the daemon's timer, and between its checkpoints, where not its own."""

    def __init__(self, tick_ms: int = 0) -> None:
        self._process = subprocess.Popen(
            [sys.executable, "-m", __name__, str(tick_ms)], cwd=ROOT, stdin=subprocess.PIPE, stdout=subprocess.PIPE
        )

    def close(self) -> None:
        """End the server, and what it started."""
        self._process.communicate(timeout=10)

    def start(self, words: Sequence[str], environ: Mapping[str, str], log: Path) -> Forked:
        """``python -m audito`` with these words; what it says is appended to the log."""
        log.touch()
        request = {"words": list(words), "environ": dict(environ), "log": str(log)}
        return Forked(self, self.ask(request))

    def ask(self, request: Mapping[str, object]) -> int:
        """One request, and the number that answers it."""
        assert self._process.stdin is not None
        assert self._process.stdout is not None
        self._process.stdin.write(json.dumps(request).encode() + b"\n")
        self._process.stdin.flush()
        return int(self._process.stdout.readline())


@functools.cache
def shared() -> Forkserver:
    """The one of all tests that need no other."""
    server = Forkserver()
    atexit.register(server.close)
    return server


def become(words: list[str], environ: dict[str, str], log: str) -> None:
    """In the child: the daemon, as the interpreter starts it. Raises SystemExit, and the interpreter ends as ever."""
    said = os.open(log, os.O_WRONLY | os.O_APPEND)
    nothing = os.open(os.devnull, os.O_RDONLY)
    for old, new in ((nothing, 0), (said, 1), (said, 2)):
        os.dup2(old, new)
    os.closerange(3, max(said, nothing) + 1)
    sys.argv[1:] = words
    os.environ.clear()
    os.environ.update(environ)
    time.tzset()
    runpy.run_module("audito", run_name="__main__", alter_sys=True)


def main() -> None:
    """Serve requests, one a line, until there are no more; what still runs then was left by a test that failed."""
    from audito import daemon, service  # noqa: F401  # as cli imports them when it runs

    if tick_ms := int(sys.argv[1]):
        daemon.TICK_MS = daemon.CHECKPOINT_MS = tick_ms
        os.nice(5)  # who waits for something to happen in a daemon, to kill it then, goes first
    running: set[int] = set()
    # What was read ahead would be the child's, too.
    with open(0, "rb", buffering=0, closefd=False) as requests:
        while line := requests.readline():
            request = json.loads(line)
            if "wait" in request:
                answer = os.waitstatus_to_exitcode(os.waitpid(request["wait"], 0)[1])
                running.remove(request["wait"])
            elif (answer := os.fork()) == 0:
                become(**request)
            else:
                running.add(answer)
            os.write(1, b"%d\n" % answer)
    for pid in running:
        os.kill(pid, signal.SIGKILL)


if __name__ == "__main__":
    main()
