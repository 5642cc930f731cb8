"""What the fuzzer runs. Each target takes any bytes, and asserts more than that nothing breaks.

The first byte of an input chooses what is done with the rest (``ROUTES``), the second where the feeds are cut: the
fuzzer chooses both, and what a route costs is paid by the inputs that take it.
"""

from __future__ import annotations

import os
import tempfile
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from functools import cache
from pathlib import Path
from typing import Any

import msgspec

from audito import checkpoint, config
from audito.core import Core, CoreSettings, CoreState, decode
from audito.errors import AuditoError, StateError
from audito.logins import Logins, time_zone

SETTINGS = CoreSettings(host="h", machine_id="m", boot_id="b", session_count_max=16, syslog_time_zone="UTC")
PLAIN = msgspec.structs.replace(SETTINGS, context=("tty",))
FORMATS = ("pipe", "syslog", "journal", "journal-json", "auto")
NOW_US = 1_700_000_000_000_000
PID = 4000
SES = 7
"""Who logs in, in what each core is given before the input."""

LOGIN_LINE = b"%d Accepted password for bob from 10.0.0.5 port 50022 ssh2\n" % PID
LOGIN_RECORD = (
    b"type=LOGIN msg=audit(1700000000.000:1): pid=%d uid=0 old-auid=4294967295 auid=1000 tty=(none) "
    b"old-ses=4294967295 ses=%d res=1\n" % (PID, SES)
)

OTHER_RECORD = LOGIN_RECORD.replace(b":1)", b":2)").replace(b" ses=7 ", b" ses=8 ")
"""The next session of the same pid."""

ROUTE_SPLIT = 1
"""Fed in pieces as well, which must give the same."""
ROUTE_CORE = 2
"""Through a whole core, not only through the parser."""
ROUTE_KNOWN = 4
"""The core knows a session, and who it is; else nobody."""
ROUTE_PLAIN = 8
"""It writes no context."""

_decoder = msgspec.json.Decoder()
_state_decoder = msgspec.json.Decoder(CoreState)
_encoder = msgspec.json.Encoder()
_idle = Core(SETTINGS)


def _pieces(data: bytes, cut: int) -> list[bytes]:
    """The same bytes in one piece where ``cut`` is 0, else cut so many 256ths behind their beginning, and soon after.

    Few pieces: a whole core looks at its clocks after each.
    """
    if not cut:
        return [data]
    at = len(data) * (cut - 1) // 256
    ends = (0, at, at + 1, at + 2, at + 7, len(data))
    return [data[start:end] for start, end in zip(ends, ends[1:], strict=False)]


def _check(lines: bytes) -> bytes:
    """Every line is JSON: msgspec takes neither what is no UTF-8, nor control bytes in a text."""
    for line in lines.splitlines():
        _decoder.decode(line)
    return lines


def _same(run: Callable[[bytes, int], bytes], data: bytes, route: int, cut: int) -> None:
    """What the input gives is JSON; in pieces, where the route says so, the same."""
    whole = _check(run(data, 0))
    if route & ROUTE_SPLIT:
        assert run(data, cut + 1) == whole


@contextmanager
def _core(route: int = 0) -> Iterator[Core]:
    """A new core, which is let go of at once: what it calls has a reference to it, so only the collector would."""
    core = Core(PLAIN if route & ROUTE_PLAIN else SETTINGS)
    try:
        if route & ROUTE_KNOWN:
            core.feed_sshd(LOGIN_LINE, "pipe", NOW_US)
            core.feed_audit(LOGIN_RECORD)
        yield core
    finally:
        vars(core).clear()


# ------------------------------------------------------------------------------------------------ records


def records(data: bytes) -> None:
    """The framer and the record parser, alone and in the core: a feed split anywhere gives the same events."""
    if len(data) < 3:
        return
    route = data[0]
    if not route & ROUTE_CORE:
        _same(_decoded, data[2:], route, data[1])
        return
    _same(lambda rest, cut: _audit(rest, cut, route), data[2:], route, data[1])


def _decoded(data: bytes, cut: int) -> bytes:
    return b"".join(decode(_pieces(data, cut)))


def _audit(data: bytes, cut: int, route: int) -> bytes:
    with _core(route) as core:
        before = core.audit_resolved
        made = [core.take()]
        for piece in _pieces(data, cut):
            core.feed_audit(piece)
            now = core.audit_resolved
            assert before <= now <= len(data) + len(LOGIN_RECORD), "what was resolved stays so"
            before = now
            made.append(core.take())
        core.flush()
        audit = core._audit
        rejected = audit.reject_not_a_record + audit.reject_bad_stamp + audit.reject_too_long
        assert audit.lines == audit.blank_lines + audit.records + audit.skipped + rejected
        return b"".join([*made, core.take()])


# ------------------------------------------------------------------------------------------------ logins


def logins(data: bytes) -> None:
    """sshd's lines in every envelope, alone and in the core: a feed split anywhere gives the same."""
    if len(data) < 4:
        return
    route, form = data[0], FORMATS[data[2] % len(FORMATS)]
    run = _joined if route & ROUTE_CORE else _lines
    _same(lambda rest, cut: run(rest, cut, form, route), data[3:], route, data[1])


def _lines(data: bytes, cut: int, form: str, route: int) -> bytes:
    rejected: list[Any] = []
    reader = Logins(
        host="h",
        machine_id="m",
        boot_id="b",
        reject=lambda line, reason: rejected.append((line, reason)),
        zone=time_zone("UTC"),
    )
    made = [record for piece in _pieces(data, cut) for record in reader.feed(piece, form, NOW_US)]
    assert 0 <= reader.pending_bytes <= len(data)
    made += reader.flush(NOW_US)
    assert reader.pending_bytes == 0
    return _encoder.encode_lines([*made, rejected, reader.counters(), reader.dump()])


def _joined(data: bytes, cut: int, form: str, route: int) -> bytes:
    with _core(route) as core:
        made = [core.take()]
        for piece in _pieces(data, cut):
            core.feed_sshd(piece, form, NOW_US)
            made.append(core.take())
        core.feed_audit(OTHER_RECORD)
        core.flush()
        return b"".join([*made, core.take()])


# ------------------------------------------------------------------------------------------------ what is saved


def state(data: bytes) -> None:
    """The checkpoint: a payload with a right header is read or refused; what was read is written as it was."""
    whole = data
    if data[:1] != b"\0":  # else the header is fuzzed, too
        header = checkpoint._HEADER.pack(checkpoint._MAGIC, checkpoint.VERSION, len(data), checkpoint._checksum(data))
        whole = header + data
    (scratch() / checkpoint.NAME).write_bytes(whole)
    found = checkpoint.load(str(scratch()))
    if found is None:
        return
    assert msgspec.msgpack.decode(msgspec.msgpack.encode(found), type=checkpoint.State) == found
    _reload(found.core)


def sessions(data: bytes) -> None:
    """The core's part of the checkpoint: refused, or dump() and load() agree from then on."""
    _reload(data)


def _reload(saved: bytes) -> None:
    try:
        _state_decoder.decode(saved)
    except (msgspec.MsgspecError, UnicodeDecodeError):
        try:
            _idle.load(saved, 0, 0)  # refused before anything in it was changed: it is as new
        except StateError:
            return
        assert not saved, "not refused, and yet it cannot be read"
        return
    with _core() as core:
        try:
            core.load(saved, 0, 0)
        except StateError:
            return
        first = core.dump()
        with _core() as again:
            again.load(first, 0, 0)
            second = again.dump()
        assert second == first or _decoder.decode(second) == _decoder.decode(first)
        core.feed_sshd(LOGIN_LINE, "pipe", NOW_US)
        core.feed_audit(LOGIN_RECORD)
        core.flush()
        _check(core.take())


# ------------------------------------------------------------------------------------------------ settings


def settings(data: bytes) -> None:
    """The configuration file and the flags: a Config, or an AuditoError that says why not."""
    path = scratch() / "audito.toml"
    text, _, flags = data.partition(b"\0")
    path.write_bytes(text)
    argv = ["--config", str(path), *(flag.decode("utf-8", "surrogateescape") for flag in flags.split(b"\0") if flag)]
    try:
        config.load(argv, {}, cwd="/", hostname="h", exists=lambda path: False)
    except AuditoError as error:
        assert str(error)


@cache
def _directory() -> tempfile.TemporaryDirectory[str]:
    memory = "/dev/shm"
    return tempfile.TemporaryDirectory(prefix="audito-fuzz-", dir=memory if os.access(memory, os.W_OK) else None)


def scratch() -> Path:
    """A directory of this process for files, in memory where the host has such a file system."""
    return Path(_directory().name)


TARGETS: dict[str, Callable[[bytes], None]] = {
    target.__name__: target for target in (records, logins, state, sessions, settings)
}
