"""The whole daemon through its two named pipes: right first, then fast.

    python -m benchmarks.pipes --sessions 912 --commands 50 --background 3 --runs 5

makes a workload, runs ``python -m audito`` on it, checks every event that it wrote against the truth (none lost,
doubled, or given to the wrong login), and only then prints figures: events a second, wall and CPU time, and the
ratio of the wall time to that of ``cat audit.log | wc -c``, which is run just before each run of the daemon. Exits 1,
and prints no figure, when an output is wrong.
"""

from __future__ import annotations

import argparse
import errno
import json
import mmap
import multiprocessing
import os
import re
import resource
import shutil
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from benchmarks import workload
from benchmarks.measure import (
    ROOT,
    Usage,
    WrongOutputError,
    cpu_now_s,
    median,
    memory_mib,
    pipe_copy,
    require,
    warm_memory,
)

CHUNK_BYTES = 128 * 1024  # what cat writes at a time
QUIET_S = 0.3
PATIENT = ("--join-window", "200000h")
"""Records of a workload are as old as its start_ms: by the wall clock every wait for a login line would be over."""

EXIT_S = 5.0

CONTAINER_HOST = workload.Settings(sessions=912, commands=50, background=3.0)
TRACKED_ONLY = workload.Settings(sessions=3600, commands=50, background=0.0)
"""As many events as the container host has, all of which are written."""

SCANNED_HOST = workload.Settings(sessions=0, failures=300_000)


@dataclass(frozen=True)
class Pair:
    """A pipe copy and, right after it, a run of the daemon on the same bytes. ``copy``: None without audit records."""

    copy: Usage | None
    daemon: Usage

    @property
    def wall_ratio(self) -> float:
        """How many times as long as the copy."""
        return self.daemon.wall_s / self.copy.wall_s if self.copy else 0.0

    @property
    def cpu_ratio(self) -> float:
        """How many times the CPU time of both of the copy's processes, the daemon's start left out."""
        return (self.daemon.cpu_s - self.daemon.start_cpu_s) / self.copy.cpu_s if self.copy else 0.0


@dataclass(frozen=True)
class Figures:
    """What the runs took. ``events``: of the audit log, all of them; ``written``: lines of each output."""

    events: int
    records: int
    audit_bytes: int
    sshd_lines: int
    written: int
    pairs: list[Pair]

    @property
    def wall_s(self) -> float:
        """Median of the daemon."""
        return median([pair.daemon.wall_s for pair in self.pairs])

    def as_dict(self) -> dict[str, Any]:
        """For JSON: what was measured and the medians of it."""
        said = asdict(self)
        cpu, rss = ([getattr(pair.daemon, name) for pair in self.pairs] for name in ("cpu_s", "rss_mib"))
        said |= {"wall_s": self.wall_s, "cpu_s": median(cpu), "rss_mib": max(rss)}
        said["written_per_s"] = self.written / self.wall_s
        if self.pairs[0].copy:
            said["wall_ratio"] = median([pair.wall_ratio for pair in self.pairs])
            said["wall_ratio_best"] = min(pair.wall_ratio for pair in self.pairs)
            said["cpu_ratio"] = median([pair.cpu_ratio for pair in self.pairs])
        return said

    def lines(self) -> list[str]:
        """The figures for a reader."""
        said, wall_s = self.as_dict(), self.wall_s
        walls = [pair.daemon.wall_s for pair in self.pairs]
        counts = f"{self.events:,} events, {self.records:,} records, {self.audit_bytes / 1e6:.0f} MB"
        checked = f"{self.sshd_lines:,} sshd lines; {self.written:,} events written, all checked, {len(walls)} runs"
        times = f"wall {wall_s:.3f} s ({min(walls):.3f} to {max(walls):.3f}), CPU {said['cpu_s']:.2f} s"
        rates = f"{self.events / wall_s:,.0f} events/s, {self.written / wall_s:,.0f} written/s"
        text = [
            f"{counts}, {checked}",
            f"{times}, peak RSS {said['rss_mib']:.0f} MiB",
            f"{rates}, {self.audit_bytes / wall_s / 1e6:,.0f} MB/s",
        ]
        if self.pairs[0].copy:
            copy_s = median([pair.copy.wall_s for pair in self.pairs if pair.copy])
            text.append(
                f"cat audit.log | wc -c: {copy_s:.3f} s; ratio of wall times {said['wall_ratio']:.2f} (best "
                f"{said['wall_ratio_best']:.2f}), of CPU times {said['cpu_ratio']:.2f}; medians of pairs"
            )
        return text


# ------------------------------------------------------------------------------------------ running


def open_pipe(path: Path, process: subprocess.Popen[bytes], limit_s: float = 30.0) -> int:
    """Open a named pipe for writing as soon as the daemon reads it."""
    end = time.monotonic() + limit_s
    while True:
        try:
            pipe = os.open(path, os.O_WRONLY | os.O_NONBLOCK)
        except OSError as error:
            if error.errno != errno.ENXIO:
                raise
        else:
            os.set_blocking(pipe, True)
            return pipe
        if process.poll() is not None:
            raise WrongOutputError(f"the daemon ended with {process.returncode} before it opened {path.name}")
        if time.monotonic() > end:
            raise WrongOutputError(f"the daemon does not open {path.name}")
        time.sleep(0.01)


def write_all(pipe: int, data: memoryview) -> None:
    """Write to a pipe in pieces as cat does."""
    while data:
        data = data[os.write(pipe, data[:CHUNK_BYTES]) :]


def feed(directory: Path, audit_pipe: int, sshd_pipe: int, offsets: list[int], wait: Callable[[], None]) -> None:
    """Write both streams as they happened: each line of sshd when the audit records before it have been written.

    ``wait``: returns when it may begin; all is in memory by then.
    """
    lines = (directory / "sshd.pipe").read_bytes().splitlines(keepends=True)
    if os.path.getsize(directory / "audit.log") == 0:
        wait()
        write_all(sshd_pipe, memoryview(b"".join(lines)))
        return
    with (directory / "audit.log").open("rb") as file, mmap.mmap(file.fileno(), 0, prot=mmap.PROT_READ) as audit:
        view = memoryview(audit)
        sum(view[:: mmap.PAGESIZE])
        wait()
        at = 0
        for offset, line in zip(offsets, lines, strict=True):
            if offset > at:
                write_all(audit_pipe, view[at:offset])
                at = offset
            os.write(sshd_pipe, line)
        write_all(audit_pipe, view[at:])
        view.release()


@contextmanager
def feeder(
    directory: Path, pipes: tuple[int, int], truth: workload.Truth
) -> Iterator[tuple[multiprocessing.process.BaseProcess, Callable[[], None]]]:
    """A process that is ready to feed() the pipes, and what starts it."""
    context = multiprocessing.get_context("fork")
    is_ready, may_go = context.Event(), context.Event()

    def wait() -> None:
        is_ready.set()
        may_go.wait()

    writer = context.Process(target=feed, args=(directory, *pipes, truth.sshd_offsets, wait), daemon=True)
    writer.start()
    try:
        require(is_ready.wait(60), "the workload cannot be read")
        yield writer, may_go.set
    finally:
        if writer.is_alive():
            writer.terminate()


def wait_for(output: Path, lines: int, process: subprocess.Popen[bytes], limit_s: float) -> None:
    """Wait until the output has this many lines and grows no more, or until the limit."""
    end = time.monotonic() + limit_s
    quiet_since, count = time.monotonic(), 0
    with output.open("rb") as file:
        while time.monotonic() < end and process.poll() is None:
            new = file.read()
            if new:
                count += new.count(b"\n")
                quiet_since = time.monotonic()
            elif count >= lines and time.monotonic() - quiet_since > QUIET_S:
                return
            time.sleep(0.005)


@contextmanager
def daemon(directory: Path, tree: Path, *flags: str) -> Iterator[subprocess.Popen[bytes]]:
    """``python -m audito`` of this tree with these flags, its state and its log in the directory. Killed at the end."""
    shutil.rmtree(directory / "state", ignore_errors=True)  # what an earlier run knew of the same sessions
    command = [sys.executable, "-m", "audito", *flags, "--state-dir", str(directory / "state")]
    environment = {name: value for name, value in os.environ.items() if not name.startswith("AUDITO_")}
    environment["PYTHONPATH"] = str(tree)
    with (directory / "daemon.log").open("wb") as log:
        process = subprocess.Popen(command, stdout=log, stderr=log, cwd=tree, env=environment)
        try:
            yield process
        finally:
            if process.returncode is None:
                process.kill()
                process.wait()


def run_daemon(directory: Path, truth: workload.Truth, limit_s: float, tree: Path = ROOT) -> Usage:
    """Run the daemon on the workload; wall time from the first byte fed to the last one written."""
    output = directory / "events.jsonl"
    audit, sshd = directory / "audit.fifo", directory / "sshd.fifo"
    for path in (output, audit, sshd):
        path.unlink(missing_ok=True)
    for path in (audit, sshd):
        os.mkfifo(path)
    flags = ["-app-events-output", output, "-sshd-pipe-path", sshd, "-auditd-pipe-path", audit, *PATIENT]
    warm_memory()
    with daemon(directory, tree, *map(str, flags)) as process:
        pipes = open_pipe(audit, process), open_pipe(sshd, process)
        with feeder(directory, pipes, truth) as (writer, go):
            start_cpu_s = cpu_now_s(process.pid)
            began = time.time()
            go()
            writer.join(limit_s)
            require(not writer.is_alive(), "the daemon does not read its pipes")
            wait_for(output, expected_lines(truth), process, limit_s)
            wall_s = output.stat().st_mtime - began
        for pipe in pipes:
            os.close(pipe)
        cpu_s, rss_mib = ended(process)
    return Usage(wall_s, cpu_s, rss_mib, start_cpu_s)


def ended(process: subprocess.Popen[bytes]) -> tuple[float, float]:
    """End the daemon with SIGTERM, which must exit 0 in time; its CPU time and peak RSS in MiB."""
    rss_mib = memory_mib(process.pid, "VmHWM")
    process.send_signal(signal.SIGTERM)
    end = time.monotonic() + EXIT_S
    while True:
        pid, status, usage = os.wait4(process.pid, os.WNOHANG)
        if pid:
            break
        if time.monotonic() > end:
            raise WrongOutputError(f"no exit within {EXIT_S:.0f} s of SIGTERM")
        time.sleep(0.01)
    process.returncode = os.waitstatus_to_exitcode(status)
    if process.returncode:
        raise WrongOutputError(f"exit code {process.returncode} after SIGTERM")
    return usage.ru_utime + usage.ru_stime, rss_mib


# ------------------------------------------------------------------------------------------ checking


def expected_lines(truth: workload.Truth) -> int:
    """How many lines the daemon writes of this workload."""
    claimed = sum(login.claimed for login in truth.logins)
    return truth.session_events + claimed + len(truth.logins) + expected_failures(truth)


def expected_failures(truth: workload.Truth) -> int:
    """Events of failed logins: two of an attempt's three lines say that it failed."""
    return 2 * int(truth.settings["failures"] // 3)


def who(login: workload.Login) -> tuple[str, ...]:
    """What every event of this login must say of it: identity, account, pid, address, port."""
    if not login.claimed:  # only the kernel and PAM told: they know no identity and no port
        return "unknown", login.account, str(login.pid), login.address, "unknown"
    return login.identity, login.account, str(login.pid), login.address, str(login.port)


def said_of(event: dict[str, Any]) -> tuple[str, ...]:
    """What an event says of its login."""
    subjects, source = event["subjects"], event["source"]
    return subjects["userID"], subjects["loggedAs"], subjects.get("pid", ""), source["value"], source["extra"]["port"]


def as_written(arg: str) -> str:
    """A text as events have it: backslashes are doubled where it would read as if it had been escaped."""
    return arg.replace("\\", "\\\\") if re.search(r"\\\\|\\x[0-9a-fA-F]{2}", arg) else arg


def check_action(event: dict[str, Any], login: workload.Login, wanted: dict[int, tuple[str, list[str] | None]]) -> None:
    """One UserAction against the truth; it is taken off ``wanted``."""
    extra = event["metadata"]["extra"]
    sequence = extra["sequence"]
    require(sequence in wanted, f"session {login.ses}: event {sequence} is not its own, or is there twice")
    action, argv = wanted.pop(sequence)
    require(said_of(event) == who(login), f"event {sequence} is given to {said_of(event)}, not to {who(login)}")
    require(extra["action"] == action, f"event {sequence}: action {extra['action']}, not {action}")
    argv = None if argv is None else [as_written(arg) for arg in argv]
    require(extra.get("process_args") == argv, f"event {sequence}: argv {extra.get('process_args')}, not {argv}")


def check(output: Path, truth: workload.Truth) -> int:
    """Compare every line of the output with the truth; returns how many there are."""
    logins = {str(login.ses): login for login in truth.logins}
    wanted = {ses: {seq: (action, argv) for seq, action, argv in login.events} for ses, login in logins.items()}
    claims = sorted(who(login) for login in truth.logins if login.claimed)
    accepted, logouts = [], []
    count = failures = 0
    for line in output.read_bytes().splitlines():
        count += 1
        event = json.loads(line)
        kind = event["type"]
        if kind == "UserAction":
            ses = event["metadata"]["auditId"]
            require(ses in logins, f"session {ses} is no ssh login's: {line.decode()}")
            check_action(event, logins[ses], wanted[ses])
        elif kind == "UserLogin" and event["outcome"] == "succeeded":
            accepted.append(said_of(event))
        elif kind == "UserLogout":
            logouts.append(event["metadata"]["auditId"])
            require(said_of(event) == who(logins[logouts[-1]]), f"logout of session {logouts[-1]} is of another login")
        else:
            require(kind == "UserLogin", f"unexpected: {line.decode()}")
            failures += 1
    lost = {ses: sorted(missing) for ses, missing in wanted.items() if missing}
    require(not lost, f"{sum(map(len, lost.values()))} events lost, of {len(lost)} sessions: {str(lost)[:300]}")
    require(sorted(accepted) == claims, f"{len(accepted)} logins written, {len(claims)} were made")
    require(sorted(logouts) == sorted(logins), f"{len(logouts)} logouts written, {len(logins)} sessions ended")
    require(failures == expected_failures(truth), f"{failures} failures written, not {expected_failures(truth)}")
    return count


# ------------------------------------------------------------------------------------------ the bench


def bench(
    settings: workload.Settings, directory: Path, runs: int = 1, limit_s: float = 120.0, tree: Path = ROOT
) -> Figures:
    """Make the workload, then run the daemon on it this often, every output checked."""
    truth = workload.write(settings, directory)
    return measure(truth, directory, runs, limit_s, tree)


def measure(
    truth: workload.Truth,
    directory: Path,
    runs: int,
    limit_s: float = 120.0,
    tree: Path = ROOT,
    *,
    pinned: bool = False,
) -> Figures:
    """As bench(), of a workload that is there already. ``pinned``: the copy stays on one CPU."""
    pairs = []
    for _ in range(runs):
        copy = pipe_copy(directory / "audit.log", pinned=pinned) if truth.audit_bytes else None
        pairs.append(Pair(copy, run_daemon(directory, truth, limit_s, tree)))
        written = check(directory / "events.jsonl", truth)
    return Figures(truth.events, truth.records, truth.audit_bytes, len(truth.sshd_offsets), written, pairs)


def main() -> int:
    """Run the bench as the flags say; 1 when the output was wrong."""
    parser = argparse.ArgumentParser(
        prog="python -m benchmarks.pipes", formatter_class=argparse.ArgumentDefaultsHelpFormatter
    )
    workload.add_arguments(parser)
    parser.add_argument("--directory", type=Path, help="keep workload and output here, not in a temporary directory")
    parser.add_argument("--runs", type=int, default=3, help="how often; the figures are medians")
    parser.add_argument("--limit", type=float, default=120.0, help="seconds after which the daemon is given up")
    parser.add_argument("--json", type=Path, help="write the figures to this file, too")
    args = parser.parse_args()
    if args.unclaimed:
        parser.error("--unclaimed: what waits for a login line that never comes is written after its window only")
    resource.setrlimit(resource.RLIMIT_CORE, (0, 0))
    with tempfile.TemporaryDirectory(prefix="audito-pipes-") as scratch:
        directory = (args.directory or Path(scratch)).resolve()
        try:
            figures = bench(workload.settings_of(args), directory, args.runs, args.limit)
        except WrongOutputError as error:
            log = directory / "daemon.log"
            tail = log.read_text(errors="replace")[-2000:] if log.exists() else ""
            print(f"WRONG: {error}\n{tail}", file=sys.stderr)
            return 1
    print("\n".join(figures.lines()))
    if args.json:
        args.json.write_text(json.dumps(figures.as_dict()) + "\n")
    return 0


if __name__ == "__main__":
    sys.exit(main())
