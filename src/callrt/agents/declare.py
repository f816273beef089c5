"""``@tool``: a plain function becomes something that a model may call."""

from __future__ import annotations

import functools
import inspect
import logging
import math
from collections.abc import Callable
from pathlib import Path
from typing import Any, Generic, Literal, ParamSpec, TypeVar, overload

from callrt.agents.context import CallContext
from callrt.agents.errors import ToolError
from callrt.agents.schema import NAME, read_signature
from callrt.protocol.models.events import ToolSpec
from callrt.protocol.tools import RESERVED_NAMES, CallFacts

P = ParamSpec("P")
R = TypeVar("R")

FILLER_CHARS_MAX = 300
TIMEOUT_MAX = 300.0
"""Nobody waits on the phone for five minutes; a longer job should answer at once and finish elsewhere."""


class Tool(Generic[P, R]):
    """A function with what a model and a supervisor must know of it. Calling it calls the function itself."""

    def __init__(
        self,
        function: Callable[P, R],
        *,
        name: str | None = None,
        timeout: float | None = None,
        side_effects: bool = False,
        filler: str | None = None,
        resolve: Callable[[str], object] | None = None,
        killable: bool = False,
        loop: Literal["trio", "asyncio"] = "trio",
    ) -> None:
        self.function = function
        self.name = _checked_name(function, name)
        self.timeout = _checked_timeout(self.name, timeout)
        """Seconds; None: the configuration's ``tool_timeout_seconds``."""
        self.side_effects = side_effects
        self.filler = _checked_filler(self.name, filler)
        self.resolver = _checked_resolve(self.name, resolve, side_effects)
        self.killable = killable
        self.loop: Literal["trio", "asyncio"] = loop
        if loop not in ("trio", "asyncio"):
            raise ToolError(f'Tool {self.name!r} has loop={loop!r}: write "trio" or "asyncio".')
        self.is_async = inspect.iscoroutinefunction(function)
        self._signature = read_signature(function, self.name)
        self.spec = ToolSpec(self.name, _description(function, self.name), self._signature.parameters)
        self.origin: tuple[Path, str] | None = None
        """Folder and import path, once loaded from a configuration; a killable tool needs it."""
        functools.update_wrapper(self, function)

    def __call__(self, *args: P.args, **kwargs: P.kwargs) -> R:
        return self.function(*args, **kwargs)

    def __repr__(self) -> str:
        return f"<tool {self.name}>"

    def parse(self, raw: str) -> str:
        """The model's arguments to canonical JSON; raises :class:`callrt.protocol.tools.BadArguments`."""
        return self._signature.parse(raw)

    def invoke(self, arguments: str, call: CallFacts, key: str) -> object:
        """Run the function with canonical arguments: its value, or its coroutine when :attr:`is_async`."""
        keywords = self._signature.keywords(arguments)
        if self._signature.context_parameter is not None:
            keywords[self._signature.context_parameter] = self._context(call, key)
        return self.function(**keywords)  # type: ignore[call-arg]

    def _context(self, call: CallFacts, key: str) -> CallContext:
        logger = logging.LoggerAdapter(
            logging.getLogger("callrt.tool"), {"call_sid": call.call_sid, "tool": self.name}
        )
        return CallContext(call.call_sid, call.caller, call.agent, key, logger)


@overload
def tool(function: Callable[P, R], /) -> Tool[P, R]: ...


@overload
def tool(
    *,
    name: str | None = None,
    timeout: float | None = None,
    side_effects: bool = False,
    filler: str | None = None,
    resolve: Callable[[str], object] | None = None,
    killable: bool = False,
    loop: Literal["trio", "asyncio"] = "trio",
) -> Callable[[Callable[P, R]], Tool[P, R]]: ...


def tool(function: Callable[..., Any] | None = None, /, **options: Any) -> Any:
    """Declare a tool: ``@tool`` or ``@tool(side_effects=True, timeout=5)``.

    The docstring is its description for the model; parameters come from names and type hints
    (``Annotated[str, "what it means"]`` describes one). Raises :class:`ToolError`, one sentence, at import.

    ``timeout``: seconds until the model is told that there is no answer.
    ``side_effects``: the outside world changes; runs at most once per request, also across restarts.
    ``filler``: what the agent says when the tool takes long.
    ``resolve(key)``: asked after a crash whether the request with this idempotency key was carried out:
    returns its result if it was, raises ``LookupError`` if it was not, returns None if it cannot tell.
    ``killable``: runs in a process of its own that is killed at the timeout; for code that may hang the whole
    interpreter. Costs a process start per run.
    ``loop``: which loop an async function is written for.
    """
    if function is None:
        return lambda decorated: Tool(_checked_function(decorated), **options)
    return Tool(_checked_function(function), **options)


def _checked_function(function: object) -> Callable[..., Any]:
    if not inspect.isfunction(function):
        raise ToolError(f"@tool goes above a plain function, not above {type(function).__name__!r}.")
    if inspect.isasyncgenfunction(function) or inspect.isgeneratorfunction(function):
        raise ToolError(
            f"Tool {function.__name__!r} is a generator: return the whole result instead of yielding."
        )
    return function


def _checked_name(function: Callable[..., Any], name: str | None) -> str:
    chosen = name if name is not None else function.__name__
    if NAME.fullmatch(chosen) is None:
        raise ToolError(
            f"Tool {chosen!r} needs a name of at most 64 letters, digits, '_' or '-': @tool(name=\"…\")."
        )
    if chosen in RESERVED_NAMES:
        raise ToolError(
            f'Tool {chosen!r} has the name of a built-in tool: choose another with @tool(name="…").'
        )
    return chosen


def _checked_timeout(name: str, timeout: float | None) -> float | None:
    if timeout is None:
        return None
    if not isinstance(timeout, (int, float)) or not math.isfinite(timeout) or not 0 < timeout <= TIMEOUT_MAX:
        raise ToolError(
            f"Tool {name!r} has timeout={timeout!r}: write seconds above 0, at most {TIMEOUT_MAX:g}."
        )
    return float(timeout)


def _checked_filler(name: str, filler: str | None) -> str | None:
    if filler is not None and (not isinstance(filler, str) or not 0 < len(filler) <= FILLER_CHARS_MAX):
        raise ToolError(
            f"Tool {name!r} has a filler that is no sentence of 1 to {FILLER_CHARS_MAX} characters."
        )
    return filler


def _checked_resolve(
    name: str, resolve: Callable[[str], object] | None, side_effects: bool
) -> Callable[[str], object] | None:
    if resolve is not None and not callable(resolve):
        raise ToolError(f"Tool {name!r} has a resolve that cannot be called: give a function of one key.")
    if resolve is not None and not side_effects:
        raise ToolError(f"Tool {name!r} has a resolve but no side effects: add side_effects=True.")
    return resolve


def _description(function: Callable[..., Any], name: str) -> str:
    return inspect.getdoc(function) or name.replace("_", " ").replace("-", " ")
