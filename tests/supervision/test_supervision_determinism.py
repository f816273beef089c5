"""Conformance: runs are functions of their seed; Trio's rules of the road; nothing is left, nothing polls."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
import trio
import trio._core._run
from supervision_world import STRATEGIES, StepLimit, World, conformance, run_world, settle

from callrt.supervision import (
    Breakers,
    ChildSpec,
    CircuitBreaker,
    ReplyTo,
    Restarting,
    SupervisorDown,
    determinism,
)
from callrt.supervision.determinism import DeterminismBroken, simulate

PROBE = Path(__file__).with_name("supervision_probe.py")


def probe(hash_seed: str, *arguments: int) -> str:
    environment = {**os.environ, "PYTHONHASHSEED": hash_seed}
    command = [sys.executable, str(PROBE), *(str(argument) for argument in arguments)]
    return subprocess.run(command, env=environment, capture_output=True, text=True, check=True).stdout


def test_det_1_same_seed_same_steps_and_reports_in_any_process() -> None:
    for first, count, children in ((0, 1, 1_000), (1, 20, 30)):
        one, two = probe("1", first, count, children), probe("random", first, count, children)
        assert one == two, "seeded runs differ: see callrt/supervision/determinism.py"
        assert len({line.split()[2] for line in one.splitlines()}) == count, "the seed has no effect"


test_det_1_same_seed_same_steps_and_reports_in_any_process.seeds = 21  # type: ignore[attr-defined]


def test_guard_says_what_broke_when_trio_changes(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("_ALLOW_DETERMINISTIC_SCHEDULING", "_r"):
        with monkeypatch.context() as patch:
            patch.delattr(trio._core._run, name)
            with pytest.raises(DeterminismBroken, match=name):
                simulate(trio.sleep, 0, seed=1)
    determinism.guard()


def test_seeded_leaves_trio_as_it_was() -> None:
    run: Any = trio._core._run
    before = (run._ALLOW_DETERMINISTIC_SCHEDULING, run._r.getstate())
    simulate(trio.sleep, 10, seed=1)
    assert (run._ALLOW_DETERMINISTIC_SCHEDULING, run._r.getstate()) == before


@conformance(strategy=[*STRATEGIES, "dynamic"])
async def test_det_2_idle_tree_takes_no_steps(world: World, strategy: str) -> None:
    steps = StepLimit(10**9)
    sup = world.dynamic() if strategy == "dynamic" else world.supervisor((), strategy)
    async with world.up(sup):
        for id in "abc":
            await sup.start_child(world.spec(id))
        await settle()
        trio.lowlevel.add_instrument(steps)
        await trio.sleep(1e6)  # noqa: ASYNC116
        trio.lowlevel.remove_instrument(steps)
    assert steps.steps <= 5


class Census(trio.abc.Instrument):
    def __init__(self) -> None:
        self.spawned = self.exited = 0

    def task_spawned(self, task: trio.lowlevel.Task) -> None:
        self.spawned += 1

    def task_exited(self, task: trio.lowlevel.Task) -> None:
        self.exited += 1


def test_det_3_every_task_that_was_spawned_exits() -> None:
    async def scenario(world: World) -> None:
        many = 1_000 if world.seed == 0 else 20
        sup = world.supervisor(world.specs("ab"), max_restarts=10**6)
        async with world.up(sup):
            await settle()
            before = trio.lowlevel.current_statistics().tasks_living
            for _ in range(many):
                await world.crash("a")
            assert world.count("up", "a") == many + 1
            assert trio.lowlevel.current_statistics().tasks_living == before

    for seed in range(20):
        census = Census()
        run_world(scenario, seed, census)
        assert census.spawned == census.exited


test_det_3_every_task_that_was_spawned_exits.seeds = 20  # type: ignore[attr-defined]


@conformance
async def test_det_4_async_operations_are_checkpoints_and_sync_ones_are_not(world: World) -> None:
    async def echo(ctx: Any, *, task_status: Any) -> None:
        task_status.started()
        with trio.testing.assert_no_checkpoints():
            with pytest.raises(trio.WouldBlock):
                ctx.receive_nowait()
            assert ctx.rng.random() < 1
        while True:
            with trio.testing.assert_checkpoints():
                message = await ctx.receive()
            if isinstance(message, ReplyTo):
                with trio.testing.assert_no_checkpoints():
                    message.reply(1)

    sup = world.supervisor([ChildSpec("echo", echo), world.spec("a")])
    dynamic = world.dynamic()
    breaker = CircuitBreaker()

    async def cancelled(call: Any) -> None:
        with trio.CancelScope() as scope:
            scope.cancel()
            await call()
        assert scope.cancelled_caught

    await cancelled(sup.run)
    assert (world.log, sup.running) == ([], False)
    async with world.up(sup), world.up(dynamic):
        ref = sup.ref("echo")
        calls: list[Any] = [
            lambda: sup.start_child(world.spec("b")),
            lambda: sup.terminate_child("a"),
            lambda: sup.restart_child("a"),
            lambda: sup.terminate_child("b"),
            lambda: sup.delete_child("b"),
            lambda: dynamic.start_child(world.spec("x")),
            lambda: dynamic.terminate_child("x"),
            lambda: ref.ask(lambda reply_to: reply_to, 1.0),
            lambda: breaker.call(trio.sleep, 0),
        ]
        for call in calls:
            listing, sent, lines = sup.which_children(), ref.statistics().sent, len(world.log)
            await cancelled(call)
            await settle()
            assert (sup.which_children(), ref.statistics().sent, len(world.log)) == (listing, sent, lines)
            with trio.testing.assert_checkpoints():
                await call()
        await cancelled(sup.wait_stopped)
        with trio.testing.assert_no_checkpoints():
            ref.tell("hello")
            monitor = ref.monitor()
            monitor.demonitor()
            sup.which_children()
            sup.count_children()
            sup.ref("echo")
            sup.spec("echo")
            Breakers().named("x").admit().succeeded()
        await settle()
        with trio.testing.assert_no_checkpoints():
            sup.stop()
        with trio.testing.assert_checkpoints():
            await sup.wait_stopped()
    with trio.testing.assert_checkpoints(), pytest.raises(SupervisorDown):
        await sup.start_child(world.spec("c"))


@conformance(strategy=[*STRATEGIES, "dynamic"])
async def test_det_5_report_stream_of_a_storm_is_well_formed(world: World, strategy: str) -> None:
    """The stream itself is checked after every run of every test; here is a run with much in it."""
    rng = world.rng

    async def init(ctx: Any) -> None:
        if rng.random() < 0.1 and ctx.incarnation > 1:
            raise LookupError
        if rng.random() < 0.2:
            await trio.sleep(rng.random())

    async def body(ctx: Any) -> None:
        await trio.sleep(rng.expovariate(1.0))
        if rng.random() < 0.7:
            raise ValueError

    specs = [
        world.spec(id, restart, init=init, body=body, cleanup=rng.random())
        for id, restart in (("a", "permanent"), ("b", "transient"), ("c", "permanent"), ("d", "temporary"))
    ]
    sup = (
        world.dynamic(max_restarts=10**6)
        if strategy == "dynamic"
        else world.supervisor(specs, strategy, max_restarts=10**6)
    )
    async with world.up(sup):
        if strategy == "dynamic":
            for spec in specs:
                await sup.start_child(spec)
        await trio.sleep(60)
    assert len(world.of(Restarting)) > 10
