"""The system's modules as the simulated kernel has them, and their place in audito's modules.

audito meets the world in ``os``, ``select``, ``fcntl``, ``time``, ``signal``, ``threading`` and the event loop. These
names are bound anew in its modules while a simulation runs; a function that is not here raises AttributeError, so
nothing goes past the simulated kernel unseen.
"""

from __future__ import annotations

import asyncio
import contextlib
import errno
import fcntl as real_fcntl
import importlib
import os as real_os
import select as real_select
import signal as real_signal
import stat
import termios
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from types import SimpleNamespace
from typing import Any

from tests.sim.journal import Journal
from tests.sim.kernel import Epoll, Exited, Inotify, Kernel, Killed, Opened, Poll, Scan, Status, failure, names_in

PACKAGE = Path(__file__).parent.parent.parent / "audito"
CONSTANTS = {
    name: getattr(real_os, name)
    for name in dir(real_os)
    if name.startswith(("O_", "F_", "stat_result", "DirEntry", "fsencode", "fspath", "strerror"))
}


class Os:
    """The module os of the process."""

    def __init__(self, kernel: Kernel) -> None:
        vars(self).update(CONSTANTS)
        self._kernel = kernel
        self.path = SimpleNamespace(
            abspath=real_os.path.abspath, join=real_os.path.join, dirname=real_os.path.dirname, isdir=self._is_dir
        )

    def __getattr__(self, name: str) -> Any:
        raise AttributeError(f"the simulated kernel has no os.{name}")

    def _is_dir(self, path: object) -> bool:
        try:
            return stat.S_ISDIR(self.stat(path).st_mode)
        except OSError:
            return False

    def _path(self, path: Any, dir_fd: int | None = None) -> str:
        text: str = real_os.fspath(path)
        return text if dir_fd is None else f"{self._kernel.get(dir_fd).path}/{text}"

    # -- names

    def stat(self, path: Any, *, dir_fd: int | None = None, follow_symlinks: bool = True) -> Status:
        del follow_symlinks  # there are no links here
        full = self._path(path, dir_fd)
        self._kernel.enter("stat", full)
        return self._kernel.node(full).status()

    def lstat(self, path: Any) -> Status:
        return self.stat(path)

    def open(self, path: Any, flags: int, mode: int = 0o777, *, dir_fd: int | None = None) -> int:
        kernel, full = self._kernel, self._path(path, dir_fd)
        kernel.enter("open", full)
        if kernel.exists(full):
            node = kernel.node(full)
            if flags & real_os.O_EXCL:
                raise failure(errno.EEXIST, full)
        elif flags & real_os.O_CREAT:
            if kernel.room.get(full.rpartition("/")[0], 1) <= 0:
                raise failure(errno.ENOSPC, full)
            node = kernel.put(full, stat.S_IFREG | mode)
        else:
            raise failure(errno.ENOENT, full)
        opened = Opened(node, flags, full)
        if node.is_pipe:
            if opened.writes and not opened.reads and not node.readers:
                raise failure(errno.ENXIO, full)
            node.readers += opened.reads
            node.writers += opened.writes
        return kernel.add(opened)

    def unlink(self, path: Any, *, dir_fd: int | None = None) -> None:
        full = self._path(path, dir_fd)
        self._kernel.enter("unlink", full)
        self._kernel.remove(full)

    def rename(self, old: Any, new: Any, *, src_dir_fd: int | None = None, dst_dir_fd: int | None = None) -> None:
        source, target = self._path(old, src_dir_fd), self._path(new, dst_dir_fd)
        self._kernel.enter("rename", source)
        self._kernel.rename(source, target)

    def makedirs(self, path: Any, mode: int = 0o777, *, exist_ok: bool = False) -> None:
        del mode, exist_ok
        self._kernel.enter("mkdir", path)
        self._kernel.make_dir(path)

    def listdir(self, directory: Any) -> list[str]:
        path = self._kernel.get(directory).path if isinstance(directory, int) else self._path(directory)
        self._kernel.enter("getdents", path)
        return list(names_in(self._kernel.node(path)))

    def scandir(self, directory: Any) -> Scan:
        path = self._path(directory)
        self._kernel.enter("getdents", path)
        return Scan(self._kernel.node(path))

    # -- descriptors

    def _enter(self, call: str, fd: int) -> Opened:
        opened = self._kernel.files.get(fd)
        self._kernel.enter(call, opened.path if opened is not None else "")
        return self._kernel.get(fd)

    def close(self, fd: int) -> None:
        self._enter("close", fd)
        self._kernel.close(fd)

    def dup(self, fd: int) -> int:
        opened = self._enter("dup", fd)
        opened.uses += 1
        return self._kernel.add(opened)

    def fstat(self, fd: int) -> Status:
        node = self._enter("fstat", fd).node
        assert node is not None
        return node.status()

    def pread(self, fd: int, size: int, offset: int) -> bytes:
        node = self._enter("read", fd).node
        assert node is not None
        return bytes(node.data[offset : offset + size])

    def preadv(self, fd: int, buffers: list[memoryview], offset: int) -> int:
        kernel = self._kernel
        node = self._enter("read", fd).node
        assert node is not None
        data = node.data[offset : offset + len(buffers[0])]
        data = data[: kernel.short(len(data))] if data else data
        buffers[0][: len(data)] = data
        return len(data)

    def readv(self, fd: int, buffers: list[memoryview]) -> int:
        opened = self._enter("read", fd)
        node = opened.node
        assert node is not None
        assert node.is_pipe
        if not node.data:
            if node.writers:
                raise BlockingIOError(errno.EAGAIN, real_os.strerror(errno.EAGAIN))
            return 0
        size = self._kernel.short(min(len(node.data), len(buffers[0])))
        buffers[0][:size] = node.data[:size]
        del node.data[:size]
        return size

    def read(self, fd: int, size: int) -> bytes:
        del size
        self._enter("read", fd)
        for inotify in self._kernel.inotifies:
            if inotify.get_fd() == fd:
                if not inotify.pending:
                    raise BlockingIOError(errno.EAGAIN, real_os.strerror(errno.EAGAIN))
                inotify.pending = False
                return b"event"
        raise failure(errno.EINVAL)

    def write(self, fd: int, data: Any) -> int:
        opened = self._enter("write", fd)
        return self._kernel.write_file(opened, memoryview(data))

    def pwrite(self, fd: int, data: Any, offset: int) -> int:
        opened = self._enter("write", fd)
        if opened.flags & real_os.O_APPEND:
            return self._kernel.write_file(opened, memoryview(data))  # as Linux has it
        node = opened.node
        assert node is not None
        size = max(self._kernel.short(len(data)), 1)
        node.data[offset : offset + size] = data[:size]
        self._kernel.changed(node)
        return size

    def ftruncate(self, fd: int, size: int) -> None:
        node = self._enter("ftruncate", fd).node
        assert node is not None
        del node.data[size:]
        node.synced = min(node.synced, size)
        self._kernel.changed(node)

    def fsync(self, fd: int) -> None:
        node = self._enter("fsync", fd).node
        assert node is not None
        self._kernel.synced(node)

    fdatasync = fsync

    def fchmod(self, fd: int, mode: int) -> None:
        node = self._enter("fchmod", fd).node
        assert node is not None
        node.mode = stat.S_IFMT(node.mode) | mode

    def fchown(self, fd: int, uid: int, gid: int) -> None:
        del uid, gid
        self._enter("fchown", fd)

    def set_blocking(self, fd: int, blocking: bool) -> None:
        assert not blocking
        self._enter("fcntl", fd)

    # -- the process

    def geteuid(self) -> int:
        return 0

    def umask(self, mask: int) -> int:
        return mask

    def _exit(self, code: int) -> None:
        self._kernel.note(f"exit {code}")
        self._kernel.exit_code = code
        self._kernel.end()
        raise Exited(code)


class Fcntl:
    """The module fcntl: pipe sizes, the lock of the state directory, what is in a pipe."""

    LOCK_EX, LOCK_NB = real_fcntl.LOCK_EX, real_fcntl.LOCK_NB
    F_GETPIPE_SZ, F_SETPIPE_SZ = real_fcntl.F_GETPIPE_SZ, real_fcntl.F_SETPIPE_SZ
    F_SETFD, FD_CLOEXEC = real_fcntl.F_SETFD, real_fcntl.FD_CLOEXEC
    F_GETFL, F_SETFL = real_fcntl.F_GETFL, real_fcntl.F_SETFL

    def __init__(self, kernel: Kernel) -> None:
        self._kernel = kernel

    def fcntl(self, fd: int, command: int, argument: int = 0) -> int:
        opened = self._kernel.get(fd)
        self._kernel.enter("fcntl", opened.path)
        if command == self.F_GETFL:
            return opened.flags
        if command == self.F_SETFL:
            opened.flags = argument
        if opened.node is not None and command == self.F_SETPIPE_SZ:
            opened.node.capacity = argument
        return opened.node.capacity if opened.node is not None and command == self.F_GETPIPE_SZ else 0

    def flock(self, fd: int, operation: int) -> None:
        del operation
        opened = self._kernel.get(fd)
        self._kernel.enter("flock", opened.path)
        assert opened.node is not None
        if opened.node.locked:
            raise BlockingIOError(errno.EWOULDBLOCK, real_os.strerror(errno.EWOULDBLOCK))
        opened.node.locked = True

    def ioctl(self, fd: int, request: int, argument: Any) -> int:
        assert request == termios.FIONREAD
        opened = self._kernel.get(fd)
        self._kernel.enter("ioctl", opened.path)
        assert opened.node is not None
        argument[0] = len(opened.node.data)
        return 0


class Select:
    """The module select."""

    EPOLLIN, EPOLLOUT, POLLOUT, POLLIN = 1, 4, 4, 1
    POLLERR, PIPE_BUF = 8, real_select.PIPE_BUF

    def __init__(self, kernel: Kernel) -> None:
        self.epoll: Callable[[], Epoll] = lambda: Epoll(kernel)
        self.poll: Callable[[], Poll] = lambda: Poll(kernel)


class Clocks:
    """The module time."""

    CLOCK_BOOTTIME = time.CLOCK_BOOTTIME

    def __init__(self, kernel: Kernel) -> None:
        self._kernel = kernel

    def time_ns(self) -> int:
        return self._kernel.wall_ns()

    def time(self) -> float:
        return self._kernel.wall_ns() / 1e9

    def monotonic_ns(self) -> int:
        return (self._kernel.now_us - self._kernel.booted_us) * 1000

    def clock_gettime_ns(self, clock: int) -> int:
        """Of CLOCK_BOOTTIME, the one that is asked for: nobody sets it."""
        if clock != self.CLOCK_BOOTTIME:
            raise AttributeError(f"clock {clock} is not simulated")
        return self.monotonic_ns()


class Timer:
    """threading.Timer: it runs between two calls of the process, and not beside it."""

    def __init__(self, kernel: Kernel, delay_s: float, call: Callable[..., object], args: tuple[object, ...]) -> None:
        self._kernel, self._delay_us = kernel, int(delay_s * 1e6)
        self._call, self._args = call, args
        self.daemon = False

    def start(self) -> None:
        self._kernel.timers.append((self._kernel.now_us + self._delay_us, self._call, self._args))


class File:
    """open(fd, "rb") of a regular file; owns the descriptor."""

    def __init__(self, system: Os, fd: int) -> None:
        self._system, self._fd, self._offset = system, fd, 0

    def read(self, size: int) -> bytes:
        data = self._system.pread(self._fd, size, self._offset)
        self._offset += len(data)
        return data

    def __enter__(self) -> File:
        return self

    def __exit__(self, *details: object) -> None:
        self._system.close(self._fd)


class Loop(asyncio.BaseEventLoop):
    """asyncio's loop on the simulated clock and descriptors. ``idle``: lets the world go on until a time at most.

    ``nap_us``: for how long the process gets no CPU when it has nothing to do, whatever timer is due.
    """

    def __init__(self, kernel: Kernel, idle: Callable[[int], None], nap_us: Callable[[], int]) -> None:
        super().__init__()
        self._kernel = kernel
        self._idle = idle
        self._nap_us = nap_us
        self._readers: dict[int, asyncio.Handle] = {}
        self._selector = self
        self._clock_resolution = 1e-6

    def time(self) -> float:
        return self._kernel.now_us / 1e6

    def add_reader(self, fd: int, callback: Callable[..., Any], *args: Any) -> None:  # type: ignore[override]
        self._readers[fd] = asyncio.Handle(callback, args, self)

    def remove_reader(self, fd: int) -> bool:  # type: ignore[override]
        return self._readers.pop(fd, None) is not None

    def select(self, timeout_s: float | None) -> list[asyncio.Handle]:
        """As a selector's: what is ready, waited for up to a time."""
        kernel = self._kernel
        if kernel.dead:
            raise Killed
        timeout_us = 60_000_000 if timeout_s is None else int(timeout_s * 1e6) + 1
        end_us = kernel.now_us + (max(timeout_us, self._nap_us()) if timeout_us > 1 else timeout_us)
        kernel.now_us += 1
        while True:
            if kernel.now_us >= kernel.wake_us:
                kernel.around()
            if kernel.kill_due:
                kernel.die()
            before = len(self._ready)
            kernel.deliver()
            ready = [handle for fd, handle in self._readers.items() if kernel.is_ready(fd, 1)]
            if ready or kernel.now_us >= end_us or len(self._ready) > before:
                return ready
            self._idle(end_us)

    def _process_events(self, event_list: list[asyncio.Handle]) -> None:
        self._ready.extend(event_list)

    def _write_to_self(self) -> None:
        pass


MODULES = (
    *("daemon", "watch", "feed", "output", "checkpoint", "netlink"),
    *(f"{room}.{path.stem}" for room in ("sinks", "sources") for path in sorted((PACKAGE / room).glob("[a-z]*.py"))),
)
"""What runs in a simulation and meets the world."""


def bindings(
    kernel: Kernel, journal: Journal, run: Callable[..., int], make: Callable[..., Any]
) -> dict[str, dict[str, Any]]:
    """What each module's names mean while the simulation runs."""
    system, clocks, fcntl, select = Os(kernel), Clocks(kernel), Fcntl(kernel), Select(kernel)
    threading = SimpleNamespace(Timer=lambda delay_s, call, args: Timer(kernel, delay_s, call, args))
    signals = SimpleNamespace(
        **{name: getattr(real_signal, name) for name in ("SIGTERM", "SIGINT", "SIGHUP", "Signals")}
    )
    signals.signal = kernel.handlers.__setitem__
    library = SimpleNamespace(
        WatchManager=lambda: Inotify(kernel), PyinotifyError=type("PyinotifyError", (Exception,), {}),
        IN_CREATE=1, IN_MOVED_TO=2, IN_MOVED_FROM=4, IN_DELETE=8, IN_ONLYDIR=16, IN_MODIFY=32,
    )  # fmt: skip
    special: dict[str, dict[str, Any]] = {
        "daemon": {"Daemon": make, "signal": signals, "threading": threading, "uvloop": SimpleNamespace(run=run),
                   "gc": SimpleNamespace(freeze=lambda: None, set_threshold=lambda count: None),
                   "proc": SimpleNamespace(has_the_kernels_pids=lambda: False)},
        "checkpoint": {"open": lambda fd, mode: File(system, fd)},
        "sources.inotify": {"_import_pyinotify": lambda: library},
        "sources.journal": {"_import_reader": lambda: journal.reader,
                            "journal_available": lambda directory=None: True},
    }  # fmt: skip
    simulated = {"os": system, "time": clocks, "fcntl": fcntl, "select": select}
    found = {}
    for name in MODULES:
        module = importlib.import_module(f"audito.{name}")
        found[name] = {key: value for key, value in simulated.items() if key in vars(module)} | special.get(name, {})
    return found


@contextlib.contextmanager
def installed(kernel: Kernel, journal: Journal, run: Callable[..., int], make: Callable[..., Any]) -> Iterator[None]:
    """audito's modules run on this kernel; ``run``: in place of uvloop's; ``make``: of the class Daemon."""
    missing = object()
    before: list[tuple[Any, str, Any]] = []
    try:
        for name, names in bindings(kernel, journal, run, make).items():
            module = importlib.import_module(f"audito.{name}")
            for attribute, value in names.items():
                before.append((module, attribute, vars(module).get(attribute, missing)))
                setattr(module, attribute, value)
        yield
    finally:
        for module, attribute, value in reversed(before):
            if value is missing:
                delattr(module, attribute)
            else:
                setattr(module, attribute, value)
