"""What the words of settings mean: each function takes the text of a flag, a variable or a key, and gives its value.

Errors of all of them: ValueError, whose text says what would do.
"""

from __future__ import annotations

import logging
import re
from collections.abc import Iterable, Iterator
from difflib import get_close_matches
from typing import Literal, get_args

from audito.events import CONTEXT, EVENT_TYPES
from audito.redact import ALL
from audito.tables.secrets import ROW_NAMES

HTTP_PORT = 2112

LogLevel = Literal["debug", "info", "warn", "error", "dpanic", "panic", "fatal"]
"""zap's names; the last three are one level here, nothing that audito logs stops it."""

LEVELS: dict[LogLevel, int] = {
    "debug": logging.DEBUG,
    "info": logging.INFO,
    "warn": logging.WARNING,
    "error": logging.ERROR,
    "dpanic": logging.CRITICAL,
    "panic": logging.CRITICAL,
    "fatal": logging.CRITICAL,
}

SshdFormat = Literal["auto", "pipe", "syslog", "journal-json"]


def nearest(word: str, known: Iterable[str], before: str = "") -> str:
    """The end of a message about an unknown word: the known one that is nearest, when one is near."""
    near = get_close_matches(word, list(known), n=1)
    return f"; did you mean {before}{near[0]}?" if near else ""


def parse_text(text: str) -> str:
    """The text as it stands."""
    return text


def parse_path(text: str) -> str:
    """A path as it stands; the layer that it came from makes it absolute. Errors: ValueError for a NUL byte."""
    if "\0" in text:
        raise ValueError("a path has no NUL byte")
    return text


def parse_bool(text: str) -> bool:
    """A Go bool. Errors: ValueError. Source: Go's strconv.ParseBool."""
    if text in ("1", "t", "T", "true", "TRUE", "True"):
        return True
    if text in ("0", "f", "F", "false", "FALSE", "False"):
        return False
    raise ValueError(f'"{text}" is neither true nor false')


def parse_count(text: str) -> int:
    """A decimal number from 0 on. Errors: ValueError."""
    if not re.fullmatch(r"[0-9]{1,18}", text):
        raise ValueError(f'"{text}" is no whole number')
    return int(text)


SIZE_UNITS = {"": 1, "KiB": 1 << 10, "MiB": 1 << 20, "GiB": 1 << 30}
SPOOL_BYTES_MIN = 16 << 20
"""A segment of it has to take the 1 MiB that one read of a pipe gives, twice."""


def parse_spool_bytes(text: str) -> int:
    """Bytes, as in ``67108864`` or ``64MiB``; 0 is none. Errors: ValueError, also for less than a spool needs."""
    match = re.fullmatch(r"([0-9]{1,15})(|KiB|MiB|GiB)", text)
    if match is None:
        raise ValueError(f'"{text}" is no size; write it as 64MiB')
    value = int(match[1]) * SIZE_UNITS[match[2]]
    if 0 < value < SPOOL_BYTES_MIN:
        raise ValueError(f'"{text}": a spool has at least 16MiB')
    return value


DURATION_UNITS_NS = {
    "ns": 1,
    "us": 10**3,
    "µs": 10**3,  # U+00B5, the micro sign; the next is U+03BC, the Greek letter: Go takes both
    "μs": 10**3,
    "ms": 10**6,
    "s": 10**9,
    "m": 60 * 10**9,
    "h": 3600 * 10**9,
}
DURATION_NS_MAX = 2**63 - 1
_DURATION_PART = re.compile(r"([0-9]*)(\.[0-9]*)?([^0-9.]*)")


def parse_duration_ms(text: str) -> int:
    """A duration as Go writes it (``1s``, ``500ms``, ``1m30s``, ``1.5h``), in milliseconds.

    What is shorter than a millisecond and not zero is 1: it never turns into "off". Errors: ValueError, also for
    what is negative. Source: Go's time.ParseDuration.
    """
    if text.removeprefix("+") == "0":
        return 0
    if text.startswith("-"):
        raise ValueError(f'"{text}": a duration here is not negative')
    total_ns = sum(_duration_parts_ns(text, text.removeprefix("+")))
    if total_ns > DURATION_NS_MAX:
        raise ValueError(f'"{text}" is longer than any duration of Go (292 years)')
    return -(-total_ns // 10**6)


def _duration_parts_ns(text: str, rest: str) -> Iterator[int]:
    """The nanoseconds of each number with its unit; a fraction is cut, as Go cuts it."""
    if not rest or len(rest) > 100:
        raise ValueError(f'"{text}" is no duration; write it as 1s, 500ms or 1m30s')
    while rest:
        match = _DURATION_PART.match(rest)
        assert match is not None  # every part of the pattern may be empty
        whole, fraction, unit = match[1], (match[2] or "")[1:], match[3]
        if not whole and not fraction:
            raise ValueError(f'"{text}" is no duration; write it as 1s, 500ms or 1m30s')
        if not unit:
            raise ValueError(f'"{text}": a duration needs a unit, as in {text}s')
        if unit not in DURATION_UNITS_NS:
            raise ValueError(f'"{text}": unknown unit "{unit}"; Go knows ns, us, ms, s, m and h')
        scale = DURATION_UNITS_NS[unit]
        yield int(whole or "0") * scale + int(fraction or "0") * scale // 10 ** len(fraction)
        rest = rest[match.end() :]


def duration_text(value_ms: int) -> str:
    """A duration as :func:`parse_duration_ms` reads it, in as few units as it takes."""
    if value_ms == 0:
        return "0"
    parts = []
    for unit, scale_ms in (("h", 3_600_000), ("m", 60_000), ("s", 1_000), ("ms", 1)):
        count, value_ms = divmod(value_ms, scale_ms)
        if count:
            parts.append(f"{count}{unit}")
    return "".join(parts)


def parse_positive_duration_ms(text: str) -> int:
    """A duration that is not zero, in milliseconds. Errors: ValueError."""
    value_ms = parse_duration_ms(text)
    if value_ms == 0:
        raise ValueError(f'"{text}": this duration cannot be zero')
    return value_ms


def parse_level(text: str) -> LogLevel:
    """One of zap's level names, in lower or upper case. Errors: ValueError, naming the nearest."""
    for level in get_args(LogLevel):
        if text in (level, level.upper()):
            return level  # type: ignore[no-any-return]  # an element of LogLevel
    raise ValueError(f'"{text}" is no level{nearest(text.lower(), get_args(LogLevel))}')


def parse_event_types(text: str) -> tuple[str, ...]:
    """Names of events, with commas between them, in the order of the documentation. Errors: ValueError."""
    names = [name.strip() for name in text.split(",")]
    for name in names:
        if name not in EVENT_TYPES:
            raise ValueError(f'"{name}" is no type of event{nearest(name, EVENT_TYPES)}')
    return tuple(name for name in EVENT_TYPES if name in names)


NO_CONTEXT = "none"


def parse_context(text: str) -> tuple[str, ...]:
    """Names of context, with commas between them, in the order of the documentation, or "none". Errors: ValueError."""
    names = [name.strip() for name in text.split(",")]
    if names == [NO_CONTEXT]:
        return ()
    if NO_CONTEXT in names:
        raise ValueError(f'"{text}": {NO_CONTEXT} stands alone')
    for name in names:
        if name not in CONTEXT:
            raise ValueError(f'"{name}" is no context{nearest(name, (*CONTEXT, NO_CONTEXT))}')
    return tuple(name for name in CONTEXT if name in names)


def parse_redact_off(text: str) -> tuple[str, ...]:
    """Names of built-in patterns, with commas between them, or "all". Errors: ValueError."""
    names = [name.strip() for name in text.split(",")]
    for name in names:
        if name not in (*ROW_NAMES, ALL):
            raise ValueError(f'"{name}" is no pattern of audito{nearest(name, (*ROW_NAMES, ALL))}')
    return (ALL,) if ALL in names else tuple(name for name in ROW_NAMES if name in names)


def parse_address(text: str) -> str:
    """``HOST:PORT``, ``[IPV6]:PORT`` or ``:PORT`` (all addresses). Errors: ValueError."""
    host, colon, port = text.rpartition(":")
    if not colon or not re.fullmatch(r"[0-9]{1,5}", port) or int(port) > 65535:
        raise ValueError(f'"{text}" is no address; write it as 127.0.0.1:{HTTP_PORT} or :{HTTP_PORT}')
    if ":" in host and not (host.startswith("[") and host.endswith("]")):
        raise ValueError(f'"{text}": an IPv6 address goes in brackets, as in [::1]:{HTTP_PORT}')
    return text


def parse_boot_id(text: str) -> str:
    """A boot id in the kernel's form, with dashes, also where it was given in the journal's, without."""
    bare = text.replace("-", "").lower()
    if not re.fullmatch(r"[0-9a-f]{32}", bare):
        return text
    return "-".join((bare[:8], bare[8:12], bare[12:16], bare[16:20], bare[20:]))


def parse_time_zone(text: str) -> str:
    """The IANA name of a zone that this host knows. Errors: ValueError, naming the nearest."""
    from zoneinfo import available_timezones

    from audito.logins import time_zone

    try:
        time_zone(text)
    except ValueError as error:
        raise ValueError(f"{error}{nearest(text, available_timezones())}") from error
    return text


def parse_sshd_format(text: str) -> SshdFormat:
    """One of the forms of saved sshd lines. Errors: ValueError, naming the nearest."""
    for name in get_args(SshdFormat):
        if text == name:
            return name  # type: ignore[no-any-return]  # an element of SshdFormat
    raise ValueError(f'"{text}" is no form of sshd lines{nearest(text, get_args(SshdFormat))}')
