"""Write docs/conformance.md: row by row what a supervisor must do, which test shows it, and whether it does.

Runs the tests named in it. ``--check`` runs nothing: exit status 1 unless the page on disk is what the rows and the
tests would give when all of them pass (which the test-suite itself ensures).
"""

from __future__ import annotations

import argparse
import importlib
import re
import subprocess
import sys
from pathlib import Path
from typing import Any

ROOT = Path(__file__).resolve().parent.parent
TESTS = ROOT / "tests" / "supervision"
PAGE = ROOT / "docs" / "conformance.md"
SEEDS_MIN = 20

GROUPS = {
    "VAL": "Specs",
    "STA": "Start",
    "RES": "Restart types",
    "STR": "Strategies",
    "INT": "Restart window",
    "BAC": "Backoff (not in OTP)",
    "TER": "Stopping",
    "ADM": "Administration",
    "ESC": "Nesting and escalation",
    "SIG": "Significant children",
    "EXC": "Exceptions and cancellation",
    "MSG": "Messages, asks, monitors, names",
    "CBR": "Circuit breaker",
    "DET": "Determinism, Trio, reports",
    "NA": "Not applicable",
}

INTRO = """# Conformance

What a callrt supervisor must do, and the test that shows it. The demands are those that OTP's own test-suite pins
down, adapted to structured concurrency (column *On Trio*), with a few from Elixir, Pekko and ractor. `N` and `P` are
the most restarts allowed and the period of the restart window; *ack* is a child's `task_status.started()`.

Each test runs under {seeds} or more seeds of deterministic scheduling on a virtual clock, and after every single run a
common set of laws is checked: no task is left, the mailboxes' books add up, every incarnation was reported to start
once and to end once, none overlapped. Beyond the rows: a sweep does something nasty at every scheduler step of a seeded
run (`test_supervision_sweep.py`), random operations are compared with a pure model (`test_supervision_model.py`), and
`make mutants` shows that the tests notice when the supervisor is broken.

This page is generated: `make conformance`. {done} of {all} rows apply and have a test; {passed} of {done} pass.
"""


def tests_by_row() -> dict[str, list[tuple[str, int]]]:
    """Row id -> (``file::test``, seeds) in order of files and definition."""
    sys.path.insert(0, str(TESTS))
    found: dict[str, list[tuple[str, int]]] = {}
    for file in sorted(TESTS.glob("test_supervision_*.py")):
        names = re.findall(r"^(?:async )?def (test_([a-z]{2,3})_(\d+)_\w+)\(", file.read_text(), re.MULTILINE)
        if not names:
            continue
        module: Any = importlib.import_module(file.stem)
        for name, letters, number in names:
            seeds = getattr(getattr(module, name), "seeds", 1)
            found.setdefault(f"{letters.upper()}-{number}", []).append((f"{file.name}::{name}", seeds))
    return found


def rows() -> tuple[Any, ...]:
    sys.path.insert(0, str(TESTS))
    table: tuple[Any, ...] = importlib.import_module("supervision_rows").ROWS
    return table


def render(failed: frozenset[str] = frozenset()) -> str:
    tests = tests_by_row()
    table = rows()
    applying = [row for row in table if row.applies]
    passed = [
        row for row in applying if row.id in tests and not any(test in failed for test, _ in tests[row.id])
    ]
    lines = [INTRO.format(seeds=SEEDS_MIN, done=len(applying), all=len(table), passed=len(passed))]
    group = ""
    for row in table:
        letters = row.id.split("-")[0]
        if letters != group:
            group = letters
            lines.append(f"\n## {GROUPS[letters]}\n")
            lines.append("| Row | Behaviour | Source | On Trio | Test | Seeds | Result |")
            lines.append("| --- | --- | --- | --- | --- | --- | --- |")
        mine = tests.get(row.id, [])
        names = "<br>".join(f"`{test.split('::')[1]}`" for test, _ in mine)
        seeds = str(min(count for _, count in mine)) if mine else ""
        result = "n.a." if not row.applies else "pass" if row in passed else "FAIL" if mine else "MISSING"
        lines.append(
            f"| {row.id} | {row.law} | {row.source} | {row.mapping} | {names} | {seeds} | {result} |"
        )
    return "\n".join(lines) + "\n"


def problems() -> list[str]:
    """Rows without a test, tests without a row, tests under too few seeds."""
    tests = tests_by_row()
    known = {row.id for row in rows()}
    missing = [f"{row.id}: no test" for row in rows() if row.applies and row.id not in tests]
    strange = [f"{test}: no row {row}" for row, mine in tests.items() if row not in known for test, _ in mine]
    thin = [f"{test}: {seeds} seeds" for mine in tests.values() for test, seeds in mine if seeds < SEEDS_MIN]
    return missing + strange + thin


def run_tests() -> frozenset[str]:
    """Run every test that is named in the page; which failed."""
    names = [f"{TESTS.relative_to(ROOT)}/{test}" for mine in tests_by_row().values() for test, _ in mine]
    command = [sys.executable, "-m", "pytest", "-q", "--tb=short", "-n", "2", "-rf", "-W", "ignore", *names]
    done = subprocess.run(command, cwd=ROOT, stdout=subprocess.PIPE, text=True)
    if done.returncode not in (0, 1):
        sys.exit(f"conformance: pytest ended with status {done.returncode}\n{done.stdout}")
    return frozenset(
        line.split()[1].removeprefix(f"{TESTS.relative_to(ROOT)}/")
        for line in done.stdout.splitlines()
        if line.startswith("FAILED ")
    )


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--check", action="store_true", help="only compare the page on disk")
    arguments = parser.parse_args()
    wrong = problems()
    for problem in wrong:
        print(f"conformance: {problem}", file=sys.stderr)
    if arguments.check:
        current = PAGE.exists() and PAGE.read_text() == render()
        if not current:
            print(f"conformance: {PAGE.relative_to(ROOT)} is not current: make conformance", file=sys.stderr)
        return 0 if current and not wrong else 1
    failed = run_tests()
    PAGE.write_text(render(failed))
    print(f"conformance: wrote {PAGE.relative_to(ROOT)}; {len(failed)} tests failed")
    return 1 if failed or wrong else 0


if __name__ == "__main__":
    sys.exit(main())
