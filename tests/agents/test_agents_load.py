"""Tools named in a configuration."""

from __future__ import annotations

import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from callrt import ToolError, load_tools

CLINIC = '''
from callrt import tool

HELP = "not a tool"

@tool(side_effects=True)
def book_appointment(day: str) -> str:
    """Book an appointment."""
    import clinic_store
    return clinic_store.save(day)

@tool
async def opening_hours() -> str:
    """When we are open."""
    return "9 to 5"

def plain(day: str) -> str:
    return day
'''


@pytest.fixture(autouse=True)
def _modules_as_before() -> Iterator[None]:
    path, modules = list(sys.path), dict(sys.modules)
    yield
    sys.path[:] = path
    for name in [name for name in sys.modules if name not in modules]:
        del sys.modules[name]


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    (tmp_path / "clinic_tools.py").write_text(CLINIC)
    (tmp_path / "clinic_store.py").write_text("def save(day):\n    return 'saved ' + day\n")
    return tmp_path


def test_tools_are_found_from_the_folder_in_order(folder: Path) -> None:
    tools = load_tools(["clinic_tools:opening_hours", "clinic_tools:book_appointment"], folder)
    assert [t.name for t in tools] == ["opening_hours", "book_appointment"]
    assert tools[1]("monday") == "saved monday"
    assert tools[1].origin == (folder.resolve(), "clinic_tools:book_appointment")


def test_packages_are_found_too(folder: Path) -> None:
    (folder / "clinic").mkdir()
    (folder / "clinic" / "__init__.py").write_text("")
    (folder / "clinic" / "tools.py").write_text(CLINIC)
    assert load_tools(["clinic.tools:opening_hours"], folder)[0].name == "opening_hours"


def test_another_folder_may_have_a_module_of_the_same_name(folder: Path, tmp_path: Path) -> None:
    load_tools(["clinic_tools:opening_hours"], folder)
    other = tmp_path / "other"
    other.mkdir()
    (other / "clinic_tools.py").write_text(
        "from callrt import tool\n\n@tool\ndef ping() -> str:\n    return ''\n"
    )
    assert load_tools(["clinic_tools:ping"], other)[0].name == "ping"
    assert load_tools(["clinic_tools:opening_hours"], folder)[0].name == "opening_hours"


@pytest.mark.parametrize(
    ("path", "says"),
    [
        ("clinic_tools", 'write "module:function"'),
        ("clinic_tools:", 'write "module:function"'),
        ("clinic_tool:opening_hours", "did you mean 'clinic_tools'"),
        ("clinic_tools:book_apointment", "did you mean 'book_appointment'"),
        ("clinic_tools:zzz", "has no 'zzz'"),
        ("clinic_tools:plain", "write @tool above it"),
        ("clinic_tools:HELP", "is no tool but 'str'"),
        ("broken:x", "SyntaxError"),
        ("exits:x", "SystemExit in"),
        ("needy:x", "imports 'no_such_library', which is not installed"),
        ("misdeclared:x", "write day: str"),
        ("json:x", "taken by another module"),
        ("..:x", "import"),
    ],
)
def test_mistakes_are_one_sentence_that_names_the_path(folder: Path, path: str, says: str) -> None:
    (folder / "broken.py").write_text("def x(:\n")
    (folder / "exits.py").write_text("raise SystemExit(3)\n")
    (folder / "needy.py").write_text("import no_such_library\n")
    (folder / "misdeclared.py").write_text("from callrt import tool\n\n@tool\ndef x(day):\n    return ''\n")
    (folder / "json.py").write_text("x = 1\n")
    with pytest.raises(ToolError) as caught:
        load_tools([path], folder)
    text = str(caught.value)
    assert says in text
    assert repr(path) in text
    assert "\n" not in text
    assert text.endswith(".")


def test_two_tools_of_one_name_are_refused(folder: Path) -> None:
    (folder / "more.py").write_text(CLINIC)
    with pytest.raises(ToolError, match="rename one"):
        load_tools(["clinic_tools:opening_hours", "more:opening_hours"], folder)
