"""A kernel with one process that can be killed: files, named pipes, descriptors, epoll, inotify, and two clocks.

Only what audito asks of a kernel, as Linux does it. Each system call of the process comes through enter(): there time
passes, the world around goes on, faults strike and signals arrive. The world itself uses the methods of Disk and Pipe.
"""

from __future__ import annotations

import errno
import os
import stat
import zlib
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass, field

CALL_US = 9
"""What a system call takes."""

PIPE_BYTES = 65_536
PAGE_BYTES = 4_096
DEVICE = 42


class Killed(SystemExit):
    """The process is dead: SystemExit, so that no handler of asyncio keeps it."""


class Exited(SystemExit):
    """The process ended itself with os._exit."""


def failure(number: int, path: object = None) -> OSError:
    """An OSError as the system's own functions raise it."""
    return OSError(number, os.strerror(number), path)


@dataclass(slots=True)
class Status:
    """What stat(2) tells."""

    st_mode: int
    st_ino: int
    st_size: int
    st_mtime_ns: int
    st_nlink: int = 1
    st_dev: int = DEVICE
    st_uid: int = 0
    st_gid: int = 0

    @property
    def st_mtime(self) -> float:
        return self.st_mtime_ns / 1e9


@dataclass(slots=True, eq=False)
class Node:
    """A file, directory or named pipe. ``synced``: of a file's bytes, how many a power cut leaves.

    ``volatile``: a directory in which it may undo what happened to names since the last sync.
    """

    mode: int
    ino: int
    data: bytearray = field(default_factory=bytearray)
    entries: dict[str, Node] = field(default_factory=dict)
    names: int = 1
    mtime_ns: int = 0
    synced: int = 0
    readers: int = 0
    writers: int = 0
    capacity: int = PIPE_BYTES
    locked: bool = False
    volatile: bool = False

    @property
    def is_pipe(self) -> bool:
        return stat.S_ISFIFO(self.mode)

    def status(self) -> Status:
        size = 0 if self.is_pipe else len(self.data)
        return Status(self.mode, self.ino, size, self.mtime_ns, self.names)


@dataclass(slots=True, eq=False)
class Opened:
    """An open file description. ``ready``: for descriptors that are no files: which poll events hold."""

    node: Node | None
    flags: int = 0
    path: str = ""
    ready: Callable[[], bool] | None = None
    uses: int = 1
    offset: int = 0

    @property
    def reads(self) -> bool:
        return self.flags & os.O_ACCMODE in (os.O_RDONLY, os.O_RDWR)

    @property
    def writes(self) -> bool:
        return self.flags & os.O_ACCMODE in (os.O_WRONLY, os.O_RDWR)


@dataclass(slots=True)
class Fault:
    """The next ``count`` calls of this name on paths below ``where`` fail, or take ``delay_us`` more."""

    call: str
    where: str
    number: int
    count: int
    delay_us: int = 0


class Kernel:
    """Directories, descriptors of the process, clocks, faults.

    ``around``: lets the world go on, at each call from ``wake_us`` on.
    """

    def __init__(self, start_ms: int) -> None:
        self.now_us = 1_000_000_000
        self.wall_us = start_ms * 1000 - self.now_us  # what the wall clock is ahead of the monotonic one
        self.calls = 0
        self.log: list[str] | None = None
        self.around: Callable[[], None] = lambda: None
        self.wake_us = 0
        self.short: Callable[[int], int] = lambda size: size
        self.room: dict[str, int] = {}
        self.faults: list[Fault] = []
        self.files: dict[int, Opened] = {}
        self.dead = True
        self.kill_due = False
        self.power_off = False  # no call takes any more time
        self.exit_code: int | None = None
        self.handlers: dict[int, Callable[[int, None], None]] = {}
        self.signals: list[int] = []
        self.timers: list[tuple[int, Callable[..., object], tuple[object, ...]]] = []
        self.inotifies: list[Inotify] = []
        self.booted_us = 0
        self._undo: list[tuple[Node, Callable[[], None]]] = []  # what happened to names and is not durable yet
        self._notes: list[str] = []
        self._ino = 100
        self._free_inos: list[int] = []
        self._dirs = {"/": self.new_node(stat.S_IFDIR | 0o755)}

    # -- the world's side

    def new_node(self, mode: int) -> Node:
        """A node; inodes are used again, as ext4 and tmpfs do."""
        if self._free_inos:
            return Node(mode, self._free_inos.pop(), mtime_ns=self.wall_ns())
        self._ino += 1
        return Node(mode, self._ino, mtime_ns=self.wall_ns())

    def wall_ns(self) -> int:
        return (self.now_us + self.wall_us) * 1000

    def make_dir(self, path: str) -> None:
        """With all above it."""
        for at in range(1, len(path) + 1):
            if (at == len(path) or path[at] == "/") and path[:at] not in self._dirs:
                node = self.new_node(stat.S_IFDIR | 0o755)
                self._dirs[path[:at]] = node
                parent, _, name = path[:at].rpartition("/")
                self._dirs[parent or "/"].entries[name] = node

    def place(self, path: str) -> tuple[Node, str]:
        """Directory and name of a path. Errors: ENOENT."""
        parent, _, name = path.rpartition("/")
        try:
            return self._dirs[parent or "/"], name
        except KeyError:
            raise failure(errno.ENOENT, path) from None

    def node(self, path: str) -> Node:
        """Errors: ENOENT."""
        if path in self._dirs:
            return self._dirs[path]
        directory, name = self.place(path)
        try:
            return directory.entries[name]
        except KeyError:
            raise failure(errno.ENOENT, path) from None

    def exists(self, path: str) -> bool:
        try:
            self.node(path)
        except OSError:
            return False
        return True

    def put(self, path: str, mode: int = stat.S_IFREG | 0o640) -> Node:
        """A new, empty file or pipe of this name."""
        directory, name = self.place(path)
        old = directory.entries.pop(name, None)
        if old is not None:
            self.forget(old)
        directory.entries[name] = node = self.new_node(mode)
        self._note_names(directory, {name: old})
        self.changed(directory)
        return node

    def remove(self, path: str) -> None:
        directory, name = self.place(path)
        try:
            node = directory.entries.pop(name)
        except KeyError:
            raise failure(errno.ENOENT, path) from None
        self._note_names(directory, {name: node})
        self.forget(node)
        self.changed(directory)

    def rename(self, old: str, new: str) -> None:
        source, name = self.place(old)
        target, new_name = self.place(new)
        if name not in source.entries:
            raise failure(errno.ENOENT, old)
        node = source.entries.pop(name)
        replaced = target.entries.get(new_name)
        target.entries[new_name] = node
        if source is target:
            self._note_names(source, {new_name: replaced, name: node})
        if replaced is not None:
            self.forget(replaced)
        self.changed(source)

    def _note_names(self, directory: Node, before: dict[str, Node | None]) -> None:
        """Names of a directory changed. ``before``: what they were."""
        if not directory.volatile:
            return

        def undo() -> None:
            for name, node in before.items():
                now = directory.entries.pop(name, None)
                if node is not None:
                    directory.entries[name] = node
                    if node.ino in self._free_inos:  # it had no name left
                        self._free_inos.remove(node.ino)
                    elif node.names <= 0:  # its inode is another's by now
                        self._ino += 1
                        node.ino = self._ino
                if now is not None and now not in directory.entries.values():
                    now.names = 0
                    self.release(now)
            for node in directory.entries.values():
                node.names = 1

        self._undo.append((directory, undo))

    def synced(self, node: Node) -> None:
        """fsync(2): the bytes of a file, or the names of a directory, are durable."""
        node.synced = len(node.data)
        self._undo = [(directory, undo) for directory, undo in self._undo if directory is not node]

    def cut_power(self, keep: Callable[[int], int]) -> None:
        """What was not synced is lost, in part. ``keep``: how many of so many last for ever, of names and of bytes.

        Names change in the order in which they were changed; each file loses an end of its own, or has zeros there.
        """
        self.end()
        for _, undo in self._undo[keep(len(self._undo)) :][::-1]:
            undo()
        self._undo.clear()
        for directory in self._dirs.values():
            for node in directory.entries.values() if directory.volatile else ():
                lost = len(node.data) - node.synced
                if lost > 0:
                    kept = node.synced + keep(lost)
                    zeros = bytes(len(node.data) - kept) if keep(3) == 1 else b""
                    node.data[kept:] = zeros
                node.synced = len(node.data)
        self.booted_us = self.now_us

    def forget(self, node: Node) -> None:
        """A name of it is gone; its inode is free when nobody has it open."""
        node.names -= 1
        self.release(node)

    def release(self, node: Node) -> None:
        is_open = any(opened.node is node for opened in self.files.values())
        if node.names <= 0 and not is_open and node.ino not in self._free_inos:
            self._free_inos.append(node.ino)

    def append(self, node: Node, data: bytes) -> None:
        node.data += data
        node.mtime_ns = self.wall_ns()
        self.changed(node)

    def changed(self, node: Node) -> None:
        for inotify in self.inotifies:
            inotify.note(node)

    @property
    def digest(self) -> int:
        """Of all that was noted."""
        return zlib.crc32("".join(self._notes).encode())

    def note(self, text: str) -> None:
        """One line of the trace."""
        self._notes.append(text)
        if self.log is not None:
            self.log.append(f"{self.now_us / 1e6 - 1000:10.6f} {text}")

    # -- the process's side

    def begin(self) -> None:
        """A process starts."""
        self.dead = self.kill_due = self.power_off = False
        self.exit_code = None
        self.files = {}
        self.handlers.clear()
        self.signals.clear()
        self.timers.clear()

    def end(self) -> None:
        """The process is gone, and all that it had open."""
        self.dead = True
        for number in list(self.files):
            self._close(number)
        self.inotifies.clear()
        self.timers.clear()

    def enter(self, call: str, path: str = "") -> None:
        """A system call begins. Errors: Killed, Exited, and the OSError of a fault."""
        if self.dead:
            raise Killed
        self.calls += 1
        self.now_us += CALL_US
        self.note(f"{call} {path}")
        if self.now_us >= self.wake_us:
            self.around()
        if self.kill_due and call != "write":
            self.die()
        if self.signals or self.timers:
            self.deliver()
        if self.faults and not self.power_off:
            self._strike(call, path)

    def die(self) -> None:
        """SIGKILL. Errors: Killed."""
        self.note("killed")
        self.end()
        raise Killed

    def deliver(self) -> None:
        """Signals that came and timers that are due run now, between two calls. Errors: Exited."""
        while self.signals:
            number = self.signals.pop(0)
            handler = self.handlers.get(number)
            if handler is None:
                self.die()
            else:
                handler(number, None)
        for timer in [timer for timer in self.timers if timer[0] <= self.now_us]:
            self.timers.remove(timer)
            timer[1](*timer[2])

    def _strike(self, call: str, path: str) -> None:
        for fault in self.faults:
            if fault.call == call and path.startswith(fault.where):
                fault.count -= 1
                if fault.count <= 0:
                    self.faults.remove(fault)
                self.note(f"fault {call} {path} {fault.number}")
                self.now_us += fault.delay_us
                if fault.delay_us:
                    self.around()
                    self.deliver()
                if fault.number:
                    raise failure(fault.number, path)
                return

    def add(self, opened: Opened) -> int:
        """The lowest free descriptor."""
        number = 3
        while number in self.files:
            number += 1
        self.files[number] = opened
        return number

    def get(self, number: int) -> Opened:
        if self.dead:
            raise Killed
        try:
            return self.files[number]
        except KeyError:
            raise failure(errno.EBADF) from None

    def close(self, number: int) -> None:
        self.get(number)
        self._close(number)

    def _close(self, number: int) -> None:
        opened = self.files.pop(number)
        opened.uses -= 1
        node = opened.node
        if opened.uses or node is None:
            return
        if node.is_pipe:
            node.readers -= opened.reads
            node.writers -= opened.writes
            if not node.readers and not node.writers:
                node.data.clear()
        elif opened.path.endswith("/lock"):
            node.locked = False
        self.release(node)

    def is_ready(self, number: int, events: int) -> int:
        """Which of the poll events hold of a descriptor; 8 is POLLERR."""
        opened = self.files.get(number)
        if opened is None:
            return 0
        if opened.ready is not None:
            return events & 1 if opened.ready() else 0
        node = opened.node
        assert node is not None
        if not node.is_pipe:
            return events
        ready = 0
        if opened.reads and node.data:
            ready |= 1
        if opened.writes:
            if not node.readers:
                ready |= 4 | 8
            elif node.capacity - len(node.data) >= PAGE_BYTES:
                ready |= 4
        return ready & (events | 8)

    def write_file(self, opened: Opened, data: memoryview) -> int:
        """write(2) to a file or pipe; what fits. Errors: OSError; Killed, after a part was written."""
        node = opened.node
        assert node is not None
        size = len(data)
        if node.is_pipe:
            size = self._pipe_room(node, size)
        else:
            size = min(size, self._disk_room(opened.path))
            if not size and len(data):
                raise failure(errno.ENOSPC, opened.path)
        size = max(self.short(size), 1)
        if self.kill_due:
            self._store(opened, data[: self.short(size)])
            self.die()
        self._store(opened, data[:size])
        return size

    def _store(self, opened: Opened, data: memoryview) -> None:
        node = opened.node
        assert node is not None
        for where in self.room:
            if opened.path.startswith(where):
                self.room[where] -= len(data)
        self.append(node, bytes(data))
        self.note(f"stored {len(data)} {zlib.crc32(data)}")

    def _pipe_room(self, node: Node, size: int) -> int:
        """Errors: EPIPE, EAGAIN. A write of at most PIPE_BUF bytes is whole or not at all (pipe(7))."""
        if not node.readers:
            raise failure(errno.EPIPE)
        room = node.capacity - len(node.data)
        if room <= 0 or (size <= PAGE_BYTES and room < size):
            raise failure(errno.EAGAIN)
        return min(size, room)

    def _disk_room(self, path: str) -> int:
        return min((left for where, left in self.room.items() if path.startswith(where)), default=1 << 60)


class Epoll:
    """select.epoll, level triggered; a closed descriptor leaves it by itself."""

    def __init__(self, kernel: Kernel) -> None:
        self._kernel = kernel
        self._watched: dict[int, tuple[Opened, int]] = {}
        self._number = kernel.add(Opened(None, ready=self.is_ready))

    def is_ready(self) -> bool:
        for number, (opened, events) in list(self._watched.items()):
            if self._kernel.files.get(number) is not opened:
                del self._watched[number]
            elif self._kernel.is_ready(number, events):
                return True
        return False

    def register(self, number: int, events: int) -> None:
        opened = self._kernel.get(number)
        if opened.node is not None and not opened.node.is_pipe:
            raise failure(errno.EPERM)
        watched = self._watched.get(number)
        if watched is not None and watched[0] is opened:
            raise FileExistsError(errno.EEXIST, os.strerror(errno.EEXIST))
        self._watched[number] = opened, events

    def unregister(self, number: int) -> None:
        if self._watched.pop(number, None) is None:
            raise failure(errno.ENOENT)

    def fileno(self) -> int:
        return self._number

    def close(self) -> None:
        if self._number >= 0 and self._kernel.files.get(self._number) is not None:
            self._kernel.close(self._number)
        self._number = -1


class Poll:
    """select.poll, which never waits here."""

    def __init__(self, kernel: Kernel) -> None:
        self._kernel = kernel
        self._watched: dict[int, int] = {}

    def register(self, number: int, events: int) -> None:
        self._watched[number] = events

    def poll(self, timeout_ms: int) -> list[tuple[int, int]]:
        assert timeout_ms == 0
        found = ((number, self._kernel.is_ready(number, events)) for number, events in self._watched.items())
        return [(number, ready) for number, ready in found if ready]


class Inotify:
    """pyinotify.WatchManager. ``kernel.deaf``-ness is a fault of its own: see Kernel.faults, call "inotify"."""

    def __init__(self, kernel: Kernel) -> None:
        kernel.enter("inotify_init")
        self._kernel = kernel
        self._nodes: dict[int, Node] = {}
        self._next = 0
        self.watches: dict[int, object] = {}
        self.pending = False
        self._number = kernel.add(Opened(None, ready=lambda: self.pending))
        kernel.inotifies.append(self)

    def get_fd(self) -> int:
        return self._number

    def note(self, node: Node) -> None:
        if any(watched is node for watched in self._nodes.values()):
            deaf = next((fault for fault in self._kernel.faults if fault.call == "inotify"), None)
            if deaf is None:
                self.pending = True
                return
            deaf.count -= 1
            if deaf.count <= 0:
                self._kernel.faults.remove(deaf)

    def add_watch(self, path: str, mask: int, *, quiet: bool) -> dict[str, int]:
        del mask, quiet
        self._kernel.enter("inotify_add_watch", path)
        if path.startswith("/proc/self/fd/"):
            node = self._kernel.get(int(path.rpartition("/")[2])).node
            assert node is not None
        else:
            node = self._kernel.node(path)
        self._next += 1
        self._nodes[self._next] = node
        self.watches[self._next] = None
        return {path: self._next}

    def rm_watch(self, watch: int, *, quiet: bool) -> None:
        del quiet
        self._kernel.enter("inotify_rm_watch")
        self._nodes.pop(watch, None)

    def close(self) -> None:
        self._kernel.close(self._number)
        if self in self._kernel.inotifies:
            self._kernel.inotifies.remove(self)


def names_in(node: Node) -> Iterable[str]:
    """In an order that is no order, as the kernel's is none, and the same each time."""
    return sorted(node.entries, key=lambda name: zlib.crc32(name.encode()))


class ScanEntry:
    """os.DirEntry: what the listing knew."""

    def __init__(self, name: str, node: Node) -> None:
        self.name = name
        self._node = node

    def is_file(self, *, follow_symlinks: bool) -> bool:
        del follow_symlinks
        return stat.S_ISREG(self._node.mode)


class Scan:
    """os.scandir."""

    def __init__(self, node: Node) -> None:
        self._entries = [ScanEntry(name, node.entries[name]) for name in names_in(node)]

    def __enter__(self) -> Iterator[ScanEntry]:
        return iter(self._entries)

    def __exit__(self, *details: object) -> None:
        pass
