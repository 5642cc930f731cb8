"""The live daemon: sources → core → sink, on one uvloop; ticks, back-pressure, checkpoints, the order of shutdown.

Everything runs in one thread and in turns. A turn reads each input in bounded chunks, feeds the core and
writes what came of it at once. Nothing is queued: when the output does not take all, the rest of that one
chunk waits in :class:`Output`, no input is read until it is gone, and auditd's files, the journal and the
pipes are the buffer. Only three things may end the process: a signal, the end of a finite input, and a
start that can never work (an output that is a directory, a user that cannot be had).
"""

from __future__ import annotations

import asyncio
import gc
import logging
import os
import signal
import socket
import threading
import time
from collections.abc import Callable
from pathlib import Path
from types import FrameType
from typing import Any

import msgspec
import uvloop

from audito import checkpoint, privileges, proc, signals
from audito.config import Config, Input, audit_source, core_settings, sshd_source, take_live
from audito.core import Core
from audito.errors import AuditoError, SinkError, SourceError, StateError
from audito.feed import Feed
from audito.health import (
    CONTENT_JSON,
    CONTENT_METRICS,
    CONTENT_TEXT,
    AuditLogAge,
    Health,
    Page,
)
from audito.http import HttpServer, listen
from audito.netlink import AuditSocket
from audito.output import LOG_MODE, Output, RejectLog
from audito.service import Service
from audito.sinks import Sink
from audito.sinks.all import open_sink
from audito.sources import Source, Stream
from audito.sources.directory import DirectorySource, oldest_record_ms
from audito.sources.fifo import FifoSource
from audito.sources.journal import JournalSource
from audito.sources.spool import SpooledSource
from audito.sources.stdin import StdinSource
from audito.sources.syslog import SyslogSource
from audito.values import LEVELS
from audito.watch import Complaints, log, monotonic_ms, wall_ms

TICK_MS = 1_000
"""The one timer of an idle daemon: polls, the core's clock, checkpoints."""

TURN_BYTES_MAX = 2 << 20
"""Read from one input in one turn; then the other input, signals and HTTP have theirs."""

CHECKPOINT_MS = 2_000
"""Between two checkpoints while something changes: what a crash makes us read again, against an fsync each."""

UNREADABLE_WINDOWS_MAX = 5
"""For how many join windows sessions wait for lines of sshd that cannot be read: errors pass, a late mount comes.
What was done is not kept back for one that stays."""

SETTLE_SLACK_MS = 60_000
"""How much longer than a session waits for its login line what was written before a kill may come again."""

DRAIN_MS_MAX = 1_000
STOP_MS_MAX = 4_000
EXIT_MS_MAX = 4_700
"""After a signal: reading what is there, waiting for the output, and the end whatever happens."""

GC_ALLOCATIONS = 100_000
"""Containers that have to be alive beyond those at the start before the garbage collector looks for cycles."""

UMASK = 0o077
"""Nobody else gets anything; what a group may read, the output and the reject log, is made so on purpose."""


def run(config: Config, read: Callable[[], Config], service: Service) -> int:
    """Run until a signal, or until the finite inputs end; returns the exit code.

    ``read``: gives the configuration of now, for SIGHUP; it raises AuditoError for one that cannot be meant.
    Errors: AuditoError for a start that can never work.
    """
    os.umask(UMASK)
    daemon = Daemon(config, read, service)
    try:
        daemon.open()
        # What is alive now stays alive; what comes is freed by its count. The collector would look through all of it
        # every 700 allocations (8 % of the time on a busy host) to find the cycles of a failed callback now and then.
        gc.freeze()
        gc.set_threshold(GC_ALLOCATIONS)
        return uvloop.run(daemon.serve())
    finally:
        daemon.close()


def boottime_ms() -> int:
    """Milliseconds since the boot, suspended ones too."""
    return time.clock_gettime_ns(time.CLOCK_BOOTTIME) // 1_000_000


class Daemon:
    """One run of the daemon: open() as root, serve() in the loop, close() at the end. Owns all the parts.

    The sshd feed is read before the audit feed in each turn: a login that is known when its session's records come
    needs nothing to be held.
    """

    def __init__(self, config: Config, read: Callable[[], Config], service: Service) -> None:
        self.config = config
        self._read_config = read
        self._refused = ""  # why the last configuration was not taken up
        self.service = service
        self._tick_s = min(TICK_MS, service.beat_ms or TICK_MS) / 1000
        self.settings = core_settings(config.host, config.events, config.rules)
        self.complaints = Complaints()
        self.health = Health(self._read_figures)
        self.rejects = self._new_rejects()
        # Copies of all that is rejected cost the core time and memory in a flood, so they are asked for at the start.
        self._hears_rejects = self.rejects is not None
        name = config.daemon.user
        self.user = privileges.find_user(name) if name else None
        self.core = self._new_core()
        self.output = Output(lambda: make_sink(config, self.user), self.health, self.complaints, self._resume)
        self._positions: dict[str, dict[str, Any]] = {}  # by source, of the checkpoint
        self.audit = self._new_feed("audit", self._find_audit)
        self.sshd = self._new_feed("sshd", self._find_sshd)
        self.feeds = (self.sshd, self.audit)
        self.http_socket: socket.socket | None = None
        self.http: HttpServer | None = None
        self.kernel = AuditSocket()
        # The core's clock: nobody sets it, so that a wall clock that jumps ends nobody's wait.
        self._booted_ms = wall_ms() - boottime_ms()
        self._lock_fd = -1
        self._saved_figures: tuple[int, ...] = ()
        self._saved_ms = 0
        self._saved_owed = 0
        self._save_due_ms = 0
        self._look_due_ms = 0
        self._settled_ms = 0
        self._turn_handle: asyncio.Handle | None = None
        self._tick_handle: asyncio.TimerHandle | None = None
        self._hung_up = False  # a SIGHUP came before the loop did
        self._stop_signal = 0
        self._signal_ms = 0  # when it came
        self._stopping = False
        self._exit_code = 0
        self._done: asyncio.Future[int] | None = None

    # -- opening, in one thread and before the loop runs

    def open(self) -> None:
        """Open all that needs root, then give root up. Errors: AuditoError for what no waiting can help."""
        self._catch_signals()
        state = self._open_state()
        self.output.open()
        if state is not None:
            self.output.go_on(state.output, state.pending, clean=state.clean)
        else:
            self.output.go_on({}, b"", clean=True)
        self.audit.look()  # what it finds in the checkpoint decides where the sshd source begins
        for feed in self.feeds:
            feed.open()
        self._open_http()
        if self.user is not None:
            if self.rejects is not None:
                create_for(self.config.output.reject_log, self.user)
            privileges.drop(self.user)

    def _open_state(self) -> checkpoint.State | None:
        """Lock the state directory and take up what is in it; without one the daemon runs, and forgets."""
        directory = self.config.state.directory
        uid, gid = (self.user.uid, self.user.gid) if self.user else (-1, -1)
        try:
            self._lock_fd = checkpoint.prepare(directory, uid, gid)
        except StateError as exc:
            self._state_failed(exc)
            log.warning("running without a state directory: a restart will start anew")
            return None
        state = checkpoint.load(directory, self._state_failed, uid)
        if state is None:
            return None
        self._positions.update(state.sources)
        rebooted = state.boot_id != self.settings.boot_id
        if not rebooted and state.booted_ms:
            self._booted_ms = state.booted_ms
        if rebooted:
            log.info("the state is of another boot: sessions end with its last record, inputs go on where they were")
        # What came through a pipe comes again only from a spool that the process before this one had, too.
        chosen = audit_source(self.config.inputs)
        had_spool = "end" in state.sources.get("audit-pipe", {})
        again = chosen.kind == "directory" or (self._is_kept(chosen) and had_spool)
        try:
            self.core.load(
                state.core,
                0,
                0,
                now_ms=wall_ms(),
                rebooted=rebooted,
                again=again,
                killed=not state.clean,
                boot_ms=self._booted_ms,
            )
        except (AuditoError, msgspec.MsgspecError, ValueError) as exc:
            self._state_failed(StateError(f"sessions in the state cannot be used, starting anew: {exc}"))
            self.core = self._new_core()
        return state

    def _new_feed(self, stream: Stream, find: Callable[[], Source]) -> Feed:
        return Feed(stream, find, self._on_readable, self.health, self.complaints, self._positions)

    @property
    def _spool_bytes(self) -> int:
        """Of what a pipe gives, on disk; 0: none is kept."""
        return self.config.state.spool_bytes if self._lock_fd >= 0 else 0

    def _is_kept(self, chosen: Input) -> bool:
        """Whether what was read of this input can be read again."""
        return chosen.kind == "directory" or (chosen.kind == "pipe" and self._spool_bytes > 0)

    def _make_source(self, chosen: Input, stream: Stream, since_us: int | None = None) -> Source:
        source = make_source(chosen, stream, since_us, self.config.host.boot_id if stream == "sshd" else "")
        if chosen.kind != "pipe" or not self._spool_bytes:
            return source
        uid, gid = (self.user.uid, self.user.gid) if self.user else (-1, -1)
        return SpooledSource(source, self.config.state.directory, self._spool_bytes, uid, gid)

    def _find_audit(self) -> Source:
        return self._make_source(audit_source(self.config.inputs), "audit")

    def _find_sshd(self) -> Source:
        chosen = sshd_source(self.config.inputs)
        if chosen is None:
            raise SourceError(
                "there is no journal and no syslog file; name one with --sshd-log-path or --sshd-pipe-path"
            )
        return self._make_source(chosen, "sshd", self._since_us())

    def _since_us(self) -> int | None:
        """From when on a first start reads logins: as long as there are saved audit records; None: only new ones."""
        chosen = audit_source(self.config.inputs)
        if chosen.kind != "directory" or self.audit.restored:
            return None
        try:
            oldest_ms = oldest_record_ms(Path(chosen.path))
        except SourceError as exc:
            if isinstance(exc.__cause__, FileNotFoundError):
                return None
            # For now: what it has of the sessions that are open may be read later, and needs their lines.
            oldest_ms = wall_ms()
        return None if oldest_ms is None else (oldest_ms - self.settings.join_window_ms) * 1000

    def _open_http(self) -> None:
        """Listen, where that is asked for and not yet done; a port in use is tried again at the next tick."""
        if self.http_socket is not None or not (self.config.http.metrics or self.config.http.healthz):
            return
        host, port = self.config.http.listen
        try:
            self.http_socket = listen(host, port)
        except OSError as exc:
            self.health.errors["http"] += 1
            self.complaints.trouble("http", f"cannot listen on {self.config.http.address}: {exc.strerror or exc}")
        else:
            self.complaints.over("http")

    def _new_core(self) -> Core:
        return Core(
            self.settings,
            self._reject if self._hears_rejects else None,
            proc.Containers().find if proc.has_the_kernels_pids() else None,
        )

    def _new_rejects(self) -> RejectLog | None:
        path = self.config.output.reject_log
        return RejectLog(path, self.health, self.complaints) if path else None

    def _reject(self, line: bytes, reason: str) -> None:
        """The core's callback: SIGHUP can give us another reject log, or none."""
        if self.rejects is not None:
            self.rejects.add(line, reason)

    # -- the loop

    async def serve(self) -> int:
        """Run until stopped; returns the exit code."""
        loop = asyncio.get_running_loop()
        loop.set_exception_handler(self._loop_failed)
        self._done = loop.create_future()
        self.health.beat(monotonic_ms())
        self._start_audit_check()
        self._saved_ms = monotonic_ms()
        self._save()  # what is read from here on is read again after a kill: from where, has to be known before
        self._settled_ms = self._settle_due_ms()
        self.output.start()
        self._tick()
        if self._hung_up:
            self._reload()
        if self._stop_signal:
            self.stop(signal.Signals(self._stop_signal).name)
        return await self._done

    def _settle_due_ms(self) -> int:
        return monotonic_ms() + self.settings.join_window_ms + SETTLE_SLACK_MS

    def _start_audit_check(self) -> None:
        check = self.config.audit_check
        self.health.audit_log = AuditLogAge(threshold_s=check.modified_threshold_s) if check.enabled else None
        self._look_due_ms = 0

    def _serve_http(self) -> None:
        """Serve where we listen and do not serve yet."""
        self._open_http()
        if self.http_socket is None or self.http is not None:
            return
        self.http = HttpServer(self._pages(), self._http_timeout_ms(), self.health)
        host, port = self.http_socket.getsockname()[:2]
        self._serving = asyncio.get_running_loop().create_task(self.http.start(self.http_socket))
        log.info("serving %s on %s port %d", " ".join(self.http.pages), host, port)

    def _http_timeout_ms(self) -> int:
        timeouts = [ms for ms in (self.config.http.read_timeout_ms, self.config.http.read_header_timeout_ms) if ms]
        return min(timeouts, default=0)

    def _close_http(self) -> None:
        """Stop serving; where it is still asked for, the next tick begins anew."""
        if self.http is None or self.http_socket is None:
            return
        self._serving.cancel()
        self.http.close()
        self.http_socket.close()
        self.http = self.http_socket = None

    def _pages(self) -> dict[str, Page]:
        def metrics() -> tuple[int, str, bytes]:
            self._set_gauges()
            self.kernel.ask()
            return 200, CONTENT_METRICS, self.health.metrics()

        def readyz() -> tuple[int, str, bytes]:
            status, body = self.health.readyz()
            return status, CONTENT_JSON, body

        def livez() -> tuple[int, str, bytes]:
            status, body = self.health.livez(monotonic_ms())
            return status, CONTENT_TEXT, body

        pages: dict[str, Page] = {"/metrics": metrics} if self.config.http.metrics else {}
        return {**pages, "/readyz": readyz, "/livez": livez} if self.config.http.healthz else pages

    def _tick(self) -> None:
        """Once a second: the truth that wake-ups only hint at."""
        if self._stopping:
            return
        self._tick_handle = asyncio.get_running_loop().call_later(self._tick_s, self._tick)
        self.health.beat(monotonic_ms())
        self.service.beat(monotonic_ms())
        for feed in self.feeds:
            feed.poll()
        self.output.poll()
        if self.output.ended:
            self.stop("the reader of standard output went away", exit_code=1)
            return
        self._turn()
        # The wall clock counts for what waits for a side only once that side was read to its end.
        if not self.output.blocked:
            if self.core.before_boot and self.audit.waiting_bytes() == 0:
                self.core.audit_caught_up()
            self.core.tick(self._steady_ms(), audit_idle=self.audit.idle, sshd_idle=self._is_sshd_idle())
            self._write()
            self._set_interest()
        if self.rejects is not None:
            self.rejects.flush(tick=True)
        for sample in self.core.sshd_samples(monotonic_ms()):
            log.warning("sshd wrote what audito does not know: %s", sample)
        self._serve_http()
        self._look_at_audit_log()
        if self._settled_ms and monotonic_ms() > self._settled_ms:
            unread = any(feed.broken for feed in self.feeds)  # what cannot be read now may come again later
            self._settled_ms = 0 if not unread and self.output.settle() else self._settle_due_ms()
        self._save_when_due()
        self.service.tell(monotonic_ms(), self.health.ready, self._status)

    def _is_sshd_idle(self) -> bool:
        """Whether no line that waits to be read can be a session's, or what the sessions hold may wait no longer."""
        if self.sshd.broken_for_ms > UNREADABLE_WINDOWS_MAX * self.settings.join_window_ms or self.core.audit_paused:
            return not self.sshd.ready
        return self.sshd.idle

    def _steady_ms(self) -> int:
        """The wall clock as it would be had nobody set it since the boot: by this, what waits expires."""
        return self._booted_ms + boottime_ms()

    def _on_readable(self, feed: Feed) -> None:
        feed.wake()
        self._turn()

    def _resume(self) -> None:
        """The output is free again."""
        if not self._stopping:
            self._set_interest()

    def _turn(self) -> None:
        """Read each input for a while, write what came of it, then wait for more or take another turn."""
        if self._turn_handle is not None:
            self._turn_handle.cancel()
            self._turn_handle = None
        if self._stopping:
            return
        for feed in self.feeds:
            self._read(feed)
        if self.rejects is not None:
            self.rejects.flush()
        self._set_interest()
        if any(feed.ended for feed in self.feeds):
            self.stop("end of input")

    def _read(self, feed: Feed) -> None:
        """Read up to TURN_BYTES_MAX; each chunk's events are written before the next is read."""
        count = 0
        while count < TURN_BYTES_MAX and self._may_read(feed):
            data = feed.read()
            self._tell_gaps(feed)
            if not data:
                return
            count += len(data)
            arrived_ms = wall_ms()
            assert feed.source is not None
            if feed is self.audit:
                self.core.feed_audit(data)
            else:
                now_us = feed.spool.arrival_us if feed.spool is not None else arrived_ms * 1000
                self.core.feed_sshd(data, feed.source.format, now_us)
            self.output.offer(self.core.take(), feed.stream, self._newest_ms(feed) or arrived_ms)
        if feed.ready and not self._has_room(feed):
            feed.absorb()

    def _tell_gaps(self, feed: Feed) -> None:
        """What the source could not read stands before what it read after that."""
        gaps = feed.take_gaps()
        for reason in gaps:
            self.core.input_gap(feed.stream, feed.name, reason, wall_ms())
        skipped = feed.take_skipped()
        if gaps or skipped:
            self.core.skip(feed.stream, skipped)
        if feed.take_cut():
            self.core.cut_line(feed.stream)
        if feed.spool is not None and (line_count := feed.spool.take_dropped()):
            self.core.input_gap(feed.stream, feed.name, "spool_full", wall_ms(), line_count)

    def _newest_ms(self, feed: Feed) -> int:
        """Time of the newest record read, 0 where they have none: lines of a pipe, and before the first."""
        if feed is self.audit:
            return self.core.audit_clock_ms
        has_times = feed.source is not None and feed.source.format != "pipe"
        return self.core.sshd_clock_ms if has_times else 0

    def _write(self) -> None:
        self.output.offer(self.core.take())

    def _may_read(self, feed: Feed) -> bool:
        """There may be something to read, and it has somewhere to go."""
        return feed.ready and self._has_room(feed)

    def _has_room(self, feed: Feed) -> bool:
        return not self.output.blocked and not (feed is self.audit and self.core.audit_paused)

    def _set_interest(self) -> None:
        """Listen to what may be read, and to nothing else; what may have come meanwhile is read in another turn."""
        for feed in self.feeds:
            if not feed.opened or feed.ended or not (self._has_room(feed) or feed.spool is not None):
                feed.unlisten()
            else:
                feed.listen()
        if self._turn_handle is None and any(self._may_read(feed) for feed in self.feeds):
            self._turn_handle = asyncio.get_running_loop().call_soon(self._turn)

    def _loop_failed(self, loop: asyncio.AbstractEventLoop, context: dict[str, Any]) -> None:
        """A callback raised: a fault of ours. It is counted and told, and the daemon goes on."""
        del loop
        self.health.errors["internal"] += 1
        exc = context.get("exception")
        log.error("internal error: %s", context.get("message"), exc_info=exc if exc is not None else False)

    # -- checkpoint

    def _save_when_due(self) -> None:
        # What a reader that left had not read counts as written in the last checkpoint, and is nowhere but here.
        owed = len(self.output.sink.owed)
        if monotonic_ms() < self._save_due_ms and owed <= self._saved_owed:
            return
        self._saved_owed = owed
        if self._figures() != self._saved_figures:
            self._save()
        else:
            self._saved_ms = monotonic_ms()

    def _figures(self) -> tuple[int, ...]:
        """What a checkpoint would say, in short: it is written when one of these changed."""
        counters = self.health.counters
        read = (counters["audit_read_bytes"], counters["sshd_read_bytes"], counters["output_bytes"])
        return (*read, self.core.audit_resolved, self.core.sshd_resolved, self.output.pending_bytes)

    def _save(self, *, clean: bool = False) -> bool:
        """Output durable, then the state that says so; returns whether the state, ``clean`` or not, is on disk."""
        if self._lock_fd < 0 or not self.output.opened:
            return False
        began_ms = monotonic_ms()
        figures = self._figures()
        try:
            self.output.sync()
            checkpoint.save(self.config.state.directory, self._state(clean))
        except (StateError, SinkError, OSError) as exc:
            self._state_failed(exc)
            return False
        else:
            self.complaints.over("state")
            self.health.counters["checkpoints"] += 1
            self._saved_figures = figures
            self._saved_ms = monotonic_ms()
            for feed in self.feeds:
                if feed.spool is not None:
                    feed.spool.release()
            return True
        finally:
            # A slow disk or a great many sessions: at most a twentieth of the time goes into checkpoints.
            took_ms = monotonic_ms() - began_ms
            self._save_due_ms = monotonic_ms() + max(CHECKPOINT_MS, 20 * took_ms)

    def _state(self, clean: bool) -> checkpoint.State:
        resolved = {"audit": self.core.audit_resolved, "sshd": self.core.sshd_resolved}
        # A source that was not found this time keeps its place.
        sources = dict(self._positions)
        sources.update((feed.name, feed.position(resolved[feed.stream])) for feed in self.feeds if feed.source)
        return checkpoint.State(
            boot_id=self.settings.boot_id,
            saved_at_ms=wall_ms(),
            booted_ms=self._booted_ms,
            sources=sources,
            core=self.core.dump(),
            output=self.output.position(),
            pending=self.output.pending(),
            clean=clean,
        )

    def _state_failed(self, exc: Exception) -> None:
        self.health.errors["state"] += 1
        self.complaints.trouble("state", str(exc))

    # -- figures

    def _read_figures(self) -> dict[str, int]:
        """The core's figures, those that sources have of their own, and the kernel's where it tells them."""
        figures = self.core.counters()
        for feed in self.feeds:
            counters = getattr(feed.source, "counters", None)
            if counters is not None:
                figures.update({f"{feed.stream}_source_{name}": count for name, count in counters().items()})
        status = self.kernel.status
        if status is not None:
            figures["kernel_lost"] = status.lost
            figures["kernel_backlog_now"] = status.backlog
            figures["kernel_backlog_limit_now"] = status.backlog_limit
        return figures

    def _status(self) -> str:
        """What systemctl shows of us, in one line."""
        figures = self.health.read()
        problems = [f"{name}: {why}" for name, why in self.health.problems().items() if why]
        if self._refused:
            problems.append(f"configuration refused: {self._refused}")
        live = (
            f"{figures['sessions_now']} sessions; {figures['records']} records, {figures['events_taken']} events; "
            f"{figures['output_bytes']} bytes written; {sum(self.health.errors.values())} errors"
        )
        return "; ".join([*problems, live])

    def _set_gauges(self) -> None:
        counters = self.health.counters
        feeds = [feed for feed in self.feeds if feed.opened]
        self.health.lag_ms = {feed.stream: feed.lag_ms(self._newest_ms(feed), wall_ms()) for feed in feeds}
        waiting = {feed.stream: feed.waiting_bytes() for feed in feeds}
        self.health.waiting_bytes = {stream: count for stream, count in waiting.items() if count >= 0}
        counters["output_pending_bytes_now"] = self.output.pending_bytes
        counters["checkpoint_age_ms_now"] = monotonic_ms() - self._saved_ms if self._lock_fd >= 0 else 0
        counters["audit_paused_now"] = int(self.core.audit_paused)

    def _look_at_audit_log(self) -> None:
        """For ``-audit-metrics``: when was audit.log last written."""
        age = self.health.audit_log
        if age is None or monotonic_ms() < self._look_due_ms:
            return
        self._look_due_ms = monotonic_ms() + self.config.audit_check.interval_ms
        try:
            modified_s = os.stat(os.path.join(self.config.inputs.audit_dir, "audit.log")).st_mtime
        except OSError as exc:
            self.health.errors["source"] += 1
            self.complaints.trouble("audit metrics", str(exc))
        else:
            self.complaints.over("audit metrics")
            age.look(modified_s, time.time())

    # -- the end

    def _catch_signals(self) -> None:
        """Python's own handlers: they also run between the tries of a system call that blocks, the loop's do not."""
        signal.signal(signal.SIGTERM, self._on_stop_signal)
        signal.signal(signal.SIGINT, self._on_stop_signal)
        signal.signal(signal.SIGHUP, self._on_hangup)
        signals.release()

    def _on_stop_signal(self, number: int, frame: FrameType | None) -> None:
        del frame
        if self._stop_signal:
            return
        self._stop_signal = number
        self._signal_ms = monotonic_ms()
        # Whatever happens from here on, a disk that hangs or a fault of ours: the process ends in time.
        guard = threading.Timer(EXIT_MS_MAX / 1000, os._exit, (0,))
        guard.daemon = True
        guard.start()
        if self._done is not None and not self._stopping:  # the loop may be closed already
            self._done.get_loop().call_soon_threadsafe(self.stop, signal.Signals(number).name)

    def _on_hangup(self, number: int, frame: FrameType | None) -> None:
        del number, frame
        if self._done is None:
            self._hung_up = True
        elif not self._stopping:
            self._done.get_loop().call_soon_threadsafe(self._reload)

    def _reload(self) -> None:
        """SIGHUP: read the configuration again, and open anew what we write to: somebody may have rotated it."""
        if self._stopping:
            return
        self.service.reloading(time.monotonic_ns() // 1000)
        try:
            self._take_up(self._read_config())
        # ValueError: a name from the file that no path can have. Whatever is wrong with it, the old one stays.
        except (AuditoError, OSError, ValueError) as exc:
            self.health.errors["config"] += 1
            self._refused = str(exc)
            log.error("the configuration is refused, the old one stays: %s", exc)
        else:
            self.health.counters["config_reloads"] += 1
            self._refused = ""
        log.info("reopening output and logs")
        self.output.reopen()
        if self.rejects is not None:
            self.rejects.close()
        self.service.reloaded()

    def _take_up(self, wanted: Config) -> None:
        """Make the configuration ours, between two turns, as far as a running daemon can."""
        old = self.config
        new, others = take_live(old, wanted)
        if new.output.reject_log and not self._hears_rejects:
            new = msgspec.structs.replace(new, output=old.output)
            others = (*others, "reject-log")
        self.config = new
        if others:
            log.warning("needs a restart, and stays as it is until then: %s", ", ".join(others))
        logging.getLogger().setLevel(LEVELS[new.daemon.log_level])
        self.core.adjust(core_settings(new.host, new.events, new.rules))
        self.settings = self.core.settings
        if new.output.reject_log != old.output.reject_log:
            if self.rejects is not None:
                self.rejects.flush()
                self.rejects.close()
            self.rejects = self._new_rejects()
        if new.audit_check != old.audit_check:
            self._start_audit_check()
        if new.http.address != old.http.address or not (new.http.metrics or new.http.healthz):
            self._close_http()
        elif self.http is not None:
            self.http.pages, self.http.timeout_ms = self._pages(), self._http_timeout_ms()

    def stop(self, why: str, exit_code: int = 0) -> None:
        """Begin to end: read what is there, write it, remember the rest."""
        if self._stopping or self._done is None:
            return
        log.log(logging.ERROR if exit_code else logging.INFO, "stopping: %s", why)
        self._stopping = True
        self._exit_code = exit_code
        self.service.stopping(why)
        for handle in (self._tick_handle, self._turn_handle):
            if handle is not None:
                handle.cancel()
        for feed in self.feeds:
            feed.unlisten()
        self._ending = asyncio.get_running_loop().create_task(self._finish())
        self._ending.add_done_callback(self._finished)

    def _is_late(self, limit_ms: int) -> bool:
        """Whether a signal came so long ago. At the end of the input, without one, there is no hurry."""
        return bool(self._stop_signal) and monotonic_ms() >= self._signal_ms + limit_ms

    async def _finish(self) -> None:
        """The order of shutdown. What is not resolved is read again after a restart, where it can be read again."""
        await self._drain()
        if self._must_flush():
            self.core.flush(audit_ended=self.audit.ended, sshd_ended=self.sshd.ended)
        self._write()
        while self.output.blocked and not self.output.ended and not self._is_late(STOP_MS_MAX):
            await asyncio.sleep(0.02)
        self.output.poll()  # what a reader that left had not read is kept, too
        left = self.output.pending_bytes
        saved = self._save(clean=True)
        if left:
            fate = "kept in the state" if saved else "they are lost"
            log.warning("the output did not take %d bytes of events: %s", left, fate)

    async def _drain(self) -> None:
        """Read what is there now, as the output takes it."""
        for feed in self.feeds:
            if feed.opened:
                feed.poll()
        while not self.output.ended and not self._is_late(DRAIN_MS_MAX):
            for feed in self.feeds:
                if feed.opened:
                    self._read(feed)
            if self.output.blocked:
                await asyncio.sleep(0.02)
            elif any(feed.opened and self._may_read(feed) for feed in self.feeds):
                await asyncio.sleep(0)
            else:
                return

    def _must_flush(self) -> bool:
        """Whether what the core holds has to be decided now: it cannot be read again."""
        return self._lock_fd < 0 or self.audit.ended or not self._is_kept(audit_source(self.config.inputs))

    def _finished(self, task: asyncio.Task[None]) -> None:
        if not task.cancelled() and task.exception() is not None:
            self._loop_failed(task.get_loop(), {"message": "while stopping", "exception": task.exception()})
        if self.http is not None:
            self.http.close()
        if self._done is not None and not self._done.done():
            self._done.set_result(self._exit_code)

    def close(self) -> None:
        """Give up every descriptor; safe after a failed open()."""
        if self.http is None and self.http_socket is not None:
            self.http_socket.close()
        self.kernel.close()
        for feed in self.feeds:
            feed.close()
        self.output.close()
        if self.rejects is not None:
            self.rejects.flush()
            self.rejects.close()
        if self._lock_fd >= 0:
            os.close(self._lock_fd)
            self._lock_fd = -1


def make_source(chosen: Input, stream: Stream, since_us: int | None = None, boot_id: str = "") -> Source:
    """The source that the configuration decided on. ``since_us``, ``boot_id``: as JournalSource has them."""
    path = Path(chosen.path)
    if chosen.kind == "directory":
        return DirectorySource(path)
    if chosen.kind == "pipe":
        return FifoSource(path, stream, chosen.format)
    if chosen.kind == "stdin":
        return StdinSource(stream, chosen.format)
    if chosen.kind == "file":
        return SyslogSource(path, since_us=since_us, line_format=chosen.format)
    return JournalSource(path if chosen.path else None, since_us=since_us, boot_id=boot_id)


def make_sink(config: Config, user: privileges.User | None) -> Sink:
    """The sink for the output's path. Errors: SinkError for what no waiting can turn into an output."""
    path = config.output.path
    if os.path.isdir(path):
        raise SinkError(f"output {path}: is a directory")
    return open_sink(path, uid=user.uid if user else -1, gid=user.gid if user else -1)


def create_for(path: str, user: privileges.User) -> None:
    """Make a missing file as ``user``'s own, who may have to open it again. Errors: none, the opening will tell."""
    flags = os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW | os.O_CLOEXEC
    try:
        fd = os.open(path, flags, LOG_MODE)
    except OSError:
        return
    try:
        os.fchmod(fd, LOG_MODE)
        os.fchown(fd, user.uid, user.gid)
    finally:
        os.close(fd)
