"""The layers' law: imports go down only. ARCHITECTURE.md draws the same picture."""

from __future__ import annotations

import ast
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

SOURCE = Path(__file__).parent.parent / "src" / "callrt"

ALLOWED: dict[str, set[str]] = {
    "errors": set(),
    "compiled": set(),
    "protocol": set(),
    "supervision": set(),
    "wire": {"protocol"},
    "journal": {"protocol"},
    "comfort": {"protocol"},
    "policy": {"protocol"},
    "actors": {"protocol", "supervision", "wire", "journal", "comfort", "policy"},
    "agents": {"protocol", "policy", "actors", "errors"},
    "telephony": {"protocol", "policy", "errors"},
    "service": {
        "protocol", "supervision", "wire", "journal", "comfort", "policy", "actors", "agents", "telephony", "errors"
    },
}  # fmt: skip
ALLOWED["testing"] = {*ALLOWED, "testing"}
ALLOWED["cli"] = {*ALLOWED, "testing"}
ALLOWED["__init__"] = {"agents", "compiled"}
ALLOWED["__main__"] = {"cli"}

PURE_LIBRARIES = {"attrs", "numpy", "msgspec", "mypy_extensions", "callrt"}
IMPURE_STDLIB = {
    "time",
    "random",
    "threading",
    "socket",
    "asyncio",
    "logging",
    "os",
    "secrets",
    "uuid",
    "subprocess",
}
SUPERVISION_LIBRARIES = {"attrs", "trio"}


def modules() -> list[Path]:
    return sorted(SOURCE.rglob("*.py"))


def room(path: Path) -> str:
    parts = path.relative_to(SOURCE).parts
    return parts[0] if len(parts) > 1 else path.stem


def imports(path: Path) -> Iterator[tuple[str, int]]:
    """Absolute module names that a file imports, also inside functions and for type checking only."""
    package = ("callrt", *path.relative_to(SOURCE).parts[:-1])
    for node in ast.walk(ast.parse(path.read_text())):
        if isinstance(node, ast.Import):
            for alias in node.names:
                yield alias.name, node.lineno
        elif isinstance(node, ast.ImportFrom):
            base = package[: len(package) - node.level + 1] if node.level else ()
            name = ".".join((*base, node.module or "")).strip(".")
            yield name, node.lineno
            if name == "callrt":
                for alias in node.names:
                    yield f"callrt.{alias.name}", node.lineno


@pytest.mark.parametrize("path", modules(), ids=lambda p: str(p.relative_to(SOURCE)))
def test_imports_go_down_only(path: Path) -> None:
    here = room(path)
    for name, line in imports(path):
        parts = name.split(".")
        if parts[0] != "callrt" or len(parts) < 2:
            continue
        target = parts[1]
        if target in ("tool", "CallContext", "__version__"):
            continue
        assert target == here or target in ALLOWED[here], f"{path.name}:{line}: {here} may not import {name}"


@pytest.mark.parametrize("path", [p for p in modules() if room(p) == "protocol"], ids=lambda p: p.name)
def test_protocol_layer_is_pure(path: Path) -> None:
    for name, line in imports(path):
        top = name.split(".")[0]
        if top in sys.stdlib_module_names:
            assert top not in IMPURE_STDLIB, f"{path.name}:{line}: a pure module may not import {name}"
        else:
            assert top in PURE_LIBRARIES, f"{path.name}:{line}: a pure module may not import {name}"


@pytest.mark.parametrize("path", [p for p in modules() if room(p) == "protocol"], ids=lambda p: p.name)
def test_protocol_layer_never_awaits(path: Path) -> None:
    for node in ast.walk(ast.parse(path.read_text())):
        assert not isinstance(node, ast.AsyncFunctionDef | ast.Await), f"{path.name}:{node.lineno} awaits"


@pytest.mark.parametrize("path", [p for p in modules() if room(p) == "supervision"], ids=lambda p: p.name)
def test_supervision_could_be_published_alone(path: Path) -> None:
    for name, line in imports(path):
        top = name.split(".")[0]
        if top == "callrt":
            assert name.startswith("callrt.supervision"), f"{path.name}:{line}: supervision knows no phones"
        elif top not in sys.stdlib_module_names:
            assert top in SUPERVISION_LIBRARIES, f"{path.name}:{line}: {name} is not a library of supervision"


def test_every_room_has_a_place_in_the_law() -> None:
    assert {room(path) for path in modules()} <= set(ALLOWED)


@pytest.mark.parametrize("path", modules(), ids=lambda p: str(p.relative_to(SOURCE)))
def test_files_are_one_idea_each(path: Path) -> None:
    assert len(path.read_text().splitlines()) <= 500, f"{path.name} has grown past one idea"
