"""Reading one TOML table key by key: types, ranges, ``${NAME}``, and errors that say what to write instead.

Every finding is one sentence with the key and the remedy. Only names of models, agents and providers
are quoted, and nothing from the environment: a value may be, or may have been meant to be, a secret. Reading goes
on behind a finding with something of the right type in the value's place, so that one look at a file finds them all.
"""

from __future__ import annotations

import difflib
import math
import re
from collections.abc import Iterable, Iterator, Mapping
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


class Findings:
    """What is wrong with a file: one remedy for each key, in the order in which they were found."""

    def __init__(self) -> None:
        self._remedies: dict[str, str] = {}
        self._explained: list[str] = []

    def add(self, where: str, remedy: str) -> None:
        """A key's first finding counts; what follows from it is none."""
        if where not in self._explained:
            self._remedies.setdefault(where, remedy)

    def explain(self, where: str) -> None:
        """What is found here from now on follows from another finding."""
        self._explained.append(where)

    def about(self, finding: str) -> bool:
        """Whether a sentence that begins with its key is about one that is known to be wrong."""
        where = finding.split(": ")[0]
        return where in self._remedies or where in self._explained

    def __iter__(self) -> Iterator[str]:
        return (f"{where}: {remedy}" for where, remedy in self._remedies.items())

    def raise_first(self, file: str) -> None:
        """Raises :class:`ConfigError` with the first, if there is one."""
        for finding in self:
            raise ConfigError(f"{file}: {finding}")


class Table:
    """One table of the file. ``only`` refuses unknown keys, then values are taken by key."""

    def __init__(
        self, path: str, values: Mapping[str, Any], env: Mapping[str, str], findings: Findings
    ) -> None:
        self.path = path
        self.findings = findings
        self._values = values
        self._env = env

    def refuse(self, key: str, remedy: str) -> None:
        """What is wrong with a key, and what to write instead."""
        self.findings.add(self._where(key), remedy)

    def _where(self, key: str) -> str:
        return f"[{self.path}] {key}" if self.path else f"[{key}]"

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
                self.refuse(key, f"unknown key; did you mean {meant}?")
                if near is not None and near not in self._values:
                    self.findings.explain(self._where(near))
        return self

    def __contains__(self, key: str) -> bool:
        return key in self._values

    def table(self, key: str) -> Table:
        """A table within this one; an empty one if it is not there, or is none."""
        path = f"{self.path}.{key}" if self.path else key
        value = self._values.get(key, {})
        if isinstance(value, dict):
            return Table(path, value, self._env, self.findings)
        self.findings.add(path, f"must be a table; begin it with a line [{path}]")
        self.findings.explain(f"[{path}]")
        return Table(path, {}, self._env, Findings())

    def text(self, key: str, default: str | None = None, *, empty: bool = False) -> str:
        """A string; without a default it must be there. ``empty`` allows "". Defaults may hold ${NAME}."""
        value = self._take(key, str, default)
        expanded = self._expand(key, value)
        if not expanded.strip() and not empty:
            self.refuse(key, "is empty; write a value")
        return expanded

    def optional_text(self, key: str) -> str | None:
        return self.text(key) if key in self._values else None

    def matching(self, key: str, value: str, pattern: str, remedy: str) -> str:
        """``value``, the whole of which has to match."""
        if re.fullmatch(pattern, value) is None:
            self.refuse(key, remedy)
        return value

    def boolean(self, key: str, default: bool) -> bool:
        value: bool = self._take(key, bool, default)
        return value

    def integer(self, key: str, default: int, low: int, high: int) -> int:
        value: int = self._take(key, int, default)
        if not low <= value <= high:
            self.refuse(key, f"must be between {low} and {high}")
            return default
        return value

    def number(self, key: str, default: float, low: float, high: float) -> float:
        """A whole or decimal number within the bounds; nan and inf are within none."""
        value: float = self._take(key, float, default)
        if not low <= value <= high:
            self.refuse(key, f"must be between {low:g} and {high:g}")
            return default
        return value

    def texts(self, key: str) -> tuple[str, ...]:
        """A list of strings, empty by default."""
        values = self._take(key, list, [])
        if not all(isinstance(value, str) for value in values):
            self.refuse(key, 'must be a list of strings; write ["…", "…"]')
            return ()
        return tuple(self._expand(key, value) for value in values)

    def one_of(self, key: str, value: str, known: Iterable[str], what: str) -> str:
        """``value``, which has to be one of the known names; the finding names the nearest."""
        names = list(known)
        if value in names:
            return value
        near = nearest(value, names)
        hint = f'; did you mean "{near}"?' if near is not None else ""
        shown = f'"{value}"' if value == self._values.get(key) else "of the name that the environment gives"
        self.refuse(key, f"there is no {what} {shown}{hint}")
        return value

    def _take(self, key: str, kind: type, default: Any) -> Any:
        stand_in = kind() if default is None else default
        if key not in self._values:
            if default is None:
                self.refuse(key, f"is missing; write {key} = {_example(kind)}")
            return stand_in
        value = self._values[key]
        if kind in (int, float) and isinstance(value, str) and "${" in value:
            try:
                value = kind(self._expand(key, value))
            except ValueError:
                self.refuse(key, f"the environment gives it no {_TYPE_NAMES[kind].split(',')[0][2:]}")
                return stand_in
        # bool is an int to Python, and an int may stand where a decimal number may.
        right = isinstance(value, kind) and (kind is bool or not isinstance(value, bool))
        if kind is float and isinstance(value, int) and not isinstance(value, bool):
            value, right = _as_float(value), True
        if not right:
            self.refuse(key, f"must be {_TYPE_NAMES[kind]}; write {key} = {_example(kind)}")
            return stand_in
        return value

    def _expand(self, key: str, text: str) -> str:
        def value_of(match: re.Match[str]) -> str:
            name = match.group(1)
            if not match.group(0).endswith("}") or not _ENVIRONMENT_NAME.match(name):
                self.refuse(key, "a ${ begins the name of an environment variable; write ${NAME}")
            elif name not in self._env:
                self.refuse(
                    key, f"the environment variable {name} is not set; set it, or write the value here"
                )
            return self._env.get(name, "")

        return _NAME.sub(value_of, text)


def _as_float(value: int) -> float:
    """Of one with too many digits: infinity, which is within no bounds."""
    try:
        return float(value)
    except OverflowError:
        return math.inf


def _example(kind: type) -> str:
    return {str: '"…"', bool: "true", int: "1", float: "1.5", list: '["…"]'}.get(kind, "…")
