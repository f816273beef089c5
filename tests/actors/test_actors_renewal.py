"""The model's session is renewed before the provider ends it, and nobody hears it."""

from __future__ import annotations

from typing import Any

import pytest
import trio
from actors_scenes import ANSWER, BOOK, BOOKED, GREETING, HOURS, Scene, play, saying, voice

from callrt.policy import facts
from callrt.policy.settings import Resilience
from callrt.testing.carrier import Line, PhoneCall
from callrt.testing.model_brain import ScriptBrain, Turn
from callrt.testing.model_faults import Fault, Trigger
from callrt.testing.world import World

EARLY = Resilience(model_rotate_minutes=0.05)
"""Three seconds: the greeting is not over by then."""


def brain() -> ScriptBrain:
    return ScriptBrain([Turn(HOURS, voice(HOURS), ANSWER), Turn(BOOK, voice(BOOK), BOOKED)], lines=[GREETING])


def inaudible(scene: Scene) -> None:
    assert scene.twice() == scene.unheard() == 0
    assert scene.line_starts() == []
    assert scene.world.of(facts.ActorRestarted) == []
    assert scene.state.outcome == "caller_hung_up"
    assert scene.transcript() == [
        ("agent", GREETING),
        ("caller", HOURS),
        ("agent", ANSWER),
        ("caller", BOOK),
        ("agent", BOOKED),
    ]


async def test_renewed_session_goes_on_unheard(autojump_clock: Any) -> None:
    scene = await play(caller=saying(HOURS, BOOK, silence=6.0), resilience=EARLY, brain=brain(), latency=0.05)
    inaudible(scene)
    renewed = [session for session in scene.state.model_sessions if session.reason == "renewed"]
    assert len(renewed) >= 2
    opened = {session.number: session.opened_at for session in scene.state.model_sessions}
    for session in renewed:
        assert min(at for number, at in opened.items() if number > session.number) <= session.ended_at
    assert scene.told(len(scene.model.sessions)), "the last one knows the conversation"
    assert max(fact.seconds for fact in scene.world.of(facts.DeadAir)) < 2.0


@pytest.mark.parametrize("pause", [round(2.4 + 0.04 * n, 2) for n in range(16)])
async def test_caller_who_speaks_across_the_switch_is_heard_once(pause: float, autojump_clock: Any) -> None:
    async def talk(line: Line) -> None:
        await line.wait_for_agent_silence(pause)
        await line.say(voice(HOURS))
        await line.wait_for_agent_silence(pause)
        await line.say(voice(BOOK))
        await line.wait_for_agent_silence(4.0)
        line.hang_up()

    scene = await play(caller=talk, resilience=EARLY, brain=brain(), latency=0.1)
    inaudible(scene)


@pytest.mark.parametrize("kind", ["refuse", "close"])
async def test_successor_that_fails_costs_nothing(kind: str, autojump_clock: Any) -> None:
    fault = (
        Fault("refuse", Trigger(connection=2))
        if kind == "refuse"
        else Fault("close", Trigger(connection=2), code=1011)
    )
    scene = await play(
        fault, caller=saying(HOURS, BOOK, silence=8.0), resilience=EARLY, brain=brain(), strict=False
    )
    inaudible(scene)


async def test_one_session_at_a_time_has_the_line(autojump_clock: Any) -> None:
    seen: list[int] = []

    async def watch(world: World, call: PhoneCall) -> None:
        while True:
            await trio.sleep(0.02)
            seen.append(world.model.live)

    scene = await play(
        caller=saying(HOURS, BOOK, silence=6.0), resilience=EARLY, brain=brain(), latency=0.05, during=watch
    )
    inaudible(scene)
    assert max(seen) == 2
    assert seen.count(2) / len(seen) < 0.3


def test_default_is_well_before_the_provider_ends_a_session() -> None:
    assert Resilience().model_rotate_minutes <= 55
