"""Conformance: who is restarted, in which group, in which order."""

from __future__ import annotations

import gc
import time
import weakref
from typing import Any

import pytest
import trio
from supervision_world import RESTARTS, STRATEGIES, World, conformance, settle

from callrt.supervision import (
    Backoff,
    ChildSpec,
    Decline,
    Escalation,
    OrderlyStop,
    Restarting,
    TooManyChildren,
)


@conformance(strategy=STRATEGIES, end=["normal", "shutdown", "error"])
async def test_res_1_permanent_child_is_restarted_after_every_exit(
    world: World, strategy: str, end: str
) -> None:
    sup = world.supervisor(world.specs("a"), strategy)
    async with world.up(sup):
        for n in range(3):
            world.press("a", {"normal": "return", "shutdown": OrderlyStop(), "error": ValueError()}[end])
            await settle()
            assert world.count("up", "a") == n + 2
    assert len(world.of(Restarting)) == 3


@conformance(strategy=STRATEGIES)
async def test_res_2_transient_child_is_restarted_after_errors_only(world: World, strategy: str) -> None:
    sup = world.supervisor(world.specs("ab", "transient"), strategy)
    async with world.up(sup):
        await world.finish("b")
        world.press("a", OrderlyStop("done"))
        await settle()
        assert [(info.id, info.state) for info in sup.which_children()] == [
            ("a", "stopped"),
            ("b", "stopped"),
        ]
        await sup.restart_child("a")
        await world.crash("a")
        assert world.count("up", "a") == 3
        assert len(world.of(Restarting)) == 1


@conformance(strategy=STRATEGIES, end=["normal", "shutdown", "error"])
async def test_res_3_temporary_child_is_forgotten_after_every_exit(
    world: World, strategy: str, end: str
) -> None:
    sup = world.supervisor([world.spec("a", "temporary"), world.spec("b")], strategy)
    async with world.up(sup):
        for _ in range(3):
            world.press("a", {"normal": "return", "shutdown": OrderlyStop(), "error": ValueError()}[end])
            await settle()
            assert [info.id for info in sup.which_children()] == ["b"]
            await sup.start_child(world.spec("a", "temporary"))
        assert world.count("up", "b") == 1
        assert world.count("told", "b") == 0
    assert world.of(Restarting) == []


@conformance(strategy=["one_for_all", "rest_for_one"])
async def test_res_4_temporary_bystander_is_stopped_and_forgotten(world: World, strategy: str) -> None:
    sup = world.supervisor([world.spec("a"), world.spec("t", "temporary"), world.spec("b")], strategy)
    async with world.up(sup):
        await world.crash("a")
        assert world.what("told") == ["told b", "told t"]
        assert [info.id for info in sup.which_children()] == ["a", "b"]
        assert (world.count("up", "a"), world.count("up", "b"), world.count("up", "t")) == (2, 2, 1)


@conformance(strategy=STRATEGIES)
async def test_res_5_child_terminated_by_hand_is_not_restarted_or_counted(
    world: World, strategy: str
) -> None:
    sup = world.supervisor(world.specs("ab"), strategy, max_restarts=0)
    async with world.up(sup):
        assert await sup.terminate_child("b") == "shutdown"
        await trio.sleep(100)
        assert [(info.id, info.state) for info in sup.which_children()] == [
            ("a", "running"),
            ("b", "stopped"),
        ]
        assert world.count("up", "a") == 1
    assert world.of(Restarting) == []


@conformance(strategy=STRATEGIES)
async def test_res_6_restarted_child_is_fresh_and_late_events_are_ignored(
    world: World, strategy: str
) -> None:
    seen: list[tuple[int, Any, float]] = []

    async def body(ctx: Any) -> None:
        seen.append((ctx.incarnation, ctx, ctx.stop_deadline))
        await world.obey(ctx)

    sup = world.supervisor([world.spec("a", body=body)], strategy)
    async with world.up(sup):
        await world.crash("a")
        assert [incarnation for incarnation, _, _ in seen] == [1, 2]
        # an exit event of incarnation 1 that arrives again acts on nothing
        run = sup.current
        assert run is not None
        stale = run.children["a"].inc
        assert stale is not None
        # the same spec terminated and started again by hand while its crash is still in the queue
        world.press("a", ValueError("late"))
        await sup.terminate_child("a")
        await sup.restart_child("a")
        ups, restarts = world.count("up", "a"), len(world.of(Restarting))
        for _ in range(10):
            run.post(stale)
        await settle()
        assert sup.count_children().active == 1
        assert (world.count("up", "a"), len(world.of(Restarting))) == (ups, restarts)
    assert [incarnation for incarnation, _, _ in seen] == list(range(1, len(seen) + 1))
    assert len({context for _, context, _ in seen}) == len(seen)


class Large:
    """A large argument."""


@conformance(strategy=[*STRATEGIES, "dynamic"], seeds=20)
async def test_res_7_argument_of_an_ended_temporary_child_is_collectable(world: World, strategy: str) -> None:
    sup = world.dynamic() if strategy == "dynamic" else world.supervisor((), strategy)
    many = {"dynamic": 10_000}.get(strategy, 2_000) if world.seed == 0 else 20
    refs: list[weakref.ref[Large]] = []

    def spec(n: int) -> ChildSpec:
        large = Large()
        refs.append(weakref.ref(large))

        async def start(ctx: Any, *, task_status: trio.TaskStatus[None]) -> None:
            assert large is not None
            task_status.started()
            if n % 3 == 1:
                raise ValueError(large)
            if n % 3 == 2:
                await trio.sleep_forever()

        return ChildSpec(n, start, "temporary")

    sup.hooks = ()
    async with world.up(sup):
        for n in range(many):
            await sup.start_child(spec(n))
            if n % 3 == 2:
                await sup.terminate_child(n)
        await settle()
        assert sup.which_children() == ()
        gc.collect()
        assert [ref for ref in refs if ref() is not None] == []


@conformance(order=["error", "return"])
async def test_str_1_one_for_one_restarts_only_the_failed_one(world: World, order: str) -> None:
    sup = world.supervisor(world.specs("ab"))
    async with world.up(sup):
        world.press("a", ValueError() if order == "error" else "return")
        await settle()
        assert world.count("up", "a") == 2
        assert world.count("up", "b") == 1
        assert world.count("told", "b") == 0
        assert [info.incarnation for info in sup.which_children()] == [2, 1]


@conformance
async def test_str_2_one_for_all_stops_in_reverse_and_starts_in_order(world: World) -> None:
    async with world.up(world.supervisor(world.specs("abc", cleanup=0.25), "one_for_all")):
        world.clear()
        world.press("b", ValueError())
        await trio.sleep(10)
        assert world.what("told", "down", "up") == [
            "down b",
            "told c",
            "down c",
            "told a",
            "down a",
            "up a",
            "up b",
            "up c",
        ]


@conformance
async def test_str_3_two_crashes_in_one_tick_are_one_group_restart(world: World) -> None:
    async with world.up(world.supervisor(world.specs("abc"), "one_for_all", max_restarts=1)) as ended:
        world.press("a", ValueError())
        world.press("c", ValueError())
        await settle()
        assert [world.count("up", id) for id in "abc"] == [2, 2, 2]
        assert len(world.of(Restarting)) == 1
    assert ended.error is None


@conformance
async def test_str_4_one_for_all_failed_restart_stops_the_restarted_ones_again(world: World) -> None:
    async def fail_once(ctx: Any) -> None:
        if ctx.incarnation == 2:
            raise LookupError

    sup = world.supervisor([world.spec("a"), world.spec("b", init=fail_once)], "one_for_all")
    async with world.up(sup):
        await world.crash("a")
        assert [line.what for line in world.log if line.id == "a"] == [
            *("attempt", "up", "down"),
            *("attempt", "up", "told", "down"),
            *("attempt", "up"),
        ]
        assert world.count("up", "b") == 2
    assert [report.count for report in world.of(Restarting)] == [1, 2]


@conformance
async def test_str_5_rest_for_one_restarts_the_failed_one_and_the_later_ones(world: World) -> None:
    async with world.up(world.supervisor(world.specs("abcd"), "rest_for_one")):
        world.clear()
        await world.crash("b")
        assert world.what("told", "up") == ["told d", "told c", "up b", "up c", "up d"]


@conformance
async def test_str_6_rest_for_one_failed_restart_keeps_the_earlier_ones(world: World) -> None:
    async def fail_once(ctx: Any) -> None:
        if ctx.incarnation == 2:
            raise LookupError

    sup = world.supervisor(
        [world.spec("a"), world.spec("b", init=fail_once), world.spec("c")], "rest_for_one"
    )
    async with world.up(sup):
        await world.crash("a")
        assert [world.count("up", id) for id in "abc"] == [2, 2, 2]
        assert world.count("told", "a") == 0
        assert [world.count("attempt", id) for id in "abc"] == [2, 3, 2]
    assert len(world.of(Restarting)) == 2


@conformance
async def test_str_7_dynamic_supervisor_restarts_the_crashed_one_with_its_arguments(world: World) -> None:
    seen: list[str] = []

    def spec(id: str) -> ChildSpec:
        async def body(ctx: Any) -> None:
            seen.append(id)
            await world.obey(ctx)

        return world.spec(id, body=body)

    sup = world.dynamic()
    async with world.up(sup):
        for id in "xyz":
            await sup.start_child(spec(id))
        await world.crash("y")
        assert seen == ["x", "y", "z", "y"]
        assert world.count("told", "x") == world.count("told", "z") == 0


@conformance(how=["stop", "cancel"])
async def test_str_8_dynamic_supervisor_stops_all_at_once(world: World, how: str) -> None:
    sup = world.dynamic()
    with trio.CancelScope() as scope:
        async with world.up(sup):
            for id in "xyz":
                await sup.start_child(world.spec(id, cleanup=3.0))
            if how == "cancel":
                scope.cancel()
    assert trio.current_time() == 3.0
    assert [world.times("down", id) for id in "xyz"] == [[3.0]] * 3


@conformance
async def test_str_9_max_children_counts_those_that_wait_for_a_restart(world: World) -> None:
    sup = world.dynamic(max_children=2)
    async with world.up(sup):
        await sup.start_child(world.spec("x", backoff=Backoff(min=5.0)))
        await sup.start_child(world.spec("y"))
        await world.crash("x")
        assert [info.state for info in sup.which_children()] == ["restarting", "running"]
        with pytest.raises(TooManyChildren):
            await sup.start_child(world.spec("z"))
        assert world.count("attempt", "z") == 0
        await sup.terminate_child("x")
        await sup.start_child(world.spec("z"))


@conformance(strategy=STRATEGIES, restart=RESTARTS)
async def test_str_10_restarted_supervisor_has_only_its_static_children(
    world: World, strategy: str, restart: str
) -> None:
    inner = world.nested(world.specs("a"), strategy, max_restarts=0)
    outer = world.supervisor([ChildSpec("in", inner.run, kind="supervisor")])
    async with world.up(outer):
        await inner.start_child(world.spec("added", restart))
        await world.crash("a")
        assert [info.id for info in inner.which_children()] == ["a"]
        assert world.count("up", "a") == 2
        assert world.count("up", "added") == 1


@conformance
async def test_str_11_dynamic_child_that_declines_is_not_recorded(world: World) -> None:
    async def decline_first(ctx: Any) -> None:
        raise Decline

    async def decline_later(ctx: Any) -> None:
        if ctx.incarnation > 1:
            raise Decline

    sup = world.dynamic(max_restarts=1)
    async with world.up(sup):
        assert (await sup.start_child(world.spec("x", init=decline_first))).declined
        assert sup.which_children() == ()
        await sup.start_child(world.spec("y", init=decline_later))
        await world.crash("y")
        await trio.sleep(100)
        assert sup.which_children() == ()
        assert world.count("attempt", "y") == 2


@conformance
async def test_str_12_cost_of_children_grows_about_linearly(world: World) -> None:
    many = (1_000, 10_000) if world.seed == 0 else (50, 500)

    async def cost(count: int) -> float:
        sup = world.dynamic(reports=())

        async def start(ctx: Any, *, task_status: trio.TaskStatus[None]) -> None:
            task_status.started()
            await trio.sleep_forever()

        async with world.up(sup):
            began = time.process_time()
            for n in range(count):
                await sup.start_child(ChildSpec(n, start, "temporary"))
            for n in range(count):
                await sup.terminate_child(n)
            return time.process_time() - began

    small, large = await cost(many[0]), await cost(many[1])
    assert large < 50 * max(small, 0.001), (small, large)


@conformance
async def test_str_13_group_restart_starts_stopped_members_but_nobody_outside(world: World) -> None:
    for strategy in ("rest_for_one", "one_for_all"):
        sup = world.supervisor(world.specs("abc"), strategy)
        async with world.up(sup):
            await sup.terminate_child("a")
            await sup.terminate_child("c")
            await world.crash("b")
            states = {info.id: info.state for info in sup.which_children()}
            assert states["b"] == states["c"] == "running"
            assert states["a"] == ("stopped" if strategy == "rest_for_one" else "running")


@conformance
async def test_int_1_exactly_n_failures_are_restarted(world: World) -> None:
    async with world.up(world.supervisor(world.specs("a"), max_restarts=3)) as ended:
        for n in range(3):
            await world.crash("a")
            assert world.count("up", "a") == n + 2
        await trio.sleep(100)
        assert not ended.done.is_set()


@conformance
async def test_int_1_window_slides_restart_by_restart(world: World) -> None:
    """N=2, P=10: each restart leaves the window alone, when it is older than ten seconds itself."""
    async with world.up(world.supervisor(world.specs("a"), max_restarts=2)) as ended:
        for at in (0.0, 6.0, 11.0):
            await trio.sleep_until(at)
            await world.crash("a")
        assert [report.count for report in world.of(Restarting)] == [1, 2, 2]
        await trio.sleep_until(12.0)
        await world.crash("a")  # those of 6 and 11 still count
        assert ended.done.is_set()


@conformance(strategy=STRATEGIES)
async def test_int_2_failure_n_plus_1_stops_the_others_and_escalates(world: World, strategy: str) -> None:
    async with world.up(world.supervisor(world.specs("abc", cleanup=0.1), strategy, max_restarts=2)) as ended:
        for _ in range(2):
            world.press("b", ValueError("flaky"))
            await trio.sleep(1)
        world.clear()
        world.press("b", ValueError("the last straw"))
        await trio.sleep(1)
        assert world.what("attempt", "told", "down") == ["down b", "told c", "down c", "told a", "down a"]
    assert isinstance(ended.error, Escalation)
    assert (ended.error.id, ended.error.why) == ("b", "intensity")
    assert "the last straw" in str(ended.error)
    assert isinstance(ended.error.cause, ValueError)


@conformance(strategy=STRATEGIES, restart=["permanent", "transient"])
async def test_int_3_no_restarts_allowed_means_none_is_tried(
    world: World, strategy: str, restart: str
) -> None:
    async with world.up(world.supervisor(world.specs("ab", restart), strategy, max_restarts=0)) as ended:
        await world.crash("a")
    assert isinstance(ended.error, Escalation)
    assert world.count("attempt", "a") == world.count("attempt", "b") == 1


@conformance(gap=[10.0, 10.001])
async def test_int_4_age_equal_to_the_period_still_counts(world: World, gap: float) -> None:
    async with world.up(world.supervisor(world.specs("a"), max_restarts=1, period=10.0)) as ended:
        await world.crash("a")
        await trio.sleep(gap)
        await world.crash("a")
        assert ended.done.is_set() == (gap == 10.0)


@conformance(strategy=STRATEGIES)
async def test_int_5_child_that_cannot_start_again_gets_n_attempts(world: World, strategy: str) -> None:
    async def fail_later(ctx: Any) -> None:
        if ctx.incarnation > 1:
            raise LookupError

    specs = [world.spec("a", init=fail_later), world.spec("b")]
    async with world.up(world.supervisor(specs, strategy, max_restarts=4)) as ended:
        await world.crash("a")
    assert isinstance(ended.error, Escalation)
    assert world.count("attempt", "a") == 1 + 4
