"""A daemon that is started from a manifest's words, in a directory of its own."""

from __future__ import annotations

import contextlib
import json
import subprocess
import sys
import time
import urllib.error
import urllib.request
from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any, TypeVar

from tests.deploy.programs import ROOT
from tests.e2e.host import free_port

EXAMPLES = ROOT / "examples"
START_TIMEOUT_S = 15.0
STOP_TIMEOUT_S = 10.0

Event = dict[str, Any]
T = TypeVar("T")


def until(what: str, look: Callable[[], T], timeout_s: float = START_TIMEOUT_S) -> T:
    """Wait until LOOK() gives something that is true, and return it; AssertionError when time is up."""
    deadline = time.monotonic() + timeout_s
    while not (found := look()):
        assert time.monotonic() < deadline, f"{what}: not within {timeout_s:.0f} s"
        time.sleep(0.05)
    return found


def get(port: int, path: str) -> tuple[int, bytes]:
    """Status and body of a page of the daemon; (0, b"") where nothing answers."""
    try:
        with urllib.request.urlopen(f"http://127.0.0.1:{port}{path}", timeout=5) as answer:
            return answer.status, answer.read()
    except urllib.error.HTTPError as error:
        return error.code, error.read()
    except OSError:
        return 0, b""


class Started:
    """A running daemon. ``lines``: where its events go; a file that something fills, its standard output or else."""

    def __init__(self, process: subprocess.Popen[bytes], port: int, lines: Path, log: Path) -> None:
        self.process = process
        self.port = port
        self.lines = lines
        self.log = log

    def events(self) -> list[Event]:
        """The events written so far, less a line that is still being written."""
        return [json.loads(line) for line in self.lines.read_bytes().split(b"\n")[:-1]]

    def wait_ready(self) -> None:
        """Wait until the readiness probe would pass; AssertionError with what keeps it from that."""
        try:
            until("ready", lambda: self.get("/readyz")[0] == 200)
        except AssertionError as error:
            raise AssertionError(f"{error}: {self.get('/readyz')} {self.log.read_text()}") from None

    def get(self, path: str) -> tuple[int, bytes]:
        """A page; AssertionError with its log when the daemon has ended."""
        assert self.process.poll() is None, self.log.read_text()
        return get(self.port, path)

    def stop(self) -> int:
        """End it as the kubelet does, and give its exit code."""
        self.process.terminate()
        return self.process.wait(STOP_TIMEOUT_S)


@contextlib.contextmanager
def started(
    directory: Path,
    args: Sequence[str],
    environ: Mapping[str, str],
    *,
    command: Sequence[str] = (sys.executable, "-m", "audito"),
    lines: Path | None = None,
) -> Iterator[Started]:
    """Run the daemon with these words. Where it listens is weaker than any flag: a free port of the loopback."""
    port = free_port("127.0.0.1")
    stdout, log = directory / "stdout", directory / "stderr"
    with stdout.open("wb") as out, log.open("wb") as err:
        process = subprocess.Popen(
            [*command, *args],
            stdin=subprocess.DEVNULL,
            stdout=out,
            stderr=err,
            cwd=ROOT,
            env={"PATH": "/usr/bin:/bin", "AUDITO_HTTP_ADDRESS": f"127.0.0.1:{port}", **environ},
        )
    try:
        yield Started(process, port, lines or stdout, log)
    finally:
        if process.poll() is None:
            process.kill()
            process.wait()


def users_of(events: Sequence[Event], kind: str) -> set[tuple[str, str]]:
    """Who did something according to these events: account and identity."""
    return {(e["subjects"]["loggedAs"], e["subjects"]["userID"]) for e in events if e["type"] == kind}


def expected_users() -> set[tuple[str, str]]:
    """Account and identity of each login of the captured session that succeeded."""
    truth = json.loads((EXAMPLES / "truth.json").read_text(encoding="utf-8"))
    return {(login["account"], login["user_id"]) for login in truth["logins"] if login["succeeded"]}
