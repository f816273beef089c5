"""Stopping children: in order, each within its shutdown time, and honest about those that do not end.

Nothing can kill a task. A child that is told to end is cancelled; its clean-ups run until the deadline; then it
gets a bounded number of scheduler rounds to unwind; then it is *unresponsive*: reported with its stack, fenced
off, never doubled. A child that spins without letting time pass would keep a virtual clock from ever reaching
the deadline, so rounds at one instant are bounded as well.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from types import TracebackType
from typing import TYPE_CHECKING

import trio

from .child import Child, Incarnation
from .exits import UNRESPONSIVE
from .reports import Exited, ShutdownError, StartFailure, Unresponsive

if TYPE_CHECKING:
    from .engine import Run

UNWIND_ROUNDS = 100
"""Scheduler rounds after the deadline: enough for deep clean-ups to unwind, no time on any clock."""
SPIN_ROUNDS = 1_000
"""Scheduler rounds at one instant of the clock while a stop waits, before anybody is suspected; then as many again
in each of which the suspect took a step. Honest clean-ups sleep, wait or end long before."""


class SpinGuard(trio.abc.Instrument):
    """Cancels ``scope`` when ``suspect`` goes round and round without time passing."""

    def __init__(self, scope: trio.CancelScope, suspect: trio.lowlevel.Task) -> None:
        self._scope = scope
        self._sample = SpinSample(suspect)
        self._at = -math.inf
        self._rounds = 0

    def __enter__(self) -> None:
        trio.lowlevel.add_instrument(self)

    def __exit__(
        self, kind: type[BaseException] | None, exc: BaseException | None, tb: TracebackType | None
    ) -> None:
        trio.lowlevel.remove_instrument(self)
        self._sample.end()

    def after_io_wait(self, timeout: float) -> None:
        now = trio.current_time()
        if now != self._at:
            self._at = now
            self._rounds = 0
            self._sample.end()
        self._rounds += 1
        if self._rounds == SPIN_ROUNDS:
            self._sample.begin()
        elif self._rounds > SPIN_ROUNDS:
            if not self._sample.stepped():
                self._rounds = 0
                self._sample.end()
            elif self._rounds == 2 * SPIN_ROUNDS:
                self._scope.cancel()


class SpinSample(trio.abc.Instrument):
    """Did the suspect, or a task below it, take a step since the last look? Costs something at each step of any
    task, so it is only there while there is suspicion."""

    def __init__(self, suspect: trio.lowlevel.Task) -> None:
        self._suspect = suspect
        self._stepped = False
        self._active = False

    def begin(self) -> None:
        self._active = True
        trio.lowlevel.add_instrument(self)

    def end(self) -> None:
        if self._active:
            self._active = False
            trio.lowlevel.remove_instrument(self)

    def stepped(self) -> bool:
        stepped, self._stepped = self._stepped, False
        return stepped

    def before_task_step(self, task: trio.lowlevel.Task) -> None:
        at: trio.lowlevel.Task | None = task
        while at is not None and not self._stepped:
            self._stepped = at is self._suspect
            at = at.parent_nursery.parent_task if at.parent_nursery is not None else None


class Stopper:
    """Ends incarnations for one run."""

    def __init__(self, run: Run) -> None:
        self._run = run
        self._scope: trio.CancelScope | None = None
        self._cut = False
        self._unwound_at = -math.inf

    def cut(self) -> None:
        """From now on no clean-up time for anybody; an ongoing wait ends."""
        self._cut = True
        if self._scope is not None:
            self._scope.cancel()

    async def stop_in_order(self, children: Sequence[Child]) -> None:
        """One at a time, in the order given."""
        for child in children:
            await self.stop(child)

    async def stop_together(self, children: Sequence[Child]) -> None:
        """All are told at once; it takes as long as the slowest."""
        told: list[tuple[float, Child]] = [(self._order(child), child) for child in children]
        for deadline, child in sorted(told, key=lambda entry: entry[0]):
            await self._see_off(child, deadline)

    async def stop(self, child: Child) -> None:
        """Afterwards the child is ``stopped`` or ``unresponsive``."""
        await self._see_off(child, self._order(child))

    def _order(self, child: Child) -> float:
        inc = child.inc
        if inc is None or not child.live:
            return -math.inf
        deadline = -math.inf if self._cut else trio.current_time() + child.spec.shutdown
        if inc.end is None:
            child.state = "stopping"
            inc.order_end(deadline)
            if child.spec.shutdown == 0 or self._cut:
                inc.cut()
        return deadline

    async def _see_off(self, child: Child, deadline: float) -> None:
        if child.inc is not None and child.live:
            await self._wait_over(child.inc, deadline)
            self._settle(child, child.inc)
        elif child.state == "restarting":
            child.state = "stopped"

    async def _wait_over(self, inc: Incarnation, deadline: float) -> None:
        if not inc.over.is_set() and deadline > trio.current_time():
            with trio.CancelScope(deadline=deadline, shield=True) as self._scope:
                if inc.ctx.sub is not None or inc.ctx.task is None:
                    await inc.over.wait()  # a supervisor watches its own children
                else:
                    with SpinGuard(self._scope, inc.ctx.task):
                        await inc.over.wait()
            self._scope = None
        if inc.over.is_set():
            return
        inc.cut()
        if inc.ctx.sub is not None:
            with trio.CancelScope(shield=True):
                await inc.over.wait()  # a supervisor that was cut says soon that it is over, or stuck
            return
        # children stopped together share the rounds: at one instant they all had the same chance
        if self._unwound_at != trio.current_time():
            for _ in range(UNWIND_ROUNDS):
                await trio.lowlevel.cancel_shielded_checkpoint()
                if inc.over.is_set():
                    return
            self._unwound_at = trio.current_time()

    def _settle(self, child: Child, inc: Incarnation) -> None:
        """Write down how a stop went."""
        run = self._run
        if inc.end is None:
            child.state = "unresponsive"
            child.last = UNRESPONSIVE
            inc.ctx.fenced = True
            inc.ctx.address.release(inc.ctx, UNRESPONSIVE)
            inc.ctx.address.close()
            run.emit(Unresponsive, child, stack=inc.stack(), reason=UNRESPONSIVE)
            return
        end = inc.end
        child.inc = None
        child.state = "stopped"
        child.last = end.reason
        if inc.launched:
            run.emit(Exited, child, reason=end.reason, ordered=inc.ordered)
        elif inc.abandoned:
            run.emit(StartFailure, child, reason=end.reason, kind="stopped")
        if inc.ordered and end.kind == "error":
            run.emit(ShutdownError, child, reason=end.reason)
        run.absorb(child, end, ordered=inc.ordered)
        end.forget()
