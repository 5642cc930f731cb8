"""A systemd of its own, as process 1 of namespaces, on an overlay of this machine's files.

What services of the guest write is gone with it; the network and the clock are the machine's. It has no devices but
the harmless ones, and starts nothing but the units that a test names: not what the machine has enabled. The kernel
lets only its first pid namespace change auditing; without ``audited`` the guest's logins leave no records either.
"""

from __future__ import annotations

import contextlib
import os
import signal
import subprocess
import sys
import sysconfig
import time
from collections.abc import Iterator
from pathlib import Path

from .undo import HostError, started_at, wait_until

PATH = "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin"
SYSTEMD = "/lib/systemd/systemd"
REPOSITORY = Path(__file__).resolve().parents[2]
TREE = Path("/opt/tree")
"""Where the guest has it."""


def seen(path: str) -> str:
    """A path of ours as the guest has it."""
    return str(TREE / Path(path).relative_to(REPOSITORY)) if Path(path).is_relative_to(REPOSITORY) else path


GROUP = f"audito-e2e-{os.getpid()}"
"""The control group, in each hierarchy, that the guest takes for the root of all."""

# A service of the guest sees the tree and its packages, but no home: an interpreter from there is at /opt/python.
LAUNCHER = f"""#!/opt/python/bin/python{sys.version_info.major}.{sys.version_info.minor}
import sys
sys.path[:0] = ["{TREE}", "{seen(sysconfig.get_path("purelib"))}"]
from audito.cli import main
sys.exit(main())
"""

BOOT = r"""
set -eu
base=$1 python=$2 tree=$5
mount --make-rprivate /
mount -t tmpfs tmpfs "$base"
mkdir "$base/root" "$base/up" "$base/work"
mount -t overlay overlay -o "lowerdir=/,upperdir=$base/up,workdir=$base/work" "$base/root"
root=$base/root
mount -t proc proc "$root/proc"
mount -t sysfs -o ro sysfs "$root/sys"
mount -t tmpfs tmpfs "$root/sys/fs/cgroup"
for directory in run tmp dev; do mount -t tmpfs -o mode=755 tmpfs "$root/$directory"; done
chmod 1777 "$root/tmp"
mkdir "$root/dev/pts" "$root/dev/shm"
mount -t devpts -o newinstance,ptmxmode=0666 devpts "$root/dev/pts"
ln -s pts/ptmx "$root/dev/ptmx"
ln -s /proc/self/fd "$root/dev/fd"
for name in null zero full random urandom tty; do cp -a "/dev/$name" "$root/dev/$name"; done
# The interpreter may live in a home, which the service does not see, and so may this tree, or in /tmp.
mkdir -p "$root/opt/python" && mount --bind "$python" "$root/opt/python"
mkdir -p "$root/opt/tree" && mount --bind "$tree" "$root/opt/tree"
# Nothing that the machine has enabled is started here.
rm -rf "$root"/usr/lib/systemd/system/*.wants "$root"/etc/systemd/system/*.wants "$root"/var/log/journal
mkdir -p "$root/etc/systemd/journald.conf.d"
printf '[Journal]\nStorage=volatile\nReadKMsg=no\nAudit=\n' > "$root/etc/systemd/journald.conf.d/90-audito-e2e.conf"
printf '[Unit]\nRequires=systemd-journald.service\nAfter=systemd-journald.service\n' \
    > "$root/etc/systemd/system/audito-e2e.target"
cd "$root"
mkdir -p run/host
pivot_root . run/host
exec chroot . sh -c 'umount -l /run/host; exec setpriv --bounding-set "$4" \
    env -i container=audito-e2e PATH=/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin \
    "$3" --system --unit=audito-e2e.target --log-target=journal-or-kmsg --log-level=notice --show-status=no' - - - "$3" "$4"
"""


def why_not() -> str | None:
    """Return why no guest can be started here, or None where it can."""
    if os.geteuid() != 0:
        return "needs root"
    if not Path(SYSTEMD).exists():
        return "needs systemd"
    if "overlay" not in Path("/proc/filesystems").read_text():
        return "needs a kernel with overlayfs"
    return None


def hierarchies() -> Iterator[Path]:
    """Yield our own control group in each hierarchy that is mounted."""
    mounts: dict[str, Path] = {}
    for line in Path("/proc/self/mountinfo").read_text().splitlines():
        fields, _, tail = line.partition(" - ")
        kind, _, options = tail.split(" ", 2)
        if kind == "cgroup2":
            mounts[""] = Path(fields.split()[4])
        elif kind == "cgroup":
            for name in options.split(","):
                mounts[name] = Path(fields.split()[4])
    for line in Path("/proc/self/cgroup").read_text().splitlines():
        _, names, path = line.split(":", 2)
        # A new group of cpuset takes no process before it is told its processors; systemd leaves it alone.
        if names in mounts and names != "cpuset":
            yield mounts[names] / path.lstrip("/")


class Guest:
    """A running systemd; ``run`` runs a command inside. Errors: HostError."""

    def __init__(self, directory: Path, *, audited: bool = False) -> None:
        self._directory = directory
        self._dropped = "-audit_read" if audited else "-audit_read,-audit_control,-audit_write"
        self._groups = [group / GROUP for group in hierarchies()]
        self._process: subprocess.Popen[bytes] | None = None
        self.pid = 0

    def __enter__(self) -> Guest:
        try:
            self._start()
        except BaseException:
            self.__exit__()
            raise
        return self

    def _start(self) -> None:
        for group in self._groups:
            group.mkdir()
        base = self._directory / "guest"
        base.mkdir()

        def enter_groups() -> None:
            for group in self._groups:
                (group / "cgroup.procs").write_text(str(os.getpid()))

        flags = ("--mount", "--pid", "--fork", "--uts", "--ipc", "--cgroup", "--kill-child")
        script = ("bash", "-c", BOOT, "boot", str(base), sys.base_prefix, SYSTEMD, self._dropped, str(REPOSITORY))
        with (self._directory / "guest.out").open("wb") as output:
            self._process = subprocess.Popen(
                ["unshare", *flags, *script],
                stdin=subprocess.DEVNULL,
                stdout=output,
                stderr=output,
                preexec_fn=enter_groups,  # one thread, and nothing but a write
                cwd="/",
            )
        wait_until("the guest's process 1", self._find_init)
        is_active = ("systemctl", "is-active", "--quiet", "audito-e2e.target")
        wait_until("the guest's journal", lambda: self.try_run(*is_active)[0] == 0)

    def _find_init(self) -> bool:
        assert self._process is not None
        if self._process.poll() is not None:
            raise HostError(f"the guest did not start: {self.said()}")
        with contextlib.suppress(OSError, IndexError):
            children = Path(f"/proc/{self._process.pid}/task/{self._process.pid}/children").read_text()
            self.pid = int(children.split()[0])
            return Path(f"/proc/{self.pid}/comm").read_text() == "systemd\n"
        return False

    def __exit__(self, *_: object) -> None:
        if self._process is not None:
            self._process.send_signal(signal.SIGKILL)  # --kill-child: its process 1, and with it all others, end too
            self._process.wait()
            if self.pid:
                wait_until("the guest ends", lambda: started_at(self.pid) is None)
        for group in self._groups:
            self._remove(group)

    def _remove(self, group: Path) -> None:
        """Remove a control group and those in it; the kernel lets go of the last process a little later."""
        for below in sorted(group.rglob("*"), reverse=True):
            if below.is_dir():
                self._rmdir(below)
        if group.exists():
            self._rmdir(group)

    def _rmdir(self, group: Path) -> None:
        deadline = time.monotonic() + 5
        while True:
            try:
                group.rmdir()
                return
            except OSError:
                if time.monotonic() > deadline:
                    raise
                time.sleep(0.05)

    def said(self) -> str:
        """What systemd and the boot script printed."""
        return (self._directory / "guest.out").read_text(errors="replace")

    def try_run(self, *command: str, stdin: str = "") -> tuple[int, str]:
        """Run a command inside; returns its exit code and what it printed."""
        done = subprocess.run(
            ["nsenter", f"--target={self.pid}", "--mount", "--pid", "--uts", "--ipc", "--cgroup", "--", *command],
            env={"PATH": PATH},
            input=stdin,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
            check=False,
            timeout=60,
        )
        return done.returncode, done.stdout

    def run(self, *command: str, stdin: str = "") -> str:
        """Run a command inside that has to succeed; returns what it printed."""
        code, text = self.try_run(*command, stdin=stdin)
        if code != 0:
            raise HostError(f"{' '.join(command)}: exit code {code}: {text.strip()}")
        return text

    def write(self, path: str, text: str, mode: str = "644") -> None:
        """Write a file of the guest's root, making its directory."""
        self.run("sh", "-c", 'mkdir -p "$(dirname "$1")" && cat > "$1" && chmod "$2" "$1"', "-", path, mode, stdin=text)

    def append(self, path: str, text: str) -> None:
        """Append to a file of the guest."""
        self.run("sh", "-c", 'cat >> "$1"', "-", path, stdin=text)

    def install_audito(self) -> None:
        """Put the tree's audito where its service expects it; on PATH too."""
        self.write("/opt/audito/bin/audito", LAUNCHER, "755")
        self.run("ln", "-s", "/opt/audito/bin/audito", "/usr/local/bin/audito")

    def show(self, unit: str, name: str) -> str:
        """Return one property of a unit."""
        return self.run("systemctl", "show", "--value", f"--property={name}", unit).strip()
