"""Supervisors as their users hold them: settings, specs, and calls into the run that is alive now."""

from __future__ import annotations

import random
from collections.abc import Awaitable, Callable, Hashable, Iterable
from typing import Any, TypeVar

import trio

from . import admin
from .admin import ChildCounts, ChildHandle, ChildInfo
from .context import Context
from .engine import Call, Run
from .errors import NotFound, SupervisorDown
from .exits import ExitKind
from .mailbox import Address, current_context
from .refs import ActorRef
from .reports import Hook
from .spec import (
    AutoShutdown,
    ChildSpec,
    Strategy,
    check_child,
    check_settings,
    check_specs,
    warn_of_backoff,
)

T = TypeVar("T")


class SupervisorBase:
    """What static and dynamic supervisors have in common."""

    def __init__(
        self,
        specs: Iterable[ChildSpec],
        *,
        strategy: str,
        max_restarts: int,
        period: float,
        auto_shutdown: AutoShutdown = "never",
        max_children: int | None = None,
        name: str,
        rng: random.Random | None,
        reports: Hook | Iterable[Hook],
    ) -> None:
        dynamic = strategy == "dynamic"
        check_settings(
            strategy=strategy,
            max_restarts=max_restarts,
            period=period,
            auto_shutdown=auto_shutdown,
            dynamic=dynamic,
        )
        self.specs = check_specs(specs, auto_shutdown=auto_shutdown)
        self.strategy = strategy
        self.max_restarts = max_restarts
        self.period = float(period)
        self.auto_shutdown = auto_shutdown
        self.max_children = max_children
        self.name = name
        self.rng = rng
        self.hooks: tuple[Hook, ...] = (reports,) if callable(reports) else tuple(reports)
        self._static = {
            spec.id: Address[Any](spec.id, f"{name}/{spec.id}", spec.mailbox) for spec in self.specs
        }
        self._live: Run | None = None
        for spec in self.specs:
            warn_of_backoff(spec, max_restarts, self.period)

    def __repr__(self) -> str:
        return f"<{type(self).__name__} {self.name}, {self.strategy}, {'up' if self._live else 'down'}>"

    # -- life ------------------------------------------------------------------------------------------------

    async def run(
        self, ctx: Context[Any] | None = None, *, task_status: trio.TaskStatus[Any] = trio.TASK_STATUS_IGNORED
    ) -> None:
        """Start the children, ack with this supervisor, keep them alive until told to stop.

        A start function like any other: ``ChildSpec(kind="supervisor", start=sup.run)``, or for a root
        ``await nursery.start(sup.run)``. May run again after it has ended: only the specs given at construction
        come back.

        Returns after :meth:`stop` or an automatic shutdown. Raises :class:`Escalation`, :class:`StartFailed`, or
        the KeyboardInterrupt or SystemExit of a child. In every case all children have ended.
        If cancelled: the children stop one by one in reverse order, each within its shutdown time (their sum may
        exceed an outer deadline), then ``Cancelled`` goes on.
        """
        await trio.lowlevel.checkpoint()
        if self._live is not None:
            raise RuntimeError(f"supervisor {self.name} is already running")
        self._live = run = Run(self, ctx)
        if ctx is not None:
            ctx.sub = run
        try:
            await run.go(task_status)
            if ctx is not None:
                ctx.orderly = True
        finally:
            self._live = None

    def stop(self, reason: str = "stopped") -> None:
        """Ask for an ordered stop. Idempotent; no effect when it is not running. No checkpoint."""
        if self._live is not None:
            self._live.request_stop(reason)

    async def wait_stopped(self) -> None:
        """Until the current run has ended; at once when there is none. If cancelled: no effect."""
        await trio.lowlevel.checkpoint()
        if self._live is not None:
            await self._live.over.wait()

    # -- looking: snapshots, valid because one task owns the state -----------------------------------------

    @property
    def running(self) -> bool:
        return self._live is not None

    @property
    def current(self) -> Run | None:
        """The run that is alive now: for :func:`snapshot`, not for users."""
        return self._live

    def ref(self, id: Hashable) -> ActorRef[Any]:
        """The reference of a child; for a static one also before the first run. Raises :class:`NotFound`."""
        child = self._live.children.get(id) if self._live is not None else None
        address = child.address if child is not None else self._static.get(id)
        if address is None:
            raise NotFound(id)
        return ActorRef(address)

    def spec(self, id: Hashable) -> ChildSpec:
        """The spec as it is used. Raises :class:`NotFound`."""
        if self._live is not None:
            return admin.find(self._live, id).spec
        for spec in self.specs:
            if spec.id == id:
                return spec
        raise NotFound(id)

    def which_children(self) -> tuple[ChildInfo, ...]:
        """All children in start order. Raises :class:`SupervisorDown`. No checkpoint."""
        return admin.which_children(self._alive())

    def count_children(self) -> ChildCounts:
        """Raises :class:`SupervisorDown`. No checkpoint."""
        return admin.count_children(self._alive())

    # -- calls: handled by the supervisor's task, one at a time --------------------------------------------

    async def start_child(self, spec: ChildSpec) -> ChildHandle[Any]:
        """Add a child and start it; returns after its ack, with the value of that ack.

        Raises :class:`SpecError`, :class:`AlreadyStarted`, :class:`AlreadyPresent`, :class:`TooManyChildren`,
        :class:`StartFailed` (the spec is not kept), :class:`SupervisorDown`.
        If cancelled: it may have been, or may yet be started; :meth:`which_children` knows.
        """
        check_child(spec, auto_shutdown=self.auto_shutdown, dynamic=self.strategy == "dynamic")
        warn_of_backoff(spec, self.max_restarts, self.period)
        return await self._call(lambda run: admin.start_child(run, spec))

    async def terminate_child(self, id: Hashable) -> ExitKind | None:
        """Stop a child; afterwards it has ended. Its spec stays (temporary and dynamic: dropped), nothing is
        counted. Returns the exit kind, None if it was not running; ``unresponsive`` means that it has *not* ended.

        Raises :class:`NotFound`, :class:`SupervisorDown`. If cancelled: it may have been told to end.
        """
        return await self._call(lambda run: admin.terminate_child(run, id))

    def _alive(self) -> Run:
        if self._live is None or self._live.phase == "ended":
            raise SupervisorDown(self.name)
        return self._live

    async def _call(self, op: Callable[[Run], Awaitable[T]]) -> T:
        await trio.lowlevel.checkpoint()
        run = self._live
        if run is None or run.why is not None:
            raise SupervisorDown(self.name)
        self._refuse_deadlock(run)
        call = Call(op)
        run.post(call)
        try:
            await call.done.wait()
        finally:
            call.abandoned = not call.begun
        if call.error is not None:
            try:
                raise call.error
            finally:
                del call
        result: T = call.result
        return result

    def _refuse_deadlock(self, run: Run) -> None:
        """A start function that waits for the supervisor that waits for its ack would wait for ever."""
        ctx = current_context.get()
        if ctx is None or ctx.task is not trio.lowlevel.current_task():
            return
        while ctx is not None:
            if ctx.run is run and not ctx.acked:
                raise RuntimeError(
                    f"{'/'.join(ctx.path)} calls its supervisor before task_status.started(): "
                    "both would wait for each other"
                )
            ctx = ctx.run.ctx

    # -- addresses -------------------------------------------------------------------------------------------

    def static_address(self, spec: ChildSpec, path: tuple[str, ...]) -> Address[Any]:
        """The address of a static child: the same one in every run."""
        address = self._static.get(spec.id)
        if address is None:
            address = self._static[spec.id] = self.new_address(spec, path)
        address.label = "/".join((*path, str(spec.id)))
        return address

    def new_address(self, spec: ChildSpec, path: tuple[str, ...]) -> Address[Any]:
        return Address(spec.id, "/".join((*path, str(spec.id))), spec.mailbox)

    def drop_address(self, id: Hashable) -> None:
        self._static.pop(id, None)


class Supervisor(SupervisorBase):
    """Keeps a list of children alive by one of OTP's three strategies."""

    def __init__(
        self,
        specs: Iterable[ChildSpec] = (),
        *,
        strategy: Strategy = "one_for_one",
        max_restarts: int = 3,
        period: float = 5.0,
        auto_shutdown: AutoShutdown = "never",
        name: str = "root",
        rng: random.Random | None = None,
        reports: Hook | Iterable[Hook] = (),
    ) -> None:
        """Checks everything, starts nothing.

        ``max_restarts`` within ``period`` seconds are allowed; the next failure escalates. ``rng`` seeds every
        child's stream (default: derived from the parent's, a fixed seed for a root). ``reports``: one hook or
        several, called synchronously with frozen facts; what they raise is contained.
        """
        super().__init__(
            specs,
            strategy=strategy,
            max_restarts=max_restarts,
            period=period,
            auto_shutdown=auto_shutdown,
            name=name,
            rng=rng,
            reports=reports,
        )

    async def restart_child(self, id: Hashable) -> ChildHandle[Any]:
        """Start a child that is stopped. A failure is the caller's: nothing is counted or retried.

        Raises :class:`NotFound`, :class:`ChildRunning`, :class:`ChildRestarting`, :class:`ChildUnresponsive`,
        :class:`StartFailed`, :class:`SupervisorDown`. If cancelled: it may have been started.
        """
        return await self._call(lambda run: admin.restart_child(run, id))

    async def delete_child(self, id: Hashable) -> None:
        """Forget the spec of a child that is stopped; its id may be used again.

        Raises :class:`NotFound`, :class:`ChildRunning`, :class:`ChildRestarting`, :class:`ChildUnresponsive`,
        :class:`SupervisorDown`. If cancelled: it may have been deleted.
        """
        return await self._call(lambda run: admin.delete_child(run, id))
