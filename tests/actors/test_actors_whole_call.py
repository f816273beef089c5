"""Whole calls in virtual time: what the caller hears, when, and whether anything is lost or said twice."""

from __future__ import annotations

from callrt.policy.settings import AgentSettings
from callrt.testing.carrier import Line
from callrt.testing.model_brain import ScriptBrain, Turn
from callrt.testing.model_server import EmulatedModel
from callrt.testing.speech import beeps
from callrt.testing.world import open_world

GREETING = "Hello, this is the clinic. How can I help?"
HOURS = "What are your opening hours?"
ANSWER = "We are open from nine to five on every weekday and from ten to two on Saturdays."

AGENT = AgentSettings("front-desk", "main", "You answer the phone for a clinic.", greeting=GREETING)


def script() -> ScriptBrain:
    return ScriptBrain([Turn(HOURS, beeps(HOURS, 7), ANSWER)], lines=[GREETING])


async def ask_and_hang_up(line: Line) -> None:
    await line.wait_for_agent_silence()
    await line.say(beeps(HOURS, 7))
    await line.wait_for_agent_silence(1.0)
    line.hang_up()


async def test_call_is_answered_bridged_and_ended(autojump_clock: object) -> None:
    model = EmulatedModel(script())
    async with open_world(model, agent=AGENT) as world:
        call = world.carrier.place(ask_and_hang_up)
        await call.run()
        heard = call.tape.agent_audio()
        said = b"".join(item.audio for item in model.sessions[0].items.values() if item.role == "assistant")
    state = await world.state(call.call_sid)
    assert call.end_reason == "caller_hung_up"
    assert state.outcome == "caller_hung_up"
    assert [(line.role, line.text) for line in state.lines] == [
        ("agent", GREETING),
        ("caller", HOURS),
        ("agent", ANSWER),
    ]
    assert heard.rstrip(b"\xff") == said.rstrip(b"\xff")
    assert call.alerts == []
