"""What a process keeps of calls that have ended is bounded; the journal answers for the others."""

from __future__ import annotations

import pytest
import trio
from actors_scenes import AGENT, script

from callrt.actors import desk
from callrt.testing.carrier import Line
from callrt.testing.model_server import EmulatedModel
from callrt.testing.world import open_world


async def greeted(line: Line) -> None:
    await line.wait_for_agent_silence()
    line.hang_up()


async def test_ended_calls_that_are_remembered_are_bounded(
    autojump_clock: object, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Found by the soak: a thousand ended calls were kept, eight kilobytes each."""
    monkeypatch.setattr(desk, "ENDED_KEPT", 2)
    async with open_world(EmulatedModel(script()), agent=AGENT) as world:
        calls = []
        for _ in range(4):
            calls.append(world.carrier.place(greeted))
            await calls[-1].run()
        await trio.sleep(10.0)
        kept = world.process.desk._ended
        assert list(kept) == [call.call_sid for call in calls[2:]]
        for call in calls:
            state = await world.process.desk._state(call.call_sid)
            assert state is not None
            assert state.outcome == "caller_hung_up"
