"""Lines as a sink gets them, each like no other."""

from __future__ import annotations


def event(number: int, size: int = 0) -> bytes:
    return b'{"n":%d,"x":"%s"}\n' % (number, b"x" * size)


def events(first: int, end: int, size: int = 0) -> bytes:
    return b"".join(event(number, size) for number in range(first, end))
