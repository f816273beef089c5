"""One end of the line between a worker and its parent: messages in order, some with an open socket.

A stream socket of the Unix family. Each frame is a header (length, whether a descriptor comes along) and one
message. Sending never waits: what cannot be written yet is queued up to a bound, because the parent must not
stand still for one worker that does.
"""

from __future__ import annotations

import array
import os
import socket
import struct
from collections import deque

import attrs
import msgspec
import trio

from callrt.service.workers.messages import Message, decode, encode

QUEUE_BYTES_MAX = 16 * 1024 * 1024
"""Of messages that the other side does not take: it is frozen, and will be ended."""

FRAME_BYTES_MAX = 16 * 1024 * 1024

_HEADER = struct.Struct("!IB")
_READ_BYTES = 256 * 1024
_DESCRIPTORS_MAX = 64
_ANCILLARY = socket.CMSG_SPACE(_DESCRIPTORS_MAX * array.array("i").itemsize)
_CLOEXEC = getattr(socket, "MSG_CMSG_CLOEXEC", 0)


class ChannelClosed(Exception):
    """The other side is gone, or speaks nonsense, which is the same."""


@attrs.define(eq=False)
class Channel:
    """``run`` writes; one task at a time may ``receive``."""

    raw: socket.socket
    closed: bool = False
    dropped: int = 0
    """Messages that found no room."""
    _socket: trio.socket.SocketType = attrs.field(init=False)
    _queue: deque[tuple[bytes, int | None]] = attrs.field(factory=deque)
    _queued: int = 0
    _more: trio.Event = attrs.field(factory=trio.Event)
    _buffer: bytearray = attrs.field(factory=bytearray)
    _descriptors: deque[int] = attrs.field(factory=deque)

    def __attrs_post_init__(self) -> None:
        self._socket = trio.socket.from_stdlib_socket(self.raw)

    def send(self, message: Message, descriptor: int | None = None) -> bool:
        """Queue a message. ``descriptor`` is owned by the channel from now on, and closed when it is sent. False:
        closed, or no room. No checkpoint."""
        data = encode(message)
        if self.closed or self._queued + len(data) > QUEUE_BYTES_MAX:
            self.dropped += not self.closed
            if descriptor is not None:
                os.close(descriptor)
            return False
        frame = _HEADER.pack(len(data), descriptor is not None) + data
        self._queue.append((frame, descriptor))
        self._queued += len(frame)
        self._more.set()
        return True

    async def run(self) -> None:
        """Write what is queued until cancelled, or the other side is gone. If cancelled: the channel is dead."""
        try:
            while True:
                while self._queue:
                    frame, descriptor = self._queue.popleft()
                    self._queued -= len(frame)
                    try:
                        await self._write(frame, descriptor)
                    finally:
                        if descriptor is not None:
                            os.close(descriptor)
                self._more = trio.Event()
                await self._more.wait()
        except (OSError, trio.ClosedResourceError):
            pass  # whoever receives finds out as well
        finally:
            self.closed = True
            self._forget()

    async def _write(self, frame: bytes, descriptor: int | None) -> None:
        rest = memoryview(frame)
        if descriptor is not None:
            rights = (socket.SOL_SOCKET, socket.SCM_RIGHTS, array.array("i", [descriptor]))
            # The descriptor travels with the first byte.
            rest = rest[await self._socket.sendmsg([rest], [rights]) :]
        while rest:
            rest = rest[await self._socket.send(rest) :]

    def _forget(self) -> None:
        for _, descriptor in self._queue:
            if descriptor is not None:
                os.close(descriptor)
        self._queue.clear()
        self._queued = 0

    async def receive(self) -> tuple[Message, int | None]:
        """The next message and its descriptor, which is the caller's to close. Raises :class:`ChannelClosed`.
        If cancelled: no message is lost."""
        await trio.lowlevel.checkpoint()
        while (found := self._take()) is None:
            await self._read()
        return found

    def _take(self) -> tuple[Message, int | None] | None:
        if len(self._buffer) < _HEADER.size:
            return None
        length, with_descriptor = _HEADER.unpack_from(self._buffer)
        if length > FRAME_BYTES_MAX:
            raise ChannelClosed
        end = _HEADER.size + length
        if len(self._buffer) < end:
            return None
        data = bytes(self._buffer[_HEADER.size : end])
        del self._buffer[:end]
        if with_descriptor and not self._descriptors:
            raise ChannelClosed
        descriptor = self._descriptors.popleft() if with_descriptor else None
        try:
            return decode(data), descriptor
        except msgspec.MsgspecError:
            if descriptor is not None:
                os.close(descriptor)
            raise ChannelClosed from None

    async def _read(self) -> None:
        try:
            data, ancillary, flags, _ = await self._socket.recvmsg(_READ_BYTES, _ANCILLARY, _CLOEXEC)
        except (OSError, trio.ClosedResourceError):
            raise ChannelClosed from None
        for level, kind, content in ancillary:
            if level == socket.SOL_SOCKET and kind == socket.SCM_RIGHTS:
                numbers = array.array("i")
                numbers.frombytes(content[: len(content) - len(content) % numbers.itemsize])
                self._descriptors.extend(numbers)
        if not data or flags & socket.MSG_CTRUNC:
            raise ChannelClosed
        self._buffer += data

    def close(self) -> None:
        """Idempotent. No checkpoint."""
        self.closed = True
        self._forget()
        while self._descriptors:
            os.close(self._descriptors.popleft())
        self._socket.close()
