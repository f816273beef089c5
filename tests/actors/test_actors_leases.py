"""G7: one process speaks for a call. What a process does that was succeeded, or that cannot claim a call."""

from __future__ import annotations

from typing import Any

import attrs
import trio
from actors_scenes import AGENT, ANSWER, GREETING, HOURS, Scene, play, saying, script

from callrt.actors.leases import LOOK_SECONDS
from callrt.journal.errors import StoreFailed
from callrt.policy import facts, limits
from callrt.policy.settings import Resilience
from callrt.testing.carrier import Drop, Habits, PhoneCall
from callrt.testing.links import MemoryTransport
from callrt.testing.model_brain import words_of
from callrt.testing.model_server import EmulatedModel
from callrt.testing.sim.case import DiskTrouble
from callrt.testing.sim.disk import SimDisk
from callrt.testing.world import World, open_world

PATIENT = Habits(webhook_attempts=60, webhook_retry_seconds=0.1)
FULL = DiskTrouble(0.0, 0.0, "full")
ASKED_AT = 0.8
"""Of the greeting has been heard."""


def sent(call: PhoneCall, stream: int) -> list[float]:
    """When media came from the service on this stream."""
    return [e.at for e in call.wire if not e.sent and e.kind == "media" and e.stream == stream]


# -- a process that was succeeded ---------------------------------------------------------------------------------


async def test_process_that_was_succeeded_falls_silent_within_a_look(autojump_clock: Any) -> None:
    """It has a long answer to say, and nothing to write; its stream stays open."""
    scene = await play(
        caller=saying(HOURS, silence=6.0),
        habits=PATIENT,
        during=_second_process_takes_over(5.0),
        strict=False,
    )
    first, second = sent(scene.call, 1), sent(scene.call, 2)
    assert second, "the second process speaks"
    assert max(first) <= min(second) + LOOK_SECONDS + 0.05
    assert [part.process for part in scene.state.streams] == ["process-1", "process-2"]
    assert len(scene.world.of(facts.CallReleased)) == 1


def _second_process_takes_over(at: float) -> Any:
    async def during(world: World, call: PhoneCall) -> None:
        await trio.sleep(at)
        await world.boot()
        call.repeat_voice_webhook()

    return during


async def test_look_at_the_leases_is_one_question_for_all_calls(autojump_clock: Any) -> None:
    asked: list[int] = []

    async def during(world: World, call: PhoneCall) -> None:
        read = world.disk.read_leases

        def noted(call_sids: Any) -> Any:
            asked.append(len(call_sids))
            return read(call_sids)

        world.disk.read_leases = noted  # type: ignore[method-assign]
        others = [world.carrier.place(saying(HOURS)) for _ in range(3)]
        async with trio.open_nursery() as nursery:
            for other in others:
                nursery.start_soon(other.run)

    scene = await play(during=during)
    assert 4 in asked
    assert len(asked) <= scene.seconds / LOOK_SECONDS + 10


# -- a process that was asked, and not needed ------------------------------------------------------------------------


async def test_process_that_was_only_asked_leaves_the_call_to_the_one_that_carries_it(
    autojump_clock: Any,
) -> None:
    """The carrier's question comes twice, and its stream stays where it was."""

    async def twice(world: World, call: PhoneCall) -> None:
        await trio.sleep(2)
        first = world.process
        second = await world.boot()
        await second.desk.stream_ended(call.call_sid)
        assert second.desk.live_calls == 1
        await trio.sleep(Resilience().carrier_return_seconds + 5)
        assert (first.desk.live_calls, second.desk.live_calls) == (1, 0)

    scene = await play(during=twice, caller=saying(HOURS, HOURS, silence=14.0), strict=False)
    assert scene.state.outcome == scene.call.end_reason == "caller_hung_up"
    assert [part.process for part in scene.state.streams] == ["process-1"]
    assert scene.world.carrier.rest.requests == [], "nobody hung up on the caller"


async def test_successor_whose_stream_never_comes_asks_the_carrier_how_the_call_ended(
    autojump_clock: Any,
) -> None:
    """The caller hangs up between the carrier's question and its stream."""
    model = EmulatedModel(script())
    async with open_world(model, agent=AGENT) as world:
        call = world.carrier.place(saying(HOURS), habits=Habits(webhook_attempts=1))
        async with trio.open_nursery() as nursery:
            nursery.start_soon(call.run)
            await trio.sleep(4)
            world.process.kill()
            call.hang_up()
            await trio.sleep(1)
            await world.boot()
            await world.desk.stream_ended(call.call_sid)
            await trio.sleep(Resilience().carrier_return_seconds + 1)
            state = await world.state(call.call_sid)
            nursery.cancel_scope.cancel()
    assert state is not None
    assert state.outcome == "caller_hung_up"


# -- no journal to claim in ------------------------------------------------------------------------------------------


async def taken_over(*, die: bool, back_after: float | None) -> tuple[Scene, SimDisk, list[float]]:
    """The disk is full; then the second process is asked for the call. The first one dies, or it does not."""
    disk = SimDisk()
    times: list[float] = []
    model = EmulatedModel(script())
    with trio.fail_after(300):
        async with open_world(model, agent=AGENT, disk=disk) as world:
            call = world.carrier.place(saying(HOURS, silence=6.0), habits=PATIENT)
            async with trio.open_nursery() as nursery:
                nursery.start_soon(call.run)
                await call.line.wait_heard_ms(int(1000 * ASKED_AT))
                disk.trouble = FULL
                old = world.process
                if die:
                    old.kill()
                await world.boot()
                times.append(trio.current_time())
                if not die:
                    call.repeat_voice_webhook()
                if back_after is not None:
                    await trio.sleep(back_after)
                    disk.trouble = None
                    times.append(trio.current_time())
                await call.over.wait()
                disk.trouble = None
                await trio.sleep(10)
            state = await world.state(call.call_sid)
    assert state is not None
    return Scene(world, call, model, state, 0.0), disk, times


async def test_full_disk_does_not_silence_the_successor_of_a_dead_process(autojump_clock: Any) -> None:
    """Nobody else can be speaking: that is proven, though no lease can be claimed."""
    scene, disk, times = await taken_over(die=True, back_after=None)
    assert disk.failures
    assert min(sent(scene.call, 2)) < times[0] + 2.0
    assert words_of(ANSWER)[-1] in words_of(scene.agent_words())
    assert scene.state.outcome == "caller_hung_up"


async def test_full_disk_does_not_silence_the_successor_of_one_that_died_before_the_first_stream(
    autojump_clock: Any,
) -> None:
    """Who had the call is not written down: everybody else is gone."""
    disk = SimDisk()
    model = EmulatedModel(script())
    async with open_world(model, agent=AGENT, disk=disk, latency=0.2) as world:
        call = world.carrier.place(saying(HOURS), habits=PATIENT)
        async with trio.open_nursery() as nursery:
            nursery.start_soon(call.run)
            await trio.sleep(0.3)  # the document is on its way to the carrier
            disk.trouble = FULL
            await world.boot()
            await trio.sleep(0.2)
            world.processes[0].kill()
            await call.over.wait()
            assert disk.failures
            disk.trouble = None
            await trio.sleep(10)
        state = await world.state(call.call_sid)
    assert state is not None
    assert state.outcome == "caller_hung_up"
    assert [part.process for part in state.streams] == ["process-2"]
    assert words_of(ANSWER)[-1] in words_of(" ".join(line.text for line in state.lines))


async def test_lease_that_could_not_be_claimed_is_claimed_when_the_disk_has_room(autojump_clock: Any) -> None:
    scene, _, times = await taken_over(die=True, back_after=4.0)
    assert min(sent(scene.call, 2)) < times[1], "it spoke before"
    assert [part.lease_epoch for part in scene.state.streams] == [1, 2]
    assert [part.process for part in scene.state.streams] == ["process-1", "process-2"]
    assert scene.state.outcome == "caller_hung_up"
    assert words_of(ANSWER)[-1] in words_of(scene.agent_words()), "what was said meanwhile is remembered"


async def test_nobody_speaks_for_a_call_that_another_living_process_may_speak_for(
    autojump_clock: Any,
) -> None:
    """The first process lives, and no journal can say that the call is the second one's: silence until it can."""
    scene, _, times = await taken_over(die=False, back_after=4.0)
    second = sent(scene.call, 2)
    assert min(second) >= times[1], "not a word before the claim"
    assert min(second) <= times[1] + 1.0, "and soon after it"
    assert [part.lease_epoch for part in scene.state.streams] == [1, 2]
    assert words_of(ANSWER)[-1] in words_of(scene.agent_words())
    assert scene.state.outcome == "caller_hung_up"


async def test_call_that_was_here_goes_on_while_the_journal_takes_nothing(autojump_clock: Any) -> None:
    """Its stream drops and comes back to the same process: that one had the call, and needs no leave."""
    disk = SimDisk()
    model = EmulatedModel(script())
    async with open_world(model, agent=AGENT, disk=disk) as world:
        call = world.carrier.place(saying(HOURS), drops=(Drop("rst", heard_ms=1500),), habits=PATIENT)
        async with trio.open_nursery() as nursery:
            nursery.start_soon(call.run)
            await call.line.wait_heard_ms(1000)
            disk.trouble = FULL
            await call.line.wait_for_agent_silence(1.0)
            disk.trouble = None
            await call.over.wait()
            await trio.sleep(10)
        state = await world.state(call.call_sid)
    assert state is not None
    assert [part.lease_epoch for part in state.streams] == [1, 2], "the claim was made up for"
    assert state.outcome == "caller_hung_up"
    assert words_of(GREETING + ANSWER)[-1] in words_of(" ".join(line.text for line in state.lines))


async def unreadable(seconds: float) -> tuple[PhoneCall, Any, float]:
    """The process dies, and for so long its successor cannot read what it was about. Also: how long the call lived."""
    disk = SimDisk()
    model = EmulatedModel(script())
    async with open_world(model, agent=AGENT, disk=disk) as world:
        call = world.carrier.place(saying(HOURS, silence=6.0), habits=PATIENT)
        async with trio.open_nursery() as nursery:
            nursery.start_soon(call.run)
            await call.line.wait_heard_ms(int(1000 * ASKED_AT))
            disk.fault = StoreFailed("unreadable")
            world.process.kill()
            await world.boot()
            died_at = trio.current_time()
            with trio.move_on_after(seconds):
                await call.over.wait()
            disk.fault = None
            await call.over.wait()
            lived = trio.current_time() - died_at
            await trio.sleep(40)
        state = await world.state(call.call_sid)
    return call, state, lived


async def test_call_that_cannot_be_read_is_asked_about_again(autojump_clock: Any) -> None:
    call, state, _ = await unreadable(5.0)
    assert call.end_reason == state.outcome == "caller_hung_up"
    words = words_of(" ".join(line.text for line in state.lines if line.role == "agent"))
    assert words_of(GREETING)[-1] in words, "the greeting that was cut went on"
    assert len(state.streams) == 2


async def test_call_that_stays_unreadable_ends_when_its_patience_does(autojump_clock: Any) -> None:
    patience = Resilience().carrier_return_seconds
    call, state, lived = await unreadable(60.0)
    assert call.end_reason == "app_hung_up"
    assert patience <= lived <= patience + 3.0
    assert state.outcome is not None, "the sweeper's"


# -- a process that was frozen ----------------------------------------------------------------------------------------


async def test_frozen_process_without_a_journal_speaks_when_it_hears_the_carrier(autojump_clock: Any) -> None:
    """Nothing can be asked when it wakes; a carrier that goes on sending here is here."""
    times: list[float] = []

    async def during(world: World, call: PhoneCall) -> None:
        await trio.sleep(2.0)
        assert call.stream is not None
        world.disk.fault = StoreFailed("unreadable")  # type: ignore[attr-defined]
        world.process.pulse.at -= 10.0  # as if it had slept
        times.append(trio.current_time())
        await trio.sleep(8.0)
        world.disk.fault = None  # type: ignore[attr-defined]

    scene = await play(during=during, agent=attrs.evolve(AGENT, greeting=ANSWER), strict=False)
    after = [at for at in sent(scene.call, 1) if at > times[0]]
    assert min(after) >= times[0] + 1.0, "silent until it is known"
    assert min(after) <= times[0] + 1.2
    assert scene.state.outcome == "caller_hung_up"


async def test_frozen_process_whose_carrier_has_gone_says_nothing_without_a_journal(
    autojump_clock: Any,
) -> None:
    times: list[float] = []

    async def during(world: World, call: PhoneCall) -> None:
        await trio.sleep(2.0)
        assert call.stream is not None
        transport = call.stream._transport
        assert isinstance(transport, MemoryTransport)
        transport.freeze()  # nothing arrives any more, and nobody says that it is over
        world.disk.fault = StoreFailed("unreadable")  # type: ignore[attr-defined]
        world.process.pulse.at -= 10.0
        times.append(trio.current_time())
        await trio.sleep(limits.CARRIER_STALLED_AFTER)
        world.disk.fault = None  # type: ignore[attr-defined]
        transport.thaw()

    scene = await play(
        during=during, agent=attrs.evolve(AGENT, greeting=ANSWER), strict=False, habits=PATIENT
    )
    early = [
        at for at in sent(scene.call, 1) if times[0] + 0.1 < at < times[0] + limits.CARRIER_STALLED_AFTER
    ]
    assert early == []
