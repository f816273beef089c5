"""The same seed gives the same digest, in any process; and what would break that is banned."""

from __future__ import annotations

import ast
import os
import subprocess
import sys
from pathlib import Path

import pytest

import callrt
from callrt.testing.sim.nemesis import draw, known_names
from callrt.testing.sim.profiles import load_profile, profile_names

ROOT = Path(callrt.__file__).parent
RUN = (
    "from callrt.testing.sim.profiles import load_profile\n"
    "from callrt.testing.sim.runner import run_call\n"
    "print([run_call(11, n, load_profile('everything')).digest for n in range(3)])\n"
)


def test_digest_is_the_same_in_two_processes_with_other_hash_seeds() -> None:
    runs = []
    for seed in ("1", "4711"):
        environment = {**os.environ, "PYTHONHASHSEED": seed}
        done = subprocess.run(
            [sys.executable, "-c", RUN],
            env=environment,
            capture_output=True,
            text=True,
            check=True,
            timeout=300,
        )
        runs.append(done.stdout)
    assert runs[0] == runs[1]


def test_nemesis_is_pure() -> None:
    for name in profile_names():
        profile = load_profile(name)
        assert [draw(seed, profile) for seed in range(50)] == [draw(seed, profile) for seed in range(50)]


def test_every_fault_of_a_profile_can_be_drawn() -> None:
    for name in profile_names():
        for fault in load_profile(name).weights:
            assert fault.partition(" ")[0] in known_names()


# -- bans -------------------------------------------------------------------------------------------------

PURE = sorted([*(ROOT / "protocol").rglob("*.py"), *(ROOT / "policy").rglob("*.py")])
ACTORS = sorted((ROOT / "actors").rglob("*.py"))
THREADED = {"tool_exit.py", "tool_runner.py", "tool_reaper.py", "tool_process.py", "recorder.py"}
"""Where a thread, a process or a file is the point; simulation puts others behind the same port."""

CLOCKS = {
    ("time", "time"),
    ("time", "monotonic"),
    ("time", "perf_counter"),
    ("time", "sleep"),
    ("datetime", "now"),
}
CHANCE_MODULES = {"secrets", "uuid"}


def offences(path: Path, *, threads: bool) -> list[str]:
    """What in this file would make a run depend on something other than its seed."""
    tree = ast.parse(path.read_text("utf-8"))
    found: list[str] = []
    for node in ast.walk(tree):
        where = f"{path.name}:{getattr(node, 'lineno', 0)}"
        if isinstance(node, (ast.For, ast.comprehension)) and _is_set(node.iter):
            found.append(f"{where}: iterates over a set")
        if isinstance(node, ast.Call):
            found += [f"{where}: {offence}" for offence in _call_offences(node, threads=threads)]
        if isinstance(node, (ast.Import, ast.ImportFrom)):
            names = [alias.name for alias in node.names]
            module = getattr(node, "module", None) or ""
            if threads and ("threading" in names or module == "threading"):
                found.append(f"{where}: uses threads")
            if CHANCE_MODULES & {*names, module}:
                found.append(f"{where}: draws chance from nowhere")
        if isinstance(node, ast.FunctionDef) and node.name == "__del__":
            found.append(f"{where}: a finaliser runs whenever it likes")
    return found


def _is_set(node: ast.expr) -> bool:
    if isinstance(node, (ast.Set, ast.SetComp)):
        return True
    return (
        isinstance(node, ast.Call)
        and isinstance(node.func, ast.Name)
        and node.func.id in ("set", "frozenset")
    )


def _call_offences(node: ast.Call, *, threads: bool) -> list[str]:
    function = node.func
    if isinstance(function, ast.Name):
        return ["id() is an address"] if function.id == "id" else []
    if not isinstance(function, ast.Attribute) or not isinstance(function.value, (ast.Name, ast.Attribute)):
        return []
    owner = function.value.id if isinstance(function.value, ast.Name) else function.value.attr
    found = []
    if (owner, function.attr) in CLOCKS:
        found.append(f"{owner}.{function.attr} is a wall clock")
    if owner == "random" and function.attr != "Random":
        found.append("the module's own random generator")
    if owner == "os" and function.attr == "urandom":
        found.append("os.urandom")
    if threads and owner == "to_thread":
        found.append("a thread")
    return found


@pytest.mark.parametrize("path", [*PURE, *ACTORS], ids=lambda path: str(path.relative_to(ROOT)))
def test_nothing_in_the_core_depends_on_more_than_its_arguments(path: Path) -> None:
    assert offences(path, threads=path.name not in THREADED) == []


@pytest.mark.parametrize(
    "code",
    [
        "for x in {1, 2}: pass",
        "[x for x in set(y)]",
        "import time\ntime.time()",
        "import random\nrandom.choice(x)",
        "import uuid",
        "import threading",
        "id(x)",
        "import trio\ntrio.to_thread.run_sync(f)",
        "class A:\n    def __del__(self): pass",
    ],
)
def test_ban_finds_what_it_bans(code: str, tmp_path: Path) -> None:
    file = tmp_path / "code.py"
    file.write_text(code)
    assert offences(file, threads=True)
