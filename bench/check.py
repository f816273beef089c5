"""``make bench-check``: has a call become dearer? Exit 1 if so.

callrt and the bare uvloop bridge are measured in turns, and the ratios of the medians are compared with those in
``bench/baseline.json``. A ratio says nothing of the machine, so the file can be shared. ``--record`` rewrites it.
"""

from __future__ import annotations

import argparse
import json
import sys
from collections.abc import Mapping
from pathlib import Path
from typing import Any

sys.path.insert(0, str(Path(__file__).parent))

from environments import Unavailable
from load import RAMP_PER_SECOND
from media import run_program
from report import cautions, medians

HERE = Path(__file__).parent
BASELINE = HERE / "baseline.json"
PROGRAM, REFERENCE = "callrt", "uvloop-plain"
RATIOS = {"cpu": "cpu_ms_per_call_second", "memory": "memory_kb_per_call"}


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--steps", default="25,100", help="numbers of calls (default %(default)s)")
    parser.add_argument("--rounds", type=int, default=3, help="(default %(default)s)")
    parser.add_argument("--seconds", type=float, default=8.0, help="of a measurement (default %(default)s)")
    parser.add_argument("--settle", type=float, default=4.0, help="pause before it (default %(default)s)")
    parser.add_argument("--tolerance", type=float, default=0.2, help="(default %(default)s: a fifth more)")
    parser.add_argument("--record", action="store_true", help="these ratios are the new baseline")
    args = parser.parse_args()
    args.bound_ms, args.kill_per_second, args.ramp = 20.0, 0.0, RAMP_PER_SECOND
    rows: list[dict[str, Any]] = []
    for turn in range(args.rounds):
        for name in (PROGRAM, REFERENCE) if turn % 2 == 0 else (REFERENCE, PROGRAM):
            try:
                rows += run_program(name, args.steps, args)
            except Unavailable as reason:
                print(f"{name} cannot run here: {reason}")
                return 1
    if not args.record and not BASELINE.exists():
        print("there is no baseline yet; write one with: bench/check.py --record")
        return 1
    found = ratios(medians(rows), int(args.steps.rpartition(",")[2]))
    if args.record:
        BASELINE.write_text(json.dumps(found, indent=1) + "\n")
        print(f"recorded: {found}")
        return 0
    worse = regressions(found, json.loads(BASELINE.read_text()), args.tolerance)
    for key, value in found.items():
        print(f"{key}: {value:.2f} times the bare bridge")
    for line in worse + cautions(rows):
        print(line)
    return 1 if worse else 0


def ratios(rows: list[dict[str, Any]], calls: int) -> dict[str, float]:
    """callrt's figures in units of the reference bridge's, at so many calls."""
    by_name = {row["program"]: row for row in rows if row["calls"] == calls}
    ours, theirs = by_name[PROGRAM], by_name[REFERENCE]
    return {name: round(ours[key] / theirs[key], 3) for name, key in RATIOS.items() if theirs[key]}


def regressions(found: Mapping[str, float], baseline: Mapping[str, float], tolerance: float) -> list[str]:
    """One sentence for each ratio that is worse than it was, by more than the tolerance, or is missing."""
    lines = []
    for name, before in baseline.items():
        value = found.get(name)
        if value is None:
            lines.append(f"{name}: could not be measured")
        elif value > before * (1 + tolerance):
            lines.append(f"{name}: {value:.2f} times the bare bridge, was {before:.2f}")
    return lines


if __name__ == "__main__":
    sys.exit(main())
