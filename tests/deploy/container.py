"""The image, built by buildah on a base of debootstrap, and containers of it, where no container engine runs.

With chroot isolation a container has its own root directory, mounts, user and capabilities, and shares the rest with
this machine: processes, network, kernel.
"""

from __future__ import annotations

import contextlib
import json
import os
import shutil
import signal
import subprocess
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from tests.deploy.programs import ROOT, run
from tests.deploy.running import Started, get, until
from tests.e2e.host import free_port

BASE = "localhost/audito-base:bookworm"
"""Left where buildah keeps its images, for the next run."""

PROGRAM = "/opt/audito/bin/audito"
AUTHORITIES = "/etc/ssl/certs/ca-certificates.crt"
PACKAGES = ("buildah", "debootstrap")


def why_not() -> str | None:
    """Why no image can be built here now, or None where it can."""
    if not os.environ.get("AUDITO_IMAGE"):
        return "builds an image, which takes minutes: set AUDITO_IMAGE=1, or to an image's name (make image-test)"
    if os.geteuid() != 0:
        return "needs root"
    missing = [name for name in PACKAGES if shutil.which(name) is None]
    return f"needs {' and '.join(missing)}" if missing else None


def buildah(*words: str) -> str:
    """Standard output of a buildah command; AssertionError with what it said when it fails."""
    done = run("buildah", *words, environ={"BUILDAH_ISOLATION": "chroot"})
    assert done.returncode == 0, f"buildah {' '.join(words)}: {done.stderr}"
    return done.stdout.strip()


@contextlib.contextmanager
def built(directory: Path) -> Iterator[str]:
    """The image as `make image` builds it; gone afterwards. pip in it trusts whom this machine trusts.

    An image that AUDITO_IMAGE names is taken as it is.
    """
    if os.environ["AUDITO_IMAGE"] != "1":
        yield os.environ["AUDITO_IMAGE"]
        return
    if run("buildah", "inspect", "--type", "image", BASE).returncode != 0:
        made = run("tools/image-base", BASE)
        assert made.returncode == 0, made.stderr
    configuration = directory / "pip.conf"
    configuration.write_text("[global]\ncert = /etc/pip-authorities\n")
    environ = {
        "ENGINE": "buildah",
        "IMAGE": "localhost/audito-test",
        "TAG": str(os.getpid()),
        "BASE": BASE,
        "BUILDAH_ISOLATION": "chroot",
        "IMAGE_ARGS": f"--volume {configuration}:/etc/pip.conf:ro --volume {AUTHORITIES}:/etc/pip-authorities:ro",
    }
    done = run("tools/image", environ=environ)
    assert done.returncode == 0, done.stdout + done.stderr
    name = f"{environ['IMAGE']}:{environ['TAG']}"
    try:
        yield name
    finally:
        buildah("rmi", name)


@dataclass(frozen=True)
class Container:
    """A container of the image, not running yet. ``root``: its files, as this machine sees them."""

    name: str
    root: Path

    def command(
        self,
        *words: str,
        user: str = "",
        volumes: Mapping[str, str] | None = None,
        environ: Mapping[str, str] | None = None,
        capabilities: Sequence[str] | None = None,
    ) -> list[str]:
        """The words that run a program in it. ``volumes``: path here, with its options → path there."""
        command = ["buildah", "run", "--isolation", "chroot"]
        if user:
            command += ["--user", user]
        command += [f"--env={name}={value}" for name, value in (environ or {}).items()]
        command += [f"--volume={here}:{self.resolved(there)}" for here, there in (volumes or {}).items()]
        command += [f"--cap-add=CAP_{name}" for name in capabilities or ()]
        # With --cap-drop ALL buildah drops also what it adds; setpriv is exact, and lets nothing be gained again (allowPrivilegeEscalation).
        limited = ["setpriv", "--no-new-privs"]
        if capabilities:
            limited.append(f"--bounding-set=-all,{','.join(f'+{name.lower()}' for name in capabilities)}")
        return [*command, self.name, "--", *(limited if capabilities is not None else ()), *words]

    def resolved(self, there: str) -> str:
        """A mount's path with the links in the image followed: with chroot isolation buildah follows them out of it."""
        return there.replace("/var/run/", "/run/") if (self.root / "var" / "run").is_symlink() else there

    def run(self, *words: str, **options: Any) -> str:
        """Standard output of a program that has to succeed in it."""
        done = run(*self.command(*words, **options))
        assert done.returncode == 0, f"{words}: {done.stdout}{done.stderr}"
        return done.stdout

    @contextlib.contextmanager
    def daemon(
        self, directory: Path, args: Sequence[str], lines: Path | None = None, **options: Any
    ) -> Iterator[Started]:
        """Run the image's entry point with these args until the end of the block; its output goes to DIRECTORY."""
        port = free_port("127.0.0.1")
        environ = {**options.pop("environ", {}), "AUDITO_HTTP_ADDRESS": f"127.0.0.1:{port}"}
        command = self.command(PROGRAM, *args, environ=environ, **options)
        stdout, log = directory / "stdout", directory / "stderr"
        with stdout.open("wb") as out, log.open("wb") as err:
            process = subprocess.Popen(command, stdin=subprocess.DEVNULL, stdout=out, stderr=err, cwd=ROOT)
        try:
            yield InContainer(process, port, lines or stdout, log)
        finally:
            for pid in descendants(process.pid):
                with contextlib.suppress(ProcessLookupError):
                    os.kill(pid, signal.SIGKILL)
            process.wait(20)


class InContainer(Started):
    """A daemon behind buildah's processes, which do not pass a signal on."""

    def pid(self) -> int:
        """The daemon's own process."""
        (pid,) = until("the daemon's process", lambda: [p for p in descendants(self.process.pid) if is_program(p)])
        return pid

    def stop(self) -> int:
        os.kill(self.pid(), signal.SIGTERM)
        return self.process.wait(20)

    def get(self, path: str) -> tuple[int, bytes]:
        assert self.process.poll() is None, self.log.read_text()
        return get(self.port, path)


def descendants(pid: int) -> list[int]:
    """A process's children and theirs, the last first."""
    found: list[int] = []
    for entry in Path("/proc").iterdir():
        with contextlib.suppress(OSError):
            if entry.name.isdigit() and int((entry / "stat").read_text().rpartition(")")[2].split()[1]) == pid:
                found += [*descendants(int(entry.name)), int(entry.name)]
    return found


def is_program(pid: int) -> bool:
    """Whether a process is audito's script in its interpreter, and not one of buildah's that carries its words."""
    with contextlib.suppress(OSError):
        words = Path(f"/proc/{pid}/cmdline").read_bytes().split(b"\0")
        return words[1:2] == [PROGRAM.encode()] and b"buildah" not in words[0]
    return False


@contextlib.contextmanager
def container_of(image: str) -> Iterator[Container]:
    """A new container of the image."""
    name = buildah("from", "--pull-never", image)
    try:
        yield Container(name, Path(buildah("mount", name)))
    finally:
        buildah("rm", name)


def configuration_of(image: str) -> dict[str, Any]:
    """What the image says of how it is run."""
    inspected: dict[str, Any] = json.loads(buildah("inspect", "--type", "image", image))
    configuration: dict[str, Any] = inspected["Docker"]["config"]
    return configuration
