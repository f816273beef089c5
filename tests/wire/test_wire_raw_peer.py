"""A peer that does what peers should not: every end of a socket comes out as TransportClosed, and nothing hangs."""

from __future__ import annotations

import struct

import pytest
import trio
import trio.testing
from wire_helpers import (
    BINARY,
    CLOSE,
    CONTINUED,
    PING,
    PONG,
    TEXT,
    RawPeer,
    frame_bytes,
    living_tasks,
    raw_pair,
    stream_pair,
)

from callrt.wire.limits import SocketLimits
from callrt.wire.transport import TransportClosed
from callrt.wire.websocket import connect_over


async def end_of(transport) -> tuple[int | None, bool]:
    with pytest.raises(TransportClosed) as caught, trio.fail_after(100):
        await transport.receive()
    return caught.value.code, caught.value.by_peer


async def test_fragments_are_one_message_also_with_a_ping_in_between(autojump_clock):
    async with raw_pair() as (client, peer):
        await peer.frame(TEXT, "grü".encode()[:3], final=False)
        await peer.frame(PING, b"?")
        await peer.frame(CONTINUED, "grü".encode()[3:], final=False)
        await peer.frame(CONTINUED, b"n", final=True)
        await peer.frame(BINARY, b"\x00", final=False)
        await peer.frame(CONTINUED, b"\x01")
        assert await client.receive() == "grün"
        assert await client.receive() == b"\x00\x01"


async def test_a_message_split_into_single_bytes_arrives_whole(autojump_clock):
    async with raw_pair() as (client, peer):

        async def drip() -> None:
            for byte in frame_bytes(TEXT, b"x" * 200):
                await peer.stream.send_all(bytes([byte]))

        async with trio.open_nursery() as nursery:
            nursery.start_soon(drip)
            assert await client.receive() == "x" * 200


async def test_a_lost_connection_is_an_end_without_a_code(autojump_clock):
    async with raw_pair() as (client, peer):
        await trio.aclose_forcefully(peer.stream)
        assert await end_of(client) == (None, True)
        assert not client.send_nowait("x")


async def test_half_a_frame_and_the_end_is_an_end_without_a_code(autojump_clock):
    async with raw_pair() as (client, peer):
        await peer.stream.send_all(frame_bytes(TEXT, b"hello")[:4])
        await peer.stream.aclose()
        assert await end_of(client) == (None, True)


@pytest.mark.parametrize(
    ("payload", "code"),
    [
        (b"", 1005),
        (struct.pack("!H", 1001) + b"Your session hit the maximum", 1001),
        (struct.pack("!H", 4000), 4000),
    ],
)
async def test_the_peers_close_is_told_with_its_code(autojump_clock, payload, code):
    async with raw_pair() as (client, peer):
        await peer.frame(TEXT, b"last")
        await peer.frame(CLOSE, payload)
        assert await client.receive() == "last"
        assert await end_of(client) == (code, True)


async def test_a_write_that_fails_leaves_the_last_words_readable(autojump_clock):
    """A peer that says why and goes, while we are talking: the reason must not be lost to a broken pipe."""
    async with raw_pair() as (client, peer):
        await peer.frame(TEXT, b"error")
        await peer.frame(CLOSE, struct.pack("!H", 3000) + b"invalid_api_key")
        peer.stop_reading()
        for _ in range(5):
            client.send_nowait("x" * 1000)
        await trio.testing.wait_all_tasks_blocked()
        assert await client.receive() == "error"
        with pytest.raises(TransportClosed) as caught:
            await client.receive()
        assert (caught.value.code, caught.value.reason) == (3000, "invalid_api_key")


@pytest.mark.parametrize(
    ("garbage", "code"),
    [
        (frame_bytes(TEXT, b"\xff\xfe"), 1007),
        (frame_bytes(TEXT, b"\xed\xa0\x80"), 1007),
        (b"\xf3\x00", 1002),
        (frame_bytes(0x3, b"?"), 1002),
        (frame_bytes(CONTINUED, b"?"), 1002),
        (frame_bytes(PING, b"x" * 126), 1002),
        (frame_bytes(PING, b"x", final=False), 1002),
        (frame_bytes(CLOSE, b"\x03"), 1002),
        (frame_bytes(CLOSE, struct.pack("!H", 999)), 1002),
        (b"GET / HTTP/1.1\r\n\r\n", 1002),
    ],
)
async def test_garbage_ends_this_socket_and_nothing_else(autojump_clock, garbage, code):
    async with raw_pair() as (client, peer):
        await peer.stream.send_all(garbage)
        ended, _ = await end_of(client)
        assert ended == code


@pytest.mark.parametrize("late", [PING, PONG, TEXT])
async def test_a_peer_that_goes_on_talking_after_our_close_harms_nobody(autojump_clock, late):
    async with raw_pair() as (client, peer):
        async with trio.open_nursery() as nursery:
            nursery.start_soon(client.aclose)
            await trio.testing.wait_all_tasks_blocked()
            await peer.frame(late, b"still here")
            await peer.frame(late, b"still here")
            await peer.frame(CLOSE, struct.pack("!H", 1000))
        assert await end_of(client) == (1000, False)


async def test_oversize_in_fragments_is_noticed_before_it_is_whole(autojump_clock):
    async with raw_pair(SocketLimits(message_bytes=1000)) as (client, peer):
        await peer.frame(TEXT, b"x" * 600, final=False)
        await peer.frame(CONTINUED, b"x" * 600, final=False)
        await peer.frame(CONTINUED, b"x" * 2000, final=False)
        await peer.frame(PING, b"?")
        assert await end_of(client) == (1009, False)


# -- patience ------------------------------------------------------------------------------------------


async def test_a_peer_that_never_answers_the_close_costs_the_close_timeout(autojump_clock):
    async with raw_pair() as (client, _peer):
        client.send_nowait("flushed")
        began = trio.current_time()
        await client.aclose()
        assert trio.current_time() - began == pytest.approx(SocketLimits().close_timeout)


async def test_a_peer_that_does_not_read_costs_the_send_timeout(autojump_clock, transport_kind):
    """Half-open: nothing comes, nothing goes."""

    async with raw_pair(SocketLimits(send_timeout=7)) as (client, peer):

        async def hang() -> None:
            await trio.sleep_forever()

        if transport_kind == "reference":
            peer.other_end.send_stream.send_all_hook = hang
        began = trio.current_time()
        client.send_nowait("x" * 900_000)
        assert await end_of(client) == (None, False)
        assert trio.current_time() - began == pytest.approx(7)
        assert client.statistics().sent_messages == 0


async def test_pings_that_nobody_answers_are_few(autojump_clock):
    async with raw_pair() as (client, _peer):
        before = living_tasks()
        for _ in range(50):
            with trio.move_on_after(1):
                await client.ping()
        assert living_tasks() <= before + 4
        client.abort()
        with pytest.raises(TransportClosed):
            await client.ping()


async def test_a_flood_that_nobody_reads_is_stopped_at_its_source(autojump_clock, transport_kind):
    left, right = trio.testing.lockstep_stream_pair() if transport_kind == "reference" else stream_pair()
    peer = RawPeer(right)
    limits = SocketLimits(inbox_messages=5)
    sent = 0

    async def flood() -> None:
        nonlocal sent
        await peer.upgrade()
        while True:
            await peer.frame(TEXT, b"x")
            sent += 1

    async with trio.open_nursery() as nursery:
        nursery.start_soon(flood)
        client = await connect_over(nursery, left, "there", limits=limits)
        await trio.testing.wait_all_tasks_blocked()
        # Between the two ends of real sockets there is the kernel.
        between = 2 if transport_kind == "reference" else sent
        assert sent <= 5 + between
        assert client.statistics().received_messages == 0
        for _ in range(100):
            assert await client.receive() == "x"
        await trio.testing.wait_all_tasks_blocked()
        assert sent <= 105 + 2 * between
        nursery.cancel_scope.cancel()
