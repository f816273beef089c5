"""Reading one TOML table key by key: types, ranges, ``${NAME}``, and errors that say what to write instead.

Every error is one sentence with the file, the key and the remedy. Only names of models, agents and providers
are quoted, and nothing from the environment: a value may be, or may have been meant to be, a secret.
"""

from __future__ import annotations

import difflib
import math
import re
from collections.abc import Iterable, Mapping
from ipaddress import ip_address
from typing import Any

from callrt.errors import ConfigError

_NAME = re.compile(r"\$\{([^}]*)\}?")
_ENVIRONMENT_NAME = re.compile(r"[A-Za-z_][A-Za-z0-9_]*\Z")

_TYPE_NAMES = {
    str: "a string in quotes",
    bool: "true or false, without quotes",
    int: "a whole number, without quotes",
    float: "a number, without quotes",
    list: "a list in brackets",
    dict: "a table",
}


def nearest(word: str, known: Iterable[str]) -> str | None:
    """The known word most like this one; None only if none is known."""
    candidates = list(known)
    folded = {candidate.casefold(): candidate for candidate in reversed(candidates)}
    found = difflib.get_close_matches(word.casefold(), list(folded), n=1, cutoff=0.0)
    return folded[found[0]] if found else None


NO_HOST = (
    "no host can have that name; write parts of 1 to 63 letters, digits, - and _ between dots, or an address"
)


def is_host(text: str) -> bool:
    """Whether the resolver can be asked for it: an address, or a name in labels that DNS could hold."""
    try:
        ip_address(text)
    except ValueError:
        try:
            name = text.encode("idna").decode()
        except UnicodeError:  # an empty label, one of more than 63 letters, or a sign that no name has
            return False
        return re.fullmatch(r"[A-Za-z0-9_-]+(\.[A-Za-z0-9_-]+)*\.?", name) is not None
    return True


class Table:
    """One table of the file. ``only`` refuses unknown keys, then values are taken by key."""

    def __init__(self, file: str, path: str, values: Mapping[str, Any], env: Mapping[str, str]) -> None:
        self.file = file
        self.path = path
        self._values = values
        self._env = env

    def error(self, key: str, remedy: str) -> ConfigError:
        where = f"[{self.path}] {key}" if self.path else f"[{key}]"
        return ConfigError(f"{self.file}: {where}: {remedy}")

    def names(self) -> list[str]:
        """The keys that are there, in the order of the file."""
        return list(self._values)

    def only(self, known: Iterable[str]) -> Table:
        """Refuse unknown keys, before anything else: a misspelt key would look like a missing one."""
        names = list(known)
        for key in self._values:
            if key not in names:
                near = nearest(key, names)
                meant = f'"{near}"' if self.path else f"[{near}]"
                raise self.error(key, f"unknown key; did you mean {meant}?")
        return self

    def __contains__(self, key: str) -> bool:
        return key in self._values

    def table(self, key: str) -> Table:
        """A table within this one; an empty one if it is not there."""
        value = self._values.get(key, {})
        if not isinstance(value, dict):
            path = f"{self.path}.{key}" if self.path else key
            raise ConfigError(f"{self.file}: {path}: must be a table; begin it with a line [{path}]")
        return Table(self.file, f"{self.path}.{key}" if self.path else key, value, self._env)

    def text(self, key: str, default: str | None = None, *, empty: bool = False) -> str:
        """A string; without a default it must be there. ``empty`` allows "". Defaults may hold ${NAME}."""
        value = self._take(key, str, default)
        expanded = self._expand(key, value)
        if not expanded.strip() and not empty:
            raise self.error(key, "is empty; write a value")
        return expanded

    def optional_text(self, key: str) -> str | None:
        return self.text(key) if key in self._values else None

    def matching(self, key: str, value: str, pattern: str, remedy: str) -> str:
        """``value`` if the whole of it matches."""
        if re.fullmatch(pattern, value) is None:
            raise self.error(key, remedy)
        return value

    def boolean(self, key: str, default: bool) -> bool:
        value: bool = self._take(key, bool, default)
        return value

    def integer(self, key: str, default: int, low: int, high: int) -> int:
        value: int = self._take(key, int, default)
        if not low <= value <= high:
            raise self.error(key, f"must be between {low} and {high}")
        return value

    def number(self, key: str, default: float, low: float, high: float) -> float:
        """A whole or decimal number within the bounds; nan and inf are within none."""
        value: float = self._take(key, float, default)
        if not low <= value <= high:
            raise self.error(key, f"must be between {low:g} and {high:g}")
        return value

    def texts(self, key: str) -> tuple[str, ...]:
        """A list of strings, empty by default."""
        values = self._take(key, list, [])
        if not all(isinstance(value, str) for value in values):
            raise self.error(key, 'must be a list of strings; write ["…", "…"]')
        return tuple(self._expand(key, value) for value in values)

    def one_of(self, key: str, value: str, known: Iterable[str], what: str) -> str:
        """``value`` if it is one of the known names; else an error that names the nearest."""
        names = list(known)
        if value in names:
            return value
        near = nearest(value, names)
        hint = f'; did you mean "{near}"?' if near is not None else ""
        shown = f'"{value}"' if value == self._values.get(key) else "of the name that the environment gives"
        raise self.error(key, f"there is no {what} {shown}{hint}")

    def _take(self, key: str, kind: type, default: Any) -> Any:
        if key not in self._values:
            if default is None:
                raise self.error(key, f"is missing; write {key} = {_example(kind)}")
            return default
        value = self._values[key]
        if kind in (int, float) and isinstance(value, str) and "${" in value:
            value = self._number_from_environment(key, value, kind)
        # bool is an int to Python, and an int may stand where a decimal number may.
        right = isinstance(value, kind) and (kind is bool or not isinstance(value, bool))
        if kind is float and isinstance(value, int) and not isinstance(value, bool):
            value, right = _as_float(value), True
        if not right:
            raise self.error(key, f"must be {_TYPE_NAMES[kind]}; write {key} = {_example(kind)}")
        return value

    def _number_from_environment(self, key: str, text: str, kind: type) -> Any:
        expanded = self._expand(key, text)
        try:
            return kind(expanded)
        except ValueError:
            raise self.error(
                key, f"the environment gives it no {_TYPE_NAMES[kind].split(',')[0][2:]}"
            ) from None

    def _expand(self, key: str, text: str) -> str:
        def value_of(match: re.Match[str]) -> str:
            name = match.group(1)
            if not match.group(0).endswith("}") or not _ENVIRONMENT_NAME.match(name):
                raise self.error(key, "a ${ begins the name of an environment variable; write ${NAME}")
            if name not in self._env:
                raise self.error(
                    key, f"the environment variable {name} is not set; set it, or write the value here"
                )
            return self._env[name]

        return _NAME.sub(value_of, text)


def _as_float(value: int) -> float:
    """Of one with too many digits: infinity, which is within no bounds."""
    try:
        return float(value)
    except OverflowError:
        return math.inf


def _example(kind: type) -> str:
    return {str: '"…"', bool: "true", int: "1", float: "1.5", list: '["…"]'}.get(kind, "…")
