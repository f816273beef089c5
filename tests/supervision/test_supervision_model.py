"""Model check: Hypothesis plays random operations to the supervisor and to the pure model; both must agree on every
child's state, on the counts, on the answers to the caller and on the whole report stream."""

from __future__ import annotations

from typing import Any

import pytest
import trio
from hypothesis import HealthCheck, event, given, settings
from hypothesis import strategies as st
from supervision_model import Fact, Kid, Model
from supervision_world import STRATEGIES, World, run_world, settle

from callrt.supervision import (
    AutoShutdown,
    Backoff,
    Escalated,
    Exited,
    OrderlyStop,
    Restarting,
    Started,
    StartFailure,
    SupervisionError,
)

RESET_AFTER = 6.0
MAX_CONSECUTIVE = 4
BACKOFFS = {
    (0.0,): Backoff(min=0.0, factor=1.0, cap=0.0, reset_after=RESET_AFTER, max_consecutive=MAX_CONSECUTIVE),
    (1.0, 2.0, 4.0): Backoff(1.0, 2.0, 4.0, reset_after=RESET_AFTER, max_consecutive=MAX_CONSECUTIVE),
}
IDS = st.sampled_from("abcd")
KIDS = st.builds(
    Kid,
    id=IDS,
    restart=st.sampled_from(["permanent", "transient", "temporary"]),
    delays=st.sampled_from(list(BACKOFFS)),
    significant=st.booleans(),
    bad_starts=st.sampled_from([0, 0, 0, 1]),
)
CRASH = st.tuples(st.just("exit"), st.sampled_from("abc"), st.just("error"))
ADVANCE = st.tuples(st.just("advance"), st.sampled_from([0.25, 1.0, 2.0, 3.0, 7.0]))
OPERATIONS = st.one_of(
    CRASH,
    CRASH,
    CRASH,
    ADVANCE,
    st.tuples(st.just("exit"), IDS, st.sampled_from(["normal", "shutdown", "error"])),
    st.tuples(st.just("bad start"), IDS, st.integers(1, 3)),
    st.tuples(st.just("terminate"), IDS),
    st.tuples(st.just("restart"), IDS),
    st.tuples(st.just("delete"), IDS),
    st.tuples(st.just("add"), KIDS),
    ADVANCE,
)


class Play:
    """One sequence of operations, played to both."""

    def __init__(self, strategy: str, kids: list[Kid], max_restarts: int, auto_shutdown: str) -> None:
        if strategy == "dynamic":
            auto_shutdown = "never"
        self.auto_shutdown = auto_shutdown
        self.model = Model(strategy, max_restarts, 5.0, auto_shutdown, RESET_AFTER, MAX_CONSECUTIVE)
        self.strategy = strategy
        self.max_restarts = max_restarts
        self.kids = [self.fitting(kid) for kid in kids]
        self.bad_starts: dict[str, int] = {}

    def fitting(self, kid: Kid) -> Kid:
        """A fresh copy that this supervisor may have."""
        significant = kid.significant and kid.restart != "permanent" and self.auto_shutdown != "never"
        return Kid(kid.id, kid.restart, kid.delays, significant, bad_starts=kid.bad_starts)

    def spec(self, world: World, kid: Kid) -> Any:
        self.bad_starts[kid.id] = kid.bad_starts

        async def init(ctx: Any) -> None:
            if self.bad_starts[kid.id]:
                self.bad_starts[kid.id] -= 1
                raise LookupError("bad start")

        return world.spec(
            kid.id, kid.restart, init=init, backoff=BACKOFFS[kid.delays], significant=kid.significant
        )

    async def run(self, world: World, operations: list[tuple[Any, ...]]) -> None:
        common: dict[str, Any] = {"max_restarts": self.max_restarts, "period": 5.0}
        model = self.model
        if self.strategy == "dynamic":
            sup: Any = world.dynamic(**common)
        else:
            for kid in self.kids:
                model.kids[kid.id] = kid
            specs = [self.spec(world, kid) for kid in self.kids]
            sup = world.supervisor(specs, self.strategy, auto_shutdown=self.auto_shutdown, **common)
            model.start_all()
        if model.ended == "start failed":
            assert await world.run(sup) is not None
            self.agree_on_facts(world)
            return
        async with world.up(sup) as ended:
            await settle()
            for operation in operations:
                if model.ended is not None:
                    break
                await self.play(world, sup, operation)
                await settle()
                self.agree_on_facts(world)
                assert ended.done.is_set() == (model.ended is not None)
                if model.ended is None:
                    listing = [(info.id, info.state) for info in sup.which_children()]
                    assert listing == model.states()
                    assert sup.count_children().active == sum(state == "running" for _, state in listing)
                    assert sup.count_children().specs == len(listing)
            if model.ended is not None:
                event(f"ended: {model.ended}")
                assert (ended.error is not None) == (model.ended == "escalated")
                return
        # the ordered stop at the end
        model._end("stopped")
        self.agree_on_facts(world)

    async def play(self, world: World, sup: Any, operation: tuple[Any, ...]) -> None:
        model = self.model
        name, *arguments = operation
        if name == "advance":
            model.advance(arguments[0])
            await trio.sleep(arguments[0])
        elif name == "exit":
            id, kind = arguments
            if id in model.kids and model.kids[id].state == "running":
                model.exit(id, kind)
                world.press(id, {"normal": "return", "shutdown": OrderlyStop(), "error": ValueError()}[kind])
        elif name == "bad start":
            id, times = arguments
            if id in model.kids:
                model.kids[id].bad_starts = self.bad_starts[id] = times
        else:
            expected, answer = await self.call(world, sup, name, arguments[0])
            assert answer == expected, operation

    async def call(self, world: World, sup: Any, name: str, argument: Any) -> tuple[str, str]:
        model = self.model
        try:
            if name == "add":
                kid = self.fitting(argument)
                spec = self.spec(world, kid) if kid.id not in model.kids else world.spec(kid.id)
                expected = model.add(kid)
                await sup.start_child(spec)
            elif name == "terminate":
                expected = model.terminate(argument)
                await sup.terminate_child(argument)
            elif name == "restart":
                expected = model.restart(argument)
                await sup.restart_child(argument)
            else:
                expected = model.delete(argument)
                await sup.delete_child(argument)
        except SupervisionError as error:
            return expected, type(error).__name__
        return expected, "ok"

    def agree_on_facts(self, world: World) -> None:
        assert [fact(report) for report in world.reports] == self.model.facts


def fact(report: Any) -> Fact:
    name = type(report).__name__
    if isinstance(report, Started | StartFailure):
        return (name, report.id, report.incarnation)
    if isinstance(report, Exited):
        return (name, report.id, report.incarnation, report.reason.kind)
    if isinstance(report, Restarting):
        return (name, report.id, report.delay, report.count, report.group)
    assert isinstance(report, Escalated | AutoShutdown)
    return (name, report.id)


@pytest.mark.parametrize("strategy", [*STRATEGIES, "dynamic"])
def test_supervisor_and_model_agree_on_random_operations(strategy: str) -> None:
    @settings(
        max_examples=150,
        deadline=None,
        derandomize=True,
        suppress_health_check=list(HealthCheck),
        database=None,
    )
    @given(
        kids=st.lists(KIDS, min_size=1, max_size=4, unique_by=lambda kid: kid.id),
        operations=st.lists(OPERATIONS, min_size=10, max_size=40),
        max_restarts=st.sampled_from([0, 1, 2, 3, 5, 8, 8]),
        auto_shutdown=st.sampled_from(["never", "never", "any_significant", "all_significant"]),
        seed=st.integers(0, 2**16),
    )
    def agree(
        kids: list[Kid], operations: list[tuple[Any, ...]], max_restarts: int, auto_shutdown: str, seed: int
    ) -> None:
        play = Play(strategy, kids, max_restarts, auto_shutdown)
        run_world(lambda world: play.run(world, operations), seed)

    agree()
