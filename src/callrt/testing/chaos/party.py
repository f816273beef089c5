"""A party: the emulated carrier and models of some calls, in a process of their own, and the judgement of these calls.

Each call has a model service of its own, on a port of its own, so that its faults and its history are its own. The
emulators have processes to themselves because a late carrier would blame the service for its own lateness: each party
measures how late its clocks were.
"""

from __future__ import annotations

import math
import os
import sys
import time
from collections.abc import Sequence
from functools import partial
from typing import Any

import attrs
import httpx
import trio

from callrt.journal import SqliteStore
from callrt.testing.carrier import Carrier, Drop, Habits, PhoneCall
from callrt.testing.carrier_net import http_request, open_media_socket, serve_rest
from callrt.testing.chaos import messages as msg
from callrt.testing.chaos import sockets
from callrt.testing.chaos.recovery import recoveries
from callrt.testing.chaos.scenario import Scenario
from callrt.testing.chaos.trace import trace
from callrt.testing.demo.server import ACCOUNT_SID, API_KEY, AUTH_TOKEN
from callrt.testing.model_faults import Fault, FaultPlan
from callrt.testing.model_server import EmulatedModel
from callrt.testing.model_voice import SentenceVoice
from callrt.testing.sim import cast
from callrt.testing.sim.case import Ask, BadMessages, Caller, Case, name_of
from callrt.testing.sim.checkers import judge
from callrt.testing.sim.history import History, Leftovers, Life, Struck
from callrt.testing.sim.script import Person
from callrt.testing.sim.stage import BAD

SETTLE_SECONDS = 12.0
SCENARIO_SECONDS = 240.0
"""What is not over by then is cut off, and that is a violation."""
FEW = httpx.Limits(max_keepalive_connections=1)
"""A connection that the carrier keeps for its next question is not one that the service has left behind."""
LATENESS_EVERY = 0.02
BASE_SLACK = 0.06
"""Latency that the checkers grant each way: loopback is fast, an interpreter is not."""


@attrs.define(eq=False)
class Guest:
    """One call, its caller and its model."""

    number: int
    model: EmulatedModel
    person: Person
    call: PhoneCall
    struck: list[Struck] = attrs.field(factory=list)
    placed_at: float = math.nan
    over_at: float = math.nan


class Party:
    """Lives in a nursery of its own; :meth:`orders` is its conversation with the stage."""

    def __init__(self, order: msg.Order, nursery: trio.Nursery) -> None:
        self.scenario: Scenario = order.scenario
        self.numbers = order.numbers
        self.guests: dict[int, Guest] = {}
        self.models: dict[int, EmulatedModel] = {}
        self.blown: list[tuple[int | None, Struck]] = []
        """With the call that it was for; None: all."""
        self.late: list[float] = []
        self.cut_off = False
        self.carrier: Carrier | None = None
        self._nursery = nursery
        # Between the clock of all processes of this machine and our own.
        self._offset = trio.current_time() - time.perf_counter()
        self._epoch = time.time() - trio.current_time()

    # -- before ---------------------------------------------------------------------------------------------

    async def open(self, request: Any) -> msg.Ready:
        half_open = any(drop.how == "half_open" for drop in self.scenario.drops)
        frozen = any(fault.kind == "freeze" for fault in self.scenario.faults)
        self.carrier = Carrier(
            "http://127.0.0.1:0/",
            request,
            open_media_socket if half_open else sockets.open_media_socket,
            account_sid=ACCOUNT_SID,
            auth_token=AUTH_TOKEN,
            seed=f"{self.scenario.name} {self.numbers[0]}",
        )
        rest_port: int = await self._nursery.start(partial(serve_rest, self.carrier))
        ports = []
        for number in self.numbers:
            make = EmulatedModel if frozen else sockets.SwiftModel
            model = make(
                cast.make_brain(), SentenceVoice(), plan=self._plan(number), api_key=API_KEY, seed=number
            )
            self.models[number] = model
            ports.append(await self._nursery.start(model.listen))
        return msg.Ready(tuple(ports), rest_port)

    # -- storm ----------------------------------------------------------------------------------------------

    async def play(self, begin: msg.Begin) -> None:
        """All calls, from the first webhook to the last goodbye."""
        assert self.carrier is not None
        self.carrier.voice_url = f"{begin.base_url}/twilio/voice"
        with trio.move_on_after(SCENARIO_SECONDS) as limit:
            async with trio.open_nursery() as nursery:
                nursery.start_soon(self._watch_clock)
                async with trio.open_nursery() as calls:
                    for number in self.numbers:
                        self._invite(number, begin.media_ports.get(number))
                        calls.start_soon(self._carry, number)
                        await trio.sleep(begin.pause)
                nursery.cancel_scope.cancel()
        self.cut_off = limit.cancelled_caught
        with trio.move_on_after(SETTLE_SECONDS):
            while any(model.live for model in self.models.values()):
                await trio.sleep(0.1)

    async def _watch_clock(self) -> None:
        """How late this process runs: what it does to its calls is not the service's doing."""
        while True:
            due = trio.current_time() + LATENESS_EVERY
            await trio.sleep_until(due)
            now = trio.current_time()
            # A carrier that cannot keep up falls behind frame by frame, however promptly its process wakes.
            behind = [
                now - (guest.call.tape.started_at + guest.call.tape.seconds)
                for guest in self.guests.values()
                if guest.call.answered.is_set() and not guest.call.over.is_set() and guest.call.tape.heard
            ]
            self.late.append(max([0.0, now - due, *behind]))

    def _invite(self, number: int, media_port: int | None) -> None:
        assert self.carrier is not None
        scenario, model = self.scenario, self.models[number]
        person = Person(
            Caller(tuple(Ask(line) for line in scenario.asks)), model, partial(self._quieten, number)
        )
        call = self.carrier.place(
            person.talk,
            to_number=number_of(number),
            drops=scenario.drops if number < scenario.disturbed else (),
            habits=Habits(webhook_attempts=12, webhook_retry_seconds=0.5),
        )
        person.call = call
        if media_port is not None:
            call._connect = partial(sockets.open_media_socket, via=media_port)
        now = trio.current_time()
        guest = self.guests[number] = Guest(number, model, person, call, placed_at=now, over_at=now)
        drop = call.drop

        def noted(how: Any = "rst", *, notice_seconds: float | None = None) -> None:
            if call.stream is not None:
                guest.struck.append(Struck(trio.current_time(), Drop(how), call.stream.media.number))
            drop(how, notice_seconds=notice_seconds)

        call.drop = noted  # type: ignore[method-assign]

    async def _carry(self, number: int) -> None:
        guest = self.guests[number]
        async with trio.open_nursery() as nursery:
            if number < self.scenario.disturbed:
                for fault in self.scenario.bad:
                    nursery.start_soon(self._talk_nonsense, guest, fault)
            await guest.call.run()
            nursery.cancel_scope.cancel()
        guest.over_at = trio.current_time()

    def _quieten(self, number: int) -> None:
        self.models[number].plan.faults = ()
        self.guests[number].call._drops.clear()

    async def _talk_nonsense(self, guest: Guest, fault: BadMessages) -> None:
        await trio.sleep(fault.at)
        stream = guest.call.stream
        if stream is None:
            return
        guest.struck.append(Struck(trio.current_time(), fault))
        for _ in range(fault.count):
            stream._transport.send_nowait(BAD[fault.what])
            await trio.sleep(0.01)

    def strike(self, order: msg.Strike) -> None:
        """A socket dies now, unless the storm is over for this call."""
        guest = self.guests.get(order.number)
        if guest is None or guest.person.calm_at is not None or guest.call.over.is_set():
            return
        if order.which == "carrier":
            guest.call.drop("rst")
        elif guest.model.sessions and not guest.model.sessions[-1].is_over:
            session = guest.model.sessions[-1]
            session._close(1011, "chaos")
            guest.struck.append(Struck(trio.current_time(), Fault("close"), session.connection))

    def note(self, blown: msg.Blown) -> None:
        self.blown.append((blown.number, Struck(blown.at + self._offset, blown.fault)))

    def lateness(self) -> msg.Late:
        late = sorted(self.late) or [0.0]
        return msg.Late(late[-1], late[round(0.99 * (len(late) - 1))])

    def forget(self) -> None:
        """All is judged: another wave of calls may begin."""
        self.guests.clear()
        self.blown.clear()
        self.late.clear()
        for number, model in self.models.items():
            model.sessions.clear()
            model.connections = 0
            model.plan = self._plan(number)

    def _plan(self, number: int) -> FaultPlan:
        return FaultPlan(self.scenario.faults if number < self.scenario.disturbed else ())

    # -- after ----------------------------------------------------------------------------------------------

    def judge(self, order: msg.Judge) -> msg.Findings:
        store = SqliteStore(order.folder / "callrt.db")
        try:
            log = (order.folder / "log.txt").read_text("utf-8", "replace")
            lives = [
                Life(life.number, life.booted + self._offset, life.died and life.died + self._offset)
                for life in order.lives
            ]
            return msg.Findings(
                tuple(self._judge(number, store, log, lives, order) for number in self.numbers)
            )
        finally:
            store.close()

    def _judge(
        self, number: int, store: SqliteStore, log: str, lives: Sequence[Life], order: msg.Judge
    ) -> msg.CallReport:
        guest = self.guests[number]
        history = self._history(guest, store, log, lives, order.jitter)
        judgement = judge(history)
        wrong = not judgement.ok or self.scenario.outcome not in ("any", history.outcome)
        own = [each.fault for each in guest.struck] + [each.fault for each in guest.model.plan.fired]
        return msg.CallReport(
            number,
            str(history.outcome),
            tuple(name_of(fault) for fault in own),
            tuple(recoveries(history)),
            len(history.words),
            len(history.bundled),
            judgement,
            trace(history, judgement) if wrong else "",
        )

    def _history(
        self, guest: Guest, store: SqliteStore, log: str, lives: Sequence[Life], jitter: float
    ) -> History:
        call, person, model = guest.call, guest.person, guest.model
        # A socket whose network was cut stays open at the model's end: that is what half-open means.
        cut = sum(fired.fault.kind == "freeze" for fired in model.plan.fired)
        fired = [Struck(fired.at, fired.fault, fired.connection) for fired in model.plan.fired]
        mine = [
            struck
            for number, struck in self.blown
            if number in (None, guest.number) and guest.placed_at <= struck.at <= guest.over_at
        ]
        struck = sorted([*guest.struck, *fired, *mine], key=lambda each: each.at)
        entries = store.read_call(call.call_sid).entries
        case = Case(
            caller=person.caller,
            latency=BASE_SLACK + jitter,
            stall_seconds=self.scenario.stall_seconds,
            human=self.scenario.human,
        )
        return History(
            case=case,
            call=call,
            sessions=model.sessions,
            connections=model.connections,
            entries=entries,
            committed={entry.number: entry.at - self._epoch for entry in entries},
            epoch=self._epoch,
            asked=person.asked,
            struck=struck,
            lives=lives,
            effects=[],
            runs=[],
            reports=[("", "log", log)],
            metrics="",
            bad_input=0,
            leftovers=Leftovers(model_sockets=max(0, model.live - cut)),
            placed_at=guest.placed_at,
            over_at=guest.over_at,
            calm_at=person.calm_at,
            healed_at=person.healed_at,
            jitter=jitter,
        )


def number_of(call: int) -> str:
    """The number that this call dials: it is routed to an agent of its own."""
    return f"+1555020{call:04d}"


async def main() -> None:
    """The process: orders on standard input, answers on standard output, until the stage has heard everything."""
    answers = trio.lowlevel.FdStream(os.dup(1))
    os.dup2(2, 1)  # nothing that anybody prints may get between the answers
    inbox = msg.Inbox(trio.lowlevel.FdStream(os.dup(0)))
    send_lock = trio.Lock()

    async def say(message: object) -> None:
        async with send_lock:
            await answers.send_all(msg.packed(message))

    async with (
        httpx.AsyncClient(timeout=10.0, trust_env=False, limits=FEW) as client,
        trio.open_nursery() as nursery,
    ):
        party = Party(await inbox.next(), nursery)
        await say(await party.open(http_request(client)))

        async def play(begin: msg.Begin) -> None:
            await party.play(begin)
            await say(msg.Over(party.cut_off, party.lateness()))

        while True:
            match await inbox.next():
                case msg.Begin() as begin:
                    nursery.start_soon(play, begin)
                case msg.Strike() as strike:
                    party.strike(strike)
                case msg.Blown() as blown:
                    party.note(blown)
                case msg.Judge() as order:
                    await say(party.judge(order))
                    party.forget()


if __name__ == "__main__":
    try:
        trio.run(main)
    except* EOFError:
        sys.exit(0)  # the stage has what it wants, or is gone
