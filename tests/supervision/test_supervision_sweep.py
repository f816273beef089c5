"""The sweep: a seeded run has a fixed number of scheduler steps, so do something nasty at every one of them.

The tree is two levels deep, all of one strategy:  root [a, in [x, y], b].  Its story: it starts, x crashes and is
restarted, everything stops. At each step of it, in turn: the root is cancelled; a child raises; a child is
terminated by hand. Whatever the step: no orphan, no double incarnation, the order is kept, and who should be up
afterwards is up.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest
import trio
from supervision_world import STRATEGIES, StepLimit

from callrt.supervision import ChildSpec, Supervisor, SupervisorDown
from callrt.supervision.determinism import simulate
from callrt.supervision.errors import NotFound

POINTS_MIN = 20_000
STEPS_MAX = 20_000
"""A run of the story takes about 60."""
CANCEL_SEEDS = range(24)
RAISE_SEEDS = range(12)
TERMINATE_SEEDS = range(10)
LATER = {"a": "xyb", "x": "y", "y": "", "b": ""}
"""Who must be down before this one is told to end by an ordered stop."""
CRASH = ValueError("boom").with_traceback(None)


class At(trio.abc.Instrument):
    """Does something at the k-th step; counts steps."""

    def __init__(self, step: int, action: Callable[[], None]) -> None:
        self.step = step
        self.action = action
        self.steps = 0

    def before_task_step(self, task: trio.lowlevel.Task) -> None:
        self.steps += 1
        if self.steps == self.step:
            self.action()


class Tree:
    """One run of the story."""

    def __init__(self, strategy: str) -> None:
        self.log: list[tuple[str, str]] = []
        self.orders: dict[str, bool] = {}
        self.buttons: dict[str, trio.Event] = {}
        self.scope = trio.CancelScope()
        self.terminate = trio.Event()
        self.target: str | None = None
        self.cancelled = False
        self.error: BaseException | None = None
        settings: dict[str, Any] = {"strategy": strategy, "max_restarts": 10, "period": 100.0}
        self.inner = Supervisor([self.spec("x"), self.spec("y")], **settings)
        self.around: trio.CancelScope | None = None
        inner = ChildSpec("in", self.run_inner, kind="supervisor")
        self.root = Supervisor([self.spec("a"), inner, self.spec("b")], **settings)
        self.orphans = 0
        self.up_before_stop: list[str] | None = None

    def spec(self, id: str) -> ChildSpec:
        async def start(ctx: Any, *, task_status: trio.TaskStatus[None]) -> None:
            self.log.append(("attempt", id))
            self.buttons[id] = trio.Event()
            try:
                await trio.lowlevel.checkpoint()
                self.obey(id)
                task_status.started()
                self.log.append(("up", id))
                await self.buttons[id].wait()
                self.obey(id)
            except trio.Cancelled:
                self.log.append(("told", id))
                with ctx.cleanup():
                    await trio.lowlevel.checkpoint()
                self.obey(id)
                raise
            finally:
                self.log.append(("down", id))

        return ChildSpec(id, start)

    async def run_inner(self, ctx: Any, *, task_status: trio.TaskStatus[Any]) -> None:
        with trio.CancelScope() as self.around:
            await self.inner.run(ctx, task_status=task_status)

    def cancel_around(self) -> None:
        if self.around is not None:
            self.around.cancel()

    def obey(self, id: str) -> None:
        if self.orders.pop(id, False):
            raise CRASH.with_traceback(None)

    def press(self, id: str) -> None:
        self.orders[id] = True
        if id in self.buttons:
            self.buttons[id].set()

    def cancel(self) -> None:
        self.cancelled = True
        self.scope.cancel()

    async def terminator(self) -> None:
        await self.terminate.wait()
        assert self.target is not None
        sup = self.inner if self.target in "xy" else self.root
        try:
            await sup.terminate_child(self.target)
        except (SupervisorDown, NotFound):
            self.target = None

    async def story(self) -> None:
        before = trio.lowlevel.current_statistics().tasks_living
        with self.scope:
            async with trio.open_nursery() as nursery:
                if self.target is not None:
                    nursery.start_soon(self.terminator)
                nursery.start_soon(self.supervise, nursery)
                await trio.testing.wait_all_tasks_blocked()
                if self.root.running:
                    self.press("x")
                    await trio.testing.wait_all_tasks_blocked()
                    self.up_before_stop = self.up()
                self.root.stop()
                self.terminate.set()
        self.orphans = trio.lowlevel.current_statistics().tasks_living - before

    async def supervise(self, nursery: trio.Nursery) -> None:
        try:
            await self.root.run()
        except Exception as error:
            self.error = error

    def up(self) -> list[str]:
        alive: dict[str, None] = {}
        for what, id in self.log:
            if what == "up":
                alive[id] = None
            elif what == "down":
                alive.pop(id, None)
        return list(alive)

    def check(self) -> None:
        assert self.orphans == 0
        assert not self.root.running
        assert not self.inner.running
        alive: dict[str, str] = {}
        for what, id in self.log:
            if what == "attempt":
                assert id not in alive, f"two incarnations of {id}"
                siblings = "xy" if id in "xy" else "ab"
                starting = [other for other in siblings if alive.get(other) == "attempt"]
                assert not starting, f"{id} starts while {starting} has not acked"
            elif what == "told" and id != self.target:
                later = [other for other in LATER[id] if other in alive and other != self.target]
                assert not later, f"{id} is told to end while {later} live"
            if what == "down":
                assert id in alive
                del alive[id]
            else:
                alive[id] = what
        assert not alive, f"orphans: {alive}"


def play(
    strategy: str, seed: int, step: int, arrange: Callable[[Tree], Callable[[], None]]
) -> tuple[Tree, int]:
    tree = Tree(strategy)
    at = At(step, arrange(tree))
    simulate(tree.story, seed=seed, instruments=[at, StepLimit(STEPS_MAX)])
    return tree, at.steps


def steps_of(strategy: str, seed: int, target: str | None = None) -> int:
    """How many steps the story takes when nothing is done to it."""

    def arrange(tree: Tree) -> Callable[[], None]:
        tree.target = target
        return lambda: None

    tree, steps = play(strategy, seed, -1, arrange)
    tree.check()
    assert sorted(tree.up_before_stop or []) == ["a", "b", "x", "y"]
    return steps


def explain(error: BaseException, *facts: object) -> None:
    error.add_note(f"sweep point: {facts}")


@pytest.mark.parametrize("strategy", STRATEGIES)
def test_sweep_cancel_the_root_at_every_step(strategy: str) -> None:
    for seed in CANCEL_SEEDS:
        for step in range(1, steps_of(strategy, seed) + 1):
            tree, _ = play(strategy, seed, step, lambda tree: tree.cancel)
            try:
                tree.check()
                assert tree.error is None
                assert tree.cancelled
            except BaseException as error:
                explain(error, strategy, seed, step, tree.log)
                raise


@pytest.mark.parametrize("strategy", STRATEGIES)
def test_sweep_cancel_what_is_around_an_inner_supervisor_at_every_step(strategy: str) -> None:
    """It ends in order, as if told to stop, and comes back: nobody above was cancelled."""
    for seed in CANCEL_SEEDS:
        for step in range(1, steps_of(strategy, seed) + 1):
            tree, _ = play(strategy, seed, step, lambda tree: tree.cancel_around)
            try:
                tree.check()
                if tree.error is None:
                    assert sorted(tree.up_before_stop or []) == ["a", "b", "x", "y"]
                else:  # it had not acked: for the root a start that failed
                    assert tree.up_before_stop is None
                    assert "b" not in [id for _, id in tree.log]
            except BaseException as error:
                explain(error, strategy, seed, step, tree.log)
                raise


@pytest.mark.parametrize("strategy", STRATEGIES)
@pytest.mark.parametrize("child", ["a", "x", "y", "b"])
def test_sweep_raise_in_each_child_at_every_step(strategy: str, child: str) -> None:
    for seed in RAISE_SEEDS:
        for step in range(1, steps_of(strategy, seed) + 1):
            tree, _ = play(strategy, seed, step, lambda tree: lambda: tree.press(child))
            try:
                tree.check()
                if tree.error is None:
                    assert sorted(tree.up_before_stop or []) == ["a", "b", "x", "y"]
                else:  # the first start failed: it is never retried
                    assert tree.up_before_stop is None
                    assert tree.log.count(("attempt", child)) == 1
            except BaseException as error:
                explain(error, strategy, seed, step, tree.log)
                raise


@pytest.mark.parametrize("strategy", STRATEGIES)
@pytest.mark.parametrize("child", ["a", "x", "y", "b"])
def test_sweep_terminate_each_child_at_every_step(strategy: str, child: str) -> None:
    def arrange(tree: Tree) -> Callable[[], None]:
        tree.target = child
        return tree.terminate.set

    for seed in TERMINATE_SEEDS:
        for step in range(1, steps_of(strategy, seed, child) + 1):
            tree, _ = play(strategy, seed, step, arrange)
            try:
                tree.check()
                assert tree.error is None
                others = {"a", "b", "x", "y"} - {child}
                assert others <= set(tree.up_before_stop or [])
            except BaseException as error:
                explain(error, strategy, seed, step, tree.log)
                raise


def test_sweep_has_enough_points() -> None:
    cancel = 2 * sum(steps_of(strategy, seed) for strategy in STRATEGIES for seed in CANCEL_SEEDS)
    raising = 4 * sum(steps_of(strategy, seed) for strategy in STRATEGIES for seed in RAISE_SEEDS)
    terminate = 4 * sum(steps_of(strategy, seed, "a") for strategy in STRATEGIES for seed in TERMINATE_SEEDS)
    print(f"sweep points: {cancel} cancel, {raising} raise, {terminate} terminate")
    assert cancel + raising + terminate >= POINTS_MIN
