"""Conformance: stopping, in order, in time, and honest about what does not end."""

from __future__ import annotations

from typing import Any

import pytest
import trio
from supervision_world import INF, STRATEGIES, World, conformance, settle

from callrt.supervision import (
    ActorRef,
    ChildSpec,
    ChildUnresponsive,
    Escalation,
    Exited,
    Fenced,
    OrderlyStop,
    Registry,
    ReplyTo,
    Restarting,
    ShutdownError,
    SupervisorDown,
    TargetDown,
    Unresponsive,
)


async def resist(ctx: Any, seconds: float = 50.0) -> None:
    """A shield of its own making, which no supervisor can lift."""
    try:
        await trio.sleep_forever()
    finally:
        with trio.CancelScope(shield=True):
            await trio.sleep(seconds)


@conformance(strategy=STRATEGIES, how=["stop", "cancel"])
async def test_ter_1_children_stop_one_by_one_in_reverse(world: World, strategy: str, how: str) -> None:
    with trio.CancelScope() as scope:
        async with world.up(world.supervisor(world.specs("abc", cleanup=1.0), strategy)):
            if how == "cancel":
                scope.cancel()
    assert world.what("told", "down") == ["told c", "down c", "told b", "down b", "told a", "down a"]
    assert [world.times("told", id) for id in "cba"] == [[0.0], [1.0], [2.0]]


@conformance(strategy=STRATEGIES)
async def test_ter_2_clean_up_within_the_shutdown_time_completes(world: World, strategy: str) -> None:
    sup = world.supervisor([world.spec("a", cleanup=3.0, shutdown=4.0)], strategy)
    async with world.up(sup):
        pass
    assert world.times("down", "a") == [3.0]
    assert [report.reason.kind for report in world.of(Exited)] == ["shutdown"]
    assert world.of(Unresponsive) == world.of(ShutdownError) == []


@conformance(strategy=[*STRATEGIES, "dynamic"])
async def test_ter_3_child_that_does_not_end_is_unresponsive_and_fenced(world: World, strategy: str) -> None:
    registry = Registry()
    received: list[str] = []
    fenced: list[str] = []
    asked: list[ReplyTo[str]] = []
    other: list[ActorRef[str]] = []

    async def stuck(ctx: Any) -> None:
        registry.register("stuck", ctx)
        asked.append(await ctx.receive())
        try:
            await trio.sleep_forever()
        finally:
            with trio.CancelScope(shield=True):
                await trio.sleep(20)
                if not other[0].tell("from beyond"):
                    fenced.append("tell")
                if not asked[0].reply("late"):
                    fenced.append("reply")
                with pytest.raises(Fenced):
                    ctx.receive_nowait()
                with pytest.raises(Fenced):
                    registry.register("again", ctx)
                await trio.sleep(20)

    async def listen(ctx: Any) -> None:
        while True:
            received.append(await ctx.receive())

    specs = [world.spec("a", body=listen), world.spec("b"), world.spec("c", body=stuck, shutdown=2.0)]
    sup = world.dynamic() if strategy == "dynamic" else world.supervisor(specs, strategy)
    async with world.up(sup):
        if strategy == "dynamic":
            for spec in specs:
                await sup.start_child(spec)
        other.append(sup.ref("a"))
        ref: ActorRef[Any] = sup.ref("c")
        errors: list[BaseException] = []

        async def ask() -> None:
            with pytest.raises(TargetDown) as caught:
                await ref.ask(lambda reply_to: reply_to, INF)
            errors.append(caught.value)
            assert trio.current_time() == 2.0

        async with trio.open_nursery() as nursery:
            nursery.start_soon(ask)
            await settle()
            assert await sup.terminate_child("c") == "unresponsive"
            assert trio.current_time() == 2.0
        assert len(errors) == 1
        assert ref.tell("too late") is False
        assert registry.whereis("stuck") is None
        assert [info.state for info in sup.which_children()] == ["running", "running", "unresponsive"]
        (report,) = world.of(Unresponsive)
        assert "sleep" in report.stack
        assert await sup.terminate_child("c") == "unresponsive"
        if strategy != "dynamic":
            with pytest.raises(ChildUnresponsive):
                await sup.restart_child("c")  # type: ignore[attr-defined]
            with pytest.raises(ChildUnresponsive):
                await sup.delete_child("c")  # type: ignore[attr-defined]
        await trio.sleep(30)
        assert fenced == ["tell", "reply"]
        assert received == []
    assert world.of(Restarting) == []
    assert [line.at for line in world.log if line.what == "down" and line.id == "c"] == [40.0]


@conformance(strategy=STRATEGIES, depth=[0, 1])
async def test_ter_3_the_others_are_stopped_in_order_and_the_run_waits(
    world: World, strategy: str, depth: int
) -> None:
    specs = [world.spec("a"), world.spec("b"), world.spec("c", body=resist, shutdown=2.0)]
    sup = world.supervisor(specs, strategy)
    if depth:
        inner = world.nested(specs, strategy)
        sup = world.supervisor([world.spec("first"), ChildSpec("in", inner.run, kind="supervisor")])
    async with world.up(sup):
        pass
    assert world.times("told", "b") == world.times("told", "a") == [2.0]
    if depth:
        assert world.times("told", "first") == [2.0]
    assert trio.current_time() == 50.0
    assert [report.id for report in world.of(Unresponsive)] == (["c", "in"] if depth else ["c"])


@conformance(strategy=["one_for_all", "rest_for_one"], policy=["escalate", "abandon"])
async def test_ter_3_unresponsive_member_forbids_or_leaves_the_group(
    world: World, strategy: str, policy: str
) -> None:
    specs = [
        world.spec("a"),
        world.spec("b", body=resist, shutdown=2.0, on_unresponsive=policy),
        world.spec("c"),
    ]
    async with world.up(world.supervisor(specs, strategy)) as ended:
        world.press("a", ValueError())
        await trio.sleep(10)
        assert world.count("attempt", "b") == 1
        assert world.count("up", "a") == (1 if policy == "escalate" else 2)
        assert world.count("up", "c") == (1 if policy == "escalate" else 2)
    if policy == "escalate":
        assert isinstance(ended.error, Escalation)
        assert (ended.error.id, ended.error.why) == ("b", "unresponsive")
    else:
        assert ended.error is None
    assert world.times("down", "b") == [50.0]


@conformance(strategy=[*STRATEGIES, "dynamic"])
async def test_ter_4_no_grace_and_endless_grace(world: World, strategy: str) -> None:
    specs = [
        world.spec("patient", cleanup=0.0, body=lambda ctx: slow(ctx, 1000.0), shutdown=INF),
        world.spec("cut", cleanup=7.0, shutdown=0),
    ]

    async def slow(ctx: Any, seconds: float) -> None:
        try:
            await trio.sleep_forever()
        finally:
            with ctx.cleanup():
                await trio.sleep(seconds)

    sup = world.dynamic() if strategy == "dynamic" else world.supervisor(specs, strategy)
    async with world.up(sup):
        if strategy == "dynamic":
            for spec in specs:
                await sup.start_child(spec)
    assert world.times("down", "cut") == [0.0]
    assert world.times("down", "patient") == [1000.0]
    assert world.of(Unresponsive) == []
    assert len(world.of(Exited)) == 2


@conformance(strategy=STRATEGIES)
async def test_ter_4_no_grace_reaches_through_supervisors(world: World, strategy: str) -> None:
    leaf = world.nested(world.specs("xy", cleanup=7.0, shutdown=100.0), strategy)
    middle = world.nested([ChildSpec("leaf", leaf.run, kind="supervisor"), world.spec("z", cleanup=7.0)])
    root = world.supervisor([ChildSpec("middle", middle.run, kind="supervisor", shutdown=3.0)])
    async with world.up(root):
        pass
    # z has three seconds of its clean-up, then everything below is cut
    assert trio.current_time() == 3.0
    assert world.what("told") == ["told z", "told y", "told x"]
    assert world.of(Unresponsive) == []


@conformance(strategy=[*STRATEGIES, "dynamic"], end=["normal", "shutdown", "error"])
async def test_ter_5_exits_during_a_stop_are_reported_and_nothing_more(
    world: World, strategy: str, end: str
) -> None:
    sup = (
        world.dynamic(max_restarts=0)
        if strategy == "dynamic"
        else world.supervisor([], strategy, max_restarts=0)
    )
    async with world.up(sup) as ended:
        await sup.start_child(world.spec("a"))
        await sup.start_child(world.spec("b"))
        await sup.start_child(world.spec("c", cleanup=2.0))
        await settle()
        sup.stop()
        if strategy != "dynamic":
            await trio.sleep(1)
        world.press("a", {"normal": "return", "shutdown": OrderlyStop(), "error": ValueError()}[end])
    assert ended.error is None
    assert world.of(Restarting) == []
    assert [world.count("attempt", id) for id in "abc"] == [1, 1, 1]
    if strategy != "dynamic":
        (report,) = world.of(Exited, id="a")
        assert (report.reason.kind, report.ordered) == (end, False)


@conformance(strategy=[*STRATEGIES, "dynamic"])
async def test_ter_6_clean_up_that_raises_is_a_shutdown_error_and_the_stop_succeeds(
    world: World, strategy: str
) -> None:
    async def body(ctx: Any) -> None:
        try:
            await trio.sleep_forever()
        finally:
            raise LookupError("clean-up failed")

    specs = [world.spec("a"), world.spec("b", body=body), world.spec("c")]
    sup = world.dynamic() if strategy == "dynamic" else world.supervisor(specs, strategy)
    async with world.up(sup) as ended:
        if strategy == "dynamic":
            for spec in specs:
                await sup.start_child(spec)
    assert ended.error is None
    (report,) = world.of(ShutdownError)
    assert (report.id, report.reason.message) == ("b", "clean-up failed")
    assert "LookupError" in report.reason.traceback
    assert world.count("down", "a") == world.count("down", "c") == 1


@conformance(strategy=STRATEGIES, depth=[0, 1], how=["cancel", "deadline"])
async def test_ter_7_cancellation_becomes_an_ordered_stop_and_is_raised_again(
    world: World, strategy: str, depth: int, how: str
) -> None:
    specs = world.specs("abc", cleanup=1.0)
    sup = world.supervisor(specs, strategy)
    if depth:
        inner = world.nested(specs, strategy)
        sup = world.supervisor(
            [ChildSpec("in", inner.run, kind="supervisor"), world.spec("last", cleanup=1.0)]
        )
    reached = False
    with trio.move_on_after(5 if how == "deadline" else INF) as scope:
        async with trio.open_nursery() as nursery:
            await nursery.start(sup.run)
            if how == "cancel":
                await trio.sleep(5)
                scope.cancel()
            await trio.sleep_forever()
        reached = True
    assert scope.cancelled_caught
    assert not reached
    expected = ["told c", "down c", "told b", "down b", "told a", "down a"]
    assert world.what("told", "down") == (["told last", "down last", *expected] if depth else expected)
    assert trio.current_time() == 8.0 + depth


@conformance(strategy=[*STRATEGIES, "dynamic"])
async def test_ter_8_stopping_supervisor_refuses_starts(world: World, strategy: str) -> None:
    sup = world.dynamic() if strategy == "dynamic" else world.supervisor((), strategy)
    async with world.up(sup) as ended:
        await sup.start_child(world.spec("a", cleanup=2.0))
        await settle()
        sup.stop()
        for wait in (0.0, 1.0):
            await trio.sleep(wait)
            with pytest.raises(SupervisorDown):
                await sup.start_child(world.spec("b"))
            if strategy != "dynamic":
                with pytest.raises(SupervisorDown):
                    await sup.restart_child("a")  # type: ignore[attr-defined]
        await ended.done.wait()
        with pytest.raises(SupervisorDown):
            await sup.start_child(world.spec("b"))
    assert world.count("attempt", "b") == 0


@conformance(strategy=[*STRATEGIES, "dynamic"], shutdown=[0, 5.0, INF])
async def test_ter_9_child_that_drops_its_cancellation_for_ever_is_found_out(
    world: World, strategy: str, shutdown: float
) -> None:
    async def spin(ctx: Any) -> None:
        while True:
            try:
                await trio.sleep_forever()
            except trio.Cancelled:
                if world.of(Unresponsive):
                    raise  # so that the test can end

    spec = world.spec("a", body=spin, shutdown=shutdown)
    sup = world.dynamic() if strategy == "dynamic" else world.supervisor([spec], strategy)
    async with world.up(sup):
        if strategy == "dynamic":
            await sup.start_child(spec)
        await settle()
    assert [report.id for report in world.of(Unresponsive)] == ["a"]
    assert trio.current_time() == 0.0


@conformance
async def test_ter_9_busy_neighbour_makes_nobody_a_suspect(world: World) -> None:
    """Thousands of honest rounds at one instant, while a child cleans up, condemn nobody."""
    busy = world.dynamic(reports=())

    async def start(ctx: Any, *, task_status: Any) -> None:
        task_status.started()
        await trio.sleep_forever()

    async with world.up(world.supervisor(world.specs("a", cleanup=1.0))) as ended, world.up(busy):
        async with trio.open_nursery() as nursery:

            async def neighbour() -> None:
                for n in range(700):
                    await busy.start_child(ChildSpec(n, start))

            nursery.start_soon(neighbour)
            ended_sup = world.supervisor(world.specs("b", cleanup=1.0))
            async with world.up(ended_sup):
                pass
        assert world.times("down", "b") == [1.0]
        assert not ended.done.is_set()
    assert world.of(Unresponsive) == []


@conformance(strategy=STRATEGIES, how=["stop", "start failure", "escalation", "cancel", "system exit"])
async def test_ter_10_nothing_is_left_by_any_route(world: World, strategy: str, how: str) -> None:
    async def fail(ctx: Any) -> None:
        raise LookupError

    before = trio.lowlevel.current_statistics().tasks_living
    inner = world.nested(world.specs("abc", cleanup=0.1), strategy, max_restarts=0)
    specs = [ChildSpec("in", inner.run, kind="supervisor", restart="transient"), world.spec("z")]
    if how == "start failure":
        specs.append(world.spec("last", init=fail))
    sup = world.supervisor(specs, strategy, max_restarts=0)
    if how == "start failure":
        assert await world.run(sup) is not None
    else:
        with trio.CancelScope() as scope:
            async with world.up(sup):
                if how == "cancel":
                    scope.cancel()
                elif how == "escalation":
                    world.press("b", ValueError())
                elif how == "system exit":
                    world.press("b", SystemExit(3))
                await trio.sleep(1)
    assert trio.lowlevel.current_statistics().tasks_living == before
    assert sup.running is inner.running is False


@conformance(strategy=["one_for_all", "rest_for_one"])
async def test_a_cancellation_during_the_stop_of_a_group_is_seen_before_anything_starts(
    world: World, strategy: str
) -> None:
    inner = world.nested([world.spec("a"), world.spec("b", cleanup=2.0)], strategy)
    around = trio.CancelScope()

    async def start(ctx: Any, *, task_status: trio.TaskStatus[Any]) -> None:
        with around:
            await inner.run(ctx, task_status=task_status)

    async with world.up(world.supervisor([ChildSpec("in", start, "temporary")])):
        await world.crash("a")
        await trio.sleep(1)
        around.cancel()  # b cleans up, behind a shield, before both would start anew
        await trio.sleep(5)
    assert world.what("attempt", "down") == ["attempt a", "attempt b", "down a", "down b"]
    assert world.times("down", "b") == [2.0]
    assert around.cancelled_caught  # the cancellation went on when all had stopped
