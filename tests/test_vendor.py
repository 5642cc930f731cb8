"""Logins that no line of sshd tells of, on hosts whose sshd tells the kernel (RHEL, Fedora, SUSE)."""

from __future__ import annotations

import base64
import json
from typing import Any

from audito.core import Core, CoreSettings
from audito.vendor import KEY_AGE_MS, LOGINS_MAX, Vendor
from tests.records import Log, accepted
from tests.test_sshd_linear import filled, growth

DIGEST = bytes(range(100, 132))
FINGERPRINT = "SHA256:" + ":".join(f"{byte:02x}" for byte in DIGEST)
SSH_FINGERPRINT = base64.b64encode(DIGEST).decode().rstrip("=")


def new_core() -> Core:
    return Core(CoreSettings(host="h", machine_id="m", boot_id="b"))


def told(
    log: Log, kind: str, text: str, *, pid: int = 4000, exe: str = "/usr/sbin/sshd", res: str = "success"
) -> bytes:
    """A record that sshd sends before the session is opened."""
    return log.event((
        kind,
        f"pid={pid} uid=0 auid=4294967295 ses=4294967295 subj=system_u msg='{text} exe=\"{exe}\" hostname=? "
        f"addr=10.9.8.7 terminal=? res={res}'".encode(),
    ))  # fmt: skip


def key_login(log: Log, **options: Any) -> bytes:
    return told(log, "USER_AUTH", 'op=pubkey_auth grantors=auth-key rport=51022 acct="eve"', **options) + told(
        log, "CRYPTO_KEY_USER", f"op=negotiate kind=auth-key fp={FINGERPRINT}", **options
    )


def events_of(core: Core) -> list[dict[str, Any]]:
    core.flush()
    return [json.loads(line) for line in core.take().splitlines()]


def test_a_key_that_sshd_told_the_kernel_names_a_login_without_a_line() -> None:
    core, log = new_core(), Log()
    core.feed_audit(key_login(log) + log.login(ses=7, pid=4000) + log.execve(b"id", ses=7))
    login, *actions = events_of(core)
    assert login["type"] == "UserLogin"
    assert login["component"] == "auditd"
    assert login["metadata"]["extra"] == {"correlation": "vendor"}
    assert login["data"] == {"SSHKeySum": SSH_FINGERPRINT, "method": "publickey", "session": "7"}
    assert login["source"] == {"type": "IP", "value": "10.9.8.7", "extra": {"port": "51022"}}
    assert login["subjects"] == {"loggedAs": "eve", "pid": "4000", "userID": "unknown"}
    assert len(actions) == 2
    for action in actions:
        assert action["metadata"]["extra"]["correlation"] == "vendor"
        assert action["subjects"] == login["subjects"]
    assert core.counters()["joins_vendor"] == 1


def test_a_certificate_that_sshd_told_the_kernel_is_the_identity() -> None:
    issuer = "SHA256:abc"
    for key_id, text in (('"eve@corp"', "eve@corp"), ("65766520" + "40", "eve @"), ('"AB12"', "AB12")):
        core, log = new_core(), Log()
        said = f'op=cert key_id={key_id} cert_serial=7 cert_issuer_alg="ED25519" cert_issuer_fp="{issuer}"'
        core.feed_audit(told(log, "USER_AUTH", said) + log.login(ses=7, pid=4000))
        login = events_of(core)[0]
        assert login["subjects"]["userID"] == text
        assert login["data"]["Serial"] == "7"
        assert login["data"]["CA"] == f"CA ED25519 {issuer}"


def test_what_failed_or_is_of_another_program_or_pid_says_nothing() -> None:
    for options in ({"res": "failed"}, {"exe": "/usr/bin/su"}, {"pid": 4001}):
        core, log = new_core(), Log()
        core.feed_audit(key_login(log, **options) + log.login(ses=7, pid=4000))
        login = events_of(core)[0]
        assert login["metadata"]["extra"] == {"correlation": "kernel"}
        assert login["subjects"]["loggedAs"] == "unknown"
        assert "SSHKeySum" not in login["data"]


def test_what_was_told_long_before_is_of_another_process_with_that_pid() -> None:
    core, log = new_core(), Log()
    core.feed_audit(key_login(log))
    log.ms += KEY_AGE_MS
    core.feed_audit(log.login(ses=7, pid=4000))
    assert "SSHKeySum" not in events_of(core)[0]["data"]


def test_a_login_line_says_more_and_wins() -> None:
    core, log = new_core(), Log()
    core.feed_sshd(accepted(4000), "pipe", 0)
    core.feed_audit(key_login(log) + log.login(ses=7, pid=4000))
    login, opened = events_of(core)
    assert login["component"] == "sshd"
    assert opened["subjects"]["userID"] == "bob@corp"
    assert opened["metadata"]["extra"]["correlation"] == "pid"


def test_logins_that_never_get_a_session_are_bounded() -> None:
    core, log = new_core(), Log()
    core.feed_audit(key_login(log))
    for pid in range(10_000, 10_000 + LOGINS_MAX):
        core.feed_audit(key_login(log, pid=pid))
    core.feed_audit(log.login(ses=7, pid=4000) + log.login(ses=8, pid=10_000))
    forgotten, kept = [event for event in events_of(core) if event["type"] == "UserLogin"]
    assert "SSHKeySum" not in forgotten["data"]
    assert kept["data"]["SSHKeySum"] == SSH_FINGERPRINT


def test_f18_what_looks_like_pams_words_takes_time_as_it_has_bytes() -> None:
    core, log = new_core(), Log()
    head = b'pid=4000 uid=0 auid=4294967295 ses=4294967295 msg=\'exe="/usr/sbin/sshd"'
    for between in (b" op=PAM:accounting", b" op=PAM:setcred hostname=a", b" hostname=a addr=b terminal=c"):
        for tail in (b"'", b" op=PAM:setcred hostname='", b" hostname=a addr=b terminal=c res'"):
            made = lambda size, b=between, t=tail: filled(head, b, t, size)  # noqa: E731
            costs = growth(lambda body: core.feed_audit(log.event(("USER_ACCT", body))), made, 8_000)
            assert not costs, (between, tail, costs)


def test_the_last_words_of_pams_record_say_from_where() -> None:
    for text, peer in (
        ('op=PAM:accounting grantors=pam_unix acct="eve"', "?"),
        ("op=PAM:setcred  hostname=1.2.3.4 addr=1.2.3.4 terminal=ssh res=success", "?"),
        ("xop=PAM:setcred op=PAM:other ", ""),
        ("op=PAM:session_open ", ""),
    ):
        vendor = Vendor()
        vendor.tell(4000, 1, told(Log(), "USER_ACCT", text))
        assert vendor.peer(4000, 0, 1) == peer
