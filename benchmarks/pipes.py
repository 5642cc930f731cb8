"""The whole daemon through its two named pipes: right first, then fast.

    python -m benchmarks.pipes --sessions 1000 --commands 50 --background 3

makes a workload, runs ``python -m audito`` on it, checks every event that it wrote against the truth (none lost,
doubled, or given to the wrong login), and only then prints figures: events a second, wall and CPU time, and the
ratio of the wall time to that of ``cat audit.log | wc -c``. Exits 1, and prints no figure, when the output is wrong.
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
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from benchmarks import workload

CHUNK_BYTES = 128 * 1024  # what cat writes at a time
QUIET_S = 0.5
EXIT_S = 5.0


class WrongOutputError(Exception):
    """The daemon did not write what the truth says."""


@dataclass(frozen=True)
class Figures:
    """What a run took. ``events``: of the audit log, all of them; ``written``: lines of the output."""

    events: int
    records: int
    audit_bytes: int
    written: int
    wall_s: float
    cpu_s: float
    rss_mib: float
    pipe_wall_s: float

    def lines(self) -> list[str]:
        """The figures for a reader."""
        counts = f"{self.events:,} events, {self.records:,} records, {self.audit_bytes / 1e6:.0f} MB"
        rates = f"{self.events / self.wall_s:,.0f} events/s, {self.written / self.wall_s:,.0f} written/s"
        return [
            f"{counts}; {self.written:,} events written, all checked",
            f"wall {self.wall_s:.2f} s, CPU {self.cpu_s:.2f} s, peak RSS {self.rss_mib:.0f} MiB",
            f"{rates}, {self.audit_bytes / self.wall_s / 1e6:,.0f} MB/s",
            f"cat audit.log | wc -c: {self.pipe_wall_s:.2f} s; ratio {self.wall_s / self.pipe_wall_s:.1f}",
        ]


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


def feed(directory: Path, audit_pipe: int, sshd_pipe: int, offsets: list[int]) -> None:
    """Write both streams as they happened: each line of sshd when the audit records before it have been written."""
    lines = (directory / "sshd.pipe").read_bytes().splitlines(keepends=True)
    if os.path.getsize(directory / "audit.log") == 0:
        os.write(sshd_pipe, b"".join(lines))
        return
    with (directory / "audit.log").open("rb") as file, mmap.mmap(file.fileno(), 0, prot=mmap.PROT_READ) as audit:
        view = memoryview(audit)
        at = 0
        for offset, line in zip(offsets, lines, strict=True):
            if offset > at:
                write_all(audit_pipe, view[at:offset])
                at = offset
            os.write(sshd_pipe, line)
        write_all(audit_pipe, view[at:])
        view.release()


def wait_for(output: Path, lines: int, process: subprocess.Popen[bytes], limit_s: float) -> None:
    """Wait until the output has this many lines and grows no more, or until the limit."""
    end = time.monotonic() + limit_s
    seen, quiet_since, count = 0, time.monotonic(), 0
    with output.open("rb") as file:
        while time.monotonic() < end and process.poll() is None:
            new = file.read()
            if new:
                seen += len(new)
                count += new.count(b"\n")
                quiet_since = time.monotonic()
            elif count >= lines and time.monotonic() - quiet_since > QUIET_S:
                return
            time.sleep(0.005)


def run_daemon(
    command: list[str], directory: Path, truth: workload.Truth, limit_s: float
) -> tuple[float, float, float]:
    """Run the daemon on the workload: wall time to the last byte written, CPU time, peak RSS in MiB."""
    output = directory / "events.jsonl"
    audit, sshd = directory / "audit.fifo", directory / "sshd.fifo"
    for path in (output, audit, sshd):
        path.unlink(missing_ok=True)
    shutil.rmtree(directory / "state", ignore_errors=True)  # what an earlier run knew of the same sessions
    for path in (audit, sshd):
        os.mkfifo(path)
    flags = ["-app-events-output", output, "-sshd-pipe-path", sshd, "-auditd-pipe-path", audit]
    with (directory / "daemon.log").open("wb") as log:
        process = subprocess.Popen(
            [*command, *map(str, flags), "--state-dir", str(directory / "state")], stdout=log, stderr=log
        )
        try:
            pipes = open_pipe(audit, process), open_pipe(sshd, process)
            writer = multiprocessing.get_context("fork").Process(
                target=feed, args=(directory, *pipes, truth.sshd_offsets), daemon=True
            )
            began = time.time()
            writer.start()
            writer.join(limit_s)
            wait_for(output, expected_lines(truth), process, limit_s)
            wall_s = output.stat().st_mtime - began
            return wall_s, *ended(process, writer, pipes)
        finally:
            if process.poll() is None:
                process.kill()
                process.wait()


def ended(
    process: subprocess.Popen[bytes], writer: multiprocessing.process.BaseProcess, pipes: tuple[int, int]
) -> tuple[float, float]:
    """End the daemon with SIGTERM, which must exit 0 in time; its CPU time and peak RSS in MiB."""
    if writer.is_alive():
        writer.terminate()
        raise WrongOutputError("the daemon does not read its pipes")
    for pipe in pipes:
        os.close(pipe)
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
    return usage.ru_utime + usage.ru_stime, usage.ru_maxrss / 1024


def pipe_wall_s(audit: Path, runs: int = 3) -> float:
    """How long ``cat audit.log | wc -c`` takes, at best."""
    took = []
    for _ in range(runs):
        began = time.perf_counter()
        with subprocess.Popen(["cat", audit], stdout=subprocess.PIPE) as cat:
            count = subprocess.run(["wc", "-c"], stdin=cat.stdout, capture_output=True, check=True).stdout
        took.append(time.perf_counter() - began)
        assert int(count) == audit.stat().st_size
    return min(took)


# ------------------------------------------------------------------------------------------ checking


def expected_lines(truth: workload.Truth) -> int:
    """How many lines the daemon writes of this workload, its failed logins apart."""
    return truth.session_events + sum(login.claimed for login in truth.logins) + len(truth.logins)


def require(holds: bool, message: str) -> None:
    """WrongOutputError unless this holds."""
    if not holds:
        raise WrongOutputError(message)


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
    count = 0
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
    lost = {ses: sorted(missing) for ses, missing in wanted.items() if missing}
    require(not lost, f"{sum(map(len, lost.values()))} events lost, of {len(lost)} sessions: {str(lost)[:300]}")
    require(sorted(accepted) == claims, f"{len(accepted)} logins written, {len(claims)} were made")
    require(sorted(logouts) == sorted(logins), f"{len(logouts)} logouts written, {len(logins)} sessions ended")
    return count


# ------------------------------------------------------------------------------------------ the bench


def bench(settings: workload.Settings, directory: Path, command: list[str], limit_s: float) -> Figures:
    """One run, checked."""
    truth = workload.write(settings, directory)
    copy_s = pipe_wall_s(directory / "audit.log")
    wall_s, cpu_s, rss_mib = run_daemon(command, directory, truth, limit_s)
    written = check(directory / "events.jsonl", truth)
    return Figures(truth.events, truth.records, truth.audit_bytes, written, wall_s, cpu_s, rss_mib, copy_s)


def main() -> int:
    """Run the bench as the flags say; 1 when the output was wrong."""
    parser = argparse.ArgumentParser(
        prog="python -m benchmarks.pipes", formatter_class=argparse.ArgumentDefaultsHelpFormatter
    )
    workload.add_arguments(parser)
    parser.add_argument("--directory", type=Path, help="keep workload and output here, not in a temporary directory")
    parser.add_argument("--limit", type=float, default=120.0, help="seconds after which the daemon is given up")
    parser.add_argument("--json", type=Path, help="write the figures to this file, too")
    args = parser.parse_args()
    if args.unclaimed:
        parser.error("--unclaimed: what waits for a login line that never comes is written after its window only")
    command = [sys.executable, "-m", "audito"]
    resource.setrlimit(resource.RLIMIT_CORE, (0, 0))
    with tempfile.TemporaryDirectory(prefix="audito-pipes-") as scratch:
        directory = args.directory or Path(scratch)
        try:
            figures = bench(workload.settings_of(args), directory, command, args.limit)
        except WrongOutputError as error:
            log = directory / "daemon.log"
            tail = log.read_text(errors="replace")[-2000:] if log.exists() else ""
            print(f"WRONG: {error}\n{tail}", file=sys.stderr)
            return 1
    print("\n".join(figures.lines()))
    if args.json:
        args.json.write_text(json.dumps(asdict(figures)) + "\n")
    return 0


if __name__ == "__main__":
    sys.exit(main())
