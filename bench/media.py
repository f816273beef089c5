"""``make bench``: what a call costs, how late its audio is, and how many calls one core carries.

The program under test has one core, the load generator (``load.py``: both ends of every call) another. Programs
are measured in turns, in rounds, every second round backwards, so that a busy machine is busy for all of them:
compare the ratios, not the figures. Results (medians over the rounds) go to ``bench/results/``.
"""

from __future__ import annotations

import argparse
import json
import os
import platform
import signal
import subprocess
import sys
import tempfile
from collections.abc import Callable
from contextlib import nullcontext
from pathlib import Path
from typing import Any

sys.path.insert(0, str(Path(__file__).parent))

from environments import Unavailable
from load import CLIMB, MOST, RAMP_PER_SECOND, RAMP_SEARCHING
from programs import PROGRAMS, running
from quota import Quota
from report import cautions, medians, plot, relative, table

HERE = Path(__file__).parent
COMPARED = "callrt,callrt-tls,uvloop-plain,trio-messages,openai-agents,pipecat"
STEPS = "5,25,50,100,200,400"
FINE = 1.06
"""The search ends when the numbers of calls that hold and do not hold are this near to each other."""
Row = dict[str, Any]


def arguments() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        description="Media plane benchmark: callrt, bare bridges and other projects, in turns.",
        epilog="programs: " + "; ".join(f"{name}: {setup.about}" for name, setup in PROGRAMS.items()),
    )
    add = parser.add_argument
    add("--programs", default=COMPARED, help="comma-separated (default %(default)s)")
    add("--steps", default=STEPS, help="numbers of calls, ascending (default %(default)s)")
    add("--rounds", type=int, default=1, help="(default %(default)s)")
    add("--seconds", type=float, default=10.0, help="length of a measurement (default %(default)s)")
    add("--settle", type=float, default=5.0, help="pause before it (default %(default)s)")
    add("--ramp", type=float, default=RAMP_PER_SECOND, help="calls begun per second (default %(default)s)")
    add("--bound-ms", type=float, default=20.0, help="added latency p99 (default %(default)s)")
    add("--search", action="store_true", help="find the largest number of calls within the bound")
    add("--kill-per-second", type=float, default=0.0, help="each step again, while so many calls are killed")
    add("--out", type=Path, default=HERE / "results", help="folder (default %(default)s)")
    add("--name", default="media", help="of the result files (default %(default)s)")
    add("--add", action="store_true", help="to the rounds that are in the result file already")
    return parser


def main() -> int:
    # Whoever ends this ends the program and the generator too.
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(1))
    parser = arguments()
    args = parser.parse_args()
    names = args.programs.split(",")
    for name in names:
        if name not in PROGRAMS:
            parser.error(f"no program {name!r}; there are {', '.join(PROGRAMS)}")
    result = load_result(args)
    for turn in range(args.rounds):
        for name in names if turn % 2 == 0 else reversed(names):
            print(f"{name}: {PROGRAMS[name].about}", flush=True)
            try:
                rows = run_program(name, args.steps, args, climb=args.search)
                carried = search(name, rows, args) if args.search else None
            except Unavailable as reason:
                print(f"  left out: {reason}")
                result["left_out"][name] = str(reason)
                continue
            result["rows"] += [row | {"round": result["rounds"] + 1} for row in rows]
            if args.search:
                result["carried"].setdefault(name, []).append(carried)
            # Not at the end only: whoever breaks a run off keeps what there is.
            save(result, args)
        result["rounds"] += 1
    if not result["rows"]:
        return 1
    print("\n" + table(medians(result["rows"])))
    for line in conclusions(result):
        print(line)
    result["machine"]["load"].append(round(os.getloadavg()[0], 1))
    save(result, args)
    return 0


def doubtful(row: Row) -> bool:
    """It failed although it had time left, or the generator had none: a disturbance of the machine looks like that."""
    return bool(row["generator_limit"]) or row["cpu_percent"] < 85


def search(
    name: str, rows: list[Row], args: argparse.Namespace, run: Callable[..., list[Row]] | None = None
) -> Row:
    """The largest number of calls within the bound: halve the difference, each time in a new life (``run``).

    A program that has been overloaded once may take long to recover, and would be judged for that. A number that
    failed in doubtful circumstances is tried twice.
    """

    def attempt(calls: int) -> Row:
        """In a new life; in two, if the first failed and the machine may have been the reason."""
        allowance, ramp = rows[0]["allowance_ms"], max(args.ramp, RAMP_SEARCHING)
        for _ in range(2):
            found = (run or run_program)(name, str(calls), args, allowance_ms=allowance, ramp=ramp)[-1]
            found["searching"] = True
            rows.append(found)
            if not found["missing"] or not doubtful(found):
                break
        return found

    good = max((row["calls"] for row in rows if not row["missing"]), default=0)
    above = [row for row in rows if row["calls"] > good]
    bad = min(above, key=lambda row: int(row["calls"]), default=None)
    if good and bad is not None and doubtful(bad):
        above = [attempt(bad["calls"])]
        while not above[-1]["missing"] and good < MOST:
            good = above[-1]["calls"]
            above.append(attempt(min(MOST, int(good * CLIMB) + 1)))
        bad = above[-1] if above[-1]["missing"] else None
    while good and bad is not None and bad["calls"] > good * FINE:
        middle = round((good + bad["calls"]) / 2)
        found = attempt(middle)
        if found["missing"]:
            bad = found
        else:
            good = middle
    ours = bad is not None and bad["generator_limit"]
    why = "the generator was the limit" if ours else "no more were tried" if bad is None else ""
    return {"carried": good, "at_least": bool(why), "why": why}


def run_program(
    name: str,
    steps: str,
    args: argparse.Namespace,
    *,
    climb: bool = False,
    allowance_ms: float = 0.0,
    ramp: float = 0.0,
    quota: Quota | None = None,
) -> list[Row]:
    """One program through some numbers of calls, in one life."""
    rows: list[Row] = []
    program_core, load_core = cores()
    with (
        tempfile.TemporaryDirectory() as folder,
        running(name, Path(folder), program_core) as program,
        nullcontext() if quota is None else quota.on(program.workers),
    ):
        command = [sys.executable, str(HERE / "load.py"), "--steps", steps, *program.load_args]
        for pid in program.pids:
            command += ["--pid", str(pid)]
        command += ["--seconds", str(args.seconds), "--settle", str(args.settle)]
        command += ["--ramp", str(ramp or args.ramp), "--bound-ms", str(args.bound_ms)]
        command += ["--kill-per-second", str(args.kill_per_second)]
        command += ["--allowance-ms", str(allowance_ms)]
        if climb:
            command.append("--climb")
        if quota is not None:
            command += ["--tail", quota.tail]
        if load_core is not None and (PROGRAMS[name].workers == 1 or quota is not None):
            command += ["--core", str(load_core)]
        with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as load:
            assert load.stdout is not None
            try:
                for line in load.stdout:
                    rows.append({"program": name} | json.loads(line))
                    print("  " + brief(rows[-1]), flush=True)
            except BaseException:
                load.kill()
                raise
        if load.returncode:
            raise Unavailable(f"the generator ended with status {load.returncode}")
    return rows


def brief(row: Row) -> str:
    lost = f"{row['lost_up_frames']}/{row['lost_down_ms']:.0f} ms"
    kills = f" (+{row['kills_per_second']:g} kills/s)" if row["kills_per_second"] else ""
    return (
        f"{row['calls']:4} calls{kills}  {row['cpu_ms_per_call_second']:.2f} ms/call-s  "
        f"cpu {row['cpu_percent']:.0f} %  up p99 {row['up_p99_ms']} ms  down p99 {row['down_p99_ms']} ms  "
        f"barge-in {row['barge_in_p99_ms']} ms  start {row['startup_p50_ms']} ms  starved {row['starved_ms']} ms  "
        f"lost {lost}  {row['memory_kb_per_call']} kB/call  generator {row['generator_cpu_percent']:.0f} %"
        + (f"  [{', '.join(row['missing'])}]" if row["missing"] else "")
        + ("  [the generator was the limit]" if row["generator_limit"] else "")
    )


def middle_of(found: list[Row]) -> Row:
    return sorted(found, key=lambda one: int(one["carried"]))[len(found) // 2]


def conclusions(result: Row) -> list[str]:
    lines = []
    for name, found in result["carried"].items():
        middle = middle_of(found)
        least = "at least " if middle["at_least"] else ""
        why = f" ({middle['why']})" if middle["why"] else ""
        lines.append(f"{name}: {least}{middle['carried']} calls on one core within the bound{why}")
    for name, reason in result["left_out"].items():
        lines.append(f"{name}: left out: {reason}")
    return lines + cautions(result["rows"])


def cores() -> tuple[int | None, int | None]:
    """One core for the program, one for the load; None where there is only one."""
    usable = sorted(os.sched_getaffinity(0))
    return (usable[0], usable[1]) if len(usable) > 1 else (None, None)


def load_result(args: argparse.Namespace) -> Row:
    path = args.out / f"{args.name}.json"
    if args.add and path.exists():
        found: Row = json.loads(path.read_text())
        return found
    machine = {"python": platform.python_version(), "cores": len(os.sched_getaffinity(0))}
    return {
        "machine": machine | {"load": []},
        "bound_ms": args.bound_ms,
        "rounds": 0,
        "carried": {},
        "left_out": {},
        "rows": [],
    }


def save(result: Row, args: argparse.Namespace) -> None:
    args.out.mkdir(parents=True, exist_ok=True)
    rows = medians(result["rows"])
    names = [row["program"] for row in rows]
    reference = "callrt" if "callrt" in names else names[0]
    carried = {name: int(middle_of(found)["carried"]) for name, found in result["carried"].items()}
    text = table(rows) + "\n" + relative(result["rows"], carried, reference) + "\n"
    text += "".join(f"* {line}\n" for line in conclusions(result))
    (args.out / f"{args.name}.json").write_text(json.dumps(result, indent=1) + "\n")
    (args.out / f"{args.name}.md").write_text(text)
    (args.out / f"{args.name}.svg").write_text(plot(rows, result["bound_ms"]))


if __name__ == "__main__":
    sys.exit(main())
