"""The relay slows what it is told to, in the direction and for the time it is told, and loses no byte."""

from __future__ import annotations

import time
from typing import Any

import pytest
import trio
import trio.testing

from callrt.testing.chaos.relay import Relay
from callrt.testing.chaos.scenario import Squeeze


async def poured(relay: Relay, way: str, data: bytes) -> tuple[bytes, float]:
    """What came out at the other end, and after how many seconds."""
    near, source = trio.testing.memory_stream_pair()
    sink, far = trio.testing.memory_stream_pair()
    began = trio.current_time()
    async with trio.open_nursery() as nursery:
        nursery.start_soon(relay._pour, source, sink, way, relay.squeezes, began)
        await near.send_all(data)
        await near.send_eof()
        got = bytearray()
        async for part in far:
            got += part
    return bytes(got), trio.current_time() - began


DATA = bytes(range(256)) * 20


async def test_relay_without_a_squeeze_takes_no_time(autojump_clock: trio.testing.MockClock) -> None:
    assert await poured(Relay(1, ()), "up", DATA) == (DATA, 0.0)


async def test_relay_lets_only_so_many_bytes_a_second_through(autojump_clock: trio.testing.MockClock) -> None:
    squeeze = Squeeze("carrier", "in", 0.0, 60.0, bytes_per_second=1024.0, piece=64)
    got, seconds = await poured(Relay(1, (squeeze,)), "up", DATA)
    assert got == DATA
    assert seconds == pytest.approx(len(DATA) / 1024)


async def test_relay_stands_still_and_then_gives_everything(autojump_clock: trio.testing.MockClock) -> None:
    got, seconds = await poured(Relay(1, (Squeeze("carrier", "in", 0.0, 3.0),)), "up", DATA)
    assert (got, seconds) == (DATA, 3.0)


@pytest.mark.parametrize(
    ("peer", "way", "slow"),
    [("carrier", "in", "up"), ("carrier", "out", "down"), ("model", "in", "down"), ("model", "out", "up")],
)
async def test_relay_slows_one_direction(
    autojump_clock: trio.testing.MockClock, peer: Any, way: Any, slow: str
) -> None:
    relay = Relay(1, (Squeeze(peer, way, 0.0, 3.0),))
    for direction in ("up", "down"):
        _, seconds = await poured(relay, direction, DATA)
        assert seconds == (3.0 if direction == slow else 0.0)


async def test_relay_tells_when_it_began_to_matter() -> None:
    relay = Relay(1, (Squeeze("carrier", "in", 0.0, 0.01),))
    before = time.perf_counter()
    await poured(relay, "up", DATA)
    ((at, squeeze),) = relay.squeezed
    assert squeeze is relay.squeezes[0]
    assert before <= at <= time.perf_counter()


async def test_relay_that_is_shut_accepts_nobody_and_then_the_next() -> None:
    with trio.fail_after(10):
        async with trio.open_nursery() as nursery:
            listeners = await nursery.start(trio.serve_tcp, lambda stream: stream.send_all(DATA), 0)
            relay = Relay(listeners[0].socket.getsockname()[1], (Squeeze("model", "in", shut=True),))
            port = await nursery.start(relay.listen)
            first = await trio.open_tcp_stream("127.0.0.1", port)
            with pytest.raises(trio.BrokenResourceError):
                await first.receive_some()
            second = await trio.open_tcp_stream("127.0.0.1", port)
            assert (await second.receive_some())[:256] == DATA[:256]
            assert len(relay.squeezed) == 1
            nursery.cancel_scope.cancel()


async def test_relay_over_sockets_ends_when_either_end_does() -> None:
    async def echo(stream: trio.SocketStream) -> None:
        async for data in stream:
            await stream.send_all(data)

    with trio.fail_after(10):
        async with trio.open_nursery() as nursery:
            listeners = await nursery.start(trio.serve_tcp, echo, 0)
            relay = Relay(listeners[0].socket.getsockname()[1], ())
            port = await nursery.start(relay.listen)
            client = await trio.open_tcp_stream("127.0.0.1", port)
            await client.send_all(DATA)
            got = b""
            while len(got) < len(DATA):
                got += await client.receive_some()
            assert got == DATA
            await client.send_eof()
            assert await client.receive_some() == b""
            assert relay.sockets == 1
            nursery.cancel_scope.cancel()
