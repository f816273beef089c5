"""A call that has ended is freed at once: nothing of it waits for a garbage collection, which would stop the others."""

from __future__ import annotations

import gc
from collections import Counter
from typing import Any

import pytest
import trio
from actors_scenes import AGENT, BOOK, HOURS, saying, script, voice
from test_actors_deaths import crashing

from callrt.agents import tool
from callrt.policy.settings import Resilience
from callrt.testing.carrier import Drop, Line
from callrt.testing.model_faults import Fault, FaultPlan, Trigger
from callrt.testing.model_server import EmulatedModel
from callrt.testing.world import World, open_world

CALLS = 20
OURS = ("callrt.actors.", "callrt.protocol.", "callrt.supervision.")
SHARED = ("callrt.protocol.records.", "callrt.protocol.call_state.")
"""The journal's, and of calls that the carrier may still ask about."""


pytestmark = pytest.mark.usefixtures("no_collector")


def things() -> Counter[str]:
    """What is alive of actors and their parts, by type."""
    found: Counter[str] = Counter()
    for thing in gc.get_objects():
        kind = type(thing)
        name = f"{kind.__module__}.{kind.__qualname__}"
        if name.startswith(OURS) and not name.startswith(SHARED):
            found[name] += 1
        elif kind is trio.lowlevel.Task and not thing.name.startswith("callrt.testing."):
            found[thing.name.rpartition("/")[2]] += 1
    return found


async def book(day: str) -> str:
    """Book.

    Args:
        day: Which day.
    """
    await trio.sleep(0.5)
    return f"booked for {day}"


async def place(world: World, calls: int, **how: Any) -> None:
    for _ in range(calls):
        await world.carrier.place(saying(HOURS, BOOK, silence=4.0), **how).run()
    await trio.sleep(12)
    assert world.desk.live_calls == 0


async def left_of(
    calls: int, *faults: Fault, agent: Any = AGENT, resilience: Resilience | None = None, **how: Any
) -> dict[str, int]:
    """What is alive after so many calls and was not after the first two, once per two calls at least."""
    model = EmulatedModel(script(), plan=FaultPlan(faults), keep_sessions=1)
    tools = {"book": tool(book)}
    async with open_world(model, agent=agent, resilience=resilience, tools=tools) as world:
        await place(world, 2, **how)
        before = things()
        await place(world, calls, **how)
        return {name: count for name, count in (things() - before).items() if count >= calls // 2}


async def test_nothing_of_calls_that_have_ended_is_left(autojump_clock: Any) -> None:
    assert await left_of(CALLS) == {}


async def test_nothing_is_left_of_sessions_that_were_lost(autojump_clock: Any) -> None:
    lost = [Fault("close", Trigger(connection=n, reply=1, audio_ms=600)) for n in range(1, 40, 2)]
    assert await left_of(6, *lost) == {}


async def test_what_a_living_call_holds_does_not_grow_with_its_turns(autojump_clock: Any) -> None:
    seen: dict[int, Counter[str]] = {}

    async def talk(line: Line) -> None:
        await line.wait_for_agent_silence()
        for turn in range(30):
            await line.say(voice(HOURS))
            await line.wait_for_agent()
            if turn % 2:
                await line.wait_for_agent_silence()
                seen[turn] = things()

    async with open_world(EmulatedModel(script(), keep_sessions=1), agent=AGENT) as world:
        await world.carrier.place(talk).run()
    assert seen[9]["callrt.protocol.transcript.Transcript"] == 1
    assert {name: count for name, count in (seen[29] - seen[9]).items() if count > 3} == {}


async def test_nothing_is_left_of_sessions_that_were_renewed(autojump_clock: Any) -> None:
    assert await left_of(6, resilience=Resilience(model_rotate_minutes=0.05)) == {}


@pytest.mark.parametrize("how", ["rst", "half_open"])
async def test_nothing_is_left_of_streams_that_were_dropped(how: Any, autojump_clock: Any) -> None:
    assert await left_of(6, drops=(Drop(how, heard_ms=2000),)) == {}


@pytest.mark.parametrize("actor", ["playback", "model", "carrier", "journal"])
async def test_nothing_is_left_of_actors_that_crashed(
    actor: str, monkeypatch: pytest.MonkeyPatch, autojump_clock: Any
) -> None:
    crashing(monkeypatch, actor, after=3.0, times=3)
    assert await left_of(6) == {}


async def test_nothing_is_left_of_calls_that_are_given_to_another_process(autojump_clock: Any) -> None:
    model = EmulatedModel(script(), keep_sessions=1)
    async with open_world(model, agent=AGENT) as world:
        await trio.sleep(1)
        before = things()
        async with trio.open_nursery() as nursery:
            for _ in range(6):
                nursery.start_soon(world.carrier.place(saying(HOURS, silence=60.0)).run)
            await trio.sleep(8)
            assert things() - before
            for call_sid in list(world.desk._calls):
                world.desk._calls[call_sid].leave()
            await trio.sleep(8)
            nursery.cancel_scope.cancel()
        with trio.fail_after(300):
            while world.desk.live_calls:
                await trio.sleep(1)
        await trio.sleep(12)
        left = {name: count for name, count in (things() - before).items() if count >= 3}
    assert left == {}
