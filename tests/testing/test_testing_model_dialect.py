"""Our own dialect, mouth to mouth with the emulated service: nothing is refused, nothing is misunderstood."""

from __future__ import annotations

import pytest
import trio
import trio.testing
from testing_model_helpers import BOOKED, FRAME, GREETING, SILENCE, SLOT, emulated, script, utterance

from callrt.protocol.models import events as ev
from callrt.protocol.models.openai_realtime import OpenAIRealtimeCodec, request_headers, request_url
from callrt.testing.links import MemoryTransport, memory_link
from callrt.testing.model_core import ModelOptions
from callrt.testing.model_faults import Fault, Trigger
from callrt.testing.model_reply import Pace
from callrt.testing.model_server import EmulatedModel
from callrt.wire.transport import TransportClosed

Clock = trio.testing.MockClock
TOOL = ev.ToolSpec("book_appointment", "Books.", {"type": "object", "properties": {}})


def configure(form: str = "pcmu", answer: bool = True) -> ev.Configure:
    return ev.Configure("You answer the phone.", "marin", form, [TOOL], answer)  # type: ignore[arg-type]


class Session:
    def __init__(self, link: MemoryTransport) -> None:
        self.link, self.codec = link, OpenAIRealtimeCodec()
        self.events: list[ev.ModelEvent] = []

    def send(self, *commands: ev.ModelCommand) -> None:
        for command in commands:
            assert self.link.send_nowait(self.codec.encode(command))

    async def until(self, kind: type, count: int = 1) -> ev.ModelEvent:
        with trio.fail_after(120):
            while True:
                for event in self.codec.decode(await self.link.receive()):
                    assert not isinstance(event, ev.BadMessage), event
                    assert not (isinstance(event, ev.OtherMessage) and not event.known), event
                    self.events.append(event)
                if sum(isinstance(event, kind) for event in self.events) >= count:
                    return [event for event in self.events if isinstance(event, kind)][count - 1]

    async def say(self, audio: bytes) -> None:
        for at in range(0, len(audio), FRAME):
            self.send(ev.AppendAudio(audio[at : at + FRAME]))
            await trio.sleep(0.02)

    def spoken(self) -> list[str]:
        return [event.text for event in self.events if isinstance(event, ev.ReplyTranscript) and event.final]


def door() -> tuple[str, list[tuple[bytes, bytes]]]:
    return request_url("ws://model.test/v1/realtime", "gpt-realtime-2.1"), request_headers("sk-test")


async def test_whole_call_in_our_dialect_is_refused_nowhere(autojump_clock: Clock) -> None:
    model = emulated(api_key="sk-test")
    async with model.open_link(*door()) as link:
        session = Session(link)
        await session.until(ev.SessionCreated)
        session.send(configure())
        await session.until(ev.SessionUpdated)
        session.send(ev.RequestReply(f'Now say exactly: "{GREETING}"', {"purpose": "greeting"}))
        await session.until(ev.ReplyDone)
        async with trio.open_nursery() as nursery:
            nursery.start_soon(session.say, utterance("I need an appointment") + SILENCE * 60)
            await session.until(ev.ReplyDone, 2)
        async with trio.open_nursery() as nursery:
            nursery.start_soon(session.say, utterance("Yes please book it for me") + SILENCE * 60)
            call = await session.until(ev.ToolCallRequested)
        assert isinstance(call, ev.ToolCallRequested)
        await session.until(ev.ReplyDone, 3)
        session.send(ev.AddToolOutput(call.call_id, '{"ok":true}', "out_1"), ev.RequestReply())
        await session.until(ev.ReplyDone, 4)
        item = model.sessions[0].spoken[-1]
        session.send(
            ev.TruncateItem(item.id, 0, item.sent_ms // 2),
            ev.ClearInput(),
            ev.AddMessage("system", "A note.", "note_1"),
            ev.DeleteItem("note_1"),
            configure(answer=False),
        )
        await session.until(ev.SessionUpdated, 2)
        assert session.spoken() == [GREETING, SLOT, "One second.", BOOKED]
        said = [
            event.text for event in session.events if isinstance(event, ev.CallerTranscript) and event.final
        ]
        assert said == ["I need an appointment", "Yes please book it for me"]
        assert model.sessions[0].refused == []
        replies = [event for event in session.events if isinstance(event, ev.ReplyDone)]
        assert [reply.status for reply in replies] == ["completed"] * 4
        assert replies[0].metadata == {"purpose": "greeting"}
        for each in model.sessions[0].spoken:
            audio = [e.audio for e in session.events if isinstance(e, ev.ReplyAudio) and e.item_id == each.id]
            assert b"".join(audio) == bytes(each.audio)


async def test_history_replayed_in_our_dialect_is_taken_up_where_it_was_cut(autojump_clock: Clock) -> None:
    model = emulated()
    async with model.open_link(*door()) as link:
        session = Session(link)
        session.send(
            configure(answer=False),
            ev.AddMessage("assistant", GREETING, "r1"),
            ev.AddSpeech(utterance("Yes please book it for me"), "r2"),
            ev.AddToolCall("call_old", "book_appointment", "{}", "r3"),
            ev.AddToolOutput("call_old", '{"ok":true}', "r4"),
            ev.AddMessage("assistant", "It is", "r5"),
            ev.AddMessage("system", "The line was cut while you were speaking.", "r6"),
            ev.ClearInput(),
            ev.RequestReply(metadata={"purpose": "resume"}),
        )
        await session.until(ev.ReplyDone)
        assert session.spoken() == ["booked. See you on Tuesday."]
        assert model.sessions[0].refused == []
        assert list(model.sessions[0].items)[:6] == ["r1", "r2", "r3", "r4", "r5", "r6"]


@pytest.mark.parametrize("form", ["pcmu", "pcma", "pcm24"])
async def test_every_audio_format_of_ours_is_spoken(autojump_clock: Clock, form: str) -> None:
    async with emulated().open_link(*door()) as link:
        session = Session(link)
        session.send(configure(form), ev.RequestReply(f'say exactly: "{GREETING}"'))
        await session.until(ev.ReplyDone)
        assert session.spoken() == [GREETING]


async def test_reply_of_a_past_session_goes_on_in_the_next_word_for_word(autojump_clock: Clock) -> None:
    whole = SLOT.split()
    model = emulated(Fault("abort", Trigger(connection=1, reply=1, audio_ms=2500)))
    async with model.open_link(*door()) as link:
        session = Session(link)
        session.send(configure())
        async with trio.open_nursery() as nursery:
            nursery.start_soon(_say_until_lost, session)
            with pytest.raises(TransportClosed):
                await session.until(ev.ReplyDone)
            nursery.cancel_scope.cancel()
    item = model.sessions[0].spoken[0]
    heard = item.words_until(item.sent_ms)
    assert 0 < len(heard.split()) < len(whole)
    async with model.open_link(*door()) as link:
        session = Session(link)
        session.send(
            configure(answer=False),
            ev.AddMessage("user", "I need an appointment", "u1"),
            ev.AddMessage("assistant", heard, "a1"),
            ev.RequestReply(),
        )
        await session.until(ev.ReplyDone)
        assert f"{heard} {session.spoken()[0]}" == SLOT


async def _say_until_lost(session: Session) -> None:
    for frame in [*_frames(utterance("I need an appointment")), *[SILENCE] * 200]:
        session.link.send_nowait(session.codec.encode(ev.AppendAudio(frame)))
        await trio.sleep(0.02)


def _frames(audio: bytes) -> list[bytes]:
    return [audio[at : at + FRAME] for at in range(0, len(audio), FRAME)]


async def test_speech_may_race_the_end_of_the_reply(autojump_clock: Clock) -> None:
    model = emulated(Fault("phantom_speech", Trigger(reply=1, event="response.output_item.done")))
    async with model.open_link(*door()) as link:
        session = Session(link)
        session.send(configure(), ev.RequestReply(f'say exactly: "{GREETING}"'))
        first = await session.until(ev.ReplyDone)
        assert isinstance(first, ev.ReplyDone)
        assert (first.status, first.reason) == ("cancelled", "turn_detected")
        kinds = [type(event) for event in session.events]
        assert kinds.index(ev.ReplyItemDone) < kinds.index(ev.SpeechStarted) < kinds.index(ev.ReplyDone)


async def test_client_that_does_not_read_loses_its_socket_and_nobody_elses(autojump_clock: Clock) -> None:
    options = ModelOptions(pace=Pace(rate=(10, 10)))
    model = EmulatedModel(script(), options=options)
    deaf, service = memory_link(backlog_bytes=100_000, far_backlog_bytes=5_000, window_bytes=5_000)
    async with trio.open_nursery() as nursery:
        admission = model.admit("/v1/realtime?model=x", request_headers("sk-test"), 0)
        nursery.start_soon(model.serve, service, admission)  # type: ignore[arg-type]
        codec = OpenAIRealtimeCodec()
        deaf.send_nowait(codec.encode(configure()))
        deaf.send_nowait(codec.encode(ev.RequestReply(f'say exactly: "{GREETING}"')))
        async with model.open_link(*door()) as link:
            session = Session(link)
            session.send(configure(), ev.RequestReply(f'say exactly: "{GREETING}"'))
            await session.until(ev.ReplyDone)
            assert session.spoken() == [GREETING]
            await trio.sleep(60)
        assert model.sessions[0].lost == (None, "the client does not read")
        nursery.cancel_scope.cancel()


@pytest.mark.parametrize("how", ["leave", "abort", "freeze"])
async def test_leaving_takes_no_time_and_the_session_knows_it_is_over(
    autojump_clock: Clock, how: str
) -> None:
    model = emulated()
    started = trio.current_time()
    async with model.open_link(*door()) as link:
        await link.receive()
        if how != "leave":
            if how == "freeze":
                link.freeze()
            link.abort()
    assert trio.current_time() == started
    assert model.sessions[0].lost is not None
    assert model.live == 0
