"""The line between a worker and its parent, over real sockets."""

from __future__ import annotations

import os
import socket
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path

import msgspec
import pytest
import trio
from hypothesis import given
from hypothesis import strategies as st

from callrt.policy.settings import Resilience, ServerSettings, Settings, TwilioSettings
from callrt.service.config import load_settings
from callrt.service.workers import channel as module
from callrt.service.workers.channel import Channel, ChannelClosed
from callrt.service.workers.messages import (
    Answer,
    Beat,
    Carries,
    Family,
    Knock,
    Message,
    Order,
    Question,
    decode,
    decode_order,
    encode,
    encode_order,
)


@asynccontextmanager
async def pair() -> AsyncIterator[tuple[Channel, Channel]]:
    left, right = (Channel(end) for end in socket.socketpair())
    async with trio.open_nursery() as nursery:
        nursery.start_soon(left.run)
        nursery.start_soon(right.run)
        with trio.fail_after(20):
            yield left, right
        nursery.cancel_scope.cancel()
    left.close()
    right.close()


def open_files() -> int:
    return len(os.listdir("/proc/self/fd"))


async def test_messages_arrive_whole_and_in_order_both_ways() -> None:
    async with pair() as (left, right):
        for number in range(300):
            assert left.send(Answer(number, 200, bytes(number * 7), "text/xml"))
            assert right.send(Carries(f"CA{number}"))
        for number in range(300):
            assert (await right.receive())[0] == Answer(number, 200, bytes(number * 7), "text/xml")
            assert (await left.receive())[0] == Carries(f"CA{number}")


async def test_open_sockets_travel_with_their_own_message() -> None:
    before = open_files()
    async with pair() as (left, right):
        ends = [socket.socketpair() for _ in range(20)]
        for number, (given_away, _) in enumerate(ends):
            left.send(Carries("between"))
            left.send(Knock(f"CA{number}", bytes(number * 3000)), given_away.detach())
        for number, (_, kept) in enumerate(ends):
            assert (await right.receive()) == (Carries("between"), None)
            message, descriptor = await right.receive()
            assert message == Knock(f"CA{number}", bytes(number * 3000))
            assert descriptor is not None
            with socket.socket(fileno=descriptor) as arrived, kept:
                assert not arrived.get_inheritable()
                arrived.send(b"%d" % number)
                assert kept.recv(10) == b"%d" % number
    assert open_files() == before


async def test_other_side_that_goes_is_noticed() -> None:
    async with pair() as (left, right):
        left.send(Carries("CA1"))
        assert (await right.receive())[0] == Carries("CA1")
        left.close()
        with pytest.raises(ChannelClosed):
            await right.receive()
        assert not left.send(Carries("CA2"))


@pytest.mark.parametrize("nonsense", [b"\xff" * 9, b"\0\0\0\2\0{}", b"\0\0\0\2\1\x91\xa5"])
async def test_nonsense_is_the_end_of_the_line(nonsense: bytes) -> None:
    ours, theirs = socket.socketpair()
    channel = Channel(ours)
    theirs.send(nonsense)
    with pytest.raises(ChannelClosed):
        await channel.receive()
    channel.close()
    theirs.close()


async def test_side_that_does_not_read_costs_a_bounded_queue_and_no_descriptor(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(module, "QUEUE_BYTES_MAX", 1_000_000)
    before = open_files()
    ours, theirs = socket.socketpair()
    channel = Channel(ours)
    async with trio.open_nursery() as nursery:
        nursery.start_soon(channel.run)
        sent = 0
        while channel.send(Knock("CA1", bytes(10_000)), os.open(os.devnull, os.O_RDONLY)):
            sent += 1
            await trio.lowlevel.checkpoint()
        assert 90 < sent < 300
        assert channel.dropped == 1
        assert not channel.send(Carries("x" * 20_000))
        assert channel.dropped == 2
        nursery.cancel_scope.cancel()
    channel.close()
    theirs.close()
    assert open_files() == before


@given(
    st.sampled_from(["/twilio/voice", ""]),
    st.lists(st.tuples(st.text(max_size=9), st.text(max_size=9)), max_size=5),
    st.floats(allow_nan=False),
)
def test_messages_survive_the_way(path: str, fields: list[tuple[str, str]], value: float) -> None:
    sample = ("callrt_x_total", (("a", "b"),), value)
    messages: list[Message] = [
        Question(1, "CA1", path, tuple(fields)),
        Beat((Family("callrt_x", "counter", "X.", (sample,)),)),
    ]
    for message in messages:
        assert decode(encode(message)) == message


@given(st.binary(max_size=60))
def test_no_bytes_break_the_decoder(data: bytes) -> None:
    try:
        decode(data)
    except msgspec.MsgspecError:
        pass


def test_order_carries_all_settings(tmp_path: Path) -> None:
    settings = Settings(
        folder=tmp_path,
        server=ServerSettings(port=0),
        journal_url="sqlite:///x.db",
        twilio=TwilioSettings("AC1", "token"),
        models={},
        agents={},
        routes={"default": "a"},
        resilience=Resilience(model_retries=3),
        comfort_folder=tmp_path / "comfort",
    )
    order = Order(2, settings, True, 20)
    assert decode_order(encode_order(order)) == order
    file = tmp_path / "callrt.toml"
    file.write_text(
        '[carriers.twilio]\naccount_sid = "AC1"\nauth_token = "t"\n[models.main]\napi_key = "k"\n'
        '[agents.a]\ninstructions = "X"\ntools = ["m:t"]\ngreeting = "Grüezi"\n'
    )
    loaded = load_settings(file, {})
    assert decode_order(encode_order(Order(1, loaded, False, 10))).settings == loaded
