"""``audito doctor`` on hosts that are made up: trees of files, and commands that say what a test wants.

What its mends do is shown in tests/e2e/test_doctor.py, on real ones.
"""

from __future__ import annotations

import json
import os
import pty
import re
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from audito import doctor
from audito.config import DoctorConfig, load_doctor
from audito.doctor import Finding, Host, Ran, Report
from audito.errors import SinkError
from audito.tables import audit_rules
from audito.tables import host as facts
from tests.sources.journals import Journal, needs_journal

ROOT = Path(__file__).parent.parent

STATUS = "enabled 1\nfailure 1\npid 812\nrate_limit 0\nbacklog_limit 8192\nlost 0\nbacklog 0\n"
RULES = (
    "-a always,exit -F arch=b64 -S execve,execveat -F auid!=-1 -F key=audito-exec\n"
    "-a always,exit -F arch=b32 -S execve,execveat -F auid!=-1 -F key=audito-exec\n"
)
SSHD = (
    "port 22\nusepam yes\nloglevel VERBOSE\npermitrootlogin no\nauthenticationmethods any\n"
    "pamservicename sshd\npidfile /run/sshd.pid\n"
)
AUDIT_RECORD = "type=LOGIN msg=audit(1.001:1): pid=1 uid=0 old-auid=4294967295 auid=0 old-ses=4294967295 ses=1 res=1\n"
SYSLOG = "2024-07-09T15:00:29.099504+02:00 host sshd[9]: Server listening on :: port 22.\n"


class Made:
    """A host in a directory. ``commands``: what each prints; one that is not there cannot be found."""

    def __init__(self, root: Path) -> None:
        self.root = root
        self.clock = True
        self.commands: dict[str, str | Ran] = {
            "auditctl -s": STATUS,
            "auditctl -l": RULES,
            "auditctl -v": "auditctl version 3.0.9\n",
            "sshd -T": SSHD,
            "sshd -V": Ran(1, "", "unknown option -- V\nOpenSSH_9.2p1 Debian, OpenSSL 3.0\n"),
            "uname -m": "x86_64\n",
            "uname -r": "6.1.0\n",
            "systemctl --version": "systemd 252 (252.39)\n",
        }
        self.is_root = True
        self.flags = ["--output", "/var/log/audito/events.jsonl", "--state-dir", "/var/lib/audito"]
        self.flags += ["--sshd-log-path", "/var/log/auth.log"]
        for path in ("/var/log/audito", "/var/lib/audito", "/run/systemd/system", "/usr/lib/systemd/system"):
            (root / path[1:]).mkdir(parents=True)
        (root / "var/lib/audito").chmod(0o700)
        self.write("/proc/812/comm", "auditd\n")
        self.write("/proc/self/loginuid", "0")
        self.write("/proc/self/mounts", "/dev/sda1 / ext4 rw 0 0\ntmpfs /run tmpfs rw 0 0\n")
        self.write("/proc/sys/fs/inotify/max_user_instances", "128\n")
        self.write("/proc/sys/fs/inotify/max_user_watches", "65536\n")
        self.write("/usr/bin/apt-get", "")
        self.write("/usr/sbin/augenrules", "")
        self.write("/usr/sbin/auditd", "")
        self.write("/var/log/audit/audit.log", AUDIT_RECORD)
        self.write("/var/log/auth.log", SYSLOG)
        self.write("/etc/pam.d/sshd", "@include common-auth\nsession required pam_loginuid.so\n")
        self.write("/etc/ssh/sshd_config", "# ours\nInclude /etc/ssh/sshd_config.d/*.conf\nUsePAM yes\n")
        self.write("/usr/lib/systemd/system/ssh.service", "")

    def write(self, name: str, text: str) -> None:
        path = self.root / name[1:]
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text)

    def run(self, command: tuple[str, ...]) -> Ran:
        said = self.commands.get(" ".join(command), Ran(127, "", f"{command[0]}: No such file or directory"))
        return said if isinstance(said, Ran) else Ran(0, said, "")

    def host(self) -> Host:
        return Host(self.root, self.run, lambda: self.clock, is_root=self.is_root)

    def config(self) -> DoctorConfig:
        # The settings as they are on that host: paths without the root that it has here.
        return load_doctor(self.flags, {}, hostname="blam", cwd="/")

    def report(self) -> Report:
        return doctor.examine(self.host(), self.config())

    def findings(self, check: str) -> list[Finding]:
        return [finding for finding in self.report().findings if finding.check == check]

    def finding(self, check: str) -> Finding:
        """The only finding of this name."""
        (finding,) = self.findings(check)
        return finding


@pytest.fixture(name="made")
def _made(tmp_path: Path) -> Made:
    return Made(tmp_path / "host")


def test_a_host_that_lacks_nothing(made: Made) -> None:
    report = made.report()
    assert [finding for finding in report.findings if finding.state != "ok"] == []
    assert report.ok
    names = [finding.check for finding in report.findings]
    assert names == (
        "auditing,auditd,audit records,execve rules,login records,lost records,UsePAM,pam_loginuid,LogLevel,"
        "sshd lines,rate limit,inotify,inotify,output,state,clock,versions"
    ).split(",")
    versions = (
        f"audito {report.version}, Python {sys.version.split()[0]}, OpenSSH 9.2, audit 3.0.9, systemd 252, Linux 6.1.0"
    )
    assert report.findings[-1].text == versions


def test_an_empty_host(tmp_path: Path) -> None:
    """Nothing is there at all: every check says so, and none fails."""
    report = doctor.examine(
        Host(tmp_path, lambda _: Ran(127, "", "no"), lambda: False, is_root=True), load_doctor([], {})
    )
    assert not report.ok
    assert not [finding for finding in report.findings if "cannot be told" in finding.text]
    assert {"auditing", "sshd", "audit records", "sshd lines"} <= {
        f.check for f in report.findings if f.state == "missing"
    }


# -- the kernel, auditd, rules


def test_auditing_is_off(made: Made) -> None:
    made.commands["auditctl -s"] = STATUS.replace("enabled 1", "enabled 0")
    assert made.finding("auditing").state == "missing"
    assert made.finding("auditing").mend == ("auditctl -e 1",)
    made.commands["auditctl -s"] = "enabled 0\npid 0\nbacklog_limit 8192\n"
    assert made.finding("auditing").mend == ("systemctl enable --now auditd",)
    made.commands["auditctl -s"] = STATUS.replace("enabled 1", "enabled 2")
    assert "locked" in made.finding("auditing").text


def test_auditctl_is_not_there(made: Made) -> None:
    del made.commands["auditctl -s"]
    finding = made.finding("auditing")
    assert (finding.state, finding.mend) == ("missing", ("apt-get update && apt-get install -y auditd",))
    (made.root / "usr/bin/apt-get").unlink()
    made.write("/usr/bin/dnf", "")
    assert made.finding("auditing").mend == ("dnf install -y audit",)


def test_who_is_not_root_is_told_so(made: Made) -> None:
    made.is_root = False
    made.commands["auditctl -s"] = Ran(4, "", "You must be root to run this program.\n")
    made.commands["sshd -T"] = Ran(1, "", "sshd: no hostkeys available -- exiting.\n")
    for check in ("auditing", "sshd"):
        assert made.finding(check).state == "warning"
        assert made.finding(check).mend == ("sudo audito doctor",)


def test_auditing_is_off_from_boot_on(made: Made) -> None:
    made.commands["auditctl -s"] = Ran(1, "", "Error - audit support not in kernel\nCannot open netlink audit socket\n")
    made.write("/proc/cmdline", "ro quiet audit=0\n")
    assert "audit=0" in made.finding("auditing").text
    assert made.finding("auditing").mend[-1] == "reboot"
    (made.root / "proc/self/loginuid").unlink()
    assert "CONFIG_AUDIT" in made.finding("auditing").text


def test_nobody_takes_the_records(made: Made) -> None:
    made.commands["auditctl -s"] = STATUS.replace("pid 812", "pid 0")
    assert made.finding("auditd").state == "missing"
    assert made.finding("auditd").mend == ("systemctl enable --now auditd",)
    (made.root / "usr/sbin/auditd").unlink()
    assert made.finding("auditd").mend == (
        "apt-get update && apt-get install -y auditd",
        "systemctl enable --now auditd",
    )
    (made.root / "run/systemd/system").rmdir()
    made.write("/etc/init.d/auditd", "")
    assert made.finding("auditd").mend[-1] == "service auditd start"


def test_somebody_else_takes_the_records(made: Made) -> None:
    made.write("/proc/812/comm", "go-audit\n")
    assert made.finding("auditd").state == "warning"
    assert "go-audit" in made.finding("auditd").text


def test_auditd_writes_elsewhere_or_nothing(made: Made) -> None:
    made.write("/etc/audit/auditd.conf", "# log_file = /x\nlog_file = /srv/audit/audit.log\nwrite_logs = no\n")
    _, silent, elsewhere = made.findings("auditd")
    assert silent.state == "missing"
    assert elsewhere.mend == ("audito run --audit-dir-path /srv/audit",)
    made.flags += ["--audit-dir-path", "/srv/audit"]
    made.write("/etc/audit/auditd.conf", "log_file = /srv/audit/audit.log\nwrite_logs = yes\n")
    assert len(made.findings("auditd")) == 1
    made.write("/proc/812/cmdline", "/sbin/auditd\0-c\0/srv/etc\0")
    made.write("/srv/etc/auditd.conf", "log_file = /var/log/audit/audit.log\n")
    assert made.findings("auditd")[1].mend == ("audito run --audit-dir-path /var/log/audit",)


def test_the_audit_log(made: Made) -> None:
    made.write("/var/log/audit/audit.log.1", AUDIT_RECORD)
    assert made.finding("audit records").text.startswith("2 files in /var/log/audit, the last record came at 2")
    (made.root / "var/log/audit/audit.log").unlink()
    (made.root / "var/log/audit/audit.log.1").unlink()
    assert made.finding("audit records").state == "missing"
    made.flags += ["--auditd-pipe-path", "/run/audit.pipe"]
    assert made.finding("audit records").mend == ("mkdir -p /run && mkfifo -m 0600 /run/audit.pipe",)
    os.mkfifo(made.root / "run/audit.pipe")
    assert made.finding("audit records").state == "ok"


@pytest.mark.parametrize(
    ("rules", "state", "text"),
    [
        ("No rules\n", "missing", "no rule records execve of sessions (b32, b64)"),
        (RULES.splitlines()[0], "missing", "no rule records execve of sessions (b32)"),
        (RULES.replace(",execveat", ""), "warning", "no rule records all execveat of sessions: it executes as well"),
        (
            RULES.replace("auid!=-1", "euid=0"),
            "warning",
            "rules record only some commands of sessions: of some users or files",
        ),
    ],
)
def test_rules_that_lack_something(made: Made, rules: str, state: str, text: str) -> None:
    made.commands["auditctl -l"] = rules
    finding = made.finding("execve rules")
    assert (finding.state, finding.text) == (state, text)
    assert finding.mend == ("audito doctor --write-rules /etc/audit/rules.d/audito.rules && augenrules --load",)


def test_rules_of_a_kernel_with_one_abi(made: Made) -> None:
    made.commands |= {"uname -m": "riscv64\n", "auditctl -l": RULES.splitlines()[0]}
    assert made.finding("execve rules").state == "ok"


def test_root_s_sessions_count_where_root_may_log_in(made: Made) -> None:
    made.commands["auditctl -l"] = RULES.replace("auid!=-1", "auid>=1000 -F auid!=-1")
    assert made.finding("execve rules").state == "ok"
    made.commands["sshd -T"] = SSHD.replace("permitrootlogin no", "permitrootlogin without-password")
    assert made.finding("execve rules").state == "warning"
    assert "root may log in" in made.finding("execve rules").text


def test_a_rule_that_hides_commands_is_taken_out_of_its_file(made: Made) -> None:
    made.commands["auditctl -l"] = "-a never,task\n" + RULES
    finding = made.finding("execve rules")
    assert (finding.state, finding.mend) == ("missing", ("auditctl -d never,task",))
    made.write("/etc/audit/rules.d/10-no-audit.rules", "# no auditing\n-a task,never\n")
    assert made.finding("execve rules").mend == (
        "sed -i '2s/^/# /' /etc/audit/rules.d/10-no-audit.rules && augenrules --load",
    )
    made.commands["auditctl -s"] = STATUS.replace("enabled 1", "enabled 2")
    assert made.finding("execve rules").mend[0].endswith(" && reboot")


def test_records_of_logins_that_rules_hide(made: Made) -> None:
    made.commands["auditctl -l"] = (
        RULES + "-a always,exclude -F msgtype=PROCTITLE\n-a always,exclude -F msgtype=LOGIN\n"
    )
    worse, bad = sorted(made.findings("login records"), key=lambda finding: finding.state)
    assert worse.state == "missing" and "LOGIN (opens each session)" in worse.text
    assert worse.mend == ("auditctl -d always,exclude -F msgtype=LOGIN",)
    assert bad.state == "warning" and "PROCTITLE" in bad.text


def test_lost_records_and_the_backlog(made: Made) -> None:
    made.commands["auditctl -s"] = STATUS.replace("lost 0", "lost 17")
    finding = made.finding("lost records")
    assert finding.state == "warning" and "17" in finding.text
    assert "'-b 16384' > /etc/audit/rules.d/audito-backlog.rules && augenrules --load" in finding.mend[0]
    assert finding.mend[1] == "auditctl --reset-lost"
    made.commands["auditctl -s"] = STATUS.replace("backlog_limit 8192", "backlog_limit 64")
    assert "'-b 8192'" in made.finding("lost records").mend[0]
    made.commands["auditctl -s"] = STATUS.replace("backlog 0", "backlog 7000")
    assert "7000 records wait" in made.finding("lost records").text
    made.commands["auditctl -s"] = STATUS.replace("rate_limit 0", "rate_limit 100")
    assert made.findings("lost records")[1].mend == ("auditctl -r 0",)


# -- sshd


def test_there_is_no_sshd(made: Made) -> None:
    del made.commands["sshd -T"]
    assert made.finding("sshd").mend == ("apt-get update && apt-get install -y openssh-server",)
    assert not made.findings("UsePAM") and not made.findings("LogLevel")


@pytest.mark.parametrize(
    ("told", "mend"),
    [
        ("Missing privilege separation directory: /run/sshd\n", ("install -d -m 0755 /run/sshd",)),
        ("sshd: no hostkeys available -- exiting.\n", ("ssh-keygen -A",)),
        ("/etc/ssh/sshd_config: terminating, 1 bad configuration options\n", ()),
    ],
)
def test_an_sshd_that_says_nothing(made: Made, told: str, mend: tuple[str, ...]) -> None:
    made.commands["sshd -T"] = Ran(255, "", told)
    assert (made.finding("sshd").state, made.finding("sshd").mend) == ("missing", mend)


def test_an_old_sshd_wants_to_know_for_whom(made: Made) -> None:
    made.commands["sshd -T"] = Ran(
        255, "", "'Match User' in configuration but 'user' not in connection test specification.\n"
    )
    made.commands["sshd -T -C user=root,host=localhost,addr=127.0.0.1"] = SSHD
    assert made.finding("UsePAM").state == "ok"


PAM = {
    "included": {"sshd": "@include common-session\n", "common-session": "session optional pam_loginuid.so\n"},
    "include": {"sshd": "session include system\n", "system": "session required pam_loginuid.so # why\n"},
    "substack": {
        "sshd": "session substack deep\n",
        "deep": "session include er\n",
        "er": "-session required pam_loginuid.so\n",
    },
    "continued": {"sshd": "session \\\n  required pam_loginuid.so\n"},
    "bracketed": {"sshd": "session [success=ok default=bad] pam_loginuid.so\n"},
}
NO_PAM = {
    "comment": {"sshd": "# session required pam_loginuid.so\n"},
    "other stack": {
        "sshd": "auth required pam_loginuid.so\nauth include other\n",
        "other": "session required pam_loginuid.so\n",
    },
    "loop": {"sshd": "@include sshd\n"},
    "gone": {"sshd": "@include nowhere\nsession include\nsession\n"},
}


@pytest.mark.parametrize("files", PAM.values(), ids=PAM)
def test_pam_loginuid_is_found(made: Made, files: dict[str, str]) -> None:
    for name, text in files.items():
        made.write(f"/etc/pam.d/{name}", text)
    assert made.finding("pam_loginuid").state == "ok"


@pytest.mark.parametrize("files", NO_PAM.values(), ids=NO_PAM)
def test_pam_loginuid_is_missed(made: Made, files: dict[str, str]) -> None:
    for name, text in files.items():
        made.write(f"/etc/pam.d/{name}", text)
    finding = made.finding("pam_loginuid")
    assert finding.state == "missing"
    assert finding.mend == ("sed -i '1i session required pam_loginuid.so' /etc/pam.d/sshd",)


def test_a_pam_stack_of_the_vendor_is_copied_first(made: Made) -> None:
    (made.root / "etc/pam.d/sshd").unlink()
    assert made.finding("pam_loginuid").mend == ("apt-get update && apt-get install -y openssh-server",)
    made.write("/usr/lib/pam.d/sshd", "session required pam_unix.so\n")
    assert made.finding("pam_loginuid").mend[0].startswith("cp /usr/lib/pam.d/sshd /etc/pam.d/sshd && sed -i ")


def test_without_pam_no_login_is_a_session(made: Made) -> None:
    made.commands["sshd -T"] = SSHD.replace("usepam yes", "usepam no")
    finding = made.finding("UsePAM")
    assert finding.state == "missing"
    assert "'UsePAM yes' > /etc/ssh/sshd_config.d/00-audito-usepam.conf" in finding.mend[0]
    assert finding.mend[0].endswith(" && sshd -t -f /etc/ssh/sshd_config && systemctl try-reload-or-restart ssh")
    made.commands["sshd -T"] = SSHD.replace("usepam yes\n", "")
    assert made.finding("UsePAM").mend == ()


@pytest.mark.parametrize(
    ("level", "methods", "state"),
    [
        ("VERBOSE", "any", "ok"),
        ("DEBUG3", "any", "ok"),
        ("INFO", "any", "warning"),
        ("INFO", "publickey,keyboard-interactive", "missing"),
        ("VERBOSE", "publickey,password", "ok"),
        ("ERROR", "any", "missing"),
        ("SILENT", "any", "missing"),
    ],
)
def test_log_level(made: Made, level: str, methods: str, state: str) -> None:
    made.commands["sshd -T"] = SSHD.replace("VERBOSE", level).replace("methods any", f"methods {methods}")
    assert made.finding("LogLevel").state == state
    assert bool(made.finding("LogLevel").mend) == (state != "ok")


@pytest.mark.parametrize(
    ("main", "drop_ins", "is_drop_in"),
    [
        ("Include /etc/ssh/sshd_config.d/*.conf\nLogLevel INFO\n", {}, True),
        ("# why\n\n include sshd_config.d/*.conf\n", {}, True),
        ("Include /etc/ssh/sshd_config.d/*.conf\n", {"50-x.conf": "LogLevel INFO\n"}, True),
        ("Include /etc/ssh/sshd_config.d/*.conf\n", {"00-a.conf": "loglevel=INFO\n"}, False),
        ("Include /etc/ssh/sshd_config.d/*.conf\n", {"00-a.conf": "# LogLevel INFO\n"}, True),
        ("LogLevel INFO\nInclude /etc/ssh/sshd_config.d/*.conf\n", {}, False),
        ("Include /etc/ssh/a.conf /etc/ssh/b/*.conf\n", {}, False),
        ("Port 22\n", {}, False),
    ],
)
def test_where_a_setting_of_sshd_goes(made: Made, main: str, drop_ins: dict[str, str], is_drop_in: bool) -> None:
    made.commands["sshd -T"] = SSHD.replace("VERBOSE", "INFO")
    made.write("/etc/ssh/sshd_config", main)
    for name, text in drop_ins.items():
        made.write(f"/etc/ssh/sshd_config.d/{name}", text)
    (mend,) = made.finding("LogLevel").mend
    drop_in = "printf '%s\\n' 'LogLevel VERBOSE' > /etc/ssh/sshd_config.d/00-audito-loglevel.conf && "
    assert (drop_in in mend) == is_drop_in
    assert mend.startswith("sed -i '1i LogLevel VERBOSE' /etc/ssh/sshd_config && ") != is_drop_in


def test_an_sshd_without_systemd_is_told_by_its_pid_file(made: Made) -> None:
    (made.root / "run/systemd/system").rmdir()
    made.commands["sshd -T"] = SSHD.replace("VERBOSE", "INFO")
    assert made.finding("LogLevel").mend[0].endswith("sshd -t -f /etc/ssh/sshd_config"), "none runs"
    made.write("/run/sshd.pid", "1\n")
    assert made.finding("LogLevel").mend[0].endswith(" && kill -HUP $(cat /run/sshd.pid)")


# -- sshd's lines


@pytest.mark.parametrize(
    "line",
    [
        SYSLOG,
        "Jul  9 15:00:29 host sshd-session[9]: x\n",
        "<86>1 2024-07-09T15:00:29Z host sshd 9 - - x\n",
        "Jul  9 15:00:29 sshd[9]: x\n",
    ],
)
def test_lines_in_a_syslog_file(made: Made, line: str) -> None:
    made.write("/var/log/auth.log", "Jul  9 15:00:29 host cron[1]: x\n" * 100_000 + line)
    assert made.finding("sshd lines").state == "ok"


def test_no_lines_in_a_syslog_file(made: Made) -> None:
    made.write("/var/log/auth.log", "Jul  9 15:00:29 host cron[9]: said sshd[1] once\n")
    finding = made.finding("sshd lines")
    assert (finding.state, finding.mend) == ("warning", ("ssh-keyscan -p 22 127.0.0.1",))
    (made.root / "var/log/auth.log").unlink()
    assert made.finding("sshd lines").state == "missing"


def test_no_source_of_lines_at_all(made: Made) -> None:
    made.flags = made.flags[:4]
    (made.root / "var/log/auth.log").unlink()
    finding = made.finding("sshd lines")
    assert finding.state == "missing" and finding.mend[0] == "apt-get update && apt-get install -y rsyslog"
    made.flags += ["--sshd-pipe-path", "/run/sshd.pipe"]
    assert "no pipe /run/sshd.pipe" in made.finding("sshd lines").text
    made.write("/run/sshd.pipe", "")
    assert "not a named pipe" in made.finding("sshd lines").text


@pytest.fixture(name="journal")
def _journal(made: Made) -> Journal:
    """A journal of the host, with a line of cron."""
    made.flags = made.flags[:4]
    made.write("/etc/machine-id", "0" * 31 + "1\n")
    directory = made.root / "var/log/journal" / ("0" * 31 + "1")
    directory.mkdir(parents=True)
    journal = Journal(directory)
    journal.append(b"x", SYSLOG_IDENTIFIER="cron", _EXE="/usr/sbin/cron")
    return journal


@needs_journal
def test_lines_in_the_journal(made: Made, journal: Journal) -> None:
    assert made.finding("sshd lines").state == "warning"
    journal.append(b"Accepted publickey", _UID="1000")
    assert "none is of an sshd that we know" in made.finding("sshd lines").text
    journal.append(b"Server listening on :: port 22.")
    assert made.finding("sshd lines").state == "ok"


@needs_journal
@pytest.mark.parametrize(
    ("files", "state"),
    [
        ({}, "ok"),
        ({"/etc/systemd/journald.conf": "[Journal]\n#RateLimitBurst=1\n"}, "ok"),
        ({"/etc/systemd/journald.conf": "[Journal]\nRateLimitBurst=100\n"}, "warning"),
        ({"/etc/systemd/journald.conf": "[Journal]\nRateLimitIntervalSec=1min 30s\n"}, "warning"),
        ({"/etc/systemd/journald.conf": "[Journal]\nRateLimitInterval=0\nRateLimitBurst=1\n"}, "ok"),
        ({"/etc/systemd/journald.conf": "[Journal]\nRateLimitBurst=0\n"}, "ok"),
        ({"/usr/lib/systemd/journald.conf.d/10-x.conf": "[Journal]\nRateLimitBurst=100\n"}, "warning"),
        (
            {
                "/usr/lib/systemd/journald.conf.d/10-x.conf": "[Journal]\nRateLimitBurst=100\n",
                "/etc/systemd/journald.conf.d/10-x.conf": "[Journal]\n",
            },
            "ok",
        ),
        (
            {
                "/etc/systemd/journald.conf.d/10-x.conf": "[Journal]\nRateLimitBurst=100\n",
                "/run/systemd/journald.conf.d/20-y.conf": "[Journal]\nRateLimitBurst=100000\n",
            },
            "ok",
        ),
        ({"/etc/systemd/journald.conf": "no section\x00\n[Journal\n"}, "ok"),
    ],
)
def test_the_limit_of_journald(made: Made, journal: Journal, files: dict[str, str], state: str) -> None:
    for name, text in files.items():
        made.write(name, text)
    finding = made.finding("rate limit")
    assert finding.state == state
    if state == "warning":
        assert finding.mend[0].endswith(" && systemctl restart systemd-journald")


@pytest.mark.parametrize(
    ("text", "state", "change"),
    [
        ('module(load="imuxsock")\n', "ok", ""),
        ('module(load="imjournal" StateFile="x")\n', "warning", "&"),
        ('module(load="imjournal"\n  Ratelimit.Interval="600" ratelimit.burst="90")\n', "warning", r"\10"),
        ('module(load="imjournal" ratelimit.interval="0")\n', "ok", ""),
        ('#module(load="imjournal")\n', "ok", ""),
    ],
)
def test_the_limit_of_rsyslog(made: Made, text: str, state: str, change: str) -> None:
    made.write("/etc/rsyslog.conf", text)
    finding = made.finding("rate limit")
    assert finding.state == state
    assert change in "".join(finding.mend)
    if change:
        edit = finding.mend[0].partition(" /etc/rsyslog.conf")[0]
        subprocess.run(f"{edit} {made.root}/etc/rsyslog.conf", shell=True, check=True)
        assert made.finding("rate limit").state == "ok"


@pytest.mark.parametrize(
    ("text", "seconds"),
    [
        ("30s", 30),
        ("1min 30s", 90),
        ("1m30s", 90),
        ("0", 0),
        ("500ms", 0.5),
        ("5", 5),
        ("", None),
        ("soon", None),
        ("1 fortnight", None),
    ],
)
def test_spans_of_systemd(text: str, seconds: float | None) -> None:
    assert doctor.span_s(text) == seconds


# -- what the daemon needs for itself


def test_inotify_limits(made: Made) -> None:
    made.write("/proc/sys/fs/inotify/max_user_instances", "2\n")
    (made.root / "proc/99/fd").mkdir(parents=True)
    (made.root / "proc/99/fd/5").symlink_to("anon_inode:inotify")
    made.write("/proc/99/fdinfo/5", "pos:\t0\ninotify wd:1 ino:2\ninotify wd:2 ino:3\n")
    instances, watches = made.findings("inotify")
    used = 1 if os.geteuid() == 0 else 0
    assert instances.state == "warning"
    assert f"root has {used} of 2" in instances.text
    path = "/etc/sysctl.d/90-audito-max-user-instances.conf"
    assert instances.mend == (
        f"mkdir -p /etc/sysctl.d && printf '%s\\n' 'fs.inotify.max_user_instances = 1024' > {path} && sysctl -p {path}",
    )
    assert watches.state == "ok"
    assert f"root has {2 * used} of 65536" in watches.text


def test_output_that_cannot_be(made: Made) -> None:
    events = made.root / "var/log/audito/events.jsonl"
    assert "will be made" in made.finding("output").text
    events.mkdir()
    assert made.finding("output").mend == ("audito run --output /var/log/audito/events.jsonl/audit.log",)
    events.rmdir()
    events.symlink_to("/var/log/audito/else")
    assert "does not follow" in made.finding("output").text
    events.unlink()
    events.touch()
    assert made.finding("output").state == "ok"
    os.link(events, events.with_suffix(".2"))
    assert "2 names" in made.finding("output").text
    for name in events.parent.iterdir():
        name.unlink()
    events.parent.rmdir()
    assert made.finding("output").mend == ("install -d -m 0750 /var/log/audito",)
    made.flags += ["--user", "nobody"]
    assert made.finding("output").mend == ("install -d -m 0750 -o nobody /var/log/audito",)
    made.flags += ["--user", "audito-is-nobody"]
    assert made.finding("output").mend[0].startswith("useradd --system ")


def test_standard_output_is_an_output(made: Made) -> None:
    made.flags += ["--output", "-"]
    assert made.finding("output").state == "ok"


def test_state_that_is_not_kept(made: Made) -> None:
    made.flags += ["--state-dir", "/run/audito"]
    finding = made.finding("state")
    assert (finding.state, finding.mend) == ("warning", ("audito run --state-dir /var/lib/audito",))
    (made.root / "var/run").symlink_to("../run")
    made.flags += ["--state-dir", "/var/run/audito"]
    assert made.finding("state").state == "warning", "a link into memory"
    made.flags += ["--output", "-"]
    assert made.finding("state").state == "ok", "who reads a pipe removes duplicates"


def test_state_that_others_may_write_to(made: Made) -> None:
    (made.root / "var/lib/audito").chmod(0o770)
    assert made.finding("state").mend == ("chmod go-w /var/lib/audito",)
    made.flags += ["--state-dir", "/var/log/auth.log"]
    assert "not a directory" in made.finding("state").text


def test_a_clock_that_nobody_keeps(made: Made) -> None:
    made.clock = False
    assert made.finding("clock").mend == (
        "apt-get update && apt-get install -y chrony",
        "systemctl enable --now chrony",
    )
    made.write("/usr/lib/systemd/system/chrony.service", "")
    assert made.finding("clock").mend == ("systemctl enable --now chrony",)
    made.write("/usr/lib/systemd/system/systemd-timesyncd.service", "")
    assert made.finding("clock").mend == ("timedatectl set-ntp true",)


@pytest.mark.parametrize(
    ("version", "state"), [("6.6p1", "ok"), ("10.5p1", "ok"), ("6.5p1", "warning"), ("10.6", "warning")]
)
def test_releases_of_openssh(made: Made, version: str, state: str) -> None:
    made.commands["sshd -V"] = Ran(1, "", f"OpenSSH_{version}, OpenSSL 3.0\n")
    assert made.finding("versions").state == state


def test_the_kernel_s_clock_is_asked() -> None:
    assert doctor.clock_is_kept() in (True, False)


def test_commands() -> None:
    assert doctor.run_command(("sh", "-c", "echo out; echo err >&2; exit 3")) == Ran(3, "out\n", "err\n")
    assert doctor.run_command(("no-such-program-of-audito",)).code == 127
    assert doctor.run_command(("sh", "-c", "cat; printf '\\377'")).out == "\ufffd", "no input, and any bytes"


def test_a_command_is_run_once() -> None:
    ran: list[tuple[str, ...]] = []

    def run(command: tuple[str, ...]) -> Ran:
        ran.append(command)
        return Ran(0, "x", "")

    host = Host(run=run)
    assert host.ran("a", "b") == host.ran("a", "b")
    assert ran == [("a", "b")]


def test_a_check_that_fails_is_a_finding(made: Made) -> None:
    def check_odd_things(host: Host, config: DoctorConfig) -> Iterator[Finding]:
        yield Finding("odd things", "ok", "so far")
        raise OSError(5, "Input/output error", "/x")

    report = doctor.examine(made.host(), made.config(), [check_odd_things, doctor.check_clock])
    assert [finding.state for finding in report.findings] == ["ok", "warning", "ok"]
    assert "cannot be told: [Errno 5]" in report.findings[1].text


# -- the report


REPORT = Report(
    False,
    "1.2",
    (
        Finding("auditing", "ok", "the kernel writes audit records"),
        Finding(
            "LogLevel", "missing", "at QUIET \x1b[2J sshd does not say " + "who " * 40, ("echo " + "x" * 300, "true")
        ),
        Finding("clock", "warning", "nobody keeps it right"),
    ),
)


def test_plain_report() -> None:
    text = doctor.as_text(REPORT)
    assert "\x1b" not in text
    lines = text.splitlines()
    assert lines[0] == "ok       auditing  the kernel writes audit records"
    assert lines[2] == "                   mend: echo " + "x" * 300
    assert lines[-1] == "1 missing, 1 warning, 1 ok"


def test_json_report() -> None:
    report = json.loads(doctor.as_json(REPORT))
    assert list(report) == ["ok", "version", "findings"]
    assert report["findings"][1]["mend"][1] == "true"
    assert list(report["findings"][0]) == ["check", "state", "text", "mend"]


def on_terminal(code: str, columns: int, **environ: str) -> str:
    """What a Python program prints to a terminal of this width."""
    leader, follower = pty.openpty()
    environ = {**os.environ, "TERM": "xterm-256color", "COLUMNS": str(columns), "PYTHONPATH": str(ROOT), **environ}
    environ.pop("NO_COLOR", None)
    with subprocess.Popen([sys.executable, "-c", code], stdout=follower, env=environ, cwd=ROOT) as process:
        os.close(follower)
        said = b""
        try:
            while chunk := os.read(leader, 65536):
                said += chunk
        except OSError:
            pass  # the other side is closed
    os.close(leader)
    assert process.returncode == 0
    return said.decode().replace("\r\n", "\n")


SHOW = "import sys\nfrom audito import doctor\nfrom tests.test_doctor import REPORT\ndoctor.show(REPORT, sys.stdout)\n"


def test_report_on_a_terminal() -> None:
    said = on_terminal(SHOW, 60)
    plain = re.sub(r"\x1b\[[0-9;]*m", "", said)
    assert plain != said, "it has colours"
    assert "\x1b" not in plain
    lines = plain.splitlines()
    assert any(line.strip() == "echo " + "x" * 300 for line in lines), "a command is one line"
    assert max(len(line) for line in lines if "xxx" not in line) <= 60
    assert lines[-1] == "1 missing, 1 warning, 1 ok"


def test_report_on_a_terminal_without_rich() -> None:
    assert on_terminal("import sys\nsys.modules['rich'] = None\n" + SHOW, 60) == doctor.as_text(REPORT)


# -- the command


def audito(*words: str, **environ: str) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, "-m", "audito", *words]
    return subprocess.run(command, capture_output=True, text=True, cwd=ROOT, timeout=60, env={**os.environ, **environ})


def test_the_command_on_this_host() -> None:
    done = audito("doctor", "--json")
    report = json.loads(done.stdout)
    missing = [finding for finding in report["findings"] if finding["state"] == "missing"]
    assert done.returncode == (1 if missing else 0)
    assert report["ok"] == (not missing)
    assert {finding["state"] for finding in report["findings"]} <= set(doctor.STATES)
    assert not [finding for finding in report["findings"] if "cannot be told" in finding["text"]]
    plain = audito("doctor")
    assert plain.returncode == done.returncode
    assert "\x1b" not in plain.stdout


def test_the_command_takes_the_daemon_s_settings(tmp_path: Path) -> None:
    file = tmp_path / "audito.toml"
    file.write_text(f"output = '{tmp_path}/nowhere/events'\n")
    text = audito("doctor", "--config", str(file), AUDITO_STATE_DIR=f"{tmp_path}/state").stdout
    assert f"there is no directory for {tmp_path}/nowhere/events" in text
    assert f"{tmp_path}/state will be made" in text
    assert audito("doctor", "--json", AUDITO_JSON="1").returncode == 2, "its own flags are flags only"
    assert audito("run", "--json").returncode == 2
    assert audito("doctor", "nonsense").returncode == 2
    assert "--write-rules [PATH]" in audito("doctor", "--help").stdout


def test_rules_are_printed(tmp_path: Path) -> None:
    text = audito("doctor", "--write-rules").stdout
    assert text == audito("doctor", "--write-rules", "-").stdout == audito("doctor", "--write-rules", "--json").stdout
    assert text.startswith(audit_rules.RULES_MARK)
    done = audito("doctor", "--write-rules", str(tmp_path / "own.rules"))
    assert (done.returncode, done.stdout) == (0, "")
    assert (tmp_path / "own.rules").read_text() == text


def test_rules_are_written_to_a_file_of_ours_and_to_no_other(tmp_path: Path) -> None:
    doctor.write_rules(str(tmp_path), f"{audit_rules.RULES_MARK} of old, and longer than the new ones\n")
    doctor.write_rules(str(tmp_path), f"{audit_rules.RULES_MARK}\n")
    written = tmp_path / "audito.rules"
    assert written.read_text() == f"{audit_rules.RULES_MARK}\n"
    assert written.stat().st_mode & 0o777 == 0o640 & ~_umask()
    (tmp_path / "theirs").write_text("-D\n")
    (tmp_path / "link").symlink_to(tmp_path / "theirs")
    for name in ("theirs", "link", "nowhere/x"):
        with pytest.raises(SinkError, match=name):
            doctor.write_rules(str(tmp_path / name), "x")
    assert (tmp_path / "theirs").read_text() == "-D\n"


def _umask() -> int:
    mask = os.umask(0)
    os.umask(mask)
    return mask


def test_facts_about_hosts() -> None:
    assert facts.OPENSSH_OLDEST < facts.OPENSSH_NEWEST
    assert facts.JOURNALD_BURST_LINES / facts.JOURNALD_INTERVAL_S >= facts.LOG_LINES_PER_S_MIN
    assert facts.IMJOURNAL_BURST_LINES / facts.IMJOURNAL_INTERVAL_S < facts.LOG_LINES_PER_S_MIN
    assert not set(facts.QUIET_LOG_LEVELS) & set(facts.FULL_LOG_LEVELS)
    assert len({row.program for row in facts.MANAGERS}) == len(facts.MANAGERS)


def test_every_line_is_documented(made: Made) -> None:
    rows = re.findall(r"^\| (`[^|]*`) \|", (ROOT / "docs/operation.md").read_text(), re.MULTILINE)
    documented = [name for row in rows for name in re.findall(r"`([^`]+)`", row)]
    names = {finding.check for finding in made.report().findings}
    del made.commands["sshd -T"]
    names |= {finding.check for finding in made.report().findings}
    assert names <= set(documented)
    assert len(names) == len(doctor.CHECKS)
