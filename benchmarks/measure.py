"""What all benches share: the machine they ran on, medians, and processes that are watched while they run."""

from __future__ import annotations

import mmap
import os
import platform
import shutil
import statistics
import subprocess
import sys
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent


class WrongOutputError(Exception):
    """What ran did not write what it must: no figure of it may be printed."""


def require(holds: bool, message: str) -> None:
    """WrongOutputError unless this holds."""
    if not holds:
        raise WrongOutputError(message)


# ------------------------------------------------------------------------------------------ the machine


def package_version(name: str) -> str:
    """The version of an installed Python package, "" without it."""
    try:
        return version(name)
    except PackageNotFoundError:
        return ""


def program_version(*command: str) -> str:
    """The first line that a program says of its version, "" where it cannot be run."""
    try:
        done = subprocess.run(command, capture_output=True, text=True, check=False)
    except OSError:
        return ""
    return (done.stdout or done.stderr).partition("\n")[0].strip()


def toolchain() -> dict[str, str]:
    """What instruction counts depend on."""
    return {
        "machine": platform.machine(),
        "python": f"{platform.python_implementation()} {platform.python_version()} ({platform.python_compiler()})",
        "libc": " ".join(platform.libc_ver()),
        "cc": program_version(os.environ.get("CC", "cc"), "--version"),
        "cython": package_version("cython"),
        "msgspec": package_version("msgspec"),
        "valgrind": program_version("valgrind", "--version"),
    }


def cpu_model() -> str:
    """The CPU's name and how many there are."""
    lines = Path("/proc/cpuinfo").read_text().splitlines()
    name = next((line.partition(":")[2].strip() for line in lines if line.startswith("model name")), "unknown")
    return f"{os.cpu_count()} x {name}"


def machine() -> dict[str, str]:
    """What times depend on, the toolchain apart."""
    return {"cpu": cpu_model(), "kernel": platform.release().partition("-")[0], "system": system_name()}


def system_name() -> str:
    """The distribution, as it calls itself."""
    try:
        return platform.freedesktop_os_release()["PRETTY_NAME"]
    except (OSError, KeyError):
        return platform.system()


# ------------------------------------------------------------------------------------------ figures


def quantile(values: Sequence[float], share: float) -> float:
    """The value below which this share of the values lies; 0.5 is the median. Errors: ValueError for none."""
    if not values:
        raise ValueError("no values")
    ordered = sorted(values)
    at = share * (len(ordered) - 1)
    low = int(at)
    high = min(low + 1, len(ordered) - 1)
    return ordered[low] + (ordered[high] - ordered[low]) * (at - low)


median = statistics.median


# ------------------------------------------------------------------------------------------ processes

WARM_BYTES = 512 << 20
"""More than any of the programs takes, its output in the page cache included."""


def warm_memory() -> None:
    """Take this much memory and give it back, just before a program is measured.

    A virtual machine gets its memory from the host at the first touch, and gives back what was free for long. A file
    of 160 MB is then written at 0.9 GB/s, at 4.9 GB/s the next time: that is the host's doing and no program's.
    """
    flags = mmap.MAP_PRIVATE | mmap.MAP_ANONYMOUS | mmap.MAP_POPULATE
    with mmap.mmap(-1, WARM_BYTES, flags=flags):
        pass


@dataclass(frozen=True)
class Usage:
    """What a process took. ``rss_mib``: at its peak. ``start_cpu_s``: of its CPU time, before it was given its work."""

    wall_s: float
    cpu_s: float
    rss_mib: float
    start_cpu_s: float = 0.0


def wait_usage(process: subprocess.Popen[bytes], began: float, limit_s: float) -> Usage:
    """Wait for a process that began then (perf_counter). Errors: WrongOutputError when it fails or takes too long."""
    end = began + limit_s
    rss_mib = 0.0
    while True:
        rss_mib = memory_mib(process.pid, "VmHWM") or rss_mib
        pid, status, usage = os.wait4(process.pid, os.WNOHANG)
        if pid:
            break
        if time.perf_counter() > end:
            process.kill()
            process.wait()
            raise WrongOutputError(f"{process.args!r} takes longer than {limit_s:.0f} s")
        time.sleep(0.001)
    wall_s = time.perf_counter() - began
    process.returncode = os.waitstatus_to_exitcode(status)
    require(process.returncode == 0, f"{process.args!r} exited with {process.returncode}")
    return Usage(wall_s, usage.ru_utime + usage.ru_stime, rss_mib)


def memory_mib(pid: int, field: str = "VmRSS") -> float:
    """What /proc/PID/status says: VmRSS, or VmHWM for the peak. 0 for a process that is over.

    Not ru_maxrss: of a process that Python starts it is at least what Python itself had, by way of vfork().
    """
    try:
        status = Path(f"/proc/{pid}/status").read_text()
    except OSError:
        return 0.0
    line = next((line for line in status.splitlines() if line.startswith(f"{field}:")), "x 0")
    return int(line.split()[1]) / 1024


def cpu_now_s(pid: int) -> float:
    """CPU time of a process that runs, all its threads; ns come from the scheduler. 0 where the kernel does not say."""
    try:
        said = [path.read_text() for path in Path(f"/proc/{pid}/task").glob("*/schedstat")]
    except OSError:
        return 0.0
    return sum(int(text.split()[0]) for text in said) / 1e9


@contextmanager
def one_cpu(wanted: bool) -> Iterator[None]:
    """What is started inside stays on one CPU, if wanted."""
    allowed = os.sched_getaffinity(0)
    try:
        if wanted:
            os.sched_setaffinity(0, {max(allowed)})
        yield
    finally:
        os.sched_setaffinity(0, allowed)


def pipe_copy(path: Path, *, pinned: bool = False) -> Usage:
    """``cat path | wc -c``: both processes together; the count is checked.

    Where the scheduler puts the two makes a factor of two and more: on one CPU the bytes stay in its cache.
    ``pinned``: have them on one, which is the faster way and always the same.
    """
    warm_memory()
    began = time.perf_counter()
    with one_cpu(pinned):
        cat = subprocess.Popen(["cat", path], stdout=subprocess.PIPE)
        count = subprocess.Popen(["wc", "-c"], stdin=cat.stdout, stdout=subprocess.PIPE)
    with cat, count:
        assert cat.stdout is not None
        assert count.stdout is not None
        cat.stdout.close()
        said = count.stdout.read()
        used = [wait_usage(process, began, 60) for process in (cat, count)]
    require(int(said) == path.stat().st_size, f"cat {path} | wc -c says {said!r}")
    return Usage(max(u.wall_s for u in used), sum(u.cpu_s for u in used), max(u.rss_mib for u in used))


def install(program: str, package: str) -> str:
    """Have a program of the distribution there: "" when it is, else why not. Installs it as root, through apt-get."""
    if shutil.which(program):
        return ""
    if shutil.which("apt-get") is None:
        return f"{program} is not installed, and there is no apt-get"
    if os.geteuid() != 0:
        return f"{program} is not installed; run: sudo apt-get install -y {package}"
    print(f"audito: installing {package}", file=sys.stderr)
    environment = {**os.environ, "DEBIAN_FRONTEND": "noninteractive"}
    for words in (["update"], ["install", "-y", "--no-install-recommends", package]):
        done = subprocess.run(
            ["apt-get", "-qq", "-o", "DPkg::Lock::Timeout=120", *words],
            env=environment, stdout=subprocess.DEVNULL, check=False,
        )  # fmt: skip
        if done.returncode:
            return f"apt-get {words[0]} failed, {program} is not there"
    return "" if shutil.which(program) else f"{package} has no {program}"


def table(rows: Sequence[Sequence[str]]) -> str:
    """Rows as text, the first one the head; columns but the first are aligned to the right."""
    widths = [max(len(row[i]) for row in rows) for i in range(len(rows[0]))]
    lines = ["  ".join([row[0].ljust(widths[0]), *map(str.rjust, row[1:], widths[1:])]) for row in rows]
    return "\n".join([lines[0], "  ".join("-" * width for width in widths), *lines[1:]])
