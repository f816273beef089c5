"""Streams are lost at exact points, in every way a network has, and the call goes on where its document
says."""

from __future__ import annotations

from collections.abc import Awaitable, Callable

import pytest
import trio
from carrier_helpers import STREAM, App, Socket, app, document
from trio.testing import MockClock

from callrt.testing.carrier import Drop, Line, PhoneCall
from callrt.testing.carrier_plan import DropKind
from callrt.testing.speech import beeps

AUDIO = beeps(
    "quite a long answer that is lost in the middle of it and then taken up again as if nothing was"
)
TOTAL_MS = len(AUDIO) // 8


def resuming(server: Callable[[], App]) -> Callable[[Socket], Awaitable[None]]:
    """An app that plays on from the last acknowledged position: 200 ms pieces with a mark each."""

    async def behave(socket: Socket) -> None:
        echoed = [mark for each in server().sockets for mark in each.marks()]
        done = max((int(mark) for mark in echoed), default=0)
        for at in range(done * 8, len(AUDIO), 1600):
            piece = AUDIO[at : at + 1600]
            socket.play(piece, str((at + len(piece)) // 8))
        await socket.wait_mark(str(TOTAL_MS))
        await socket.transport.aclose()

    return behave


async def run(drop: Drop) -> tuple[App, PhoneCall]:
    holder: list[App] = []
    async with app(resuming(lambda: holder[0])) as server:
        holder.append(server)
        server.documents["action"] = [document(STREAM), document("<Hangup/>")]
        call = server.carrier().place(drops=(drop,))
        with trio.fail_after(120):
            await call.run()
    return server, call


@pytest.mark.parametrize("how", ["rst", "fin", "close", "stop"])
@pytest.mark.parametrize("heard_ms", [1, 200, 777, 2000])
async def test_drop_after_a_mark_loses_and_repeats_nothing(
    autojump_clock: MockClock, how: DropKind, heard_ms: int
) -> None:
    server, call = await run(Drop(how, heard_ms=heard_ms))
    first, second = server.sockets
    reached = -(-heard_ms // 200) * 200
    assert call.tape.agent_audio(1) == AUDIO[: reached * 8]
    assert first.marks()[-1] == str(reached)  # the echo arrived before the loss
    assert call.tape.agent_audio() == AUDIO
    assert second.stream_sid != first.stream_sid
    assert first.closed is not None
    assert ("stop" in [message["event"] for _, message in first.messages]) is (how == "stop")
    assert first.closed.code == (1000 if how in ("close", "stop") else None)
    last = first.messages[-1][1]
    if how in ("rst", "fin"):
        assert last["event"] == "mark"  # nothing was sent after the echo


async def test_drop_at_a_position_does_not_wait_for_a_mark(autojump_clock: MockClock) -> None:
    _, call = await run(Drop("rst", heard_ms=300, after_mark=False))
    assert call.tape.agent_audio(1) == AUDIO[: 300 * 8]


async def test_drop_at_a_time_and_in_a_stream(autojump_clock: MockClock) -> None:
    _, call = await run(Drop("rst", seconds=1.0, stream=1))
    assert len(call.streams) == 2
    assert len(call.tape.agent_audio(1)) / 8 == pytest.approx(1000, abs=41)
    _, call = await run(Drop("rst", seconds=0.5, stream=2, heard_ms=None))
    assert len(call.tape.agent_audio(2)) == 0  # the second stream was opened after all had been heard


async def test_nothing_is_heard_between_the_streams(autojump_clock: MockClock) -> None:
    _, call = await run(Drop("rst", heard_ms=1000))
    between = [h for h in call.tape.heard if h.stream == 0]
    assert between
    assert all(h.frame == b"\xff" * 160 for h in between)


async def test_half_open_stream_plays_on_and_says_nothing(autojump_clock: MockClock) -> None:
    server, call = await run(Drop("half_open", heard_ms=1000, notice_seconds=8.0))
    first = server.sockets[0]
    # The caller hears what had arrived; the app hears nothing: no echo, no audio, no end.
    assert call.tape.agent_audio(1) == AUDIO
    assert max(map(int, first.marks())) == 1000
    assert first.messages[-1][1]["event"] == "mark"
    dropped = first.messages[-1][0]
    asked = next(record.at for record in call.requests if record.kind == "action")
    assert asked - dropped == pytest.approx(8.0, abs=0.05)


async def test_half_open_stream_ends_by_redirect_when_the_carrier_does_not_notice(
    autojump_clock: MockClock,
) -> None:
    async def script(line: Line) -> None:
        await line.wait(1.0)
        call.drop("half_open")
        await line.wait(8.0)
        assert call.stream is not None
        call.redirect(twiml=document("<Say>Back again.</Say>"))
        await line.wait_over()

    async def behave(socket: Socket) -> None:
        await trio.sleep(3.0)
        socket.play(AUDIO[:1600])  # into the void
        await socket.transport.aclose()

    async with app(behave) as server:
        call = server.carrier().place(script)
        await call.run()
    assert call.carrier_said == ["Back again."]
    assert call.tape.agent_audio() == b""
    assert "stop" not in [message["event"] for _, message in server.sockets[0].messages]


async def test_two_drops_strike_one_after_the_other(autojump_clock: MockClock) -> None:
    holder: list[App] = []
    async with app(resuming(lambda: holder[0])) as server:
        holder.append(server)
        server.documents["action"] = [document(STREAM), document(STREAM), document("<Hangup/>")]
        call = server.carrier().place(drops=(Drop("rst", heard_ms=600), Drop("fin", heard_ms=1600)))
        await call.run()
    assert len(call.streams) == 3
    assert call.tape.agent_audio() == AUDIO
    assert [len(call.tape.agent_audio(n)) // 8 for n in (1, 2)] == [600, 1000]


async def test_caller_may_hang_up_while_the_stream_is_gone(autojump_clock: MockClock) -> None:
    async def script(line: Line) -> None:
        await line.wait(0.5)
        call.drop("rst")
        line.hang_up()

    async with app() as server:
        call = server.carrier().place(script)
        await call.run()
        with trio.fail_after(5):
            await server.sockets[0].wait_closed()
    assert call.end_reason == "caller_hung_up"
    assert "action" not in server.paths()
