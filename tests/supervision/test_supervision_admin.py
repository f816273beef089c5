"""Conformance: calls to a running supervisor."""

from __future__ import annotations

from typing import Any

import pytest
import trio
from supervision_world import RESTARTS, STRATEGIES, World, conformance, settle

from callrt.supervision import (
    AlreadyPresent,
    AlreadyStarted,
    Backoff,
    ChildRestarting,
    ChildRunning,
    ChildSpec,
    InvalidOperation,
    NotFound,
    Restarting,
    StartFailed,
    SupervisorDown,
)


@conformance(strategy=STRATEGIES)
async def test_adm_1_same_id_is_already_started_or_already_present(world: World, strategy: str) -> None:
    sup = world.supervisor((), strategy)
    async with world.up(sup):
        first = await sup.start_child(world.spec("a", value=1))
        with pytest.raises(AlreadyStarted) as caught:
            await sup.start_child(world.spec("a", "temporary", value=2))
        assert caught.value.handle == first
        await sup.terminate_child("a")
        with pytest.raises(AlreadyPresent):
            await sup.start_child(world.spec("a", "temporary", value=2))
        assert (await sup.restart_child("a")).value == 1
        assert sup.spec("a").restart == "permanent"
    assert world.count("attempt", "a") == 2


@conformance(strategy=[*STRATEGIES, "dynamic"], restart=RESTARTS)
async def test_adm_2_failed_start_child_leaves_no_trace(world: World, strategy: str, restart: str) -> None:
    async def fail(ctx: Any) -> None:
        raise LookupError("no such number")

    sup = (
        world.dynamic(max_restarts=0)
        if strategy == "dynamic"
        else world.supervisor([], strategy, max_restarts=0)
    )
    async with world.up(sup):
        await sup.start_child(world.spec("a"))
        with pytest.raises(StartFailed, match="no such number") as caught:
            await sup.start_child(world.spec("b", restart, init=fail))
        assert isinstance(caught.value.__cause__, LookupError)
        assert [info.id for info in sup.which_children()] == ["a"]
        await sup.start_child(world.spec("b", restart))
        assert world.count("up", "a") == 1


@conformance(strategy=[*STRATEGIES, "dynamic"], restart=RESTARTS)
async def test_adm_3_terminated_child_has_ended_and_its_spec_is_kept(
    world: World, strategy: str, restart: str
) -> None:
    sup = world.dynamic() if strategy == "dynamic" else world.supervisor((), strategy)
    forgotten = strategy == "dynamic" or restart == "temporary"
    async with world.up(sup):
        await sup.start_child(world.spec("a", restart, cleanup=1.0))
        await settle()
        assert await sup.terminate_child("a") == "shutdown"
        assert world.times("down", "a") == [1.0]
        assert trio.current_time() == 1.0
        if forgotten:
            with pytest.raises(NotFound):
                await sup.terminate_child("a")
        else:
            assert await sup.terminate_child("a") is None
            assert sup.which_children()[0].state == "stopped"
        with pytest.raises(NotFound):
            await sup.terminate_child("nobody")


@conformance(strategy=STRATEGIES)
async def test_adm_4_restart_child_starts_a_stopped_one_only(world: World, strategy: str) -> None:
    sup = world.supervisor(world.specs("a"), strategy)
    async with world.up(sup):
        with pytest.raises(ChildRunning):
            await sup.restart_child("a")
        with pytest.raises(NotFound):
            await sup.restart_child("nobody")
        await sup.terminate_child("a")
        await sup.restart_child("a")
        assert world.count("up", "a") == 2
    dynamic = world.dynamic()
    async with world.up(dynamic):
        await dynamic.start_child(world.spec("x"))
        with pytest.raises(InvalidOperation):
            await dynamic.restart_child("x")
        with pytest.raises(InvalidOperation):
            await dynamic.delete_child("x")


@conformance(strategy=STRATEGIES)
async def test_adm_5_only_stopped_children_can_be_deleted(world: World, strategy: str) -> None:
    sup = world.supervisor([world.spec("a", backoff=Backoff(min=1.0))], strategy)
    async with world.up(sup):
        with pytest.raises(ChildRunning):
            await sup.delete_child("a")
        with pytest.raises(NotFound):
            await sup.delete_child("nobody")
        await world.crash("a")
        with pytest.raises(ChildRestarting):
            await sup.delete_child("a")
        await sup.terminate_child("a")
        await sup.delete_child("a")
        assert sup.which_children() == ()
        with pytest.raises(NotFound):
            await sup.restart_child("a")
        handle = await sup.start_child(world.spec("a"))
        assert sup.ref("a") == handle.ref


@conformance(strategy=STRATEGIES)
async def test_adm_6_counts_and_listing_agree_in_all_states(world: World, strategy: str) -> None:
    inner = world.nested(world.specs("x"))
    specs = [
        world.spec("up"),
        world.spec("done", "transient"),
        world.spec("wait", backoff=Backoff(min=1.0)),
        ChildSpec("in", inner.run, kind="supervisor"),
    ]
    sup = world.supervisor(specs)

    def agree(specs: int, active: int, supervisors: int) -> None:
        counts, listing = sup.count_children(), sup.which_children()
        assert (counts.specs, counts.active, counts.supervisors) == (specs, active, supervisors)
        assert counts.workers == specs - supervisors
        assert len(listing) == specs
        assert sum(info.state == "running" for info in listing) == active
        assert sum(info.kind == "supervisor" for info in listing) == supervisors

    async with world.up(sup):
        agree(4, 4, 1)
        await world.finish("done")
        agree(4, 3, 1)
        await world.crash("wait")
        agree(4, 2, 1)
        await sup.terminate_child("in")
        agree(4, 1, 1)
        await sup.delete_child("in")
        agree(3, 1, 0)
        await trio.sleep(2)
        agree(3, 2, 0)
    dynamic = world.dynamic()
    many = 2_000 if world.seed == 0 and strategy == "one_for_one" else 20
    async with world.up(dynamic):
        for n in range(many):
            await dynamic.start_child(world.spec(n, "temporary"))
            assert dynamic.count_children().active == n + 1
        for n in range(many):
            await dynamic.terminate_child(n)
            assert dynamic.count_children().specs == many - n - 1


@conformance(strategy=[*STRATEGIES, "dynamic"], call=["terminate", "stop", "query"])
async def test_adm_7_crash_loop_is_interruptible(world: World, strategy: str, call: str) -> None:
    async def fail_later(ctx: Any) -> None:
        if ctx.incarnation > 1:
            raise LookupError

    spec = world.spec("a", init=fail_later)
    many = 10**9
    sup = (
        world.dynamic(max_restarts=many)
        if strategy == "dynamic"
        else world.supervisor((), strategy, max_restarts=many)
    )
    async with world.up(sup) as ended:
        await sup.start_child(spec)
        await settle()
        world.press("a", ValueError())
        for _ in range(50):
            await trio.lowlevel.checkpoint()
        attempts = world.count("attempt", "a")
        assert attempts > 2
        if call == "terminate":
            await sup.terminate_child("a")
        elif call == "stop":
            sup.stop()
            await ended.done.wait()
        else:
            assert sup.which_children()[0].state in ("restarting", "starting")
            with pytest.raises(AlreadyPresent):
                await sup.start_child(spec)
            sup.stop()
            await ended.done.wait()
        assert world.count("attempt", "a") <= attempts + 10
        assert trio.current_time() == 0.0


@conformance(strategy=[*STRATEGIES, "dynamic"])
async def test_adm_8_ended_supervisor_fails_every_call_at_once(world: World, strategy: str) -> None:
    sup: Any = world.dynamic() if strategy == "dynamic" else world.supervisor(world.specs("a"), strategy)
    async with world.up(sup) as ended:
        sup.stop()
        await ended.done.wait()
        for call in (
            lambda: sup.start_child(world.spec("b")),
            lambda: sup.terminate_child("a"),
        ):
            with pytest.raises(SupervisorDown):
                await call()
        if strategy != "dynamic":
            with pytest.raises(SupervisorDown):
                await sup.restart_child("a")
            with pytest.raises(SupervisorDown):
                await sup.delete_child("a")
        for look in (sup.which_children, sup.count_children):
            with pytest.raises(SupervisorDown):
                look()
        sup.stop()
        await sup.wait_stopped()


@conformance(strategy=STRATEGIES)
async def test_adm_8_calls_that_wait_when_the_supervisor_stops_are_refused(
    world: World, strategy: str
) -> None:
    refused: list[str] = []

    async def caller(what: Any) -> None:
        with pytest.raises(SupervisorDown):
            await what()
        refused.append("refused")

    sup = world.supervisor(world.specs("ab", cleanup=2.0), strategy)
    async with world.up(sup), trio.open_nursery() as nursery:
        nursery.start_soon(sup.terminate_child, "b")
        await trio.sleep(1)
        nursery.start_soon(caller, lambda: sup.start_child(world.spec("c")))
        nursery.start_soon(caller, lambda: sup.terminate_child("a"))
        await settle()
        sup.stop()
    assert refused == ["refused"] * 2
    assert world.count("attempt", "c") == 0


@conformance(strategy=STRATEGIES)
async def test_adm_9_restart_child_that_fails_is_the_callers_affair(world: World, strategy: str) -> None:
    async def fail_second(ctx: Any) -> None:
        if ctx.incarnation == 2:
            raise LookupError("not now")

    sup = world.supervisor([world.spec("a", init=fail_second), world.spec("b")], strategy, max_restarts=0)
    async with world.up(sup) as ended:
        await sup.terminate_child("a")
        with pytest.raises(StartFailed, match="not now"):
            await sup.restart_child("a")
        await trio.sleep(100)
        assert not ended.done.is_set()
        assert world.count("attempt", "a") == 2
        assert sup.which_children()[0].state == "stopped"
        await sup.restart_child("a")
        assert world.count("up", "b") == 1
    assert world.of(Restarting) == []


@conformance
async def test_call_from_a_start_function_to_its_own_supervisor_fails_instead_of_waiting_for_ever(
    world: World,
) -> None:
    sup = world.supervisor()

    async def init(ctx: Any) -> None:
        with pytest.raises(RuntimeError, match="wait for each other"):
            await sup.start_child(world.spec("b"))

    async with world.up(sup):
        await sup.start_child(world.spec("a", init=init))
        assert world.count("up", "a") == 1


@conformance(strategy=STRATEGIES)
async def test_child_may_terminate_itself_through_its_supervisor(world: World, strategy: str) -> None:
    async def body(ctx: Any) -> None:
        await sup.terminate_child("a")

    sup = world.supervisor((), strategy)
    async with world.up(sup):
        await sup.start_child(world.spec("a", body=body))
        await settle()
        assert [(info.id, info.state) for info in sup.which_children()] == [("a", "stopped")]
    assert world.of(Restarting) == []


@conformance(strategy=STRATEGIES)
async def test_cancelled_caller_of_start_child_leaves_the_child_registered(
    world: World, strategy: str
) -> None:
    async def slow(ctx: Any) -> None:
        await trio.sleep(1)

    sup = world.supervisor((), strategy)
    async with world.up(sup):
        with trio.move_on_after(0.5):
            await sup.start_child(world.spec("a", init=slow))
        await trio.sleep(1)
        assert [info.state for info in sup.which_children()] == ["running"]
