"""Against another implementation: the ``websockets`` package, both ways, over TCP; and TLS against Trio's own."""

from __future__ import annotations

import asyncio
import ssl
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest
import trio
import trio.lowlevel
from websockets.asyncio.client import connect as connect_other
from websockets.asyncio.server import serve as serve_other
from websockets.exceptions import ConnectionClosed
from wire_helpers import accept_all

from callrt.wire.direct import DirectTransport
from callrt.wire.limits import CLIENT_LIMITS, SocketLimits
from callrt.wire.transport import TransportClosed
from callrt.wire.websocket import ConnectFailed, accept, connect, open_client

PEM = Path(__file__).parent / "localhost.pem"
DIRECT = SocketLimits(direct=True, message_bytes=4_000_000, backlog_bytes=4_000_000)
SAID = ["a", "ü☎", b"\x00\xff", "x" * 125, "x" * 126, "x" * 65_535, b"y" * 65_536, "z" * 1_000_000, "", b""]


@contextmanager
def other_server() -> Iterator[int]:
    """An echo server of theirs, in a thread with an asyncio of its own; it answers in fragments."""
    ports: list[int] = []
    ready = threading.Event()
    stop: list[tuple[asyncio.AbstractEventLoop, asyncio.Event]] = []

    async def echo(connection) -> None:
        async for message in connection:
            half = len(message) // 2
            await connection.send([message[:half], message[half:]] if half else message)
            await connection.ping()
        assert connection.close_code == 4321

    async def main() -> None:
        async with serve_other(echo, "127.0.0.1", 0, compression=None, max_size=None) as server:
            ports.append(server.sockets[0].getsockname()[1])
            stop.append((asyncio.get_running_loop(), asyncio.Event()))
            ready.set()
            await stop[0][1].wait()

    thread = threading.Thread(target=asyncio.run, args=(main(),))
    thread.start()
    ready.wait(10)
    try:
        yield ports[0]
    finally:
        loop, event = stop[0]
        loop.call_soon_threadsafe(event.set)
        thread.join(10)


async def test_their_server_echoes_our_client():
    with other_server() as port, trio.fail_after(20):
        async with trio.open_nursery() as nursery:
            client = await connect(nursery, f"ws://127.0.0.1:{port}/", limits=DIRECT)
            assert isinstance(client, DirectTransport)
            for message in SAID:
                assert client.send_nowait(message)
                assert await client.receive() == message
            await client.ping()
            await client.aclose(4321, "thank you")


async def test_our_server_echoes_their_client():
    ends: list[TransportClosed] = []

    async def serve(stream: trio.SocketStream) -> None:
        async with trio.open_nursery() as nursery:
            transport = await accept(nursery, stream, accept_all, limits=DIRECT)
            assert isinstance(transport, DirectTransport)
            try:
                while True:
                    assert transport.send_nowait(await transport.receive())
            except TransportClosed as end:
                ends.append(end)

    async def their_client(port: int) -> int | None:
        async with connect_other(f"ws://127.0.0.1:{port}/", compression=None, max_size=None) as client:
            for message in SAID:
                half = len(message) // 2
                await client.send([message[:half], message[half:]] if half else message)
                assert await client.recv() == message
            await (await client.ping())
            await client.close(4000, "bye")
            with pytest.raises(ConnectionClosed):
                await client.recv()
            return client.close_code

    async with trio.open_nursery() as nursery:
        listeners = await nursery.start(trio.serve_tcp, serve, 0)
        port = listeners[0].socket.getsockname()[1]
        with trio.fail_after(20):
            assert await trio.to_thread.run_sync(lambda: asyncio.run(their_client(port))) == 4000
            while not ends:
                await trio.lowlevel.checkpoint()
        assert (ends[0].code, ends[0].reason, ends[0].by_peer) == (4000, "bye", True)
        nursery.cancel_scope.cancel()


# -- TLS -----------------------------------------------------------------------------------------------


def contexts() -> tuple[ssl.SSLContext, ssl.SSLContext]:
    server = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    server.load_cert_chain(PEM)
    return server, ssl.create_default_context(cafile=str(PEM))


async def serve_tls(
    nursery: trio.Nursery, ends: list[TransportClosed], *, cut_after: int | None = None
) -> int:
    """The port of an echo server over Trio's TLS; it may drop the connection after so many messages."""
    context, _ = contexts()

    async def serve(stream: trio.SSLStream[trio.SocketStream]) -> None:
        async with trio.open_nursery() as inner:
            try:
                transport = await accept(inner, stream, accept_all, limits=DIRECT)
            except trio.BrokenResourceError:
                return
            if transport is None:
                return
            count = 0
            try:
                while count != cut_after:
                    assert transport.send_nowait(await transport.receive())
                    count += 1
                await trio.testing.wait_all_tasks_blocked(0.05)
                transport.abort()
            except TransportClosed as end:
                ends.append(end)

    listeners = await nursery.start(trio.serve_ssl_over_tcp, serve, 0, context)
    return int(listeners[0].transport_listener.socket.getsockname()[1])


async def test_tls_carries_messages_pings_and_ends():
    _, client_context = contexts()
    ends: list[TransportClosed] = []
    async with trio.open_nursery() as nursery:
        port = await serve_tls(nursery, ends)
        with trio.fail_after(20):
            url = f"wss://localhost:{port}/x"
            async with open_client(url, ssl_context=client_context, limits=DIRECT) as client:
                assert isinstance(client, DirectTransport)
                for message in SAID:
                    assert client.send_nowait(message)
                    assert await client.receive() == message
                await client.ping()
            while not ends:
                await trio.lowlevel.checkpoint()
        assert (ends[0].code, ends[0].by_peer) == (1000, True)
        nursery.cancel_scope.cancel()


async def test_tls_that_is_cut_is_an_end_without_a_code():
    _, client_context = contexts()
    async with trio.open_nursery() as nursery:
        port = await serve_tls(nursery, [], cut_after=1)
        with trio.fail_after(20):
            client = await connect(
                nursery, f"wss://localhost:{port}/", ssl_context=client_context, limits=DIRECT
            )
            client.send_nowait("a")
            assert await client.receive() == "a"
            with pytest.raises(TransportClosed) as caught:
                await client.receive()
        assert (caught.value.code, caught.value.by_peer) == (None, True)
        nursery.cancel_scope.cancel()


async def test_a_certificate_that_nobody_vouches_for_is_a_failed_connection():
    async with trio.open_nursery() as nursery:
        port = await serve_tls(nursery, [])
        with pytest.raises(ConnectFailed) as caught, trio.fail_after(20):
            await connect(nursery, f"wss://localhost:{port}/", limits=CLIENT_LIMITS)
        assert caught.value.reason == "tls"
        nursery.cancel_scope.cancel()
