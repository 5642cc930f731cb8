"""The slow, obvious reference of the record parser and of the join: what the compiled core must agree with.

Written for reading: regular expressions, lists, no state that is not in sight. It takes whole inputs. Bytes are
looked at as Latin-1 text, one character a byte, and become UTF-8 where they leave (``text``).

The words of ``decode`` (action, object, how, …) are those of go-libaudit 2.3.3, with its habits in reading fields;
``fields`` and ``argv`` read records as the kernel writes them. Where go-libaudit loses an event, decode does not.
"""

from __future__ import annotations

import ipaddress
import re
from collections.abc import Iterable
from dataclasses import dataclass, field, replace
from typing import Any

from audito.tables import actions, record_types, syscalls

CLOCK_JUMP_MS = 60_000
EVENT_TIMEOUT_MS = 2000
LINE_BYTES_MAX = 65536
ARGV_BYTES_MAX = 1 << 20
UNSET = 0xFFFFFFFF

# ------------------------------------------------------------------------------------------ lines and headers


@dataclass(frozen=True)
class Header:
    """The start of a record line. ``name`` is the type as written, ``number`` 0 where nothing tells it."""

    node: str
    name: str
    number: int
    ts_ms: int
    seq: int
    body: str


@dataclass(frozen=True)
class Record:
    """One record. ``body``: the text after the stamp, without the tail of names that log_format=ENRICHED adds."""

    node: str
    name: str
    number: int
    ts_ms: int
    seq: int
    body: str


HEADER = re.compile(
    r"(?:node=(?P<node>[^ ]*) )?"
    r"type=(?P<name>[A-Z0-9_\[\]]{1,40}) "
    r"(?:msg=)?audit\((?P<s>[0-9]{1,12})\.(?P<ms>[0-9]{1,3}):(?P<seq>[0-9]{1,10})\):[ ]*(?P<body>.*)",
    re.DOTALL,
)


def type_number(name: str) -> int:
    """The number of a type by its name, by ``UNKNOWN[n]`` or by ``n``; 0 where nothing tells it."""
    if name in record_types.RECORD_TYPES:
        return record_types.RECORD_TYPES[name]
    match = re.fullmatch(r"UNKNOWN\[([0-9]{1,5})\]|([0-9]{1,5})", name)
    number = int(match[1] or match[2]) if match else 0
    return number if number < 0xFFFF else 0


def parse_header(line: bytes) -> Header | None:
    """The header of one line without its newline, None where the line is no record."""
    match = HEADER.fullmatch(line.decode("latin-1"))
    if match is None or int(match["seq"]) > UNSET:
        return None
    ts_ms = int(match["s"]) * 1000 + int(match["ms"])
    name = match["name"]
    return Header(match["node"] or "", name, type_number(name), ts_ms, int(match["seq"]), match["body"])


# What may stand before the separator: anything but a quote, and whole quoted strings.
TAIL_ESCAPED = re.compile(r"""((?:[^"'#]|"[^"]*"|'[^']*'|#(?!035[A-Z][A-Z_-]*=))*)#035[A-Z]""")


def without_tail(body: str) -> str:
    """The body up to the tail of ENRICHED: 0x1D, which rsyslog turns into ``#035``."""
    if "\x1d" in body:
        return body[: body.index("\x1d")]
    match = TAIL_ESCAPED.match(body)
    return match[1] if match else body


def trimmed(line: bytes) -> bytes:
    """A line without what is no part of it: NULs of a power loss in front, and CR, NUL, blanks at its end."""
    return line.rstrip(b"\r\0 ").lstrip(b"\0")


def parse_records(data: bytes) -> list[Record]:
    """All records of ``data`` in their order; lines that are none are passed over."""
    records = []
    for raw in data.split(b"\n"):
        line = trimmed(raw)
        header = parse_header(line) if len(line) <= LINE_BYTES_MAX else None
        if header is not None:
            body = without_tail(header.body)
            records.append(Record(header.node, header.name, header.number, header.ts_ms, header.seq, body))
    return records


# ------------------------------------------------------------------------------------------ fields of the kernel

KERNEL_FIELD = re.compile(r"""([A-Za-z0-9_.\[\]-]+)=("[^"]*"|'[^']*'|[^ ]*)""")

# Keys whose values the kernel writes with audit_log_untrustedstring: quoted, or bare hex.
UNTRUSTED = re.compile(r"a[0-9]+(\[[0-9]+\])?|comm|ocomm|exe|cwd|name|proctitle|cmd|data|acct|path|dir|key|vm|unit")


def unhex(value: str) -> str | None:
    """The bytes that bare upper-case hex stands for, None for any other text."""
    if not value or len(value) % 2 or re.search(r"[^0-9A-F]", value):
        return None
    return bytes.fromhex(value).decode("latin-1")


def value_of(key: str, raw: str) -> str | None:
    """What a raw value means: quoted is literal, bare hex of an untrusted string is decoded, (null) is none."""
    if raw[:1] in ('"', "'"):
        return raw[1:-1]
    if raw == "(null)":
        return None
    decoded = unhex(raw) if UNTRUSTED.fullmatch(key) else None
    if decoded is not None and key[0] == "a":
        decoded = decoded.split("\0")[0]  # an argument is a C string: there is nothing behind its NUL
    return raw if decoded is None else decoded


def fields(record: Record) -> dict[str, str | None]:
    """The fields of a record, those of a program's message among them. Of two with one key the last counts.

    Of a program's message only keys that the kernel did not write itself are taken: ``msg='ses=7'`` is no session.
    """
    found: dict[str, str | None] = {}
    inner: dict[str, str | None] = {}
    for key, raw in KERNEL_FIELD.findall(record.body):
        if key == "msg" and raw[:1] == "'":
            for inner_key, inner_raw in KERNEL_FIELD.findall(raw[1:-1]):
                inner[inner_key] = value_of(inner_key, inner_raw)
        else:
            found[key] = value_of(key, raw)
    return {**inner, **found}


def argv(records: Iterable[Record]) -> tuple[list[str], int | None]:
    """The arguments that the EXECVE records of one event tell, and what argc says where they are not all (-1: nothing).

    A split argument (``a1_len=… a1[0]=… a1[1]=…``) is put together; the rest of a long command line stands
    in further EXECVE records, without argc. An argument whose beginning is missing is left out; of one that lacks
    another part there is what there is.
    """
    bodies = [record.body for record in records if record.name == "EXECVE"]
    words = [found for body in bodies for found in re.findall(r"""([^ =]+)=("[^"]*"|[^ ]*)""", body)]
    argc = next((int(raw) for key, raw in words if key == "argc" and re.fullmatch("[0-9]{1,9}", raw)), -1)
    whole: dict[int, str] = {}
    parts: dict[int, dict[int, str]] = {}
    lengths: dict[int, int] = {}
    damaged = False
    for key, raw in words:
        if match := re.fullmatch(r"a([0-9]{1,9})", key):
            value = value_of(key, raw)
            if value is not None and raw != "":
                whole.setdefault(int(match[1]), value)
        elif match := re.fullmatch(r"a([0-9]{1,9})_len", key):
            lengths[int(match[1])] = int(raw) if re.fullmatch("[0-9]{1,9}", raw) else -1
        elif match := re.fullmatch(r"a([0-9]{1,9})\[([0-9]{1,9})\]", key):
            parts.setdefault(int(match[1]), {})[int(match[2])] = raw
    for number, chunks in parts.items():
        length = sum(len(raw.strip('"')) for raw in chunks.values())
        damaged |= sorted(chunks) != list(range(len(chunks))) or length != lengths.get(number, length)
        if 0 in chunks:
            whole.setdefault(number, "".join(value_of("a0", chunks[index]) or "" for index in sorted(chunks)))
    args = [whole[index] for index in sorted(whole) if index < argc or argc < 0]
    return args, None if argc == len(args) and not damaged else argc


# ------------------------------------------------------------------------------------------ events


@dataclass
class Clock:
    """Record time of one host: the latest stamp; one more than a minute off counts only if the next agrees."""

    ms: int = 0
    jump_ms: int = 0

    def move(self, ts_ms: int) -> None:
        if self.ms == 0 or abs(ts_ms - self.ms) <= CLOCK_JUMP_MS:
            self.ms, self.jump_ms = max(self.ms, ts_ms), 0
            return
        if self.jump_ms > self.ms and ts_ms > self.ms:
            self.ms = min(self.jump_ms, ts_ms)
        elif self.jump_ms and abs(ts_ms - self.jump_ms) <= CLOCK_JUMP_MS:
            self.ms = ts_ms
        self.jump_ms = ts_ms


@dataclass
class Event:
    """The records of one (node, timestamp, sequence), without EOE. ``begins``: the place of the first in the input."""

    node: str
    ts_ms: int
    seq: int
    begins: int
    opened_ms: int = 0
    records: list[Record] = field(default_factory=list)


def events(data: bytes) -> list[Event]:
    """All events of ``data``, in the order in which they become complete.

    An event is complete with PROCTITLE or EOE, with a record that is an event by itself, when its node's clock is
    more than 2 s past the event's stamp and past what it was when the event was opened, and at the end.
    """
    clocks: dict[str, Clock] = {}
    open_events: dict[tuple[str, int, int], Event] = {}
    done: set[tuple[str, int, int]] = set()
    complete: list[Event] = []

    def finish(event: Event) -> None:
        key = (event.node, event.ts_ms, event.seq)
        del open_events[key]
        done.add(key)
        if event.records:
            complete.append(event)

    for position, record in enumerate(parse_records(data)):
        clocks.setdefault(record.node, Clock()).move(record.ts_ms)
        for event in list(open_events.values()):
            if event.opened_ms + EVENT_TIMEOUT_MS < clocks[event.node].ms:
                finish(event)
        key = (record.node, record.ts_ms, record.seq)
        if key not in open_events:
            # A record of an event that is over comes too late; an LOGIN starts the sequence again.
            if (key in done and record.name != "LOGIN") or record.name == "EOE":
                continue
            open_events[key] = Event(
                record.node, record.ts_ms, record.seq, position, max(clocks[record.node].ms, record.ts_ms)
            )
        event = open_events[key]
        if record.name != "EOE":
            event.records.append(record)
        alone = len(event.records) == 1 and record.number > 0 and record_types.is_single_record(record.number)
        if record.number in record_types.ENDS_EVENT or alone:
            finish(event)
    for event in list(open_events.values()):
        finish(event)
    return complete


# ------------------------------------------------------------------------------------------ decode: go-libaudit's words

FIELD = re.compile(r"""([a-z0-9_-]+)=([^"' \t\n\f\r]+|'(?:\\'|[^'])*'|"(?:\\"|[^"])*")""")
AVC_HEAD = re.compile(r"avc:[ \t]+([0-9A-Za-z_]+)[ \t]+\{(.*)\}[ \t]+for[ \t]+")


class UnreadableError(Exception):
    """A record that lacks what its type must have: go-libaudit reads no field of it at all."""


def scan(body: str, raw: dict[str, str]) -> None:
    """Put the fields of ``body`` into ``raw``, unstripped; those of ``msg='…'`` as if they stood outside."""
    for key, value in FIELD.findall(body):
        stripped = value.strip("'\" ")
        if stripped in ("", "?", "?,", "(null)"):
            continue
        if key == "msg":
            scan(stripped, raw)
        else:
            raw[key] = value


def prepared(record: Record) -> str:
    """The body with the peculiar forms of its record type made ordinary."""
    body = record.body.strip(" \t\n\f\r\v")
    name = printed_type(record)
    if name == "AVC":
        match = AVC_HEAD.search(body)
        if match:
            permissions = ",".join(match[2].split())
            body = f"seresult={match[1]} seperms={permissions} {body[match.end() :]}"
    elif name == "LOGIN":
        body = body.replace("old ", "old_", 2).replace("new ", "new_", 2)
    elif name in ("CRED_DISP", "USER_START", "USER_END"):
        body = body.rstrip(")'")
    return body


def joined(raw: str, stripped: str) -> str:
    """Text that may be hex, NUL-joined strings in it separated by blanks."""
    decoded = unhex(raw)
    return stripped if decoded is None else decoded.replace("\0", " ")


DECIMAL = re.compile(r"[+-]?[0-9]+")

# Fields that go-libaudit decodes, by record type; cwd in any. It never decodes comm.
DECODED = {
    "SYSCALL": "exe",
    "SECCOMP": "exe",
    "PROCTITLE": "proctitle",
    "USER_CMD": "cmd",
    "TTY": "data",
    "USER_TTY": "data",
    "PATH": "name",
    "USER_LOGIN": "acct",
}
REQUIRED = {
    "SYSCALL": ("arch", "syscall", "exe"),
    "SECCOMP": ("arch", "syscall", "exe", "sig"),
    "PROCTITLE": ("proctitle",),
    "USER_CMD": ("cmd",),
    "TTY": ("data",),
    "USER_TTY": ("data",),
}


def vocabulary_fields(record: Record) -> dict[str, str]:
    """The fields of a record as go-libaudit reads them; UnreadableError where it reads none."""
    raw: dict[str, str] = {}
    scan(prepared(record), raw)
    found = {key: value.strip("'\" ") for key, value in raw.items()}
    for key in ("auid", "old-auid", "ses"):
        if found.get(key) in ("4294967295", "-1"):
            found[key] = "unset"
    for key in ("subj", "key"):
        found.pop(key, None)
    outcome = found.pop("success", None)
    if outcome is None:
        outcome = found.pop("res", None)
    if outcome is not None:
        lower = outcome.lower()
        found["result"] = "success" if lower in ("yes", "1") or lower.startswith("suc") else "fail"
    name = printed_type(record)
    if any(key not in found for key in REQUIRED.get(name, ())):
        raise UnreadableError
    for key in {"cwd", DECODED.get(name, "cwd")} & found.keys():
        found[key] = joined(raw[key], found[key])
    if name in ("SYSCALL", "SECCOMP"):
        name_syscall(found)
    if name == "SECCOMP" and not DECIMAL.fullmatch(found["sig"]):
        raise UnreadableError
    if name == "SOCKADDR":
        found.update(sockaddr(found.get("saddr", "")))
    if name == "EXECVE" and not re.fullmatch("[0-9]{1,9}", found.get("argc", "")):
        raise UnreadableError
    return found


def name_syscall(found: dict[str, str]) -> None:
    """Replace the number of the syscall by its name where the architecture tells it."""
    if not re.fullmatch(r"[0-9a-fA-F]+", found["arch"]) or not DECIMAL.fullmatch(found["syscall"]):
        raise UnreadableError
    name = syscalls.syscall_name(int(found["arch"], 16), int(found["syscall"]))
    if name is not None:
        found["syscall"] = name


def sockaddr(saddr: str) -> dict[str, str]:
    """Address, port or path of a socket address in hex; none of another family. UnreadableError: cut or odd."""
    if not re.fullmatch(r"(?:[0-9a-fA-F]{2}){2,}", saddr):
        raise UnreadableError
    data = bytes.fromhex(saddr)
    family = int.from_bytes(data[:2], "little")
    if family == 1:
        path = unhex(saddr[4:])
        if path is None:
            raise UnreadableError
        return {"socket_path": path.split("\0")[0]}
    if family == 2 and len(data) >= 8:
        address = ".".join(map(str, data[4:8]))
    elif family in (2, 10) and (len(data) < 24 or data[4] >= 0x80):
        raise UnreadableError
    elif family == 10:
        ip = ipaddress.IPv6Address(data[8:24])
        address = str(ip.ipv4_mapped or ip)
    else:
        return {}
    return {"socket_addr": address, "socket_port": str(int.from_bytes(data[2:4], "big"))}


def readable(record: Record) -> dict[str, str]:
    """The record's fields, none where it is unreadable."""
    try:
        return vocabulary_fields(record)
    except UnreadableError:
        return {}


def printed_type(record: Record) -> str:
    """The name that the type is printed with: ``UNKNOWN[1334]`` is BPF to those who know it."""
    return record_types.NAMES.get(record.number, record.name)


def main_record(event: Event) -> Record:
    """The record that gives result, session and most fields: the first SYSCALL, else the first of all."""
    named = [record for record in event.records if record.number == record_types.RECORD_TYPES["SYSCALL"]]
    return named[0] if len(event.records) > 1 and named else event.records[0]


def event_fields(event: Event) -> dict[str, str]:
    """One set of fields for the whole event: the main record's, then those that other records add."""
    main = main_record(event)
    found = {key: value for key, value in readable(main).items() if not key.startswith("subj_")}
    result, session = found.pop("result", None), found.pop("ses", None)
    ids = {key: found.pop(key) for key in list(found) if key.endswith(("uid", "gid"))}
    if len(event.records) > 1:
        found.pop("items", None)
    for record in event.records:
        if record is not main and printed_type(record) not in ("SYSCALL", "PATH", "EXECVE", "SOCKADDR"):
            for key, value in readable(record).items():
                found.setdefault(key, value)
    if "syscall" in found:
        for record in event.records:
            if printed_type(record) == "SOCKADDR":
                found.update({key: value for key, value in readable(record).items() if key.startswith("socket_")})
    found = {**ids, **found}
    own = {"result": result, "ses": session}
    return {**{key: value for key, value in found.items() if key not in own}, **{k: v for k, v in own.items() if v}}


def default_how(found: dict[str, str]) -> str:
    """exe, else comm; and comm where exe is an interpreter."""
    program = found.get("exe", found.get("comm", ""))
    if program.startswith(actions.INTERPRETER_PREFIXES):
        return found.get("comm", program)
    return program


def first_of(found: dict[str, str], keys: Iterable[str], otherwise: str) -> str:
    """The first of these fields that is there."""
    return next((found[key] for key in keys if key in found), otherwise)


def chosen_path(event: Event, path_index: int) -> dict[str, str]:
    """The PATH record that names the object: the first from ``path_index`` on that is no PARENT and no UNKNOWN."""
    paths = [readable(record) for record in event.records if printed_type(record) == "PATH"]
    if not paths or path_index < 0:
        return {}
    paths = paths[path_index:] if len(paths) > path_index else paths
    named = [path for path in paths if path.get("nametype") not in ("PARENT", "UNKNOWN")]
    return (named or paths)[0]


def syscall_summary(event: Event, found: dict[str, str]) -> tuple[str, str, dict[str, str]]:
    """Action, how and object of an event whose first record is a SYSCALL."""
    row = actions.SYSCALL_ACTIONS.get(found.get("syscall", ""))
    if row is None:
        return "", default_how(found), {}
    kind, primary, secondary = row.object_kind, "", ""
    path = chosen_path(event, row.path_index)
    if path:
        primary = path.get("name", "")
        # Whatever the mode says (go-libaudit looks at the wrong bits of it): any octal one makes it a file.
        kind = "file" if re.fullmatch(r"[0-7]+", path.get("mode", "")) else kind
    if row.socket:
        primary = first_of(found, ("socket_addr", "socket_path"), "")
        secondary = found.get("socket_port", "")
    summary = {"type": kind, "primary": first_of(found, row.primary, primary), "secondary": secondary}
    return row.action, first_of(found, row.how, default_how(found)), summary


def record_summary(event: Event, found: dict[str, str]) -> tuple[str, str, dict[str, str]]:
    """Action, how and object of any other event: its first record's type says them."""
    rows = actions.RECORD_ACTIONS.get(printed_type(event.records[0]), ())
    chosen = next((row for row in rows if not row.when_field or row.when_field in found), None)
    if chosen is None:
        return "", default_how(found), {}
    row, kind, primary = chosen, chosen.object_type, ""
    path = chosen_path(event, 0 if kind in ("file", "filesystem") else -1)
    if path:
        primary = path.get("name", "")
        kind = "file" if re.fullmatch(r"[0-7]+", path.get("mode", "")) else kind
    summary = {
        "type": kind,
        "primary": first_of(found, row.primary, primary),
        "secondary": first_of(found, row.secondary, ""),
    }
    return row.action, first_of(found, row.how, default_how(found)), summary


def text(value: str) -> str:
    r"""Latin-1 text as decode writes it: its bytes as UTF-8; where they are not, ``\xNN``, and backslashes doubled."""
    data = value.encode("latin-1")
    try:
        return data.decode()
    except UnicodeDecodeError:
        return data.replace(b"\\", b"\\\\").decode("utf-8", "backslashreplace")


def process_of(event: Event, found: dict[str, str]) -> dict[str, Any]:
    """Who acted: the fields that say so, under their names in the output, and the arguments of an execve."""
    names = {"pid": "pid", "ppid": "ppid", "proctitle": "title", "comm": "name", "exe": "exe", "cwd": "cwd"}
    process: dict[str, Any] = {to: text(found[key]) for key, to in names.items() if found.get(key)}
    if len(event.records) == 1:
        return process
    args, _ = argv(event.records)
    if args:
        process["args"] = [text(arg) for arg in args]
    return process


def decode_event(event: Event) -> dict[str, Any]:
    """What ``audito decode`` prints of one event."""
    found = event_fields(event)
    kind = printed_type(event.records[0])
    action, how, summary = (syscall_summary if kind == "SYSCALL" else record_summary)(event, found)
    try:
        vocabulary_fields(main_record(event))
        no_result = "unknown"
    except UnreadableError:
        no_result = ""
    return {
        "seq": event.seq,
        "ts": event.ts_ms,
        "type": text(kind),
        "ses": text(found.get("ses", "")),
        "result": text(found.get("result", no_result)),
        "action": action,
        "how": text(how),
        "object": {key: text(value) for key, value in summary.items() if value},
        "process": process_of(event, found),
        "records": len(event.records),
    }


def decode(data: bytes) -> list[dict[str, Any]]:
    """What ``audito decode`` prints, an object an event, in the order in which the events began."""
    return [decode_event(event) for event in sorted(events(data), key=lambda event: event.begins)]


# ------------------------------------------------------------------------------------------ the join


@dataclass
class Session:
    """One audit session of an ssh login: who (None: no login line claimed it), and its events in order."""

    node: str
    ses: int
    pid: int
    identity: str | None = None
    proven: bool = False
    events: list[Event] = field(default_factory=list)


SSHD = re.compile(r"(?:.*/)?(?:sshd|sshd-session|sshd-auth)(?: \(deleted\))?", re.DOTALL)


def number(value: str | None) -> int:
    """A session number or pid; UNSET for ``unset``, ``-1``, 4294967295 and anything that is no number."""
    return int(value) if value is not None and re.fullmatch(r"[0-9]{1,10}", value) else UNSET


def login_of(record: Record) -> tuple[int, int, bool]:
    """Session, pid and success that a LOGIN record tells. Before kernel 3.14 ``ses`` stands twice: the last counts."""
    found = fields(record)
    return number(found.get("ses")), number(found.get("pid")), found.get("res") != "0"


def session_number(event: Event) -> int:
    """The session that the event's own records tell, UNSET where none does. A type that is not known may tell it."""
    for record in event.records:
        known = record.name in record_types.RECORD_TYPES or record.number in record_types.NAMES
        if not known or record_types.carries_session(record.number):
            ses = number(own_fields(record).get("ses"))
            if ses != UNSET or known:
                return ses
    return UNSET


def own_fields(record: Record) -> dict[str, str | None]:
    """The fields that the kernel wrote: those before the text of a program."""
    return fields(replace(record, body=record.body.partition("msg=")[0]))


def is_sshd(found: dict[str, str | None]) -> bool:
    """Whether a record's program is sshd."""
    return SSHD.fullmatch(found.get("exe") or found.get("comm") or "") is not None


def opened_session(event: Event) -> Session | None:
    """The session that this event opens for an ssh login, None for any other event."""
    login = next((record for record in event.records if record.name == "LOGIN"), None)
    if login is not None:
        ses, pid, succeeded = login_of(login)
        programs = [fields(record) for record in event.records if record.name == "SYSCALL"]
        if ses == UNSET or not succeeded or any(not is_sshd(found) for found in programs[:1]):
            return None
        return Session(event.node, ses, pid, proven=bool(programs))
    return None


def join(audit: bytes, sshd: Iterable[tuple[int, str]]) -> list[Session]:
    """The sessions of ssh logins with their events, and the identity that sshd's line of the same pid gives.

    The first line of a pid binds the first session of that pid, the second the second. A session that no
    record shows to be sshd's and that no line claims is none of ours (cron, systemd --user).
    """
    live: dict[tuple[str, int], Session] = {}
    found: list[Session] = []
    for event in sorted(events(audit), key=lambda event: event.begins):
        key = (event.node, session_number(event))
        opened = opened_session(event)
        if opened is not None:
            live[event.node, opened.ses] = opened
            found.append(opened)
            key = (event.node, opened.ses)
        elif any(record.name == "LOGIN" for record in event.records):
            live.pop(key, None)
        elif event.records[0].name == "USER_START":
            message = fields(event.records[0])
            known = live.get(key)
            if known is None and is_sshd(message) and key[1] != UNSET:
                live[key] = Session(event.node, key[1], number(message.get("pid")), proven=True)
                found.append(live[key])
            elif known is not None and not known.proven and number(message.get("pid")) == known.pid:
                known.proven = is_sshd(message)
                if not known.proven:
                    found.remove(live.pop(key))
        if key in live:
            live[key].events.append(event)
    claims = list(sshd)
    for session in found:
        claim = next((claim for claim in claims if claim[0] == session.pid), None)
        if claim is not None:
            claims.remove(claim)
            session.identity = claim[1]
    return [session for session in found if session.proven or session.identity is not None]
