"""``callrt sim``: whole calls in virtual time, faults drawn from a number, every guarantee checked."""

from __future__ import annotations

import argparse
import json
import sys
from typing import Any

from callrt.cli import arguments
from callrt.errors import ConfigError
from callrt.testing.sim.coverage import REACHABLE, impossible, unreached
from callrt.testing.sim.profiles import load_profile, profile_names
from callrt.testing.sim.runner import CallResult, Summary, case_of, run, run_case, untouched
from callrt.testing.sim.shrink import as_test, shrink

CALLS_MAX = 10_000_000
WORKERS_MAX = 1024
"""More than any machine has cores."""

EPILOG = """examples:
  callrt sim --seed 1 --calls 100                         a hundred calls, everything breaks
  callrt sim --seed 1 --calls 100 --faults model          only the model service breaks
  callrt sim --seed 1 --call 37 --faults model --shrink   that one call again, with as few faults as will do
  callrt sim --list                                       the fault profiles

The same seed gives the same digest, on any machine and with any number of workers.
exit status: 0 every guarantee held; 1 one was violated; 2 usage
"""


def add_parser(subparsers: argparse._SubParsersAction[argparse.ArgumentParser]) -> None:
    parser = subparsers.add_parser(
        "sim",
        help="simulate whole calls under faults drawn from a seed, and check every guarantee",
        description="Plays whole calls in virtual time: real codecs and actors, virtual sockets, disk and clock, an "
        "emulated carrier and model, and faults drawn from the seed. After the storm each call must heal.",
        epilog=EPILOG,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument("--seed", type=int, default=1, metavar="S", help="default %(default)s")
    parser.add_argument(
        "--calls", type=arguments.whole(1, CALLS_MAX), default=100, metavar="N", help="default %(default)s"
    )
    parser.add_argument("--faults", default="everything", metavar="PROFILE", help="default %(default)s")
    parser.add_argument(
        "--call", type=int, metavar="K", help="only call K of the run (from 0): repeats a failure"
    )
    parser.add_argument(
        "--shrink", action="store_true", help="make the first failing case small; print a test"
    )
    parser.add_argument("--cover", action="store_true", help="fail when a fault × turn state was not reached")
    parser.add_argument(
        "--workers",
        type=arguments.whole(1, WORKERS_MAX),
        metavar="W",
        help="processes; default: one per core",
    )
    parser.add_argument("--json", action="store_true", help="JSON on standard output")
    parser.add_argument("--list", action="store_true", help="list the fault profiles")
    parser.set_defaults(run=run_sim)


def run_sim(args: argparse.Namespace) -> int:
    if args.list:
        for name in profile_names():
            print(f"{name:12} {load_profile(name).summary}")
        return 0
    load_profile(args.faults)  # a misspelt name is found before anything starts
    if args.call is not None and args.call < 0:
        raise ConfigError("--call counts from 0")
    numbers = range(args.calls) if args.call is None else [args.call]
    live = sys.stderr.isatty()

    def progress(done: int) -> None:
        if live:
            print(f"\r{done} of {len(numbers)} calls", end="", file=sys.stderr, flush=True)

    summary = run(args.seed, numbers, args.faults, workers=args.workers, progress=progress)
    if live:
        print("\r" + " " * 40 + "\r", end="", file=sys.stderr)
    missing = unreached(summary.cells) if args.cover else []
    wrong = impossible(summary.cells)
    if args.json:
        print(json.dumps(_as_json(summary, missing, wrong)))
    else:
        _print(summary, missing, wrong)
    if summary.failures and args.shrink:
        print(_smallest(args.seed, summary.failures[0], args.faults))
    return 0 if summary.ok and not missing and not wrong else 1


def _as_json(summary: Summary, missing: list[str], wrong: list[str]) -> dict[str, Any]:
    return {
        "seed": summary.seed,
        "faults_profile": summary.profile,
        "calls": summary.calls,
        "digest": summary.digest,
        "outcomes": dict(summary.outcomes.most_common()),
        "faults": dict(summary.faults.most_common()),
        "cells": {f"{kind} × {turn}": count for (kind, turn), count in sorted(summary.cells.items())},
        "unreached": missing,
        "reached_against_the_table": wrong,
        "checks": dict(sorted(summary.checks.items())),
        "not_exercised": untouched(summary),
        "failures": [
            {
                "call": failure.number,
                "violations": [
                    {"guarantee": v.guarantee, "checker": v.checker, "what": v.what}
                    for v in failure.violations
                ],
            }
            for failure in summary.failures
        ],
        "call_seconds": round(summary.call_seconds, 1),
        "wall_seconds": round(summary.wall_seconds, 1),
        "cpu_seconds": round(summary.cpu_seconds, 1),
        "workers": summary.workers,
    }


def _print(summary: Summary, missing: list[str], wrong: list[str]) -> None:
    speed = summary.call_seconds_per_second
    print(f"callrt sim --seed {summary.seed} --calls {summary.calls} --faults {summary.profile}")
    print(f"digest      {summary.digest}")
    print(
        f"calls       {summary.calls}: "
        + ", ".join(f"{n} {name}" for name, n in summary.outcomes.most_common())
    )
    print(
        f"speed       {summary.call_seconds:.0f} call-seconds in {summary.wall_seconds:.0f} s on "
        f"{summary.workers} processes ({speed:.0f} per CPU second)"
    )
    print(f"faults      {sum(summary.faults.values())} struck: " + _counts(summary.faults.most_common()))
    reached = len(REACHABLE) - len(unreached(summary.cells))
    print(f"coverage    {reached} of {len(REACHABLE)} fault × turn state cells reached")
    for cell in missing:
        print(f"            not reached: {cell}")
    for cell in wrong:
        print(f"            reached, and the table of the unreachable says that it cannot be: {cell}")
    print("guarantees  " + _counts(sorted(summary.checks.items(), key=lambda pair: int(pair[0][1:]))))
    for failure in summary.failures[:20]:
        for violation in failure.violations:
            print(
                f"VIOLATED    {violation.guarantee} in call {failure.number}: {violation.what} ({violation.checker})"
            )
        print(
            f"            repeat: callrt sim --seed {summary.seed} --call {failure.number} --faults {summary.profile}"
            " --shrink"
        )
    if len(summary.failures) > 20:
        print(f"            and {len(summary.failures) - 20} further calls")
    print(
        "all held" if summary.ok else f"{len(summary.failures)} of {summary.calls} calls violated a guarantee"
    )


def _counts(pairs: list[tuple[str, int]]) -> str:
    return ", ".join(f"{name} {count}" for name, count in pairs) or "none"


def _smallest(seed: int, failure: CallResult, profile: str) -> str:
    wanted = failure.violations[0].checker
    case = case_of(seed, failure.number, load_profile(profile))
    small = shrink(case, lambda each: any(v.checker == wanted for v in run_case(each).violations))
    origin = f"callrt sim --seed {seed} --call {failure.number} --faults {profile}"
    return "\n" + as_test(small, wanted, origin)
