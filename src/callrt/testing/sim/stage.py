"""One case, played: the world is built, the caller calls, the nemesis strikes, everything is written down."""

from __future__ import annotations

import gc
from collections.abc import Sequence

import attrs
import trio

from callrt.policy.settings import AgentSettings, Resilience
from callrt.protocol.faults import FaultKind
from callrt.protocol.records import Entry, ModelSessionOpened
from callrt.supervision.determinism import seeded
from callrt.testing.carrier import Drop, Habits, Human, PhoneCall, StreamBehaviour
from callrt.testing.model_core import ModelOptions
from callrt.testing.model_faults import Fault, FaultPlan
from callrt.testing.model_server import EmulatedModel
from callrt.testing.model_session import ModelSession
from callrt.testing.model_voice import SentenceVoice
from callrt.testing.network import JumpClock
from callrt.testing.sim import case as sim
from callrt.testing.sim import cast
from callrt.testing.sim.case import Case
from callrt.testing.sim.disk import SimDisk
from callrt.testing.sim.history import History, Leftovers, Life
from callrt.testing.sim.script import Person
from callrt.testing.sim.storm import BAD, Storm
from callrt.testing.world import EPOCH, World, open_world

__all__ = ["BAD", "cells", "play"]

HUMAN_NUMBER = "+15550100009"
AGENT = AgentSettings("front-desk", "main", "You answer the phone for a clinic.", greeting=cast.GREETING)
SECONDS_MAX = 900.0
"""Virtual seconds after which a call that has not ended is given up by the simulation."""
SETTLE_SECONDS = 70.0
"""After the call: for what it left to be put away. Longer than any shutdown time of its parts, and than a sweeper takes
to find a call that nobody carries any more."""
MOMENT = 0.001
"""For all that is due now to be done."""
TASKS_OF_A_WORLD = 4
"""Besides those of its processes: the main task, Trio's two, the network."""


def play(case: Case, *instruments: trio.abc.Instrument) -> History:
    """Run the case. Deterministic, and alone in its process: it patches the table of actors while it runs."""
    stage = _Stage(case)
    gc.collect()
    gc.disable()  # a finaliser that runs at another time is another schedule
    try:
        with stage.storm.crashes(), seeded(case.seed):
            return trio.run(stage.run, clock=JumpClock(), instruments=instruments)
    finally:
        gc.enable()


_Other = tuple[PhoneCall, Person, float, float]


class _Stage:
    def __init__(self, case: Case) -> None:
        self.case = case
        self.disk = SimDisk()
        self.workshop = cast.Workshop(process=lambda: len(self.storm.booted), timeout=case.tool_seconds)
        self.storm = Storm(case, self.disk, self.workshop)
        self.model = EmulatedModel(
            cast.make_brain(),
            SentenceVoice(),
            options=ModelOptions(transcription=case.transcription),
            plan=FaultPlan([fault for fault in case.faults if isinstance(fault, Fault)]),
            seed=case.seed,
        )
        self.person = Person(case.caller, self.model, self.storm.quieten, self.storm.lull)
        self.others: list[_Other] = []
        self.world: World
        self.call: PhoneCall

    # -- the run --------------------------------------------------------------------------------------------

    async def run(self) -> History:
        case, storm = self.case, self.storm
        agent = attrs.evolve(AGENT, transfer_to=HUMAN_NUMBER if case.human else None)
        resilience = Resilience(
            model_stall_seconds=case.stall_seconds, max_call_seconds=case.max_call_seconds
        )
        stuck = ""
        async with open_world(
            self.model,
            agent=agent,
            resilience=resilience,
            tools=self.workshop.tools(),
            disk=self.disk,
            seed=case.seed,
            latency=case.latency,
        ) as self.world:
            storm.booted.append(trio.current_time())
            await trio.sleep(MOMENT)
            before = trio.lowlevel.current_statistics().tasks_living
            self.call = self.person.call = self._place()
            placed_at = trio.current_time()
            with trio.move_on_after(SECONDS_MAX) as limit:
                async with trio.open_nursery() as nursery:
                    await storm.begin(self.world, self.call, self._newcomer, nursery)
                    await self.call.run()
                    over_at = trio.current_time()
                    storm.quieten()
                    await storm.drains_over()
                    nursery.cancel_scope.cancel()
            if limit.cancelled_caught:
                over_at, stuck = trio.current_time(), "the call did not end"
            storm.quieten()
            leftovers = await self._settle(before)
            storm.finish()
            return self._history(placed_at, over_at, leftovers, stuck)
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
        if not any(process.up for process in self.world.processes):
            await self.storm.boot()  # whoever comes next finds what the last one could not write down
        with trio.move_on_after(SETTLE_SECONDS):
            while self.disk.list_live(limit=1) or any(
                p.up and p.desk.live_calls for p in self.world.processes
            ):
                await trio.sleep(0.1)
        await trio.sleep(5.0)  # the last answers, callbacks and flushes
        calls = sum(process.desk.live_calls for process in self.world.processes if process.up)
        # A second process has the same tasks that the first one had before the call.
        dead = [p for p in self.world.processes if not p.up]
        living = len(self.world.processes) - len(dead)
        per_process = before - TASKS_OF_A_WORLD
        tasks = trio.lowlevel.current_statistics().tasks_living - before - (living - 1) * per_process
        return Leftovers(tasks, calls, self.model.live)

    async def _newcomer(self, *, shall_be_served: bool) -> PhoneCall:
        """Somebody else calls, and to him nothing is done."""
        person = Person(sim.Caller(asks=(sim.Ask("parking"),)), self.model, lambda: None)
        call = person.call = self.world.carrier.place(person.talk)
        placed_at = trio.current_time()
        await call.run()
        if shall_be_served:
            self.others.append((call, person, placed_at, trio.current_time()))
        return call

    # -- what is known ----------------------------------------------------------------------------------------

    def _history(self, placed_at: float, over_at: float, leftovers: Leftovers, stuck: str) -> History:
        history = self._history_of(self.call, self.person, placed_at, over_at)
        history.leftovers = leftovers
        history.stuck = stuck
        history.others = tuple(self._history_of(*other) for other in self.others)
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
            struck=self.storm.struck,
            lives=[Life(n, at, self.storm.died.get(n)) for n, at in enumerate(self.storm.booted, 1)],
            drained=self.storm.drained,
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
