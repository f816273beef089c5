"""How a child ended. One place decides what an exit was; everything else reads the verdict.

Order of judgement: a system leaf (KeyboardInterrupt, SystemExit) makes it ``system``; all leaves orderly make it
``shutdown``; any other exception is ``error``. A ``Cancelled`` that gets past the child's own scope is foreign,
because nothing above that scope can be cancelled (the supervisor's shield is never lifted): so it is an error
like any other.
"""

from __future__ import annotations

import traceback
from collections.abc import Iterator
from typing import Literal

import attrs

from .errors import Escalation, GiveUp, OrderlyStop, StartFailed

ExitKind = Literal["normal", "shutdown", "error", "unresponsive", "system"]

TRACEBACK_CHARS_MAX = 16_000
"""A report is a fact for logs, not an archive: deep recursion would fill them."""
MESSAGE_CHARS_MAX = 2_000


@attrs.frozen
class Reason:
    """Why an incarnation ended, as text: a kept exception would keep the dead actor's frames alive."""

    kind: ExitKind
    type: str = ""
    """Qualified name of the exception's type; empty without an exception."""
    message: str = ""
    traceback: str = ""
    leaves: tuple[str, ...] = ()
    """Type names of the exceptions inside groups, in order; for a bare exception its own."""

    def __str__(self) -> str:
        return ": ".join(part for part in (self.kind, self.type, self.message) if part)

    @property
    def abnormal(self) -> bool:
        return self.kind in ("error", "unresponsive")


class End:
    """The verdict on one incarnation, with its exception until the supervisor has handled it."""

    __slots__ = ("error", "reason")

    def __init__(self, reason: Reason, error: BaseException | None = None) -> None:
        self.reason = reason
        self.error = error

    @property
    def kind(self) -> ExitKind:
        return self.reason.kind

    def forget(self) -> None:
        """Drop the exception and with it the dead actor's frames."""
        self.error = None


NORMAL = Reason("normal")
SHUTDOWN = Reason("shutdown")
UNRESPONSIVE = Reason("unresponsive", message="did not end within its shutdown time")


def leaves_of(exc: BaseException) -> Iterator[BaseException]:
    """The exceptions inside nested groups, in order; the exception itself when it is no group."""
    stack = [exc]
    while stack:
        current = stack.pop()
        if isinstance(current, BaseExceptionGroup):
            stack.extend(reversed(current.exceptions))
        else:
            yield current


def system_leaf(exc: BaseException) -> BaseException | None:
    """The first KeyboardInterrupt or SystemExit inside ``exc``."""
    for leaf in leaves_of(exc):
        if isinstance(leaf, KeyboardInterrupt | SystemExit):
            return leaf
    return None


def carries(exc: BaseException | None, types: tuple[type[BaseException], ...]) -> bool:
    """Is a leaf of one of these types in ``exc``, or behind an escalation or start failure in it?"""
    stack = [exc] if exc is not None else []
    seen = 0
    while stack:
        for leaf in leaves_of(stack.pop()):
            if isinstance(leaf, types):
                return True
            seen += 1
            # a cause chain may be a loop; no honest tree of supervisors is a thousand levels deep
            if isinstance(leaf, Escalation | StartFailed) and leaf.__cause__ is not None and seen < 1_000:
                stack.append(leaf.__cause__)
    return False


def gives_up(exc: BaseException | None, also: tuple[type[BaseException], ...] = ()) -> bool:
    return carries(exc, (GiveUp, *also))


def _text(exc: BaseException) -> str:
    try:
        return str(exc)[:MESSAGE_CHARS_MAX]
    except Exception as broken:
        return f"<str() failed: {type(broken).__name__}>"


def describe(exc: BaseException, kind: ExitKind) -> Reason:
    """Turn an exception into text at once, so that it can be dropped."""
    try:
        trace = "".join(traceback.format_exception(exc))
    except Exception as broken:
        trace = f"<traceback could not be formatted: {type(broken).__name__}>"
    if len(trace) > TRACEBACK_CHARS_MAX:
        half = TRACEBACK_CHARS_MAX // 2
        trace = f"{trace[:half]}\n  [...]\n{trace[-half:]}"
    return Reason(
        kind=kind,
        type=_name(exc),
        message=_text(exc),
        traceback=trace,
        leaves=tuple(type(leaf).__name__ for leaf in leaves_of(exc)),
    )


def _name(exc: BaseException) -> str:
    kind = type(exc)
    return kind.__qualname__ if kind.__module__ == "builtins" else f"{kind.__module__}.{kind.__qualname__}"


def judge(exc: BaseException) -> End:
    """The verdict on an exception that left a child."""
    system = system_leaf(exc)
    if system is not None:
        return End(describe(exc, "system"), system)
    if all(isinstance(leaf, OrderlyStop) for leaf in leaves_of(exc)):
        return End(attrs.evolve(SHUTDOWN, type=_name(exc), message=_text(exc)))
    return End(describe(exc, "error"), exc)
