"""A child that only waits may do so without a task: it is up all the same, in its place, and ends like any other."""

from __future__ import annotations

import gc
import weakref
from collections.abc import Callable
from typing import Any

import pytest
import trio
from trio.testing import MockClock, wait_all_tasks_blocked

from callrt.supervision import Bell, ChildSpec, Context, Supervisor


class Rester:
    """Rests until it is rung, and then does what it is told to."""

    def __init__(self, name: str = "rester") -> None:
        self.name = name
        self.bell = Bell()
        self.said: list[str] = []
        self.rings_before_rest = 0
        self.crash: Exception | None = None
        self.busy: trio.Event | None = None
        self.tasks: list[object] = []

    async def run(self, ctx: Context[Any], *, task_status: trio.TaskStatus[None]) -> None:
        self.tasks.append(trio.lowlevel.current_task())
        self.said.append(f"{'resumed' if ctx.resumed else 'begun'} #{ctx.incarnation}")
        if not ctx.resumed:
            task_status.started()
        if self.busy is not None:
            await self.busy.wait()
        if self.crash is not None:
            crash, self.crash = self.crash, None
            raise crash
        if self.rings_before_rest:
            self.rings_before_rest -= 1
            self.bell.ring()
        ctx.rest(self.bell, lambda: self.said.append("ended at rest"))

    def spec(self, **settings: Any) -> ChildSpec:
        return ChildSpec(self.name, self.run, **settings)


async def test_child_at_rest_is_up_and_has_no_task(
    all_tasks: Callable[[], list[trio.lowlevel.Task]],
) -> None:
    rester = Rester()
    sup = Supervisor([rester.spec()])
    async with trio.open_nursery() as nursery:
        await nursery.start(sup.run)
        await wait_all_tasks_blocked()
        assert sup.which_children()[0].state == "running"
        assert rester.tasks[-1] not in all_tasks()
        sup.stop()
    assert rester.said == ["begun #1", "ended at rest"]


async def test_ring_brings_up_the_same_incarnation() -> None:
    rester = Rester()
    sup = Supervisor([rester.spec()])
    async with trio.open_nursery() as nursery:
        await nursery.start(sup.run)
        for _ in range(3):
            await wait_all_tasks_blocked()
            rester.bell.ring()
            rester.bell.ring()
        await wait_all_tasks_blocked()
        sup.stop()
    # The second ring of each pair came when it was getting up: it is remembered, once.
    assert rester.said == ["begun #1", *["resumed #1"] * 6, "ended at rest"]


async def test_ring_that_comes_before_the_rest_is_not_lost() -> None:
    rester = Rester()
    rester.rings_before_rest = 3
    sup = Supervisor([rester.spec()])
    async with trio.open_nursery() as nursery:
        await nursery.start(sup.run)
        await wait_all_tasks_blocked()
        assert rester.said == ["begun #1", *["resumed #1"] * 3]
        sup.stop()


async def test_crash_after_a_rest_is_restarted_and_the_next_incarnation_rests_again(
    autojump_clock: MockClock,
) -> None:
    rester = Rester()
    sup = Supervisor([rester.spec()])
    async with trio.open_nursery() as nursery:
        await nursery.start(sup.run)
        await wait_all_tasks_blocked()
        rester.crash = ValueError("a bug")
        rester.bell.ring()
        await trio.sleep(5)
        assert rester.said == ["begun #1", "resumed #1", "begun #2"]
        assert sup.which_children()[0].state == "running"
        rester.bell.ring()
        await wait_all_tasks_blocked()
        assert rester.said[-1] == "resumed #2"
        sup.stop()


@pytest.mark.parametrize("how", ["stop", "cancel", "terminate"])
async def test_children_at_rest_end_in_reverse_order_and_at_once(how: str, autojump_clock: MockClock) -> None:
    ended: list[str] = []
    resters = [Rester(name) for name in ("first", "second", "third")]
    for rester in resters:
        rester.said = ended
    awake = resters[1]
    awake.busy = trio.Event()
    sup = Supervisor([rester.spec(shutdown=5) for rester in resters])
    begin = trio.current_time()
    async with trio.open_nursery() as nursery:
        await nursery.start(sup.run)
        await wait_all_tasks_blocked()
        del ended[:]
        if how == "stop":
            sup.stop()
        elif how == "cancel":
            nursery.cancel_scope.cancel()
        else:
            for rester in resters[::-1]:
                assert await sup.terminate_child(rester.name) == "shutdown"
            sup.stop()
    assert ended == ["ended at rest"] * 2, "the one that was awake was cancelled"
    assert trio.current_time() == begin


async def test_order_to_end_while_it_gets_up_ends_it_without_a_call() -> None:
    rester = Rester()
    sup = Supervisor([rester.spec()])
    async with trio.open_nursery() as nursery:
        await nursery.start(sup.run)
        await wait_all_tasks_blocked()
        nursery.cancel_scope.cancel()
        rester.bell.ring()
    assert rester.said in (["begun #1", "ended at rest"], ["begun #1", "resumed #1", "ended at rest"])


async def test_order_to_end_that_comes_just_before_the_rest_is_obeyed() -> None:
    rester = Rester()
    rester.busy = trio.Event()
    sup = Supervisor([rester.spec()])
    async with trio.open_nursery() as nursery:
        await nursery.start(sup.run)
        await wait_all_tasks_blocked()
        rester.busy.set()
        sup.stop()
    assert not sup.running
    assert rester.said[-1] in ("ended at rest", "begun #1")


async def test_clean_up_that_raises_at_rest_is_a_failed_shutdown_and_no_more() -> None:
    rester = Rester()
    reports: list[object] = []
    bell = Bell()

    async def run(ctx: Context[Any], *, task_status: trio.TaskStatus[None]) -> None:
        def fail() -> None:
            raise ValueError("a bug")

        task_status.started()
        ctx.rest(bell, fail)

    sup = Supervisor([rester.spec(), ChildSpec("bad", run)], reports=reports.append)
    async with trio.open_nursery() as nursery:
        await nursery.start(sup.run)
        await wait_all_tasks_blocked()
        sup.stop()
    assert "ShutdownError" in [type(report).__name__ for report in reports]
    assert rester.said[-1] == "ended at rest"


async def test_rest_without_an_ack_is_a_start_that_failed() -> None:
    async def run(ctx: Context[Any], *, task_status: trio.TaskStatus[None]) -> None:
        ctx.rest(Bell())

    with pytest.raises(ExceptionGroup) as caught:
        async with trio.open_nursery() as nursery:
            await nursery.start(Supervisor([ChildSpec("silent", run)]).run)
    assert "task_status.started()" in str(caught.value.exceptions[0])


@pytest.mark.usefixtures("no_collector")
async def test_child_that_ended_at_rest_is_in_no_cycle() -> None:
    async def once() -> weakref.ref[Rester]:
        rester = Rester()
        sup = Supervisor([rester.spec()])
        async with trio.open_nursery() as nursery:
            await nursery.start(sup.run)
            await wait_all_tasks_blocked()
            rester.bell.ring()
            await wait_all_tasks_blocked()
            sup.stop()
        rester.tasks.clear()
        return weakref.ref(rester)

    gone = await once()
    await wait_all_tasks_blocked()
    assert gone() is None
    assert not gc.isenabled()
