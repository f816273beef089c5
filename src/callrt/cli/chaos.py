"""``callrt chaos``: scenarios of failure against the real server process, over real sockets."""

from __future__ import annotations

import argparse
import difflib
import math
import os
from collections.abc import Awaitable, Callable, Sequence
from functools import partial
from typing import TypeVar

import attrs
import trio

from callrt.errors import CallrtError, ConfigError
from callrt.testing.chaos.report import summary, told, write_report, write_traces
from callrt.testing.chaos.scenario import Scenario, load_scenario, load_scenarios, scenario_folder
from callrt.testing.chaos.soak import grown, measured, soak
from callrt.testing.chaos.stage import ChaosReport, run_scenario

EPILOG = """examples:
  callrt chaos                              every scenario, and chaos/REPORT.md
  callrt chaos --list                       what there is
  callrt chaos --scenario process_killed    one of them
  callrt chaos --soak 10                    ten minutes of broken calls: do memory, tasks and descriptors grow?

Each scenario is a storm and then a calm: real calls over loopback sockets against callrt serve in its own process,
judged by the checkers of callrt sim. Run it in a checkout: the scenarios are in chaos/scenarios.
exit status: 0 every guarantee held; 1 one was violated, or the machine was too busy to tell; 2 usage
"""

T = TypeVar("T")

SMALL = 4
"""Calls of a scenario that leave a core room for others beside it."""
JOBS_MAX = 4
SOAK_MINUTES_MAX = 10_080
"""A week."""
ATTEMPTS = 2
"""A scenario on which the machine was too busy for a verdict is played again."""


def add_parser(subparsers: argparse._SubParsersAction[argparse.ArgumentParser]) -> None:
    parser = subparsers.add_parser(
        "chaos",
        help="break the real server process and its sockets, and check every guarantee",
        description="Plays the scenarios under chaos/ against real processes and real sockets.",
        epilog=EPILOG,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument("--scenario", metavar="NAME", help="only this one; writes no report")
    parser.add_argument("--list", action="store_true", help="list the scenarios")
    parser.add_argument(
        "--soak", type=_minutes, metavar="MINUTES", help="wave after wave of broken calls (chaos/soak.toml)"
    )
    parser.set_defaults(run=run_chaos)


def _minutes(text: str) -> float:
    try:
        minutes = float(text)
    except ValueError:
        minutes = math.nan
    if not 0 < minutes <= SOAK_MINUTES_MAX:
        raise argparse.ArgumentTypeError(f"must be a number of minutes above 0, at most {SOAK_MINUTES_MAX}")
    return minutes


def run_chaos(args: argparse.Namespace) -> int:
    if args.soak is not None:
        return run_soak(args.soak)
    scenarios = load_scenarios()
    if args.list:
        for scenario in scenarios.values():
            print(f"{scenario.name:26} {scenario.summary}")
        return 0
    if args.scenario is not None:
        if args.scenario not in scenarios:
            near = difflib.get_close_matches(args.scenario, scenarios, n=1, cutoff=0.0)[0]
            raise ConfigError(f'there is no scenario "{args.scenario}"; did you mean "{near}"?')
        scenarios = {args.scenario: scenarios[args.scenario]}
    reports = _in_one_sentence(partial(play_all, list(scenarios.values())))
    if args.scenario is None:
        write_report(scenario_folder().parent / "REPORT.md", reports)
    print(summary(reports))
    return 0 if all(report.ok and report.fit for report in reports) else 1


async def play_all(scenarios: Sequence[Scenario]) -> list[ChaosReport]:
    """Small ones beside each other, big ones alone; in the order given. Raises CallrtError."""
    reports: dict[str, ChaosReport] = {}
    room = trio.CapacityLimiter(min(JOBS_MAX, 1 + (os.cpu_count() or 1)))

    async def one(scenario: Scenario) -> None:
        async with room:
            reports[scenario.name] = await play(scenario, attempts=1)

    async with trio.open_nursery() as nursery:
        for scenario in scenarios:
            if scenario.calls <= SMALL:
                nursery.start_soon(one, scenario)
    for scenario in scenarios:
        if scenario.calls > SMALL or not reports[scenario.name].fit:
            reports[scenario.name] = await play(scenario, attempts=ATTEMPTS)
    return [reports[scenario.name] for scenario in scenarios]


async def play(scenario: Scenario, *, attempts: int) -> ChaosReport:
    """Again, when the machine was too busy for a verdict. Raises CallrtError."""
    for attempt in range(1, attempts + 1):
        report = attrs.evolve(await run_scenario(scenario), attempts=attempt)
        lines = [f"{scenario.name}: {scenario.summary}", *told(report)]
        lines += [
            f"  what happened: {path}" for path in write_traces(scenario_folder().parent / "traces", report)
        ]
        print("\n".join(lines), flush=True)
        if report.fit:
            break
    return report


def run_soak(minutes: float) -> int:
    scenario = load_scenario(scenario_folder().parent / "soak.toml")
    print(f"{scenario.summary} For {minutes:g} minutes:", flush=True)
    report = _in_one_sentence(partial(soak, scenario, minutes * 60, partial(print, flush=True)))
    for trend in report.trends:
        print(f"  {trend}")
    if not report.ok:
        print(f"  grown: {', '.join(grown(measured(report.samples))) or 'nothing'}")
    for sentence in report.trouble:
        print(f"  VIOLATED   {sentence}")
    if report.unfit:
        print(f"  {report.unfit} of {len(report.samples)} waves were not judged: the machine was too busy")
    print(f"{len(report.calls)} calls: {'all held, nothing grows' if report.ok else 'violated'}")
    return 0 if report.ok else 1


def _in_one_sentence(main: Callable[[], Awaitable[T]]) -> T:
    """What ``main`` returns; instead of a group of exceptions the one that says why."""
    try:
        return trio.run(main)
    except BaseExceptionGroup as group:
        error: BaseException = group
        while isinstance(error, BaseExceptionGroup):
            error = error.exceptions[0]
        if isinstance(error, CallrtError | KeyboardInterrupt):
            raise error from None
        raise
