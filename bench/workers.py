"""The second table of ``make bench``: do two workers carry twice what one does?

Two workers and the generator want three cores. On two, both workers share one core, and the kernel gives each the same
part of it and never more (``quota.py``): the second one brings as much as another core of that size would, less what
they take from each other's caches. The parent is not limited; its time is shown. Results go to
``bench/results/workers.*``.
"""

from __future__ import annotations

import argparse
import json
import signal
import statistics
import sys
from functools import partial
from pathlib import Path
from typing import Any

sys.path.insert(0, str(Path(__file__).parent))

from environments import Unavailable
from media import HERE, cores, run_program, search
from programs import PROGRAMS
from quota import Quota

NAMES = ("callrt", "callrt-two-workers")
FIRST_CALLS = (370, 300, 150)
"""Per worker and core: where the climb begins, or, if that is too many, the next."""
POSSIBLE = 2.1
"""The steps of the search are that fine."""
Row = dict[str, Any]


def arguments() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(description="How many calls one worker and two workers carry.")
    add = parser.add_argument
    add("--share", type=float, default=0.4, help="of a core, for each worker (default %(default)s)")
    add("--rounds", type=int, default=1, help="(default %(default)s)")
    add("--seconds", type=float, default=6.0, help="length of a measurement (default %(default)s)")
    add("--settle", type=float, default=4.0, help="pause before it (default %(default)s)")
    add("--ramp", type=float, default=40.0, help="calls begun per second (default %(default)s)")
    add("--bound-ms", type=float, default=20.0, help="added latency p95 (default %(default)s)")
    add("--out", type=Path, default=HERE / "results", help="folder (default %(default)s)")
    add("--add", action="store_true", help="to the rounds that are in the result file already")
    return parser


def main() -> int:
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(1))
    parser = arguments()
    args = parser.parse_args()
    args.kill_per_second = 0.0
    core, _ = cores()
    quota = Quota(args.share, core or 0)
    reason = "the generator needs a core of its own" if core is None else quota.obstacle()
    if reason:
        print(f"two workers beside one: left out: {reason}")
        return 0
    path = args.out / "workers.json"
    result: Row = {"share": args.share, "bound_ms": args.bound_ms, "rows": [], "carried": []}
    if args.add and path.exists():
        result = json.loads(path.read_text())
        if (result["share"], result["bound_ms"]) != (args.share, args.bound_ms):
            parser.error("the rounds in the result file had another share or another bound")
    args.out.mkdir(parents=True, exist_ok=True)
    for turn in range(args.rounds):
        carried: Row = {}
        for name in NAMES if turn % 2 == 0 else reversed(NAMES):
            print(f"{name}, each worker {args.share:.0%} of a core", flush=True)
            try:
                carried[name] = measure(name, result["rows"], args, quota)
            except Unavailable as why:
                print(f"  left out: {why}")
                return 1
        result["carried"].append(carried)
        path.write_text(json.dumps(result, indent=1) + "\n")
        (args.out / "workers.md").write_text(report(result, quota))
    print("\n" + report(result, quota))
    return 0


def measure(name: str, rows: list[Row], args: argparse.Namespace, quota: Quota) -> Row:
    """How many calls it carries; its rows are added."""
    run = partial(run_program, quota=quota)
    found: list[Row] = []
    for per_core in FIRST_CALLS:
        found += run(name, str(int(args.share * per_core) * PROGRAMS[name].workers), args, climb=True)
        if any(not row["missing"] for row in found):
            break
    carried = search(name, found, args, run)
    rows += found
    return carried


def report(result: Row, quota: Quota) -> str:
    """Medians over the rounds, as Markdown."""
    lines = [
        f"Each worker had {quota.share:.0%} of a core, both of the same core; the parent was not limited. "
        f"Bound: {quota.tail} ≤ {result['bound_ms']:g} ms each way, of which the quota itself may take "
        f"{quota.pause_ms:.1f} ms; no call ended, no frame lost, nobody starved.",
        "",
        "| | calls carried | each round | CPU ms per call-s | of it the parent | up p95, p99 ms | down p95, p99 ms |",
        "|---|---|---|---|---|---|---|",
    ]
    numbers: dict[str, list[int]] = {
        name: [each[name]["carried"] for each in result["carried"]] for name in NAMES
    }
    for name in NAMES:
        held = [row for row in result["rows"] if row["program"] == name and not row["missing"]]
        middle = int(statistics.median_low(numbers[name]))
        row = min(held, key=lambda each: abs(each["calls"] - middle), default=None)
        cells = [f"{PROGRAMS[name].workers} worker(s)", str(middle), ", ".join(map(str, numbers[name]))]
        if row is not None:
            cells += [f"{row['cpu_ms_per_call_second']:.2f}", f"{parent_ms(row):.3f}"]
            cells += [f"{row[f'{way}_p95_ms']}, {row[f'{way}_p99_ms']}" for way in ("up", "down")]
        lines.append("| " + " | ".join(cells) + " |")
    one, two = NAMES
    ratios = [b / a for a, b in zip(numbers[one], numbers[two], strict=True) if a]
    if ratios:
        each = ", ".join(f"{ratio:.2f}" for ratio in ratios)
        lines += ["", f"**Two workers carried {statistics.median(ratios):.2f} times what one did** ({each})."]
    if any(ratio > POSSIBLE for ratio in ratios):
        lines += ["", "More than twice is not the workers' doing: the machine was busy in that round."]
    for per_worker, alone, both in pairs(result["rows"]):
        lines += [
            "",
            f"At {per_worker} calls per worker a call-second took {alone:.2f} ms with one worker and {both:.2f} ms "
            f"with two, the parent's share included.",
        ]
    if any(each[name]["at_least"] for each in result["carried"] for name in NAMES):
        lines += ["", "At least one search ended before the program's limit: see `workers.json`."]
    return "\n".join(lines) + "\n"


def parent_ms(row: Row) -> float:
    """Of a call-second. A single worker has no parent."""
    each = row["cpu_percent_each"]
    return each[0] * 10 / row["calls"] if len(each) > 1 else 0.0


def pairs(rows: list[Row]) -> list[tuple[int, float, float]]:
    """``(calls per worker, CPU with one, CPU with two)``, where both were measured and held."""
    sides: list[dict[int, list[float]]] = []
    for name in NAMES:
        side: dict[int, list[float]] = {}
        for row in rows:
            if row["program"] == name and not row["missing"]:
                per_worker = row["calls"] // PROGRAMS[name].workers
                side.setdefault(per_worker, []).append(row["cpu_ms_per_call_second"])
        sides.append(side)
    one, two = sides
    return [
        (number, statistics.median(one[number]), statistics.median(two[number]))
        for number in sorted(one)
        if number in two
    ]


if __name__ == "__main__":
    sys.exit(main())
