"""A whole call at the emulated carrier, in virtual time: documents, the clock, the two voices, how streams
end."""

from __future__ import annotations

import itertools
import wave
from pathlib import Path

import numpy as np
import pytest
import trio
from carrier_helpers import BASE, App, Socket, app, document
from trio.testing import MockClock, wait_all_tasks_blocked

from callrt.protocol.audio import mulaw_decode
from callrt.testing.carrier import Drop, Habits, Human, Line, say_nothing
from callrt.testing.speech import beeps

GREETING = beeps("hello this is the clinic how can i help you today")
QUESTION = beeps("i need an appointment")


async def greet(socket: Socket) -> None:
    """200 ms pieces with a mark each, all at once."""
    for at in range(0, len(GREETING), 1600):
        socket.play(GREETING[at : at + 1600], f"m{(at + 1600) // 8}")


async def test_call_is_answered_heard_and_hung_up_by_the_caller(autojump_clock: MockClock) -> None:
    async def script(line: Line) -> None:
        await line.wait_for_agent_silence(0.5)
        await line.say(QUESTION)
        line.hang_up()

    async with app(greet) as server:
        call = server.carrier().place(script)
        await call.run()
    assert server.unsigned == []
    assert call.end_reason == "caller_hung_up"
    assert call.status == "completed"
    assert call.tape.agent_audio() == GREETING
    assert call.line.heard_ms == len(GREETING) // 8
    assert QUESTION in call.tape.said_audio()
    (socket,) = server.sockets
    assert [message["event"] for _, message in socket.messages[:3]] == ["connected", "start", "media"]
    assert socket.messages[-1][1]["event"] == "stop"
    assert socket.closed is not None
    assert socket.closed.code == 1000
    assert "action" not in server.paths()
    form = server.form("voice")
    assert form["CallSid"] == call.call_sid
    assert form["CallStatus"] == "ringing"
    assert form["Direction"] == "inbound"
    start = socket.events("start")[0]["start"]
    assert (start["callSid"], start["customParameters"]) == (call.call_sid, {"generation": "1"})


async def test_media_comes_every_20_ms_also_in_silence_and_carries_what_the_caller_says(
    autojump_clock: MockClock,
) -> None:
    async def script(line: Line) -> None:
        await line.wait(0.5)
        await line.say(QUESTION)
        await line.wait(0.5)
        line.hang_up()

    async with app() as server:
        call = server.carrier().place(script)
        await call.run()
    times = [at for at, message in server.sockets[0].messages if message["event"] == "media"]
    assert np.allclose(np.diff(times), 0.02)
    chunks = [int(message["media"]["chunk"]) for message in server.sockets[0].events("media")]
    assert chunks == list(range(1, len(chunks) + 1))
    stamps = [int(message["media"]["timestamp"]) for message in server.sockets[0].events("media")]
    assert np.all(np.diff(stamps) == 20)
    assert call.tape.said_audio().strip(b"\xff") == QUESTION.strip(b"\xff")


async def test_both_tracks_of_the_tape_lie_on_one_clock(autojump_clock: MockClock, tmp_path: Path) -> None:
    said_at: list[float] = []

    async def answer(socket: Socket) -> None:
        await trio.sleep(1.0)
        socket.play(GREETING)
        await trio.sleep_forever()

    async def script(line: Line) -> None:
        await line.wait_for_agent_silence(0.2)
        said_at.append(trio.current_time())
        await line.say(QUESTION)
        line.hang_up()

    async with app(answer) as server:
        call = server.carrier().place(script)
        await call.run()
    tape = call.tape
    assert len(tape.heard) == len(tape.said)
    assert [round(h.at - tape.started_at, 6) for h in tape.heard] == [
        round(n * 0.02, 6) for n in range(len(tape.heard))
    ]
    (span,) = tape.audible_spans()
    assert span[0] - tape.started_at == pytest.approx(1.0, abs=0.021)
    assert tape.longest_silence(tape.started_at, span[0]) == pytest.approx(1.0, abs=0.021)
    first_word = next(n for n, frame in enumerate(tape.said) if frame != b"\xff" * 160)
    assert first_word * 0.02 == pytest.approx(said_at[0] - tape.started_at, abs=0.021)
    tape.write_wav(tmp_path / "call.wav")
    with wave.open(str(tmp_path / "call.wav")) as file:
        assert (file.getnchannels(), file.getframerate(), file.getsampwidth()) == (2, 8000, 2)
        both = np.frombuffer(file.readframes(file.getnframes()), dtype="<i2").reshape(-1, 2)
    assert np.array_equal(both[:, 0], mulaw_decode(tape.said_audio()))
    assert np.array_equal(both[:, 1], mulaw_decode(tape.heard_audio()))


async def test_echo_comes_when_its_audio_has_been_heard(autojump_clock: MockClock) -> None:
    async def script(line: Line) -> None:
        await line.wait_heard_ms(len(GREETING) // 8)
        line.hang_up()

    async with app(greet) as server:
        call = server.carrier().place(script)
        await call.run()
    began = next(heard.at for heard in call.tape.heard if heard.agent_bytes)
    for name, at in server.sockets[0].mark_times().items():
        assert at - began == pytest.approx(min(int(name[1:]), len(GREETING) // 8) / 1000, abs=0.001)


async def test_interruption_is_cleared_and_nothing_more_is_heard(autojump_clock: MockClock) -> None:
    async def behave(socket: Socket) -> None:
        await greet(socket)
        while not any(m["media"]["payload"] != "/" * 213 + "w==" for m in socket.events("media")):
            await socket.changed.park()
        socket.clear()
        await trio.sleep_forever()

    async def script(line: Line) -> None:
        await line.interrupt(QUESTION, after_ms=500)
        await line.wait(1.0)
        line.hang_up()

    async with app(behave) as server:
        call = server.carrier().place(script)
        await call.run()
    heard = call.tape.agent_audio()
    assert GREETING.startswith(heard)
    assert 500 <= len(heard) / 8 <= 560
    clear = next(event for event in call.wire if event.kind == "clear")
    assert clear.size == len(GREETING) - len(heard)
    assert server.sockets[0].marks()[-1] == f"m{-(-len(GREETING) // 1600) * 200}"


async def test_keys_reach_the_app(autojump_clock: MockClock) -> None:
    async def script(line: Line) -> None:
        await line.wait(0.1)
        line.press("1#")
        with pytest.raises(ValueError, match="keys 0 to 9"):
            line.press("x")
        line.hang_up()

    async with app() as server:
        await server.carrier().place(script).run()
    assert [event["dtmf"]["digit"] for event in server.sockets[0].events("dtmf")] == ["1", "#"]


async def test_app_that_closes_the_stream_is_asked_what_next(autojump_clock: MockClock) -> None:
    async def behave(socket: Socket) -> None:
        socket.play(GREETING)
        await trio.sleep(0.5)
        await socket.transport.aclose(1000)

    async with app(behave, action=document("<Say>Thank you.</Say><Hangup/>")) as server:
        call = server.carrier().place()
        await call.run()
    assert server.form("action")["CallStatus"] == "in-progress"
    assert call.carrier_said == ["Thank you."]
    assert call.end_reason == "app_hung_up"
    # What the closed stream had buffered is gone.
    assert 480 <= call.line.heard_ms <= 520
    assert [alert.code for alert in call.alerts] == [31921]
    assert "stop" not in [message["event"] for _, message in server.sockets[0].messages]


async def test_stream_without_action_or_next_verb_is_hung_up_on(autojump_clock: MockClock) -> None:
    bare = document('<Connect><Stream url="ws://app.test/media/1"/></Connect>')

    async def behave(socket: Socket) -> None:
        await socket.transport.aclose()

    async with app(behave, voice=bare) as server:
        call = server.carrier().place()
        await call.run()
    assert server.paths() == ["voice"]
    assert call.end_reason == "app_hung_up"


async def test_next_verb_runs_when_there_is_no_action(autojump_clock: MockClock) -> None:
    follow = document(
        '<Connect><Stream url="ws://app.test/media/1"/></Connect><Pause length="2"/><Redirect>/resume</Redirect>'
    )

    async def behave(socket: Socket) -> None:
        await socket.transport.aclose()

    async with app(behave, voice=follow, resume=document("<Hangup/>")) as server:
        call = server.carrier().place()
        await call.run()
    assert server.paths() == ["voice", "resume"]
    assert call.tape.seconds >= 2.0


@pytest.mark.parametrize(("status", "code"), [(403, 31920), (404, 31920), (503, 31920)])
async def test_refused_upgrade_is_reported_and_the_action_asked(
    autojump_clock: MockClock, status: int, code: int
) -> None:
    async with app() as server:
        server.refuse = status
        call = server.carrier().place()
        await call.run()
    assert [alert.code for alert in call.alerts] == [code]
    error = server.form("stream-status")
    assert error["StreamEvent"] == "stream-error"
    assert str(status) in error["StreamError"]
    assert "action" in server.paths()


async def test_rejected_call_is_never_answered(autojump_clock: MockClock) -> None:
    async with app(voice=document('<Reject reason="busy"/>')) as server:
        call = server.carrier().place()
        await call.run()
    assert (call.end_reason, call.status, call.tape.seconds) == ("rejected", "busy", 0)


@pytest.mark.parametrize(
    ("answer", "code"),
    [((500, ""), 11200), ((404, ""), 11200), ("<Response>", 12100), (OSError("refused"), 11200)],
)
async def test_caller_hears_an_apology_when_the_app_has_no_document(
    autojump_clock: MockClock, answer: object, code: int
) -> None:
    async with app(voice=answer) as server:
        call = server.carrier().place()
        await call.run()
    assert [alert.code for alert in call.alerts] == [code]
    assert call.end_reason == "application_error"
    assert call.tape.audible_spans() != []


async def test_failing_webhook_is_tried_once_more(autojump_clock: MockClock) -> None:
    async with app(voice=[(503, ""), document("<Hangup/>")]) as server:
        call = server.carrier().place()
        await call.run()
    assert server.paths() == ["voice", "voice"]
    assert call.end_reason == "app_hung_up"


async def test_duplicate_webhooks_are_delivered_and_the_second_answer_counts(
    autojump_clock: MockClock,
) -> None:
    first, second = document("<Reject/>"), document("<Say>Hi.</Say>")
    async with app(voice=[first, second]) as server:
        call = server.carrier().place(habits=Habits(duplicate_webhooks=True))
        await call.run()
    assert server.paths() == ["voice", "voice"]
    assert call.carrier_said == ["Hi."]


async def test_repeated_voice_webhook_opens_a_second_stream_beside_the_first(
    autojump_clock: MockClock,
) -> None:
    async def behave(socket: Socket) -> None:
        if len(server.sockets) == 1:
            while True:
                socket.play(GREETING)
                await trio.sleep(len(GREETING) / 8000)
        await trio.sleep(1.0)
        await server.sockets[0].transport.aclose()
        socket.play(QUESTION, "end")
        await socket.wait_mark("end")
        await socket.transport.aclose()

    async def script(line: Line) -> None:
        await line.wait(0.5)
        call.repeat_voice_webhook()
        await line.wait_over()

    async with app(behave) as server:
        call = server.carrier().place(script)
        await call.run()
    first, second = server.sockets
    assert len(call.streams) == 2
    assert call.tape.agent_audio(2) == QUESTION  # the older stream is not played any more
    assert "stop" not in [message["event"] for _, message in first.messages]
    assert first.messages[-1][0] > second.messages[0][0] + 0.9  # it went on being fed until the app closed it
    assert server.paths().count("action") == 1


async def test_redirect_stops_the_stream_and_runs_the_new_document(autojump_clock: MockClock) -> None:
    async def behave(socket: Socket) -> None:
        socket.play(GREETING)
        await trio.sleep(0.5)
        call.redirect(twiml=document("<Say>One moment.</Say>"))

    async with app(behave) as server:
        call = server.carrier().place()
        await call.run()
    assert server.sockets[0].messages[-1][1]["event"] == "stop"
    assert server.sockets[0].closed is not None
    assert call.carrier_said == ["One moment."]
    assert "action" not in server.paths()
    assert call.end_reason == "app_hung_up"


async def test_redirect_to_an_address_fetches_it(autojump_clock: MockClock) -> None:
    async def script(line: Line) -> None:
        call.redirect(url=f"{BASE}/transfer")
        await line.wait_over()

    async with app(transfer=document("<Hangup/>")) as server:
        call = server.carrier().place(script)
        await call.run()
    assert server.paths()[-1] == "transfer"


async def test_call_ended_by_the_app_says_stop_and_cannot_be_changed_any_more(
    autojump_clock: MockClock,
) -> None:
    async def script(line: Line) -> None:
        await line.wait(0.2)
        call.complete()
        call.redirect(twiml=document("<Say>Too late.</Say>"))
        await line.wait(10)
        raise AssertionError("the script outlives the call")

    async with app() as server:
        call = server.carrier().place(script)
        await call.run()
    assert call.end_reason == "app_hung_up"
    assert call.carrier_said == []
    assert server.sockets[0].messages[-1][1]["event"] == "stop"


async def test_human_hears_the_whisper_before_the_caller_hears_the_human(autojump_clock: MockClock) -> None:
    voice = document(
        f'<Dial answerOnBridge="true" action="{BASE}/dialled"><Number url="{BASE}/whisper">+15550100009</Number></Dial>'
    )
    words = beeps("hello this is ann")
    async with app(
        voice=voice, whisper=document("<Say>A caller about teeth.</Say>"), dialled=document("")
    ) as server:
        call = server.carrier().place(humans={"+15550100009": Human(says=words, talk_seconds=2.0)})
        await call.run()
    (dial,) = call.dials
    assert dial.whispers == ["A caller about teeth."]
    assert dial.status == "completed"
    whisper, ended = server.form("whisper"), server.form("dialled")
    assert whisper["CallSid"] == dial.call_sid != call.call_sid
    assert whisper["ParentCallSid"] == call.call_sid
    assert ended["CallSid"] == call.call_sid
    assert (ended["DialCallStatus"], ended["DialCallSid"]) == ("completed", dial.call_sid)
    human = b"".join(heard.frame for heard in call.tape.heard if heard.source == "human")
    assert human == words
    first = next(heard for heard in call.tape.heard if heard.source == "human")
    assert dial.bridged_at is not None
    assert first.at == pytest.approx(dial.bridged_at, abs=0.021)
    assert any(heard.source == "ring" for heard in call.tape.heard)


@pytest.mark.parametrize(
    ("human", "status", "seconds"),
    [
        (Human("busy"), "busy", 1),
        (Human("failed"), "failed", 0.5),
        (Human("no-answer"), "no-answer", 20),
        (Human(answer_seconds=25), "no-answer", 20),
    ],
)
async def test_human_who_does_not_answer_is_reported(
    autojump_clock: MockClock, human: Human, status: str, seconds: float
) -> None:
    voice = document(f'<Dial timeout="20" action="{BASE}/dialled"><Number>+15550100009</Number></Dial>')
    async with app(voice=voice, dialled=document("<Say>Nobody is there.</Say>")) as server:
        call = server.carrier().place(anyone=human)
        await call.run()
    assert server.form("dialled")["DialCallStatus"] == status
    assert call.dials[0].ended_at is not None
    assert call.dials[0].ended_at - call.tape.started_at == pytest.approx(seconds, abs=0.1)
    assert call.carrier_said == ["Nobody is there."]


async def test_status_callbacks_are_numbered_and_may_come_out_of_order(autojump_clock: MockClock) -> None:
    for swapped in (False, True):
        async with app(voice=document("<Pause/>")) as server:
            call = server.carrier().place(
                habits=Habits(status_out_of_order=swapped), status_url=f"{BASE}/status"
            )
            await call.run()
        forms = [form for path, form in server.forms if path == "status"]
        assert sorted((form["SequenceNumber"], form["CallStatus"]) for form in forms) == [
            ("0", "in-progress"),
            ("1", "completed"),
        ]
        assert (forms[0]["CallStatus"] == "completed") is swapped
        assert next(form for form in forms if form["CallStatus"] == "completed")["CallDuration"] == "1"


async def test_stream_callbacks_tell_start_and_stop(autojump_clock: MockClock) -> None:
    async def behave(socket: Socket) -> None:
        await trio.sleep(0.5)
        await socket.transport.aclose()

    async with app(behave) as server:
        call = server.carrier().place()
        await call.run()
    forms = [form for path, form in server.forms if path == "stream-status"]
    assert [form["StreamEvent"] for form in forms] == ["stream-started", "stream-stopped"]
    assert {form["StreamSid"] for form in forms} == {call.streams[0].media.stream_sid}


async def test_congestion_leaves_gaps_and_one_warning(autojump_clock: MockClock) -> None:
    async def script(line: Line) -> None:
        await line.wait(1.0)
        line.hang_up()

    async with app() as server:
        call = server.carrier().place(script, habits=Habits(congested_frames=(10, 11, 12)))
        await call.run()
    chunks = [int(message["media"]["chunk"]) for message in server.sockets[0].events("media")]
    assert [b for a, b in itertools.pairwise(chunks) if b != a + 1] == [13]
    assert len(chunks) == chunks[-1] - 3
    assert [alert.code for alert in call.alerts] == [31930]


async def test_app_that_does_not_read_loses_audio_and_nothing_else(autojump_clock: MockClock) -> None:
    async with trio.open_nursery() as nursery:
        server = App(nursery)
        carrier = server.carrier()

        async def script(line: Line) -> None:
            await line.wait(0.5)
            server.sockets[0].reading.cancel()
            await line.wait(120.0)
            line.hang_up()

        call = carrier.place(script)
        with trio.fail_after(130):
            await call.run()
        nursery.cancel_scope.cancel()
    assert call.end_reason == "caller_hung_up"
    assert [alert.code for alert in call.alerts] == [31930]
    assert call.streams[0].media.discarded > 1000


async def test_carrier_ends_a_call_that_nobody_ends(autojump_clock: MockClock) -> None:
    async with app() as server:
        call = server.carrier().place(habits=Habits(call_seconds_max=30))
        await call.run()
    assert call.end_reason == "too_long"
    assert call.tape.seconds == pytest.approx(30, abs=0.1)


async def test_identities_follow_from_the_seed(autojump_clock: MockClock) -> None:
    async def sids(seed: int) -> list[str]:
        async with app(voice=document("<Reject/>")) as server:
            carrier = server.carrier(seed=seed)
            return [carrier.place().call_sid for _ in range(3)]

    assert await sids(1) == await sids(1)
    assert len({*await sids(1), *await sids(2)}) == 6


async def test_many_calls_at_once_leave_no_task_behind(autojump_clock: MockClock) -> None:
    async def script(line: Line) -> None:
        await line.wait_for_agent_silence(0.5)
        line.hang_up()

    async with app(greet) as server:
        carrier = server.carrier()
        before = trio.lowlevel.current_statistics().tasks_living
        calls = [carrier.place(script) for _ in range(50)]
        async with trio.open_nursery() as nursery:
            for call in calls:
                nursery.start_soon(call.run)
        for socket in server.sockets:
            await socket.wait_closed()
        await wait_all_tasks_blocked()
        assert trio.lowlevel.current_statistics().tasks_living <= before + len(
            calls
        )  # the app's own readers end
    assert all(call.tape.agent_audio() == GREETING for call in calls)
    assert all(call.end_reason == "caller_hung_up" for call in calls)


async def test_cancelled_call_drops_its_socket(autojump_clock: MockClock) -> None:
    async with app() as server:
        call = server.carrier().place(say_nothing)
        with trio.move_on_after(1.0):
            await call.run()
        with trio.fail_after(5):
            await server.sockets[0].wait_closed()
    assert call.over.is_set()


async def test_drop_without_a_stream_has_no_effect(autojump_clock: MockClock) -> None:
    async with app(voice=document("<Pause length='2'/>")) as server:
        call = server.carrier().place(drops=(Drop("rst", heard_ms=0, after_mark=False),))
        await call.run()
        call.drop()
    assert call.streams == []
    assert call.end_reason == "app_hung_up"


async def test_same_seed_and_script_give_the_same_call(autojump_clock: MockClock) -> None:
    async def script(line: Line) -> None:
        await line.interrupt(QUESTION, after_ms=700)
        line.hang_up()

    stories: list[object] = []
    for _ in range(2):
        async with app(greet) as server:
            call = server.carrier(seed="s").place(script)
            began = trio.current_time()
            await call.run()
        wire = [(round(event.at - began, 6), event.sent, event.kind, event.detail) for event in call.wire]
        stories.append((call.call_sid, wire, call.tape.heard_audio(), call.tape.said_audio()))
    assert stories[0] == stories[1]
