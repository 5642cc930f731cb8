"""What the fuzzer runs. Each target takes any bytes, and asserts more than that nothing breaks."""

from __future__ import annotations

import json
import os
import tempfile
from collections.abc import Callable
from pathlib import Path

from audito import checkpoint, config
from audito.core import Core, CoreSettings
from audito.errors import AuditoError, StateError

SETTINGS = CoreSettings(host="h", machine_id="m", boot_id="b", session_count_max=16, syslog_time_zone="UTC")
FORMATS = ("pipe", "syslog", "journal", "journal-json", "auto")
NOW_US = 1_700_000_000_000_000
PENDING_BYTES_MAX = 1 << 20
_SCRATCH = Path(tempfile.gettempdir(), f"audito-fuzz-{os.getpid()}")


def _pieces(data: bytes, cut: int) -> list[bytes]:
    """The same bytes in pieces of this size; 0: in one."""
    return [data[at : at + cut] for at in range(0, len(data), cut)] if cut else [data]


def _lines(data: bytes) -> bytes:
    for line in data.splitlines():
        json.loads(line)
    return data


def _audit(data: bytes, cut: int) -> bytes:
    core = Core(SETTINGS)
    made = []
    for piece in _pieces(data, cut):
        core.feed_audit(piece)
        assert core.audit_resolved <= len(data)
        made.append(core.take())
    core.flush()
    return _lines(b"".join([*made, core.take()]))


def records(data: bytes) -> None:
    """The framer and the record parser: a feed split anywhere gives the same events."""
    if len(data) < 2:
        return
    cut, rest = data[0] + 1, data[1:]
    assert _audit(rest, 0) == _audit(rest, cut)


def _sshd(data: bytes, form: str, cut: int) -> bytes:
    core = Core(SETTINGS)
    made = []
    for piece in _pieces(data, cut):
        core.feed_sshd(piece, form, NOW_US)
        made.append(core.take())
    core.flush()
    return _lines(b"".join([*made, core.take()]))


def logins(data: bytes) -> None:
    """sshd's lines in every envelope: a feed split anywhere gives the same events."""
    if len(data) < 3:
        return
    form, cut, rest = FORMATS[data[0] % len(FORMATS)], data[1] + 1, data[2:]
    assert _sshd(rest, form, 0) == _sshd(rest, form, cut)


def state(data: bytes) -> None:
    """The checkpoint: a payload with a right header is read or refused; what was read is written as it was."""
    _SCRATCH.mkdir(mode=0o700, exist_ok=True)
    whole = data
    if data[:1] != b"\0":  # else the header is fuzzed, too
        header = checkpoint._HEADER.pack(checkpoint._MAGIC, checkpoint.VERSION, len(data), checkpoint._checksum(data))
        whole = header + data
    (_SCRATCH / checkpoint.NAME).write_bytes(whole)
    (_SCRATCH / checkpoint.OLDER).unlink(missing_ok=True)
    found = checkpoint.load(str(_SCRATCH))
    if found is not None:
        _reload(found.core)


def sessions(data: bytes) -> None:
    """The core's part of the checkpoint: refused, or dump() and load() agree from then on."""
    _reload(data)


def _reload(saved: bytes) -> None:
    core = Core(SETTINGS)
    try:
        core.load(saved, 0, 0)
    except StateError:
        return
    first = core.dump()
    again = Core(SETTINGS)
    again.load(first, 0, 0)
    assert json.loads(again.dump()) == json.loads(first)
    core.flush()
    _lines(core.take())


def settings(data: bytes) -> None:
    """The configuration file and the flags: a Config, or an AuditoError that says why not."""
    _SCRATCH.mkdir(mode=0o700, exist_ok=True)
    path = _SCRATCH / "audito.toml"
    text, _, flags = data.partition(b"\0")
    path.write_bytes(text)
    argv = ["--config", str(path), *(flag.decode("utf-8", "surrogateescape") for flag in flags.split(b"\0") if flag)]
    try:
        config.load(argv, {}, cwd="/", hostname="h", exists=lambda path: False)
    except AuditoError:
        pass


TARGETS: dict[str, Callable[[bytes], None]] = {
    target.__name__: target for target in (records, logins, state, sessions, settings)
}
