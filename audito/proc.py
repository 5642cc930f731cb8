"""What /proc says of a process that an audit record names: the container that it is in.

Live only. A record is of the past, and the process may be gone, or its pid another's by now: a process that started
after the record was made is not the one, and one that is gone tells nothing.
"""

from __future__ import annotations

import os
import re
import time

from msgspec import UNSET

from audito.events import Container

LOOKUPS_A_SECOND = 1_000
"""Of 25 µs each (three opens, two reads): 3 % of a CPU, whatever a fork bomb does. For the others none is told."""

CLOCK_SLACK_MS = 20
"""A record's stamp is up to a tick (10 ms with HZ=100) behind the clock, and so is a start time, rounded down."""

CGROUP_BYTES_MAX = 16_384
"""Of /proc/PID/cgroup that is read: v1 has a dozen lines."""

INITIAL_PID_NAMESPACE = 0xEFFFFFFC
"""Inode of the namespace whose pids audit records have. Source: PROC_PID_INIT_INO in the kernel's proc_ns.h."""

# The runtime's name stands before the id, or it is a directory of its own: docker-ID.scope, libpod-ID.scope, /ID,
# …slice:cri-containerd:ID. conmon, which watches over a container, has a scope named after it and is not in it.
_CONTAINER = re.compile(rb"(?<![0-9a-zA-Z])(?<!conmon-)([0-9a-f]{64})(?=\.scope|[/:\n]|\Z)")
_POD = re.compile(rb"[/-]pod([0-9a-f]{8}(?:[-_]?[0-9a-f]{4}){3}[-_]?[0-9a-f]{12})(?=\.slice|[/:\n]|\Z)")
_START_TIME = 19
"""Field 22 of /proc/PID/stat, counted from behind the name, in ticks since boot. Source: proc(5)."""


def has_the_kernels_pids() -> bool:
    """Whether pids here are those of audit records: in a pod without hostPID each is another process's."""
    try:
        return os.stat("/proc/self/ns/pid").st_ino == INITIAL_PID_NAMESPACE
    except OSError:
        return False


def container_of(cgroup: bytes) -> Container | None:
    """The container and pod that a /proc/PID/cgroup names, v1 or v2; the innermost where there are several."""
    containers = _CONTAINER.findall(cgroup)
    pods = _POD.findall(cgroup)
    if not containers and not pods:
        return None
    return Container(
        containers[-1].decode() if containers else UNSET,
        pods[-1].decode().replace("_", "-") if pods else UNSET,  # systemd's slices have `_` for `-`
    )


class Containers:
    """Looks up the containers of processes, at a bounded rate. ``root``: where proc is mounted."""

    def __init__(self, root: str = "/proc", lookups_a_second: int = LOOKUPS_A_SECOND) -> None:
        self._root = root
        self._limit = lookups_a_second
        self._second = 0
        self._left = 0
        self._tick_ms = 1000 / os.sysconf("SC_CLK_TCK")

    def find(self, pid: int, record_ms: int) -> Container | None:
        """The container of the process that had this pid at ``record_ms``, which was just now. Errors: none."""
        if not self._may_look():
            return None
        try:
            # All that is opened below this directory is of one process, also when its pid is another's by then.
            directory = os.open(f"{self._root}/{pid}", os.O_PATH | os.O_DIRECTORY | os.O_CLOEXEC)
        except OSError:
            return None
        try:
            if self._started_ms(directory) > record_ms + CLOCK_SLACK_MS:
                return None
            return container_of(_read(directory, "cgroup"))
        except (OSError, ValueError, IndexError):
            return None
        finally:
            os.close(directory)

    def _may_look(self) -> bool:
        second = time.monotonic_ns() // 1_000_000_000
        if second != self._second:
            self._second = second
            self._left = self._limit
        self._left -= 1
        return self._left >= 0

    def _started_ms(self, directory: int) -> float:
        """Wall clock of a process's start. Errors: OSError; ValueError or IndexError, no such file of the kernel's."""
        stat = _read(directory, "stat")
        ticks = int(stat[stat.rindex(b")") + 1 :].split()[_START_TIME])
        boot_ms = (time.time_ns() - time.clock_gettime_ns(time.CLOCK_BOOTTIME)) / 1_000_000
        return boot_ms + ticks * self._tick_ms


def _read(directory: int, name: str) -> bytes:
    file = os.open(name, os.O_RDONLY | os.O_CLOEXEC, dir_fd=directory)
    try:
        return os.read(file, CGROUP_BYTES_MAX)
    finally:
        os.close(file)
