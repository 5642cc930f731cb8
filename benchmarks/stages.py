"""One bench a stage, each of them the compiled code that the daemon runs, driven through the package's own API.

    python -m benchmarks.stages [STAGE …] [--size gate] [--runs 5]

A stage that no call isolates has an input in which it dominates; its ``what`` says how. Each run starts from fresh
state, and only the calls of the stage are measured. Before any figure is printed the counts are compared with what
the generator knows, and a digest of the output (of the counters, where a stage has no output) with the one in
``benchmarks/digests.json``. ``--update`` writes that file anew: after a change of the output that is meant.
"""

from __future__ import annotations

import argparse
import gc
import hashlib
import io
import json
import random
import sys
import time
from collections.abc import Callable
from dataclasses import dataclass
from functools import cache
from pathlib import Path

import msgspec

from audito._fastparse import AuditStream
from audito._sessions import Sessions
from audito.core import Core, CoreSettings
from audito.logins import LoginRecord, Logins
from audito.normalise import ActionBuilder, record_types, rules
from audito.redact import Redaction, Redactor
from benchmarks import workload
from benchmarks.measure import median, require, table

DIGESTS_PATH = Path(__file__).with_name("digests.json")

SIZES = {"test": 300, "gate": 3_000, "bench": 60_000}
"""About how many items a stage takes: for the tests, for callgrind, for the clock."""

CHUNK_BYTES = 128 * 1024
"""What is fed at a time, as a full pipe gives it."""

SEED = 1
NODE = CoreSettings(host="bastion", machine_id="f" * 32, boot_id="00000000-0000-4000-8000-000000000001")
TARGET = msgspec.Raw(b"{}")
START_MS = 1_795_000_000_000


@dataclass(frozen=True)
class Run:
    """One run from fresh state. ``go``: what is measured. ``outcome``: after it, counts and what the digest is of."""

    go: Callable[[], None]
    outcome: Callable[[], tuple[dict[str, int], bytes]]


@dataclass(frozen=True)
class Job:
    """The input of a stage. ``truth``: the counts that its generator knows; a run must come to the same."""

    items: int
    bytes: int
    truth: dict[str, int]
    start: Callable[[], Run]


@dataclass(frozen=True)
class Stage:
    """A stage. ``unit``: what its items are. ``make``: its input, of about so many items."""

    name: str
    unit: str
    what: str
    make: Callable[[int], Job]


def chunks_of(data: bytes) -> list[bytes]:
    """Bytes as a reader gets them."""
    return [data[i : i + CHUNK_BYTES] for i in range(0, len(data), CHUNK_BYTES)]


def stamp(seq: int) -> str:
    """The stamp of an event that is one of 10,000 a second."""
    ms = START_MS + seq // 10
    return f"{ms // 1000}.{ms % 1000:03d}:{seq}"


@cache
def parts() -> tuple[workload.Writer, workload.Commands, workload.Actor]:
    """A writer of ENRICHED records, commands, and the actor that has no session."""
    return workload.Writer(True), workload.Commands(workload.SERVICES, random.Random(SEED), 20), workload.NO_SESSION


# ------------------------------------------------------------------------------------------ stages of the audit stream


AUDIT_COUNTS = (
    "lines", "blank_lines", "types_unknown", "events_taken", "events_ignored", "events_refused", "events_held",
    "events_timed_out", "events_forced", "events_truncated", "events_late", "reject_not_a_record", "reject_bad_stamp",
    "reject_too_long",
)  # fmt: skip
"""The counters that say what became of the input; not those of how often a shortcut was taken."""

SESSION_FIELDS = 7
"""Of a row of Sessions.dump(), a list: slot, node, session, pid, times, state."""


def counts(**others: int) -> dict[str, int]:
    """The counters of a stream, 0 but for these."""
    return {**dict.fromkeys(AUDIT_COUNTS, 0), **others}


def stream_job(data: bytes, items: int, sink_free: dict[str, int], sessions: int = 2) -> Job:
    """A job that feeds a stream no event of which comes to its sink: what is measured ends before that."""
    chunks = chunks_of(data)

    def start() -> Run:
        tables = Sessions(sessions)
        stream = AuditStream(tables, ActionBuilder(rules(), TARGET), record_types())

        def go() -> None:
            for chunk in chunks:
                stream.feed(chunk)

        def outcome() -> tuple[dict[str, int], bytes]:
            rows = [row[:SESSION_FIELDS] for row in json.loads(tables.dump()[0])]
            state = {"offset": stream.offset, "clock_ms": stream.clock_ms, "sessions": rows}
            told = {name: getattr(stream, name) for name in AUDIT_COUNTS}
            return {**told, "held": tables.held[0]}, json.dumps(state).encode()

        return Run(go, outcome)

    return Job(items, len(data), {**counts(lines=data.count(b"\n")), "held": 0, **sink_free}, start)


def make_calibrate(size: int) -> Job:
    """Find every newline, by one call of Python's own: what no change of ours can change."""
    data = frame_input(size)

    def start() -> Run:
        found: list[int] = []
        return Run(lambda: found.append(data.count(b"\n")), lambda: ({"lines": found[0]}, b"%d" % found[0]))

    return Job(size, len(data), {"lines": size}, start)


def frame_input(size: int) -> bytes:
    """One event of no session, of so many records."""
    writer, programs, who = parts()
    at = stamp(1)
    lines = [writer.syscall(at, 59, "success=yes exit=0", size - 1, who, programs[0], 4711)]
    lines += [writer.path(at, i, f'"/usr/lib/libthing-{i:06}.so"', 325_000 + i) for i in range(size - 1)]
    return "".join(lines).encode()


def make_frame(size: int) -> Job:
    return stream_job(frame_input(size), size, {"events_ignored": 1})


def make_header(size: int) -> Job:
    writer, programs, who = parts()
    lines = [
        writer.syscall(stamp(i), 59, "success=yes exit=0", 2, who, programs[i % len(programs)], 4000 + i)
        for i in range(1, size + 1)
    ]
    return stream_job("".join(lines).encode(), size, {"events_ignored": size})


def make_reassemble(size: int) -> Job:
    """Groups of 32 events whose records come in turn, the one with the session last: then it is nobody's."""
    writer, programs, who = parts()
    lines: list[str] = []
    for first in range(1, size + 1, 32):
        queues = []
        for i in range(first, min(first + 32, size + 1)):
            text = writer.executed(stamp(i), who, programs[i % len(programs)], 4000 + i)
            syscall, *others, _, _ = text.split("\n")  # the last but one, PROCTITLE, would end the event
            queues.append([*others, syscall])
        lines += [line + "\n" for turn in zip(*queues, strict=True) for line in turn]
    return stream_job("".join(lines).encode(), size, {"events_ignored": size})


def make_track(size: int) -> Job:
    """Sessions opened by sshd whose login line has not come, their events in any order and held; and cron's."""
    writer, _, _ = parts()
    rng = random.Random(SEED)
    sessions = max(size // 5, 1)
    lines, messages, seq = [], 0, 0
    for ses in range(1, sessions + 1):
        seq += 1
        program = workload.CRON if ses % 5 == 0 else workload.SSHD
        actor = workload.Actor(10_000 + ses, 1001, "core", 0, "root", ses)
        lines.append(writer.login(stamp(seq), actor, program, 1200))
        for _ in range(4):
            seq += 1
            messages += 1
            ses_of = rng.randrange(1, ses + 1)
            who = workload.Actor(10_000 + ses_of, 1001, "core", 0, "root", ses_of)
            lines.append(writer.message(stamp(seq), "USER_CMD", 7, who, 'cwd="/" cmd=6964 terminal=pts/0 res=success'))
    data = "".join(lines).encode()
    refused = sessions // 5
    of_cron = sum(1 for line in lines if "type=USER_CMD" in line and int(line.split(" ses=")[1].split()[0]) % 5 == 0)
    held = sessions - refused + messages - of_cron
    return stream_job(
        data,
        sessions + messages,
        {"events_refused": refused, "events_ignored": of_cron, "events_held": held, "held": held},
        max(2, sessions),
    )


# ------------------------------------------------------------------------------------------ stages with an output


@cache
def mixed(size: int, background: float, order: str = "before") -> tuple[workload.Truth, bytes, list[bytes]]:
    """A workload of about so many events of sessions: truth, audit log, sshd lines."""
    audit, pipe = io.BytesIO(), io.BytesIO()
    sessions = max(size // 30, 2)
    settings = workload.Settings(
        sessions=sessions, commands=25, concurrent=50, background=background, order=order, delay_ms=20, seed=SEED
    )
    truth = workload.Workload(settings).run(audit, pipe)
    return truth, audit.getvalue(), pipe.getvalue().splitlines(keepends=True)


def make_normalise(size: int) -> Job:
    """Every event is a session's; sessions are bound when they open, to a login that says little."""
    truth, data, _ = mixed(size, 0.0)
    chunks = chunks_of(data)

    def start() -> Run:
        builder = ActionBuilder(rules(), TARGET, redactor=Redactor(Redaction()))
        sessions = Sessions(1 << 16)

        def opened(slot: int) -> None:
            sessions.identify(slot, b"{}", b"{}")
            stream.bind(slot)

        stream = AuditStream(sessions, builder, record_types(), opened=opened)
        written: list[bytes] = []

        def go() -> None:
            for chunk in chunks:
                stream.feed(chunk)
                written.append(builder.take())

        def outcome() -> tuple[dict[str, int], bytes]:
            lines = b"".join(written)
            return {"lines": lines.count(b"\n")}, lines

        return Run(go, outcome)

    return Job(truth.session_events, len(data), {"lines": truth.session_events}, start)


def new_core() -> Core:
    return Core(NODE)


def make_encode(size: int) -> Job:
    """The logins are there as structs: only take() is measured."""
    said, logins, failures = scanned(max(size // 2, 10))
    written = logins + failures

    def start() -> Run:
        core = new_core()
        core.feed_sshd(said, "pipe", START_MS * 1000)
        taken: list[bytes] = []
        return Run(lambda: taken.append(core.take()), lambda: ({"lines": taken[0].count(b"\n")}, taken[0]))

    run = start()
    run.go()
    return Job(written, len(run.outcome()[1]), {"lines": written}, start)


@cache
def scanned(attempts: int) -> tuple[bytes, int, int]:
    """sshd's lines of a scanned host, nine attempts of ten fail; the lines, logins and failures among them."""
    rng = random.Random(SEED)
    lines = []
    logins = failures = 0
    for i in range(attempts):
        pid, peer = 2000 + i, f"203.0.113.{rng.randrange(1, 255)} port {rng.randrange(1024, 65536)}"
        name = f"admin{rng.randrange(100)}"
        if i % 10 == 9:
            logins += 1
            who = f"user{i % 500}@example.com"
            login = workload.Login(i, pid, "certificate", "core", who, "10.1.2.3", 40_000, True)
            lines.append(f"{pid} {Says.accepted(login)}\n")
            lines.append(f"{pid} pam_unix(sshd:session): session opened for user core(uid=1001) by (uid=0)\n")
        else:
            failures += 2
            lines.append(f"{pid} Invalid user {name} from {peer}\n")
            lines.append(f"{pid} Failed password for invalid user {name} from {peer} ssh2\n")
            lines.append(f"{pid} Connection closed by invalid user {name} {peer} [preauth]\n")
    return "".join(lines).encode(), logins, failures


Says = workload.Workload(workload.Settings(sessions=0))
"""Knows sshd's words."""


def make_sshd(size: int) -> Job:
    """Lines to login records, of which two of three carry an event; nothing is joined or written."""
    data, logins, failures = scanned(max(size // 3, 10))
    chunks = chunks_of(data)

    def start() -> Run:
        reader = Logins(host=NODE.host, machine_id=NODE.machine_id, boot_id=NODE.boot_id)
        records: list[LoginRecord] = []

        def go() -> None:
            for chunk in chunks:
                records.extend(reader.feed(chunk, "pipe", START_MS * 1000))

        def outcome() -> tuple[dict[str, int], bytes]:
            told = reader.counters()
            said = {name: told[name] for name in ("lines", "logins", "failures")}
            return said, msgspec.json.Encoder().encode_lines([record.event for record in records if record.event])

        return Run(go, outcome)

    lines = data.count(b"\n")
    return Job(lines, len(data), {"lines": lines, "logins": logins, "failures": failures}, start)


def make_scanned(size: int) -> Job:
    """The same lines through the core, to JSON."""
    data, logins, failures = scanned(max(size // 3, 10))
    chunks = chunks_of(data)

    def start() -> Run:
        core = new_core()
        output: list[bytes] = []

        def go() -> None:
            for chunk in chunks:
                core.feed_sshd(chunk, "pipe", START_MS * 1000)
                output.append(core.take())

        return Run(go, lambda: ({"written": b"".join(output).count(b"\n")}, b"".join(output)))

    return Job(data.count(b"\n"), len(data), {"written": logins + failures}, start)


def make_core(size: int) -> Job:
    """The whole core without I/O: a container host, both streams as they happened, to JSON."""
    truth, data, lines = mixed(size // 4, 3.0, "mixed")
    pieces: list[tuple[bytes, bytes]] = []  # audit bytes, then the line of sshd that came after them
    at = 0
    for offset, line in zip(truth.sshd_offsets, lines, strict=True):
        pieces.append((data[at:offset], line))
        at = offset
    pieces.append((data[at:], b""))

    def start() -> Run:
        core = new_core()
        output: list[bytes] = []

        def go() -> None:
            for audit, line in pieces:
                if audit:
                    core.feed_audit(audit)
                if line:
                    core.feed_sshd(line, "pipe", 0)
                output.append(core.take())

        def outcome() -> tuple[dict[str, int], bytes]:
            core.flush()  # logouts wait for a line that says why
            output.append(core.take())
            joined = b"".join(output)
            told = core.counters()
            told["written"] = joined.count(b"\n")
            return {name: told[name] for name in ("written", "lines", "sessions_now")}, joined

        return Run(go, outcome)

    written = truth.session_events + 2 * len(truth.logins)
    known = {"written": written, "lines": truth.records, "sessions_now": len(truth.logins)}
    return Job(truth.events, len(data), known, start)


STAGES = (
    Stage("calibrate", "lines", "bytes.count of the newlines of frame's input", make_calibrate),
    Stage("frame", "lines", "one ignored event of as many records: each line but the first is passed by its stamp",
          make_frame),
    Stage("header", "lines", "each line is an event of its own, of no session", make_header),
    Stage("reassemble", "events", "five records an event, 32 events interleaved; the session comes last, and is none",
          make_reassemble),
    Stage("track", "events", "sessions without a login line: opened, looked up, their events held; cron's refused",
          make_track),
    Stage("sshd", "lines", "sshd's lines of a scanned host, 90 % of the attempts fail, to structs", make_sshd),
    Stage("scanned", "lines", "the same through the core, to JSON", make_scanned),
    Stage("normalise", "events", "events of bound sessions to JSON, framing and reassembly included",
          make_normalise),
    Stage("encode", "events", "structs of login events to JSON lines", make_encode),
    Stage("core", "events", "a container host, both streams, to JSON: everything but the I/O", make_core),
)  # fmt: skip

BY_NAME = {stage.name: stage for stage in STAGES}


# ------------------------------------------------------------------------------------------ running


def digest_of(told: dict[str, int], output: bytes) -> str:
    """sha256 of counts and output."""
    return hashlib.sha256(json.dumps(told, sort_keys=True).encode() + b"\n" + output).hexdigest()


def known_digests() -> dict[str, str]:
    """``STAGE/SIZE`` to digest, as committed."""
    digests: dict[str, str] = json.loads(DIGESTS_PATH.read_text())
    return digests


def verify(stage: Stage, size_name: str, job: Job, run: Run, digests: dict[str, str] | None) -> str:
    """Check a run that is over; returns its digest. ``digests``: None takes any. Errors: WrongOutputError."""
    told, output = run.outcome()
    require(told == job.truth, f"{stage.name}: {differences(told, job.truth)}")
    digest = digest_of(told, output)
    key = f"{stage.name}/{size_name}"
    if digests is not None:
        require(key in digests, f"{key} has no digest: python -m benchmarks.stages --update")
        require(digests[key] == digest, f"{key}: the output is not what it was (sha256 {digest}, not {digests[key]})")
    return digest


def differences(told: dict[str, int], truth: dict[str, int]) -> str:
    """What two sets of counts do not agree in."""
    names = [name for name in {**told, **truth} if told.get(name) != truth.get(name)]
    return ", ".join(f"{name} is {told.get(name)}, not {truth.get(name)}" for name in names)


@dataclass(frozen=True)
class Timing:
    """A stage by the clock. ``runs_s``: CPU seconds of each run of this thread."""

    stage: str
    unit: str
    items: int
    bytes: int
    runs_s: list[float]
    digest: str

    @property
    def rate(self) -> float:
        """Items a second, median."""
        return self.items / median(self.runs_s)

    def row(self) -> list[str]:
        """For the table."""
        took = median(self.runs_s)
        return [
            self.stage, f"{self.items:,} {self.unit}", f"{took / self.items * 1e9:,.0f}",
            f"{self.rate:,.0f}", f"{self.bytes / took / 1e6:,.0f}",
        ]  # fmt: skip


HEAD = ["stage", "input", "ns/item", "items/s", "MB/s"]


def time_stage(stage: Stage, size_name: str, runs: int, digests: dict[str, str] | None) -> Timing:
    """Run a stage several times, each checked. Errors: WrongOutputError."""
    job = stage.make(SIZES[size_name])
    took: list[float] = []
    digest = ""
    for _ in range(runs + 1):
        run = job.start()
        gc.collect()
        gc.disable()  # its cost is of what the bench itself keeps; the whole process has it on
        began = time.thread_time()
        run.go()
        took.append(time.thread_time() - began)
        gc.enable()
        digest = verify(stage, size_name, job, run, digests)
    return Timing(stage.name, stage.unit, job.items, job.bytes, took[1:], digest)  # the first run warms up


def update() -> None:
    """Write the digests of all stages in all sizes."""
    digests = {
        f"{stage.name}/{size_name}": time_stage(stage, size_name, 0, None).digest
        for stage in STAGES
        for size_name in SIZES
    }
    DIGESTS_PATH.write_text(json.dumps(digests, indent=1) + "\n")
    print(f"{len(digests)} digests written to {DIGESTS_PATH}")


def main() -> int:
    """Run stages and print their table."""
    parser = argparse.ArgumentParser(
        prog="python -m benchmarks.stages",
        formatter_class=argparse.RawDescriptionHelpFormatter,
        epilog="\n".join(f"{stage.name:11} {stage.what}" for stage in STAGES),
    )
    parser.add_argument("stages", nargs="*", metavar="STAGE", help="all when none is named")
    parser.add_argument("--size", choices=SIZES, default="bench")
    parser.add_argument("--runs", type=int, default=5)
    parser.add_argument("--update", action="store_true", help="write the digests anew")
    args = parser.parse_args()
    if args.update:
        update()
        return 0
    unknown = sorted(set(args.stages) - set(BY_NAME))
    if unknown:
        parser.error(f"no stage {', '.join(unknown)}")
    chosen = [BY_NAME[name] for name in args.stages] or list(STAGES)
    digests = known_digests()
    print(table([HEAD, *(time_stage(stage, args.size, args.runs, digests).row() for stage in chosen)]))
    return 0


if __name__ == "__main__":
    sys.exit(main())
