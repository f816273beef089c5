"""A socket on a stream of its own needs no nursery: the hub reads, writes and keeps the time for all of them."""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

import attrs
import pytest
import trio
from wire_helpers import accept_all, living_tasks

from callrt.wire.limits import CLIENT_LIMITS, SERVER_LIMITS, SocketLimits
from callrt.wire.transport import TransportClosed
from callrt.wire.websocket import OpenTransport, accept, open_client, stands_alone

SERVER = attrs.evolve(SERVER_LIMITS, direct=True)
CLIENT = attrs.evolve(CLIENT_LIMITS, direct=True)


@asynccontextmanager
async def alone(
    limits: SocketLimits = SERVER,
) -> AsyncIterator[tuple[OpenTransport, OpenTransport]]:
    """(client, server), both without a nursery, and a listener that has gone."""
    (listener,) = await trio.open_tcp_listeners(0, host="127.0.0.1")
    port = listener.socket.getsockname()[1]
    served: list[OpenTransport | None] = []

    async def serve() -> None:
        async with listener:
            stream = await listener.accept()
        assert stands_alone(stream, limits)
        served.append(await accept(None, stream, accept_all, limits=limits))

    async with trio.open_nursery() as opening:
        opening.start_soon(serve)
        hardly_reads = attrs.evolve(CLIENT, inbox_messages=1, message_bytes=2_000_000)
        client = open_client(f"ws://127.0.0.1:{port}/", limits=hardly_reads)
        transport = await client.__aenter__()
    (server,) = served
    assert server is not None
    try:
        yield transport, server
    finally:
        await client.__aexit__(None, None, None)
        server.abort()


async def test_open_sockets_have_no_task_but_the_hubs_own() -> None:
    async with alone() as (client, server):
        hub = living_tasks()
        async with alone() as (other, _):
            assert living_tasks() == hub
            for transport in (client, other):
                assert transport.send_nowait("there")
            assert await server.receive() == "there"


async def test_hub_gives_up_a_peer_that_does_not_read() -> None:
    limits = attrs.evolve(SERVER, send_timeout=0.3, backlog_bytes=1_000_000_000)
    async with alone(limits) as (_, server):
        with trio.fail_after(30):
            for _ in range(50):
                assert server.send_nowait(b"x" * 1_000_000)
            with pytest.raises(TransportClosed) as ended:
                await server.receive()
        assert ended.value.reason == "peer does not read"


async def test_opening_that_is_cancelled_leaves_nothing_open() -> None:
    (listener,) = await trio.open_tcp_listeners(0, host="127.0.0.1")
    port = listener.socket.getsockname()[1]
    before = living_tasks()
    async with listener, trio.open_nursery() as nursery:
        nursery.start_soon(open_client(f"ws://127.0.0.1:{port}/", limits=CLIENT).__aenter__)
        stream = await listener.accept()
        assert (await stream.receive_some(10)).startswith(b"GET")
        nursery.cancel_scope.cancel()
    with trio.fail_after(5):
        while await stream.receive_some(1_000):
            pass  # the rest of its request, and then the end
    await stream.aclose()
    await trio.testing.wait_all_tasks_blocked()
    assert living_tasks() <= before
