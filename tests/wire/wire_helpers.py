"""Two ends of one socket, mouth to mouth, and a peer that speaks raw bytes."""

from __future__ import annotations

import base64
import hashlib
import struct
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

import trio
import trio.socket
import trio.testing

from callrt.wire.direct import DirectTransport
from callrt.wire.direct_frames import as_text
from callrt.wire.limits import SocketLimits
from callrt.wire.websocket import OpenTransport, accept, connect_over

kind = "reference"
"""Set by the fixture ``transport_kind``."""


def stream_pair() -> tuple[trio.abc.HalfCloseableStream, trio.abc.HalfCloseableStream]:
    """Two ends: in memory for the reference transport, sockets for the direct one (it needs some to take)."""
    if kind == "reference":
        return trio.testing.memory_stream_pair()
    left, right = trio.socket.socketpair()
    return trio.SocketStream(left), trio.SocketStream(right)


async def accept_all(path: str, headers: object) -> None:
    return None


def living_tasks() -> int:
    return trio.lowlevel.current_statistics().tasks_living


@asynccontextmanager
async def socket_pair(
    client_limits: SocketLimits | None = None, server_limits: SocketLimits | None = None
) -> AsyncIterator[tuple[OpenTransport, OpenTransport]]:
    """(client, server) over memory; both are dropped at the end."""
    left, right = stream_pair()
    async with trio.open_nursery() as nursery:
        served: list[OpenTransport | None] = []

        async def serve() -> None:
            served.append(await accept(nursery, right, accept_all, limits=server_limits or SocketLimits()))

        async with trio.open_nursery() as opening:
            opening.start_soon(serve)
            client = await connect_over(
                nursery, left, "there", "/media/k7?x=1", limits=client_limits or SocketLimits()
            )
        (server,) = served
        assert server is not None
        assert (
            isinstance(client, DirectTransport) == isinstance(server, DirectTransport) == (kind == "direct")
        )
        yield client, server
        nursery.cancel_scope.cancel()


class RawPeer:
    """A server without a library: says exactly the bytes that a test wants it to say."""

    def __init__(self, stream: trio.abc.HalfCloseableStream) -> None:
        self.stream = stream
        self.other_end: trio.abc.Stream | None = None
        self.received = bytearray()

    async def until(self, end: bytes) -> bytes:
        while end not in self.received:
            data = await self.stream.receive_some()
            assert data
            self.received += data
        at = self.received.index(end) + len(end)
        head = bytes(self.received[:at])
        del self.received[:at]
        return head

    async def upgrade(self, said: bytes = b"") -> None:
        """``said``: in the same breath as the answer."""
        head = await self.until(b"\r\n\r\n")
        key = next(
            line.split(b":")[1].strip()
            for line in head.split(b"\r\n")
            if line.lower().startswith(b"sec-websocket-key")
        )
        digest = hashlib.sha1(key + b"258EAFA5-E914-47DA-95CA-C5AB0DC85B11").digest()
        await self.stream.send_all(
            b"HTTP/1.1 101 Switching Protocols\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n"
            b"Sec-WebSocket-Accept: " + base64.b64encode(digest) + b"\r\n\r\n" + said
        )

    async def frame(self, opcode: int, payload: bytes, *, final: bool = True) -> None:
        await self.stream.send_all(frame_bytes(opcode, payload, final=final))

    async def say(self, data: bytes) -> bool:
        """False: the other end has closed."""
        try:
            await self.stream.send_all(data)
        except trio.BrokenResourceError:
            return False
        return True

    async def end(self) -> None:
        """Nothing more will be said; the other end may have closed already."""
        try:
            await self.stream.send_eof()
        except (trio.BrokenResourceError, OSError):
            return

    def stop_reading(self) -> None:
        """What the other end writes from now on fails; what was said to it can be read."""
        if isinstance(self.stream, trio.SocketStream):
            self.stream.socket.shutdown(trio.socket.SHUT_RD)
        else:
            self.stream.receive_stream.close()

    async def drain(self) -> bytes:
        """Everything until the other end closes."""
        try:
            while data := await self.stream.receive_some():
                self.received += data
        except trio.BrokenResourceError:
            return bytes(self.received)
        return bytes(self.received)


def frame_bytes(opcode: int, payload: bytes, *, final: bool = True) -> bytes:
    head = bytes([opcode | (0x80 if final else 0)])
    if len(payload) < 126:
        head += bytes([len(payload)])
    elif len(payload) < 65_536:
        head += b"\x7e" + struct.pack("!H", len(payload))
    else:
        head += b"\x7f" + struct.pack("!Q", len(payload))
    return head + payload


TEXT, BINARY, CLOSE, PING, PONG = 0x1, 0x2, 0x8, 0x9, 0xA
CONTINUED = 0x0


@asynccontextmanager
async def raw_pair(limits: SocketLimits | None = None) -> AsyncIterator[tuple[OpenTransport, RawPeer]]:
    """(client transport, raw server) after a good upgrade."""
    left, right = stream_pair()
    peer = RawPeer(right)
    peer.other_end = left
    async with trio.open_nursery() as nursery:
        async with trio.open_nursery() as opening:
            opening.start_soon(peer.upgrade)
            client = await connect_over(nursery, left, "there", limits=limits or SocketLimits())
        yield client, peer
        nursery.cancel_scope.cancel()


def message_of(found: tuple[int, bytes]) -> str | bytes | tuple[int, bytes]:
    """What a frame reader has found, as a reader of messages sees it: text, bytes, or a control frame as it is."""
    opcode, payload = found
    if opcode == TEXT:
        return as_text(payload)
    return payload if opcode == BINARY else found
