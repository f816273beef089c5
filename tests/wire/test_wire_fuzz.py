"""Whatever bytes a peer sends, at any moment: an event, an end, and nothing left behind."""

from __future__ import annotations

from functools import partial

import pytest
import trio
import trio.testing
from hypothesis import given, settings
from hypothesis import strategies as st
from wire_helpers import RawPeer, accept_all, frame_bytes, living_tasks, raw_pair, stream_pair

from callrt.wire.limits import SocketLimits
from callrt.wire.transport import TransportClosed
from callrt.wire.websocket import ConnectFailed, OpenTransport, UpgradeRefused, accept, connect_over

LIMITS = SocketLimits(message_bytes=300)


def in_virtual_time(function, *args) -> None:
    trio.run(function, *args, clock=trio.testing.MockClock(autojump_threshold=0))


frames = st.builds(
    partial(frame_bytes),
    st.integers(0, 15),
    st.binary(max_size=400) | st.text(max_size=100).map(str.encode),
    final=st.booleans(),
)
chunks = st.lists(frames | st.binary(max_size=20), max_size=8)


async def hear_out(transport: OpenTransport) -> TransportClosed:
    while True:
        try:
            message = await transport.receive()
        except TransportClosed as end:
            return end
        assert len(message) <= LIMITS.message_bytes


async def converse(said: list[bytes], ours: list[str]) -> None:
    before = living_tasks()
    async with raw_pair(LIMITS) as (client, peer):
        for text in ours:
            client.send_nowait(text)
        for chunk in said:
            await peer.say(chunk)
        await peer.end()
        with trio.fail_after(60):
            end = await hear_out(client)
        assert end.code is None or 1000 <= end.code < 5000
        assert not client.send_nowait("more")
        await client.aclose()
    await trio.testing.wait_all_tasks_blocked()  # the hub ends a moment after its last socket
    assert living_tasks() == before


@given(chunks, st.lists(st.sampled_from(["close", "ping", "text"]), max_size=3))
def test_no_frames_make_a_client_hang_or_raise_anything_else(said, ours):
    in_virtual_time(converse, said, ours)


async def hear_and_close(said: list[bytes]) -> None:
    """Bytes that arrive while we are closing meet a library that is half shut."""
    async with raw_pair(LIMITS) as (client, peer):
        async with trio.open_nursery() as nursery:
            nursery.start_soon(client.aclose)
            await trio.testing.wait_all_tasks_blocked()
            for chunk in said:
                if not await peer.say(chunk):
                    break
        with pytest.raises(TransportClosed) as caught:
            await client.receive()
        assert not caught.value.by_peer


@given(chunks)
def test_no_frames_disturb_a_close(said):
    in_virtual_time(hear_and_close, said)


async def be_answered(answer: bytes) -> None:
    left, right = stream_pair()
    peer = RawPeer(right)

    async def serve() -> None:
        await peer.until(b"\r\n\r\n")
        await peer.say(answer)
        await peer.end()

    before = living_tasks()
    async with trio.open_nursery() as nursery:
        nursery.start_soon(serve)
        try:
            await connect_over(nursery, left, "there", limits=LIMITS)
        except (ConnectFailed, UpgradeRefused):
            pass
        else:
            raise AssertionError("nobody can guess the accept key")
    assert living_tasks() == before


heads = st.lists(
    st.sampled_from(
        [
            b"HTTP/1.1 101 Switching Protocols\r\n",
            b"HTTP/1.1 500 Oh\r\n",
            b"HTTP/1.0 302 Found\r\n",
            b"HTTP/1.1 100 Continue\r\n\r\n",
            b"Upgrade: websocket\r\n",
            b"Connection: Upgrade\r\n",
            b"Sec-WebSocket-Accept: x\r\n",
            b"Sec-WebSocket-Protocol: a\r\n",
            b"Sec-WebSocket-Extensions: permessage-deflate\r\n",
            b"Content-Length: 3\r\n",
            b"Transfer-Encoding: chunked\r\n",
            b"Retry-After: 1e9\r\n",
            b": \r\n",
            b"\r\n",
            b"GET /media HTTP/1.1\r\n",
            b"POST / HTTP/1.1\r\n",
            b"Host: h\r\n",
            b"Sec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\n",
            b"Sec-WebSocket-Version: 13\r\n",
            b"Sec-WebSocket-Version: 12\r\n",
            b"Expect: 100-continue\r\n",
        ]
    )
    | st.binary(max_size=12),
    max_size=9,
).map(b"".join)


@given(heads)
@settings(max_examples=200)
def test_no_answer_to_an_upgrade_raises_anything_else(answer):
    in_virtual_time(be_answered, answer)


async def be_asked(request: bytes) -> None:
    left, right = stream_pair()
    before = living_tasks()
    async with trio.open_nursery() as nursery:
        await RawPeer(left).say(request)
        await RawPeer(left).end()
        transport = await accept(nursery, right, accept_all, limits=LIMITS)
        if transport is not None:
            await transport.aclose()
    assert living_tasks() == before


@given(heads)
@settings(max_examples=200)
def test_no_request_raises_anything(request_bytes):
    in_virtual_time(be_asked, request_bytes)
