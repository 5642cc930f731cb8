"""Lines as auditd and sshd write them, for tests: each function gives the bytes of one event or line."""

from __future__ import annotations

BASE_MS = 1_700_000_000_000
TAIL = b"\x1d"


class Log:
    """Makes audit events one after the other: sequence and time go up with each."""

    def __init__(self, start: int = 100, enriched: bool = True, node: bytes = b"") -> None:
        self.sequence = start
        self.ms = BASE_MS
        self.enriched = enriched
        self.prefix = b"node=" + node + b" " if node else b""

    def stamp(self) -> bytes:
        """The stamp of the next event; 10 ms later than the last."""
        self.sequence += 1
        self.ms += 10
        return b"audit(%d.%03d:%d)" % (self.ms // 1000, self.ms % 1000, self.sequence)

    def event(self, *records: tuple[str, bytes]) -> bytes:
        """One event of these (type, text) records."""
        stamp = self.stamp()
        return b"".join(self.prefix + b"type=%s msg=%s: %s\n" % (name.encode(), stamp, text) for name, text in records)

    def syscall(
        self,
        number: int,
        *,
        ses: int,
        pid: int,
        comm: str,
        exe: str,
        auid: int = 1000,
        uid: int = 1000,
        ok: bool = True,
    ) -> tuple[str, bytes]:
        """A SYSCALL record of x86_64."""
        text = (
            f"arch=c000003e syscall={number} success={'yes' if ok else 'no'} exit={0 if ok else -13} a0=1 a1=2 a2=3 "
            f"a3=4 items=2 ppid={pid - 1} pid={pid} auid={auid} uid={uid} gid={uid} euid={uid} suid={uid} fsuid={uid} "
            f'egid={uid} sgid={uid} fsgid={uid} tty=pts0 ses={ses} comm="{comm}" exe="{exe}" subj=unconfined '
            f'key="user-commands"'
        ).encode()
        if self.enriched:
            names = 'ARCH=x86_64 SYSCALL=x AUID="bob" UID="%s" EUID="%s"' % (
                ("root",) * 2 if uid == 0 else ("bob",) * 2
            )
            text += TAIL + names.encode()
        return "SYSCALL", text

    def login(self, *, ses: int, pid: int, exe: str | None = "/usr/sbin/sshd", auid: int = 1000) -> bytes:
        """A LOGIN event; without exe it stands alone, as before kernel 5.2."""
        text = (
            f"pid={pid} uid=0 subj=unconfined old-auid=4294967295 auid={auid} tty=(none) old-ses=4294967295 "
            f"ses={ses} res=1"
        ).encode()
        if self.enriched:
            text += TAIL + b'UID="root" OLD-AUID="unset" AUID="bob"'
        if exe is None:
            return self.event(("LOGIN", text))
        comm = exe.rsplit("/", 1)[-1]
        return self.event(
            ("LOGIN", text),
            self.syscall(1, ses=ses, pid=pid, comm=comm, exe=exe, auid=auid, uid=0),
            ("PROCTITLE", b"proctitle=737368643A20626F62205B707269765D"),
        )

    def execve(
        self, *args: bytes, ses: int, pid: int = 5000, exe: str = "/usr/bin/prog", uid: int = 1000, ok: bool = True
    ) -> bytes:
        """A command: SYSCALL, EXECVE, CWD, PATH, PROCTITLE."""
        argv = b" ".join(b"a%d=%s" % (i, quoted(arg)) for i, arg in enumerate(args))
        return self.event(
            self.syscall(59, ses=ses, pid=pid, comm=exe.rsplit("/", 1)[-1][:15], exe=exe, uid=uid, ok=ok),
            ("EXECVE", b"argc=%d %s" % (len(args), argv)),
            ("CWD", b'cwd="/home/bob"'),
            ("PATH", b'item=0 name="%s" inode=1 dev=08:01 mode=0100755 ouid=0 ogid=0 nametype=NORMAL' % exe.encode()),
            ("PROCTITLE", b"proctitle=" + b"\0".join(args)[:128].hex().upper().encode()),
        )

    def message(
        self, kind: str, *, ses: int, pid: int, exe: str = "/usr/sbin/sshd", acct: str = "bob", addr: str = "10.0.0.5"
    ) -> bytes:
        """A PAM message of a program: USER_START, USER_END, CRED_DISP, USER_CMD, …"""
        text = (
            f'pid={pid} uid=0 auid=1000 ses={ses} subj=unconfined msg=\'op=PAM:x grantors=pam_unix acct="{acct}" '
            f'exe="{exe}" hostname={addr} addr={addr} terminal=ssh res=success\''
        ).encode()
        if self.enriched:
            text += TAIL + b'UID="root" AUID="bob"'
        return self.event((kind, text))


def quoted(arg: bytes) -> bytes:
    """An argument as the kernel writes it: in quotes, or in hex where it holds a quote, a blank or a control byte."""
    if all(0x21 <= byte <= 0x7E and byte != 0x22 for byte in arg):
        return b'"' + arg + b'"'
    return arg.hex().upper().encode()


def accepted(
    pid: int, identity: str = "bob@corp", *, user: str = "bob", addr: str = "10.0.0.5", port: int = 5022
) -> bytes:
    """sshd's line for a certificate login, as the named pipe brings it."""
    return (
        f"{pid} Accepted publickey for {user} from {addr} port {port} ssh2: ED25519-CERT SHA256:kkk "
        f"ID {identity} (serial 42) CA ED25519 SHA256:ccc\n"
    ).encode()
