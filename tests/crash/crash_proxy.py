"""A proxy as one stands before several processes: it gives each new connection to the next one that is ready."""

from __future__ import annotations

import contextlib
import itertools
from collections.abc import Sequence

import attrs
import trio

CHECK_SECONDS = 0.5
"""Between two looks at ``/readyz``: as impatient as proxies get."""
ASK = b"GET /readyz HTTP/1.1\r\nHost: proxy\r\nConnection: close\r\n\r\n"


@attrs.define(eq=False)
class Proxy:
    port: int
    backends: Sequence[int]
    ready: list[int] = attrs.field(factory=list)
    refused: int = 0
    """Connections for which nobody was found."""
    _turn: itertools.count[int] = attrs.field(factory=itertools.count)

    async def run(self, *, task_status: trio.TaskStatus[None]) -> None:
        async with trio.open_nursery() as nursery:
            nursery.start_soon(self._check)
            listeners = await trio.open_tcp_listeners(self.port, host="127.0.0.1")
            task_status.started()
            await trio.serve_listeners(self._forward, listeners)

    async def _check(self) -> None:
        while True:
            self.ready = [port for port in self.backends if await self._is_ready(port)]
            await trio.sleep(CHECK_SECONDS)

    async def _is_ready(self, port: int) -> bool:
        with trio.move_on_after(1.0), contextlib.suppress(OSError, trio.BrokenResourceError):
            async with await trio.open_tcp_stream("127.0.0.1", port) as stream:
                await stream.send_all(ASK)
                return (await stream.receive_some(4096)).startswith(b"HTTP/1.1 200")
        return False

    async def _forward(self, client: trio.SocketStream) -> None:
        for _ in range(len(self.backends)):
            ready = list(self.ready)
            if not ready:
                break
            try:
                server = await trio.open_tcp_stream("127.0.0.1", ready[next(self._turn) % len(ready)])
            except OSError:
                continue  # gone since we looked: the next one
            async with server, trio.open_nursery() as nursery:
                nursery.start_soon(self._copy, client, server)
                nursery.start_soon(self._copy, server, client)
            return
        self.refused += 1
        await client.aclose()

    async def _copy(self, source: trio.SocketStream, target: trio.SocketStream) -> None:
        try:
            async for data in source:
                await target.send_all(data)
            await target.send_eof()
        except (trio.BrokenResourceError, trio.ClosedResourceError):
            await trio.aclose_forcefully(source)  # a reset is passed on
            await trio.aclose_forcefully(target)
