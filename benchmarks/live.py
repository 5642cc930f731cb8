"""What a daemon is like over time: latency, an idle hour's cost, its start, many sessions, ten million events.

    python -m benchmarks.live latency idle start sessions soak [--full]

``--full`` takes the sizes of the project's targets (minutes); without it each is a shorter look at the same thing.
Every part checks what was written, or counted, before its figures are printed.
"""

from __future__ import annotations

import argparse
import gc
import http.client
import json
import multiprocessing
import os
import random
import re
import select
import shutil
import socket
import subprocess
import sys
import tempfile
import time
import tracemalloc
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from datetime import datetime, timedelta
from pathlib import Path
from typing import Any

from audito._sessions import STATE_BOUND, Sessions
from audito.core import SessionRow
from benchmarks import pipes, workload
from benchmarks.measure import ROOT, WrongOutputError, cpu_now_s, median, memory_mib, quantile, require, table
from benchmarks.stages import START_MS, new_core, parts, stamp

Say = dict[str, Any]

# ------------------------------------------------------------------------------------------ a daemon to talk to


class Host:
    """A daemon whose output is a pipe that we read. ``directory``: its inputs and state are there."""

    def __init__(self, directory: Path, process: subprocess.Popen[bytes], output: int) -> None:
        self.directory = directory
        self.process = process
        self.output = output
        self.audit = self.sshd = -1
        self.lines = 0
        self.strangers = 0  # events of sessions whose login line did not come: they name no port

    def drain(self) -> bytes:
        """What was written since; does not wait."""
        try:
            data = os.read(self.output, 1 << 20)
        except BlockingIOError:
            return b""
        self.lines += data.count(b"\n")
        self.strangers += data.count(b'"port":"unknown"')
        return data

    def wait_lines(self, count: int, limit_s: float = 60.0) -> None:
        """Wait until so many lines were written in all. Errors: WrongOutputError."""
        end = time.monotonic() + limit_s
        while self.lines < count:
            require(time.monotonic() < end, f"{self.lines:,} lines of {count:,} after {limit_s:.0f} s")
            select.select([self.output], [], [], 0.1)
            self.drain()
        require(self.lines == count, f"{self.lines:,} lines, not {count:,}")
        require(self.strangers == 0, f"{self.strangers:,} events are nobody's")

    def write(self, pipe: int, data: bytes) -> None:
        """Write to an input and read the output meanwhile: neither may wait for the other."""
        view = memoryview(data)
        while view:
            readable, writable, _ = select.select([self.output], [pipe], [], 30)
            require(bool(readable or writable), "the daemon neither reads nor writes")
            if readable:
                self.drain()
            if writable:
                view = view[os.write(pipe, view[:65536]) :]


@contextmanager
def host(directory: Path, *, audit_directory: bool = False) -> Iterator[Host]:
    """A daemon that reads two pipes, or a directory and a pipe, and writes to a third. Ended well at the end."""
    audit, sshd, events = (directory / name for name in ("audit.fifo", "sshd.fifo", "events.fifo"))
    for path in (audit, sshd, events):
        path.unlink(missing_ok=True)
        os.mkfifo(path)
    log = directory / "audit"
    log.mkdir(exist_ok=True)
    (log / "audit.log").write_bytes(b"")
    output = os.open(events, os.O_RDONLY | os.O_NONBLOCK)
    source = ("--audit-dir-path", str(log)) if audit_directory else ("--auditd-pipe-path", str(audit))
    flags = (*source, "--sshd-pipe-path", str(sshd), "--output", str(events), *pipes.PATIENT)
    with pipes.daemon(directory, ROOT, *flags) as process:
        one = Host(directory, process, output)
        try:
            one.sshd = pipes.open_pipe(sshd, process)
            one.audit = os.open(log / "audit.log", os.O_WRONLY) if audit_directory else pipes.open_pipe(audit, process)
            os.set_blocking(one.audit, False)
            os.set_blocking(one.sshd, False)
            yield one
            pipes.ended(process)
        finally:
            for descriptor in (output, one.audit, one.sshd):
                if descriptor >= 0:
                    os.close(descriptor)


def accepted(pid: int, ses: int) -> bytes:
    """sshd's line of a login with a certificate."""
    return (
        f"{pid} Accepted publickey for core from 10.0.{ses >> 8 & 255}.{ses & 255} port 40000 ssh2: ED25519-CERT "
        f"SHA256:{workload.KEY_HASHES[ses % 100]} ID user{ses % 500}@example.com (serial {ses}) {workload.CA}\n"
    ).encode()


def opened(seq: int, ses: int) -> bytes:
    """The LOGIN event of a session."""
    actor = workload.Actor(10_000 + ses, 1001, "core", 0, "root", ses)
    return parts()[0].login(stamp(seq), actor, workload.SSHD, 1200).encode()


def executed(seq: int, ses: int, commands: workload.Commands) -> bytes:
    """A program run in a session."""
    who = workload.Actor(20_000 + ses, 1001, "core", 1001, "core", ses, "/home/core")
    return parts()[0].executed(stamp(seq), who, commands[seq % len(commands)], 30_000 + seq % 100_000).encode()


def user_commands() -> workload.Commands:
    """What people run."""
    return workload.Commands(workload.PROGRAMS, random.Random(1), 20)


# ------------------------------------------------------------------------------------------ latency


def latency(directory: Path, full: bool) -> Say:
    """From the last record of an event written to the event read, at 10,000 events a second; ms."""
    seconds = 20 if full else 4
    said: Say = {}
    for name in ("pipes", "directory"):
        with host(directory, audit_directory=name == "directory") as one:
            values = latency_of(one, 10_000, seconds)
        said[name] = {
            "events": len(values),
            "p50_ms": quantile(values, 0.5),
            "p90_ms": quantile(values, 0.9),
            "p99_ms": quantile(values, 0.99),
            "max_ms": max(values),
            "histogram": histogram(values),
        }
    said["journal"] = "not measured: journald decides when its readers wake, and only lines of sshd come through it"
    return said


def latency_of(one: Host, per_second: int, seconds: float) -> list[float]:
    """One event each 1/per_second s, by a busy loop; the ms that each took, the first half second left out."""
    commands, count = user_commands(), int(per_second * seconds)
    events = [executed(i, 1 + i % 50, commands) for i in range(100, 100 + count)]
    for ses in range(1, 51):
        one.write(one.sshd, accepted(10_000 + ses, ses))
    one.wait_lines(50)
    one.write(one.audit, b"".join(opened(49 + ses, ses) for ses in range(1, 51)))  # serials without a hole
    one.wait_lines(100)
    sent, chunks = [0] * count, []
    began = time.perf_counter_ns()
    step_ns = 1_000_000_000 // per_second
    i = 0
    while i < count:
        now = time.perf_counter_ns()
        if now - began >= i * step_ns:
            sent[i] = time.perf_counter_ns()  # before: the daemon may have answered when write() returns
            os.write(one.audit, events[i])
            i += 1
        data = one.drain()
        if data:
            chunks.append((time.perf_counter_ns(), data))
    end = time.monotonic() + 10
    while one.lines < 100 + count and time.monotonic() < end:
        select.select([one.output], [], [], 0.1)
        chunks.append((time.perf_counter_ns(), one.drain()))
    require(one.lines == 100 + count, f"{one.lines - 100} events of {count} came")
    return taken_ms(chunks, sent)[per_second // 2 :]


def taken_ms(chunks: list[tuple[int, bytes]], sent: list[int]) -> list[float]:
    """The latency of each event, in their order: a line is there with the chunk that ends it."""
    values, rest = [], b""
    for at, data in chunks:
        lines = (rest + data).split(b"\n")
        rest = lines.pop()
        for line in lines:
            match = re.search(rb'"sequence":(\d+)', line)
            require(match is not None, f"no sequence: {line!r}")
            assert match is not None
            values.append((at - sent[int(match[1]) - 100]) / 1e6)
    return values


def histogram(values: list[float]) -> list[tuple[float, int]]:
    """How many are below each of these ms and not below the one before; steps of a fifth."""
    edges, edge = [], 0.02
    while edge < max(values) * 1.2:
        edges.append(edge)
        edge *= 1.2
    counts = dict.fromkeys(edges, 0)
    for value in values:
        counts[next((edge for edge in edges if value < edge), edges[-1])] += 1
    return [(round(edge, 4), count) for edge, count in counts.items()]


# ------------------------------------------------------------------------------------------ idle and memory


def switches(pid: int) -> int:
    """How often its threads went to sleep of their own accord: wake-ups."""
    count = 0
    for path in Path(f"/proc/{pid}/task").glob("*/status"):
        match = re.search(r"^voluntary_ctxt_switches:\s+(\d+)", path.read_text(), re.MULTILINE)
        count += int(match[1]) if match else 0
    return count


def idle(directory: Path, full: bool) -> Say:
    """CPU time and wake-ups of a daemon that nobody writes to, and its RSS with so many live sessions."""
    seconds = 60 if full else 5
    said: Say = {"seconds": seconds, "sessions": {}}
    for count in (0, 10_000, 100_000) if full else (0, 10_000):
        with host(directory) as one:
            open_sessions(one, count)
            time.sleep(2.5)  # the checkpoint of what was just read
            before_s, before = cpu_now_s(one.process.pid), switches(one.process.pid)
            time.sleep(seconds)
            used_s, woken = cpu_now_s(one.process.pid) - before_s, switches(one.process.pid) - before
            said["sessions"][str(count)] = {
                "rss_mib": memory_mib(one.process.pid),
                "peak_mib": memory_mib(one.process.pid, "VmHWM"),
                "cpu_ms_per_s": 1000 * used_s / seconds,
                "wakeups_per_s": woken / seconds,
            }
    return said


def open_sessions(one: Host, count: int) -> None:
    """Have so many people logged in; the lines that this makes are checked."""
    for first in range(1, count + 1, 500):
        some = range(first, min(first + 500, count + 1))
        one.write(one.sshd, b"".join(accepted(10_000 + ses, ses) for ses in some))
        one.wait_lines(2 * (first - 1) + len(some))
        one.write(one.audit, b"".join(opened(ses, ses) for ses in some))
        one.wait_lines(2 * some[-1])


def sessions(directory: Path, full: bool) -> Say:
    """What an event costs with so many live sessions, in the core; and what a session takes in the tables."""
    del directory
    counts = (10, 100, 1000, 10_000, 50_000, 100_000) if full else (10, 1000, 10_000, 100_000)
    rows = [
        SessionRow(slot, 0, slot + 1, 10_000 + slot, START_MS, START_MS, STATE_BOUND, 1, 0, 1, 0, 0, 0, 0, 0)
        for slot in range(100_000)
    ]
    tracemalloc.start()
    tables = Sessions(131_072)
    moved = len(tables.load(rows))
    require(len(tables) == moved == 100_000, f"{len(tables)} sessions in the tables")
    table_bytes = tracemalloc.get_traced_memory()[0]
    tracemalloc.stop()
    del tables, rows
    said: Say = {"table_bytes_a_session": table_bytes / 100_000, "ns_an_event": {}, "python_bytes_a_session": {}}
    events = 20_000 if full else 10_000
    costs: dict[int, float] = {}
    for count in counts * 2:  # twice, as a busy neighbour of a moment is nobody's sessions
        cost, held = event_cost_ns(count, events)
        costs[count] = min(costs.get(count, cost), cost)
        said["python_bytes_a_session"][str(count)] = held
    said["ns_an_event"] = {str(count): cost for count, cost in costs.items()}
    first = said["ns_an_event"][str(counts[0])]
    said["growth"] = {str(count): said["ns_an_event"][str(count)] / first for count in counts}
    return said


def event_cost_ns(count: int, events: int) -> tuple[float, float]:
    """Thread CPU time of an event, best of five, and Python's bytes a session."""
    rng, commands = random.Random(count), user_commands()
    tracemalloc.start()
    core = new_core()
    gc.collect()  # what making it left behind is none of a session's
    before = tracemalloc.get_traced_memory()[0]
    for ses in range(1, count + 1):
        core.feed_sshd(accepted(10_000 + ses, ses), "pipe", START_MS * 1000)
        core.feed_audit(opened(ses, ses))
        core.take()
    gc.collect()
    held = (tracemalloc.get_traced_memory()[0] - before) / count
    tracemalloc.stop()
    seq, best = 200_000, float("inf")
    for _ in range(5):
        data = b"".join(executed(seq + i, rng.randrange(1, count + 1), commands) for i in range(events))
        seq += events
        gc.collect()
        began = time.thread_time()
        for at in range(0, len(data), 65536):
            core.feed_audit(data[at : at + 65536])
            output = core.take()
        best = min(best, time.thread_time() - began)
        require(bool(output), "nothing was written")
    told = core.counters()
    require(told["sessions_now"] == count, f"{told['sessions_now']} sessions, not {count}")
    require(told["events_taken"] == count + 5 * events, f"{told['events_taken']} events taken")
    return best / events * 1e9, held


# ------------------------------------------------------------------------------------------ start


def free_port() -> int:
    """A port that nobody listens on now."""
    with socket.socket() as one:
        one.bind(("127.0.0.1", 0))
        return int(one.getsockname()[1])


def ready_s(directory: Path) -> float:
    """From the start of the process to a /readyz that says so, all sources open."""
    audit, sshd = directory / "a.fifo", directory / "s.fifo"
    for path in (audit, sshd):
        path.unlink(missing_ok=True)
        os.mkfifo(path)
    port = free_port()
    flags = ("--auditd-pipe-path", str(audit), "--sshd-pipe-path", str(sshd), "--output", str(directory / "out"))
    began = time.perf_counter()
    with pipes.daemon(directory, ROOT, *flags, "--healthz", "--http-address", f"127.0.0.1:{port}") as process:
        while True:
            require(process.poll() is None, "the daemon ended")
            require(time.perf_counter() - began < 30, "not ready after 30 s")
            try:
                connection = http.client.HTTPConnection("127.0.0.1", port, timeout=1)
                connection.request("GET", "/readyz")
                if connection.getresponse().status == 200:
                    took = time.perf_counter() - began
                    break
            except OSError:
                pass
            time.sleep(0.002)
        pipes.ended(process)
    return took


def start(directory: Path, full: bool) -> Say:
    """Time to ready; and catching up saved logs from the start of the process, reading the log being part of it."""
    said: Say = {"ready_ms": [1000 * ready_s(directory) for _ in range(5)]}
    truth = workload.write(workload.Settings(sessions=912 if full else 300, order="before"), directory)
    repeats = 4 if full else 1
    room = directory / "saved"
    room.mkdir(exist_ok=True)
    size = 0
    with (room / "audit.log").open("wb") as log, (directory / "auth.log").open("wb") as auth:
        audit, lines = (directory / "audit.log").read_bytes(), (directory / "sshd.log").read_bytes()
        for i in range(repeats):
            size += log.write(shifted(audit, i))
            auth.write(later_lines(lines, i))
    wanted = pipes.expected_lines(truth) * repeats
    output = directory / "out"
    output.unlink(missing_ok=True)
    flags = ("--audit-dir-path", str(room), "--sshd-log-path", str(directory / "auth.log"), "--output", str(output))
    began = time.time()
    with pipes.daemon(directory, ROOT, *flags) as process:
        while not output.exists():
            require(process.poll() is None and time.time() - began < 30, "no output is made")
            time.sleep(0.005)
        pipes.wait_for(output, wanted, process, 120)
        took = output.stat().st_mtime - began
        pipes.ended(process)
    written = output.read_bytes().count(b"\n")
    require(written == wanted, f"{written:,} lines written, not {wanted:,}")
    return {**said, "saved_bytes": size, "caught_up_s": took, "mb_per_s": size / took / 1e6}


REPEAT_S = 1_000_000
"""Between two repetitions of a workload, record time: longer than any workload is."""


def shifted(audit: bytes, repetition: int) -> bytes:
    """An audit log as of so many days later: 1795000000 becomes 1796000000 and so on."""
    prefix = START_MS // 1000 // REPEAT_S
    return audit.replace(b"msg=audit(%d" % prefix, b"msg=audit(%d" % (prefix + repetition))


def later_lines(lines: bytes, repetition: int) -> bytes:
    """sshd's lines with the ISO times of that."""
    if not repetition:
        return lines
    out = []
    for line in lines.split(b"\n")[:-1]:
        at, _, rest = line.decode().partition(" ")
        out.append(f"{moved(at, repetition * REPEAT_S)} {rest}\n".encode())
    return b"".join(out)


def moved(moment: str, seconds: int) -> str:
    """An ISO time that much later."""
    return (datetime.fromisoformat(moment) + timedelta(seconds=seconds)).isoformat(timespec="microseconds")


# ------------------------------------------------------------------------------------------ ten million events


def repeat_feed(directory: Path, audit_pipe: int, sshd_pipe: int, offsets: list[int], wanted: int) -> None:
    """Write a workload again and again, each time as of later, until it comes to so many repetitions."""
    audit, lines = (directory / "audit.log").read_bytes(), (directory / "sshd.pipe").read_bytes().splitlines(True)
    for repetition in range(wanted):
        data = memoryview(shifted(audit, repetition))
        at = 0
        for offset, line in zip(offsets, lines, strict=True):
            pipes.write_all(audit_pipe, data[at:offset])
            os.write(sshd_pipe, line)
            at = offset
        pipes.write_all(audit_pipe, data[at:])


def soak(directory: Path, full: bool) -> Say:
    """RSS after the first tenth and at the end: the container host, ten million events in all (``full``)."""
    truth = workload.write(workload.Settings(sessions=912, order="before", concurrent=100), directory)
    repetitions = -(-10_000_000 // truth.events) if full else 10
    a_tenth = max(repetitions // 10, 1)
    wanted = pipes.expected_lines(truth)
    with host(directory) as one:
        os.set_blocking(one.audit, True)
        os.set_blocking(one.sshd, True)
        empty_mib = memory_mib(one.process.pid)
        args = (directory, one.audit, one.sshd, truth.sshd_offsets, repetitions)
        writer = multiprocessing.get_context("fork").Process(target=repeat_feed, args=args, daemon=True)
        began = time.perf_counter()
        writer.start()
        before_mib = 0.0
        while one.lines < wanted * repetitions and time.perf_counter() - began < 600:
            select.select([one.output], [], [], 1.0)
            one.drain()
            if not before_mib and one.lines >= wanted * a_tenth:
                before_mib = memory_mib(one.process.pid)
        took = time.perf_counter() - began
        one.wait_lines(wanted * repetitions, 10)
        writer.join(10)
        after_mib = memory_mib(one.process.pid)
    events = truth.events * repetitions
    return {
        "events": events, "seconds": took, "empty_mib": empty_mib, "before_mib": before_mib, "after_mib": after_mib,
        "grown_mib": after_mib - before_mib, "events_per_s": events / took,
    }  # fmt: skip


# ------------------------------------------------------------------------------------------ by name

PARTS: dict[str, Callable[[Path, bool], Say]] = {
    "latency": latency, "idle": idle, "start": start, "sessions": sessions, "soak": soak,
}  # fmt: skip


def lines(name: str, said: Say) -> list[str]:
    """The figures of a part for a reader."""
    if name == "latency":
        rows = [[way, *(f"{said[way][key]:.2f}" for key in ("p50_ms", "p90_ms", "p99_ms", "max_ms"))]
                for way in ("pipes", "directory")]  # fmt: skip
        return [table([["latency, ms", "p50", "p90", "p99", "max"], *rows]), f"journal: {said['journal']}"]
    if name == "idle":
        rows = [[f"{int(count):,} sessions", *(f"{one[key]:.2f}" for key in one)]
                for count, one in said["sessions"].items()]  # fmt: skip
        return [table([[f"idle, {said['seconds']} s", "RSS MiB", "peak MiB", "CPU ms/s", "wake-ups/s"], *rows])]
    if name == "sessions":
        held = said["python_bytes_a_session"]
        rows = [
            [f"{int(count):,}", f"{cost:,.0f}", f"{said['growth'][count]:.2f}", f"{held[count]:,.0f}"]
            for count, cost in said["ns_an_event"].items()
        ]
        tables = f"tables: {said['table_bytes_a_session']:.0f} bytes a session at 100,000 of 131,072"
        return [table([["live sessions", "ns/event", "growth", "traced bytes/session"], *rows]), tables]
    if name == "start":
        caught = f"{said['saved_bytes'] / 1e6:,.0f} MB caught up in {said['caught_up_s']:.2f} s"
        return [
            f"ready after {median(said['ready_ms']):.0f} ms; {caught}, {said['mb_per_s']:,.0f} MB/s, start included"
        ]
    return [
        f"{said['events']:,} events, {said['events_per_s']:,.0f} a second: RSS {said['before_mib']:.1f} MiB after a "
        f"tenth, {said['after_mib']:.1f} MiB at the end ({said['grown_mib']:+.1f}); {said['empty_mib']:.1f} MiB before"
    ]


def run(name: str, full: bool) -> Say:
    """One part, in a temporary directory. Errors: WrongOutputError."""
    directory = Path(tempfile.mkdtemp(prefix=f"audito-{name}-"))
    try:
        return PARTS[name](directory, full)
    except WrongOutputError as error:
        log = directory / "daemon.log"
        raise WrongOutputError(f"{error}\n{log.read_text()[-2000:] if log.exists() else ''}") from error
    finally:
        shutil.rmtree(directory, ignore_errors=True)


def main() -> int:
    """Run the parts that are named."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.live")
    parser.add_argument("parts", nargs="*", metavar="PART", help=", ".join(PARTS))
    parser.add_argument("--full", action="store_true")
    parser.add_argument("--json", action="store_true", help="print JSON")
    args = parser.parse_args()
    if unknown := sorted(set(args.parts) - set(PARTS)):
        parser.error(f"no part {', '.join(unknown)}")
    for name in args.parts or PARTS:
        said = run(name, args.full)
        print(json.dumps(said) if args.json else "\n".join(lines(name, said)), flush=True)
    return 0


if __name__ == "__main__":
    sys.exit(main())
