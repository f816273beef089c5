"""What follows from a failure: count it, stop the group, wait, start the group; or give up.

The order matters. The group is stopped before the delay begins: otherwise two children that crash together under
one_for_all would count twice, and a half-dead group would go on acting while it waits. A failed restart is counted
and goes back through the queue, so that a stop or a call is heard between two attempts.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import trio

from .child import Child
from .errors import Escalation
from .exits import UNRESPONSIVE, End, gives_up
from .reports import AutoShutdown, Escalated, Restarting

if TYPE_CHECKING:
    from .engine import Run


class Restarts:
    """Decides and carries out restarts for one run."""

    def __init__(self, run: Run) -> None:
        self._run = run

    def group(self, child: Child) -> list[Child]:
        """Who shares the fate of ``child``, in start order."""
        run = self._run
        if run.strategy in ("one_for_one", "dynamic"):
            return [child]
        everybody = list(run.children.values())
        return everybody if run.strategy == "one_for_all" else everybody[everybody.index(child) :]

    async def failed(self, child: Child, end: End, acked_at: float | None) -> None:
        """A child that is to be restarted is down, or could not be restarted."""
        run, now = self._run, trio.current_time()
        backoff = child.spec.backoff
        if child.state == "unresponsive":
            self._lost([child])
            return
        if acked_at is not None and now - acked_at >= backoff.reset_after:
            child.failures = 0
        child.failures += 1
        if backoff.max_consecutive is not None and child.failures > backoff.max_consecutive:
            self.escalate(child, "max_consecutive", end)
            return
        if not run.window.add(now):
            self.escalate(child, "intensity", end)
            return
        delay = backoff.delay(child.failures, run.rng)
        group = self.group(child)
        run.emit(
            Restarting,
            child,
            reason=end.reason,
            group=tuple(member.id for member in group),
            delay=delay,
            count=run.window.count(now),
        )
        end.forget()
        await self._stop_live([member for member in group if member is not child])
        if not run.ending() and not self._lost(group):
            self._plan(child, group, trio.current_time() + delay)

    async def _stop_live(self, members: list[Child]) -> None:
        await self._run.stopper.stop_in_order([member for member in members if member.live][::-1])

    def _lost(self, group: list[Child]) -> bool:
        """Escalate if an unresponsive member forbids rebuilding the group."""
        for member in group:
            if member.state == "unresponsive" and member.spec.on_unresponsive == "escalate":
                self.escalate(member, "unresponsive", End(UNRESPONSIVE))
                return True
        return False

    def _plan(self, child: Child, group: list[Child], due: float) -> None:
        """Mark who is to be started. A member that already waits out a longer delay is not cut short."""
        waiting = [member.due for member in group if member.state == "restarting"]
        due = max([due, *waiting])
        first: Child | None = None
        for member in group:
            if member.spec.restart == "temporary":
                if member.state == "stopped":
                    self._run.forget(member)
            elif member.state != "unresponsive":
                member.state = "restarting"
                member.due = due
                self._run.open_mailbox(member)
                first = first or member
        assert first is not None
        self._run.schedule(first)

    async def due(self, child: Child) -> None:
        """A restart's time has come: start every member that waits, in start order. ``child`` may have been
        terminated or replaced meanwhile; the others of its group come back all the same."""
        run = self._run
        together = run.strategy in ("one_for_all", "rest_for_one")
        candidates = run.children.values() if together else [child]
        first = next((member for member in candidates if self._is_due(member)), None)
        if first is None:
            return
        group = self.group(first)
        await self._stop_late_comers([member for member in group if member.live])
        if self._lost(group):
            return
        for member in group:
            if member.state != "restarting":
                continue
            launch = await run.launcher.launch(member)
            if launch.kind == "declined":
                run.settle_down(member)
            elif launch.end is not None:
                await self._not_restarted(member, launch.end)
                return

    def _is_due(self, child: Child) -> bool:
        return child.state == "restarting" and child.due <= trio.current_time()

    async def _stop_late_comers(self, members: list[Child]) -> None:
        """They were added by hand while their group was down: it starts as a whole, in order."""
        await self._stop_live(members)
        for member in members:
            if member.spec.restart == "temporary" and member.state == "stopped":
                self._run.forget(member)
            elif member.state == "stopped":
                member.state = "restarting"

    async def _not_restarted(self, child: Child, end: End) -> None:
        if end.kind == "system":
            self._run.outcome = end.error
            self._run.request_stop("system exit")
        elif gives_up(end.error, child.spec.give_up_on):
            self.escalate(child, "give_up", end)
        else:
            await self.failed(child, end, None)
        end.forget()

    def escalate(self, child: Child, why: str, end: End) -> None:
        """Give up: the run stops its children and raises. No effect when it is ending anyway."""
        run = self._run
        if run.ending():
            return
        run.outcome = Escalation(run.path, child.id, why, end.reason)
        run.outcome.__cause__ = end.error
        run.emit(Escalated, child, why=why, reason=end.reason)
        run.request_stop("escalation")

    def auto_shutdown(self, child: Child, end: End) -> None:
        """A child has ended for good by itself: if it was significant, the supervisor may be done."""
        run, mode = self._run, self._run.face.auto_shutdown
        if not child.spec.significant or mode == "never":
            return
        if mode == "all_significant" and any(
            other.spec.significant and other.state != "stopped" for other in run.children.values()
        ):
            return
        run.emit(AutoShutdown, child, reason=end.reason)
        run.request_stop("auto_shutdown")
