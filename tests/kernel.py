"""How the kernel writes a program's arguments into EXECVE records, as kernel/auditsc.c has done since 4.8.

A model of what comes out, for tests that put argv in: an argument is quoted where it is printable without blank and
quote, else in upper-case hex; one that does not fit the rest of its record is split (``aN_len=``, ``aN[0]=``, …), and
one of 7,500 bytes or more is always in hex. A record has about 7,500 bytes of text; argc stands in the first.
"""

from __future__ import annotations

RECORD_BYTES = 7500
KEY_BYTES = 96
"""What the kernel allows for ``aN_len=… aN[i]=``; a record with less room than that and 8 bytes is ended."""


def is_plain(text: bytes) -> bool:
    """Whether the kernel writes a text in quotes."""
    return all(0x21 <= byte <= 0x7E and byte != 0x22 for byte in text)


def execve_texts(args: list[bytes]) -> list[bytes]:
    """The texts of the EXECVE records of one execve, from ``argc=`` on."""
    texts = [bytearray(b"argc=%d" % len(args))]
    room = RECORD_BYTES
    for number, arg in enumerate(args):
        room = write_argument(texts, number, arg, room)
    return [bytes(text) for text in texts]


def write_argument(texts: list[bytearray], number: int, arg: bytes, room: int) -> int:
    """Append one argument; ``room`` is what the last record has left, and returned as it is then.

    The kernel reads at most 7,500 bytes ahead. Where that is full it does not know yet whether the argument goes on:
    it splits, and encodes whatever the bytes are.
    """
    encoded = len(arg) >= RECORD_BYTES or not is_plain(arg)
    read = min(len(arg), RECORD_BYTES)
    done = part = 0
    while True:
        goes_on = read - done == RECORD_BYTES
        size = 2 * (read - done) if encoded else read - done + 2
        if room < KEY_BYTES + 8:
            texts.append(bytearray())
            room = RECORD_BYTES
        key = b" a%d=" % number
        if goes_on or part or size + KEY_BYTES > room:
            length = b" a%d_len=%d" % (number, len(arg) * (2 if encoded else 1)) if part == 0 else b""
            key = length + b" a%d[%d]=" % (number, part)
            part += 1
        room -= len(key)
        count = read - done
        if size > room:
            count = room // 2 if encoded else room - 2
        piece = arg[done : done + count]
        text = piece.hex().upper().encode() if encoded else b'"' + piece + b'"'
        texts[-1] += key + text
        room -= len(text)
        done += count
        if goes_on:
            read = min(len(arg), done + RECORD_BYTES)
        elif done == read:
            return room
