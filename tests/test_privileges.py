"""Giving up root, for real: each test runs in a process of its own, which does not get it back."""

from __future__ import annotations

import os
import pwd
import subprocess
import sys
import textwrap
from pathlib import Path

import pytest

from audito import privileges
from audito.privileges import PrivilegeError, find_user

ROOT = Path(__file__).parent.parent
READ_SEARCH_ONLY = f"{1 << privileges.CAP_DAC_READ_SEARCH:016x}"

needs_root = pytest.mark.skipif(os.geteuid() != 0, reason="needs root to give up")


def python(code: str, *args: str | Path) -> subprocess.CompletedProcess[str]:
    """Run code in a process of its own; it finds the package, and ``args`` in sys.argv."""
    head = "import os, subprocess, sys\nfrom audito.privileges import *\n"
    return subprocess.run(
        [sys.executable, "-c", head + textwrap.dedent(code), *map(str, args)],
        cwd=ROOT,
        capture_output=True,
        text=True,
        check=False,
        timeout=30,
    )


def status_of(text: str) -> dict[str, str]:
    """/proc/self/status as a dict."""
    return {name: value.strip() for name, _, value in (line.partition(":") for line in text.splitlines())}


@needs_root
def test_all_of_root_is_gone_but_reading() -> None:
    nobody = pwd.getpwnam("nobody")
    done = python("drop(find_user('nobody')); print(open('/proc/self/status').read())")
    assert done.returncode == 0, done.stderr
    status = status_of(done.stdout)
    assert set(status["Uid"].split()) == {str(nobody.pw_uid)}
    assert set(status["Gid"].split()) == {str(nobody.pw_gid)}
    assert status["Groups"].split() == [str(gid) for gid in sorted(os.getgrouplist("nobody", nobody.pw_gid))]
    assert status["CapPrm"] == status["CapEff"] == READ_SEARCH_ONLY
    assert status["CapInh"] == status["CapAmb"] == "0" * 16
    assert int(status["CapBnd"], 16) & ~int(READ_SEARCH_ONLY, 16) == 0
    assert status["NoNewPrivs"] == "1"


@needs_root
def test_reads_what_is_roots_and_writes_nothing(tmp_path: Path) -> None:
    secret = tmp_path / "audit.log"
    secret.write_text("records\n")
    secret.chmod(0o600)
    code = """
        drop(find_user('nobody'))
        print(open(sys.argv[1]).read(), end='')
        for mode in ('a', 'w'):
            try:
                open(sys.argv[1], mode)
            except PermissionError:
                print('no')
        for call in (lambda: os.setuid(0), lambda: os.setgid(0), lambda: os.chown(sys.argv[1], 1, 1)):
            try:
                call()
            except PermissionError:
                print('no')
    """
    done = python(code, secret)
    assert done.stdout == "records\n" + "no\n" * 5, done.stderr


@needs_root
def test_a_program_started_later_has_nothing(tmp_path: Path) -> None:
    """Neither what was kept nor what a set-uid bit would give."""
    shell = tmp_path / "sh"
    shell.write_bytes(Path("/bin/cat").read_bytes())
    shell.chmod(0o4755)
    tmp_path.chmod(0o755)
    done = python("drop(find_user('nobody')); print(subprocess.run([sys.argv[1], '/proc/self/status'],"
                  " capture_output=True, text=True).stdout)", shell)  # fmt: skip
    status = status_of(done.stdout)
    assert "0" not in status["Uid"].split(), done.stderr
    assert status["CapEff"] == status["CapPrm"] == "0" * 16


@needs_root
def test_supplementary_groups_are_those_of_the_user() -> None:
    """root's own are gone, the user's are there: 'adm' and 'systemd-journal' are how a user may read logs."""
    done = python("os.setgroups([0, 4, 27]); drop(User('who', 12345, 12346, (12346, 4))); print(os.getgroups())")
    assert done.stdout == "[4, 12346]\n", done.stderr


@needs_root
def test_a_second_thread_would_stay_root() -> None:
    code = """
        import threading
        wait = threading.Event()
        threading.Thread(target=wait.wait, daemon=True).start()
        try:
            drop(find_user('nobody'))
        except PrivilegeError as exc:
            print(exc, os.geteuid())
    """
    assert python(code).stdout == "--user nobody: 2 threads run already, they would stay root 0\n"


@needs_root
def test_without_the_capability_to_keep_it_is_said() -> None:
    """As in a container that was given no DAC_READ_SEARCH."""
    code = """
        import logging
        logging.basicConfig(level=logging.INFO, stream=sys.stdout, format='%(levelname)s %(message)s')
        from audito import privileges
        libc = privileges._libc()
        privileges._set_capabilities(libc, privileges._permitted(libc) & ~(1 << CAP_DAC_READ_SEARCH))
        drop(find_user('nobody'))
        print(open('/proc/self/status').read())
    """
    done = python(code)
    assert done.stdout.startswith("WARNING no CAP_DAC_READ_SEARCH to keep"), done.stderr
    assert status_of(done.stdout)["CapEff"] == "0" * 16


@needs_root
def test_nobody_else_can_become_another_user() -> None:
    code = """
        os.setresgid(12346, 12346, 12346)
        os.setresuid(12345, 12345, 12345)
        drop(User('same', 12345, 12346, (12346,)))
        print(open('/proc/self/status').read())
        try:
            drop(find_user('nobody'))
        except PrivilegeError as exc:
            print('error:', exc)
    """
    done = python(code)
    assert status_of(done.stdout)["NoNewPrivs"] == "1", done.stderr
    assert status_of(done.stdout)["error"] == "--user nobody: only root can become another user, this is uid 12345"


@pytest.mark.parametrize(
    ("name", "why"),
    [("no-such-user", "no such user"), ("root", "that is root"), ("0", "that is root"), ("4294967295", "no such user"),
     ("99999999999999999999999", "no such user"), ("-1", "no such user"), ("", "no such user"), ("²", "no such user")],
)  # fmt: skip
def test_a_user_that_cannot_be_is_refused(name: str, why: str) -> None:
    with pytest.raises(PrivilegeError, match=why) as caught:
        find_user(name)
    assert caught.value.exit_code == 1


def test_a_number_needs_no_entry() -> None:
    user = find_user("54321")
    assert (user.uid, user.gid, user.groups) == (54321, 54321, (54321,))
    assert find_user(str(pwd.getpwnam("nobody").pw_uid)).name == "nobody"
