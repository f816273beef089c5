"""A child's record, and the wrapper in which each of its incarnations lives.

The wrapper is why a nursery can be a supervisor: no exception of a child ever reaches the nursery, so none can
cancel a sibling, and each child can be cancelled alone. It judges the end, frees what the incarnation held, and
leaves an event for the supervisor, all without an await. A child that only waits may do so without a task
(:meth:`Context.rest`); then the wrapper is gone, and whoever rings brings up another one.
"""

from __future__ import annotations

import math
import traceback
from collections.abc import Callable, Hashable
from typing import Any, Literal

import trio

from .context import Context, Rest, nothing
from .exits import NORMAL, SHUTDOWN, End, Reason, judge
from .mailbox import Address, current_context
from .spec import ChildSpec, Start
from .waiting import Bell, Flag

Post = Callable[["Incarnation"], None]
State = Literal["stopped", "starting", "running", "stopping", "restarting", "unresponsive"]


SETTLED = Flag()
"""All that have acked share one."""
SETTLED.set()


class Incarnation:
    """One run of a spec. Doubles as the ``task_status`` that the start function gets."""

    __slots__ = (
        "_at_end",
        "_cancelled",
        "_life",
        "_scope",
        "abandoned",
        "acked_at",
        "ctx",
        "end",
        "launched",
        "number",
        "ordered",
        "over",
        "settled",
        "value",
    )

    def __init__(self, number: int, ctx: Context[Any]) -> None:
        self.number = number
        self.ctx = ctx
        self._scope: trio.CancelScope | None = None
        """While there is a task."""
        self._cancelled = False
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
        self._life: tuple[Bell, Start, Post] | None = None
        """While it rests: what brings it up, how, and where its end is told."""
        self._at_end: Callable[[], None] = nothing

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
        self.settled = SETTLED

    @trio.lowlevel.enable_ki_protection
    async def live(self, start: Start, post: Post) -> None:
        """The task. Returns normally, whatever the child does."""
        self.ctx.task = trio.lowlevel.current_task()
        current_context.set(self.ctx)
        if self._cancelled:  # its start function would still run to its first await
            self._shut_down(post)
            return
        self._at_end = nothing
        try:
            with trio.CancelScope() as self._scope:
                await _unprotected(start, self.ctx, self)
        except BaseException as exc:
            self.ctx.take_rest()
            self._finish(judge(exc), post)
            return
        rest, caught = self.ctx.take_rest(), self._scope.cancelled_caught
        if self.ctx.orderly or caught:
            self._finish(End(SHUTDOWN), post)
        elif rest is None or not self.ctx.acked:
            self._finish(End(NORMAL), post)
        else:
            self._lie_down(rest, start, post)

    # -- at rest ---------------------------------------------------------------------------------------------

    def _lie_down(self, rest: Rest, start: Start, post: Post) -> None:
        bell, self._at_end = rest
        self.ctx.task = None
        self._scope = None
        self._life = bell, start, post
        if self._cancelled:  # when it was about to
            self.cancel()
        elif not bell.call(self._get_up):
            self._get_up()

    def _get_up(self) -> None:
        """The bell was rung."""
        assert self._life is not None
        (_, start, post), self._life = self._life, None
        self.ctx.run.kids.start_soon(self.live, start, post, name=self.ctx.address.label)

    def _shut_down(self, post: Post) -> None:
        """Without a call of the start function."""
        at_end, self._at_end = self._at_end, nothing
        try:
            at_end()
        except Exception as exc:
            self._finish(judge(exc), post)
        else:
            self._finish(End(SHUTDOWN), post)

    def _finish(self, end: End, post: Post) -> None:
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
            self.cancel()

    def cancel(self) -> None:
        """At rest that is the end."""
        self._cancelled = True
        if self._life is None:
            if self._scope is not None:
                self._scope.cancel()
            return
        (bell, _, post), self._life = self._life, None
        bell.forget()
        self._shut_down(post)

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
