"""The real parts of an audited host, started for one test run and taken away after it.

`Host` is a context manager. What it starts it ends, by process id; what it changes it puts back;
`CHANGES` says in words what that is, and `python -m tests.e2e.host` prints it. On a machine where
systemd runs, its journal, and an auditd that already serves the kernel, are used as they are.

Order matters in three places, and each says why where it happens: the kernel's failure mode comes
before everything, journald before auditing is turned on, auditd before the rules.
"""

from __future__ import annotations

import contextlib
import fcntl
import os
import pwd
import re
import shutil
import signal
import socket
import subprocess
import threading
from collections.abc import Callable
from pathlib import Path

from .undo import HostError, Undo, run, started_at, wait_until

LOCK_PATH = Path("/run/lock/audito-e2e.lock")
RUN_DIRECTORY = Path("/run/audito-e2e")
JOURNALD = "/lib/systemd/systemd-journald"
JOURNALD_DROP_IN = Path("/run/systemd/journald.conf.d/90-audito-e2e.conf")
SUDOERS_DROP_IN = Path("/etc/sudoers.d/audito-e2e")
CRON_DROP_IN = Path("/etc/cron.d/audito-e2e")
POLICY_RC = Path("/usr/sbin/policy-rc.d")
AUDITD_CONF = Path("/etc/audit/auditd.conf")

# The kernel's default backlog of 64 records overflows in one busy moment; records would be lost.
BACKLOG_RECORDS = 8192

# A program each package brings, to tell whether the package is there.
PACKAGES = {
    "auditd": "/usr/sbin/auditd",
    "openssh-server": "/usr/sbin/sshd",
    "openssh-client": "/usr/bin/ssh",
    "sudo": "/usr/bin/sudo",
    "rsyslog": "/usr/sbin/rsyslogd",
    "systemd": JOURNALD,
    "cron": "/usr/sbin/cron",
    "passwd": "/usr/sbin/useradd",
}

# What sessions execute, and what one background service executes: `uptime` stands for the many
# processes without a session that an audited host has, without flooding a shared machine.
RULES = tuple(
    f"always,exit -F arch={arch} -S execve {which}".split()
    for which in (
        "-F auid>=1000 -F auid!=-1 -F key=user-commands",
        "-F auid=-1 -F exe=/usr/bin/uptime -F key=system-commands",
    )
    for arch in ("b64", "b32")
)

ACCOUNTS = ("core", "bob", "carol")
PASSWORD = "correct horse battery staple"
CERTIFICATES = {"alice@example.com": 350, "dave@example.com": 351, "erin@example.com": 352}
# Somebody tries to execute it; it has no execute bit, so the kernel refuses with EACCES.
REFUSED_PROGRAM = Path("/usr/local/bin/rizin")

CHANGES = f"""\
This run changes the machine, and puts it back at its end:
  accounts      {", ".join(ACCOUNTS)}, with a home and, for core, sudo without a password
  files         {SUDOERS_DROP_IN}, {CRON_DROP_IN}, {REFUSED_PROGRAM},
                {JOURNALD_DROP_IN}, {RUN_DIRECTORY}, /dev/log, /run/sshd
  audit         auditing on, failure mode 0, a larger backlog, {len(RULES)} rules on execve; /etc/audit
  daemons       auditd, sshd (a free loopback port), rsyslogd, cron, and journald without systemd
  limits        fs.inotify, for a moment
  namespaces    a second systemd with a journald and an sshd, on an overlay of this machine's files
It leaves behind: packages that were missing ({", ".join(PACKAGES)}),
and lines about its logins in wtmp, btmp and lastlog.
"""


def free_port(*addresses: str) -> int:
    """Return a TCP port that nobody uses on ADDRESSES at this moment."""
    port = 0
    with contextlib.ExitStack() as probes:
        for address in addresses:
            family = socket.AF_INET6 if ":" in address else socket.AF_INET
            probe = probes.enter_context(socket.socket(family, socket.SOCK_STREAM))
            probe.bind((address, port))
            port = probe.getsockname()[1]
    return port


def has_ipv6_loopback() -> bool:
    """Tell whether ::1 can be used on this machine."""
    try:
        free_port("::1")
    except OSError:
        return False
    return True


def audit_status() -> dict[str, int]:
    """Return the kernel's audit status as `auditctl -s` prints it; HostError without auditing."""
    pairs = (line.partition(" ") for line in run("auditctl", "-s").splitlines())
    return {name: int(value) for name, _, value in pairs if value.isdigit()}


def why_not() -> str | None:
    """Return why this machine cannot run the tests, or None where it can."""
    if os.geteuid() != 0:
        return "needs root"
    if shutil.which("apt-get") is None and not all(map(os.path.exists, PACKAGES.values())):
        return f"needs {', '.join(PACKAGES)}, and there is no apt-get to install them"
    if not Path("/proc/self/loginuid").exists():
        return "needs a kernel with auditing (CONFIG_AUDIT)"
    return None


class Host:
    """An audited host: `with Host() as host:` starts all its parts.

    HostError: another run holds the machine, a part does not start, or auditing is locked (-e 2).
    """

    def __init__(self, *, say: Callable[[str], None] = print) -> None:
        self.directory = RUN_DIRECTORY
        self.audit_directory = RUN_DIRECTORY / "audit"
        self.journal_directory = Path("/run/log/journal")
        self.syslog_path = RUN_DIRECTORY / "sshd.log"
        self.pipe_copy_path = RUN_DIRECTORY / "sshd.pipe-lines"
        self.sshd_pipe_path = RUN_DIRECTORY / "sshd.fifo"
        self.known_hosts_path = RUN_DIRECTORY / "known_hosts"
        self.has_ipv6 = has_ipv6_loopback()
        self.port = 0
        self._systemd = Path("/run/systemd/system").exists()
        self._processes: list[subprocess.Popen[bytes]] = []
        self._say = say
        self._undo = Undo(RUN_DIRECTORY / "undo.jsonl")
        self._lock = contextlib.ExitStack()

    def __enter__(self) -> Host:
        reason = why_not()
        if reason is not None:
            raise HostError(reason)
        self._take_lock()
        try:
            self._make_directory()
            self._install_packages()
            self._add_accounts()
            self._add_files()
            self._make_keys()
            self._quiet_kernel()
            self._start_journald()
            self._start_rsyslogd()
            self._start_auditd()
            self._add_rules()
            self._start_sshd()
            self._start_cron()
        except BaseException:
            self.__exit__()
            raise
        return self

    def __exit__(self, *_: object) -> None:
        self._take_back()
        for process in self._processes:
            process.wait()
        self._lock.close()

    # ── what a scenario needs ──

    def key_path(self, name: str) -> Path:
        """Return the private key of a person or account."""
        return self.directory / "keys" / name

    def address_towards(self, source_address: str) -> str:
        """Return the address that sshd listens at for a client at SOURCE_ADDRESS."""
        return "::1" if ":" in source_address else "127.0.0.1"

    def keep(self, path: Path) -> None:
        """Have PATH put back as it is now, when the run ends: a file, a directory, or nothing."""
        copy = self.directory / "kept" / path.relative_to("/")
        copy.parent.mkdir(parents=True, exist_ok=True, mode=0o700)
        if path.exists():
            run("cp", "--archive", str(path), str(copy))
        self._undo.add("put back", str(copy), str(path))

    def keep_sysctl(self, name: str) -> int:
        """Have a kernel setting put back as it is now, when the run ends; returns it."""
        value = int(run("sysctl", "-n", name))
        self._undo.add("sysctl", name, value)
        return value

    def set_rules(self, *rules: list[str]) -> None:
        """Have the kernel hold these audit rules and no others, until the rules of the run are wanted again."""
        run("auditctl", "-D")
        for rule in rules:
            run("auditctl", "-a", *rule)

    def rotate_audit_log(self) -> None:
        """Have auditd rotate its log now, by rename, as it does when the log is full."""
        log = self.audit_directory / "audit.log"
        before = log.stat().st_ino
        os.kill(audit_status()["pid"], signal.SIGUSR1)
        wait_until("auditd rotates its log", lambda: log.exists() and log.stat().st_ino != before)

    # ── the parts, in the order of their start ──

    def _take_lock(self) -> None:
        """Keep other runs off this machine, and let SIGTERM end the run in order."""
        lock = self._lock.enter_context(LOCK_PATH.open("w"))
        try:
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            self._lock.close()
            raise HostError(f"another run holds {LOCK_PATH}; wait for its end") from None
        if threading.current_thread() is threading.main_thread():
            before = signal.signal(signal.SIGTERM, interrupted)
            self._lock.callback(signal.signal, signal.SIGTERM, before)

    def _make_directory(self) -> None:
        if self.directory.exists():
            self._say("e2e: takes back what a run that was killed has left")
            self._take_back()
        self.directory.mkdir(mode=0o755)
        self.audit_directory.mkdir(mode=0o750)
        (self.directory / "keys").mkdir(mode=0o755)

    def _take_back(self) -> None:
        for complaint in self._undo.take_back():
            self._say(f"e2e: not taken back: {complaint}")
        shutil.rmtree(self.directory, ignore_errors=True)

    def _install_packages(self) -> None:
        missing = [name for name, program in PACKAGES.items() if not Path(program).exists()]
        if not missing:
            return
        self._say(f"e2e: installs {' '.join(missing)}")
        # Without this Debian starts each daemon as it is installed, in its own configuration.
        if not POLICY_RC.exists():
            self._write(POLICY_RC, "#!/bin/sh\nexit 101\n", 0o755)
        environment = {**os.environ, "DEBIAN_FRONTEND": "noninteractive"}
        options = ("-qy", "-o", "DPkg::Lock::Timeout=300", "--no-install-recommends")
        run("apt-get", "update", "-q", environment=environment)
        run("apt-get", "install", *options, *missing, environment=environment)

    def _write(self, path: Path, text: str, mode: int) -> None:
        """Write a file that is removed at the end; HostError when it is somebody else's."""
        if path.exists():
            raise HostError(f"{path} exists already, and this run would remove it")
        self._undo.add("remove", str(path))
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text)
        path.chmod(mode)

    def _add_accounts(self) -> None:
        for account in ACCOUNTS:
            with contextlib.suppress(KeyError):
                pwd.getpwnam(account)
                raise HostError(f"the account {account} exists already, and this run would remove it")
        for account in ACCOUNTS:
            self._undo.add("remove account", account)
            run("useradd", "--create-home", "--shell", "/bin/bash", account)
        run("chpasswd", stdin=f"carol:{PASSWORD}\n")

    def _add_files(self) -> None:
        self._write(SUDOERS_DROP_IN, "core ALL=(ALL:ALL) NOPASSWD: ALL\n", 0o440)
        self._write(CRON_DROP_IN, "* * * * * bob /usr/bin/nproc >/dev/null\n", 0o644)
        self._write(REFUSED_PROGRAM, "", 0o644)

    def _make_keys(self) -> None:
        """Make a host key, a user CA, two certificates for one shared account, one plain key."""
        keys = self.directory / "keys"
        for name in ("host", "ca", "bob", *CERTIFICATES):
            run("ssh-keygen", "-q", "-t", "ed25519", "-N", "", "-C", name, "-f", str(keys / name))
        for key_id, serial in CERTIFICATES.items():
            identity = ("-I", key_id, "-n", "core", "-z", str(serial), "-V", "-5m:+1d")
            run("ssh-keygen", "-q", "-s", str(keys / "ca"), *identity, str(keys / f"{key_id}.pub"))
        # Not in the home directory: sshd's StrictModes then asks only for root's ownership.
        shutil.copy(keys / "bob.pub", keys / "authorized.bob")
        self.known_hosts_path.write_text(f"audito-e2e {(keys / 'host.pub').read_text()}")

    def _quiet_kernel(self) -> None:
        """Keep the kernel from stopping the machine, and remember how auditing stood."""
        before = audit_status()
        if before["enabled"] == 2:
            raise HostError("auditing is locked until the next boot (auditctl -e 2)")
        for flag, name in (("-e", "enabled"), ("-f", "failure"), ("-b", "backlog_limit")):
            self._undo.add("auditctl", flag, str(before[name]))
        # First of all: with failure mode 2 one lost record would be a kernel panic.
        run("auditctl", "-f", "0")
        run("auditctl", "-b", str(max(BACKLOG_RECORDS, before["backlog_limit"])))

    def _start_journald(self) -> None:
        if self._systemd:
            if Path("/var/log/journal").exists():
                self.journal_directory = Path("/var/log/journal")
            return
        if is_socket_open("/run/systemd/journal/socket"):
            raise HostError("a journald without systemd runs already; end it, then try again")
        self._write(JOURNALD_DROP_IN, JOURNALD_CONFIGURATION, 0o644)
        if not self.journal_directory.exists():
            self._undo.add("remove", str(self.journal_directory))
        self._start("journald", JOURNALD)
        wait_until("journald", lambda: is_socket_open("/run/systemd/journal/socket"))
        log = Path("/dev/log")
        if not log.exists():
            log.unlink(missing_ok=True)
            self._undo.add("remove", str(log))
            log.symlink_to("/run/systemd/journal/dev-log")

    def _start_rsyslogd(self) -> None:
        """Start an rsyslogd behind journald that writes sshd's lines to two files and a pipe."""
        os.mkfifo(self.sshd_pipe_path, 0o600)
        configuration = self.directory / "rsyslog.conf"
        # journald's socket for a syslog daemon is taken where systemd runs: read the journal there.
        source = RSYSLOG_FROM_JOURNAL if self._systemd else RSYSLOG_FROM_JOURNALD
        configuration.write_text(source + RSYSLOG_ACTIONS.replace("DIRECTORY", str(self.directory)))
        pid_path = self.directory / "rsyslogd.pid"
        self._start("rsyslogd", "rsyslogd", "-n", "-f", str(configuration), "-i", str(pid_path))
        wait_until("rsyslogd", pid_path.exists)
        if not self._systemd:
            wait_until("rsyslogd", lambda: is_socket_open("/run/systemd/journal/syslog"))

    def _start_auditd(self) -> None:
        if audit_status()["pid"]:
            log = re.search(r"^log_file *= *(.*)$", AUDITD_CONF.read_text(), re.MULTILINE)
            self.audit_directory = Path(log[1] if log else "/var/log/audit/audit.log").parent
            self._say(f"e2e: uses the auditd that runs already, on {self.audit_directory}")
        else:
            etc = self.directory / "auditd"
            (etc / "plugins.d").mkdir(parents=True, mode=0o750)
            configuration = etc / "auditd.conf"
            configuration.write_text(AUDITD_CONFIGURATION.replace("DIRECTORY", str(self.directory)))
            configuration.chmod(0o640)
            self._start("auditd", "auditd", "-n", "-s", "enable", "-c", str(etc))
            wait_until("auditd", lambda: audit_status()["pid"])
        # The last word on auditing: journald may have turned it off again when it started.
        run("auditctl", "-e", "1")

    def _add_rules(self) -> None:
        present = run("auditctl", "-l")
        for rule in RULES:
            # A rule that the host has already is the host's: it serves us, and stays.
            if " ".join(rule) not in present:
                self._undo.add("auditctl", "-d", *rule)
                run("auditctl", "-a", *rule)

    def _start_sshd(self) -> None:
        if not Path("/run/sshd").exists():
            self._undo.add("remove", "/run/sshd")
            Path("/run/sshd").mkdir(mode=0o755)
        addresses = ["127.0.0.1", "::1"] if self.has_ipv6 else ["127.0.0.1"]
        self.port = free_port(*addresses)
        listen = "".join(f"ListenAddress {address}\n" for address in addresses)
        configuration = self.directory / "sshd_config"
        options = SSHD_CONFIGURATION.replace("DIRECTORY", str(self.directory))
        configuration.write_text(f"Port {self.port}\n{listen}{options}")
        run("/usr/sbin/sshd", "-t", "-f", str(configuration))
        # sshd re-executes itself for each connection and wants its absolute path for that.
        self._start("sshd", "/usr/sbin/sshd", "-D", "-f", str(configuration))
        # Not by a connection: sshd would log it, and the log is what the run is about. sshd writes
        # its pid file after it listens.
        wait_until("sshd", (self.directory / "sshd.pid").exists)

    def _start_cron(self) -> None:
        if not is_running(Path("/run/crond.pid")):
            self._start("cron", "/usr/sbin/cron", "-f")

    def _start(self, name: str, *command: str) -> None:
        """Start a daemon in the foreground, to be ended when the run ends."""
        with (self.directory / f"{name}.out").open("wb") as output:
            process = subprocess.Popen(
                command,
                stdin=subprocess.DEVNULL,
                stdout=output,
                stderr=output,
                start_new_session=True,
                cwd="/",
                env={"PATH": "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin"},
            )
        self._processes.append(process)
        self._undo.add("stop process", process.pid, started_at(process.pid) or "")


def interrupted(*_: object) -> None:
    """Take SIGTERM as the keyboard's interrupt, so that the machine is put back."""
    raise KeyboardInterrupt


def is_socket_open(path: str) -> bool:
    """Tell whether a process has a datagram socket bound at PATH."""
    with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as probe:
        try:
            probe.connect(path)
        except OSError:
            return False
    return True


def is_running(pid_path: Path) -> bool:
    """Tell whether the process that a pid file names runs."""
    try:
        return started_at(int(pid_path.read_text())) is not None
    except (OSError, ValueError):
        return False


JOURNALD_CONFIGURATION = """\
[Journal]
Storage=volatile
RuntimeMaxUse=64M
ReadKMsg=no
ForwardToSyslog=yes
RateLimitIntervalSec=0
"""

AUDITD_CONFIGURATION = """\
local_events = yes
write_logs = yes
log_file = DIRECTORY/audit/audit.log
log_group = root
log_format = ENRICHED
flush = INCREMENTAL_ASYNC
freq = 50
max_log_file = 64
num_logs = 5
priority_boost = 4
name_format = NONE
max_log_file_action = ROTATE
space_left = 75
space_left_action = IGNORE
admin_space_left = 50
admin_space_left_action = IGNORE
disk_full_action = IGNORE
disk_error_action = IGNORE
plugin_dir = DIRECTORY/auditd/plugins.d
end_of_event_timeout = 2
"""

# journald hands on what it gets (ForwardToSyslog) to the socket that Debian's rsyslog listens at.
RSYSLOG_FROM_JOURNALD = """\
module(load="imuxsock" SysSock.Name="/run/systemd/journal/syslog")
"""
RSYSLOG_FROM_JOURNAL = """\
module(load="imjournal" IgnorePreviousMessages="on" StateFile="imjournal.state")
"""
RSYSLOG_ACTIONS = """\
global(workDirectory="DIRECTORY")
template(name="pid_message" type="string" string="%procid%%msg:::sp-if-no-1st-sp%%msg%\\n")
if $programname == ["sshd", "sshd-session", "sshd-auth"] then {
    action(type="omfile" file="DIRECTORY/sshd.log" template="RSYSLOG_FileFormat")
    action(type="omfile" file="DIRECTORY/sshd.pipe-lines" template="pid_message")
    action(type="ompipe" pipe="DIRECTORY/sshd.fifo" template="pid_message")
}
"""

SSHD_CONFIGURATION = """\
PidFile DIRECTORY/sshd.pid
HostKey DIRECTORY/keys/host
TrustedUserCAKeys DIRECTORY/keys/ca.pub
AuthorizedKeysFile DIRECTORY/keys/authorized.%u
UsePAM yes
PubkeyAuthentication yes
PasswordAuthentication yes
KbdInteractiveAuthentication no
PermitRootLogin no
UseDNS no
PrintMotd no
SyslogFacility AUTH
LogLevel INFO
"""

if __name__ == "__main__":
    print(CHANGES, end="")
