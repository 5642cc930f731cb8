"""Daemons that begin as a fork of a process which has audito imported: all of a start but the interpreter's and the imports.

The server runs ``python -m audito`` as runpy does for the interpreter, in a child that has its own command line,
environment and standard streams. It has one thread, and audito opens nothing while it is imported.
"""

from __future__ import annotations

import json
import os
import runpy
import select
import signal
import subprocess
import sys
from pathlib import Path

ROOT = Path(__file__).parent.parent.parent


class Forked:
    """One daemon, with what tests use of a Popen. The server is its parent, and tells its exit code."""

    def __init__(self, server: Forkserver, pid: int) -> None:
        self.pid, self._server = pid, server
        self.fd = os.pidfd_open(pid)
        """Readable once it has ended."""
        self.returncode: int | None = None

    def poll(self) -> int | None:
        return self.wait() if self.returncode is None and select.select([self.fd], [], [], 0)[0] else self.returncode

    def send_signal(self, number: int) -> None:
        signal.pidfd_send_signal(self.fd, number)

    def kill(self) -> None:
        if self.returncode is None:
            self.send_signal(signal.SIGKILL)

    def wait(self, timeout: float | None = None) -> int:
        """Errors: TimeoutExpired."""
        if self.returncode is None:
            if not select.select([self.fd], [], [], timeout)[0]:
                raise subprocess.TimeoutExpired("audito", timeout or 0)
            self.returncode = self._server.ask({"wait": self.pid})
            os.close(self.fd)
        return self.returncode


class Forkserver:
    """``with Forkserver() as server``. ``tick_ms``: of the daemon's timer and between its checkpoints, if not its own."""

    def __init__(self, tick_ms: int = 0) -> None:
        self._tick_ms = tick_ms

    def __enter__(self) -> Forkserver:
        self._process = subprocess.Popen(
            [sys.executable, "-m", __name__, str(self._tick_ms)],
            cwd=ROOT,
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
        )
        return self

    def __exit__(self, *_: object) -> None:
        self._process.communicate(timeout=10)

    def start(self, words: list[str], log: Path) -> Forked:
        """``python -m audito`` with these words; what it says is appended to the log."""
        return Forked(self, self.ask({"words": words, "log": str(log)}))

    def ask(self, request: dict[str, object]) -> int:
        """One request, and the number that answers it."""
        assert self._process.stdin is not None
        assert self._process.stdout is not None
        self._process.stdin.write(json.dumps(request).encode() + b"\n")
        self._process.stdin.flush()
        return int(self._process.stdout.readline())


def become(words: list[str], log: str) -> None:
    """In the child: the daemon, as the interpreter starts it. Raises SystemExit, and the interpreter ends as ever."""
    said = os.open(log, os.O_WRONLY | os.O_APPEND | os.O_CREAT)
    nothing = os.open(os.devnull, os.O_RDONLY)
    for old, new in ((nothing, 0), (said, 1), (said, 2)):
        os.dup2(old, new)
    os.closerange(3, max(said, nothing) + 1)
    sys.argv[1:] = words
    for name in [name for name in os.environ if name.startswith("AUDITO_")]:
        del os.environ[name]
    runpy.run_module("audito", run_name="__main__", alter_sys=True)


def main() -> None:
    """Serve requests, one a line, until there are no more."""
    from audito import daemon, service  # noqa: F401  # as cli imports them when it runs

    if tick_ms := int(sys.argv[1]):
        daemon.TICK_MS = daemon.CHECKPOINT_MS = tick_ms
    os.nice(5)  # who waits for something to happen in a daemon, to kill it then, goes first
    # What was read ahead would be the child's, too.
    with open(0, "rb", buffering=0, closefd=False) as requests:
        while line := requests.readline():
            request = json.loads(line)
            if "wait" in request:
                answer = os.waitstatus_to_exitcode(os.waitpid(request["wait"], 0)[1])
            elif (answer := os.fork()) == 0:
                become(request["words"], request["log"])
            os.write(1, b"%d\n" % answer)


if __name__ == "__main__":
    main()
