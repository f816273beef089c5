"""What supervision raises. A class exists only where code reacts to it; ``details`` are for people."""

from __future__ import annotations

from collections.abc import Hashable
from typing import TYPE_CHECKING, Any

import trio

if TYPE_CHECKING:
    from .admin import ChildHandle
    from .exits import Reason


class SpecError(ValueError):
    """A spec or a supervisor's settings break a rule. Raised before anything starts; names field and rule."""

    def __init__(self, field: str, rule: str) -> None:
        super().__init__(f"{field}: {rule}")
        self.field = field
        self.rule = rule


# -- raised by children, read by their supervisor ------------------------------------------------------------


class OrderlyStop(Exception):
    """A child raises it to end of its own will, kind ``shutdown``: not a failure."""


class Decline(Exception):
    """A start function raises it before its ack to say "I am not needed": not a failure, not retried."""


class GiveUp(Exception):
    """A failure that no restart can cure (bad key, no quota).

    It is never restarted and never counted: restarting would burn the budget of every level in turn, and each
    level would try again what cannot work. The supervisor stops its other children in order and escalates with
    it; so does every supervisor above, up to the root of the run or to a *temporary* child, whose end concerns
    nobody else.
    """


# -- raised by a supervisor's run ----------------------------------------------------------------------------


class SupervisionError(Exception):
    """Base of what a supervisor raises or answers."""


class Escalation(SupervisionError):
    """The supervisor gave up: its children are stopped. ``__cause__`` leads level by level to the last cause."""

    def __init__(self, path: tuple[str, ...], id: Hashable, why: str, reason: Reason) -> None:
        super().__init__(f"{'/'.join(path)} gave up ({why}) because of child {id!r}: {reason}")
        self.path = path
        self.id = id
        self.why = why
        """``intensity``, ``max_consecutive``, ``give_up``, ``unresponsive`` or ``fault``."""
        self.reason = reason

    @property
    def cause(self) -> BaseException | None:
        """The innermost exception of the chain."""
        return innermost(self)


class StartFailed(SupervisionError):
    """A child did not start. ``kind``: ``error``, ``timeout``, ``no_ack`` or ``stopped``. ``__cause__`` says why."""

    def __init__(self, path: tuple[str, ...], id: Hashable, kind: str, reason: Reason) -> None:
        super().__init__(f"child {id!r} of {'/'.join(path)} did not start ({kind}): {reason}")
        self.path = path
        self.id = id
        self.kind = kind
        self.reason = reason

    @property
    def cause(self) -> BaseException | None:
        """The innermost exception of the chain."""
        return innermost(self)


def innermost(exc: BaseException) -> BaseException | None:
    """Follow ``__cause__`` to its end; None when there is no cause."""
    inner = exc.__cause__
    while inner is not None and inner.__cause__ is not None:
        inner = inner.__cause__
    return inner


# -- answers to administration -------------------------------------------------------------------------------


class AdminError(SupervisionError):
    """An administrative call was refused; nothing has changed."""

    def __init__(self, id: Hashable, what: str) -> None:
        super().__init__(f"child {id!r}: {what}")
        self.id = id


class NotFound(AdminError, KeyError):
    """No such child."""

    __str__ = Exception.__str__

    def __init__(self, id: Hashable) -> None:
        super().__init__(id, "not found")


class AlreadyStarted(AdminError):
    """A child with this id is running; ``handle`` is that child. The new spec was discarded."""

    def __init__(self, id: Hashable, handle: ChildHandle[Any]) -> None:
        super().__init__(id, "already started")
        self.handle = handle


class AlreadyPresent(AdminError):
    """A child with this id is known and not running. The new spec was discarded."""

    def __init__(self, id: Hashable) -> None:
        super().__init__(id, "already present")


class ChildRunning(AdminError):
    """The operation is for stopped children."""

    def __init__(self, id: Hashable) -> None:
        super().__init__(id, "running")


class ChildRestarting(AdminError):
    """Its restart is pending: terminate it first."""

    def __init__(self, id: Hashable) -> None:
        super().__init__(id, "restarting")


class ChildUnresponsive(AdminError):
    """Its last incarnation was told to end and has not: a second one would be two actors with one name."""

    def __init__(self, id: Hashable) -> None:
        super().__init__(id, "unresponsive")


class TooManyChildren(AdminError):
    """``max_children`` are there already; those that wait for a restart count as well."""

    def __init__(self, id: Hashable, max_children: int) -> None:
        super().__init__(id, f"refused: max_children={max_children} reached")


class InvalidOperation(AdminError):
    """This kind of supervisor does not offer the operation."""


class SupervisorDown(SupervisionError):
    """The supervisor is not running, is stopping or has ended."""

    def __init__(self, name: str) -> None:
        super().__init__(f"supervisor {name} is not running")


# -- messages ------------------------------------------------------------------------------------------------


class AskError(SupervisionError):
    """No reply will come."""


class TargetDown(AskError):
    """The target ended (``reason`` says how) or is not there. The message may have been handled in part."""

    def __init__(self, target: str, reason: Reason | None) -> None:
        super().__init__(f"{target} is down: {reason if reason is not None else 'not running'}")
        self.target = target
        self.reason = reason


class MailboxFull(AskError):
    """The target's mailbox took no more: the message was not delivered."""

    def __init__(self, target: str) -> None:
        super().__init__(f"mailbox of {target} is full")


class AskTimeout(AskError, trio.TooSlowError):
    """No reply within the timeout. The message may have been handled, or may yet be."""


class Fenced(SupervisionError):
    """This incarnation was declared unresponsive, or has ended: it may not act under its name any more."""
