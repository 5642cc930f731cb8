"""How much can be read from a descriptor, without reading it."""

from __future__ import annotations

import fcntl
import termios
from array import array


def unread_bytes(fd: int) -> int:
    """What is in a pipe or a socket, or left of a regular file; -1 where the kernel does not say.

    Source: FIONREAD, pipe(7); the kernel's ioctl() answers it for regular files, too.
    """
    count = array("i", [0])
    try:
        fcntl.ioctl(fd, termios.FIONREAD, count)
    except OSError:
        return -1
    return count[0]
