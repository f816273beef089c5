"""A function's signature as a struct: the schema the model sees and the check of its arguments are one."""

from __future__ import annotations

import copy
import inspect
import re
import types
import typing
from collections.abc import Callable, Mapping
from typing import Annotated, Any

import attrs
import msgspec

from callrt.agents.context import CallContext
from callrt.agents.errors import ToolError
from callrt.protocol.tools import BadArguments

NAME = re.compile(r"[a-zA-Z0-9_-]{1,64}")
"""What the providers accept as a tool's name."""


@attrs.frozen
class Signature:
    struct: type[msgspec.Struct]
    context_parameter: str | None
    parameters: Mapping[str, Any]
    """JSON schema of an object, without references."""

    def parse(self, raw: str) -> str:
        """The model's JSON to canonical JSON, defaults filled in. Raises :class:`BadArguments`."""
        try:
            value = msgspec.json.decode(raw if raw.strip() else "{}", type=self.struct)
            return msgspec.json.encode(value, order="deterministic").decode()
        except msgspec.ValidationError as error:
            raise BadArguments(f"The arguments do not fit: {str(error)[:300]}.") from None
        except (msgspec.DecodeError, UnicodeError, RecursionError):
            raise BadArguments("The arguments are not valid JSON.") from None
        except Exception as error:  # an author's own type may raise anything while it is checked
            raise BadArguments(f"The arguments do not fit ({type(error).__name__}).") from None

    def keywords(self, canonical: str) -> dict[str, Any]:
        """Canonical JSON to the function's keyword arguments."""
        value = msgspec.json.decode(canonical, type=self.struct)
        return {name: getattr(value, name) for name in self.struct.__struct_fields__}


def read_signature(function: Callable[..., Any], name: str) -> Signature:
    """Raises :class:`ToolError`, one sentence."""
    try:
        hints = typing.get_type_hints(function, include_extras=True)
    except Exception as error:
        raise ToolError(f"The type hints of tool {name!r} cannot be read: {error}.") from None
    fields: list[Any] = []
    context_parameter: str | None = None
    for parameter in inspect.signature(function).parameters.values():
        if parameter.kind not in (parameter.POSITIONAL_OR_KEYWORD, parameter.KEYWORD_ONLY):
            raise ToolError(f"Tool {name!r} takes {str(parameter)!r}: a tool's parameters need a name each.")
        if parameter.name not in hints:
            raise ToolError(
                f"Parameter {parameter.name!r} of tool {name!r} has no type: write {parameter.name}: str."
            )
        hint = hints[parameter.name]
        if _is_context(hint):
            if context_parameter is not None:
                raise ToolError(f"Tool {name!r} has two parameters of type CallContext: one is enough.")
            context_parameter = parameter.name
            continue
        fields.append(_field(parameter, hint))
    try:
        struct = msgspec.defstruct(
            f"{name}_arguments", fields, kw_only=True, forbid_unknown_fields=True, frozen=True
        )
        parameters = _inline(msgspec.json.schema(struct), name)
    except ToolError:
        raise
    except Exception as error:
        what = str(error).strip().splitlines()[0].rstrip(".") if str(error).strip() else type(error).__name__
        raise ToolError(f"The parameters of tool {name!r} cannot be described to a model: {what}.") from None
    parameters.pop("title", None)
    return Signature(struct, context_parameter, parameters)


def _is_context(hint: Any) -> bool:
    if typing.get_origin(hint) is Annotated:
        hint = typing.get_args(hint)[0]
    if typing.get_origin(hint) in (typing.Union, types.UnionType):
        return CallContext in typing.get_args(hint)
    return hint is CallContext


def _field(parameter: inspect.Parameter, hint: Any) -> tuple[Any, ...]:
    if typing.get_origin(hint) is Annotated:
        # Annotated[str, "the day"]: a plain string is the description.
        base, *extras = typing.get_args(hint)
        for extra in extras:
            meta = msgspec.Meta(description=extra) if isinstance(extra, str) else extra
            base = Annotated[base, meta]
        hint = base
    default = parameter.default
    if default is inspect.Parameter.empty:
        return (parameter.name, hint)
    if isinstance(default, (list, dict, set, bytearray)):
        return (parameter.name, hint, msgspec.field(default_factory=lambda: copy.deepcopy(default)))
    return (parameter.name, hint, default)


def _inline(schema: dict[str, Any], name: str) -> dict[str, Any]:
    """Providers differ in what they make of ``$ref``: leave none."""
    definitions = schema.get("$defs", {})

    def walk(node: Any, inside: tuple[str, ...]) -> Any:
        if isinstance(node, list):
            return [walk(item, inside) for item in node]
        if not isinstance(node, dict):
            return node
        if "$ref" in node:
            target = node["$ref"].removeprefix("#/$defs/")
            if target in inside:
                raise ToolError(f"The parameters of tool {name!r} contain themselves: use a flat type.")
            rest = {key: value for key, value in node.items() if key != "$ref"}
            return {**walk(definitions[target], (*inside, target)), **walk(rest, inside)}
        return {key: walk(value, inside) for key, value in node.items() if key != "$defs"}

    inlined = walk(schema, ())
    assert inlined.get("type") == "object", "a struct is an object"
    inlined.setdefault("additionalProperties", False)
    return typing.cast("dict[str, Any]", inlined)
