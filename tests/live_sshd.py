"""An sshd of its own on a loopback port, and what it writes to syslog: for tests that want the real words.

It has mounts of its own: a /dev with a log socket that only we read, a /run, a /var/log and, where wanted, accounts
that are in no file of the machine. So nothing changes but the directory that the test gave.
"""

from __future__ import annotations

import os
import shutil
import socket
import subprocess
import threading
import time
from collections.abc import Callable
from pathlib import Path

SSHD = "/usr/sbin/sshd"
WAIT_S = 15.0
QUIET_S = 0.5
"""How long nothing has to be written, when no session is left, until all was written."""

MOUNTS = """
set -e
directory=$1; shift
mount -t tmpfs tmpfs /run; mkdir -m 755 /run/sshd
mount -t tmpfs tmpfs /var/log
for file in "$directory"/etc/*; do
    if [ -e "$file" ]; then mount --bind "$file" "/etc/${file##*/}"; fi
done
mkdir "$directory/dev"
mount -t tmpfs -o mode=755 tmpfs "$directory/dev"
cd "$directory/dev"
for node in null zero full random urandom tty; do : > $node; mount --bind /dev/$node $node; done
mkdir pts; mount --rbind /dev/pts pts; ln -s pts/ptmx ptmx
ln -s "$directory/log" log
mount --rbind "$directory/dev" /dev
cd /
exec "$@"
"""
"""In a mount namespace: what sshd shall not share with the machine, then the command."""

CONFIGURATION = """
AddressFamily inet
ListenAddress 127.0.0.1
HostKey {directory}/host_key
TrustedUserCAKeys {directory}/ca.pub
AuthorizedKeysFile {directory}/authorized_keys
PidFile none
StrictModes no
UseDNS no
PermitRootLogin yes
PasswordAuthentication no
MaxStartups 200
LogLevel VERBOSE
"""

CLIENT = """
StrictHostKeyChecking no
UserKnownHostsFile /dev/null
BatchMode yes
LogLevel ERROR
KexAlgorithms curve25519-sha256
Ciphers aes128-gcm@openssh.com
GSSAPIAuthentication no
IdentitiesOnly yes
"""


def why_not() -> str | None:
    """Why this machine cannot run an sshd of our own, or None where it can."""
    if os.geteuid() != 0:
        return "needs root, for an sshd of its own"
    missing = [name for name in (SSHD, "ssh", "ssh-keygen", "unshare") if shutil.which(name) is None]
    if missing:
        return f"needs {', '.join(missing)}"
    if subprocess.run(["unshare", "--mount", "true"], capture_output=True, check=False).returncode:
        return "needs a mount namespace of its own"
    return None


def make_key(path: Path) -> Path:
    """A new key pair; the path of its private half."""
    subprocess.run(["ssh-keygen", "-q", "-t", "ed25519", "-N", "", "-C", "", "-f", path], check=True)
    return path


def free_port() -> int:
    """A TCP port that nobody uses on the loopback interface at this moment."""
    with socket.create_server(("127.0.0.1", 0)) as probe:
        return int(probe.getsockname()[1])


class LiveSshd:
    """A running sshd: ``with LiveSshd(directory) as sshd``.

    ``settings``: lines of sshd_config that go before ours; ``match``: those that go last. ``accounts``: files of /etc as sshd shall see them. Its
    lines are ``written``, each as it came over its log socket; with ``stderr`` they stand in ``log_path`` instead,
    as ``sshd -E`` writes them.
    """

    def __init__(
        self,
        directory: Path,
        settings: str = "",
        *,
        match: str = "",
        accounts: dict[str, str] | None = None,
        stderr: bool = False,
    ) -> None:
        self.directory = directory
        self.log_path = directory / "sshd.log"
        self.port = free_port()
        self.ca_path = make_key(directory / "ca")
        self.written: list[bytes] = []
        self._stderr = stderr
        make_key(directory / "host_key")
        configuration = CONFIGURATION.format(directory=directory)
        self._write_configuration(f"Port {self.port}\n{settings}\n{configuration}", match)
        (directory / "client").write_text(f"Port {self.port}\n{CLIENT}")
        (directory / "etc").mkdir()
        for name, text in (accounts or {}).items():
            (directory / "etc" / name).write_text(text)

    def _write_configuration(self, settings: str, match: str) -> None:
        path = self.directory / "sshd_config"
        path.write_text(settings)
        # From 9.8 on who fails often is kept out; sshd refuses what it does not know.
        known = subprocess.run(
            ["unshare", "--mount", "sh", "-c", "mount -t tmpfs tmpfs /run && mkdir /run/sshd && exec \"$@\"", "sh",
             SSHD, "-t", "-o", "PerSourcePenalties=no", "-f", path], capture_output=True, check=False,
        )  # fmt: skip
        patience = "PerSourcePenalties no\n" if known.returncode == 0 else ""
        path.write_text(f"{settings}{patience}{match}")

    def __enter__(self) -> LiveSshd:
        self._socket = socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM)
        self._socket.bind(str(self.directory / "log"))
        self._reader = threading.Thread(target=self._read, daemon=True)
        self._reader.start()
        log = ["-E", str(self.log_path)] if self._stderr else []
        # sshd executes itself again for each connection, and wants its whole path for that.
        command = [SSHD, "-D", *log, "-f", str(self.directory / "sshd_config")]
        self.process = subprocess.Popen(
            ["unshare", "--mount", "sh", "-c", MOUNTS, "sh", str(self.directory), *command],
            stdin=subprocess.DEVNULL, stdout=subprocess.DEVNULL, stderr=subprocess.PIPE,
        )  # fmt: skip
        try:
            self.wait_until(lambda: any(b"Server listening" in line for line in self.lines()))
        except TimeoutError:
            self._end()
            raise
        return self

    def __exit__(self, *_: object) -> None:
        try:
            self.settle()
        finally:
            self._end()

    def lines(self) -> list[bytes]:
        """What was written until now."""
        if self._stderr:
            return self.log_path.read_bytes().splitlines(keepends=True) if self.log_path.exists() else []
        return [*self.written]

    def settle(self) -> None:
        """Wait until no session is left and nothing more is written."""
        children = Path(f"/proc/{self.process.pid}/task/{self.process.pid}/children")
        self.wait_until(lambda: not children.read_text().strip())
        count = -1
        while count != len(self.lines()):
            count = len(self.lines())
            time.sleep(QUIET_S)

    def wait_until(self, ready: Callable[[], object]) -> None:
        """Errors: TimeoutError, with what sshd said instead."""
        deadline = time.monotonic() + WAIT_S
        while not ready():
            if time.monotonic() > deadline or self.process.poll() is not None:
                self.process.kill()
                raise TimeoutError(self.process.communicate()[1].decode(), self.lines()[-9:])
            time.sleep(0.02)

    def ssh(self, *arguments: str | bytes, input: bytes = b"") -> subprocess.CompletedProcess[bytes]:
        """Run a client to its end, whatever comes of it."""
        command = ["ssh", "-F", str(self.directory / "client"), *arguments]
        return subprocess.run(command, input=input, capture_output=True, timeout=60, check=False)

    def sign(self, public_key: Path, key_id: bytes, serial: int, *options: str) -> None:
        """Make the certificate of a key, beside it."""
        command = ["ssh-keygen", "-q", "-s", self.ca_path, "-I", key_id, "-z", str(serial), *options, public_key]
        subprocess.run(command, check=True)

    def _read(self) -> None:
        while data := self._socket.recv(65536):
            self.written.append(data)

    def _end(self) -> None:
        self.process.terminate()
        self.process.communicate(timeout=WAIT_S)
        self._socket.shutdown(socket.SHUT_RDWR)
        self._reader.join()
        self._socket.close()
