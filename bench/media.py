"""``make bench``: what a call costs, how late its audio is, and how many calls one core carries.

The program under test has one core, the load generator (``load.py``: both ends of every call) another. Programs
are measured in turns, so that a busy machine is busy for all of them: compare the ratios, not the figures.
Results go to ``bench/results/``: ``media.json``, ``media.md``, ``media.svg``.
"""

from __future__ import annotations

import argparse
import json
import os
import platform
import subprocess
import sys
import tempfile
from pathlib import Path
from typing import Any

sys.path.insert(0, str(Path(__file__).parent))

from programs import PROGRAMS, Unavailable, running
from report import plot, table

HERE = Path(__file__).parent
STEPS = "25,100,200,400,600,700,800"
Row = dict[str, Any]


def main() -> int:
    parser = argparse.ArgumentParser(description="Media plane benchmark: callrt and bare bridges, in turns.")
    parser.add_argument(
        "--programs", default=",".join(PROGRAMS), help="comma-separated (default %(default)s)"
    )
    parser.add_argument("--steps", default=STEPS, help="numbers of calls, ascending (default %(default)s)")
    parser.add_argument(
        "--seconds", type=float, default=10.0, help="length of a measurement (default %(default)s)"
    )
    parser.add_argument("--settle", type=float, default=5.0, help="pause before it (default %(default)s)")
    parser.add_argument(
        "--bound-ms", type=float, default=20.0, help="added latency p99 (default %(default)s)"
    )
    parser.add_argument(
        "--search", action="store_true", help="find the largest number of calls within the bound"
    )
    parser.add_argument("--tls", action="store_true", help="the model is behind wss")
    parser.add_argument(
        "--workers", type=int, default=1, help="callrt's worker processes (default %(default)s)"
    )
    parser.add_argument("--out", type=Path, default=HERE / "results", help="folder (default %(default)s)")
    parser.add_argument("--name", default="media", help="of the result files (default %(default)s)")
    args = parser.parse_args()
    rows: list[Row] = []
    carried: dict[str, int] = {}
    for name in args.programs.split(","):
        if name not in PROGRAMS:
            parser.error(f"no program {name!r}; there are {', '.join(PROGRAMS)}")
        print(f"{name}: {PROGRAMS[name]}", flush=True)
        try:
            found = run_steps(name, args.steps, args)
            if args.search:
                carried[name] = search(name, found, args)
        except Unavailable as reason:
            print(f"  skipped: {reason}")
            continue
        rows += found
    if not rows:
        return 1
    print("\n" + table(rows))
    for name, calls in carried.items():
        print(f"{name}: {calls} calls on one core at p99 <= {args.bound_ms:g} ms both ways")
    for line in cautions(rows):
        print(line)
    save(rows, carried, args)
    return 0


def run_steps(name: str, steps: str, args: argparse.Namespace) -> list[Row]:
    """One program through some numbers of calls, in one life."""
    rows: list[Row] = []
    program_core, load_core = cores()
    with tempfile.TemporaryDirectory() as folder:
        core = program_core if args.workers == 1 else None
        with running(name, Path(folder), core, tls=args.tls, workers=args.workers) as program:
            command = [sys.executable, str(HERE / "load.py"), "--steps", steps, *program.load_args]
            for pid in program.pids:
                command += ["--pid", str(pid)]
            command += ["--seconds", str(args.seconds), "--settle", str(args.settle)]
            command += ["--bound-ms", str(args.bound_ms)]
            if load_core is not None:
                command += ["--core", str(load_core)]
            with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as load:
                assert load.stdout is not None
                for line in load.stdout:
                    row = {"program": name} | json.loads(line)
                    rows.append(row)
                    print("  " + brief(row), flush=True)
    return rows


def search(name: str, rows: list[Row], args: argparse.Namespace) -> int:
    """The largest number of calls within the bound, to about 25 calls."""
    good = max((row["calls"] for row in rows if holds(row, args.bound_ms)), default=0)
    bad = min((row["calls"] for row in rows if row["calls"] > good), default=0)
    while bad - good > 25:
        middle = (good + bad) // 2
        (row,) = run_steps(name, str(middle), args)[-1:]
        rows.append(row)
        if holds(row, args.bound_ms):
            good = middle
        else:
            bad = middle
    return good


def holds(row: Row, bound_ms: float) -> bool:
    """Is this the quality that is asked for?"""
    return (
        row["live"] == row["calls"]
        and row["ended"] == 0
        and row["starved_ms"] == 0
        and row["lost_up_frames"] == 0
        and (row["up_p99_ms"] or 1e9) <= bound_ms
        and (row["down_p99_ms"] or 1e9) <= bound_ms
    )


def brief(row: Row) -> str:
    return (
        f"{row['calls']:4} calls  {row['cpu_ms_per_call_second']:.2f} ms/call-s  cpu {row['cpu_percent']:.0f} %  "
        f"up p99 {row['up_p99_ms']} ms  down p99 {row['down_p99_ms']} ms  barge-in {row['barge_in_p99_ms']} ms  "
        f"starved {row['starved_ms']} ms  lost {row['lost_up_frames']}/{row['lost_down_ms']:.0f} ms  "
        f"{row['memory_kb_per_call']} kB/call  generator {row['generator_cpu_percent']:.0f} %"
    )


def cautions(rows: list[Row]) -> list[str]:
    """When not to believe a figure."""
    lines = []
    for row in rows:
        if row["generator_cpu_percent"] > 90 or (row["generator_late_p99_ms"] or 0) > 10:
            lines.append(
                f"{row['program']} at {row['calls']} calls: the generator was the limit "
                f"(its core {row['generator_cpu_percent']:.0f} % busy, "
                f"frames sent {row['generator_late_p99_ms']} ms late)"
            )
    load = os.getloadavg()[0]
    if load > len(os.sched_getaffinity(0)) + 1:
        lines.append(f"the machine is busy with other things (load {load:.1f}): compare ratios only")
    return lines


def cores() -> tuple[int | None, int | None]:
    """One core for the program, one for the load; None where there is only one."""
    usable = sorted(os.sched_getaffinity(0))
    return (usable[0], usable[1]) if len(usable) > 1 else (None, None)


def save(rows: list[Row], carried: dict[str, int], args: argparse.Namespace) -> None:
    args.out.mkdir(parents=True, exist_ok=True)
    machine = {"python": platform.python_version(), "cores": os.cpu_count(), "load": os.getloadavg()[0]}
    result = {
        "machine": machine,
        "tls": args.tls,
        "bound_ms": args.bound_ms,
        "carried": carried,
        "rows": rows,
    }
    (args.out / f"{args.name}.json").write_text(json.dumps(result, indent=1) + "\n")
    (args.out / f"{args.name}.md").write_text(table(rows))
    (args.out / f"{args.name}.svg").write_text(plot(rows, args.bound_ms))


if __name__ == "__main__":
    sys.exit(main())
