"""Checks of decoded JSON that name the path of what is wrong, as the real service does."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import attrs

Check = Callable[[Any, str], None]
"""Of (value, path): raises :class:`Rejected`."""


@attrs.frozen
class Rejected(Exception):
    """A client event that the service does not accept; becomes one ``error`` event."""

    code: str | None
    message: str
    param: str | None = None
    kind: str = "invalid_request_error"


def _wrong(path: str, wanted: str, value: Any) -> Rejected:
    return Rejected(
        "invalid_type", f"Invalid type for '{path}': expected {wanted}, but got {type(value).__name__}.", path
    )


def text(value: Any, path: str) -> None:
    if not isinstance(value, str):
        raise _wrong(path, "a string", value)


def short_text(limit: int) -> Check:
    def check(value: Any, path: str) -> None:
        text(value, path)
        if len(value) > limit:
            raise Rejected(
                "string_above_max_length",
                f"Invalid '{path}': string too long. Expected a string with maximum length {limit}.",
                path,
            )

    return check


def boolean(value: Any, path: str) -> None:
    if not isinstance(value, bool):
        raise _wrong(path, "a boolean", value)


def number(low: float, high: float, *, whole: bool = False) -> Check:
    def check(value: Any, path: str) -> None:
        if isinstance(value, bool) or not isinstance(value, (int,) if whole else (int, float)):
            raise _wrong(path, "an integer" if whole else "a number", value)
        if not low <= value <= high:
            raise Rejected(
                "invalid_value", f"Invalid value for '{path}': must be from {low} to {high}.", path
            )

    return check


def one_of(*values: Any) -> Check:
    def check(value: Any, path: str) -> None:
        if isinstance(value, bool) or value not in values:
            allowed = ", ".join(repr(each) for each in values)
            raise Rejected(
                "invalid_value", f"Invalid value: {value!r}. Supported values are: {allowed}.", path
            )

    return check


def nullable(check: Check) -> Check:
    def maybe(value: Any, path: str) -> None:
        if value is not None:
            check(value, path)

    return maybe


def list_of(check: Check) -> Check:
    def each(value: Any, path: str) -> None:
        if not isinstance(value, list):
            raise _wrong(path, "an array", value)
        for index, element in enumerate(value):
            check(element, f"{path}[{index}]")

    return each


def anything(value: Any, path: str) -> None:
    return


def mapping(value: Any, path: str) -> None:
    if not isinstance(value, dict):
        raise _wrong(path, "an object", value)


def either(*checks: Check) -> Check:
    def check(value: Any, path: str) -> None:
        last: Rejected | None = None
        for candidate in checks:
            try:
                candidate(value, path)
            except Rejected as rejected:
                last = rejected
            else:
                return
        assert last is not None
        raise last

    return check


def fields(required: dict[str, Check] | None = None, optional: dict[str, Check] | None = None) -> Check:
    needed = required or {}
    allowed = {**needed, **(optional or {})}

    def check(value: Any, path: str) -> None:
        mapping(value, path)
        for name in value:
            if name not in allowed:
                where = f"{path}.{name}" if path else name
                raise Rejected("unknown_parameter", f"Unknown parameter: '{where}'.", where)
        for name in needed:
            if name not in value:
                where = f"{path}.{name}" if path else name
                raise Rejected("missing_required_parameter", f"Missing required parameter: '{where}'.", where)
        for name, element in value.items():
            allowed[name](element, f"{path}.{name}" if path else name)

    return check


def tagged(**kinds: Check) -> Check:
    """An object whose ``type`` chooses its fields."""

    def check(value: Any, path: str) -> None:
        mapping(value, path)
        if "type" not in value:
            where = f"{path}.type"
            raise Rejected("missing_required_parameter", f"Missing required parameter: '{where}'.", where)
        kind = value["type"]
        if not isinstance(kind, str) or kind not in kinds:
            one_of(*kinds)(kind, f"{path}.type")
        kinds[kind](value, path)

    return check
