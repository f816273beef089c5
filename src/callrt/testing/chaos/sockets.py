"""The emulators' sockets where a hundred calls must keep real time on two cores: the direct transport.

It can be reset and ended, but not frozen: a scenario with half-open sockets uses the ordinary ones.
"""

from __future__ import annotations

import socket
import struct
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager
from urllib.parse import urlsplit

import attrs
import msgspec
import trio

from callrt.testing.model_server import MODEL_LIMITS, Admission, EmulatedModel
from callrt.wire.limits import CLIENT_LIMITS
from callrt.wire.transport import Glance, Sink, Transport, TransportStatistics, deliver
from callrt.wire.websocket import ConnectFailed, accept, connect_over

_AT_ONCE = struct.pack("ii", 1, 0)
"""Lingering for zero seconds: closing is a reset."""


class RawEnd:
    """A transport and the socket under it, to break it as networks do."""

    def __init__(self, transport: Transport, opened: trio.socket.SocketType) -> None:
        self._transport = transport
        self._opened = opened
        self.is_open = True

    @property
    def _raw(self) -> socket.socket | trio.socket.SocketType | None:
        """The direct transport has taken the socket over from Trio; None when it is closed."""
        raw: socket.socket | None = getattr(self._transport, "_socket", None)
        if raw is not None:
            return raw
        return self._opened if self._opened.fileno() >= 0 else None

    def reset(self) -> None:
        raw = self._raw
        if raw is not None:
            raw.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, _AT_ONCE)
        self._transport.abort()

    def finish(self) -> None:
        """FIN, and no close frame before it."""
        raw = self._raw
        if raw is not None:
            raw.shutdown(socket.SHUT_WR)

    async def receive(self) -> str | bytes:
        return await self._transport.receive()

    async def deliver(self, sink: Sink, glance: Glance | None = None) -> None:
        await deliver(self._transport, sink, glance)

    def receive_nowait(self) -> str | bytes:
        return self._transport.receive_nowait()

    def send_nowait(self, message: str | bytes) -> bool:
        return self._transport.send_nowait(message)

    async def ping(self) -> None:
        await self._transport.ping()

    async def aclose(self, code: int = 1000, reason: str = "") -> None:
        await self._transport.aclose(code, reason)

    def abort(self) -> None:
        self.reset()

    def statistics(self) -> TransportStatistics:
        return self._transport.statistics()


@asynccontextmanager
async def open_media_socket(
    url: str, headers: Sequence[tuple[bytes, bytes]], *, via: int | None = None
) -> AsyncIterator[Transport]:
    """The carrier's seam for media sockets. Raises ConnectFailed or UpgradeRefused; leaving the block closes.

    ``via``: a port on this machine to go through; the address stays what it is.
    """
    parts = urlsplit(url)
    error: BaseException
    try:
        async with trio.open_nursery() as nursery:
            try:
                raw = await trio.open_tcp_stream(parts.hostname or "", via or parts.port or 80)
            except OSError as failure:
                raise ConnectFailed("network") from failure
            host = f"{parts.hostname}:{parts.port}"
            end = RawEnd(await connect_over(nursery, raw, host, parts.path or "/", headers), raw.socket)
            try:
                yield end
            finally:
                await end.aclose()
    except BaseExceptionGroup as group:
        if len(group.exceptions) != 1:
            raise
        error = group.exceptions[0]
    else:
        return
    raise error


_LIMITS = attrs.evolve(MODEL_LIMITS, inbox_messages=CLIENT_LIMITS.inbox_messages)


@attrs.define(eq=False)
class SwiftModel(EmulatedModel):
    """An emulated model whose sockets are direct."""

    async def serve_stream(self, stream: trio.SocketStream) -> None:
        admitted: list[Admission] = []

        async def check(target: str, headers: Sequence[tuple[bytes, bytes]]) -> tuple[int, bytes] | None:
            admission = self.admit(target, headers, trio.current_time())
            if isinstance(admission, Admission):
                admitted.append(admission)
                return None
            body = {"error": {"message": admission.message, "type": "invalid_request_error"}}
            return admission.status, msgspec.json.encode(body)

        async with trio.open_nursery() as nursery:
            transport = await accept(nursery, stream, check, limits=_LIMITS)
            if transport is not None:
                await self.serve(RawEnd(transport, stream.socket), admitted[0])
            nursery.cancel_scope.cancel()
