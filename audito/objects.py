"""Names of what was acted on, made of the kernel's bytes: the peer of a socket, an absolute path.

The core asks here for what is not most of its work: IPv4 and unix sockets, and absolute paths, it reads itself.
"""

from __future__ import annotations

from ipaddress import IPv6Address
from typing import Literal

AF_INET6, AF_NETLINK, AF_PACKET, AF_VSOCK = 10, 16, 17, 40


def peer(saddr: bytes, exact: bool) -> tuple[str | None, str | None]:
    """Name and port, or what a family has in their place, of a socket address in the form of its family.

    ``fe80::1%2`` 22 · ``netlink:PID`` and its groups · ``vsock:CID`` and its port · ``packet:INTERFACE`` and its
    protocol · ``family:N`` of any other. A port is big-endian, whatever else is in the byte order of the machine.
    An address that is cut says nothing. ``exact``: only what go-libaudit reads. Source: linux/socket.h, netlink.h,
    vm_sockets.h, if_packet.h.
    """
    order: Literal["big", "little"] = "big" if is_big_endian(saddr) and not exact else "little"
    family = int.from_bytes(saddr[:2], order)

    def number(start: int, end: int) -> int:
        return int.from_bytes(saddr[start:end], order)

    def port() -> str:
        return str(int.from_bytes(saddr[2:4], "big"))

    if family == AF_INET6 and len(saddr) >= 24:
        return inet6_text(saddr[8:24], 0 if exact else number(24, 28)), port()
    if exact or family == AF_INET6:
        return None, None
    if family == AF_NETLINK:
        return (f"netlink:{number(4, 8)}", f"{number(8, 12):#x}") if len(saddr) >= 12 else (None, None)
    if family == AF_VSOCK:
        return (f"vsock:{number(8, 12)}", str(number(4, 8))) if len(saddr) >= 12 else (None, None)
    if family == AF_PACKET:
        return (f"packet:{number(4, 8)}", f"{int(port()):#06x}") if len(saddr) >= 8 else (None, None)
    return f"family:{family}", None


def is_big_endian(saddr: bytes) -> bool:
    """Whether the host is big-endian (s390x): families are below 256, so the byte that is not 0 stands last there."""
    return saddr[0] == 0


def inet6_text(address: bytes, scope: int) -> str:
    """An IPv6 address as RFC 5952 has it; IPv4-mapped ones as plain IPv4, one of a link with its interface."""
    parsed = IPv6Address(address)
    if parsed.ipv4_mapped is not None:
        return str(parsed.ipv4_mapped)
    is_of_link = parsed.is_link_local or (parsed.is_multicast and address[1] & 0x0F in (1, 2))
    return f"{parsed}%{scope}" if scope and is_of_link else str(parsed)


def absolute(name: bytes, directory: bytes) -> bytes:
    """A name relative to a directory, absolute; the name itself where the directory is no absolute path.

    ``./`` and ``../`` in front of the name are worked off against the directory, which the kernel writes without links.
    A ``..`` behind a name stays: that name may be a link, and then only the kernel knows where it leads.
    """
    if not directory.startswith(b"/"):
        return name
    parts = [part for part in name.split(b"/") if part not in (b"", b".")]
    above = directory.rstrip(b"/").split(b"/")
    while parts and parts[0] == b"..":
        parts = parts[1:]
        above = above[:-1] or above
    return b"/".join(above + parts) or b"/"
