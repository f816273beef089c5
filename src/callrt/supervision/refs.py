"""References to actors: tell, ask, monitor. A reference stays valid over restarts; it never leads to a dead one."""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any, Generic, TypeVar

import trio

from .errors import AskTimeout, MailboxFull, TargetDown
from .mailbox import Address, Down, Lane, MailboxStatistics, current_context

M = TypeVar("M")
R = TypeVar("R")


class ReplyTo(Generic[R]):
    """The one-shot slot for the reply to an ask. The first resolution wins; later replies are dead letters."""

    __slots__ = ("_address", "_error", "_event", "_value", "resolved")

    def __init__(self, address: Address[Any]) -> None:
        self._address = address
        self._event = trio.Event()
        self._error: Exception | None = None
        self._value: R | None = None
        self.resolved = False

    def reply(self, value: R) -> bool:
        """Answer. False: nobody waits any more, or a fenced incarnation answers. No checkpoint."""
        sender = current_context.get()
        delivered = not self.resolved and not (sender is not None and sender.fenced)
        self._address.count_reply(delivered)
        if delivered:
            self._value = value
            self._resolve()
        return delivered

    def fail(self, error: Exception) -> None:
        """End the ask with an error; no effect when it is already resolved. No checkpoint."""
        if not self.resolved:
            self._error = error
            self._resolve()

    def _resolve(self) -> None:
        self.resolved = True
        self._address.resolved(self)
        self._event.set()

    async def _wait(self, timeout: float, target: str) -> R:
        try:
            with trio.move_on_after(timeout):
                await self._event.wait()
        finally:
            if not self.resolved:
                self.fail(AskTimeout(f"{target} did not reply within {timeout} s"))
        if self._error is not None:
            try:
                raise self._error
            finally:
                self._error = None
        return self._value  # type: ignore[return-value]


class Monitor:
    """Watches one incarnation. Made by :meth:`ActorRef.monitor`."""

    __slots__ = ("_address", "_event", "_notify", "down", "faults")

    def __init__(self, address: Address[Any], notify: Callable[[Down], None] | None) -> None:
        self._address = address
        self._notify = notify
        self._event = trio.Event()
        self.down: Down | None = None
        """The notice, once the incarnation has ended."""
        self.faults = 0
        """Exceptions of the callback: contained, since monitoring affects neither side."""
        address.add_monitor(self, self._tell)

    def _tell(self, down: Down) -> None:
        self.down = down
        self._event.set()
        if self._notify is not None:
            try:
                self._notify(down)
            except Exception:
                self.faults += 1

    async def wait(self) -> Down:
        """The notice of the end. If cancelled: no effect."""
        await trio.lowlevel.checkpoint()
        await self._event.wait()
        assert self.down is not None
        return self.down

    def demonitor(self) -> None:
        """No notice from now on. Idempotent. No checkpoint."""
        self._address.drop_monitor(self)


class ActorRef(Generic[M]):
    """Where to send messages of type ``M``. Stable over restarts; equal when it means the same child."""

    __slots__ = ("_address",)

    def __init__(self, address: Address[M]) -> None:
        self._address = address

    def __repr__(self) -> str:
        return f"<ActorRef {self._address.label}>"

    def __eq__(self, other: object) -> bool:
        return isinstance(other, ActorRef) and other._address is self._address

    def __hash__(self) -> int:
        return hash(self._address)

    @property
    def label(self) -> str:
        """The child's path as text."""
        return self._address.label

    @property
    def incarnation(self) -> int:
        """Number of the latest incarnation; 0 before the first."""
        return self._address.incarnation

    @property
    def alive(self) -> bool:
        """An incarnation exists now."""
        return self._address.holder is not None

    def tell(self, message: M, lane: Lane = "control") -> bool:
        """Send without waiting. False: it became a dead letter (counted, reported). Never blocks; no checkpoint."""
        return self._address.put(message, lane) is None

    async def ask(self, make: Callable[[ReplyTo[R]], M], timeout: float = math.inf) -> R:
        """Send ``make(reply_to)`` and wait for the reply, at most ``timeout`` seconds.

        Raises :class:`AskTimeout` at the deadline, :class:`TargetDown` at once when the target ends or is not
        there, :class:`MailboxFull` when it was not delivered. If cancelled: the message may have been handled;
        a reply becomes a dead letter.
        """
        await trio.lowlevel.checkpoint()
        asker = current_context.get()
        if (
            asker is not None
            and asker.address is self._address
            and asker.task is trio.lowlevel.current_task()
        ):
            raise RuntimeError(f"{self.label} asks itself: it would wait for its own answer")
        reply_to: ReplyTo[R] = ReplyTo(self._address)
        dead = self._address.put(make(reply_to), "control", reply_to)
        if dead == "full":
            raise MailboxFull(self.label)
        if dead is not None:
            raise TargetDown(self.label, self._address.last)
        return await reply_to._wait(timeout, self.label)

    def monitor(self, notify: Callable[[Down], None] | None = None) -> Monitor:
        """Watch the living incarnation: exactly one notice at its end, at once when there is none. The callback
        runs synchronously before any restart; what it raises is contained. No checkpoint."""
        return Monitor(self._address, notify)

    def statistics(self) -> MailboxStatistics:
        """The mailbox's books. No checkpoint."""
        return self._address.statistics()
