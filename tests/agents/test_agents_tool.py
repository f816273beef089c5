"""@tool: what a plain function becomes, and what an author is told."""

from __future__ import annotations

import contextlib
import datetime
import logging
from typing import Annotated, Any, Literal, Optional

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

import callrt
from callrt import CallContext, Tool, ToolError, tool
from callrt.protocol.tools import BadArguments, CallFacts

FACTS = CallFacts("CA1", "+15550100001", "front-desk")


class Slot(msgspec.Struct):
    day: datetime.date
    hour: int = 9


@tool(side_effects=True, timeout=3, filler="Let me see.")
def book(
    name: Annotated[str, "the caller's name"],
    slot: Slot,
    ctx: CallContext,
    kind: Literal["visit", "call"] = "visit",
    notes: list[str] = [],  # noqa: B006
    doctor: Optional[str] = None,  # noqa: UP045
) -> str:
    """Book an appointment.

    Ask for the day first.
    """
    return f"{name} {slot.day.isoformat()} {slot.hour} {kind} {notes} {doctor} {ctx.idempotency_key}"


@tool
async def opening_hours(day: str) -> str:
    """When we are open."""
    return f"9 to 5 on {day}"


def refs(node: Any) -> bool:
    if isinstance(node, dict):
        return "$ref" in node or any(refs(value) for value in node.values())
    return isinstance(node, list) and any(refs(value) for value in node)


def test_name_description_and_schema_come_from_the_function() -> None:
    assert book.spec.name == "book"
    assert book.spec.description == "Book an appointment.\n\nAsk for the day first."
    schema = book.spec.parameters
    assert list(schema["properties"]) == ["name", "slot", "kind", "notes", "doctor"]
    assert schema["required"] == ["name", "slot"]
    assert schema["additionalProperties"] is False
    assert schema["properties"]["name"] == {"type": "string", "description": "the caller's name"}
    assert schema["properties"]["kind"]["enum"] == ["call", "visit"]
    assert not refs(schema)
    assert "title" not in schema


def test_options_are_kept() -> None:
    assert (book.side_effects, book.timeout, book.filler) == (True, 3.0, "Let me see.")
    assert (opening_hours.side_effects, opening_hours.timeout, opening_hours.filler) == (False, None, None)
    assert opening_hours.is_async


def test_tool_is_still_the_function() -> None:
    context = CallContext("CA1", "", "a", "key", logging.getLogger("x"))
    assert book("Ann", Slot(datetime.date(2026, 11, 20)), context).startswith("Ann 2026-11-20 9 visit")
    assert book.__doc__ is not None
    assert isinstance(book, Tool)


def test_invoke_gives_typed_arguments_and_the_context() -> None:
    arguments = book.parse('{"slot": {"day": "2026-11-20"}, "name": "Ann"}')
    assert book.invoke(arguments, FACTS, "key-1") == "Ann 2026-11-20 9 visit [] None key-1"


def test_default_lists_are_not_shared_between_runs() -> None:
    @tool
    def grow(items: list[str] = []) -> list[str]:  # noqa: B006
        items.append("x")
        return items

    arguments = grow.parse("{}")
    grow.invoke(arguments, FACTS, "k")
    assert grow.invoke(grow.parse("{}"), FACTS, "k") == ["x"]


def test_canonical_arguments_do_not_depend_on_spelling() -> None:
    a = book.parse('{"name":"Ann","slot":{"day":"2026-11-20","hour":9},"kind":"visit"}')
    b = book.parse('{ "slot" : {"day": "2026-11-20"}, "name": "\\u0041nn", "doctor": null }')
    assert a == b


@pytest.mark.parametrize(
    ("raw", "says"),
    [
        ("{", "not valid JSON"),
        ("[]", "Expected `object`"),
        ('{"name": 1}', "Expected `str`, got `int` - at `$.name`"),
        ('{"name": "x"}', "missing required field `slot`"),
        ('{"name": "x", "slot": {"day": "soon"}}', "Invalid RFC3339"),
        ('{"name": "x", "slot": {"day": "2026-11-20"}, "mood": 1}', "unknown field `mood`"),
        ('{"name": "\ud800"}', "not valid JSON"),
        ('{"name": ' + "[" * 100_000, "arguments"),
    ],
)
def test_wrong_arguments_are_an_error_the_model_can_act_on(raw: str, says: str) -> None:
    with pytest.raises(BadArguments) as caught:
        book.parse(raw)
    assert says in str(caught.value)


@given(st.text(), st.integers(-(2**60), 2**60), st.floats(allow_nan=False, allow_infinity=False))
def test_arguments_arrive_as_they_were_sent(text: str, number: int, real: float) -> None:
    @tool
    def echo(text: str, number: int, real: float) -> tuple[str, int, float]:
        return text, number, real

    raw = msgspec.json.encode({"real": real, "text": text, "number": number}).decode()
    assert echo.invoke(echo.parse(raw), FACTS, "") == (text, number, real)


@given(st.text() | st.binary().map(lambda data: data.decode("latin-1")))
def test_parse_refuses_or_accepts_but_never_breaks(raw: str) -> None:
    with contextlib.suppress(BadArguments):
        assert book.parse(book.parse(raw)) == book.parse(raw)


def test_empty_arguments_are_no_arguments() -> None:
    @tool
    def ping() -> str:
        return "pong"

    assert ping.invoke(ping.parse(""), FACTS, "") == "pong"
    assert ping.spec.description == "ping"


def test_context_may_be_optional() -> None:
    @tool
    def who(ctx: CallContext | None = None) -> str:
        assert ctx is not None
        return ctx.agent

    assert who.spec.parameters["properties"] == {}
    assert who.invoke(who.parse("{}"), FACTS, "") == "front-desk"


def untyped(day) -> str:  # type: ignore[no-untyped-def]
    return str(day)


def starred(*days: str) -> str:
    return str(days)


def unreadable(day: Nowhere) -> str:  # type: ignore[name-defined]  # noqa: F821
    return str(day)


def undescribable(day: logging.Logger) -> str:
    return str(day)


def twice(a: CallContext, b: CallContext) -> str:
    return ""


def end_call() -> str:
    return ""


def yields() -> Any:
    yield 1


class Node(msgspec.Struct):
    children: list[Node] = []


def recursive(node: Node) -> str:
    return str(node)


@pytest.mark.parametrize(
    ("function", "options", "says"),
    [
        (untyped, {}, "write day: str"),
        (starred, {}, "a name each"),
        (unreadable, {}, "cannot be read"),
        (undescribable, {}, "cannot be described"),
        (recursive, {}, "contain themselves"),
        (twice, {}, "two parameters of type CallContext"),
        (end_call, {}, "built-in"),
        (yields, {}, "generator"),
        (Slot, {}, "above a plain function"),
        (lambda: 1, {}, "needs a name"),
        (book.function, {"timeout": 0}, "write seconds"),
        (book.function, {"timeout": float("nan")}, "write seconds"),
        (book.function, {"filler": ""}, "filler"),
        (book.function, {"name": "book it"}, "needs a name"),
        (book.function, {"resolve": 3, "side_effects": True}, "cannot be called"),
        (book.function, {"resolve": len}, "add side_effects=True"),
        (book.function, {"loop": "twisted"}, 'write "trio" or "asyncio"'),
    ],
)
def test_usage_errors_are_one_sentence(function: Any, options: dict[str, Any], says: str) -> None:
    with pytest.raises(ToolError) as caught:
        tool(**options)(function)
    text = str(caught.value)
    assert says in text
    assert text.endswith(".") and text.count(". ") == 0 and "\n" not in text  # noqa: PT018


def test_package_exports_what_a_tool_needs() -> None:
    assert {"tool", "CallContext", "ToolFailed", "ToolError", "load_tools"} <= set(callrt.__all__)
