r"""Bytes that others chose, as text in JSON, without loss.

UTF-8 stands as it is. Any other byte is ``\xNN``. In a text that holds such a byte, and in one that would read
as if it did (it has ``\\`` or ``\xNN`` in it), every backslash is doubled. So reading back needs no context:
``\\`` is a backslash, ``\xNN`` that byte, any other backslash itself; and no two byte strings give one text.
"""

from __future__ import annotations

import re

_ESCAPE = re.compile(rb"\\(\\|x[0-9a-fA-F]{2})")


def lossless(raw: bytes, verbatim: bool = False) -> str:
    """Bytes to text that can be turned back. ``verbatim``: UTF-8 as it stands whatever it reads like."""
    try:
        text = raw.decode()
    except UnicodeDecodeError:
        return raw.replace(b"\\", b"\\\\").decode("utf-8", "backslashreplace")
    if verbatim or not _ESCAPE.search(raw):
        return text
    return text.replace("\\", "\\\\")


def original(text: str) -> bytes:
    """The bytes that ``lossless`` made this text of; for readers of the events."""
    return _ESCAPE.sub(
        lambda match: b"\\" if match[1] == b"\\" else bytes.fromhex(match[1][1:].decode()), text.encode()
    )


def printable(text: str) -> str:
    """The text in one line that no terminal obeys: control and format characters as ``\\xNN`` or ``\\uNNNN``."""
    if text.isprintable():
        return text
    return "".join(char if char.isprintable() else repr(char)[1:-1] for char in text)
