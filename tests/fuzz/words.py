"""What libFuzzer puts into inputs: the words of the tables and of the settings, so none is copied by hand."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import msgspec

from audito import checkpoint, config
from audito.core import CoreState
from audito.tables.actions import RECORD_ACTIONS
from audito.tables.record_types import RECORD_TYPES
from audito.tables.secrets import ROWS, Shape
from audito.tables.sshd import GRAMMAR

WORD_BYTES_MAX = 64
"""libFuzzer's own limit of a dictionary's word."""


def _records() -> Iterator[str]:
    yield from ("type=", " msg=audit(", "): ", "1700000000.000:1", "node=", "ses=7", "pid=4000", "\x1d", "\n", "\0")
    yield from (f"type={name} msg=audit(1700000000.000:9): " for name in RECORD_TYPES)
    for rows in RECORD_ACTIONS.values():
        for row in rows:
            for keys in (row.when_field, row.primary, row.secondary):
                yield from (f" {key}=" for key in ((keys,) if isinstance(keys, str) else keys) if key)
    for secret in ROWS:
        if isinstance(secret, Shape):
            yield from secret.needles


def _logins() -> Iterator[str]:
    yield from ("4000 ", "Jul  9 15:00:29 h sshd[4000]: ", "2024-07-09T15:00:29.099504+02:00 ", " [preauth]", "\n")
    for variant in GRAMMAR.variants:
        for segment in variant.segments:
            yield from (step[2].decode() for step in segment if step[2])


def _sessions() -> Iterator[str]:
    yield from ("[]", "{}", "null", "4294967295", '""', ",", ":", "\\u0000")
    for name in _fields(CoreState):
        yield f'"{name}":'


def _state() -> Iterator[str]:
    yield from _fields(checkpoint.State)
    yield from _sessions()


def _fields(kind: Any) -> Iterator[str]:
    """Names of the fields of a struct and of those in it."""
    todo, seen = [msgspec.inspect.type_info(kind)], set()
    while todo:
        info = todo.pop()
        if isinstance(info, msgspec.inspect.StructType) and info.cls not in seen:
            seen.add(info.cls)
            yield from (field.encode_name for field in info.fields)
            todo += [field.type for field in info.fields]
        for name in ("item_type", "item_types", "key_type", "value_type", "types"):
            inner = getattr(info, name, ())
            todo += inner if isinstance(inner, tuple) else [inner]


def _settings() -> Iterator[str]:
    yield from ("=", '"', "'", "[", "]", "true", "false", "\n", "\0--", "64MiB", "10s", "-")
    for row in config.rows(config.Config):
        yield row.setting.name
        yield f"--{row.setting.name}="


WORDS = {"records": _records, "logins": _logins, "state": _state, "sessions": _sessions, "settings": _settings}
"""By target."""


def dictionary(target: str) -> str:
    """A dictionary file of libFuzzer."""
    words = sorted({word.encode()[:WORD_BYTES_MAX] for word in WORDS[target]()})
    return "".join('"' + "".join(f"\\x{byte:02x}" for byte in word) + '"\n' for word in words)
