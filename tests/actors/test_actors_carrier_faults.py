"""G2, G4, G7, G8: the carrier's stream drops, the caller interrupts, calls end. At the caller's end of the socket."""

from __future__ import annotations

from typing import Any

import attrs
import pytest
import trio
from actors_scenes import (
    AGENT,
    ANSWER,
    BOOK,
    BOOKED,
    GREETING,
    HOURS,
    HUMAN,
    Scene,
    play,
    saying,
    voice,
)

from callrt.policy import facts
from callrt.policy.settings import Resilience
from callrt.protocol.carriers.calls import IncomingCall
from callrt.testing.carrier import Drop, Habits, Human, Line, PhoneCall, StreamBehaviour
from callrt.testing.model_brain import Calling, ScriptBrain, Turn
from callrt.testing.model_faults import Fault, Trigger
from callrt.testing.model_server import EmulatedModel
from callrt.testing.world import World, open_world

HEARD = len(voice(GREETING)) // 8 + 2000
"""Two seconds into the answer."""


def whole_conversation(scene: Scene) -> None:
    assert scene.agent_words() == f"{GREETING} {ANSWER}"
    assert scene.transcript()[1] == ("caller", HOURS)
    assert scene.model.connections == 1, "the model session stays"


# -- G2 -------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("how", ["rst", "fin", "close", "stop"])
@pytest.mark.parametrize("latency", [0.0, 0.03])
async def test_dropped_stream_is_resumed_at_the_first_unheard_frame(
    how: Any, latency: float, autojump_clock: Any
) -> None:
    scene = await play(drops=[Drop(how, heard_ms=HEARD)], latency=latency, caller=saying(HOURS, silence=4.0))
    whole_conversation(scene)
    assert scene.twice() <= 10
    assert scene.unheard() <= 1
    if latency == 0.0:
        assert (scene.twice(), scene.unheard()) == (0, 0)
    assert [s.generation for s in scene.state.streams] == [1, 2]
    assert len(scene.world.of(facts.CarrierRecovered)) == 1
    assert scene.state.outcome == "caller_hung_up"


@pytest.mark.parametrize("offset", range(0, 200, 20))
async def test_reset_between_two_marks_loses_nothing_to_speak_of(offset: int, autojump_clock: Any) -> None:
    drop = Drop("rst", heard_ms=HEARD + offset, after_mark=False)
    scene = await play(drops=[drop], caller=saying(HOURS, silence=4.0))
    whole_conversation(scene)
    assert scene.twice() <= 10
    assert scene.unheard() <= 1


async def test_half_open_stream_is_found_and_little_is_heard_twice(autojump_clock: Any) -> None:
    scene = await play(
        drops=[Drop("half_open", heard_ms=HEARD)], caller=saying(HOURS, silence=12.0), resilience=Resilience()
    )
    whole_conversation(scene)
    assert scene.twice() <= 50
    assert scene.unheard() <= 1
    assert scene.state.streams[0].reason == "stalled"


async def test_stream_may_drop_again_and_again(autojump_clock: Any) -> None:
    drops = [Drop("rst", heard_ms=HEARD + n * 600) for n in range(3)]
    scene = await play(drops=drops, caller=saying(HOURS, silence=4.0))
    whole_conversation(scene)
    assert scene.twice() <= 30
    assert scene.unheard() <= 3
    assert len(scene.state.streams) == 4


async def test_model_and_stream_may_fail_together(autojump_clock: Any) -> None:
    scene = await play(
        Fault("close", Trigger(connection=1, reply=2, audio_ms=1500)),
        drops=[Drop("rst", heard_ms=HEARD - 1000)],
        caller=saying(HOURS, silence=4.0),
    )
    assert scene.agent_words() == f"{GREETING} {ANSWER}"
    assert scene.twice() <= 10
    assert scene.unheard() <= 1


async def test_repeated_webhook_retires_the_older_stream(autojump_clock: Any) -> None:
    async def repeat(world: World, call: PhoneCall) -> None:
        while call.line.heard_ms < HEARD:
            await trio.sleep(0.1)
        call.repeat_voice_webhook()

    scene = await play(during=repeat, caller=saying(HOURS, silence=4.0))
    assert [s.reason for s in scene.state.streams] == ["retired", "stopped"]
    whole_conversation(scene)


async def test_duplicate_webhooks_are_harmless(autojump_clock: Any) -> None:
    scene = await play(habits=Habits(duplicate_webhooks=True))
    whole_conversation(scene)
    assert scene.twice() == scene.unheard() == 0


async def test_carrier_without_mark_echoes_is_served(autojump_clock: Any) -> None:
    scene = await play(behaviour=StreamBehaviour(echoes_marks=False))
    assert scene.unheard() == 0


# -- G4 -------------------------------------------------------------------------------------------------------


async def interrupting(line: Line) -> None:
    await line.wait_for_agent_silence()
    await line.say(voice(HOURS))
    await line.interrupt(voice(BOOK), after_ms=1500)
    await line.wait_for_agent_silence(2.0)
    line.hang_up()


def plain_script() -> ScriptBrain:
    return ScriptBrain([Turn(HOURS, voice(HOURS), ANSWER), Turn(BOOK, voice(BOOK), BOOKED)], lines=[GREETING])


@pytest.mark.parametrize("latency", [0.0, 0.05])
async def test_barge_in_clears_at_once_and_tells_what_was_heard(latency: float, autojump_clock: Any) -> None:
    scene = await play(caller=interrupting, brain=plain_script(), latency=latency)
    session = scene.model.sessions[0]
    started = [said.at for said in session.said if said.event["type"] == "input_audio_buffer.speech_started"]
    cleared = [event.at for event in scene.call.wire if event.kind == "clear"]
    assert len(cleared) == 1
    assert cleared[0] - started[1] <= 2 * latency + 0.02
    ((_, item, told_ms),) = session.truncations
    audio = bytes(session.items[item].audio)
    heard = {frame for _, frame in scene.heard()}
    last = max(at // 160 for at in range(0, len(audio), 160) if audio[at : at + 160] in heard)
    heard_to = (last + 1) * 20
    assert heard_to - 600 <= told_ms <= heard_to + 20
    said = scene.state.lines[2]
    assert said.interrupted
    assert ANSWER.startswith(said.text)
    assert len(said.text) < len(ANSWER)
    assert scene.transcript()[-1] == ("agent", BOOKED)
    assert all(fact.seconds <= 0.02 for fact in scene.world.of(facts.BargeIn))


async def test_barge_in_after_everything_was_generated_still_clears(autojump_clock: Any) -> None:
    scene = await play(
        Fault("rate", Trigger(connection=1, reply=2), rate=50.0), caller=interrupting, brain=plain_script()
    )
    assert [event.kind for event in scene.call.wire].count("clear") == 1
    assert len(scene.model.sessions[0].truncations) == 1
    assert scene.transcript()[-1] == ("agent", BOOKED)


async def test_interrupted_reply_is_not_taken_up_again_by_a_successor(autojump_clock: Any) -> None:
    scene = await play(
        Fault("close", Trigger(connection=1, event="input_audio_buffer.committed", count=2)),
        caller=interrupting,
        brain=plain_script(),
    )
    assert scene.model.connections == 2
    assert scene.transcript()[-1] == ("agent", BOOKED)
    assert scene.transcript()[2][1] != ANSWER


# -- G8: every call ends --------------------------------------------------------------------------------------


async def listen_for_ever(line: Line) -> None:
    await line.wait_over()


async def test_silence_ends_with_goodbye(autojump_clock: Any) -> None:
    scene = await play(caller=listen_for_ever, resilience=Resilience(max_silence_seconds=10))
    assert scene.state.outcome == "silence"
    assert len(scene.line_starts("goodbye")) == 1
    assert scene.call.end_reason == "app_hung_up"


async def test_longest_call_ends_within_five_seconds_of_its_limit(autojump_clock: Any) -> None:
    async def chatter(line: Line) -> None:
        while True:
            await line.say(voice(HOURS))
            await line.wait_for_agent_silence(0.5)

    scene = await play(caller=chatter, resilience=Resilience(max_call_seconds=60))
    assert scene.state.outcome == "max_duration"
    assert 60 <= scene.seconds <= 65
    assert len(scene.line_starts("goodbye")) == 1


async def test_stream_lost_for_good_is_carrier_lost(autojump_clock: Any) -> None:
    scene = await play(
        drops=[Drop("half_open", heard_ms=1000)],
        caller=listen_for_ever,
        resilience=Resilience(carrier_return_seconds=5),
        habits=Habits(call_seconds_max=3.0),
    )
    assert scene.state.outcome == "carrier_lost"


async def test_call_whose_stream_never_came_is_carrier_lost(autojump_clock: Any) -> None:
    async with open_world(EmulatedModel(plain_script()), agent=AGENT) as world:
        await world.desk.incoming(IncomingCall("CA1", "AC1", "+1", "+2"))
        with trio.move_on_after(30):
            while world.desk.live_calls:
                await trio.sleep(0.1)
        state = await world.state("CA1")
    assert state.outcome == "carrier_lost"


# -- built-in tools ---------------------------------------------------------------------------------------------


def ending(tool: str, words: str) -> ScriptBrain:
    turn = Turn(
        HOURS,
        voice(HOURS),
        "Never said.",
        tool=Calling(tool, '{"reason": "wants a person"}'),
        before_tool=words,
    )
    return ScriptBrain([turn, Turn(BOOK, voice(BOOK), BOOKED)], lines=[GREETING])


async def test_end_call_waits_until_the_last_word_was_heard(autojump_clock: Any) -> None:
    scene = await play(caller=saying(HOURS, silence=30.0), brain=ending("end_call", "Goodbye and thank you."))
    assert scene.state.outcome == "completed"
    assert scene.unheard() == 0
    assert scene.agent_words().endswith("Goodbye and thank you.")
    assert scene.call.end_reason == "app_hung_up"
    assert [(tool.name, tool.status) for tool in scene.state.tools] == [("end_call", "ok")]


async def test_end_call_is_taken_back_when_the_caller_goes_on(autojump_clock: Any) -> None:
    async def goes_on(line: Line) -> None:
        await line.wait_for_agent_silence()
        await line.say(voice(HOURS))
        await line.interrupt(voice(BOOK), after_ms=500)
        await line.wait_for_agent_silence(2.0)
        line.hang_up()

    scene = await play(
        caller=goes_on, brain=ending("end_call", "Goodbye and thank you for calling us today.")
    )
    assert scene.state.outcome == "caller_hung_up"
    assert scene.transcript()[-1] == ("agent", BOOKED)


@pytest.mark.parametrize("sms", [False, True])
async def test_transfer_gives_the_human_a_summary_and_the_transcript(sms: bool, autojump_clock: Any) -> None:
    agent = attrs.evolve(HUMAN, transfer_sms=sms, transfer_webhook="https://crm.example.org/in")
    scene = await play(
        caller=saying(HOURS, silence=60.0),
        brain=ending("transfer_to_human", "I will connect you."),
        agent=agent,
        humans={"+15550100009": Human(talk_seconds=5)},
    )
    assert scene.state.outcome == "transferred"
    (dial,) = scene.call.dials
    assert dial.number == "+15550100009"
    assert dial.status == "completed"
    assert HOURS in (scene.state.transfer.summary if scene.state.transfer else "")
    whispers = [r for r in scene.call.requests if r.kind == "whisper"]
    assert len(whispers) == 1
    assert b"opening hours" in whispers[0].body
    assert len(scene.line_starts("connecting")) == 1
    ((address, payload),) = scene.world.handed_over
    assert address == "https://crm.example.org/in"
    assert {"role": "caller", "text": HOURS} in payload["transcript"]
    assert len(scene.world.carrier.rest.messages) == (1 if sms else 0)


async def test_human_who_does_not_answer_is_apologised_for(autojump_clock: Any) -> None:
    scene = await play(
        caller=saying(HOURS, silence=60.0),
        brain=ending("transfer_to_human", "I will connect you."),
        agent=HUMAN,
        humans={"+15550100009": Human(reaction="no-answer")},
    )
    assert scene.state.transfer_failed == "no-answer"
    assert scene.state.outcome == "failed"
    assert any("nobody can be reached" in text for text in scene.call.carrier_said)


# -- bad input --------------------------------------------------------------------------------------------------


BAD = [
    "{",
    "[]",
    b"\x00\x01",
    '{"event":"media"}',
    '{"event":"unheard_of"}',
    '{"event":"media","media":{"payload":"?"}}',
]


@pytest.mark.parametrize("bad", BAD)
async def test_bad_carrier_message_is_counted_reported_once_and_harmless(
    bad: Any, autojump_clock: Any
) -> None:
    async def send(world: World, call: PhoneCall) -> None:
        while call.stream is None:
            await trio.sleep(0.05)
        for _ in range(20):
            call.stream.send([bad])
            await trio.sleep(0.01)

    scene = await play(during=send)
    whole_conversation(scene)
    assert sum(scene.world.bad_input().values()) == 20
    assert len([r for r in scene.world.reports if "not understood" in r[2]]) == 1
    assert scene.twice() == scene.unheard() == 0


async def test_bad_input_before_a_start_is_counted_and_reported_once_per_call(autojump_clock: Any) -> None:
    stranger = "CA" + "9" * 32

    async def begin_badly(world: World, call: PhoneCall) -> None:
        while call.stream is None:
            await trio.sleep(0.05)
        for call_sid in (call.call_sid, stranger):
            for reason in ("not_json", "binary", "foreign_call"):
                world.process.desk.bad_input(call_sid, reason)

    scene = await play(during=begin_badly)
    whole_conversation(scene)
    assert scene.world.bad_input() == {"not_json": 2, "binary": 2, "foreign_call": 2}
    told = [r for r in scene.world.reports if "not understood" in r[2]]
    assert [(call_sid, "(not_json)" in sentence) for call_sid, _, sentence in told] == [
        (scene.call.call_sid, True),
        (stranger, True),
    ]
    assert [f.detail for f in scene.state.faults if f.fault == "bad_input"] == ["carrier not_json"]


@pytest.mark.parametrize("form", ["binary", "not_json", "not_object"])
async def test_bad_model_message_is_counted_reported_once_and_harmless(
    form: Any, autojump_clock: Any
) -> None:
    faults = [Fault("garbage", Trigger(connection=1, seconds=0.5 + n / 10), form=form) for n in range(5)]
    faults.append(Fault("unknown_event", Trigger(connection=1, seconds=2.0)))
    faults.append(Fault("extra_keys", Trigger(connection=1, seconds=2.1)))
    scene = await play(*faults)
    whole_conversation(scene)
    assert sum(scene.world.bad_input().values()) >= 6
    assert len([r for r in scene.world.reports if "not understood" in r[2]]) == 1


async def test_flood_of_keys_is_bounded_and_harmless(autojump_clock: Any) -> None:
    async def press(line: Line) -> None:
        await line.wait_for_agent_silence()
        line.press("7" * 1000)
        await line.wait(2.0)
        await line.say(voice(HOURS))
        await line.wait_for_agent_silence(2.5)
        line.hang_up()

    scene = await play(caller=press)
    assert scene.state.digits == 200
    assert scene.world.bad_input() == {"digit_flood": 800}
    assert scene.transcript()[-1] == ("agent", ANSWER)


async def test_keys_pressed_reach_the_model(autojump_clock: Any) -> None:
    async def press(line: Line) -> None:
        await line.wait_for_agent_silence()
        line.press("42")
        await line.wait_for_agent_silence(3.0)
        line.hang_up()

    scene = await play(caller=press)
    assert [text for role, text in scene.told(1) if role == "user"] == [
        "(The caller pressed the key 4.)",
        "(The caller pressed the key 2.)",
    ]
    assert scene.state.digits == 2
