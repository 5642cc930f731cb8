"""The HTTP server of /metrics, /readyz and /livez: what it says is decided in :mod:`audito.health`."""

from __future__ import annotations

import asyncio
import socket
from collections.abc import Mapping
from typing import cast

from audito.health import HTTP_HEAD_BYTES_MAX, Health, Page, respond

HTTP_CONNECTION_COUNT_MAX = 16
HTTP_WRITE_TIMEOUT_MS = 5_000
"""For a client that asked and does not take the answer."""


class HttpServer:
    """Serves ``pages`` (path → Page); bounded in size, time and connections.

    When there are too many connections the oldest unanswered one goes: a client that opens many and says nothing
    cannot lock out the prober, which is done within a millisecond. ``timeout_ms``: for the request, 0 is never.
    """

    def __init__(self, pages: Mapping[str, Page], timeout_ms: int, health: Health) -> None:
        self.pages = pages
        self.timeout_ms = timeout_ms
        self.counters = health.counters
        self._open: dict[_Connection, None] = {}  # in order of arrival
        self._server: asyncio.AbstractServer | None = None

    async def start(self, sock: socket.socket) -> None:
        """Take connections from ``sock``, which is ours from here on."""
        self._server = await asyncio.get_running_loop().create_server(lambda: _Connection(self), sock=sock)

    def close(self) -> None:
        """Stop listening and drop every connection; safe to call twice."""
        if self._server is not None:
            self._server.close()
            self._server = None
        for connection in list(self._open):
            connection.drop()

    def admit(self, connection: _Connection) -> None:
        """A new connection."""
        self._open[connection] = None
        if len(self._open) > HTTP_CONNECTION_COUNT_MAX:
            self.counters["http_refused"] += 1
            next(iter(self._open)).drop()

    def forget(self, connection: _Connection) -> None:
        """A connection that is over."""
        self._open.pop(connection, None)


class _Connection(asyncio.Protocol):
    """One request, one answer, and the end."""

    def __init__(self, server: HttpServer) -> None:
        self._server = server
        self._head = bytearray()
        self._transport: asyncio.Transport | None = None
        self._timer: asyncio.TimerHandle | None = None

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self._transport = cast("asyncio.Transport", transport)  # uvloop's own is no subclass of it
        self._server.admit(self)
        self._expire_in(self._server.timeout_ms)

    def data_received(self, data: bytes) -> None:
        if self._transport is None or self._transport.is_closing():
            return
        self._head += data[: HTTP_HEAD_BYTES_MAX + 1]
        answer = respond(self._head, self._server.pages)
        if answer is not None:
            self._server.counters["http_requests"] += 1
            self._expire_in(HTTP_WRITE_TIMEOUT_MS)
            self._transport.write(answer)
            self._transport.close()

    def connection_lost(self, exc: Exception | None) -> None:
        self._expire_in(0)
        self._transport = None
        self._server.forget(self)

    def drop(self) -> None:
        """End it without an answer."""
        self._expire_in(0)
        self._server.forget(self)
        if self._transport is not None:
            self._transport.abort()

    def _expire_in(self, timeout_ms: int) -> None:
        """Drop the connection after this long; 0 takes the limit away."""
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None
        if timeout_ms:
            self._timer = asyncio.get_running_loop().call_later(timeout_ms / 1000, self._expired)

    def _expired(self) -> None:
        self._server.counters["http_refused"] += 1
        self.drop()


def listen(host: str, port: int) -> socket.socket:
    """A listening socket; host "" is all addresses, IPv6 ones too where there are. Errors: OSError."""
    if host:
        family, _, _, _, address = socket.getaddrinfo(host, port, type=socket.SOCK_STREAM)[0]
        return socket.create_server(address[:2], family=family, backlog=HTTP_CONNECTION_COUNT_MAX)
    if socket.has_dualstack_ipv6():
        try:
            return socket.create_server(
                ("", port), family=socket.AF_INET6, dualstack_ipv6=True, backlog=HTTP_CONNECTION_COUNT_MAX
            )
        except OSError:
            pass  # a kernel started with ipv6.disable=1 has the family and no address
    return socket.create_server(("", port), backlog=HTTP_CONNECTION_COUNT_MAX)
