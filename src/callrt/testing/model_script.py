"""Scripts for the emulated model, as TOML: what callers say, what is answered, and what breaks.

.. code-block:: toml

    lines = ["Hello, this is the clinic. How can I help?"]   # may be cut, and is then finished

    [[turn]]
    caller = "I need an appointment"
    answer = "You can come on Tuesday at three. Does that suit you?"

    [[turn]]
    caller = "Yes please book it"
    before_tool = "One second."
    tool = { name = "book_appointment", arguments = { day = "tuesday", hour = 15 } }
    answer = ["It is booked.", "See you on Tuesday."]

    [[fault]]
    kind = "close"
    code = 1011
    at = { connection = 1, audio_ms = 1500 }
"""

from __future__ import annotations

import json
import tomllib
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any, get_args

import attrs

from callrt.errors import ConfigError
from callrt.testing.model_brain import Calling, ScriptBrain, Turn
from callrt.testing.model_faults import Fault, Kind, Trigger


class ScriptError(ConfigError):
    """One sentence: which file, what is wrong in it."""


def load_script(path: Path, voice: Callable[[str], bytes]) -> tuple[ScriptBrain, tuple[Fault, ...]]:
    """The script in ``path``; ``voice`` says the callers' lines as they will be heard. Raises ScriptError."""
    try:
        table = tomllib.loads(path.read_text("utf-8"))
    except OSError as error:
        raise ScriptError(f"{path}: cannot be read: {error.strerror}") from error
    except (tomllib.TOMLDecodeError, UnicodeDecodeError) as error:
        raise ScriptError(f"{path}: not TOML: {error}") from error
    try:
        return parse_script(table, voice)
    except ScriptError as error:
        raise ScriptError(f"{path}: {error}") from error


def parse_script(
    table: Mapping[str, Any], voice: Callable[[str], bytes]
) -> tuple[ScriptBrain, tuple[Fault, ...]]:
    """As :func:`load_script`, of a table already read."""
    _only(table, {"lines", "unknown", "unintelligible", "nudge", "turn", "fault"}, "the script")
    brain = ScriptBrain(
        [_turn(entry, voice) for entry in _tables(table, "turn")],
        lines=_texts(table.get("lines", []), "lines"),
        **{name: _text(table, name) for name in ("unknown", "unintelligible", "nudge") if name in table},
    )
    return brain, tuple(_fault(entry) for entry in _tables(table, "fault"))


def _turn(entry: Mapping[str, Any], voice: Callable[[str], bytes]) -> Turn:
    _only(entry, {"caller", "answer", "tool", "before_tool"}, "a turn")
    caller = _text(entry, "caller")
    answer = entry.get("answer")
    answers = _texts([answer] if isinstance(answer, str) else answer, "answer")
    tool = None
    if "tool" in entry:
        if not isinstance(entry["tool"], dict):
            raise ScriptError("tool is a table with name and arguments")
        _only(entry["tool"], {"name", "arguments"}, "tool")
        arguments = entry["tool"].get("arguments", {})
        written = arguments if isinstance(arguments, str) else json.dumps(arguments)
        tool = Calling(_text(entry["tool"], "name"), written)
    before = _text(entry, "before_tool") if "before_tool" in entry else ""
    return Turn(caller, voice(caller), answers, tool, before)


def _fault(entry: Mapping[str, Any]) -> Fault:
    names = {each.name for each in attrs.fields(Fault)}
    _only(entry, names, "a fault")
    if entry.get("kind") not in get_args(Kind):
        raise ScriptError(f"a fault's kind is one of {', '.join(get_args(Kind))}")
    at = entry.get("at", {})
    if not isinstance(at, dict):
        raise ScriptError("a fault's at is a table")
    _only(at, {each.name for each in attrs.fields(Trigger)}, "a fault's at")
    try:
        return Fault(**{**entry, "at": Trigger(**at)})
    except (TypeError, ValueError) as error:
        raise ScriptError(f"a fault's at: {error}") from error


def _only(table: Mapping[str, Any], names: set[str], what: str) -> None:
    for name in table:
        if name not in names:
            raise ScriptError(f"{what} has no key {name!r}; it knows {', '.join(sorted(names))}")


def _tables(table: Mapping[str, Any], name: str) -> list[dict[str, Any]]:
    entries = table.get(name, [])
    if not isinstance(entries, list) or not all(isinstance(entry, dict) for entry in entries):
        raise ScriptError(f"{name} is written [[{name}]]")
    return entries


def _text(table: Mapping[str, Any], name: str) -> str:
    value = table.get(name)
    if not isinstance(value, str) or not value.strip():
        raise ScriptError(f"{name} must be a text that is not empty")
    return value


def _texts(value: Any, name: str) -> tuple[str, ...]:
    if not isinstance(value, list) or not all(isinstance(each, str) and each.strip() for each in value):
        raise ScriptError(f"{name} must be a text, or a list of texts, none of them empty")
    if name == "answer" and not value:
        raise ScriptError("answer must say something")
    return tuple(value)
