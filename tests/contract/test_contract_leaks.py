"""After any number of calls the living tasks are those that were there before: in virtual time, with all the parts."""

from __future__ import annotations

import trio

from callrt.policy import facts
from callrt.policy.settings import AgentSettings
from callrt.testing.carrier import Line
from callrt.testing.model_brain import ScriptBrain, Turn
from callrt.testing.model_server import EmulatedModel
from callrt.testing.speech import beeps
from callrt.testing.world import open_world

ASKED = "When?"
ANSWER = "At ten."
AGENT = AgentSettings("front-desk", "main", "You answer.")

GONE_AFTER = 8.0
"""Seconds, more than any part's shutdown time."""


async def ask(line: Line) -> None:
    await line.say(beeps(ASKED, 7))
    await line.wait_for_agent_silence(0.5)
    line.hang_up()


def living() -> int:
    return trio.lowlevel.current_statistics().tasks_living


async def test_contract_calls_leave_no_task(autojump_clock: object) -> None:
    model = EmulatedModel(ScriptBrain([Turn(ASKED, beeps(ASKED, 7), ANSWER)], lines=[]))
    async with open_world(model, agent=AGENT) as world:

        async def one() -> None:
            call = world.carrier.place(ask)
            await call.run()
            world.carrier.forget(call)

        await one()
        await trio.sleep(GONE_AFTER)
        before = living()
        for _ in range(200):
            await one()
        await trio.sleep(GONE_AFTER)
        assert living() == before
        async with trio.open_nursery() as nursery:
            for _ in range(100):
                nursery.start_soon(one)
        await trio.sleep(GONE_AFTER)
        assert living() == before
        assert world.desk.live_calls == 0
        assert len(world.of(facts.CallEnded)) == 301
        assert {fact.outcome for fact in world.of(facts.CallEnded)} == {"caller_hung_up"}
