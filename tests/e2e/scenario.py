"""What people do on the host in one run, and the truth about it for a test to compare with.

Every command line in here is written so that its words occur in one login only: a test may then
say of each execve whose it was, and that it was reported once.
"""

from __future__ import annotations

import json
import os
import shlex
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

from .host import CERTIFICATES, PASSWORD, REFUSED_PROGRAM, Host, free_port
from .undo import HostError, wait_until

LOGIN_TIMEOUT_S = 60
# How long after its login has ended the background job executes its last program.
BACKGROUND_DELAY_S = 2
CONNECT = Path(__file__).with_name("connect.py")


@dataclass(frozen=True)
class Command:
    """One execve that must be reported exactly once.

    `argv` is empty where the kernel refused: it records the arguments of no execve that fails.
    """

    exe: str
    argv: tuple[str, ...] = ()
    succeeded: bool = True
    as_root: bool = False


@dataclass
class Login:
    """One try to log in, and what was run when it went well."""

    how: str
    account: str
    user_id: str
    source_address: str
    source_port: int
    succeeded: bool
    serial: int | None = None
    invalid_user: bool = False
    commands: list[Command] = field(default_factory=list)


@dataclass
class Truth:
    """All that happened: the logins, and what ran outside of them and must not be reported."""

    logins: list[Login] = field(default_factory=list)
    elsewhere: list[Command] = field(default_factory=list)
    scenario_seconds: float = 0.0

    def to_json(self) -> str:
        """Return the truth as JSON, one key a field."""
        return json.dumps(asdict(self), indent=1) + "\n"

    @classmethod
    def from_json(cls, text: str) -> Truth:
        """Return what to_json() was called on."""
        raw = json.loads(text)
        logins = [Login(**{**login, "commands": commands(login["commands"])}) for login in raw["logins"]]
        return cls(logins, commands(raw["elsewhere"]), raw["scenario_seconds"])


def commands(raw: list[dict[str, Any]]) -> list[Command]:
    """Return commands from JSON, which knows lists only."""
    return [Command(**{**command, "argv": tuple(command["argv"])}) for command in raw]


class Person:
    """Someone at a keyboard: logs in from one address and keeps account of it in the truth."""

    def __init__(self, host: Host, truth: Truth, address: str) -> None:
        self._host = host
        self._truth = truth
        self._address = address

    def log_in(self, how: str, account: str, person: str, script: str, **facts: Any) -> Login:
        """Log in, run SCRIPT in the account's shell, log out; HostError when the outcome is wrong.

        `how` is certificate, key or password; `person` names the key, or is the password; `facts`
        go to the Login. With `tty=True` the script is typed into an interactive shell. `timeout_s` is
        how long the session may last.
        """
        tty = facts.pop("tty", False)
        timeout_s = facts.pop("timeout_s", LOGIN_TIMEOUT_S)
        login = self._login(how, account, person, **facts)
        done = self._ssh(login, person, script, tty, timeout_s)
        # 255 is ssh's own; every other code is the script's.
        if (done.returncode != 255) != login.succeeded:
            raise HostError(f"{how} login as {account}: ssh says {done.stderr.decode()}")
        return login

    def share(self, account: str, person: str, scripts: Sequence[str], **facts: Any) -> Login:
        """Log in with a certificate once, run the SCRIPTS at the same time in a channel each, log out."""
        login = self._login("certificate", account, person, **facts)
        socket = self._host.directory / f"{person}.control"
        command, environment = self._command(login, person)
        control = [*command[:1], f"-oControlPath={socket}", *command[1:]]
        master = subprocess.Popen([*control[:1], "-N", "-oControlMaster=yes", *control[1:]], env=environment)
        try:
            wait_until("the shared connection is there", socket.exists, timeout_s=LOGIN_TIMEOUT_S)
            channels = [subprocess.Popen([*control, script], stdout=subprocess.DEVNULL) for script in scripts]
            failed = [channel.wait(LOGIN_TIMEOUT_S) for channel in channels]
            subprocess.run([*control[:1], "-O", "exit", *control[1:]], check=True, stderr=subprocess.DEVNULL)
            master.wait(LOGIN_TIMEOUT_S)
        finally:
            master.kill()
            master.wait()
        if any(failed):
            raise HostError(f"channels of {person}: {failed}")
        return login

    def _login(self, how: str, account: str, person: str, **facts: Any) -> Login:
        login = Login(
            how,
            account,
            user_id=person if how == "certificate" else "unknown",
            source_address=self._address,
            source_port=free_port(self._address),
            succeeded=facts.pop("succeeded", True),
            **facts,
        )
        self._truth.logins.append(login)
        return login

    def _ssh(
        self, login: Login, person: str, script: str, tty: bool, timeout_s: float
    ) -> subprocess.CompletedProcess[bytes]:
        command, environment = self._command(login, person, tty)
        return subprocess.run(
            command if tty else [*command, script],
            input=script.encode() if tty else b"",
            capture_output=True,
            env=environment,
            timeout=timeout_s,
            check=False,
        )

    def _command(self, login: Login, person: str, tty: bool = False) -> tuple[list[str], dict[str, str]]:
        """Return how ssh is called to log in so, and its environment."""
        host = self._host
        address = host.address_towards(login.source_address)
        source = (login.source_address, str(login.source_port))
        connect = shlex.join([sys.executable, "-I", str(CONNECT), *source, address, str(host.port)])
        options = {
            "ProxyCommand": connect,
            "ProxyUseFdpass": "yes",
            "HostKeyAlias": "audito-e2e",
            "UserKnownHostsFile": str(host.known_hosts_path),
            "GlobalKnownHostsFile": "none",
            "IdentitiesOnly": "yes",
            "IdentityAgent": "none",
            "NumberOfPasswordPrompts": "1",
            "LogLevel": "ERROR",
        }
        environment = {"PATH": os.environ["PATH"]}
        if login.how == "password":
            options["PreferredAuthentications"] = "password"
            # ssh asks for a password at a terminal only, unless it has a program to ask.
            environment |= {"SSH_ASKPASS": ask_pass(host), "SSH_ASKPASS_REQUIRE": "force"}
            environment["AUDITO_E2E_PASSWORD"] = person
        else:
            options["PreferredAuthentications"] = "publickey"
            options["IdentityFile"] = str(host.key_path(person))
            if login.how == "certificate":
                options["CertificateFile"] = f"{host.key_path(person)}-cert.pub"
        command = ["ssh", "-F", "none", "-tt" if tty else "-T"]
        command += [f"-o{name}={value}" for name, value in options.items()]
        return [*command, f"{login.account}@{address}"], environment


def ask_pass(host: Host) -> str:
    """Return a program that answers ssh's question with the password in its environment."""
    path = host.directory / "askpass"
    if not path.exists():
        path.write_text('#!/bin/sh\nprintf "%s\\n" "$AUDITO_E2E_PASSWORD"\n')
        path.chmod(0o755)
    return str(path)


def alice_on_the_shared_account(host: Host, truth: Truth) -> None:
    """Certificate login: a pipeline, a program that may not run, sudo, and one thing after it."""
    login = Person(host, truth, "127.0.0.10").log_in(
        "certificate",
        "core",
        "alice@example.com",
        "cat /etc/os-release | grep ^VERSION_ID= | wc -c;"
        f" {REFUSED_PROGRAM} -A /etc/os-release;"
        " sleep 1;"
        " sudo /usr/bin/head -n 1 /etc/shadow;"
        " stat --format=%U /etc/hostname;"
        " true",
        serial=CERTIFICATES["alice@example.com"],
    )
    login.commands += [
        Command("/usr/bin/cat", ("cat", "/etc/os-release")),
        Command("/usr/bin/grep", ("grep", "^VERSION_ID=")),
        Command("/usr/bin/wc", ("wc", "-c")),
        Command(str(REFUSED_PROGRAM), succeeded=False),
        Command("/usr/bin/sudo", ("sudo", "/usr/bin/head", "-n", "1", "/etc/shadow")),
        Command("/usr/bin/head", ("/usr/bin/head", "-n", "1", "/etc/shadow"), as_root=True),
        Command("/usr/bin/stat", ("stat", "--format=%U", "/etc/hostname")),
    ]


def dave_on_the_shared_account(host: Host, truth: Truth) -> None:
    """Certificate login to the same account at the same time, and a job that outlives it."""
    job = f"sleep {BACKGROUND_DELAY_S}; sort --reverse /etc/shells"
    login = Person(host, truth, "127.0.0.11").log_in(
        "certificate",
        "core",
        "dave@example.com",
        f"printenv SSH_CLIENT; sleep 1.5; nohup setsid sh -c {shlex.quote(job)} >/dev/null 2>&1 </dev/null &",
        serial=CERTIFICATES["dave@example.com"],
    )
    login.commands += [
        Command("/usr/bin/printenv", ("printenv", "SSH_CLIENT")),
        Command("/usr/bin/nohup", ("nohup", "setsid", "sh", "-c", job)),
        Command("/usr/bin/setsid", ("setsid", "sh", "-c", job)),
        Command("/usr/bin/dash", ("sh", "-c", job)),
        Command("/usr/bin/sort", ("sort", "--reverse", "/etc/shells")),
    ]


def erin_through_one_connection(host: Host, truth: Truth) -> None:
    """Certificate login with three channels: sudo in one, su in one, and in one a job that outlives them all."""
    job = f"sleep {BACKGROUND_DELAY_S}; sort --unique /etc/shells"
    login = Person(host, truth, "127.0.0.15").share(
        "core",
        "erin@example.com",
        (
            "sudo /usr/bin/tail -n 1 /etc/shadow; basename /channel/one",
            "sudo su --shell /bin/sh carol -c 'basename /channel/two'; sleep 0.5",
            f"basename /channel/three; nohup setsid sh -c {shlex.quote(job)} >/dev/null 2>&1 </dev/null &",
        ),
        serial=CERTIFICATES["erin@example.com"],
    )
    login.commands += [
        Command("/usr/bin/sudo", ("sudo", "/usr/bin/tail", "-n", "1", "/etc/shadow")),
        Command("/usr/bin/tail", ("/usr/bin/tail", "-n", "1", "/etc/shadow"), as_root=True),
        Command("/usr/bin/basename", ("basename", "/channel/one")),
        Command("/usr/bin/sudo", ("sudo", "su", "--shell", "/bin/sh", "carol", "-c", "basename /channel/two")),
        Command("/usr/bin/su", ("su", "--shell", "/bin/sh", "carol", "-c", "basename /channel/two"), as_root=True),
        Command("/usr/bin/basename", ("basename", "/channel/two")),
        Command("/usr/bin/basename", ("basename", "/channel/three")),
        Command("/usr/bin/nohup", ("nohup", "setsid", "sh", "-c", job)),
        Command("/usr/bin/sort", ("sort", "--unique", "/etc/shells")),
    ]


def bob_with_a_key(host: Host, truth: Truth) -> None:
    """Plain key login with a terminal: an interactive shell, arguments that need care."""
    awkward = ("/usr/bin/printf", "%s\\n", "", "two words", "Grüße", 'say "hi"', "tab\there")
    typed = shlex.join(awkward)
    # A tab typed at a terminal would ask the shell to complete; $'...' does not.
    typed = typed.replace("'tab\there'", "$'tab\\there'")
    login = Person(host, truth, "127.0.0.12").log_in(
        "key", "bob", "bob", f"{typed}\ntty\nstat /var/lib/missing\nexit\n", tty=True
    )
    login.commands += [
        Command("/usr/bin/printf", awkward),
        Command("/usr/bin/tty", ("tty",)),
        # stat ends with code 1, but its execve went well: that is what the kernel reports.
        Command("/usr/bin/stat", ("stat", "/var/lib/missing")),
    ]


def carol_with_a_password(host: Host, truth: Truth) -> None:
    """Password login, over IPv6 where there is one: a program that is not there."""
    address = "::1" if host.has_ipv6 else "127.0.0.13"
    login = Person(host, truth, address).log_in(
        "password", "carol", PASSWORD, "uname -srm; /opt/bin/absent --help; id -un; true"
    )
    login.commands += [
        Command("/usr/bin/uname", ("uname", "-srm")),
        Command("/opt/bin/absent", succeeded=False),
        Command("/usr/bin/id", ("id", "-un")),
    ]


def those_who_stay_outside(host: Host, truth: Truth) -> None:
    """An account that does not exist, and a password that is wrong."""
    outside = Person(host, truth, "127.0.0.66")
    outside.log_in("password", "mallory", "letmein", "true", succeeded=False, invalid_user=True)
    outside.log_in("password", "carol", "letmein", "true", succeeded=False)


def background_service(host: Host, truth: Truth, stop: threading.Event) -> None:
    """Execute a program every second without a session, as services of a host do."""
    command = Command("/usr/bin/uptime", ("/usr/bin/uptime", "--since"))
    truth.elsewhere.append(command)
    while not stop.wait(1):
        subprocess.run(command.argv, stdout=subprocess.DEVNULL, env={}, cwd="/", check=True)


def cron_records(host: Host) -> int:
    """Count the records that cron's sessions have left in the audit log so far."""
    return sum(log.read_bytes().count(b'exe="/usr/sbin/cron"') for log in host.audit_directory.glob("audit.log*"))


def play(host: Host, *, rotate: bool = False) -> Truth:
    """Run the whole scenario and return the truth; with `rotate` the audit log rotates within.

    HostError: a login went otherwise than it must, or somebody did not come back.
    """
    truth = Truth()
    began = time.monotonic()
    cron_before = cron_records(host)
    truth.elsewhere.append(Command("/usr/bin/nproc", ("/usr/bin/nproc",)))
    stop = threading.Event()
    service = threading.Thread(target=background_service, args=(host, truth, stop), daemon=True)
    service.start()
    try:
        together((alice_on_the_shared_account, dave_on_the_shared_account), host, truth)
        those_who_stay_outside(host, truth)
        erin_through_one_connection(host, truth)
        bob_with_a_key(host, truth)
        if rotate:
            host.rotate_audit_log()
        carol_with_a_password(host, truth)
        # At the next minute cron opens a session of its own for its job.
        wait_until("cron runs its job", lambda: cron_records(host) > cron_before, timeout_s=90)
        # dave's job has then run, save where the minute was just over; and auditd writes it out.
        time.sleep(BACKGROUND_DELAY_S + 1)
    finally:
        stop.set()
        service.join()
    truth.scenario_seconds = round(time.monotonic() - began, 1)
    return truth


def together(people: Sequence[Callable[[Host, Truth], None]], host: Host, truth: Truth) -> None:
    """Let several people work at the same time; HostError when one of them fails."""
    failures: list[BaseException] = []

    def work(person: Callable[[Host, Truth], None]) -> None:
        try:
            person(host, truth)
        except (HostError, OSError, subprocess.SubprocessError) as failure:
            failures.append(failure)

    threads = [threading.Thread(target=work, args=(person,)) for person in people]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    if failures:
        raise HostError(str(failures[0])) from failures[0]
