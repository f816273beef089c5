"""The short ways of what comes fifty times a second mean what the long ones mean."""

from __future__ import annotations

import pytest
import trio
import trio.testing
from hypothesis import given
from hypothesis import strategies as st
from wire_helpers import message_of, raw_pair, socket_pair

from callrt.wire import direct_hub
from callrt.wire.direct_frames import (
    BINARY,
    PING,
    TEXT,
    FrameReader,
    FrameWriter,
    ProtocolViolation,
    as_text,
)
from callrt.wire.limits import SocketLimits
from callrt.wire.transport import sender

LIMIT = 3_000
_PAYLOADS = st.one_of(
    st.text(min_size=60, max_size=400).map(str.encode),
    st.integers(120, 130).map(lambda size: b"x" * size),
    st.integers(LIMIT - 2, LIMIT + 2).map(lambda size: b"y" * size),
    st.binary(max_size=200),
)


def heard(reader: FrameReader, data: bytes) -> list[str | bytes | tuple[int, bytes] | int]:
    """Everything that these bytes bring, and the code of a violation."""
    got: list[str | bytes | tuple[int, bytes] | int] = []
    reader.feed(data)
    try:
        while (found := reader.next()) is not None:
            got.append(message_of(found))
    except ProtocolViolation as violation:
        got.append(violation.code)
    return got


def heard_shortly(reader: FrameReader, data: bytes) -> list[str | bytes | tuple[int, bytes] | int]:
    payload = reader.whole(data)
    if payload is None:
        return heard(reader, data)
    try:
        return [as_text(payload)]
    except ProtocolViolation as violation:
        return [violation.code]


@given(
    st.booleans(),
    st.lists(st.tuples(st.sampled_from([TEXT, TEXT, TEXT, BINARY, PING]), _PAYLOADS), min_size=1, max_size=4),
    st.lists(st.integers(0, 2_000), max_size=3),
    st.tuples(st.integers(0, 20), st.integers(0, 255)) | st.none(),
)
def test_a_read_means_the_same_by_the_short_way(masked, frames, cuts, flip):
    writer = FrameWriter(masked=masked)
    reads = [writer.frame(opcode, payload) for opcode, payload in frames]
    for cut in cuts:  # some reads bring a piece of a frame, some more than one
        at = cut % len(reads)
        whole = reads.pop(at)
        middle = cut % len(whole)
        reads[at:at] = [piece for piece in (whole[:middle], whole[middle:]) if piece]
    if flip is not None:
        first = bytearray(reads[0])
        first[flip[0] % len(first)] ^= flip[1]
        reads[0] = bytes(first)
    short = FrameReader(masked=masked, message_bytes=LIMIT)
    long = FrameReader(masked=masked, message_bytes=LIMIT)
    for read in reads:
        expected = heard(long, read)
        assert heard_shortly(short, read) == expected
        if expected and isinstance(expected[-1], int):
            return  # of no more use after a violation


def test_a_media_message_in_one_read_goes_the_short_way():
    for masked in (False, True):
        reader = FrameReader(masked=masked, message_bytes=LIMIT)
        text = '{"event":"media"}' * 20
        assert reader.whole(FrameWriter(masked=masked).frame(TEXT, text.encode())) == text.encode()


async def test_messages_sent_together_arrive_each_for_itself_and_in_order(autojump_clock):
    async with socket_pair() as (client, server):
        for transport, other in ((client, server), (server, client)):
            send = sender(transport)
            assert send(["audio" * 300, "mark"])
            assert transport.send_nowait("after")
            assert [await other.receive() for _ in range(3)] == ["audio" * 300, "mark", "after"]
            assert transport.statistics().sent_messages == 3


async def test_messages_that_do_not_fit_together_are_refused(autojump_clock):
    async with raw_pair(SocketLimits(backlog_bytes=1_000)) as (client, _):
        send = sender(client)
        assert not send(["x" * 600, "y" * 600])
        assert not client.send_nowait("z" * 1_001)
        client.abort()
        assert not send(["a", "b"])


async def test_a_rest_ends_in_time_and_with_its_task(autojump_clock):
    began = trio.current_time()
    await direct_hub._rest(0.004)
    assert trio.current_time() - began == pytest.approx(0.004)
    with trio.move_on_after(1) as scope:
        await direct_hub._rest(60)
    assert scope.cancelled_caught
    assert trio.current_time() - began == pytest.approx(1.004)
