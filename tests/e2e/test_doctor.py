"""``audito doctor`` on real hosts: what it finds broken is broken, and the commands that it names mend it.

What concerns the kernel, auditd and a running sshd is broken and mended on this machine, and put back (undo.py).
What is in files of /etc, and needs systemd, is broken and mended in a guest (guest.py), whose logins the machine's
kernel records. Not shown here: packages that are installed, a clock that is kept, a reboot.
"""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

from . import daemon
from .guest import Guest
from .guest import why_not as why_no_guest
from .host import RULES, Host, audit_status, free_port, why_not
from .scenario import Truth, alice_on_the_shared_account
from .undo import run, wait_until

REASON = (
    "changes this machine (audit rules, daemons, files in /etc): set AUDITO_E2E=1 to allow it"
    if os.environ.get("AUDITO_E2E") != "1"
    else why_not() or why_no_guest()
)
pytestmark = [
    pytest.mark.e2e,
    pytest.mark.skipif(REASON is not None, reason=str(REASON)),
    pytest.mark.timeout(300),
]

Finding = dict[str, Any]


@dataclass
class Patient:
    """Somewhere to run ``audito doctor`` and what it says."""

    shell: Callable[[str], tuple[int, str]]
    program: str
    flags: str

    def findings(self, check: str) -> list[Finding]:
        """The findings of one check, as the JSON report has them."""
        _, text = self.shell(f"{self.program} doctor --json {self.flags}")
        return [finding for finding in json.loads(text)["findings"] if finding["check"] == check]

    def finding(self, check: str) -> Finding:
        """The worst finding of a check."""
        order = ("missing", "warning", "ok")
        return min(self.findings(check), key=lambda finding: order.index(finding["state"]))

    def mend(self, check: str, state: str) -> None:
        """What is in this state is ok after the commands that the finding names."""
        finding = self.finding(check)
        assert finding["state"] == state, finding
        assert finding["mend"], finding
        for command in finding["mend"]:
            code, text = self.shell(command)
            assert code == 0, f"{command}: {text}"
        assert self.finding(check)["state"] == "ok", (finding, self.finding(check))


@pytest.fixture(scope="module", name="host")
def _host() -> Iterator[Host]:
    with Host() as host:
        host.keep(Path("/etc/audit"))
        yield host


# -- on this machine


def on_machine(command: str) -> tuple[int, str]:
    done = subprocess.run(["sh", "-c", command], stdin=subprocess.DEVNULL, capture_output=True, text=True, cwd="/")
    return done.returncode, done.stdout or done.stderr


@pytest.fixture(scope="module", name="machine")
def _machine(host: Host, tmp_path_factory: pytest.TempPathFactory) -> Patient:
    directory = tmp_path_factory.mktemp("doctor")
    (directory / "state").mkdir(mode=0o700)
    flags = (
        f"--audit-dir-path {host.audit_directory} --journal-dir {host.journal_directory} --state-dir {directory}/state"
        f" --output {directory}/events --sshd-config {host.directory}/sshd_config"
    )
    return Patient(on_machine, f"{sys.executable} -m audito", flags)


def test_the_real_host_is_seen_as_it_is(machine: Patient, host: Host) -> None:
    for check in ("auditing", "auditd", "login records", "UsePAM", "pam_loginuid", "output", "inotify", "versions"):
        assert machine.finding(check)["state"] == "ok", machine.finding(check)
    assert f"pid {audit_status()['pid']}" in machine.finding("auditd")["text"]
    # The harness's rules are of users from 1000 on, and of execve alone: real gaps, and named so.
    assert machine.finding("execve rules")["state"] == "warning"
    run("ssh-keyscan", "-p", str(host.port), "127.0.0.1")
    wait_until("sshd's line in the journal", lambda: machine.finding("sshd lines")["state"] == "ok")
    assert machine.shell(f"{machine.program} doctor {machine.flags}")[0] == 0


def test_auditing_that_is_off(machine: Patient, host: Host) -> None:
    run("auditctl", "-e", "0")
    machine.mend("auditing", "missing")
    assert audit_status()["enabled"] == 1


def executed(host: Host, path: Path) -> bool:
    """Whether the kernel records an execve that a login (auid 1000) makes of the program."""
    code = f"open('/proc/self/loginuid', 'w').write('1000'); import os; os.execv({str(path)!r}, [{str(path)!r}])"
    subprocess.run([sys.executable, "-c", code], check=True, stdout=subprocess.DEVNULL)
    log = host.audit_directory / "audit.log"
    deadline = time.monotonic() + 3
    while time.monotonic() < deadline:
        if f'exe="{path}"' in log.read_text(errors="replace"):
            return True
        time.sleep(0.1)
    return False


def program_in(directory: Path, name: str) -> Path:
    """A program that nobody has run yet."""
    path = directory / name
    path.write_bytes(Path("/usr/bin/true").read_bytes())
    path.chmod(0o755)
    return path


def test_rules_that_are_missing(machine: Patient, host: Host, tmp_path: Path) -> None:
    host.set_rules()
    assert not executed(host, program_in(tmp_path, "unseen"))
    machine.mend("execve rules", "missing")
    assert executed(host, program_in(tmp_path, "seen"))
    assert "-S execve,execveat -F auid!=-1 -F key=audito-exec" in run("auditctl", "-l")


def test_rules_of_one_abi(machine: Patient, host: Host) -> None:
    host.set_rules("always,exit -F arch=b64 -S execve,execveat -F auid!=-1".split())
    assert "b32" in machine.finding("execve rules")["text"]
    machine.mend("execve rules", "missing")


def test_a_loaded_rule_that_hides_commands(machine: Patient, host: Host, tmp_path: Path) -> None:
    run("augenrules", "--load")
    run("auditctl", "-A", *"never,exit -F arch=b64 -S execve -F auid>=1000".split())
    assert not executed(host, program_in(tmp_path, "unseen"))
    machine.mend("execve rules", "missing")
    assert executed(host, program_in(tmp_path, "seen"))


def test_a_rule_of_a_file_that_hides_commands(machine: Patient, host: Host, tmp_path: Path) -> None:
    Path("/etc/audit/rules.d/10-no-audit.rules").write_text("# As Fedora ships it.\n-a task,never\n")
    run("augenrules", "--load")
    assert not executed(host, program_in(tmp_path, "unseen"))
    machine.mend("execve rules", "missing")
    assert executed(host, program_in(tmp_path, "seen"))
    run("augenrules", "--load")
    assert machine.finding("execve rules")["state"] == "ok", "it stays away"


def test_records_of_logins_that_a_rule_hides(machine: Patient, host: Host) -> None:
    run("auditctl", "-a", "always,exclude", "-F", "msgtype=LOGIN")
    machine.mend("login records", "missing")


def test_a_backlog_that_is_too_small(machine: Patient, host: Host) -> None:
    run("auditctl", "-b", "64")
    machine.mend("lost records", "warning")
    assert audit_status()["backlog_limit"] == 8192


def test_a_limit_on_records(machine: Patient, host: Host) -> None:
    run("auditctl", "-r", "1000")
    machine.mend("lost records", "warning")
    assert audit_status()["rate_limit"] == 0


def test_records_that_were_lost(machine: Patient, host: Host) -> None:
    before = audit_status()
    run("auditctl", "--backlog_wait_time", "0")
    run("auditctl", "-b", "2")
    os.kill(before["pid"], signal.SIGSTOP)
    try:
        for _ in range(300):
            run("auditctl", "-m", "flood")
    except Exception:  # noqa: BLE001  # auditctl may be told that its message was lost
        pass
    finally:
        os.kill(before["pid"], signal.SIGCONT)
    wait_until("the kernel loses records", lambda: audit_status()["lost"] > 0)
    machine.mend("lost records", "warning")
    run("auditctl", "--backlog_wait_time", str(before["backlog_wait_time"]))


def test_an_auditd_that_writes_nothing(machine: Patient, host: Host) -> None:
    conf, log = host.directory / "auditd/auditd.conf", host.audit_directory / "audit.log"
    if not conf.exists():
        pytest.skip("the machine's own auditd serves")
    conf.write_text(conf.read_text().replace("write_logs = yes", "write_logs = no"))
    os.kill(audit_status()["pid"], signal.SIGHUP)

    def writes(mark: str) -> bool:
        run("auditctl", "-m", mark)
        time.sleep(0.2)
        return mark in log.read_text(errors="replace")

    wait_until("auditd has read it", lambda: not writes(f"before-{time.monotonic_ns()}"))
    machine.mend("auditd", "missing")
    wait_until("auditd writes again", lambda: writes(f"after-{time.monotonic_ns()}"))


def connection_lines(host: Host) -> int:
    """Lines that sshd logs at VERBOSE for each connection, and not at INFO."""
    text = run("journalctl", "-D", str(host.journal_directory), "-t", "sshd", "-o", "cat", "--no-pager")
    return sum(line.startswith("Connection from 127.0.0.1") for line in text.splitlines())


def test_a_log_level_in_a_configuration_without_drop_ins(machine: Patient, host: Host) -> None:
    before = connection_lines(host)
    run("ssh-keyscan", "-p", str(host.port), "127.0.0.1")
    assert connection_lines(host) == before
    machine.mend("LogLevel", "warning")

    def has_line() -> bool:
        on_machine(f"ssh-keyscan -p {host.port} 127.0.0.1")
        return connection_lines(host) > before

    wait_until("the running sshd has read it again", has_line)


def test_an_sshd_that_uses_no_pam(machine: Patient, host: Host) -> None:
    configuration = host.directory / "sshd_config"
    configuration.write_text(configuration.read_text().replace("UsePAM yes", "UsePAM no"))
    machine.mend("UsePAM", "missing")


@pytest.mark.parametrize("name", ["max_user_instances", "max_user_watches"])
def test_inotify_that_is_used_up(machine: Patient, host: Host, name: str) -> None:
    limit = host.keep_sysctl(f"fs.inotify.{name}")
    host.keep(Path(f"/etc/sysctl.d/90-audito-{name.replace('_', '-')}.conf"))
    text = next(finding["text"] for finding in machine.findings("inotify") if name in finding["text"])
    used = int(text.rpartition(" of ")[0].rpartition(" ")[2])
    # For the moment that this takes: others on this machine use some too, more now and fewer then.
    run("sysctl", "-q", "-w", f"fs.inotify.{name}={used + 1}")
    try:
        machine.mend("inotify", "warning")
        assert int(run("sysctl", "-n", f"fs.inotify.{name}")) >= 1024
    finally:
        run("sysctl", "-q", "-w", f"fs.inotify.{name}={limit}")


# -- in a guest


@pytest.fixture(scope="module", name="guest")
def _guest(host: Host, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Guest]:
    del host  # it records what the guest's logins are
    directory = tmp_path_factory.mktemp("guest")
    with Guest(directory, audited=True) as guest:
        guest.install_audito()
        guest.append(
            "/etc/ssh/sshd_config", "\nPort 2222\nListenAddress 127.0.0.1\nPermitRootLogin yes\nStrictModes no\n"
        )
        guest.run("sed", "-i", f"s/^Port 2222/Port {free_port('127.0.0.1')}/", "/etc/ssh/sshd_config")
        guest.run("mkdir", "-p", "/run/sshd")
        guest.run("systemctl", "start", "ssh")
        yield guest


@pytest.fixture(name="patient")
def _patient(guest: Guest) -> Patient:
    return Patient(lambda command: guest.try_run("sh", "-c", f"cd /; {command}"), "audito", "2>/dev/null")


def test_an_sshd_that_was_never_started(patient: Patient, guest: Guest) -> None:
    guest.run("rm", "-rf", "/run/sshd")
    finding = patient.finding("sshd")
    assert finding["state"] == "missing" and "privilege separation" in finding["text"]
    for command in finding["mend"]:
        assert patient.shell(command)[0] == 0
    assert not patient.findings("sshd")


def test_an_sshd_without_host_keys(patient: Patient, guest: Guest) -> None:
    guest.run("sh", "-c", "rm -f /etc/ssh/ssh_host_*")
    finding = patient.finding("sshd")
    assert finding["state"] == "missing" and "no hostkeys" in finding["text"]
    for command in finding["mend"]:
        assert patient.shell(command)[0] == 0
    assert not patient.findings("sshd")
    guest.run("systemctl", "restart", "ssh")


def port_of(guest: Guest) -> int:
    return int(guest.run("sh", "-c", "sshd -T | sed -n 's/^port //p'"))


def test_a_journal_without_lines_of_sshd(patient: Patient, guest: Guest) -> None:
    guest.run("systemctl", "stop", "ssh")
    guest.run("sh", "-c", "journalctl --rotate && journalctl --vacuum-time=1us")
    assert patient.finding("sshd lines")["state"] == "warning"
    guest.run("sh", "-c", "systemctl start ssh && journalctl --rotate && journalctl --vacuum-time=1us")
    wait_until("the lines are gone", lambda: patient.finding("sshd lines")["state"] == "warning")
    patient.mend("sshd lines", "warning")


def test_a_log_level_by_a_drop_in(patient: Patient, guest: Guest) -> None:
    patient.mend("LogLevel", "warning")
    assert guest.run("cat", "/etc/ssh/sshd_config.d/00-audito-loglevel.conf") == "LogLevel VERBOSE\n"

    def is_verbose() -> bool:
        guest.try_run("ssh-keyscan", "-p", str(port_of(guest)), "127.0.0.1")
        return "Connection from 127.0.0.1" in guest.run("journalctl", "-t", "sshd", "-o", "cat")

    wait_until("the running sshd has read it", is_verbose)


def test_a_log_level_that_another_drop_in_sets_first(patient: Patient, guest: Guest) -> None:
    guest.write("/etc/ssh/sshd_config.d/00-a.conf", "LogLevel QUIET\n")
    patient.mend("LogLevel", "missing")
    assert "loglevel VERBOSE" in guest.run("sshd", "-T")
    guest.run("rm", "/etc/ssh/sshd_config.d/00-a.conf")


def test_pam_that_is_not_used(patient: Patient, guest: Guest) -> None:
    guest.run("sed", "-i", "s/^UsePAM yes/UsePAM no/", "/etc/ssh/sshd_config")
    patient.mend("UsePAM", "missing")


def test_pam_loginuid_that_is_missing(patient: Patient, guest: Guest, host: Host, tmp_path: Path) -> None:
    """A real login of the guest opens an audit session of the machine's kernel after the mend, and none before."""
    key = tmp_path / "key"
    run("ssh-keygen", "-q", "-t", "ed25519", "-N", "", "-f", str(key))
    guest.write("/root/.ssh/authorized_keys", Path(f"{key}.pub").read_text(), "600")
    guest.run("chmod", "700", "/root", "/root/.ssh")
    log = host.audit_directory / "audit.log"

    def sessions() -> set[str]:
        """Serials of the LOGIN records that sshd made: cron makes some too."""
        lines = [line for line in log.read_text(errors="replace").splitlines() if " msg=audit(" in line]
        serials = {line: line.partition(")")[0].rpartition(":")[2] for line in lines}
        of_sshd = {
            serials[line] for line in lines if line.startswith("type=SYSCALL") and 'exe="/usr/sbin/sshd"' in line
        }
        return of_sshd & {serials[line] for line in lines if line.startswith("type=LOGIN ")}

    def sessions_opened() -> int:
        before = sessions()
        options = ("-F", "none", "-o", "StrictHostKeyChecking=no", "-o", "UserKnownHostsFile=/dev/null")
        target = ("-i", str(key), "-p", str(port_of(guest)), "root@127.0.0.1", "true")
        subprocess.run(["ssh", *options, *target], check=True, stderr=subprocess.DEVNULL, timeout=30)
        time.sleep(1)  # auditd writes at once; what has not come by now does not come
        return len(sessions() - before)

    guest.run("sed", "-i", "/pam_loginuid/d", "/etc/pam.d/sshd")
    assert sessions_opened() == 0
    patient.mend("pam_loginuid", "missing")
    assert sessions_opened() == 1
    assert guest.run("head", "-n1", "/etc/pam.d/sshd") == "session required pam_loginuid.so\n"


def test_a_pam_stack_of_the_vendor(patient: Patient, guest: Guest) -> None:
    guest.run("mkdir", "-p", "/usr/lib/pam.d")
    guest.run("sh", "-c", "grep -v pam_loginuid /etc/pam.d/sshd > /usr/lib/pam.d/sshd && rm /etc/pam.d/sshd")
    patient.mend("pam_loginuid", "missing")


def test_a_journal_that_drops_too_soon(patient: Patient, guest: Guest) -> None:
    guest.write("/etc/systemd/journald.conf.d/50-x.conf", "[Journal]\nRateLimitBurst=10\n")
    guest.run("systemctl", "restart", "systemd-journald")

    def kept(tag: str) -> int:
        # As a unit of its own: what belongs to none is not limited.
        unit = f"[Service]\nType=oneshot\nSyslogIdentifier={tag}\nExecStart=seq 500\n"
        guest.write(f"/run/systemd/system/{tag}.service", unit)
        guest.run("systemctl", "start", tag)
        guest.run("journalctl", "--sync")
        return int(guest.run("sh", "-c", f"journalctl -t {tag} -o cat | wc -l"))

    assert kept("before") < 500
    patient.mend("rate limit", "warning")
    assert kept("after") == 500


def test_an_rsyslog_that_drops_too_soon(guest: Guest, patient: Patient) -> None:
    guest.write("/var/log/auth.log", "")
    guest.write("/etc/rsyslog.conf", 'module(load="imjournal" StateFile="/run/imjournal")\n*.* /var/log/all\n')
    with_file = Patient(patient.shell, "audito", "--sshd-log-path /var/log/auth.log 2>/dev/null")
    guest.run("systemctl", "start", "rsyslog")
    with_file.mend("rate limit", "warning")
    guest.run("rsyslogd", "-N1")
    assert guest.show("rsyslog", "ActiveState") == "active"
    guest.run("systemctl", "stop", "rsyslog", "syslog.socket")


@pytest.mark.parametrize(
    ("check", "flags", "before"),
    [
        ("output", "--output /srv/new/events", ""),
        ("output", "--output /srv/events --user audito-new", ""),
        ("output", "--output /srv/ro/events", "mkdir -p /srv/ro && mount -t tmpfs -o ro tmpfs /srv/ro"),
        ("state", "--state-dir /srv/state", "mkdir -m 0777 -p /srv/state; chmod 777 /srv/state"),
        ("sshd lines", "--sshd-pipe-path /srv/pipes/sshd", ""),
        ("audit records", "--auditd-pipe-path /srv/pipes/audit", ""),
    ],
)
def test_what_the_daemon_writes_and_reads(patient: Patient, guest: Guest, check: str, flags: str, before: str) -> None:
    if before:
        guest.run("sh", "-c", before)
    Patient(patient.shell, "audito", f"{flags} 2>/dev/null").mend(check, "missing")


def test_an_output_that_the_daemon_is_to_be_given_another_path_for(patient: Patient, guest: Guest) -> None:
    """The mend is a command of audito itself: its flags, given to the doctor, are ok."""
    guest.run("mkdir", "-p", "/srv/dir")
    guest.run("ln", "-s", "/srv/dir/real", "/srv/link")
    for check, flags in (
        ("output", "--output /srv/dir"),
        ("output", "--output /srv/link"),
        ("state", "--output /srv/e --state-dir /run/audito"),
    ):
        (command,) = Patient(patient.shell, "audito", f"{flags} 2>/dev/null").finding(check)["mend"]
        program, word, mended = command.split(" ", 2)
        assert (program, word) == ("/usr/local/bin/audito", "run")
        patient_after = Patient(patient.shell, "audito", f"{flags} {mended} 2>/dev/null")
        assert patient_after.finding(check)["state"] == "ok"


# -- last: what ends the harness's auditd


@pytest.fixture(name="bare")
def _bare(host: Host) -> Iterator[None]:
    """The machine without any auditd; what a test starts ends with it, and the harness's rules come back."""
    if Path("/run/systemd/system").exists():
        pytest.skip("systemd's auditd refuses to be stopped by hand")
    host.keep(Path("/var/log/audit"))
    host.keep(Path("/run/auditd.pid"))
    end_auditd()
    yield
    end_auditd()
    host.set_rules(*(list(rule) for rule in RULES))


def end_auditd() -> None:
    if pid := audit_status()["pid"]:
        os.kill(pid, signal.SIGTERM)
        wait_until("auditd ends", lambda: not audit_status()["pid"])


@pytest.mark.usefixtures("bare")
def test_auditd_that_does_not_run(machine: Patient, host: Host) -> None:
    finding = machine.finding("auditd")
    assert finding["state"] == "missing"
    for command in finding["mend"]:
        code, text = machine.shell(command)
        assert code == 0, text
    assert audit_status()["pid"]
    own = with_the_hosts_own_log(machine, host)
    for check in ("auditing", "auditd", "audit records"):
        assert own.finding(check)["state"] == "ok", own.finding(check)


def with_the_hosts_own_log(machine: Patient, host: Host) -> Patient:
    """The auditd that a mend starts has the host's own configuration and log."""
    flags = machine.flags.replace(f"{host.audit_directory} ", "/var/log/audit ")
    return Patient(machine.shell, machine.program, flags)


@pytest.mark.usefixtures("bare")
def test_nothing_but_the_commands_of_doctor_leads_to_live_events(machine: Patient, host: Host, tmp_path: Path) -> None:
    """What the README promises: a host that records nothing, doctor, its commands, and a login is seen."""
    run("auditctl", "-D")
    run("auditctl", "-e", "0")
    own = with_the_hosts_own_log(machine, host)
    mended: list[str] = []
    rounds = 0
    while own.shell(f"{own.program} doctor {own.flags}")[0] == 1:
        _, text = own.shell(f"{own.program} doctor --json {own.flags}")
        missing = [finding for finding in json.loads(text)["findings"] if finding["state"] == "missing"]
        mended += [finding["check"] for finding in missing]
        rounds += 1
        assert rounds <= 3, mended
        for command in [command for finding in missing for command in finding["mend"]]:
            code, said = own.shell(command)
            assert code == 0, f"{command}: {said}"
    assert {"auditing", "auditd", "execve rules"} <= set(mended)
    inputs = ("-audit-dir-path", "/var/log/audit", "--journal-dir", str(host.journal_directory))
    audito = daemon.start(tmp_path, *inputs)
    try:
        daemon.wait_for_inputs(audito, Path("/var/log/audit"), host.journal_directory)
        truth = Truth()
        alice_on_the_shared_account(host, truth)
        user = truth.logins[0].user_id
        wanted = {"UserLogin", "UserAction", "UserLogout"}

        def of_alice() -> list[dict[str, Any]]:
            return [event for event in audito.events() if event.get("subjects", {}).get("userID") == user]

        wait_until("her events", lambda: wanted <= {event["type"] for event in of_alice()})
        executed = [event["metadata"]["extra"]["exe"] for event in of_alice() if event["type"] == "UserAction"]
        assert {command.exe for command in truth.logins[0].commands if command.succeeded} <= set(executed)
    finally:
        audito.kill()
