"""A world for supervision tests: children that log what happens to them, buttons that end them, and the laws that
hold after every run, whatever it was about (no orphans, books that add up, well-formed reports, bounded steps)."""

from __future__ import annotations

import functools
import inspect
import math
import os
import random
import signal
import sys
from collections.abc import AsyncIterator, Awaitable, Callable, Hashable
from contextlib import asynccontextmanager
from typing import Any

import attrs
import trio

from callrt.supervision import (
    ChildSpec,
    Context,
    Declined,
    DynamicSupervisor,
    Escalated,
    Exited,
    Report,
    Restarting,
    Started,
    StartFailure,
    Supervisor,
    Unresponsive,
)
from callrt.supervision.determinism import simulate
from callrt.supervision.supervisor import SupervisorBase
from callrt.supervision.watchdog import task_stacks

SEEDS = 20
STEPS_MAX = 400_000
IDLE_ROUNDS_MAX = 1_000


@attrs.frozen
class Line:
    """One line of the children's log."""

    what: str
    id: Hashable
    incarnation: int
    at: float


class StepLimit(trio.abc.Instrument):
    """A run that spins, or that waits for nothing, fails instead of hanging."""

    def __init__(self, limit: int) -> None:
        self.limit = limit
        self.steps = 0
        self.idle_rounds = 0
        self.strikes = 0

    def before_task_step(self, task: trio.lowlevel.Task) -> None:
        self.steps += 1
        self.idle_rounds = 0
        if self.steps in (self.limit, self.limit + 10_000):
            self.strike("takes steps for ever")

    def before_io_wait(self, timeout: float) -> None:
        self.idle_rounds += 1
        if self.idle_rounds == IDLE_ROUNDS_MAX:  # every task waits and no deadline is left to jump to
            self.idle_rounds = 0
            self.strike("waits for ever")

    def strike(self, what: str) -> None:
        """Interrupt the run; if it still goes on after that, end the process: nothing else would."""
        self.strikes += 1
        if self.strikes == 1:
            signal.raise_signal(signal.SIGINT)
        else:
            sys.stderr.write(f"a simulated run {what}; its tasks:\n{task_stacks()}")
            os._exit(1)


class World:
    def __init__(self, seed: int) -> None:
        self.seed = seed
        self.rng = random.Random(seed)
        self.log: list[Line] = []
        self.reports: list[Any] = []
        self.addresses: dict[Any, None] = {}
        self.buttons: dict[Hashable, trio.Event] = {}
        self.orders: dict[Hashable, BaseException | str] = {}
        self.stuck_allowed = False

    # -- children --------------------------------------------------------------------------------------------

    def note(self, what: str, ctx: Context[Any]) -> None:
        self.log.append(Line(what, ctx.id, ctx.incarnation, trio.current_time()))

    def spec(
        self,
        id: Hashable,
        restart: str = "permanent",
        *,
        init: Callable[[Context[Any]], Awaitable[object]] | None = None,
        body: Callable[[Context[Any]], Awaitable[object]] | None = None,
        cleanup: float = 0.0,
        value: object = None,
        **settings: Any,
    ) -> ChildSpec:
        """A child that logs ``attempt``, ``up``, ``told`` and ``down``; its default body obeys :meth:`press`."""

        async def start(ctx: Context[Any], *, task_status: trio.TaskStatus[object]) -> None:
            self.addresses[ctx.address] = None
            self.note("attempt", ctx)
            try:
                if init is not None:
                    await init(ctx)
                task_status.started(value)
                self.note("up", ctx)
                await (self.obey(ctx) if body is None else body(ctx))
            except trio.Cancelled:
                self.note("told", ctx)
                raise
            finally:
                if cleanup:
                    with ctx.cleanup():
                        await trio.sleep(cleanup)
                self.note("down", ctx)

        return ChildSpec(id, start, restart, **settings)  # type: ignore[arg-type]

    def specs(self, ids: str, restart: str = "permanent", **settings: Any) -> list[ChildSpec]:
        return [self.spec(id, restart, **settings) for id in ids]

    async def obey(self, ctx: Context[Any]) -> None:
        self.buttons[ctx.id] = button = trio.Event()
        await button.wait()
        order = self.orders.pop(ctx.id)
        if isinstance(order, BaseException):
            raise order

    def press(self, id: Hashable, order: BaseException | str = "return") -> None:
        """End child ``id`` by raising ``order``, or by returning. Takes effect at its next step."""
        self.orders[id] = order
        self.buttons[id].set()

    async def crash(self, id: Hashable, error: BaseException | None = None) -> None:
        """Crash ``id``, once it is idle, and let everything that follows at this instant happen."""
        await settle()
        self.press(id, error if error is not None else ValueError(f"{id} crashed"))
        await settle()

    async def finish(self, id: Hashable) -> None:
        self.press(id)
        await settle()

    # -- supervisors -----------------------------------------------------------------------------------------

    def hook(self, report: object) -> None:
        self.reports.append(report)

    def supervisor(self, specs: Any = (), strategy: str = "one_for_one", **settings: Any) -> Supervisor:
        settings.setdefault("max_restarts", 3)
        settings.setdefault("period", 10.0)
        settings.setdefault("reports", self.hook)
        return Supervisor(specs, strategy=strategy, **settings)  # type: ignore[arg-type]

    def dynamic(self, **settings: Any) -> DynamicSupervisor:
        settings.setdefault("reports", self.hook)
        return DynamicSupervisor(**settings)

    def nested(self, specs: Any = (), strategy: str = "one_for_one", **settings: Any) -> Supervisor:
        """A supervisor that lives below another: its reports go up, so it needs no hook."""
        return self.supervisor(specs, strategy, reports=(), **settings)

    @asynccontextmanager
    async def up(self, sup: SupervisorBase) -> AsyncIterator[Ended]:
        """The supervisor runs inside; afterwards it is stopped. What it raised is in the value's ``error``."""
        ended = Ended()
        async with trio.open_nursery() as nursery:
            await nursery.start(ended.hold, sup)
            yield ended
            sup.stop()

    async def run(self, sup: SupervisorBase) -> BaseException | None:
        """Run to its end; what it raised."""
        ended = Ended()
        await ended.hold(sup)
        return ended.error

    # -- reading the log -------------------------------------------------------------------------------------

    def what(self, *kinds: str) -> list[str]:
        """``["up a", "down a", ...]`` of these kinds, in order."""
        return [f"{line.what} {line.id}" for line in self.log if line.what in kinds]

    def times(self, what: str, id: Hashable) -> list[float]:
        return [line.at for line in self.log if line.what == what and line.id == id]

    def count(self, what: str, id: Hashable) -> int:
        return len(self.times(what, id))

    def clear(self) -> None:
        self.log.clear()

    def of(self, kind: type, /, **facts: object) -> list[Any]:
        return [
            report
            for report in self.reports
            if isinstance(report, kind) and all(getattr(report, key) == value for key, value in facts.items())
        ]

    # -- laws ------------------------------------------------------------------------------------------------

    def check(self) -> None:
        check_books(self.addresses)
        check_reports(self.reports)
        check_log(self.log)


class Ended:
    """Holds what a supervisor's run raised, so that the nursery around it does not get it."""

    def __init__(self) -> None:
        self.error: BaseException | None = None
        self.done = trio.Event()

    async def hold(
        self, sup: SupervisorBase, *, task_status: trio.TaskStatus[Any] = trio.TASK_STATUS_IGNORED
    ) -> None:
        try:
            await sup.run(task_status=task_status)
        except (Exception, KeyboardInterrupt, SystemExit) as error:
            self.error = error
        finally:
            self.done.set()


async def settle() -> None:
    """Until nothing more happens at this instant."""
    await trio.testing.wait_all_tasks_blocked()


def check_books(addresses: dict[Any, None]) -> None:
    """G12: sent = handled + queued + dead letters; I10: no ask is left pending."""
    for address in addresses:
        books = address.statistics()
        assert books.adds_up, f"{address.label}: {books}"
        assert books.asks_pending == 0, f"{address.label}: {books}"


def check_reports(reports: list[Any]) -> None:
    """DET-5: one start and one end per incarnation, no overlap, every restart after its cause."""
    alive: dict[tuple[Any, ...], int] = {}
    causes: dict[tuple[Any, ...], int] = {}
    for report in reports:
        if not isinstance(report, Report):
            continue
        key = (report.path, report.id)
        if isinstance(report, Started):
            assert key not in alive, f"{report}: two incarnations at once"
            alive[key] = report.incarnation
        elif isinstance(report, Exited):
            assert alive.pop(key, None) == report.incarnation, f"{report}: ended without having started"
            causes[key] = causes.get(key, 0) + (not report.ordered)
        elif isinstance(report, StartFailure):
            assert key not in alive, f"{report}: failed to start while running"
            causes[key] = causes.get(key, 0) + 1
        elif isinstance(report, Restarting):
            assert causes.get(key, 0) > 0, f"{report}: no cause"
            causes[key] -= 1
        elif isinstance(report, Declined):
            assert key not in alive
    assert not alive, f"started and never ended: {alive}"


def check_log(log: list[Line]) -> None:
    """G1 and G2 as the children saw it: attempt and down alternate per id, and everything that began has ended."""
    alive: dict[Hashable, int] = {}
    for line in log:
        if line.what == "attempt":
            assert line.id not in alive, f"{line}: two incarnations at once"
            alive[line.id] = line.incarnation
        elif line.what == "down":
            assert alive.pop(line.id, None) in (line.incarnation, None), f"{line}"
    assert not alive, f"orphans: {alive}"


Scenario = Callable[[World], Awaitable[None]]


def run_world(
    scenario: Scenario, seed: int, *instruments: trio.abc.Instrument, steps: int = STEPS_MAX
) -> World:
    """Run a scenario under one seed and check the laws."""
    world = World(seed)

    async def main() -> None:
        before = trio.lowlevel.current_statistics().tasks_living
        await scenario(world)
        after = trio.lowlevel.current_statistics().tasks_living
        assert after == before, f"orphans: {after - before} tasks"

    simulate(main, seed=seed, instruments=[StepLimit(steps), *instruments])
    world.check()
    return world


def conformance(
    scenario: Callable[..., Awaitable[None]] | None = None, *, seeds: int = SEEDS, **variants: list[Any]
) -> Any:
    """Make a test of a scenario: it runs under ``seeds`` seeds for each combination of the named variants."""
    if scenario is None:
        return functools.partial(conformance, seeds=seeds, **variants)
    scenario_ = scenario

    def test() -> None:
        combos: list[dict[str, Any]] = [{}]
        for name, values in variants.items():
            combos = [{**combo, name: value} for combo in combos for value in values]
        for combo in combos:
            for seed in range(seeds):
                try:
                    run_world(functools.partial(scenario_, **combo), seed)
                except BaseException as error:
                    error.add_note(f"{scenario_.__name__}: seed {seed} {combo or ''}")
                    raise

    functools.update_wrapper(test, scenario)
    del test.__wrapped__  # type: ignore[attr-defined]
    test.__signature__ = inspect.Signature()  # type: ignore[attr-defined]
    test.seeds = seeds  # type: ignore[attr-defined]
    return test


STRATEGIES = ["one_for_one", "one_for_all", "rest_for_one"]
RESTARTS = ["permanent", "transient", "temporary"]
INF = math.inf

__all__ = [
    "INF",
    "RESTARTS",
    "SEEDS",
    "STRATEGIES",
    "Ended",
    "Escalated",
    "Line",
    "StepLimit",
    "Unresponsive",
    "World",
    "check_log",
    "check_reports",
    "conformance",
    "run_world",
    "settle",
]
