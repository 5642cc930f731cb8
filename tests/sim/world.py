"""A scenario let happen: writers, readers, rotations, and the daemon, which is killed and started again."""

from __future__ import annotations

import asyncio
import gc
import heapq
import logging
import random
import re
import signal
import stat
from collections import Counter
from collections.abc import Callable, Coroutine, Generator, Iterable, Iterator
from dataclasses import dataclass, field
from datetime import datetime
from typing import Any

import msgspec

from audito import daemon
from audito.config import Config, Events, Host, Inputs, Output, State
from audito.service import Service
from benchmarks.workload import Login, SessionEvent, Settings, Truth, Workload
from tests.sim.journal import Journal
from tests.sim.kernel import Exited, Fault, Kernel, Killed, Node
from tests.sim.machine import Loop, installed
from tests.sim.scenario import AUDIT_DIR, OUT_DIR, SSHD_DIR, STATE_DIR, Scenario, Step

START_MS = 1_795_000_000_000
AUDIT_LOG, AUDIT_PIPE = f"{AUDIT_DIR}/audit.log", f"{AUDIT_DIR}/pipe"
SSHD_LOG, SSHD_PIPE = f"{SSHD_DIR}/secure", f"{SSHD_DIR}/pipe"
OUTPUT = f"{OUT_DIR}/events.jsonl"
BOOT_ID = "0123456789abcdef0123456789abcdef"

STOP_MS = 5_000
"""Within which a SIGTERM has to end the daemon."""

LATEST_MS = 1_500
"""A step that waits for system calls happens after this long, whether they came or not."""

BEGIN_US = 1_000_000
"""Before the first input: the daemon is there by then, so that nothing is older than its first start."""

NAP_US = 3_000_000
"""How long the process sleeps at a time, where it naps."""

STATE_HEADER_BYTES = 52
HELD = ("inflight_now", "held_events_now", "held_bytes_now", "logins_waiting_now")
DAEMON = daemon.Daemon
WHOLE_TRIES = 200
LIVES_MAX = 60
CALLS_MAX = 400_000
IDLES_MAX = 50_000
"""More than any scenario needs: a daemon that spins, or dies at each start, is a failure and no endless run."""


class BrokenError(Exception):
    """The daemon did what it must not do; ``rule`` is the invariant's name."""

    def __init__(self, rule: str, text: str) -> None:
        super().__init__(f"{rule}: {text}")
        self.rule = rule


@dataclass
class Boot:
    """One boot of the host. ``begins_ms``: by the wall clock; ``whole``: serials whose records are all in the log,
    where it ended before the workload did; ``lost``: serials that the kernel gave and of which no record came."""

    truth: Truth
    lost: frozenset[int] = frozenset()
    begins_ms: int = 0
    whole: set[int] | None = None


@dataclass
class Outcome:
    """What a run left behind, for the oracle."""

    scenario: Scenario
    boots: list[Boot]
    output: bytes = b""
    cuts: int = 0  # places where audit records may have been lost
    destroyed: set[str] = field(default_factory=set)  # streams of which bytes went that the daemon may not have read
    spliced: set[int] = field(default_factory=set)  # serials of records that a cut made of two
    halved: set[int] = field(default_factory=set)  # serials of which a pipe had a part when the daemon was told to stop
    unplaced: bool = False  # they went while the daemon was down and had no place in them
    killed: bool = False
    jumped: bool = False
    failed: bool = False  # calls failed in a way that the contract has no promise for
    lost_output: bytes = b""
    lives: int = 0
    digest: int = 0
    calls: int = 0


Part = tuple[int, int, str, bytes]
"""What is written: µs from the start, order, stream, bytes."""

LOSABLE = ("executed", "opened-file", "connected-to")
"""What is one event among many: without its LOGIN or its end a session is another one."""

SERIAL = re.compile(rb"audit\([0-9.]+:([0-9]+)\):")


class _Tap:
    """Takes what the workload writes, with the time at which it does."""

    def __init__(self, clock: Workload, parts: list[Part], stream: str) -> None:
        self._clock, self._parts, self._stream = clock, parts, stream

    def write(self, data: bytes) -> int:
        start_us = self._clock.settings.start_ms * 1000
        self._parts.append((self._clock.clock_us - start_us, len(self._parts), self._stream, data))
        return len(data)


class FewPids(Workload):
    """A workload on a host with so few pids that one is soon used again, as soon as nothing alive has it."""

    def __init__(self, settings: Settings, pids: int) -> None:
        self._pids = pids
        self._alive: set[int] = set()
        super().__init__(settings)

    def next_pid(self) -> int:
        while True:
            self.pid = 2_000 + (self.pid - 1_999) % self._pids
            if self.pid not in self._alive:
                return self.pid

    def new_login(self) -> Login:
        login = super().new_login()
        self._alive.add(login.pid)
        return login

    def session(self, login: Login) -> Iterator[SessionEvent]:
        child = 0
        for event in super().session(login):
            if event[1] == "acquired-credentials":
                child = self.pid
                self._alive.add(child)
            yield event
        self._alive -= {login.pid, child}


def inputs_of(scenario: Scenario, start_ms: int = START_MS) -> tuple[Boot, list[Part]]:
    """The truth, and what is written when, from the start of this boot on."""
    events = scenario.sessions * (scenario.commands + 7) * (1 + scenario.background)
    settings = Settings(
        sessions=scenario.sessions, commands=scenario.commands, concurrent=scenario.concurrent,
        background=scenario.background, window=scenario.window, unclaimed=scenario.unclaimed,
        delay_ms=scenario.delay_ms, seed=scenario.seed + start_ms - START_MS, failures=0, start_ms=start_ms,
        events_per_second=max(5, int(events * 1000 / scenario.lasts_ms)),
    )  # fmt: skip
    workload = FewPids(settings, scenario.pids) if scenario.pids else Workload(settings)
    parts: list[Part] = []
    audit, sshd = _Tap(workload, parts, "audit"), _Tap(workload, parts, "sshd")
    pipe, syslog = (sshd, None) if scenario.sshd == "pipe" else (None, sshd)
    truth = workload.run(audit, pipe, syslog)  # type: ignore[arg-type]
    boot = Boot(truth, begins_ms=0 if start_ms == START_MS else start_ms)
    if scenario.kernel_lost:
        boot.lost, parts = _some_lost(scenario, truth, parts)
    return boot, _torn(scenario, parts)


def _some_lost(scenario: Scenario, truth: Truth, parts: list[Part]) -> tuple[frozenset[int], list[Part]]:
    """Without all records of some events of sessions: the kernel had no room for them. And their serials."""
    rng = random.Random(scenario.seed + 3)
    acts = [seq for login in truth.logins for seq, action, _ in login.events if action in LOSABLE]
    lost = frozenset(seq for seq in acts if rng.random() < scenario.kernel_lost)
    left = []
    for at_us, order, stream, data in parts:
        if stream == "audit":
            lines = data.splitlines(keepends=True)
            data = b"".join(line for line in lines if int(SERIAL.findall(line)[0]) not in lost)
        if data:
            left.append((at_us, order, stream, data))
    return lost, left


def serials_of(parts: Iterable[Part]) -> Counter[int]:
    """How many records there are of each."""
    audit = b"".join(data for _, _, stream, data in parts if stream == "audit")
    return Counter(map(int, SERIAL.findall(audit)))


def _torn(scenario: Scenario, parts: list[Part]) -> list[Part]:
    """Some writes in two parts, the second a little later, before all that follows it in its stream."""
    rng = random.Random(scenario.seed + 1)
    made: list[Part] = []
    last = {"audit": 0, "sshd": 0}
    for at_us, _, stream, data in parts:
        at_us = max(at_us + BEGIN_US, last[stream])
        if len(data) > 1 and rng.random() < scenario.torn and (stream != "sshd" or scenario.sshd != "journal"):
            cut = rng.randrange(1, len(data))
            made.append((at_us, len(made), stream, data[:cut]))
            at_us, data = at_us + rng.choice((10, 5_000, 400_000)), data[cut:]
        made.append((at_us, len(made), stream, data))
        last[stream] = at_us
    return sorted(made)


class World:
    """One run of one scenario."""

    def __init__(self, scenario: Scenario, trace: list[str] | None = None) -> None:
        self.scenario = scenario
        self.rng = random.Random(scenario.seed + 2)
        self.kernel = Kernel(START_MS)
        self.kernel.log = trace
        self.journal = Journal(self.kernel, BOOT_ID)
        boot, inputs = inputs_of(scenario)
        # A line and its session may be as far from each other as all is long, with what torn writes add.
        self.join_window_ms = max([scenario.join_window_ms, *(part[0] // 1000 for part in inputs)])
        self.outcome = Outcome(scenario, [boot])
        self.daemon: daemon.Daemon | None = None
        self.zero_us = self.kernel.now_us
        self.inputs = inputs[::-1]
        self.steps = sorted(scenario.steps, key=lambda step: step.at_ms, reverse=True)
        self.armed: list[tuple[int, int, int, Step]] = []  # calls, latest time, order, step
        self.works: list[Iterator[None]] = []  # rotations that are under way
        self.copied: Node | None = None  # a log that is to be emptied, now that there is a copy
        self.queues = {"audit": bytearray(), "sshd": bytearray()}  # what a pipe's writer could not write yet
        self.given: set[int] = set()  # serials of the audit records that were written
        self.shorts = False
        self.reads = True
        self.idles = 0
        self.corrupted = False  # the newest state
        self.power_cut = False  # it happened: the process dies at its next call
        self.restart_ms = 100
        self.broken: BrokenError | None = None
        self.stop_us = 0  # when a SIGTERM has to have ended the daemon
        self.kernel.around = self.around
        last_ms = max([part[0] // 1000 for part in inputs] + [step.at_ms for step in self.steps], default=0)
        self.heal_us = self.zero_us + (last_ms + LATEST_MS + 10) * 1000
        self.settle_us = (self.join_window_ms + 12_000) * 1000 + 3 * NAP_US * scenario.naps
        self.end_us = self.heal_us + self.settle_us
        self.next_us = 0
        self._inside = False
        self._lay_out()

    def _lay_out(self) -> None:
        for path in (AUDIT_DIR, SSHD_DIR, OUT_DIR, STATE_DIR, "/journal"):
            self.kernel.make_dir(path)
        for path in (OUT_DIR, STATE_DIR):
            self.kernel.node(path).volatile = True
        if self.scenario.audit == "pipe":
            self.kernel.put(AUDIT_PIPE, stat.S_IFIFO | 0o600)
        else:
            self.live = self.kernel.put(AUDIT_LOG)
        if self.scenario.sshd == "pipe":
            self.kernel.put(SSHD_PIPE, stat.S_IFIFO | 0o600)
        elif self.scenario.sshd == "syslog":
            self.kernel.put(SSHD_LOG)
        self.out_pipe: Node | None = None
        self.taken = bytearray()  # by the reader of the output, from the pipe at hand
        self.unread = b""  # what the pipe held when its reader left, and the daemon may not know yet
        self.line_start = b""  # of a line of which the last reader took no more
        self.former_bytes = 0  # of what the pipe holds: what a process before this one wrote, which nobody has twice
        if self.scenario.output == "pipe":
            self.out_pipe = self.kernel.put(OUTPUT, stat.S_IFIFO | 0o600)
            self.out_pipe.readers = 1

    def config(self) -> Config:
        """The daemon's own configuration."""
        scenario = self.scenario
        return Config(
            inputs=Inputs(
                audit_dir=AUDIT_DIR,
                audit_pipe=AUDIT_PIPE if scenario.audit == "pipe" else "",
                sshd_pipe=SSHD_PIPE if scenario.sshd == "pipe" else "",
                sshd_log=SSHD_LOG if scenario.sshd == "syslog" else "",
                journal_dir="/journal" if scenario.sshd == "journal" else "",
            ),
            output=Output(path=OUTPUT),
            events=Events(join_window_ms=self.join_window_ms),
            host=Host(name="h", machine_id="m", boot_id=self.journal.boot_id),
            state=State(directory=STATE_DIR),
        )

    # -- the run

    def run(self) -> Outcome:
        """Let it happen. Errors: BrokenError."""
        watcher = _Listener(self)
        logger = logging.getLogger("audito")
        before = logger.handlers, logger.propagate, logger.level
        logger.handlers, logger.propagate = [watcher], False
        logger.setLevel(logging.INFO if self.kernel.log is not None else logging.ERROR)
        try:
            with installed(self.kernel, self.journal, self.loop_run, self._take_daemon):
                while self._live():
                    if self.power_cut:
                        self._boot_again()
                    self._wait(self.kernel.now_us + self.restart_ms * 1000)
                    if self.outcome.lives > LIVES_MAX:
                        raise BrokenError("ends", f"{LIVES_MAX} lives")
        finally:
            logger.handlers, logger.propagate = before[0], before[1]
            logger.setLevel(before[2])
        self._collect()
        self.outcome.digest, self.outcome.calls = self.kernel.digest, self.kernel.calls
        return self.outcome

    def _take_daemon(self, config: Config, read: Callable[[], Config], service: Service) -> daemon.Daemon:
        self.daemon = DAEMON(config, read, service)
        return self.daemon

    def _nothing_left(self) -> None:
        """At the end nothing may be held: everything that could still be waited for is over. Errors: BrokenError."""
        assert self.daemon is not None
        counters = self.daemon.core.counters()
        held = {name: counters[name] for name in HELD if counters[name]}
        if self.daemon.output.pending_bytes:
            held["output"] = self.daemon.output.pending_bytes
        if held:
            raise BrokenError("holds", f"still there at the end: {held}")

    def _live(self) -> bool:
        """One life of the daemon; returns whether there is another one. Errors: BrokenError."""
        try:
            return self._lived()
        finally:
            gc.collect()  # the daemon's parts know each other: what is free now needs no new memory in the next life
            if self.broken is not None:
                raise self.broken

    def _lived(self) -> bool:
        self.kernel.begin()
        self.outcome.lives += 1
        self.former_bytes = len(self.out_pipe.data) if self.out_pipe is not None else 0
        self.stop_us = self.next_us = self.kernel.wake_us = 0
        self.end_us = max(self.end_us, self.kernel.now_us + self.settle_us)
        self.kernel.note("start")
        try:
            code = daemon.run(self.config(), self.config, Service())
        except (Killed, Exited):
            self.outcome.killed = True
            self._lose_unread()
            if (
                "audit" in self.outcome.destroyed
                and self.scenario.audit != "pipe"
                and not self._saved_place().get("file")
            ):
                self.outcome.unplaced = True
            # The guard is for a disk that hangs; that is no clean end, and no late one.
            hangs = any(step.kind == "slow" for step in self.scenario.steps)
            if self.kernel.exit_code is not None and not hangs:
                raise BrokenError("stops", "had to be ended by its guard") from None
            return True
        except BrokenError:
            raise
        except Exception as exc:
            raise BrokenError("lives", f"{type(exc).__name__}: {exc}") from exc
        if code != 0 or not self.stop_us:
            raise BrokenError("lives", f"exit code {code} without being told to stop")
        if self.kernel.now_us > self.stop_us:
            raise BrokenError("stops", f"{(self.kernel.now_us - self.stop_us) // 1000} ms too late")
        self.kernel.note("ended")
        if self.kernel.files:
            raise BrokenError("closes", f"left open: {[opened.path for opened in self.kernel.files.values()]}")
        self.kernel.end()
        if self.kernel.now_us < self.end_us:
            return True
        self._nothing_left()
        return False

    def loop_run(self, main: Coroutine[Any, Any, int]) -> int:
        """As uvloop.run."""
        loop = Loop(self.kernel, self.idle, self.nap_us)
        try:
            return loop.run_until_complete(main)
        finally:
            for task in asyncio.all_tasks(loop):
                task._log_destroy_pending = False  # type: ignore[attr-defined]
            loop.close()

    def nap_us(self) -> int:
        """When all is written and nothing fails any more, most ticks have nothing to find: few are enough."""
        return 0 if self.heal_us or self.stop_us or self.inputs or not self.scenario.naps else NAP_US

    def _wait(self, until_us: int) -> None:
        """Time passes without the daemon."""
        while self.kernel.now_us < until_us:
            self.around()
            self.idle(until_us)

    def idle(self, until_us: int) -> None:
        """Go on to the next thing that happens, until a time at most."""
        kernel = self.kernel
        self.idles += 1
        if self.idles > IDLES_MAX:
            raise BrokenError("ends", f"{IDLES_MAX} times nothing to do")
        times = [until_us]
        if self.works:
            times.append(kernel.now_us + 50)
        if any(self.queues.values()):
            times.append(kernel.now_us + 5_000)
        times += [timer[0] for timer in kernel.timers]
        if self.armed:
            times.append(min(latest for _, latest, _, _ in self.armed))
        if self.inputs:
            times.append(self.zero_us + self.inputs[-1][0])
        if self.steps:
            times.append(self.zero_us + self.steps[-1].at_ms * 1000)
        times += [at_us for at_us in (self.heal_us, self.end_us) if at_us > kernel.now_us]
        kernel.now_us = max(kernel.now_us, min(times))

    def around(self) -> None:
        """What else happens on the host, up to now."""
        if self.out_pipe is not None and self.reads and self.out_pipe.data:
            self.taken += self.out_pipe.data
            self.out_pipe.data.clear()
            self.former_bytes = 0
        if (self.kernel.now_us < self.next_us and not self.armed and not self.works) or self._inside:
            return
        self._inside = True
        try:
            self._pass_time()
        except OSError as exc:
            raise RuntimeError("the world itself failed") from exc
        finally:
            self._inside = False

    def _pass_time(self) -> None:
        kernel = self.kernel
        if kernel.calls > CALLS_MAX:
            raise BrokenError("ends", f"{CALLS_MAX} system calls")
        now_us = kernel.now_us - self.zero_us
        while self.inputs and self.inputs[-1][0] <= now_us:
            _, _, stream, data = self.inputs.pop()
            self._write(stream, data)
        while self.steps and self.steps[-1].at_ms * 1000 <= now_us:
            step = self.steps.pop()
            heapq.heappush(
                self.armed, (kernel.calls + step.calls, kernel.now_us + LATEST_MS * 1000, len(self.steps), step)
            )
        self._go_on()
        self._set_next()

    def _go_on(self) -> None:
        kernel = self.kernel
        for entry in sorted(self.armed):
            if entry[0] <= kernel.calls or entry[1] <= kernel.now_us:
                self.armed.remove(entry)
                kernel.note(f"step {entry[3].kind} {entry[3].args}")
                getattr(self, f"do_{entry[3].kind}")(*entry[3].args)
        heapq.heapify(self.armed)
        if self.works and next(self.works[0], self) is self:
            del self.works[0]  # one rotation at a time
        for stream, queue in self.queues.items():
            if queue:
                self._pour(stream, queue)
        if 0 < self.heal_us <= kernel.now_us and not self.armed and not self.steps:
            self.heal_us = 0
            self._heal()
        if self.end_us <= kernel.now_us and not self.stop_us and not kernel.dead:
            self.do_term(100)

    def _set_next(self) -> None:
        times = [self.heal_us or self.end_us]
        if self.inputs:
            times.append(self.zero_us + self.inputs[-1][0])
        if self.steps:
            times.append(self.zero_us + self.steps[-1].at_ms * 1000)
        if any(self.queues.values()):
            times.append(self.kernel.now_us + 5_000)
        if self.end_us <= self.kernel.now_us:
            times = [1 << 62] if self.stop_us else [0]
        self.next_us = min(times)
        # A step waits for calls, a rotation goes on at each, and a reader takes what there is.
        self.kernel.wake_us = 0 if self.armed or self.works or self.out_pipe is not None else self.next_us

    # -- writers

    def _write(self, stream: str, data: bytes) -> None:
        if stream == "audit":
            self.given.update(map(int, SERIAL.findall(data)))
        kind = self.scenario.audit if stream == "audit" else self.scenario.sshd
        if kind == "pipe":
            self.queues[stream] += data
            self._pour(stream, self.queues[stream])
        elif kind == "journal":
            stamp, _, rest = data.decode().partition(" ")
            pid, _, text = rest.partition("sshd[")[2].partition("]: ")
            time_us = int(datetime.fromisoformat(stamp).timestamp() * 1e6)
            self.journal.add(int(pid), text.rstrip("\n").encode(), time_us)
        elif stream == "audit":
            self.kernel.append(self.live, data)
        else:
            if not self.kernel.exists(SSHD_LOG):
                self.kernel.put(SSHD_LOG)
            self.kernel.append(self.kernel.node(SSHD_LOG), data)

    def _pour(self, stream: str, queue: bytearray) -> None:
        """A pipe's writer writes what fits; without a reader it waits for one."""
        node = self.kernel.node(AUDIT_PIPE if stream == "audit" else SSHD_PIPE)
        room = node.capacity - len(node.data)
        if node.readers and room > 0:
            self.kernel.append(node, bytes(queue[:room]))
            del queue[:room]

    # -- steps

    def do_kill(self, restart_ms: int) -> None:
        self.restart_ms = restart_ms
        if not self.kernel.dead:
            self._note_pipes()
            self.kernel.kill_due = True

    def do_term(self, restart_ms: int) -> None:
        if not self.kernel.dead and not self.stop_us:
            self.restart_ms = restart_ms
            self._note_pipes()
            self.stop_us = self.kernel.now_us + STOP_MS * 1000
            self.kernel.signals.append(signal.SIGTERM)

    def do_power(self, restart_ms: int) -> None:
        """Power fails, and the host boots: another boot id, and serials, sessions and pids that start again."""
        if len(self.outcome.boots) > 1 or self.outcome.jumped:
            return
        for stream in ("audit", "sshd"):
            self._complete(stream)
        self.power_cut = True
        self._empty_copied()  # else there are two files that say the same, and none is the copy
        self.works.clear()
        self._note_pipes()
        self.restart_ms = restart_ms
        written = self.outcome.boots[0]
        missing = serials_of(self.inputs[::-1])
        acts = {seq for login in written.truth.logins for seq, _, _ in login.events}
        written.whole = acts - missing.keys() - written.lost
        for queue in self.queues.values():
            queue.clear()
        begins_ms = self.kernel.wall_ns() // 1_000_000 + 1
        boot, inputs = inputs_of(self.scenario, begins_ms)
        stamp = b"%d.%03d" % (begins_ms // 1000, begins_ms % 1000)
        inputs.insert(
            0, (0, -1, "audit", b"type=DAEMON_START msg=audit(%s:77): op=start ver=3.0.9 res=success\n" % stamp)
        )
        self.outcome.boots.append(boot)
        later_us = self.kernel.now_us - self.zero_us
        self.inputs = [(at_us + later_us, order, stream, data) for at_us, order, stream, data in inputs[::-1]]
        last_us = max((part[0] for part in self.inputs), default=0) + self.zero_us
        self.heal_us = max(self.heal_us, last_us + (LATEST_MS + 10) * 1000)
        self.end_us = self.heal_us + self.settle_us
        if self.kernel.dead:
            self._boot_again()
        else:
            self.kernel.kill_due = self.kernel.power_off = True

    def _complete(self, stream: str) -> None:
        """The rest of a line of which a part is written: who writes it ends before the power does."""
        path = AUDIT_LOG if stream == "audit" else SSHD_LOG
        if not self.kernel.exists(path) or self.kernel.node(path).data[-1:] in (b"", b"\n"):
            return
        rest = next((part for part in reversed(self.inputs) if part[2] == stream), None)
        if rest is not None:
            self.inputs.remove(rest)
            self._write(stream, rest[3])

    def _boot_again(self) -> None:
        began_ms = self.outcome.boots[-1].begins_ms
        assert self.kernel.wall_ns() // 1_000_000 <= began_ms, "nothing is written before the host has booted"
        self.power_cut = False
        self.works.clear()  # also one that was to begin with the cut
        self.kernel.note("power cut")
        self.kernel.cut_power(lambda count: self.rng.randrange(count + 1))
        for path in (AUDIT_PIPE, SSHD_PIPE):
            if self.kernel.exists(path):
                self.kernel.node(path).data.clear()
        if self.scenario.audit == "directory" and not self.kernel.exists(AUDIT_LOG):
            self.live = self.kernel.put(AUDIT_LOG)
        self.journal.boot_id = f"{len(self.outcome.boots):032x}"

    def _destroy(self, stream: str) -> None:
        self.outcome.cuts += 1
        self.outcome.destroyed.add(stream)
        if self.kernel.dead and stream == "audit" and not self._saved_place().get("file"):
            self.outcome.unplaced = True

    def _saved(self) -> dict[str, Any]:
        """The last checkpoint; {} where there is none that can be read."""
        path = f"{STATE_DIR}/state"
        if self.corrupted or not self.kernel.exists(path):
            return {}
        state: dict[str, Any] = msgspec.msgpack.decode(bytes(self.kernel.node(path).data[STATE_HEADER_BYTES:]))
        return state

    def _saved_place(self) -> dict[str, Any]:
        """Where it says that the audit log was read to."""
        place: dict[str, Any] = self._saved().get("sources", {}).get("audit-directory", {})
        return place if (place.get("file") or {}).get("head_bytes") else {}

    def _note_pipes(self) -> None:
        """What is in a pipe when the daemon goes is lost; so is what it had read of one and not written."""
        if self.scenario.audit == "pipe":
            coming = b"".join([bytes(self.queues["audit"]), *(part[3] for part in self.inputs if part[2] == "audit")])
            self.outcome.halved.update(self.given.intersection(map(int, SERIAL.findall(coming))))
        self.outcome.cuts += 1
        self.outcome.destroyed.update(
            stream for stream in ("audit", "sshd") if getattr(self.scenario, stream) == "pipe"
        )

    def do_hangup(self, _: float) -> None:
        if not self.kernel.dead and signal.SIGHUP in self.kernel.handlers:
            self.kernel.signals.append(signal.SIGHUP)

    def do_full(self, where: str, room: int) -> None:
        self.kernel.room[where] = room

    def do_free(self, where: str) -> None:
        self.kernel.room.pop(where, None)

    def do_error(self, call: str, where: str, number: int, count: int) -> None:
        self.kernel.faults.append(Fault(call, where, number, count))

    def do_slow(self, call: str, where: str, count: int, delay_us: int) -> None:
        self.kernel.faults.append(Fault(call, where, 0, count, delay_us))

    def do_short(self, on: int) -> None:
        self.kernel.short = (lambda size: self.rng.randrange(1, size + 1) if size > 1 else size) if on else _all_of

    def do_deaf(self, share: float) -> None:
        self.kernel.faults.append(Fault("inotify", "", 0, int(40 * share)))

    def do_clock(self, jump_ms: int) -> None:
        if len(self.outcome.boots) > 1:
            return  # what is whose boot's is told apart by the time
        self.outcome.jumped = True
        self.kernel.wall_us += jump_ms * 1000

    def do_reader(self, what: str) -> None:
        """The reader of the output stops, leaves with what it has not read, or is there again."""
        pipe = self.out_pipe
        assert pipe is not None
        self.reads = what == "go"
        if what == "leave" and pipe.readers:
            self._leave(pipe)
        elif what == "go" and not pipe.readers:
            pipe.readers = 1
            if pipe.writers:  # else the daemon saw the last one go: between them the two have the line that they share
                self.taken += self.line_start

    def _leave(self, pipe: Node) -> None:
        pipe.readers = 0
        unread = bytes(self.taken[self.taken.rfind(b"\n") + 1 :] + pipe.data)
        if pipe.writers:
            self.unread = unread[: unread.rfind(b"\n") + 1]
            former = unread[: len(unread) - len(pipe.data) + self.former_bytes] if self.former_bytes else b""
            self.outcome.lost_output += former[: former.rfind(b"\n") + 1]
        else:  # what is in it goes with the last who has it open
            self.outcome.lost_output += unread
            pipe.data.clear()
        # What of a line one reader has, no other one has: it has to come again, if the daemon can know that.
        whole = self.taken.rfind(b"\n") + 1
        self.outcome.output += bytes(self.taken[:whole])
        self.line_start = bytes(self.taken[whole:])
        self.taken.clear()

    def _lose_unread(self) -> None:
        """A kill came before the daemon could save what the last reader had not read: nobody has it any more."""
        if self.unread not in self._saved().get("pending", b""):
            self.outcome.lost_output += self.unread
        self.unread = b""

    def do_rotate(self, _: float) -> None:
        self.works.append(self._rotate())

    def _rotate(self) -> Iterator[None]:
        """As auditd does it: the oldest goes, each gets the next name, then a new audit.log; one call at a time."""
        kernel, kept = self.kernel, self.scenario.logs_kept
        if kernel.exists(f"{AUDIT_LOG}.{kept - 1}"):
            self._destroy("audit")
        for number in range(kept - 1, 0, -1):
            old = f"{AUDIT_LOG}.{number - 1}" if number > 1 else AUDIT_LOG
            if old == AUDIT_LOG and not (yield from self._when_whole(self.live)):
                return
            if kernel.exists(old):
                kernel.rename(old, f"{AUDIT_LOG}.{number}")
                if old == AUDIT_LOG:
                    break
                yield
        self.live = kernel.put(AUDIT_LOG)

    def _when_whole(self, node: Node) -> Generator[None, None, bool]:
        """Wait for the end of a line: writers rotate between two. Returns false where it does not come."""
        for _ in range(WHOLE_TRIES):
            if not node.data or node.data.endswith(b"\n"):
                return True
            yield
        return False

    def do_copytruncate(self, _: float) -> None:
        self._destroy("audit")  # what is written between the two, and a copy that replaces an unread one
        self.works.append(self._copy_truncate(AUDIT_LOG))

    def do_copytruncate_sshd(self, _: float) -> None:
        self._destroy("sshd")
        self.works.append(self._copy_truncate(SSHD_LOG))

    def _copy_truncate(self, path: str) -> Iterator[None]:
        kernel = self.kernel
        if not kernel.exists(path):
            return
        for number in range(self.scenario.logs_kept, 1, -1):
            if kernel.exists(f"{path}.{number - 1}"):
                kernel.rename(f"{path}.{number - 1}", f"{path}.{number}")
                yield
        live = kernel.node(path)
        kernel.append(kernel.put(f"{path}.1"), bytes(live.data))
        self.copied = live
        yield
        self._empty_copied()

    def _empty_copied(self) -> None:
        if self.copied is not None:
            self.copied.data.clear()
            self.kernel.changed(self.copied)
            self.copied = None

    def do_truncate(self, share: float) -> None:
        self._destroy("audit")
        in_line = not self.live.data.endswith(b"\n")
        del self.live.data[int(len(self.live.data) * (1 - share)) :]
        if in_line:  # the writer goes on in the middle of its record, behind the start of another one
            left = bytes(self.live.data[self.live.data.rfind(b"\n") + 1 :])
            self.outcome.spliced.update(map(int, SERIAL.findall(left)))
        self.kernel.changed(self.live)

    def do_rotate_sshd(self, _: float) -> None:
        self.works.append(self._shift(SSHD_LOG))

    def do_rotate_output(self, _: float) -> None:
        self.works.append(self._shift(OUTPUT))

    def _shift(self, path: str) -> Iterator[None]:
        """As logrotate does it, without a limit."""
        kernel = self.kernel
        numbers = [number for number in range(60, 0, -1) if kernel.exists(f"{path}.{number}")]
        for number in numbers:
            kernel.rename(f"{path}.{number}", f"{path}.{number + 1}")
            yield
        if path == SSHD_LOG and kernel.exists(path) and not (yield from self._when_whole(kernel.node(path))):
            return
        if kernel.exists(path):
            kernel.rename(path, f"{path}.1")
        yield
        if path == SSHD_LOG and not kernel.exists(path):
            kernel.put(path)

    def do_vacuum(self, share: float) -> None:
        self._destroy("sshd")
        self.journal.vacuum(share)

    def do_corrupt_state(self, share: float) -> None:
        """The newest generation goes bad; the older one has to do."""
        path = f"{STATE_DIR}/state"
        if self.kernel.dead and self.kernel.exists(path) and self.kernel.exists(f"{path}.1"):
            data = self.kernel.node(path).data
            data[int((len(data) - 1) * share)] ^= 0x41
            self.corrupted = True

    def _heal(self) -> None:
        """From here on nothing fails: the daemon has to come to an end with all that it owes."""
        self.kernel.faults.clear()
        self.kernel.room.clear()
        self.kernel.short = _all_of
        if self.out_pipe is not None:
            self.do_reader("go")

    def _collect(self) -> None:
        if self.out_pipe is not None:
            self.outcome.output += bytes(self.taken + self.out_pipe.data)
            return
        numbers = [number for number in range(80, 0, -1) if self.kernel.exists(f"{OUTPUT}.{number}")]
        for path in [*(f"{OUTPUT}.{number}" for number in numbers), OUTPUT]:
            if self.kernel.exists(path):
                data = bytes(self.kernel.node(path).data)
                if path != OUTPUT and (len(self.outcome.boots) > 1 or self.outcome.killed or self._uncut()):
                    # The end of a file that is ours no more, torn by a power cut or a kill: its events come again.
                    data = data[: data.rfind(b"\n") + 1]
                self.outcome.output += data

    def _uncut(self) -> bool:
        """What a full disk took of a line may not have been cut off again, as that failed, before a rotation."""
        kinds = {step.args[0] for step in self.scenario.steps if step.kind == "error" and step.args[1] == OUT_DIR}
        return bool(kinds & {"fstat", "ftruncate"}) and any(step.kind == "full" for step in self.scenario.steps)


def _all_of(size: int) -> int:
    return size


class _Listener(logging.Handler):
    """Puts what the daemon logs into the trace; an internal error breaks the run."""

    def __init__(self, world: World) -> None:
        super().__init__()
        self._world = world

    def emit(self, record: logging.LogRecord) -> None:
        text = record.getMessage()
        if text.startswith("internal error"):
            cause = record.exc_info[1] if record.exc_info else None
            if not isinstance(cause, SystemExit):
                self._world.broken = BrokenError("lives", f"{text}: {cause!r}")
                self._world.broken.__cause__ = cause
        if self._world.kernel.log is not None:
            self._world.kernel.log.append(f"           log: {text}")
