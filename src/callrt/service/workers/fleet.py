"""The parent: starts the workers, keeps them alive by the rules of supervision, and sees them all out.

It opens the public port and never accepts on it: the workers do. It serves the admin port. It touches no call:
should it die, every worker finishes what it has and goes; should a worker die, another one is started, and the
carrier brings the calls back.
"""

from __future__ import annotations

import logging
import os
import random
import secrets
import socket
from collections.abc import Callable, Mapping, Sequence
from functools import partial
from typing import Any

import trio

from callrt.errors import CallrtError
from callrt.policy import facts
from callrt.policy.settings import Settings
from callrt.service.listener import Port
from callrt.service.metrics import Metrics
from callrt.service.running import each_signal, longest_drain, watched
from callrt.service.sockets import Door, address_of, open_listeners, shown
from callrt.service.workers.admin import admin_router
from callrt.service.workers.channel import ChannelClosed
from callrt.service.workers.messages import Drain, Order, Ready, StepBack
from callrt.service.workers.process import COMMAND, WorkerDied, WorkerProcess
from callrt.service.workers.switchboard import TICK_SECONDS, Member, Switchboard
from callrt.supervision import (
    Backoff,
    ChildSpec,
    Context,
    Escalated,
    Escalation,
    GiveUp,
    Restarting,
    StartFailed,
    Supervisor,
    Watchdog,
)

log = logging.getLogger("callrt.workers")

RESTARTS_EACH = 8
PERIOD_SECONDS = 60.0
"""More restarts than that, all workers together, and it is not one worker that fails."""
BACKOFF = Backoff(min=0.05, factor=2.0, cap=10.0, jitter=0.2, reset_after=60.0)

STEP_BACK_SECONDS = 2.5
DECLINE_SECONDS = 3.0
ALONE_SECONDS = 0.3
"""A process manager may signal all processes at once: who hears it first waits whether all are to go."""
MARGIN_SECONDS = 5.0


class Fleet:
    """All workers of a service. :meth:`run` once."""

    def __init__(
        self,
        settings: Settings,
        workers: int,
        *,
        log_json: bool = False,
        log_level: int = logging.INFO,
        inherited: Mapping[str, Sequence[socket.socket]] | None = None,
        environ: Mapping[str, str] | None = None,
        command: Sequence[str] = COMMAND,
    ) -> None:
        """``inherited``: listening sockets by port, from the process manager; the others are opened."""
        self.settings = settings
        self.workers = workers
        self.metrics = Metrics()
        self.switchboard = Switchboard()
        self.refusing: str | None = None
        self.failed = False
        """A worker did not end in order when all were told to."""
        self._orders = [Order(n, settings, log_json, log_level) for n in range(1, workers + 1)]
        self._environ = dict(os.environ if environ is None else environ)
        self._command = command
        self._inherited = inherited or {}
        self._listening: list[int] = []
        self._processes: dict[int, WorkerProcess] = {}
        self._changed = trio.Event()
        self._ready = False
        self._over = False
        self._draining = trio.Event()
        self._supervisor: Supervisor | None = None

    # -- life ---------------------------------------------------------------------------------------------

    async def run(self, *, task_status: trio.TaskStatus[str] = trio.TASK_STATUS_IGNORED) -> None:
        """Until all have ended. ``started`` comes when all take calls, with one line that says where; an empty one
        if they never did, because a signal came first.

        Raises :class:`CallrtError` when a port cannot be opened, or the workers cannot be kept alive: then the
        others end their calls first. If cancelled: so they do.
        """
        server = self.settings.server
        held: Sequence[socket.socket | trio.SocketListener] = self._inherited.get("public", ())
        if held:
            sockets = [each for each in held if isinstance(each, socket.socket)]
            self._listening = [each.fileno() for each in sockets]
            public = shown(*sockets[0].getsockname()[:2])
        else:
            listeners = await open_listeners(server.host, server.port)
            held = listeners
            self._listening = [each.socket.fileno() for each in listeners]
            public = shown(*address_of(listeners[0]))
        try:
            admin = await self._admin_door()
            try:
                where = f"listening on {public} (public), {admin.shown} (admin), {self.workers} workers"
                await self._supervise(admin, lambda: task_status.started("" if self._over else where))
            finally:
                with trio.CancelScope(shield=True):
                    await admin.aclose()
        finally:
            for each in held:
                (each if isinstance(each, socket.socket) else each.socket).close()

    async def _supervise(self, admin: Door, announce: Callable[[], None]) -> None:
        shutdown = longest_drain(self.settings) + MARGIN_SECONDS
        supervisor = self._supervisor = Supervisor(
            [
                ChildSpec("admin", admin.run),
                ChildSpec("ticks", self._tick),
                *(
                    ChildSpec(
                        f"worker-{order.number}",
                        partial(self._work, order),
                        backoff=BACKOFF,
                        shutdown=shutdown,
                    )
                    for order in self._orders
                ),
            ],
            strategy="one_for_one",
            max_restarts=RESTARTS_EACH * self.workers,
            period=PERIOD_SECONDS,
            name="callrt",
            rng=random.Random(secrets.randbits(64)),
            reports=self._on_report,
        )
        try:
            async with trio.open_nursery() as nursery:
                nursery.start_soon(supervisor.run)
                await self._until(lambda: self._over or len(self.switchboard.ready) == self.workers)
                self._ready = not self._over
                announce()
        except* (Escalation, StartFailed) as group:
            error = group.exceptions[0]
            raise CallrtError(f"the workers cannot be kept alive: {error.__cause__ or error}") from error

    async def _work(self, order: Order, ctx: Context[Any], *, task_status: trio.TaskStatus[None]) -> None:
        """Start function of one worker. If cancelled: it has its shutdown time to end its calls."""
        task_status.started()
        if self._draining.is_set():
            await trio.sleep_forever()
        worker = await WorkerProcess.spawn(self._listening, self._environ, self._command)
        member = self.switchboard.joined(order.number, worker.channel)
        self._processes[member.serial] = worker
        self._change()
        log.info("worker started", extra={"worker": order.number})
        try:
            async with trio.open_nursery() as nursery:
                nursery.start_soon(worker.give, order)
                nursery.start_soon(worker.channel.run)
                nursery.start_soon(self._hear, member, worker)
                nursery.start_soon(self._let_leave, member)
                status = await worker.process.wait()
                nursery.cancel_scope.cancel()
        except BaseException:
            # A closed line tells it that its parent goes.
            worker.channel.close()
            with ctx.cleanup():
                await worker.process.wait()
            raise
        finally:
            await worker.kill()
            self.switchboard.left(member)
            del self._processes[member.serial]
            self._change()
        log.log(
            logging.WARNING if status else logging.INFO,
            "worker ended",
            extra={"worker": order.number, "status": status},
        )
        if self._draining.is_set():
            self.failed = self.failed or bool(status and member.ready.is_set())
            await trio.sleep_forever()
        if not self._ready:
            raise GiveUp(f"worker {order.number} did not start (status {status}); the log says why")
        if status:
            raise WorkerDied(f"worker {order.number} ended with status {status}")

    async def _hear(self, member: Member, worker: WorkerProcess) -> None:
        try:
            while True:
                message, descriptor = await worker.channel.receive()
                self.switchboard.hear(member, message, descriptor)
                if isinstance(message, Ready):
                    self._change()
        except ChannelClosed:
            # Dead, or about to be: it can be asked nothing any more, and is to know it.
            worker.channel.close()
            self.switchboard.left(member)

    async def _let_leave(self, member: Member) -> None:
        """One worker was told to end by somebody else: the others take up its calls."""
        await member.wants_to_leave.wait()
        await trio.sleep(ALONE_SECONDS)
        if not self._draining.is_set():
            log.info("a worker leaves", extra={"worker": member.number})
            member.line.send(Drain(make_way=True))

    async def _tick(self, ctx: Any = None, *, task_status: trio.TaskStatus[None]) -> None:
        task_status.started()
        while True:
            await trio.sleep(TICK_SECONDS)
            for member in self.switchboard.tick():
                log.error("a worker is hopeless", extra={"worker": member.number})
                if (worker := self._processes.get(member.serial)) is not None:
                    worker.process.kill()

    # -- the end ------------------------------------------------------------------------------------------

    async def drain(self) -> None:
        """Decline new calls, let the live ones end, then stop. If cancelled: still declining."""
        log.info("draining", extra={"count": len(self._processes)})
        self._draining.set()
        members = list(self.switchboard.members.values())
        for member in members:
            member.leaving = True
            if member.ready.is_set():
                member.line.send(StepBack())
            elif (worker := self._processes.get(member.serial)) is not None:
                worker.process.kill()  # it has no calls yet
        ready = [member for member in members if member.ready.is_set()]
        await _all([member.stepped_back for member in ready], STEP_BACK_SECONDS)
        for member in ready:
            member.line.send(Drain(make_way="public" in self._inherited))
        await _all([member.declining for member in ready], DECLINE_SECONDS)
        self.refusing = "draining"
        await self._until(lambda: not self._processes)
        self._over = True
        self._change()
        if self._supervisor is not None:
            self._supervisor.stop()

    def kill(self) -> None:
        """End every worker at once. No checkpoint."""
        for worker in self._processes.values():
            worker.process.kill()

    # -- small things -------------------------------------------------------------------------------------

    async def _admin_door(self) -> Door:
        server = self.settings.server
        port = Port(
            "admin",
            admin_router(self.switchboard, self.metrics, workers=self._shown, refusing=lambda: self.refusing),
            observe=self.metrics.observe,
        )
        if shared := self._inherited.get("admin"):
            return Door.of_shared(port, shared)
        return Door(port, await open_listeners(server.admin_host, server.admin_port))

    def _shown(self) -> list[dict[str, Any]]:
        """For operators: every process, by its place."""
        members = sorted(self.switchboard.members.values(), key=lambda member: member.number)
        return [
            {
                "worker": member.number,
                "pid": self._processes[member.serial].process.pid,
                "calls": self.switchboard.homes.load(member.serial),
                "state": member.state,
            }
            for member in members
            if member.serial in self._processes
        ]

    async def _until(self, true: Callable[[], bool]) -> None:
        while not true():
            await self._changed.wait()

    def _change(self) -> None:
        self._changed.set()
        self._changed = trio.Event()

    def _on_report(self, report: object) -> None:
        if isinstance(report, Restarting):
            reason = report.reason.type.rpartition(".")[2] or report.reason.kind
            log.warning("restarting", extra={"actor": str(report.id), "reason": reason})
            actor = "worker" if str(report.id).startswith("worker-") else str(report.id)
            self.metrics.observe(facts.ActorRestarted(actor, reason))
        elif isinstance(report, Escalated):
            # All at once, not one after the other: each takes as long as its calls do.
            for worker in self._processes.values():
                worker.channel.close()


async def _all(events: Sequence[trio.Event], seconds: float) -> None:
    with trio.move_on_after(seconds):
        for event in events:
            await event.wait()


async def run_workers(
    settings: Settings,
    workers: int,
    *,
    announce: Callable[[str], None],
    end_process: Callable[[int], Any],
    **options: Any,
) -> int:
    """Serve with several processes until a signal: the first SIGTERM or SIGINT drains, the second ends all of them
    at once. Returns the exit status."""
    fleet = Fleet(settings, workers, **options)

    def end_now() -> None:
        fleet.kill()
        end_process(1)

    async def obey(watchdog: Watchdog) -> None:
        async def leave() -> None:
            watchdog.end_by(longest_drain(settings) + MARGIN_SECONDS)
            await fleet.drain()

        await each_signal(leave, end_now)

    async with watched(obey, end_process), trio.open_nursery() as nursery:
        if where := await nursery.start(fleet.run):
            announce(where)
    return 1 if fleet.failed else 0
