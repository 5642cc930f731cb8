"""What is saved has a form, in which a changed byte is mostly refused at sight: these change one value of it instead."""

from __future__ import annotations

import copy
import random
from collections.abc import Callable
from typing import Any

import msgspec

NUMBERS = (
    0,
    1,
    2,
    3,
    4,
    7,
    -1,
    4000,
    2**31 - 1,
    2**31,
    2**32 - 1,
    2**32,
    2**53,
    2**62,
    2**63 - 1,
    2**64 - 1,
    1e300,
    0.5,
)
TEXTS = ("", "unknown", "0", "7", "b", "AAAA", "\0", "\n", "\\", "é", "\ud7ff", "x" * 300, "10.0.0.5", "50022")
OTHERS = (None, True, False, [], {}, [0], {"0": 0})

Fallback = Callable[[bytes, int], bytes]


def _places(value: Any, found: list[tuple[Any, Any]]) -> list[tuple[Any, Any]]:
    """(container, key) of all values in it."""
    keys = value if isinstance(value, dict) else range(len(value)) if isinstance(value, list) else ()
    for key in keys:
        found.append((value, key))
        _places(value[key], found)
    return found


def change(value: Any, rng: random.Random) -> None:
    """Change one value, in place."""
    places = _places(value, [])
    if not places:
        return
    inside, key = rng.choice(places)
    old, other = inside[key], rng.choice(places)
    way = rng.randrange(8)
    if way == 0:
        del inside[key]
    elif way == 1:
        inside[key] = copy.deepcopy(other[0][other[1]])
    elif way == 2 and isinstance(inside, list):
        inside.insert(rng.randrange(len(inside) + 1), copy.deepcopy(old))
    elif way == 3 and isinstance(inside, dict):
        inside[rng.choice(("0", "1", "7", "4000", "4294967295"))] = copy.deepcopy(old)
    elif isinstance(old, int) and way < 7:
        inside[key] = rng.choice((rng.choice(NUMBERS), old + 1, old - 1, old ^ 1 << rng.randrange(32)))
    elif isinstance(old, str) and way < 7:
        inside[key] = rng.choice((rng.choice(TEXTS), old[: len(old) // 2], old * 2))
    else:
        inside[key] = copy.deepcopy(rng.choice(OTHERS))


def json(data: bytes, size_max: int, seed: int, fallback: Fallback) -> bytes:
    """One value of a JSON text changed, or, where it is none and now and then, a byte."""
    rng = random.Random(seed)
    try:
        value = msgspec.json.decode(data)
        if rng.randrange(8) == 0:
            return fallback(data, size_max)
        for _ in range(rng.choice((1, 1, 1, 2, 4))):
            change(value, rng)
        changed = msgspec.json.encode(value)
    except (msgspec.MsgspecError, ValueError, OverflowError):
        return fallback(data, size_max)
    return changed if len(changed) <= size_max else fallback(data, size_max)


def state(data: bytes, size_max: int, seed: int, fallback: Fallback) -> bytes:
    """As json(), of a checkpoint's payload: mostly in what is the core's."""
    rng = random.Random(seed)
    try:
        value = msgspec.msgpack.decode(data)
        if not isinstance(value, dict) or rng.randrange(8) == 0:
            return fallback(data, size_max)
        core = value.get("core")
        if isinstance(core, bytes) and rng.randrange(4):
            value["core"] = json(core, size_max, seed, fallback)
        else:
            change(value, rng)
        changed = msgspec.msgpack.encode(value)
    except (msgspec.MsgspecError, ValueError, OverflowError):
        return fallback(data, size_max)
    return changed if len(changed) <= size_max else fallback(data, size_max)


MUTATORS: dict[str, Callable[[bytes, int, int, Fallback], bytes]] = {"sessions": json, "state": state}
"""By target; the others have libFuzzer's own alone."""
