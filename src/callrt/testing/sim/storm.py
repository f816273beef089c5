"""The storm of one call: every fault of its case strikes at its moment, and is written down when it does."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from functools import partial
from typing import Any, Protocol

import trio

import callrt.actors.call as call_module
from callrt.protocol.turn import TurnState
from callrt.testing.carrier import Drop, PhoneCall
from callrt.testing.carrier_stream import TICK_SECONDS
from callrt.testing.links import MemoryTransport
from callrt.testing.model_faults import Fault
from callrt.testing.sim import case as sim
from callrt.testing.sim import cast
from callrt.testing.sim.aim import Sight
from callrt.testing.sim.case import Case
from callrt.testing.sim.disk import SimDisk
from callrt.testing.sim.history import Drained, Struck
from callrt.testing.world import World

BAD: dict[str, str | bytes] = {
    "not_json": '{"event":"media",',
    "binary": b"\x00\x01\x02",
    "not_object": '["media"]',
    "unknown": '{"event":"unheard_of","streamSid":"MZ0"}',
    "no_payload": '{"event":"media","streamSid":"MZ0","media":{"payload":"?"}}',
    "wrong_stream": '{"event":"mark","sequenceNumber":"9","streamSid":"MZ9","mark":{"name":"nobody"}}',
    "huge": '{"event":"unheard_of","pad":"' + "x" * 200_000 + '"}',
}

BY_ITSELF = (Fault, Drop, sim.Crash, sim.ToolTrouble)
"""Faults that the emulators, the actors' table and the tools let strike; the others are struck from here."""

DEAD_LINE_SECONDS = 7.0
EXIT_SECONDS = 0.5
"""For a process that has nothing left to do to end: meanwhile its ports are open."""
DRAIN_PATIENCE = 12.0
"""After the call: for a process that was told to leave to find out that it has nothing left to do."""


class Newcomer(Protocol):
    """Places another call and carries it to its end."""

    async def __call__(self, *, shall_be_served: bool) -> PhoneCall: ...


class Storm:
    """Made before the world, which is given to :meth:`begin`."""

    def __init__(self, case: Case, disk: SimDisk, workshop: cast.Workshop) -> None:
        self.case = case
        self.disk = disk
        self.workshop = workshop
        self.struck: list[Struck] = []
        self.drained: list[Drained] = []
        self.booted: list[float] = []
        self.died: dict[int, float] = {}
        self.calm = False
        self.sight = Sight(tuple(fault for fault in case.faults if isinstance(fault, sim.Aimed)), self._turn)
        self._crashed: set[int] = set()
        self.world: World
        self.call: PhoneCall
        self._newcomer: Newcomer

    async def begin(self, world: World, call: PhoneCall, newcomer: Newcomer, nursery: trio.Nursery) -> None:
        """From now on."""
        self.world, self.call, self._newcomer = world, call, newcomer
        self._watch_drops()
        placed_at = trio.current_time()
        for fault in self.case.faults:
            if isinstance(fault, sim.Aimed):
                if not isinstance(fault.fault, sim.Crash):
                    nursery.start_soon(self._strike_aimed, fault)
            elif not isinstance(fault, BY_ITSELF):
                nursery.start_soon(self._strike_later, fault, placed_at)
        nursery.start_soon(self._arm_tools, placed_at)
        if self.sight.aims:
            between = placed_at + TICK_SECONDS / 2
            nursery.start_soon(world.network.keep_time, between, TICK_SECONDS, self._look)

    def lull(self) -> float:
        """Seconds until what struck last is over: a line that died without a sign is found dead after a while."""
        stream = self.call.stream
        return DEAD_LINE_SECONDS if stream is not None and stream._half_open else 2.0

    def quieten(self) -> None:
        """Nothing more strikes; what has struck may still have its consequences."""
        if self.calm:
            return
        self.calm = True
        model = self.world.model
        model.plan.faults = ()
        self.disk.trouble = None
        self.workshop.trouble.clear()
        self.call._drops.clear()
        for session in model.sessions:
            session._armed.clear()

    def finish(self) -> None:
        """What the emulators know to have struck, too."""
        plan = self.world.model.plan
        self.struck += [Struck(fired.at, fired.fault, fired.connection) for fired in plan.fired]
        self.struck += [Struck(at, trouble) for at, trouble in self.workshop.struck]
        self.struck.sort(key=lambda struck: struck.at)

    async def drains_over(self) -> None:
        """Until every process that was told to leave has gone, or should have."""
        with trio.move_on_after(DRAIN_PATIENCE):
            while any(drained.over_at is None for drained in self.drained):
                await trio.sleep(0.1)

    async def boot(self) -> None:
        await self.world.boot()
        self.booted.append(trio.current_time())

    # -- when -----------------------------------------------------------------------------------------------

    @property
    def _over(self) -> bool:
        return self.calm or self.call.over.is_set()

    async def _strike_later(self, fault: sim.SimFault, placed_at: float) -> None:
        await trio.sleep_until(placed_at + fault.at)  # type: ignore[union-attr, operator]
        if not self._over:
            await self._strike(fault)

    async def _strike_aimed(self, aimed: sim.Aimed) -> None:
        await self.sight.reached[aimed].wait()
        if not self._over:
            await self._strike(aimed.fault)

    def _look(self, at: float) -> bool:
        return self.sight.look(at) and not self._over

    def _turn(self) -> TurnState | None:
        """Whose turn it is, as callrt sees it: faults are aimed at that, nothing is judged by it."""
        for process in reversed(self.world.processes):
            call = process.desk._calls.get(self.call.call_sid) if process.up else None
            if call is not None:
                return call.line.turn.state
        return None

    async def _arm_tools(self, placed_at: float) -> None:
        troubles = [fault for fault in self.case.faults if isinstance(fault, sim.ToolTrouble)]
        for trouble in sorted(troubles, key=lambda each: each.at):
            await trio.sleep_until(placed_at + trouble.at)
            if not self.calm:
                self.workshop.trouble.append(trouble)

    def _watch_drops(self) -> None:
        """Drops are the carrier's own: written down as they happen."""
        drop = self.call.drop

        def noted(how: Any = "rst", *, notice_seconds: float | None = None) -> None:
            if self.call.stream is not None:
                self.struck.append(Struck(trio.current_time(), Drop(how), self.call.stream.media.number))
            drop(how, notice_seconds=notice_seconds)

        self.call.drop = noted  # type: ignore[method-assign]

    # -- what -----------------------------------------------------------------------------------------------

    async def _strike(self, fault: sim.SimFault) -> None:
        match fault:
            case Fault():
                live = [session for session in self.world.model.sessions if not session.is_over]
                if live:
                    live[-1].strike(fault)
                return
            case Drop(how=how, notice_seconds=notice):
                self.call.drop(how, notice_seconds=notice)
                return
            case _:
                self.struck.append(Struck(trio.current_time(), fault))
        match fault:
            case sim.Kill(down=down):
                if self.world.process.up:
                    self.died[len(self.world.processes)] = trio.current_time()
                    self.world.process.kill()
                    await trio.sleep(down)
                    await self.boot()
            case sim.Takeover():
                await self.boot()
                self.call.repeat_voice_webhook()
            case sim.Repeat():
                self.call.repeat_voice_webhook()
            case sim.Pause(seconds=seconds):
                await self._pause(seconds)
            case sim.DiskTrouble(seconds=seconds):
                self.disk.trouble = fault
                await trio.sleep(seconds)
                if self.disk.trouble is fault:
                    self.disk.trouble = None
            case sim.BadMessages(count=count, what=what):
                for _ in range(count):
                    stream = self.call.stream
                    if stream is not None:
                        stream._transport.send_nowait(BAD[what])
                    await trio.sleep(0.01)
            case sim.RestDown(times=times, status=status):
                self.world.carrier.rest.fail_next(status, 20429 if status == 429 else 20503, times)
            case sim.Drain():
                await self._drain(fault)
            case sim.Flood(calls=calls):
                async with trio.open_nursery() as nursery:
                    for _ in range(calls):
                        nursery.start_soon(partial(self._newcomer, shall_be_served=True))

    async def _pause(self, seconds: float) -> None:
        stream = self.call.stream
        if stream is not None and isinstance(stream._transport, MemoryTransport):
            transport = stream._transport
            transport.freeze()
            await trio.sleep(seconds)
            transport.thaw()

    async def _drain(self, fault: sim.Drain) -> None:
        old = self.world.process
        if not fault.alone:
            await self.boot()
        drained = Drained(trio.current_time(), fault.seconds, fault.alone)
        self.drained.append(drained)
        async with trio.open_nursery() as nursery:
            if fault.alone:
                nursery.start_soon(self._ask_a_leaving_process, drained)
            await old.desk.drain(fault.seconds)
            drained.over_at = trio.current_time()
            drained.left = old.desk.live_calls
            nursery.cancel_scope.cancel()
        await trio.sleep(EXIT_SECONDS)
        old.stop()

    async def _ask_a_leaving_process(self, drained: Drained) -> None:
        await trio.sleep(min(0.2, drained.seconds / 2))
        drained.declined.append(await self._newcomer(shall_be_served=False))

    # -- bugs of ours ---------------------------------------------------------------------------------------

    @contextmanager
    def crashes(self) -> Iterator[None]:
        """Actors raise at their time: the table of actors is patched, as a bug would be in it."""
        originals: dict[str, Any] = {}
        for index, fault in enumerate(self.case.faults):
            crash = fault.fault if isinstance(fault, sim.Aimed) else fault
            if isinstance(crash, sim.Crash):
                name = f"run_{crash.actor}"
                originals.setdefault(name, getattr(call_module, name))
                patched = partial(self._crashing, getattr(call_module, name), index, fault, crash)
                setattr(call_module, name, patched)
        try:
            yield
        finally:
            for name, original in originals.items():
                setattr(call_module, name, original)

    async def _crashing(
        self,
        original: Any,
        index: int,
        fault: sim.SimFault,
        crash: sim.Crash,
        subject: Any,
        ctx: Any,
        *,
        task_status: Any,
    ) -> None:
        if index in self._crashed or self.calm or getattr(subject, "call_sid", "") != self.call.call_sid:
            await original(subject, ctx, task_status=task_status)
            return
        async with trio.open_nursery() as nursery:
            await nursery.start(_kept_awake, original, subject, ctx)
            task_status.started()
            if isinstance(fault, sim.Aimed):
                await self.sight.reached[fault].wait()
            else:
                await trio.sleep_until(crash.at)
            if index in self._crashed or self._over:
                return
            self._crashed.add(index)
            self.struck.append(Struck(trio.current_time(), crash))
            bug = RuntimeError("a bug of ours, with the caller's words in it")
            link = getattr(subject, "link", None)
            if crash.actor != "model" or link is None:
                raise bug
            link.crash = bug  # in the session's own code: as an error while it reads a message
            link.scope.cancel()


async def _kept_awake(original: Any, subject: Any, ctx: Any, *, task_status: Any) -> None:
    """An actor that would rest without a task keeps this one."""
    while True:
        await original(subject, ctx, task_status=task_status)
        task_status = trio.TASK_STATUS_IGNORED
        rest = ctx.take_rest()
        if rest is None:
            return
        bell, at_end = rest
        try:
            await bell.wait()
        except BaseException:
            at_end()
            raise
