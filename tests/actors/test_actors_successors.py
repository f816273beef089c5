"""G3, G7, G8, G11 with several processes on one journal: calls move on, and each gets one end."""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from typing import Any

import attrs
import pytest
import trio
from actors_scenes import AGENT, ANSWER, GREETING, HOURS, Scene, play, saying, script, voice

from callrt.actors import sweeper
from callrt.journal import MemoryStore
from callrt.policy import facts
from callrt.policy.settings import Resilience
from callrt.protocol.records import CallAccepted
from callrt.testing.carrier import Drop, Habits, Line, PhoneCall
from callrt.testing.model_brain import words_of
from callrt.testing.model_server import EmulatedModel
from callrt.testing.world import World, open_world

PATIENT = Habits(webhook_attempts=60, webhook_retry_seconds=0.1)
HEARD = len(voice(GREETING)) // 8 + 2000
SWEPT = 60.0


async def nothing(line: Line) -> None:
    await line.wait_over()


# -- the sweeper ------------------------------------------------------------------------------------------------


async def swept(*, hang_up_at: float | None, after: float = SWEPT) -> tuple[World, PhoneCall, Any]:
    """The process dies in mid-call; the carrier's question after the dead stream is never answered in time."""
    model = EmulatedModel(script())
    async with open_world(model, agent=AGENT) as world:
        call = world.carrier.place(nothing, habits=Habits(webhook_attempts=1))
        async with trio.open_nursery() as nursery:
            nursery.start_soon(call.run)
            await trio.sleep(6)
            world.process.kill()
            if hang_up_at is not None:
                await trio.sleep(hang_up_at)
                call.hang_up()
            await trio.sleep(2)
            await world.boot()
            await trio.sleep(after)
            state = await world.state(call.call_sid)
            nursery.cancel_scope.cancel()
    return world, call, state


async def test_call_that_ended_while_nobody_was_there_gets_its_outcome(autojump_clock: Any) -> None:
    _, _, state = await swept(hang_up_at=0.0)
    assert state.outcome == "caller_hung_up"
    assert state.ended_at is not None


async def test_end_that_nobody_else_wrote_is_counted(autojump_clock: Any) -> None:
    """``callrt_calls_total`` knows it; no process has one call less for it."""
    world, _, state = await swept(hang_up_at=0.0)
    counted = world.metrics.registry.get_sample_value("callrt_calls_total", {"outcome": "caller_hung_up"})
    assert counted == 1
    assert [fact.outcome for fact in world.of(facts.CallSettled)] == [state.outcome]


async def test_call_whose_carrier_forgot_it_is_lost(autojump_clock: Any) -> None:
    model = EmulatedModel(script())
    async with open_world(model, agent=AGENT) as world:
        call = world.carrier.place(nothing, habits=Habits(webhook_attempts=1))
        async with trio.open_nursery() as nursery:
            nursery.start_soon(call.run)
            await trio.sleep(6)
            world.process.kill()
            call.hang_up()
            await trio.sleep(5)
            world.carrier.forget(call)
            await world.boot()
            await trio.sleep(SWEPT)
            state = await world.state(call.call_sid)
            nursery.cancel_scope.cancel()
    assert state.outcome == "carrier_lost"


async def test_call_that_still_lives_is_asked_back(autojump_clock: Any) -> None:
    """Half-open: the carrier has not noticed that the process is gone, and would wait for ever."""
    model = EmulatedModel(script())
    async with open_world(model, agent=AGENT) as world:
        call = world.carrier.place(
            saying(HOURS, silence=40.0), drops=(Drop("half_open", heard_ms=HEARD - 2500),), habits=PATIENT
        )
        async with trio.open_nursery() as nursery:
            nursery.start_soon(call.run)
            await call.line.wait_heard_ms(HEARD - 2400)
            world.process.kill()
            await trio.sleep(1)
            await world.boot()
            with trio.move_on_after(120):
                while world.process.desk.live_calls == 0:
                    await trio.sleep(0.1)
            assert world.process.desk.live_calls == 1, "it is carried again"
            await call.over.wait()
        await trio.sleep(5)
        state = await world.state(call.call_sid)
    assert state.outcome == "caller_hung_up"
    assert len(state.streams) >= 2


async def test_carrier_that_cannot_be_asked_is_asked_again(autojump_clock: Any) -> None:
    model = EmulatedModel(script())
    async with open_world(model, agent=AGENT) as world:
        call = world.carrier.place(nothing, habits=Habits(webhook_attempts=1))
        async with trio.open_nursery() as nursery:
            nursery.start_soon(call.run)
            await trio.sleep(6)
            world.process.kill()
            call.hang_up()
            world.carrier.rest.fail_next(503, 20500, times=6)
            await world.boot()
            await trio.sleep(3 * SWEPT)
            state = await world.state(call.call_sid)
            nursery.cancel_scope.cancel()
    assert state.outcome == "caller_hung_up"


async def test_two_sweepers_write_one_end(autojump_clock: Any) -> None:
    model = EmulatedModel(script())
    async with open_world(model, agent=AGENT) as world:
        calls = [world.carrier.place(nothing, habits=Habits(webhook_attempts=1)) for _ in range(5)]
        async with trio.open_nursery() as nursery:
            for call in calls:
                nursery.start_soon(call.run)
            await trio.sleep(6)
            world.process.kill()
            for call in calls:
                call.hang_up()
            await world.boot()
            await world.boot()
            await trio.sleep(SWEPT)
            nursery.cancel_scope.cancel()
        ends = [
            sum(
                type(entry.record).__name__ == "CallEnded"
                for entry in world.disk.read_call(c.call_sid).entries
            )
            for c in calls
        ]
    assert ends == [1] * 5


async def test_quiet_call_of_a_living_process_is_left_alone(autojump_clock: Any) -> None:
    async def quiet(line: Line) -> None:
        await line.wait_for_agent_silence(50.0)
        line.hang_up()

    async def another(world: World, call: PhoneCall) -> None:
        await trio.sleep(2)
        first = world.process
        await world.boot()
        await trio.sleep(45)
        assert first.desk.live_calls == 1

    scene = await play(during=another, caller=quiet)
    assert len(scene.state.streams) == 1
    assert scene.state.outcome == "caller_hung_up"
    assert scene.world.carrier.rest.requests == []


# -- the greatest length ------------------------------------------------------------------------------------------

SHORT = Resilience(max_call_seconds=12.0, carrier_return_seconds=60.0)
PROMISED = SHORT.max_call_seconds + 5.0


async def cut(by: Callable[[World, PhoneCall], Awaitable[None]], at: float = 6.0) -> tuple[World, Any]:
    """``by`` does something ``at`` seconds into the call; its carrier waits for ever. Also: the call, by its limit."""
    async with open_world(EmulatedModel(script()), agent=AGENT, resilience=SHORT) as world:
        call = world.carrier.place(nothing, habits=Habits(webhook_attempts=1))
        async with trio.open_nursery() as nursery:
            began = trio.current_time()
            nursery.start_soon(call.run)
            await trio.sleep(at)
            await by(world, call)
            await trio.sleep_until(began + PROMISED)
            state = await world.state(call.call_sid)
            nursery.cancel_scope.cancel()
    return world, state


async def restart(world: World, call: PhoneCall) -> None:
    world.process.kill()
    await world.boot()


async def restart_without_carrier(world: World, call: PhoneCall) -> None:
    await restart(world, call)
    world.carrier.rest.fail_next(503, 20500, times=1_000)


async def restart_late(world: World, call: PhoneCall) -> None:
    world.process.kill()
    await trio.sleep(3.0)
    await world.boot()


async def die_beside_another(world: World, call: PhoneCall) -> None:
    """The carrier goes on asking the dead one."""
    await world.boot()
    await trio.sleep(2.0)
    world.processes.reverse()
    world.process.kill()


async def freeze_beside_another(world: World, call: PhoneCall) -> None:
    """It is not proven to be gone; it only says nothing more."""
    await die_beside_another(world, call)
    assert isinstance(world.disk, MemoryStore)
    world.disk._gone.clear()


@pytest.mark.parametrize(
    ("by", "at"),
    [
        (restart, 6.0),
        (restart, 11.9),
        (restart_late, 11.0),
        (restart_without_carrier, 6.0),
        (die_beside_another, 9.9),
        (freeze_beside_another, 9.9),
    ],
)
async def test_call_of_a_dead_process_ends_by_its_greatest_length(
    by: Callable[[World, PhoneCall], Awaitable[None]], at: float, autojump_clock: Any
) -> None:
    """However long its carrier may take to return, and whether it answers or not."""
    _, state = await cut(by, at)
    assert state.outcome is not None


async def test_call_at_its_limit_is_ended_by_the_living_process_that_carries_it(autojump_clock: Any) -> None:
    async def another(world: World, call: PhoneCall) -> None:
        await world.boot()

    world, state = await cut(another)
    assert state.outcome == "max_duration"
    assert world.of(facts.CallSettled) == []
    assert [method for method, _, _ in world.carrier.rest.requests] == ["POST"], (
        "its hang-up: nobody else asked"
    )


async def test_wall_clock_that_jumps_ends_no_call_before_its_time(autojump_clock: Any) -> None:
    """Also none of a dead process, which its carrier may still bring back."""

    async def jump(world: World, call: PhoneCall) -> None:
        world.process.kill()
        process = await world.boot()
        await trio.sleep(0.1)
        process.desk._attendants.sweeper.now = lambda: world.now() + 3600.0
        await trio.sleep(5.5)
        assert (await world.state(call.call_sid)).outcome is None

    _, state = await cut(jump, 4.0)
    assert state.outcome is not None


async def test_calls_of_a_dead_process_end_though_the_carrier_answers_for_none(autojump_clock: Any) -> None:
    """More than are seen to at the same time: those that hang for long hold up no end."""
    quick = attrs.evolve(SHORT, carrier_return_seconds=1.0, max_call_seconds=30.0)
    many = sweeper.AT_ONCE_MAX + 10
    async with open_world(EmulatedModel(script()), agent=AGENT, resilience=quick) as world:
        accepted = CallAccepted(carrier="twilio", agent=AGENT.name, caller="+1", called="+2")
        for number in range(many):
            await world.process.journal.append(f"CA{number:032}", accepted)
        began = trio.current_time()
        world.process.kill()
        await world.boot()
        world.process.desk._attendants.sweeper.rest = Silent()
        await trio.sleep_until(began + quick.max_call_seconds + 5.0)
        assert world.disk.list_live(limit=1) == []


class Silent:
    """A carrier that answers nothing."""

    async def how_it_ended(self, call_sid: str) -> str | None:
        await trio.sleep_forever()
        raise AssertionError

    ask_again = hang_up = how_it_ended


# -- two at a time --------------------------------------------------------------------------------------------------


async def test_process_that_offered_a_stream_to_another_does_not_end_the_call(autojump_clock: Any) -> None:
    """One process answers the webhook, the stream comes to its sibling."""

    async def sibling(world: World, call: PhoneCall) -> None:
        await trio.sleep(0.3)  # the document is on its way to the carrier
        await world.boot()

    scene = await play(
        during=sibling, caller=saying(HOURS, silence=25.0), latency=0.2, resilience=Resilience(), strict=False
    )
    assert scene.call.end_reason == "caller_hung_up"
    assert scene.state.outcome == "caller_hung_up"
    assert [s.process for s in scene.state.streams] == ["process-2"]
    assert scene.world.of(facts.CallReleased), "the first one lets go of it in silence"
    assert scene.world.carrier.rest.requests == []


# -- moving on ------------------------------------------------------------------------------------------------------


async def moved(
    drain_at: float, *, drain_seconds: float = 30.0, agent: Any = AGENT
) -> tuple[Scene, list[float]]:
    times: list[float] = []

    async def deploy(world: World, call: PhoneCall) -> None:
        await trio.sleep(1)
        old = world.process
        await world.boot()
        await trio.sleep(max(0.0, drain_at - 1))
        began = trio.current_time()
        await old.desk.drain(drain_seconds)
        times.append(trio.current_time() - began)
        assert old.desk.live_calls == 0

    scene = await play(
        during=deploy, caller=saying(HOURS, silence=9.0), agent=agent, habits=PATIENT, strict=False
    )
    return scene, times


@pytest.mark.parametrize("drain_at", [2.0, 3.5, 5.0, 7.0, 8.5, 11.0])
async def test_draining_process_hands_its_call_on_between_words(drain_at: float, autojump_clock: Any) -> None:
    scene, times = await moved(drain_at)
    assert times, "the old process was done while the call went on"
    assert scene.state.outcome == "caller_hung_up"
    assert [s.process for s in scene.state.streams] == ["process-1", "process-2"]
    assert scene.state.streams[0].reason == "moved"
    assert scene.transcript() == [("agent", GREETING), ("caller", HOURS), ("agent", ANSWER)]
    assert scene.twice() == scene.unheard() == 0
    assert scene.line_starts() == []


async def test_call_that_never_pauses_is_moved_at_the_end_of_the_drain(autojump_clock: Any) -> None:
    scene, times = await moved(7.5, drain_seconds=2.5)
    assert times
    assert times[0] < 10
    assert scene.state.outcome == "caller_hung_up"
    assert [s.process for s in scene.state.streams] == ["process-1", "process-2"]
    missing = [word for word in words_of(ANSWER) if word not in words_of(scene.agent_words())]
    assert len(missing) <= 1


async def test_draining_without_a_successor_ends_politely(autojump_clock: Any) -> None:
    async def stop(world: World, call: PhoneCall) -> None:
        await trio.sleep(6)
        await world.desk.drain(5)

    scene = await play(during=stop, caller=saying(HOURS, silence=60.0), strict=False)
    assert scene.state.outcome == "completed"
    assert len(scene.line_starts("goodbye")) == 1


async def test_new_call_at_a_process_that_hands_over_is_taken_by_the_other(autojump_clock: Any) -> None:
    async def deploy(world: World, call: PhoneCall) -> None:
        old = world.process
        await world.boot()
        await trio.sleep(5)
        async with trio.open_nursery() as nursery:
            world.processes.reverse()  # a kept-alive connection: the carrier still asks the old one
            nursery.start_soon(old.desk.drain, 30)
            await trio.sleep(0.5)
            late = world.carrier.place(saying(HOURS))
            nursery.start_soon(late.run)
            await trio.sleep(0.005)
            world.processes.reverse()
            await late.over.wait()
        await trio.sleep(5)
        outcomes.append((await world.state(late.call_sid)).outcome)

    outcomes: list[str] = []
    await play(during=deploy, caller=saying(HOURS, silence=60.0), latency=0.002, strict=False)
    assert outcomes == ["caller_hung_up"]
