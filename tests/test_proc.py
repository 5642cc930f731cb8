"""The container of a process: the forms that runtimes give its cgroup, and real processes in real cgroups."""

from __future__ import annotations

import os
import subprocess
import time
from collections.abc import Iterator
from pathlib import Path

import pytest
from msgspec import UNSET

from audito import proc
from audito.core import Core, CoreSettings
from audito.events import Container
from tests.records import Log, accepted

ID = "0123456789abcdef" * 4
OTHER = "fedcba9876543210" * 4
POD = "8a4a7ad6-1b32-4d9f-9c64-9b1bb0e9a1c7"
LOW = POD.replace("-", "_")
STATIC = "5f2d3a9b8c7e6f5d4c3b2a1908f7e6d5"

FORMS = {
    "v2 docker": (f"0::/system.slice/docker-{ID}.scope\n", ID, None),
    "v2 docker, cgroupfs": (f"0::/docker/{ID}\n", ID, None),
    "v1 docker": (f"12:pids:/docker/{ID}\n11:cpu,cpuacct:/docker/{ID}\n1:name=systemd:/docker/{ID}\n0::/\n", ID, None),
    "docker in docker": (f"0::/docker/{OTHER}/docker/{ID}\n", ID, None),
    "v2 containerd, systemd": (
        f"0::/kubepods.slice/kubepods-burstable.slice/kubepods-burstable-pod{LOW}.slice/cri-containerd-{ID}.scope\n",
        ID,
        POD,
    ),
    "v2 guaranteed": (f"0::/kubepods.slice/kubepods-pod{LOW}.slice/crio-{ID}.scope\n", ID, POD),
    "v2 crio with a directory": (f"0::/kubepods.slice/kubepods-pod{LOW}.slice/crio-{ID}.scope/container\n", ID, POD),
    "kubepods, cgroupfs": (f"0::/kubepods/burstable/pod{POD}/{ID}\n", ID, POD),
    "v1 kubepods": (f"11:memory:/kubepods/besteffort/pod{POD}/{ID}\n0::/\n", ID, POD),
    "v1 containerd, systemd": (
        f"9:pids:/system.slice/containerd.service/kubepods-besteffort-pod{LOW}.slice:cri-containerd:{ID}\n",
        ID,
        POD,
    ),
    "kind": (f"0::/kubelet.slice/kubelet-kubepods.slice/kubelet-kubepods-pod{LOW}.slice/cri-containerd-{ID}.scope\n",
             ID, POD),
    "a static pod": (f"0::/kubepods/burstable/pod{STATIC}/{ID}\n", ID, STATIC),
    "a pod's own processes": (f"0::/kubepods.slice/kubepods-pod{LOW}.slice\n", None, POD),
    "podman": (f"0::/machine.slice/libpod-{ID}.scope/container\n", ID, None),
    "podman, no root": (f"0::/user.slice/user-1000.slice/user@1000.service/user.slice/libpod-{ID}.scope\n", ID, None),
    "seen from another cgroup namespace": (f"0::/../cri-containerd-{ID}.scope\n", ID, None),
    "podman's watcher": (f"0::/machine.slice/libpod-conmon-{ID}.scope\n", None, None),
    "crio's watcher": (f"0::/kubepods.slice/kubepods-pod{LOW}.slice/crio-conmon-{ID}.scope\n", None, POD),
    "a login": ("0::/user.slice/user-1000.slice/session-7.scope\n", None, None),
    "the root": ("0::/\n", None, None),
    "65 digits": (f"0::/docker/{ID}0\n", None, None),
    "letters before": (f"0::/docker/x{ID}\n", None, None),
    "upper case": (f"0::/docker/{ID.upper()}\n", None, None),
    "a pod's name only": ("0::/kubepods/burstable/podcast\n", None, None),
    "cut": (f"0::/docker/{ID}", ID, None),
    "nothing": ("", None, None),
}  # fmt: skip


@pytest.mark.parametrize(("cgroup", "container", "pod"), FORMS.values(), ids=FORMS)
def test_forms(cgroup: str, container: str | None, pod: str | None, tmp_path: Path) -> None:
    wanted = Container(container or UNSET, pod or UNSET) if container or pod else None
    fabricate(tmp_path, 4711, cgroup)
    assert proc.Containers(str(tmp_path)).find(4711, now_ms()) == wanted


def now_ms() -> int:
    return time.time_ns() // 1_000_000


def fabricate(root: Path, pid: int, cgroup: str, age_s: float = 60.0, name: str = "a) b") -> None:
    """A process's directory, as proc has it, of one that started so long ago."""
    ticks = int((time.clock_gettime(time.CLOCK_BOOTTIME) - age_s) * os.sysconf("SC_CLK_TCK"))
    directory = root / str(pid)
    directory.mkdir(exist_ok=True)
    (directory / "cgroup").write_text(cgroup)
    (directory / "stat").write_text(f"{pid} ({name}) S 1 " + "0 " * 17 + f"{ticks} " + "0 " * 30 + "\n")


def test_only_the_process_that_the_record_is_of(tmp_path: Path) -> None:
    fabricate(tmp_path, 4711, f"0::/docker/{ID}\n", age_s=3.0)
    find = proc.Containers(str(tmp_path)).find
    assert find(4711, now_ms()) == Container(ID)
    assert find(4711, now_ms() - 2_900) == Container(ID)
    assert find(4711, now_ms() - 3_200) is None  # its pid was another's then


@pytest.mark.parametrize("stat", ["", "4711 (x", "4711 (x) S 1 2", "4711 (x) S " + "y " * 40])
def test_what_cannot_be_read_is_absent(stat: str, tmp_path: Path) -> None:
    find = proc.Containers(str(tmp_path)).find
    assert find(4711, now_ms()) is None
    fabricate(tmp_path, 4711, f"0::/docker/{ID}\n")
    (tmp_path / "4711" / "stat").write_text(stat)
    assert find(4711, now_ms()) is None
    fabricate(tmp_path, 4711, f"0::/docker/{ID}\n")
    (tmp_path / "4711" / "cgroup").unlink()
    assert find(4711, now_ms()) is None


def test_nothing_stays_open(tmp_path: Path) -> None:
    fabricate(tmp_path, 4711, f"0::/docker/{ID}\n")
    containers = proc.Containers(str(tmp_path))
    before = sorted(os.listdir("/proc/self/fd"))
    for pid in (4711, 4712):
        containers.find(pid, now_ms())
    assert sorted(os.listdir("/proc/self/fd")) == before


def test_the_rate_is_bounded(tmp_path: Path) -> None:
    for pid in range(40):
        fabricate(tmp_path, pid + 1, f"0::/docker/{ID}\n")
    containers = proc.Containers(str(tmp_path), lookups_a_second=5)
    began = time.monotonic_ns() // 1_000_000_000
    found = sum(containers.find(pid + 1, now_ms()) is not None for pid in range(40))
    seconds = time.monotonic_ns() // 1_000_000_000 - began + 1
    assert 5 <= found <= 5 * seconds
    time.sleep(1.05)
    assert containers.find(1, now_ms()) == Container(ID)


# ------------------------------------------------------------------------------------------ real processes


@pytest.fixture(name="sleeper")
def _sleeper() -> Iterator[subprocess.Popen[bytes]]:
    with subprocess.Popen(["sleep", "60"]) as process:
        yield process
        process.kill()


def cgroup_roots() -> list[Path]:
    """Where a cgroup can be made here: the unified hierarchy, or any of v1."""
    roots = []
    for line in Path("/proc/self/mounts").read_text().splitlines():
        _, place, kind, options, *_ = line.split()
        if kind in ("cgroup", "cgroup2") and "cpuset" not in options and os.access(place, os.W_OK):
            roots.append(Path(place))
    return roots


@pytest.fixture(name="cgroup")
def _cgroup() -> Iterator[Path]:
    """A new cgroup, named as docker names a container's."""
    made = None
    for root in cgroup_roots():
        try:
            made = root / f"docker-{ID}.scope"
            made.mkdir(exist_ok=True)
            break
        except OSError:
            made = None
    if made is None:
        pytest.skip("no cgroup can be made here: it takes root, and a hierarchy that is mounted for writing")
    yield made
    deadline = time.monotonic() + 5
    while made.exists() and time.monotonic() < deadline:  # until what was in it is reaped
        try:
            made.rmdir()
        except OSError:
            time.sleep(0.05)


def test_a_real_process_in_a_real_cgroup(cgroup: Path) -> None:
    with subprocess.Popen(["sleep", "60"]) as process:
        try:
            started_ms = now_ms()
            (cgroup / "cgroup.procs").write_text(str(process.pid))
            find = proc.Containers().find
            assert find(process.pid, now_ms()) == Container(ID)
            assert find(process.pid, started_ms) == Container(ID)
            assert find(process.pid, started_ms - 2_000) is None
            assert told_of(process.pid) == {"id": ID}
        finally:
            process.kill()
    assert proc.Containers().find(process.pid, now_ms()) is None


def told_of(pid: int) -> object:
    """What the event of this process's syscall says of its container, through the core as the daemon has it."""
    import json

    log = Log()
    log.ms = now_ms()
    core = Core(CoreSettings(host="h", machine_id="m", boot_id="b"), None, proc.Containers().find)
    core.feed_sshd(accepted(4000), "pipe", log.ms * 1000)
    core.feed_audit(log.login(ses=7, pid=4000) + log.execve(b"sleep", b"60", ses=7, pid=pid))
    extra = json.loads(core.take().splitlines()[-1])["metadata"]["extra"]
    assert extra["pid"] == pid
    return extra.get("container")


def test_a_real_process_of_the_host_is_in_none(sleeper: subprocess.Popen[bytes]) -> None:
    own = proc.container_of(Path(f"/proc/{sleeper.pid}/cgroup").read_bytes())
    assert proc.Containers().find(sleeper.pid, now_ms()) == own  # this test may run in a container


def test_pids_are_the_kernels_only_in_its_first_namespace() -> None:
    assert proc.has_the_kernels_pids() == (os.readlink("/proc/self/ns/pid") == "pid:[4026531836]")
    done = subprocess.run(
        ["unshare", "--pid", "--fork", "python3", "-c",
         "import sys; sys.path.insert(0, sys.argv[1])\nfrom audito import proc\nprint(proc.has_the_kernels_pids())",
         str(Path(proc.__file__).parents[1])],
        capture_output=True, text=True, check=False, env={**os.environ, "PYTHONPATH": os.pathsep.join(__import__("sys").path)},
    )  # fmt: skip
    if "unshare failed" in done.stderr:
        pytest.skip("a new pid namespace takes root")
    assert done.stdout == "False\n", done.stderr
