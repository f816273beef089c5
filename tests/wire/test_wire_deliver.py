"""Delivery: messages handed over as they are read. The same law for transports that can and that cannot."""

from __future__ import annotations

import pytest
import trio
import trio.testing
from wire_helpers import CLOSE, TEXT, raw_pair, socket_pair

from callrt.wire.limits import SocketLimits
from callrt.wire.transport import TransportClosed, deliver


async def test_every_message_comes_once_and_in_order_until_the_sink_has_enough(autojump_clock):
    async with socket_pair() as (client, server):
        got: list[str | bytes] = []

        def sink(message: str | bytes) -> bool:
            got.append(message)
            return message != "enough"

        said = [f"{n}" for n in range(200)]
        async with trio.open_nursery() as nursery:
            nursery.start_soon(deliver, server, sink)
            for message in [*said, "enough"]:
                assert client.send_nowait(message)
        assert got == [*said, "enough"]
        client.send_nowait("for another")
        assert await server.receive() == "for another"


async def test_what_waits_is_delivered_first(autojump_clock):
    async with socket_pair(server_limits=SocketLimits(inbox_messages=3)) as (client, server):
        for n in range(50):
            client.send_nowait(str(n))
        await trio.testing.wait_all_tasks_blocked()
        assert await server.receive() == "0"
        got: list[str | bytes] = []

        def sink(message: str | bytes) -> bool:
            got.append(message)
            return len(got) < 49

        await deliver(server, sink)
        assert got == [str(n) for n in range(1, 50)]
        assert server.statistics().received_messages == 50


async def test_an_error_of_the_sink_is_raised_where_delivery_was_asked_for(autojump_clock):
    async with socket_pair() as (client, server):

        def sink(message: str | bytes) -> bool:
            raise KeyError(message)

        for wait in (False, True):
            client.send_nowait("a")
            client.send_nowait("b")
            if wait:
                await trio.testing.wait_all_tasks_blocked()
            with pytest.raises(KeyError, match="a"):
                await deliver(server, sink)
            assert await server.receive() == "b"


async def test_a_cancelled_delivery_loses_nothing(autojump_clock):
    async with socket_pair() as (client, server):
        got: list[str | bytes] = []

        def sink(message: str | bytes) -> bool:
            got.append(message)
            return True

        for n in range(20):
            client.send_nowait(f"{n}a")
            with trio.move_on_after(0.01 if n % 2 else 0):
                await deliver(server, sink)
            client.send_nowait(f"{n}b")
            await trio.testing.wait_all_tasks_blocked()
        with trio.move_on_after(1):
            await deliver(server, sink)
        assert got == [f"{n}{x}" for n in range(20) for x in "ab"]


async def test_the_end_comes_after_all_that_was_said(autojump_clock):
    async with raw_pair() as (client, peer):
        got: list[str | bytes] = []

        def sink(message: str | bytes) -> bool:
            got.append(message)
            return True

        async def speak() -> None:
            for n in range(100):
                await peer.frame(TEXT, str(n).encode())
            await peer.frame(CLOSE, (4001).to_bytes(2, "big") + b"done")

        async with trio.open_nursery() as nursery:
            nursery.start_soon(speak)
            with pytest.raises(TransportClosed) as caught:
                await deliver(client, sink)
        assert (caught.value.code, caught.value.by_peer, len(got)) == (4001, True, 100)
        with pytest.raises(TransportClosed):
            await deliver(client, sink)


async def test_a_sink_may_answer_and_may_drop_the_socket(autojump_clock):
    async with socket_pair() as (client, server):

        def sink(message: str | bytes) -> bool:
            assert server.send_nowait(b"answer")
            if message == "drop":
                server.abort()
            return True

        async def talk() -> None:
            client.send_nowait("hello")
            assert await client.receive() == b"answer"
            client.send_nowait("drop")
            client.send_nowait("not heard")

        async with trio.open_nursery() as nursery:
            nursery.start_soon(talk)
            with pytest.raises(TransportClosed) as caught:
                await deliver(server, sink)
        assert not caught.value.by_peer
