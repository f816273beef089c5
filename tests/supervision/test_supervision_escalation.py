"""Conformance: nesting, escalation, significant children, exceptions of every kind."""

from __future__ import annotations

import gc
import weakref
from typing import Any

import trio
from supervision_world import STRATEGIES, World, conformance, settle

from callrt.supervision import (
    AutoShutdown,
    Backoff,
    ChildSpec,
    Escalated,
    Escalation,
    Exited,
    GiveUp,
    OrderlyStop,
    Restarting,
    ShutdownError,
    StartFailed,
)


def leaves(error: BaseException | None) -> list[BaseException]:
    """The chain from an error to its last cause."""
    chain = []
    while error is not None:
        chain.append(error)
        error = error.__cause__
    return chain


@conformance(strategy=STRATEGIES)
async def test_esc_1_escalation_is_one_failure_for_the_parent(world: World, strategy: str) -> None:
    inner = world.nested(world.specs("x"), max_restarts=1)
    specs = [world.spec("a"), ChildSpec("in", inner.run, kind="supervisor"), world.spec("z")]
    async with world.up(world.supervisor(specs, strategy, max_restarts=1)) as ended:
        await world.crash("x")
        assert world.count("up", "z") == 1
        await world.crash("x")
        assert world.count("up", "x") == 3
        assert world.count("up", "a") == (2 if strategy == "one_for_all" else 1)
        assert world.count("up", "z") == (1 if strategy == "one_for_one" else 2)
        assert len(world.of(Restarting, id="in")) == 1
        # the inner window is fresh: one more restart there before it escalates again
        await world.crash("x")
        assert not ended.done.is_set()
        await world.crash("x")
    assert isinstance(ended.error, Escalation)
    assert ended.error.id == "in"


@conformance(strategy=STRATEGIES)
async def test_esc_2_transient_supervisor_that_escalates_is_restarted(world: World, strategy: str) -> None:
    inner = world.nested(world.specs("x"), max_restarts=0)
    async with world.up(
        world.supervisor([ChildSpec("in", inner.run, "transient", kind="supervisor")], strategy)
    ):
        await world.crash("x")
        assert world.count("up", "x") == 2


@conformance(strategy=STRATEGIES)
async def test_esc_3_chain_leads_from_the_root_to_the_last_cause(world: World, strategy: str) -> None:
    inmost = world.nested(world.specs("x"), strategy, max_restarts=0)
    middle = world.nested([ChildSpec("inmost", inmost.run, kind="supervisor")], strategy, max_restarts=0)
    root = world.supervisor([ChildSpec("middle", middle.run, kind="supervisor")], strategy, max_restarts=0)
    cause = ValueError("the root of it all")
    async with world.up(root) as ended:
        await world.crash("x", cause)
    chain = leaves(ended.error)
    assert chain[-1] is cause
    escalations = chain[:-1]
    assert [error.id for error in escalations if isinstance(error, Escalation)] == ["middle", "inmost", "x"]
    assert [error.path for error in escalations if isinstance(error, Escalation)] == [
        ("root",),
        ("root", "middle"),
        ("root", "middle", "inmost"),
    ]
    assert isinstance(ended.error, Escalation)
    assert ended.error.cause is cause
    assert [report.path[-1] for report in world.of(Escalated)] == ["inmost", "middle", "root"]


class BrokenPolicy:
    """A backoff of somebody's own that raises."""

    min = 0.0
    reset_after = 60.0
    max_consecutive = None

    def delay(self, failures: int, rng: object) -> float:
        raise ZeroDivisionError("policy")


@conformance(strategy=STRATEGIES, depth=[0, 1])
async def test_esc_4_fault_in_the_supervisor_stops_the_children_in_order(
    world: World, strategy: str, depth: int
) -> None:
    specs = [world.spec(id, cleanup=0.1, backoff=BrokenPolicy()) for id in "abc"]
    sup = world.supervisor(specs, strategy)
    if depth:
        inner = world.nested(specs, strategy)
        sup = world.supervisor([ChildSpec("in", inner.run, "transient", kind="supervisor")], max_restarts=1)
    async with world.up(sup) as ended:
        await settle()
        world.press("c", ValueError())
        await trio.sleep(1)
        assert world.what("told", "down")[:5] == ["down c", "told b", "down b", "told a", "down a"]
        if depth:
            assert [world.count("up", id) for id in "abc"] == [2, 2, 2]
    if not depth:
        assert isinstance(ended.error, Escalation)
        assert ended.error.why == "fault"
        assert isinstance(ended.error.cause, ZeroDivisionError)


def significant(world: World, id: str, restart: str, **settings: Any) -> ChildSpec:
    return world.spec(id, restart, significant=True, **settings)


@conformance(
    strategy=STRATEGIES,
    case=["transient normal", "temporary normal", "temporary error", "temporary shutdown"],
)
async def test_sig_1_any_significant_end_stops_the_others_in_reverse(
    world: World, strategy: str, case: str
) -> None:
    restart, end = case.split()
    specs = [world.spec("a"), significant(world, "s", restart), world.spec("b")]
    sup = world.supervisor(specs, strategy, auto_shutdown="any_significant")
    async with world.up(sup) as ended:
        await settle()
        world.press("s", {"normal": "return", "error": ValueError(), "shutdown": OrderlyStop()}[end])
        await ended.done.wait()
        assert world.what("told") == ["told b", "told a"]
    assert ended.error is None
    assert [report.id for report in world.of(AutoShutdown)] == ["s"]


@conformance(strategy=STRATEGIES)
async def test_sig_2_crash_of_a_significant_transient_child_is_a_restart(world: World, strategy: str) -> None:
    sup = world.supervisor([significant(world, "s", "transient")], strategy, auto_shutdown="any_significant")
    async with world.up(sup) as ended:
        await world.crash("s")
        assert world.count("up", "s") == 2
        assert not ended.done.is_set()


@conformance(strategy=STRATEGIES, restart=["transient", "temporary"])
async def test_sig_3_all_significant_waits_for_the_last_one(
    world: World, strategy: str, restart: str
) -> None:
    specs = [significant(world, "s", restart), significant(world, "t", restart), world.spec("a")]
    sup = world.supervisor(specs, strategy, auto_shutdown="all_significant")
    async with world.up(sup) as ended:
        await world.finish("s")
        await trio.sleep(10)
        assert not ended.done.is_set()
        await world.finish("t")
        assert ended.done.is_set()
    assert ended.error is None


@conformance(mode=["any_significant", "all_significant"])
async def test_sig_4_ordered_ends_of_significant_children_shut_nothing_down(world: World, mode: str) -> None:
    for strategy in STRATEGIES:
        specs = [world.spec("a"), significant(world, "s", "transient"), significant(world, "t", "temporary")]
        sup = world.supervisor(specs, strategy, auto_shutdown=mode)
        async with world.up(sup) as ended:
            if strategy != "one_for_one":
                await world.crash("a")  # s and t are bystanders
                assert [info.id for info in sup.which_children()] == ["a", "s"]
            else:
                await sup.terminate_child("t")
            await sup.terminate_child("s")
            await trio.sleep(10)
            assert not ended.done.is_set()
    # the last one terminated by hand does nothing; one that then ends by itself does
    specs = [significant(world, "s", "transient"), significant(world, "t", "transient")]
    sup = world.supervisor(specs, auto_shutdown=mode)
    async with world.up(sup) as ended:
        await sup.terminate_child("s")
        await settle()
        assert not ended.done.is_set()
        await world.finish("t")
        assert ended.done.is_set()


@conformance(strategy=STRATEGIES, is_significant=[True, False])
async def test_sig_5_auto_shutdown_is_no_failure_for_the_parent(
    world: World, strategy: str, is_significant: bool
) -> None:
    inner = world.nested([significant(world, "s", "transient")], auto_shutdown="any_significant")
    child = ChildSpec("in", inner.run, "transient", kind="supervisor", significant=is_significant)
    outer = world.supervisor([world.spec("a"), child], strategy, auto_shutdown="any_significant")
    async with world.up(outer) as ended:
        await world.finish("s")
        assert ended.done.is_set() == is_significant
        (report,) = world.of(Exited, id="in")
        assert report.reason.kind == "shutdown"
        if not is_significant:
            assert [info.state for info in outer.which_children()] == ["running", "stopped"]
    assert ended.error is None
    assert world.of(Restarting) == []


@conformance(mode=["never", "any_significant", "all_significant"], restart=["transient", "temporary"])
async def test_sig_6_insignificant_ends_never_shut_down(world: World, mode: str, restart: str) -> None:
    for strategy in STRATEGIES:
        sup = world.supervisor(world.specs("abcd", restart), strategy, auto_shutdown=mode, max_restarts=5)
        async with world.up(sup) as ended:
            await world.finish("a")
            world.press("b", OrderlyStop())
            await settle()
            await world.crash("c")
            await sup.terminate_child("d")
            await trio.sleep(10)
            assert not ended.done.is_set()
    assert world.of(AutoShutdown) == []


@conformance(
    strategy=["one_for_one", "dynamic"], error=[ValueError, AssertionError, trio.TooSlowError, GeneratorExit]
)
async def test_exc_1_exception_of_a_child_touches_no_sibling(world: World, strategy: str, error: Any) -> None:
    sup = world.dynamic() if strategy == "dynamic" else world.supervisor()
    async with world.up(sup):
        for id in "abc":
            await sup.start_child(world.spec(id))
        await world.crash("b", error())
        assert world.count("told", "a") == world.count("told", "c") == 0
        assert world.count("up", "b") == 2
        assert sup.current is not None
        assert not sup.current.kids.cancel_scope.cancel_called


@conformance
async def test_exc_2_groups_are_judged_by_their_leaves(world: World) -> None:
    def group(*errors: BaseException) -> BaseException:
        return BaseExceptionGroup("inner", [BaseExceptionGroup("inmost", list(errors))])

    sup = world.supervisor(world.specs("a", "transient"))
    async with world.up(sup):
        await world.crash("a", group(OrderlyStop(), OrderlyStop()))
        assert world.of(Exited)[-1].reason.kind == "shutdown"
        assert sup.which_children()[0].state == "stopped"
        await sup.restart_child("a")
        await world.crash("a", group(OrderlyStop(), ValueError()))
        assert world.of(Exited)[-1].reason.kind == "error"
        assert world.of(Exited)[-1].reason.leaves == ("OrderlyStop", "ValueError")
        assert world.count("up", "a") == 3
    async with world.up(world.supervisor(world.specs("a"))) as ended:
        inner = KeyboardInterrupt()
        await world.crash("a", group(ValueError(), inner))
    assert ended.error is inner
    # policies that match exception types see the leaves
    async with world.up(world.supervisor([world.spec("a", give_up_on=[PermissionError])])) as ended:
        await world.crash("a", group(ValueError(), PermissionError("bad key")))
    assert isinstance(ended.error, Escalation)
    assert ended.error.why == "give_up"


@conformance(
    strategy=STRATEGIES, system=[KeyboardInterrupt, SystemExit], phase=["running", "start", "restart"]
)
async def test_exc_3_system_exit_stops_every_level_in_order_and_comes_out_of_the_root(
    world: World, strategy: str, system: Any, phase: str
) -> None:
    error = system()

    async def init(ctx: Any) -> None:
        if phase == "start" or (phase == "restart" and ctx.incarnation > 1):
            raise error

    inner = world.nested(
        [world.spec("x", cleanup=0.5), world.spec("y", init=init), world.spec("z", cleanup=0.5)], strategy
    )
    specs = [
        world.spec("a", cleanup=1.0),
        ChildSpec("in", inner.run, kind="supervisor"),
        world.spec("b", cleanup=1.0),
    ]
    sup = world.supervisor(specs, strategy)
    if phase == "start":
        assert await world.run(sup) is error
        assert world.what("told") == ["told x", "told a"]
    else:
        async with world.up(sup) as ended:
            await settle()
            world.clear()
            world.press("y", error if phase == "running" else ValueError())
            await trio.sleep(10)
            assert ended.done.is_set()
        assert ended.error is error
        told = world.what("told")
        assert told[-2:] == ["told b", "told a"]
        if phase == "running":
            assert told == ["told z", "told x", "told b", "told a"]
    if phase != "restart":
        assert world.of(Restarting) == []
    assert [world.count("attempt", id) for id in "ab"] == ([1, 0] if phase == "start" else [0, 0])


@conformance(strategy=[*STRATEGIES, "dynamic"], grouped=[False, True])
async def test_exc_4_foreign_cancelled_is_an_error_of_that_child(
    world: World, strategy: str, grouped: bool
) -> None:
    stored: list[trio.Cancelled] = []

    async def body(ctx: Any) -> None:
        if ctx.incarnation == 1:
            with trio.CancelScope() as scope:
                scope.cancel()
                try:
                    await trio.sleep(1)
                except trio.Cancelled as error:
                    stored.append(error)
                    raise
            await trio.sleep(1)
            raise BaseExceptionGroup("", [ValueError(), stored[0]]) if grouped else stored[0]
        await world.obey(ctx)

    specs = [world.spec("a"), world.spec("b", body=body)]
    sup = world.dynamic() if strategy == "dynamic" else world.supervisor((), strategy)
    async with world.up(sup) as ended:
        for spec in specs:
            await sup.start_child(spec)
        await trio.sleep(2)
        (report,) = world.of(Exited, id="b")
        assert report.reason.kind == "error"
        assert "Cancelled" in report.reason.leaves
        assert world.count("up", "b") == 2
        assert world.count("told", "a") == (1 if strategy == "one_for_all" else 0)
        assert not ended.done.is_set()


@conformance(strategy=[*STRATEGIES, "dynamic"], how=["stop", "cancel", "terminate"])
async def test_exc_5_exception_while_being_cancelled_is_a_shutdown_error(
    world: World, strategy: str, how: str
) -> None:
    async def mixed(ctx: Any) -> None:
        async def failing() -> None:
            try:
                await trio.sleep_forever()
            finally:
                raise LookupError("in a group with Cancelled")

        async with trio.open_nursery() as nursery:
            nursery.start_soon(failing)
            nursery.start_soon(trio.sleep_forever)

    sup: Any = (
        world.dynamic(max_restarts=0)
        if strategy == "dynamic"
        else world.supervisor((), strategy, max_restarts=0)
    )
    with trio.CancelScope() as scope:
        async with world.up(sup) as ended:
            await sup.start_child(world.spec("a", body=mixed))
            await settle()
            if how == "terminate":
                assert await sup.terminate_child("a") == "error"
            elif how == "cancel":
                scope.cancel()
    assert ended.error is None
    (report,) = world.of(ShutdownError)
    assert "LookupError" in report.reason.traceback
    assert world.of(Restarting) == []


class Tracked:
    pass


@conformance(strategy=STRATEGIES)
async def test_exc_6_report_has_the_facts_and_the_frames_are_free(world: World, strategy: str) -> None:
    frames: list[weakref.ref[Tracked]] = []

    async def body(ctx: Any) -> None:
        local = Tracked()
        frames.append(weakref.ref(local))
        await world.obey(ctx)

    async with world.up(world.supervisor([world.spec("a", body=body, backoff=Backoff(min=1.0))], strategy)):
        await world.crash("a", ValueError("what happened"))
        (report,) = world.of(Exited)
        assert (report.id, report.incarnation, report.strategy) == ("a", 1, strategy)
        assert (report.reason.type, report.reason.message) == ("ValueError", "what happened")
        assert "in body" in report.reason.traceback
        assert "what happened" in report.reason.traceback
        gc.collect()
        assert frames[0]() is None
        await trio.sleep(2)


@conformance(strategy=STRATEGIES, phase=["running", "restart"], restart=["permanent", "transient"])
async def test_give_up_ends_every_level_without_a_single_restart(
    world: World, strategy: str, phase: str, restart: str
) -> None:
    async def init(ctx: Any) -> None:
        if phase == "restart" and ctx.incarnation > 1:
            raise BaseExceptionGroup("", [GiveUp("no quota")])

    inner = world.nested([world.spec("x"), world.spec("y", restart, init=init)], strategy, max_restarts=100)
    specs = [world.spec("a"), ChildSpec("in", inner.run, restart, kind="supervisor"), world.spec("b")]
    async with world.up(world.supervisor(specs, strategy, max_restarts=100)) as ended:
        await settle()
        world.press("y", ValueError() if phase == "restart" else BaseExceptionGroup("", [GiveUp("no quota")]))
        await ended.done.wait()
    assert isinstance(ended.error, Escalation)
    assert (ended.error.id, ended.error.why) == ("in", "give_up")
    assert len(world.of(Restarting)) == (1 if phase == "restart" else 0)
    assert [world.count("attempt", id) for id in "ab"] == [1, 1]
    assert world.what("told")[-2:] == ["told b", "told a"]


@conformance(strategy=[*STRATEGIES, "dynamic"])
async def test_give_up_ends_at_a_temporary_child(world: World, strategy: str) -> None:
    """Its end concerns nobody else: one call's bad key must not end the others."""
    inner = world.nested(world.specs("x"))
    sup = world.dynamic() if strategy == "dynamic" else world.supervisor((), strategy)
    async with world.up(sup) as ended:
        await sup.start_child(world.spec("a"))
        await sup.start_child(ChildSpec("in", inner.run, "temporary", kind="supervisor"))
        await world.crash("x", GiveUp("bad key"))
        assert not ended.done.is_set()
        assert [info.id for info in sup.which_children()] == ["a"]
        assert world.count("told", "a") == 0


@conformance(strategy=STRATEGIES)
async def test_give_up_at_the_first_start_is_a_start_failure_that_carries_it(
    world: World, strategy: str
) -> None:
    async def init(ctx: Any) -> None:
        raise GiveUp("bad key")

    inner = world.nested([world.spec("x", init=init)], strategy)
    error = await world.run(world.supervisor([ChildSpec("in", inner.run, kind="supervisor")], strategy))
    assert isinstance(error, StartFailed)
    assert isinstance(error.cause, GiveUp)


@conformance(strategy=["one_for_all", "rest_for_one"])
async def test_give_up_of_a_member_in_the_same_tick_is_not_absorbed(world: World, strategy: str) -> None:
    async with world.up(world.supervisor(world.specs("ab"), strategy)) as ended:
        await settle()
        world.press("a", ValueError())
        world.press("b", GiveUp("bad key"))
        await ended.done.wait()
    assert isinstance(ended.error, Escalation)
    assert ended.error.why == "give_up"
    assert world.count("attempt", "b") == 1
