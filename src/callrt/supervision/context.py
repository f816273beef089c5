"""What a child is given: its own name, mailbox, chance, and a bounded clean-up."""

from __future__ import annotations

import math
import random
from collections.abc import Callable, Hashable
from types import TracebackType
from typing import TYPE_CHECKING, Generic, TypeVar

import trio

from .mailbox import Address, Name
from .refs import ActorRef
from .reports import Reports
from .waiting import Bell

if TYPE_CHECKING:
    from .engine import Run

M = TypeVar("M")

Rest = tuple[Bell, Callable[[], None]]
"""What a child at rest waits for, and what is done when it ends before that."""


def nothing() -> None:
    """There is nothing to clean up."""


class Cleanup:
    """A shielded scope that ends at the latest when the shutdown time does. Made by :meth:`Context.cleanup`."""

    def __init__(self, owner: Context[M], limit: float) -> None:
        self._owner = owner
        self._limit = limit
        self.scope = trio.CancelScope(shield=True)

    def __enter__(self) -> trio.CancelScope:
        deadline = min(trio.current_time() + self._limit, self._owner.stop_deadline)
        self.scope.deadline = deadline
        self._owner._cleanups += (self.scope,)
        return self.scope.__enter__()

    def __exit__(
        self, kind: type[BaseException] | None, exc: BaseException | None, tb: TracebackType | None
    ) -> bool | None:
        self._owner._cleanups = tuple(each for each in self._owner._cleanups if each is not self.scope)
        return self.scope.__exit__(kind, exc, tb)


class Context(Generic[M]):
    """One incarnation's view of its runtime. Fresh for each incarnation."""

    __slots__ = (
        "_cleanups",
        "_rest",
        "_rng",
        "acked",
        "address",
        "ended",
        "fenced",
        "id",
        "incarnation",
        "orderly",
        "reports",
        "resumed",
        "run",
        "shutdown",
        "stop_deadline",
        "sub",
        "task",
    )

    def __init__(
        self,
        *,
        id: Hashable,
        incarnation: int,
        address: Address[M],
        reports: Reports,
        shutdown: float,
        run: Run,
    ) -> None:
        self.id = id
        self.incarnation = incarnation
        self.address = address
        self.reports = reports
        self.shutdown = shutdown
        self.run = run
        self.sub: Run | None = None
        """The run of the supervisor that this child is, if it is one."""
        self.task: trio.lowlevel.Task | None = None
        self.acked = False
        self.ended = False
        self.fenced = False
        """Declared unresponsive: what it sends, answers or registers counts no more."""
        self.orderly = False
        """A plain return is an orderly stop (a supervisor that was told to stop)."""
        self.stop_deadline = math.inf
        self._rng: random.Random | None = None
        self._cleanups: tuple[trio.CancelScope, ...] = ()
        self.resumed = False
        """The start function has been called before, and :meth:`rest` was its last word."""
        self._rest: Rest | None = None

    @property
    def path(self) -> tuple[str, ...]:
        """Names from the root supervisor down to this child."""
        return (*self.run.path, str(self.id))

    @property
    def ref(self) -> ActorRef[M]:
        """This child's own reference."""
        return ActorRef(self.address)

    @property
    def rng(self) -> random.Random:
        """This incarnation's own stream, derived from the supervisor's seed and the path: no other actor's use of
        chance can shift it."""
        if self._rng is None:
            self._rng = random.Random(f"{self.run.seed}/{'/'.join(self.path)}#{self.incarnation}")
        return self._rng

    def receive_nowait(self) -> M:
        """The next message. Raises :class:`trio.WouldBlock` if none waits, :class:`Fenced` if this incarnation may
        not act any more. No checkpoint."""
        return self.address.take_nowait(self)

    async def receive(self, timeout: float = math.inf) -> M:
        """Wait for the next message, control before media.

        Raises :class:`trio.TooSlowError` when ``timeout`` seconds pass without one (0: one look), :class:`Fenced`
        if this incarnation may not act any more. If cancelled: no effect, no message is lost.
        """
        await trio.lowlevel.checkpoint()
        if timeout == math.inf:
            return await self._receive()
        with trio.move_on_after(timeout):
            return await self._receive()
        try:
            return self.address.take_nowait(self)  # at an exact tie the timeout wins: look once more
        except trio.WouldBlock:
            raise trio.TooSlowError(f"no message within {timeout} s") from None

    async def receive_until(self, deadline: float) -> M:
        """As :meth:`receive`, with a deadline on Trio's clock instead of a span."""
        return await self.receive(
            max(0.0, deadline - trio.current_time()) if deadline != math.inf else math.inf
        )

    async def _receive(self) -> M:
        while True:
            try:
                return self.address.take_nowait(self)
            except trio.WouldBlock:
                await self.address.wait_message()

    def cleanup(self, limit: float | None = None) -> Cleanup:
        """``with ctx.cleanup():`` a scope in which awaiting works although this child is being cancelled.

        It is shielded and ends after ``limit`` seconds (default: the spec's shutdown time) or when the shutdown
        time of a stop has passed, whichever is first. The only shield an actor may use: it cannot outlive a stop.
        """
        return Cleanup(self, self.shutdown if limit is None else limit)

    def own_name(self, name: Name) -> None:
        """Give ``name`` back when this incarnation ends."""
        self.address.add_name(name)

    def rest(self, bell: Bell, at_end: Callable[[], None] = nothing) -> None:
        """The last thing a start function does that has acked and only waits: when it returns, the child is up
        without a task, which is most of what an actor weighs. When ``bell`` is rung the start function is called
        again, in the same incarnation, with ``resumed``. An order to end finds nothing to cancel: it calls ``at_end``
        and that is the end. A message in the mailbox wakes nobody.
        """
        self._rest = (bell, at_end)

    def take_rest(self) -> Rest | None:
        """What :meth:`rest` was called with since the last time. For whoever calls the start function."""
        rest, self._rest = self._rest, None
        if rest is not None:
            self.resumed = True
        return rest

    # -- the supervisor's side -------------------------------------------------------------------------------

    def limit_cleanup(self, deadline: float) -> None:
        """The order to end came: clean-ups, running and future, end at ``deadline``."""
        self.stop_deadline = min(self.stop_deadline, deadline)
        for scope in self._cleanups:
            scope.deadline = min(scope.deadline, self.stop_deadline)
