"""What a process keeps of calls that have ended is bounded; the journal answers for the others, also at the door."""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any

import attrs
import pytest
import trio
from actors_scenes import AGENT, script

from callrt.actors import desk
from callrt.journal.errors import StoreFailed
from callrt.journal.store import MemoryStore
from callrt.protocol.call_state import CallState
from callrt.service.tokens import PathTokens
from callrt.telephony.signatures import HEADER, sign
from callrt.testing.carrier import Line
from callrt.testing.carrier_call import PhoneCall
from callrt.testing.model_server import EmulatedModel
from callrt.testing.world import World, open_world
from callrt.testing.world_process import TOKEN
from callrt.wire.websocket import UpgradeRefused


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


# -- at the door ----------------------------------------------------------------------------------------------------


async def is_let_in(world: World, call_sid: str, generation: int) -> bool:
    """Whether the upgrade of a media socket with this token, signed as by the carrier, is answered with 101."""
    url = world.urls.media(PathTokens(TOKEN).issue(call_sid, generation))
    try:
        async with world.process.open_media(url, [(HEADER.lower().encode(), sign(TOKEN, url).encode())]):
            return True
    except UpgradeRefused:
        return False


@asynccontextmanager
async def talking(world: World) -> AsyncIterator[PhoneCall]:
    """A call whose caller has begun to hear the agent; afterwards he is gone."""
    call = world.carrier.place(greeted)
    async with trio.open_nursery() as nursery:
        nursery.start_soon(call.run)
        await call.line.wait_heard_ms(500)
        yield call
        nursery.cancel_scope.cancel()


async def ended_call(world: World) -> str:
    call = world.carrier.place(greeted)
    await call.run()
    await trio.sleep(10.0)
    return call.call_sid


async def test_used_token_is_refused_at_the_upgrade_by_another_process(autojump_clock: object) -> None:
    async with open_world(EmulatedModel(script()), agent=AGENT) as world:
        call_sid = await ended_call(world)
        assert not await is_let_in(world, call_sid, 1)
        world.process.kill()
        await world.boot()
        assert not await is_let_in(world, call_sid, 1)
        assert world.bad_input()["used_token"] == 2


async def test_used_token_is_refused_at_the_upgrade_when_its_call_is_forgotten(
    autojump_clock: object, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(desk, "ENDED_KEPT", 0)
    async with open_world(EmulatedModel(script()), agent=AGENT) as world:
        assert not await is_let_in(world, await ended_call(world), 1)


async def test_token_of_a_call_that_nobody_knows_is_refused_at_the_upgrade(autojump_clock: object) -> None:
    async with open_world(EmulatedModel(script()), agent=AGENT) as world:
        assert not await is_let_in(world, "CA" + "9" * 32, 1)


async def test_call_of_a_dead_process_takes_a_new_token_and_no_used_one(autojump_clock: object) -> None:
    async with open_world(EmulatedModel(script()), agent=AGENT) as world:
        async with talking(world) as call:
            world.process.kill()
        await world.boot()
        assert not await is_let_in(world, call.call_sid, 1)
        assert await is_let_in(world, call.call_sid, 2)


async def test_upgrade_waits_for_no_journal(autojump_clock: object) -> None:
    """One that fails or hangs: the stream is let in, and its claim decides."""

    class Hanging:
        async def read(self, call_sid: str) -> CallState | None:
            await trio.sleep_forever()
            raise AssertionError

    disk = MemoryStore()
    async with open_world(EmulatedModel(script()), agent=AGENT, disk=disk) as world:
        call_sid = await ended_call(world)
        world.process.kill()
        await world.boot()
        disk.fault = StoreFailed("unreadable")
        assert await is_let_in(world, call_sid, 1)
        disk.fault = None
        hanging: Any = Hanging()
        world.desk._ports = attrs.evolve(world.desk._ports, journal=hanging)
        began = trio.current_time()
        assert await is_let_in(world, call_sid, 1)
        assert trio.current_time() - began == pytest.approx(desk.EXPECTED_SECONDS)


async def test_upgrade_for_a_call_that_is_here_asks_nobody(autojump_clock: object) -> None:
    async with open_world(EmulatedModel(script()), agent=AGENT) as world, talking(world) as call:
        asked = world.desk.expects(call.call_sid, 1)
        with pytest.raises(StopIteration) as answer:
            asked.send(None)  # a checkpoint would be yielded here
        assert answer.value.value is False
