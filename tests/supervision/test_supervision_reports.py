"""Hooks, the tree's snapshot, streams of chance: what watches supervision without touching it."""

from __future__ import annotations

from typing import Any

import attrs
import pytest
import trio
from supervision_world import STRATEGIES, World, conformance, settle

from callrt.supervision import (
    Backoff,
    ChildSpec,
    DeadLetter,
    MailboxPolicy,
    Reports,
    Started,
    Supervisor,
    snapshot,
)


@conformance(error=[ValueError, SystemExit, KeyboardInterrupt])
async def test_hook_that_raises_changes_nothing_and_is_counted(world: World, error: Any) -> None:
    def broken(report: object) -> None:
        raise error

    sup = world.supervisor(world.specs("ab"), reports=[broken, world.hook])
    async with world.up(sup) as ended:
        await world.crash("a")
        assert world.count("up", "a") == 2
        assert sup.current is not None
        assert sup.current.reports.hook_faults == len(world.reports) > 0
    assert ended.error is None


@conformance
async def test_hook_may_stop_the_supervisor(world: World) -> None:
    def stop(report: object) -> None:
        if isinstance(report, Started) and report.id == "b":
            sup.stop()

    sup = world.supervisor(world.specs("abc"), reports=[world.hook, stop])
    await world.run(sup)
    assert world.what("attempt") == ["attempt a", "attempt b"]
    assert world.what("told") == ["told b", "told a"]


@conformance
async def test_hook_that_causes_reports_cannot_feed_itself_for_ever(world: World) -> None:
    def tell(report: object) -> None:
        sup.ref("a").tell("more")

    sup = world.supervisor([world.spec("a", mailbox=MailboxPolicy(capacity=1))], reports=[tell, world.hook])
    async with world.up(sup):
        await world.crash("a")
        assert sup.current is not None
        assert sup.current.reports.nested_dropped > 0
        assert 0 < len(world.of(DeadLetter)) < 1_000


@conformance
async def test_reports_of_a_subtree_reach_its_own_hooks_and_those_above(world: World) -> None:
    below: list[Any] = []
    inner = world.supervisor(world.specs("x"), reports=below.append)
    async with world.up(world.supervisor([ChildSpec("in", inner.run, kind="supervisor")])):
        await world.crash("x")
    assert [report.where for report in below] == ["root/in/x"] * len(below)
    assert [report for report in world.reports if report.id == "x"] == below


def test_reports_are_frozen_facts() -> None:
    report = Started(path=("root",), id="a", incarnation=1, at=0.0, strategy="one_for_one")
    with pytest.raises(attrs.exceptions.FrozenInstanceError):
        report.at = 1.0  # type: ignore[misc]
    seen: list[object] = []
    Reports([seen.append]).emit(report)
    assert seen == [report]


@conformance(strategy=STRATEGIES)
async def test_snapshot_shows_the_whole_tree_as_it_is(world: World, strategy: str) -> None:
    inner = world.nested([world.spec("x", backoff=Backoff(min=4.0, max_consecutive=9))], strategy)
    sup = world.supervisor([world.spec("a"), ChildSpec("in", inner.run, kind="supervisor")], strategy)
    assert snapshot(sup).phase == "down"
    async with world.up(sup):
        await trio.sleep(2)
        await world.crash("x", ValueError("what the caller said"))
        sup.ref("a").tell("waiting")
        await trio.sleep(1)
        with trio.testing.assert_no_checkpoints():
            tree = snapshot(sup)
        assert (tree.name, tree.phase, tree.restarts_in_window) == ("root", "up", 0)
        assert [path for path, _ in tree.walk()] == [("root", "a"), ("root", "in"), ("root", "in", "x")]
        a, inside = tree.children
        assert (a.state, a.incarnation, a.up_seconds, a.queued) == ("running", 1, 3.0, 1)
        assert inside.below is not None
        assert inside.below.restarts_in_window == 1
        (x,) = inside.below.children
        assert (x.state, x.due_seconds, x.failures, x.last_exit) == (
            "restarting",
            3.0,
            1,
            "error: ValueError",
        )
        assert "caller" not in str(tree)


@conformance
async def test_streams_of_chance_belong_to_their_actors(world: World) -> None:
    """What one actor draws does not depend on who else exists or draws."""
    drawn: dict[tuple[Any, ...], float] = {}

    async def body(ctx: Any) -> None:
        drawn[(*ctx.path, ctx.incarnation)] = ctx.rng.random()
        await world.obey(ctx)

    async def story(ids: str) -> dict[tuple[Any, ...], float]:
        drawn.clear()
        async with world.up(Supervisor([world.spec(id, body=body) for id in ids])):
            await world.crash("b")
        return dict(drawn)

    few, many = await story("b"), await story("abc")
    assert few.items() <= many.items()
    assert len(set(many.values())) == len(many) == 4


@conformance(strategy=STRATEGIES)
async def test_stop_before_it_is_up_fails_the_start_and_leaves_nothing(world: World, strategy: str) -> None:
    async def hang(ctx: Any) -> None:
        await trio.sleep_forever()

    sup = world.supervisor([world.spec("a"), world.spec("b", init=hang)], strategy)
    async with trio.open_nursery() as nursery:

        async def stop() -> None:
            await settle()
            sup.stop()

        nursery.start_soon(stop)
        with pytest.raises(Exception, match="stopped before it was up"):
            await nursery.start(sup.run)
    assert world.what("down") == ["down b", "down a"]
