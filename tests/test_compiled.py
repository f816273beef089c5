"""What is compiled is what is written, and behaves the same."""

from __future__ import annotations

import ast
import json
import os
import shutil
import subprocess
import sys
from importlib import import_module
from importlib.machinery import EXTENSION_SUFFIXES
from pathlib import Path

import pytest

from callrt import compiled


def package(folder: Path) -> Path:
    """A package of one line a module, compiled just now."""
    for module in compiled.MODULES:
        source = compiled.source_of(module, folder)
        source.parent.mkdir(parents=True, exist_ok=True)
        source.write_text(f"# {module}\n")
    (folder / compiled.MANIFEST).write_text(json.dumps(compiled.manifest(folder)))
    return folder


def test_compiled_modules_are_used_as_long_as_they_are_of_these_sources(tmp_path: Path) -> None:
    folder = package(tmp_path)
    assert compiled.why_not({}, folder) == ""
    compiled.source_of(compiled.MODULES[3], folder).write_text("# something else\n")
    assert "make compiled" in compiled.why_not({}, folder)


def test_compiled_modules_are_not_used_by_another_python(tmp_path: Path) -> None:
    folder = package(tmp_path)
    (folder / compiled.MANIFEST).write_text(json.dumps(compiled.manifest(folder) | {"for": ".cpython-39.so"}))
    assert "another Python" in compiled.why_not({}, folder)


def test_compiled_modules_are_not_used_when_the_operator_says_so(tmp_path: Path) -> None:
    folder = package(tmp_path)
    assert compiled.why_not({"CALLRT_COMPILED": "0"}, folder) == "CALLRT_COMPILED=0"
    assert compiled.why_not({"CALLRT_COMPILED": "1"}, folder) == ""


@pytest.mark.parametrize("manifest", ["", "[", "[1]", '{"callrt.wire.direct_frames": null}', "\x00"])
def test_compiled_modules_are_not_used_when_the_manifest_is_broken(tmp_path: Path, manifest: str) -> None:
    folder = package(tmp_path)
    (folder / compiled.MANIFEST).write_text(manifest)
    assert compiled.why_not({}, folder) != ""
    (folder / compiled.MANIFEST).unlink()
    assert compiled.why_not({}, folder) == "not compiled when it was installed"


@pytest.mark.parametrize("module", compiled.MODULES)
def test_compiled_modules_have_no_coroutines(module: str) -> None:
    tree = ast.parse(compiled.source_of(module).read_text())
    found = [node.lineno for node in ast.walk(tree) if isinstance(node, ast.AsyncFunctionDef | ast.Await)]
    assert not found, "a task that waits in compiled code cannot be shown by the watchdog"


@pytest.mark.parametrize("module", compiled.MODULES)
def test_compiled_modules_come_from_where_this_process_says(module: str) -> None:
    file = import_module(module).__file__
    assert file is not None
    assert file.endswith(tuple(EXTENSION_SUFFIXES)) == (not compiled.REASON)


def digest_of(**environment: str) -> str:
    command = [sys.executable, "-m", "callrt.cli.main", "sim", "--seed", "29", "--calls", "12"]
    done = subprocess.run(
        [*command, "--faults", "everything", "--json"],
        env=os.environ | environment,
        capture_output=True,
        check=True,
    )
    told = json.loads(done.stdout)
    assert told["calls"] == 12
    return str(told["digest"])


def test_installation_with_a_c_compiler_is_compiled() -> None:
    """Failing to compile is not failing to install: so it must be told here."""
    if compiled.REASON == compiled.NEVER:
        assert shutil.which("cc") is None, "see what python scripts/compile.py says"


def test_compiled_and_plain_calls_are_the_same_to_the_last_event() -> None:
    if compiled.REASON:
        pytest.skip(f"only plain Python here ({compiled.REASON})")
    assert digest_of() == digest_of(CALLRT_COMPILED="0")
