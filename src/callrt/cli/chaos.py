"""``callrt chaos``: scenarios of failure against the real server process, over real sockets."""

from __future__ import annotations

import argparse
import difflib
import sys
from collections import Counter
from pathlib import Path

import trio

from callrt.errors import ConfigError
from callrt.testing.sim.chaos import ChaosReport, percentile, run_scenario
from callrt.testing.sim.scenario import load_scenarios, scenario_folder

EPILOG = """examples:
  callrt chaos                              every scenario, and chaos/REPORT.md
  callrt chaos --list                       what there is
  callrt chaos --scenario process_killed    one of them

Each scenario is a storm and then a calm: real calls over loopback sockets against callrt serve in its own process,
judged by the checkers of callrt sim. Run it in a checkout: the scenarios are in chaos/scenarios.
exit status: 0 every guarantee held; 1 one was violated; 2 usage
"""


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
    parser.set_defaults(run=run_chaos)


def run_chaos(args: argparse.Namespace) -> int:
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
    reports = []
    for scenario in scenarios.values():
        print(f"{scenario.name}: {scenario.summary}", flush=True)
        report = trio.run(run_scenario, scenario)
        reports.append(report)
        _print(report)
    if args.scenario is None:
        write_report(scenario_folder().parent / "REPORT.md", reports)
    broken = [report.scenario.name for report in reports if not report.ok]
    print(f"violated in: {', '.join(broken)}" if broken else f"all held in {len(reports)} scenarios")
    return 1 if broken else 0


def _print(report: ChaosReport) -> None:
    print(f"  injected   {injected(report)}")
    print(f"  heard      {outcomes(report)}, {report.seconds:.0f} s")
    print(f"  recovery   {recovery(report)}")
    print(f"  verdicts   {verdicts(report)}")
    for sentence in troubles(report):
        print(f"  VIOLATED   {sentence}")
    sys.stdout.flush()


def injected(report: ChaosReport) -> str:
    counts = Counter(name for call in report.calls for name in call.struck)
    return ", ".join(f"{name} {count}" for name, count in counts.most_common()) or "nothing"


def outcomes(report: ChaosReport) -> str:
    counts = Counter(call.outcome for call in report.calls)
    return f"{len(report.calls)} calls: " + ", ".join(
        f"{count} {name}" for name, count in counts.most_common()
    )


def recovery(report: ChaosReport) -> str:
    values = report.recoveries
    if not values:
        return "nothing to recover from"
    return f"p50 {percentile(values, 0.5):.2f} s, p99 {percentile(values, 0.99):.2f} s"


def verdicts(report: ChaosReport) -> str:
    checks: Counter[str] = Counter()
    for call in report.calls:
        checks.update(call.judgement.checks)
    looked = [
        f"{name} {count}" for name, count in sorted(checks.items(), key=lambda p: int(p[0][1:])) if count
    ]
    return ", ".join(looked)


def troubles(report: ChaosReport) -> list[str]:
    found = [
        f"{violation.guarantee} in call {number}: {violation.what} ({violation.checker})"
        for number, call in enumerate(report.calls)
        for violation in call.judgement.violations
    ]
    return [*found, *report.trouble]


HEAD = """\
# Chaos report

Written by `callrt chaos` (`make chaos`). Each scenario is a storm and then a calm: whole calls over loopback
sockets against `callrt serve` in a process of its own. Recovery is the longest silence between two words of one
answer after a fault, at the caller's ear. Verdicts count what was checked per guarantee.

| scenario | injected | heard | recovery | checked | verdict |
|---|---|---|---|---|---|
"""


def write_report(path: Path, reports: list[ChaosReport]) -> None:
    lines = [
        f"| {report.scenario.name} | {injected(report)} | {outcomes(report)} | {recovery(report)} "
        f"| {verdicts(report)} | {'held' if report.ok else 'violated: ' + '; '.join(troubles(report))} |"
        for report in reports
    ]
    path.write_text(HEAD + "\n".join(lines) + "\n", encoding="utf-8")
