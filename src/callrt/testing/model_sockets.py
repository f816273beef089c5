"""Real sockets with the switches of a memory link: cut the network, reset the connection."""

from __future__ import annotations

import socket
import struct

import attrs
import trio

from callrt.wire.connection import WebSocketTransport
from callrt.wire.transport import TransportStatistics


@attrs.define(eq=False)
class CuttableStream(trio.abc.Stream):
    """A socket whose network can be cut: bytes stop both ways, and nobody is told."""

    stream: trio.SocketStream
    is_cut: bool = False

    async def send_all(self, data: bytes | bytearray | memoryview) -> None:
        if self.is_cut:
            await trio.sleep_forever()
        await self.stream.send_all(data)

    async def wait_send_all_might_not_block(self) -> None:
        if self.is_cut:
            await trio.sleep_forever()
        await self.stream.wait_send_all_might_not_block()

    async def receive_some(self, max_bytes: int | None = None) -> bytes | bytearray:
        data = await self.stream.receive_some(max_bytes)
        if self.is_cut:
            await trio.sleep_forever()
        return data

    async def aclose(self) -> None:
        await self.stream.aclose()


@attrs.define(eq=False)
class SocketEnd:
    """A real socket with the switches of a memory link."""

    inner: WebSocketTransport
    cut: CuttableStream
    stream: trio.SocketStream

    @property
    def is_open(self) -> bool:
        return self.inner.is_open

    async def receive(self) -> str | bytes:
        return await self.inner.receive()

    def receive_nowait(self) -> str | bytes:
        return self.inner.receive_nowait()

    def send_nowait(self, message: str | bytes) -> bool:
        return self.inner.send_nowait(message)

    async def ping(self) -> None:
        await self.inner.ping()

    async def aclose(self, code: int = 1000, reason: str = "") -> None:
        await self.inner.aclose(code, reason)

    def abort(self) -> None:
        # Lingering for zero seconds makes the kernel send a reset instead of an end.
        self.stream.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
        self.inner.abort()

    def freeze(self) -> None:
        self.cut.is_cut = True

    def statistics(self) -> TransportStatistics:
        return self.inner.statistics()
