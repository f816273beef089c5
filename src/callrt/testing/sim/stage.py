"""One case, played: the world is built, the caller calls, the nemesis strikes, everything is written down."""

from __future__ import annotations

import gc
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from functools import partial
from typing import Any

import attrs
import trio

import callrt.actors.call as call_module
from callrt.policy.settings import AgentSettings, Resilience
from callrt.protocol.faults import FaultKind
from callrt.protocol.records import Entry, ModelSessionOpened
from callrt.supervision.determinism import seeded
from callrt.testing.carrier import Drop, Habits, Human, PhoneCall, StreamBehaviour
from callrt.testing.links import MemoryTransport
from callrt.testing.model_core import ModelOptions
from callrt.testing.model_faults import Fault, FaultPlan
from callrt.testing.model_server import EmulatedModel
from callrt.testing.model_session import ModelSession
from callrt.testing.network import JumpClock
from callrt.testing.sim import case as sim
from callrt.testing.sim import cast
from callrt.testing.sim.case import Case
from callrt.testing.sim.disk import SimDisk
from callrt.testing.sim.history import History, Leftovers, Life, Struck
from callrt.testing.sim.script import Person
from callrt.testing.world import EPOCH, World, open_world

HUMAN_NUMBER = "+15550100009"
AGENT = AgentSettings("front-desk", "main", "You answer the phone for a clinic.", greeting=cast.GREETING)
SECONDS_MAX = 900.0
"""Virtual seconds after which a call that has not ended is given up by the simulation."""
STEPS_MAX = 3_000_000
SETTLE_SECONDS = 40.0
"""After the call: for what it left to be put away. Longer than any shutdown time of its parts."""
MOMENT = 0.001
"""For all that is due now to be done."""
BAD: dict[str, str | bytes] = {
    "not_json": '{"event":"media",',
    "binary": b"\x00\x01\x02",
    "not_object": '["media"]',
    "unknown": '{"event":"unheard_of","streamSid":"MZ0"}',
    "no_payload": '{"event":"media","streamSid":"MZ0","media":{"payload":"?"}}',
    "wrong_stream": '{"event":"mark","sequenceNumber":"9","streamSid":"MZ9","mark":{"name":"nobody"}}',
    "huge": '{"event":"unheard_of","pad":"' + "x" * 200_000 + '"}',
}


def play(case: Case, *instruments: trio.abc.Instrument) -> History:
    """Run the case. Deterministic, and alone in its process: it patches the table of actors while it runs."""
    stage = _Stage(case)
    limit = _Limit()
    gc.collect()
    gc.disable()  # a finaliser that runs at another time is another schedule
    try:
        with stage.crashes(), seeded(case.seed):
            return trio.run(stage.run, clock=JumpClock(), instruments=[limit, *instruments])
    finally:
        gc.enable()


_Other = tuple[PhoneCall, Person, float, float]


class _Limit(trio.abc.Instrument):
    """A loop that turns without time passing would turn for ever."""

    def __init__(self) -> None:
        self.steps = 0

    def before_task_step(self, task: trio.lowlevel.Task) -> None:
        self.steps += 1
        if self.steps > STEPS_MAX:
            raise RuntimeError("the simulation does not come to an end")


class _Stage:
    def __init__(self, case: Case) -> None:
        self.case = case
        self.struck: list[Struck] = []
        self.booted: list[float] = []
        self.died: dict[int, float] = {}
        self.calm = False
        self.model = EmulatedModel(
            cast.make_brain(),
            options=ModelOptions(transcription=case.transcription),
            plan=FaultPlan([fault for fault in case.faults if isinstance(fault, Fault)]),
            seed=case.seed,
        )
        self.disk = SimDisk()
        self.workshop = cast.Workshop(process=lambda: len(self.booted))
        self.person = Person(case.caller, self.model, self._quieten)
        self.world: World
        self.call: PhoneCall
        self._crashed: set[int] = set()

    # -- the run --------------------------------------------------------------------------------------------

    async def run(self) -> History:
        case = self.case
        agent = attrs.evolve(AGENT, transfer_to=HUMAN_NUMBER if case.human else None)
        resilience = Resilience(
            model_stall_seconds=case.stall_seconds, max_call_seconds=case.max_call_seconds
        )
        stuck = ""
        others: list[_Other] = []
        async with open_world(
            self.model,
            agent=agent,
            resilience=resilience,
            tools=self.workshop.tools(),
            disk=self.disk,
            seed=case.seed,
            latency=case.latency,
        ) as self.world:
            self.booted.append(trio.current_time())
            await trio.sleep(MOMENT)
            before = trio.lowlevel.current_statistics().tasks_living
            self.call = self._place()
            self.person.call = self.call
            self._watch_drops()
            placed_at = trio.current_time()
            with trio.move_on_after(SECONDS_MAX) as limit:
                async with trio.open_nursery() as nursery:
                    for fault in case.faults:
                        if not isinstance(fault, (Fault, Drop, sim.Crash, sim.ToolTrouble)):
                            nursery.start_soon(self._strike_later, fault, placed_at, others)
                    nursery.start_soon(self._arm_tools, placed_at)
                    await self.call.run()
                    over_at = trio.current_time()
                    self._quieten()
                    nursery.cancel_scope.cancel()
            if limit.cancelled_caught:
                over_at, stuck = trio.current_time(), "the call did not end"
            self._quieten()
            leftovers = await self._settle(before)
            self._note_model_faults()
            self.struck.sort(key=lambda struck: struck.at)
            return self._history(placed_at, over_at, leftovers, stuck, others)
        raise AssertionError("not reached")

    def _place(self) -> PhoneCall:
        case = self.case
        drops = tuple(fault for fault in case.faults if isinstance(fault, Drop))
        return self.world.carrier.place(
            self.person.talk,
            drops=drops,
            habits=Habits(
                webhook_attempts=12, webhook_retry_seconds=0.5, duplicate_webhooks=case.duplicate_webhooks
            ),
            behaviour=StreamBehaviour(echo_delay=case.echo_delay),
            humans={HUMAN_NUMBER: Human()},
            status_url=self.world.urls.status,
        )

    async def _settle(self, before: int) -> Leftovers:
        with trio.move_on_after(SETTLE_SECONDS):
            while any(process.up and process.desk.live_calls for process in self.world.processes):
                await trio.sleep(0.1)
        await trio.sleep(5.0)  # the last answers, callbacks and flushes
        calls = sum(process.desk.live_calls for process in self.world.processes if process.up)
        # A second process has the same tasks that the first one had before the call.
        dead = [p for p in self.world.processes if not p.up]
        living = len(self.world.processes) - len(dead)
        per_process = self._tasks_of_a_process(before)
        tasks = trio.lowlevel.current_statistics().tasks_living - before - (living - 1) * per_process
        return Leftovers(tasks, calls, self.model.live)

    @staticmethod
    def _tasks_of_a_process(before: int) -> int:
        # Main task, init task and Trio's own; the rest is the first process.
        return before - 3

    # -- faults ---------------------------------------------------------------------------------------------

    async def _strike_later(self, fault: Any, placed_at: float, others: list[_Other]) -> None:
        await trio.sleep_until(placed_at + fault.at)
        if self.calm or self.call.over.is_set():
            return
        self.struck.append(Struck(trio.current_time(), fault))
        await self._strike(fault, others)

    async def _strike(self, fault: Any, others: list[_Other]) -> None:
        match fault:
            case sim.Kill(down=down):
                if self.world.process.up:
                    self.died[len(self.world.processes)] = trio.current_time()
                    self.world.process.kill()
                    await trio.sleep(down)
                    await self._boot()
            case sim.Takeover():
                await self._boot()
                self.call.repeat_voice_webhook()
            case sim.Repeat():
                self.call.repeat_voice_webhook()
            case sim.Pause(seconds=seconds):
                stream = self.call.stream
                if stream is not None and isinstance(stream._transport, MemoryTransport):
                    transport = stream._transport
                    transport.freeze()
                    await trio.sleep(seconds)
                    transport.thaw()
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
            case sim.Drain(seconds=seconds):
                old = self.world.process
                await self._boot()
                await old.desk.drain(seconds)
            case sim.Flood(calls=calls):
                async with trio.open_nursery() as nursery:
                    for _ in range(calls):
                        nursery.start_soon(self._other_caller, others)

    async def _boot(self) -> None:
        await self.world.boot()
        self.booted.append(trio.current_time())

    async def _other_caller(self, others: list[_Other]) -> None:
        person = Person(sim.Caller(asks=(sim.Ask("parking"),)), self.model, lambda: None)
        call = self.world.carrier.place(person.talk)
        person.call = call
        placed_at = trio.current_time()
        await call.run()
        others.append((call, person, placed_at, trio.current_time()))

    async def _arm_tools(self, placed_at: float) -> None:
        troubles = [fault for fault in self.case.faults if isinstance(fault, sim.ToolTrouble)]
        for trouble in sorted(troubles, key=lambda each: each.at):
            await trio.sleep_until(placed_at + trouble.at)
            if not self.calm:
                self.workshop.trouble.append(trouble)

    def _quieten(self) -> None:
        """Nothing more strikes; what has struck may still have its consequences."""
        if self.calm:
            return
        self.calm = True
        self.model.plan.faults = ()
        self.disk.trouble = None
        self.workshop.trouble.clear()
        self.call._drops.clear()
        for session in self.model.sessions:
            session._armed.clear()

    def _note_model_faults(self) -> None:
        self.struck += [Struck(fired.at, fired.fault, fired.connection) for fired in self.model.plan.fired]
        self.struck += [Struck(at, trouble) for at, trouble in self.workshop.struck]

    def _watch_drops(self) -> None:
        """Drops are the carrier's own: written down as they happen."""
        drop = self.call.drop

        def noted(how: Any = "rst", *, notice_seconds: float | None = None) -> None:
            if self.call.stream is not None:
                self.struck.append(Struck(trio.current_time(), Drop(how), self.call.stream.media.number))
            drop(how, notice_seconds=notice_seconds)

        self.call.drop = noted  # type: ignore[method-assign]

    @contextmanager
    def crashes(self) -> Iterator[None]:
        """Actors raise at their time: the table of actors is patched, as a bug would be in it."""
        originals: dict[str, Any] = {}
        for index, fault in enumerate(self.case.faults):
            if isinstance(fault, sim.Crash):
                name = f"run_{fault.actor}"
                originals.setdefault(name, getattr(call_module, name))
                setattr(call_module, name, partial(self._crashing, getattr(call_module, name), index, fault))
        try:
            yield
        finally:
            for name, original in originals.items():
                setattr(call_module, name, original)

    async def _crashing(
        self, original: Any, index: int, fault: sim.Crash, subject: Any, ctx: Any, *, task_status: Any
    ) -> None:
        if index in self._crashed or self.calm or getattr(subject, "call_sid", "") != self.call.call_sid:
            await original(subject, ctx, task_status=task_status)
            return
        async with trio.open_nursery() as nursery:
            await nursery.start(original, subject, ctx)
            task_status.started()
            await trio.sleep_until(fault.at)
            if index in self._crashed or self.calm or self.call.over.is_set():
                return
            self._crashed.add(index)
            self.struck.append(Struck(trio.current_time(), fault))
            raise RuntimeError("a bug of ours, with the caller's words in it")

    # -- what is known ----------------------------------------------------------------------------------------

    def _history(
        self, placed_at: float, over_at: float, leftovers: Leftovers, stuck: str, others: list[_Other]
    ) -> History:
        history = self._history_of(self.call, self.person, placed_at, over_at)
        history.leftovers = leftovers
        history.stuck = stuck
        history.others = tuple(self._history_of(*other) for other in others)
        return history

    def _sessions_of(self, call: PhoneCall, entries: Sequence[Entry]) -> list[ModelSession]:
        """With other callers about, a session is the call's whose journal names it."""
        if len(self.world.carrier.calls) == 1:
            return self.model.sessions
        mine = {
            entry.record.session_id: None for entry in entries if isinstance(entry.record, ModelSessionOpened)
        }
        return [session for session in self.model.sessions if session.session.get("id") in mine]

    def _history_of(self, call: PhoneCall, person: Person, placed_at: float, over_at: float) -> History:
        world = self.world
        entries = self.disk.read_call(call.call_sid).entries
        return History(
            case=self.case,
            call=call,
            sessions=self._sessions_of(call, entries),
            voices=self.model.sessions,
            connections=self.model.connections,
            entries=entries,
            committed={n: at for (sid, n), at in self.disk.committed.items() if sid == call.call_sid},
            epoch=EPOCH,
            asked=person.asked,
            struck=self.struck,
            lives=[Life(n, at, self.died.get(n)) for n, at in enumerate(self.booted, 1)],
            effects=list(self.workshop.effects),
            runs=self.workshop.runs,
            reports=[report for report in world.reports if report[0] == call.call_sid],
            metrics=world.metrics.exposition().decode(),
            bad_input=sum(world.bad_input().values()),
            leftovers=Leftovers(),
            placed_at=placed_at,
            over_at=over_at,
            calm_at=person.calm_at,
            healed_at=person.healed_at,
            hung_up_in_mid_answer=person.hung_up_in_mid_answer,
        )


def cells(history: History) -> list[tuple[FaultKind, str]]:
    """(fault, turn state) of each fault that the journal has seen."""
    from callrt.protocol.records import FaultSeen

    return [
        (FaultKind(entry.record.fault), entry.record.turn)
        for entry in history.entries
        if isinstance(entry.record, FaultSeen)
    ]
