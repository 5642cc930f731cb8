"""audito as its users run it: a process of its own, fed by the real parts of the host."""

from __future__ import annotations

import contextlib
import json
import os
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

from .host import Host
from .undo import wait_until

REPOSITORY = Path(__file__).resolve().parents[2]
NODE_NAME = "bastion"
# SIGTERM must end it within this time, whatever state it is in.
STOP_TIMEOUT_S = 5.0
EVENTS_TIMEOUT_S = 20.0


@dataclass
class Daemon:
    """A running audito and the file that it writes events to."""

    process: subprocess.Popen[bytes]
    output: Path
    log: Path

    def events(self) -> list[dict[str, Any]]:
        """Return the events written so far; a line that is still being written is left out."""
        if not self.output.exists():
            return []
        return lines_of(self.output.read_bytes())

    def wait_for(self, complete: Callable[[list[dict[str, Any]]], bool]) -> None:
        """Wait until the events are COMPLETE, or time is up: the tests then say what is missing."""
        deadline = time.monotonic() + EVENTS_TIMEOUT_S
        while time.monotonic() < deadline and not complete(self.events()):
            time.sleep(0.2)
        # A second copy of an event, were there one, would come with the next batch.
        time.sleep(2)

    def stop(self) -> int:
        """End it with SIGTERM and return its exit code; TimeoutExpired when it stays."""
        self.process.terminate()
        try:
            return self.process.wait(STOP_TIMEOUT_S)
        finally:
            self.kill()

    def kill(self) -> None:
        """Make sure that it is gone."""
        if self.process.poll() is None:
            self.process.kill()
            self.process.wait()


def lines_of(data: bytes) -> list[dict[str, Any]]:
    """The events of an output; a last line without its end is left out.

    So are empty lines: one ends what a process that was killed may have left in a pipe, half a line.
    """
    return [json.loads(line) for line in data.split(b"\n")[:-1] if line]


def start(directory: Path, *flags: str) -> Daemon:
    """Start audito with FLAGS; its output, state and log go to DIRECTORY."""
    output, log = directory / "events.jsonl", directory / "audito.log"
    command = [sys.executable, "-m", "audito", "-app-events-output", str(output), *flags]
    environment = {
        "PATH": os.environ["PATH"],
        "NODE_NAME": NODE_NAME,
        "AUDITO_STATE_DIR": str(directory / "state"),
        "PYTHONUNBUFFERED": "1",
    }
    with log.open("wb") as stderr:
        process = subprocess.Popen(
            command, stdin=subprocess.DEVNULL, stdout=stderr, stderr=stderr, cwd=REPOSITORY, env=environment
        )
    return Daemon(process, output, log)


def wait_for_inputs(daemon: Daemon, *paths: Path) -> None:
    """Wait until audito has opened something at or below each of PATHS; HostError when it does not."""
    for path in paths:
        wait_until(f"audito opens {path} (its log: {daemon.log})", partial(holds_open, daemon, path))


def holds_open(daemon: Daemon, path: Path) -> bool:
    """Tell whether audito has PATH, or a file below it, open; AssertionError when audito has ended."""
    assert daemon.process.poll() is None, f"audito ended: {daemon.log.read_text()}"
    for descriptor in Path(f"/proc/{daemon.process.pid}/fd").iterdir():
        with contextlib.suppress(OSError):
            opened = descriptor.readlink()
            if opened == path or path in opened.parents:
                return True
    return False


@contextlib.contextmanager
def on_directory_and_journal(host: Host, directory: Path, *options: str) -> Iterator[Daemon]:
    """Run audito on auditd's log directory and the journal, with these options beside."""
    (directory / "state").mkdir()
    daemon = start(
        directory,
        *("-audit-dir-path", str(host.audit_directory)),
        *("--journal-dir", str(host.journal_directory)),
        *("--state-dir", str(directory / "state")),
        *options,
    )
    try:
        wait_for_inputs(daemon, host.audit_directory, host.journal_directory)
        yield daemon
    finally:
        daemon.kill()


@contextlib.contextmanager
def on_named_pipes(host: Host, directory: Path) -> Iterator[Daemon]:
    """Run audito as the Go daemon's manifests do: rsyslogd feeds one pipe, a `tail -F` the other."""
    audit_pipe = directory / "audit.fifo"
    os.mkfifo(audit_pipe, 0o600)
    drain(host.sshd_pipe_path)
    daemon = start(directory, "-sshd-pipe-path", str(host.sshd_pipe_path), "-auditd-pipe-path", str(audit_pipe))
    try:
        wait_for_inputs(daemon, host.sshd_pipe_path, audit_pipe)
        with audit_pipe.open("wb", buffering=0) as pipe:
            log = str(host.audit_directory / "audit.log")
            relay = subprocess.Popen(["tail", "--lines=0", "-F", log], stdout=pipe, stderr=subprocess.DEVNULL)
        try:
            yield daemon
        finally:
            relay.kill()
            relay.wait()
    finally:
        daemon.kill()


def drain(pipe: Path) -> None:
    """Read what is in a pipe: rsyslogd has kept the lines of earlier runs there for the next reader."""
    descriptor = os.open(pipe, os.O_RDONLY | os.O_NONBLOCK)
    try:
        with contextlib.suppress(BlockingIOError):
            while os.read(descriptor, 65536):
                pass
    finally:
        os.close(descriptor)
