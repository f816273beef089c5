"""Starting one child: from the spec to the ack, or to one clear failure."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import attrs
import trio

from .child import Child, Incarnation
from .context import Context
from .errors import Decline
from .exits import UNRESPONSIVE, End, Reason, leaves_of
from .reports import Declined, Started, StartFailure

if TYPE_CHECKING:
    from .engine import Run

NO_ACK = Reason("error", "StartFailed", "the start function returned without calling task_status.started()")
TIMEOUT = Reason("error", "StartFailed", "no task_status.started() within start_timeout")
STOPPED = Reason("shutdown", message="stopped before it was up")


@attrs.frozen
class Launch:
    """How a start went: ``ok``, ``declined``, ``stopped``; or, with its end, ``error``, ``no_ack``, ``timeout``,
    ``system``."""

    kind: str
    end: End | None = None
    value: object = None


class Launcher:
    """Starts incarnations for one run, one at a time."""

    def __init__(self, run: Run) -> None:
        self._run = run
        self._scope: trio.CancelScope | None = None

    def interrupt(self) -> None:
        """A stop was requested: wait for no ack any more."""
        if self._scope is not None:
            self._scope.cancel()

    async def launch(self, child: Child) -> Launch:
        """Start the next incarnation and wait until it has acked, ended or run out of time. Then nothing of it is
        alive, unless ``ok`` (or the child is ``unresponsive``). ``stopped``: the run is to stop; a child that was
        starting is left as it is, so that it is stopped in its place in the order."""
        run = self._run
        if run.ending():
            return Launch("stopped")
        assert child.inc is None, "two incarnations of one spec"
        inc = self._incarnate(child)
        run.kids.start_soon(inc.live, child.spec.start, run.post, name=child.address.label)
        try:
            with trio.CancelScope(deadline=trio.current_time() + child.spec.start_timeout) as self._scope:
                await inc.settled.wait()
        except trio.Cancelled:
            run.request_stop("cancelled")  # raised again by the run, when all have stopped
        self._scope = None
        if inc.ctx.acked:
            child.state = "running"
            inc.launched = True
            run.emit(Started, child)
            return Launch("ok", value=inc.value)
        if inc.end is None:
            if not run.ending():
                return await self._overdue(child, inc)
            inc.abandoned = True
            return Launch("stopped")
        child.inc = None
        child.state = "stopped"
        child.last = inc.end.reason
        return self._judge(child, inc.end)

    def _incarnate(self, child: Child) -> Incarnation:
        run, number = self._run, child.address.incarnation + 1
        ctx: Context[Any] = Context(
            id=child.id,
            incarnation=number,
            address=child.address,
            reports=run.reports,
            shutdown=child.spec.shutdown,
            run=run,
        )
        inc = Incarnation(number, ctx)
        child.inc = inc
        child.state = "starting"
        run.open_mailbox(child)
        child.address.bind(ctx)
        return inc

    async def _overdue(self, child: Child, inc: Incarnation) -> Launch:
        """Neither ack nor end: its time is up, or somebody below it does not end."""
        run = self._run
        reason = UNRESPONSIVE if inc.over.is_set() else TIMEOUT
        await run.stopper.stop(child)
        run.emit(StartFailure, child, reason=reason, kind="timeout")
        return Launch("timeout", End(reason))

    def _judge(self, child: Child, end: End) -> Launch:
        """It ended before its ack."""
        run = self._run
        if end.error is not None and all(isinstance(leaf, Decline) for leaf in leaves_of(end.error)):
            end.forget()
            run.emit(Declined, child)
            return Launch("declined")
        if end.kind == "system":
            run.emit(StartFailure, child, reason=end.reason, kind="error")
            return Launch("system", end)
        if not end.reason.type:
            run.emit(StartFailure, child, reason=NO_ACK, kind="no_ack")
            return Launch("no_ack", End(NO_ACK))
        run.emit(StartFailure, child, reason=end.reason, kind="error")
        return Launch("error", End(attrs.evolve(end.reason, kind="error"), end.error))
