"""One run of a supervisor: the task that owns all state and handles one event at a time.

Theory of operation. Everything that happens becomes an event in one queue: exits, calls, restarts that are due.
The run's task takes one, handles it to its end, and takes the next, so no two decisions can overlap. Posting is
synchronous and cannot fail. Only a stop request jumps the queue: it closes a latch (``why``) that is looked at
before every start and after every await, and it interrupts a start that hangs.

Children live in a nursery that no cancellation from outside reaches, so they stop one by one, in order, in their
own time. There is one such nursery per tree, the root's; the runs below start their children in it too.

    root: outer nursery      not shielded: cancellation from outside reaches only the watcher,
            watcher          which turns it into a stop request
            shield           never lifted
              kids nursery   one wrapper task per incarnation of the whole tree; nothing ever escapes into it
              live           start all, ack, handle events, stop all

    below: live              in the wrapper's own scope. It is its own watcher: waiting for an event or for an ack it
                             takes a cancellation for a stop request, and raises it again when all have stopped;
                             waiting for somebody to stop it is shielded
"""

from __future__ import annotations

import heapq
import math
import random
from collections import deque
from collections.abc import Awaitable, Callable, Hashable
from typing import TYPE_CHECKING, Any

import trio

from .child import Child, Incarnation
from .context import Context
from .errors import Escalation, StartFailed, SupervisionError, SupervisorDown
from .exits import End, describe, gives_up, system_leaf
from .intensity import Window
from .launching import STOPPED, Launcher
from .mailbox import Address
from .reports import DeadLetter, Escalated, Exited, Report, Reports
from .restarts import Restarts
from .spec import ChildSpec
from .stopping import Stopper
from .waiting import Bell, Flag

if TYPE_CHECKING:
    from .supervisor import SupervisorBase


_NOTHING: deque[Any] = deque(maxlen=0)
"""Stands for a queue in which nothing waits: nearly always, and a deque costs more than the rest of a run."""

STOP_ATTEMPTS = 3
"""An ordered stop that is interrupted goes on without clean-up times; a third failure is a bug of ours, and then
the children are cancelled all at once: no order, but no orphans."""


class Call:
    """An administrative call on its way through the queue."""

    __slots__ = ("abandoned", "begun", "done", "error", "op", "result")

    def __init__(self, op: Callable[[Run], Awaitable[Any]]) -> None:
        self.op = op
        self.done = trio.Event()
        self.begun = False
        self.abandoned = False
        """Its caller was cancelled before it began: no effect."""
        self.result: Any = None
        self.error: BaseException | None = None


Event = Incarnation | Call | Child
"""An incarnation has ended; somebody calls; a child's restart is due."""


class Run:
    """The state of one supervisor incarnation."""

    def __init__(self, face: SupervisorBase, ctx: Context[Any] | None) -> None:
        self.face = face
        self.ctx = ctx
        self.path: tuple[str, ...] = ctx.path if ctx is not None else (face.name,)
        self.strategy = face.strategy
        self.reports = (
            ctx.reports
            if ctx is not None and not face.hooks
            else Reports(face.hooks, above=ctx.reports if ctx is not None else None)
        )
        self._seed = "" if face.rng is None else f"{face.rng.getrandbits(64):x}"
        self._rng: random.Random | None = None
        self.window = Window(face.max_restarts, face.period)
        self.children: dict[Hashable, Child] = {}
        """In start order."""
        self.kids: trio.Nursery
        """Where the tasks live: our own nursery, or that of the tree we are in."""
        self.phase = "starting"
        """``starting``, ``up``, ``stopping``, ``ended``."""
        self.why: str | None = None
        """The stop latch: why this run ends. One way."""
        self.outcome: BaseException | None = None
        """What the run raises when everything is stopped."""
        self.over = Flag()
        self.launcher = Launcher(self)
        self.restarts = Restarts(self)
        self.stopper = Stopper(self)
        self._events: deque[Event] = _NOTHING
        self._due: list[tuple[float, int, Child]] = []
        self._due_serial = 0
        self._wake = Bell()

    @property
    def seed(self) -> str:
        """What the chance of this run and of all below it is derived from. Hardly anybody asks; and no generator is
        made for it, which would be larger than a whole run."""
        if not self._seed and self.ctx is not None:
            self._seed = f"{self.ctx.run.seed}/{'/'.join(self.ctx.path)}#{self.ctx.incarnation}"
        elif not self._seed:
            self._seed = f"{random.Random(0).getrandbits(64):x}"
        return self._seed

    @property
    def rng(self) -> random.Random:
        """For the backoff; made when one is needed, since it is larger than the rest of a run."""
        if self._rng is None:
            self._rng = random.Random(f"{self.seed}/backoff")
        return self._rng

    def ending(self) -> bool:
        """The latch is closed. Look again after every await. Only for the run's own task: it is asked, too, whether
        that has been cancelled while it was waiting behind a shield."""
        if self.why is None and trio.current_effective_deadline() == -math.inf:
            self.request_stop("cancelled")
        return self.why is not None

    # -- from outside: synchronous ---------------------------------------------------------------------------

    def request_stop(self, why: str) -> None:
        """Close the latch. The first reason stays. No checkpoint."""
        if self.phase == "ended":
            return
        if self.why is None:
            self.why = why
        self.launcher.interrupt()
        self._wake.ring()

    def cut(self) -> None:
        """Stop, and give nobody any clean-up time: whoever is above us has run out of it."""
        if self.phase == "ended":
            return
        self.request_stop("cut")
        self.stopper.cut()
        for child in self.children.values():
            if child.inc is not None and child.state == "stopping":
                child.inc.cut()

    def post(self, event: Event) -> None:
        """Leave an event. Cannot fail. No checkpoint."""
        self._queue(event)
        self._wake.ring()

    def _queue(self, event: Event) -> None:
        if self._events is _NOTHING:
            self._events = deque()
        self._events.append(event)

    def emit(self, report: type[Report], child: Child, /, **facts: Any) -> None:
        self._emit(report, child.id, child.address.incarnation, **facts)

    def _emit(self, report: type[Report], id: Hashable, incarnation: int, /, **facts: Any) -> None:
        # a reference may outlive the loop: its dead letters have no time
        at = trio.current_time() if trio.lowlevel.in_trio_run() else math.nan
        self.reports.emit(
            report(path=self.path, id=id, incarnation=incarnation, at=at, strategy=self.strategy, **facts)
        )

    def stuck_below(self, ctx: Context[Any]) -> None:
        """The supervisor that lives in ``ctx`` only waits for somebody unresponsive: do not wait for it."""
        child = self.children.get(ctx.id)
        if child is not None and child.inc is not None and child.inc.ctx is ctx:
            child.inc.over.set()
            child.inc.settled.set()

    # -- the run ---------------------------------------------------------------------------------------------

    @trio.lowlevel.enable_ki_protection
    async def go(self, task_status: trio.TaskStatus[Any]) -> None:
        try:
            if self.ctx is None or self.ctx.run.phase == "ended":
                await self._grow(task_status)
            else:
                self.kids = self.ctx.run.kids
                await self._live(task_status)
                if self.outcome is None:
                    await trio.lowlevel.checkpoint_if_cancelled()
        except BaseException as escaped:
            # a Ctrl-C while the last tasks end; anything else that gets here is the cancellation around us
            self.outcome = self.outcome or system_leaf(escaped)
            if self.outcome is None:
                raise
        finally:
            self._end()
            outcome, self.outcome = self.outcome, None
            try:
                if outcome is not None:
                    raise outcome
            finally:
                del outcome  # or the exception's own traceback would keep it alive

    def _end(self) -> None:
        """References and their addresses outlive the run: they keep what reports a dead letter, and no more. Nothing
        of it is part of a cycle, so it is freed when nobody knows it any more."""
        self.phase = "ended"
        self.over.set()
        self.children = {}
        self._events = _NOTHING
        self._due = []
        self.ctx = None
        del self.face, self.launcher, self.restarts, self.stopper

    async def _grow(self, task_status: trio.TaskStatus[Any]) -> None:
        """The root of a tree."""
        async with trio.open_nursery() as outer:
            outer.start_soon(self._watch, name=f"{'/'.join(self.path)} watcher")
            with trio.CancelScope(shield=True):
                async with trio.open_nursery() as self.kids:
                    await self._live(task_status)
            outer.cancel_scope.cancel()

    async def _watch(self) -> None:
        try:
            await trio.sleep_forever()
        finally:
            self.request_stop("cancelled")

    async def _live(self, task_status: trio.TaskStatus[Any]) -> None:
        """Never raises: an exception here would cancel the children at once and in any order."""
        try:
            await self._start_static()
            if not self.ending():
                self.phase = "up"
                task_status.started(self.face)
            elif self._stopped_early() and task_status is not trio.TASK_STATUS_IGNORED:
                self.outcome = StartFailed(self.path, self.face.name, "stopped", STOPPED)
            while not self.ending():
                await self._handle(await self._next())
        except BaseException as fault:
            self._fault(fault)
        self.phase = "stopping"
        self._refuse_calls()
        for _ in range(STOP_ATTEMPTS):
            try:
                await self._stop_all()
                await self._wait_for_the_unresponsive()
                break
            except BaseException as fault:  # a second Ctrl-C: no more patience
                self._fault(fault)
                self.stopper.cut()
        else:
            await self._drop_all()
        for child in self.children.values():
            child.address.close()

    async def _drop_all(self) -> None:
        incarnations = [child.inc for child in self.children.values() if child.inc is not None]
        for inc in incarnations:
            inc.cancel()
        while any(inc.end is None for inc in incarnations):
            await self._next()

    def _stopped_early(self) -> bool:
        """Somebody asked for a stop before the ack; it is neither a failure nor a cancellation."""
        return self.outcome is None and self.why not in ("cancelled", "cut")

    def _fault(self, fault: BaseException) -> None:
        """The supervisor itself is broken (a policy raised): for the parent an abnormal exit. Or its task is the
        main one, and Ctrl-C was delivered to it."""
        system = system_leaf(fault)
        self.request_stop("fault" if system is None else "system exit")
        if system is not None:
            self.outcome = system
        elif self.outcome is None:
            reason = describe(fault, "error")
            self.outcome = Escalation(self.path, self.face.name, "fault", reason)
            self.outcome.__cause__ = fault
            self._emit(Escalated, self.face.name, 0, why="fault", reason=reason)

    async def _start_static(self) -> None:
        for spec in self.face.specs:
            self.admit(spec, self.face.static_address(spec, self.path))
        for child in list(self.children.values()):
            launch = await self.launcher.launch(child)
            if launch.kind == "declined":
                self.settle_down(child)
            elif launch.end is not None:
                self._start_failed(child, launch.kind, launch.end)

    def _start_failed(self, child: Child, kind: str, end: End) -> None:
        """A first start failed: the whole start failed, once and for all."""
        if end.kind == "system":
            self.outcome = end.error
        else:
            self.outcome = StartFailed(self.path, child.id, kind, end.reason)
            self.outcome.__cause__ = end.error
        end.forget()
        self.request_stop("start failed")

    async def _stop_all(self) -> None:
        children = [child for child in self.children.values() if child.state != "stopped"]
        if self.strategy == "dynamic":
            await self.stopper.stop_together(children)
        else:
            await self.stopper.stop_in_order(children[::-1])

    async def _wait_for_the_unresponsive(self) -> None:
        """No orphans: the run cannot end before them. Whoever waits for us is told not to."""
        while any(child.state == "unresponsive" for child in self.children.values()):
            if self.ctx is not None:
                self.ctx.run.stuck_below(self.ctx)
            event = await self._next()
            if isinstance(event, Incarnation):
                self._late(event)

    # -- events ----------------------------------------------------------------------------------------------

    async def _next(self) -> Event | None:
        """The next event; None when there may be one now."""
        now = trio.current_time()
        while self._due and self._due[0][0] <= now:
            self._queue(heapq.heappop(self._due)[2])
        if self._events:
            return self._events.popleft()
        self._events = _NOTHING
        self._wake.hush()
        try:
            if self.phase == "stopping":
                with trio.CancelScope(shield=True):
                    await self._wake.wait()
            elif self._due and self.phase == "up":
                with trio.CancelScope(deadline=self._due[0][0]):
                    await self._wake.wait()
            else:
                await self._wake.wait()
        except trio.Cancelled:
            self.request_stop("cancelled")  # raised again by go, when all have stopped
        return None

    async def _handle(self, event: Event | None) -> None:
        if isinstance(event, Incarnation):
            await self._exited(event)
        elif isinstance(event, Call):
            await self._call(event)
        elif event is not None:
            await self.restarts.due(event)

    async def _call(self, call: Call) -> None:
        if call.abandoned:
            return
        call.begun = True
        try:
            call.result = await call.op(self)
        except SupervisionError as error:
            call.error = error
        except BaseException as fault:
            call.error = fault
            raise
        finally:
            call.done.set()

    def _refuse_calls(self) -> None:
        for event in self._events:
            if isinstance(event, Call):
                event.error = SupervisorDown(self.face.name)
                event.done.set()
        self._events = deque(event for event in self._events if isinstance(event, Incarnation))

    async def _exited(self, inc: Incarnation) -> None:
        child = self.children.get(inc.ctx.id)
        if child is None or child.inc is not inc:
            return  # stale: that exit has been dealt with
        if child.state == "unresponsive":
            self._late(inc)
            return
        assert child.state == "running"
        assert inc.end is not None
        end = inc.end
        child.inc = None
        child.state = "stopped"
        child.last = end.reason
        self.emit(Exited, child, reason=end.reason, ordered=False)
        if end.kind == "system":
            self.outcome = end.error
            self.request_stop("system exit")
        elif child.spec.restart != "temporary" and gives_up(end.error, child.spec.give_up_on):
            self.restarts.escalate(child, "give_up", end)
        elif child.spec.restart == "permanent" or (child.spec.restart == "transient" and end.reason.abnormal):
            await self.restarts.failed(child, end, inc.acked_at)
        else:
            self.settle_down(child)
            self.restarts.auto_shutdown(child, end)
        end.forget()

    def _late(self, inc: Incarnation) -> None:
        """An unresponsive one has ended after all."""
        child = self.children.get(inc.ctx.id)
        if child is None or child.inc is not inc or inc.end is None or child.state != "unresponsive":
            return
        child.inc = None
        child.state = "stopped"
        if inc.launched:
            self.emit(Exited, child, reason=inc.end.reason, ordered=True)
        self.absorb(child, inc.end, ordered=True)
        inc.end.forget()
        self.settle_down(child)

    def absorb(self, child: Child, end: End, *, ordered: bool) -> None:
        """An exit that came while the child was being stopped. Only what concerns the whole tree counts."""
        if end.kind == "system":
            self.outcome = end.error
            self.request_stop("system exit")
        elif not ordered and child.spec.restart != "temporary" and gives_up(end.error, child.spec.give_up_on):
            self.restarts.escalate(child, "give_up", end)

    # -- the table of children -------------------------------------------------------------------------------

    def admit(self, spec: ChildSpec, address: Address[Any]) -> Child:
        child = Child(spec, address)
        self.children[spec.id] = child
        self.open_mailbox(child)
        return child

    def open_mailbox(self, child: Child) -> None:
        """Somebody runs, or will: what is sent to it waits."""
        if not child.address.open:
            child.address.reopen(self)

    def dead_letter(self, address: Address[Any], why: str, lane: str) -> None:
        """Of an address that this run has opened."""
        self._emit(DeadLetter, address.id, address.incarnation, why=why, lane=lane)

    def settle_down(self, child: Child) -> None:
        """It stays down: nobody will read its mailbox. Temporary and dynamic children are forgotten."""
        child.address.close()
        if child.spec.restart == "temporary" or self.strategy == "dynamic" or child.unwanted:
            self.forget(child)

    def forget(self, child: Child) -> None:
        child.address.close()
        if self.children.get(child.id) is child:
            del self.children[child.id]

    def schedule(self, child: Child) -> None:
        """Post ``child`` as an event when its restart is due."""
        if child.due <= trio.current_time():
            self.post(child)  # behind what waits: calls and a stop get their turn between two attempts
        else:
            self._due_serial += 1
            heapq.heappush(self._due, (child.due, self._due_serial, child))
