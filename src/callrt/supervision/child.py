"""A child's record, and the wrapper in which each of its incarnations lives.

The wrapper is why a nursery can be a supervisor: no exception of a child ever reaches the nursery, so none can
cancel a sibling, and each child can be cancelled alone. It judges the end, frees what the incarnation held, and
leaves an event for the supervisor, all without an await.
"""

from __future__ import annotations

import math
import traceback
from collections.abc import Callable, Hashable
from typing import Any, Literal

import trio

from .context import Context
from .exits import NORMAL, SHUTDOWN, End, Reason, judge
from .mailbox import Address, current_context
from .spec import ChildSpec, Start
from .waiting import Flag

State = Literal["stopped", "starting", "running", "stopping", "restarting", "unresponsive"]


class Incarnation:
    """One run of a spec. Doubles as the ``task_status`` that the start function gets."""

    __slots__ = (
        "abandoned",
        "acked_at",
        "ctx",
        "end",
        "launched",
        "number",
        "ordered",
        "over",
        "scope",
        "settled",
        "value",
    )

    def __init__(self, number: int, ctx: Context[Any]) -> None:
        self.number = number
        self.ctx = ctx
        self.scope = trio.CancelScope()
        self.settled = Flag()
        """It has acked or ended."""
        self.over = Flag()
        """It has ended, or only waits for somebody unresponsive below."""
        self.end: End | None = None
        self.ordered = False
        """The supervisor told it to end, and it had not ended before."""
        self.launched = False
        """Its ack was seen and reported: it has a place among the running."""
        self.abandoned = False
        """A stop came while it was starting: nobody waits for its ack any more."""
        self.acked_at: float | None = None
        self.value: object = None

    def started(self, value: object = None) -> None:
        """The ack: ready. ``value`` goes to whoever asked for the start."""
        if self.ctx.acked:
            raise RuntimeError("task_status.started() was called twice")
        if self.end is not None:
            raise RuntimeError("task_status.started() was called after the end")
        self.ctx.acked = True
        self.acked_at = trio.current_time()
        self.value = value
        self.settled.set()

    @trio.lowlevel.enable_ki_protection
    async def live(self, start: Start, post: Callable[[Incarnation], None]) -> None:
        """The task. Returns normally, whatever the child does."""
        self.ctx.task = trio.lowlevel.current_task()
        current_context.set(self.ctx)
        if self.scope.cancel_called:  # its start function would still run to its first await
            self._finish(End(SHUTDOWN), post)
            return
        try:
            with self.scope:
                await _unprotected(start, self.ctx, self)
        except BaseException as exc:
            self._finish(judge(exc), post)
        else:
            shutdown = self.ctx.orderly or self.scope.cancelled_caught
            self._finish(End(SHUTDOWN if shutdown else NORMAL), post)

    def _finish(self, end: End, post: Callable[[Incarnation], None]) -> None:
        self.end = end
        self.ctx.ended = True
        self.ctx.task = None  # whose context variables know the context
        self.ctx.address.release(self.ctx, end.reason)
        self.settled.set()
        self.over.set()
        post(self)

    # -- the supervisor's side -------------------------------------------------------------------------------

    def order_end(self, deadline: float) -> None:
        """Tell it to end, and its clean-ups to be over at ``deadline``."""
        if self.end is None:
            self.ordered = True
            self.ctx.limit_cleanup(deadline)
            self.scope.cancel()

    def cut(self) -> None:
        """No clean-up time any more, here and below."""
        self.order_end(-math.inf)
        if self.ctx.sub is not None:
            self.ctx.sub.cut()

    def stack(self) -> str:
        """Where its task stands, as text."""
        task = self.ctx.task
        if task is None:
            return ""
        summary = traceback.StackSummary.extract(task.iter_await_frames(), limit=50)
        return "".join(summary.format())


@trio.lowlevel.disable_ki_protection
async def _unprotected(start: Start, ctx: Context[Any], status: Incarnation) -> None:
    await start(ctx, task_status=status)


class Child:
    """A supervisor's record of one spec. Only the supervisor's own task writes it."""

    __slots__ = ("address", "due", "failures", "inc", "last", "spec", "state", "unwanted")

    def __init__(self, spec: ChildSpec, address: Address[Any]) -> None:
        self.spec = spec
        self.address = address
        self.state: State = "stopped"
        self.inc: Incarnation | None = None
        """The latest incarnation while it is not known to have ended."""
        self.unwanted = False
        """Its first start failed but it has not ended: forgotten as soon as it does."""
        self.failures = 0
        """In a row, without a healthy run between."""
        self.due = 0.0
        """While ``restarting``: when the restart comes, on Trio's clock."""
        self.last: Reason | None = None
        """How the latest incarnation ended."""

    @property
    def id(self) -> Hashable:
        return self.spec.id

    @property
    def live(self) -> bool:
        """A task of it exists, as far as the supervisor has been told."""
        return self.inc is not None and self.state in ("starting", "running", "stopping")
