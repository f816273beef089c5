"""Conformance: delays before restarts."""

from __future__ import annotations

import random
import warnings
from itertools import pairwise
from typing import Any

import pytest
import trio
from supervision_world import STRATEGIES, World, conformance, settle

from callrt.supervision import (
    AlreadyPresent,
    Backoff,
    BackoffDefeatsWindow,
    ChildRestarting,
    Escalation,
    Restarting,
)


@conformance(strategy=STRATEGIES)
async def test_bac_1_delays_grow_exactly_up_to_the_cap(world: World, strategy: str) -> None:
    async def fail_later(ctx: Any) -> None:
        if ctx.incarnation > 1:
            raise LookupError

    backoff = Backoff(min=0.5, factor=2.0, cap=3.0)
    sup = world.supervisor(
        [world.spec("a", init=fail_later, backoff=backoff)], strategy, max_restarts=6, period=1e3
    )
    async with world.up(sup):
        await world.crash("a")
        await trio.sleep(100)
    times = world.times("attempt", "a")
    assert [later - earlier for earlier, later in pairwise(times)] == [0.5, 1, 2, 3, 3, 3]
    jittered = Backoff(min=0.5, factor=2.0, cap=3.0, jitter=0.5)
    for failures in (*range(1, 20), 10_000, 10**9):
        delay = jittered.delay(failures, random.Random(world.seed))
        plain = backoff.delay(failures, random.Random(0))
        assert plain <= delay <= min(3.0, plain * 1.5)


@conformance(strategy=STRATEGIES)
async def test_bac_2_waiting_child_is_listed_restarting(world: World, strategy: str) -> None:
    sup = world.supervisor([world.spec("a", backoff=Backoff(min=5.0))], strategy)
    async with world.up(sup):
        await world.crash("a")
        assert [(info.id, info.state) for info in sup.which_children()] == [("a", "restarting")]
        assert (sup.count_children().specs, sup.count_children().active) == (1, 0)
        with pytest.raises(AlreadyPresent):
            await sup.start_child(world.spec("a"))
        with pytest.raises(ChildRestarting):
            await sup.restart_child("a")
        with pytest.raises(ChildRestarting):
            await sup.delete_child("a")
        await trio.sleep(5)
        await settle()
        assert [(info.id, info.state) for info in sup.which_children()] == [("a", "running")]


@conformance(strategy=[*STRATEGIES, "dynamic"], how=["terminate", "stop", "cancel"])
async def test_bac_3_pending_restart_is_dropped_at_once(world: World, strategy: str, how: str) -> None:
    sup = world.dynamic() if strategy == "dynamic" else world.supervisor((), strategy)
    with trio.CancelScope() as scope:
        async with world.up(sup) as ended:
            await sup.start_child(world.spec("a", backoff=Backoff(min=5.0)))
            await world.crash("a")
            await trio.sleep(1)
            if how == "terminate":
                assert await sup.terminate_child("a") is None
                states = [info.state for info in sup.which_children()]
                assert states == ([] if strategy == "dynamic" else ["stopped"])
            elif how == "stop":
                sup.stop()
                await ended.done.wait()
            else:
                scope.cancel()
                await trio.lowlevel.checkpoint()
            assert trio.current_time() == 1.0
            await trio.sleep(100)
    assert world.count("attempt", "a") == 1


@conformance
async def test_bac_3_terminating_one_member_leaves_the_rest_of_the_group_to_come_back(world: World) -> None:
    for strategy in ("one_for_all", "rest_for_one"):
        for id in "abc":
            backoff = Backoff(min=5.0)
            sup = world.supervisor(world.specs("abc", backoff=backoff), strategy)
            async with world.up(sup):
                await world.crash("a")
                await sup.terminate_child(id)
                await trio.sleep(10)
                states = {info.id: info.state for info in sup.which_children()}
                assert states.pop(id) == "stopped"
                assert set(states.values()) == {"running"}


@conformance(strategy=["one_for_all", "rest_for_one"])
async def test_bac_4_group_is_down_before_and_during_the_delay(world: World, strategy: str) -> None:
    backoff = Backoff(min=5.0)
    specs = [world.spec(id, backoff=backoff, cleanup=1.0) for id in "abc"]
    sup = world.supervisor(specs, strategy)
    async with world.up(sup):
        world.press("a", ValueError())
        await trio.sleep(3.5)  # a cleans up for one second, then c, then b
        assert [info.state for info in sup.which_children()] == ["restarting"] * 3
        await trio.sleep(4.4)
        assert sup.count_children().active == 0
        await trio.sleep(0.2)
        assert sup.count_children().active == 3
    assert [world.times("attempt", id)[1] for id in "abc"] == [8.0, 8.0, 8.0]


@conformance
async def test_bac_5_healthy_run_resets_the_delay(world: World) -> None:
    backoff = Backoff(min=1.0, factor=2.0, cap=30.0, reset_after=20.0)
    sup = world.supervisor([world.spec("a", backoff=backoff)], max_restarts=100)
    async with world.up(sup):
        await world.crash("a")
        await trio.sleep(1.0)
        await world.crash("a")
        await trio.sleep(2.0 + 19.0)  # up for 19 s: not yet healthy
        await world.crash("a")
        await trio.sleep(4.0 + 20.0)  # up for 20 s
        await world.crash("a")
        await trio.sleep(1.0)
        await settle()
        assert sup.count_children().active == 1
    assert [report.delay for report in world.of(Restarting)] == [1.0, 2.0, 4.0, 1.0]


@conformance(strategy=STRATEGIES)
async def test_bac_6_too_many_failures_in_a_row_escalate_though_the_window_never_fills(
    world: World, strategy: str
) -> None:
    backoff = Backoff(min=20.0, factor=1.0, cap=20.0, max_consecutive=4)
    sup = world.supervisor([world.spec("a", backoff=backoff)], strategy, max_restarts=1, period=10.0)
    async with world.up(sup) as ended:
        for n in range(5):
            await settle()
            assert world.count("attempt", "a") == n + 1
            await world.crash("a")
            await trio.sleep(20)
    assert isinstance(ended.error, Escalation)
    assert ended.error.why == "max_consecutive"
    assert world.count("attempt", "a") == 5


def test_delays_that_defeat_the_window_warn_at_construction() -> None:
    world = World(0)
    with pytest.warns(BackoffDefeatsWindow, match="max_consecutive"):
        world.supervisor([world.spec("a", backoff=Backoff(min=20.0))], max_restarts=3, period=10.0)
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        world.supervisor([world.spec("a", backoff=Backoff(min=20.0, max_consecutive=5))])
        world.supervisor([world.spec("a", backoff=Backoff(min=0.1))])


@conformance
async def test_longer_delay_of_a_member_is_not_cut_short_by_an_earlier_one(world: World) -> None:
    """rest_for_one: b waits 30 s; a crashes and waits 1 s; the group comes back when both have waited."""
    specs = [world.spec("a", backoff=Backoff(min=1.0)), world.spec("b", backoff=Backoff(min=30.0))]
    sup = world.supervisor(specs, "rest_for_one", max_restarts=5, period=1000.0)
    async with world.up(sup):
        await world.crash("b")
        await trio.sleep(2)
        await world.crash("a")
        await trio.sleep(27)
        assert sup.count_children().active == 0
        await trio.sleep(1.5)
        await settle()
        assert sup.count_children().active == 2
    assert world.times("attempt", "a") == [0.0, 30.0]
    assert world.times("attempt", "b") == [0.0, 30.0]
