"""A network that can be slow: a relay of bytes between callrt and one of its peers."""

from __future__ import annotations

import errno
import math
import socket
import struct
import time
from collections.abc import Sequence

import attrs
import trio

from callrt.testing.chaos.scenario import Squeeze

READ_BYTES = 16_384
WINDOW_BYTES = 8_192
"""Of the relay's sockets: what a network holds on its way is little, or nothing would ever be slow."""


@attrs.define(eq=False)
class Relay:
    """From a port of its own to ``target`` on this machine. ``squeezes`` are those of one peer of one call."""

    target: int
    squeezes: Sequence[Squeeze]
    number: int = 0
    """Of the call whose network this is."""
    sockets: int = 0
    """How many there have been."""
    squeezed: list[tuple[float, Squeeze]] = attrs.field(factory=list)
    """(``perf_counter``, which) of each time that one began to matter."""

    async def listen(self, *, task_status: trio.TaskStatus[int]) -> None:
        """Until cancelled; ``task_status`` gets the port."""
        listener = trio.socket.socket()
        listener.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, WINDOW_BYTES)
        await listener.bind(("127.0.0.1", 0))
        listener.listen(64)
        async with trio.open_nursery() as nursery:
            nursery.start_soon(trio.serve_listeners, self._serve, [trio.SocketListener(listener)])
            task_status.started(listener.getsockname()[1])

    async def _serve(self, near: trio.SocketStream) -> None:
        self.sockets += 1
        mine = [each for each in self.squeezes if each.connection in (0, self.sockets)]
        shut = next((each for each in mine if each.shut), None)
        if shut is not None:
            self.squeezed.append((time.perf_counter(), shut))
            near.socket.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
            await near.aclose()
            return
        raw = trio.socket.socket()
        raw.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, WINDOW_BYTES)
        try:
            await raw.connect(("127.0.0.1", self.target))
        except OSError:
            await near.aclose()  # nobody is there: that is the peer's to find out
            return
        far = trio.SocketStream(raw)
        near.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        async with near, far:
            began = trio.current_time()
            async with trio.open_nursery() as nursery:
                nursery.start_soon(self._pour, near, far, "up", mine, began)
                await self._pour(far, near, "down", mine, began)
                nursery.cancel_scope.cancel()

    def _applies(self, squeeze: Squeeze, way: str) -> bool:
        # The carrier connects to callrt, callrt connects to the model.
        up = "in" if squeeze.peer == "carrier" else "out"
        return (squeeze.way == up) == (way == "up")

    async def _pour(
        self,
        source: trio.abc.ReceiveStream,
        sink: trio.abc.HalfCloseableStream,
        way: str,
        squeezes: Sequence[Squeeze],
        began: float,
    ) -> None:
        mine = [each for each in squeezes if self._applies(each, way)]
        told: set[int] = set()
        data = b""
        while data or (data := await _read(source)):
            now = trio.current_time()
            active = [n for n, each in enumerate(mine) if 0 <= now - began - each.at < each.seconds]
            if not active:
                if not await _write(sink, data):
                    break
                data = b""
                continue
            squeeze = mine[active[0]]
            if active[0] not in told:
                told.add(active[0])
                self.squeezed.append((time.perf_counter(), squeeze))
            left = began + squeeze.at + squeeze.seconds - now
            if squeeze.bytes_per_second <= 0:
                await trio.sleep(left)
                continue
            size = squeeze.piece or max(1, math.ceil(squeeze.bytes_per_second / 50))
            if not await _write(sink, data[:size]):
                break
            await trio.sleep(min(left, size / squeeze.bytes_per_second))
            data = data[size:]
        await _shut(sink)


async def _read(stream: trio.abc.ReceiveStream) -> bytes:
    """Empty when there is no more."""
    try:
        return bytes(await stream.receive_some(READ_BYTES))
    except (trio.BrokenResourceError, trio.ClosedResourceError):
        return b""


async def _write(stream: trio.abc.SendStream, data: bytes) -> bool:
    try:
        await stream.send_all(data)
    except (trio.BrokenResourceError, trio.ClosedResourceError):
        return False
    return True


async def _shut(stream: trio.abc.HalfCloseableStream) -> None:
    try:
        await stream.send_eof()
    except (trio.BrokenResourceError, trio.ClosedResourceError):
        pass  # it has gone by itself
    except OSError as error:
        if error.errno != errno.ENOTCONN:
            raise
