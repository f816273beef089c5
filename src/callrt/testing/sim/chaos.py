"""Chaos: ``callrt serve`` as a process, real sockets, the emulators around it; the checkers of the simulation judge.

Each call has a model service of its own, on a port of its own, so that its faults and its history are its own.
The service's process is shared, as in production.
"""

from __future__ import annotations

import os
import signal
import tempfile
import time
from collections.abc import Sequence
from functools import partial
from pathlib import Path
from typing import Any

import attrs
import trio

from callrt.journal import SqliteStore
from callrt.testing.carrier import Carrier, Drop, Habits, PhoneCall
from callrt.testing.carrier_net import open_carrier, serve_rest
from callrt.testing.demo.server import ACCOUNT_SID, API_KEY, AUTH_TOKEN, Server
from callrt.testing.demo.server import MODEL as MODEL_NAME
from callrt.testing.model_faults import Fault, FaultPlan
from callrt.testing.model_server import EmulatedModel
from callrt.testing.sim import cast
from callrt.testing.sim.case import Ask, BadMessages, Caller, Case, DiskTrouble, Kill, Pause, name_of
from callrt.testing.sim.checkers import Judgement, judge
from callrt.testing.sim.history import History, Leftovers, Life, Struck
from callrt.testing.sim.scenario import Blow, Scenario
from callrt.testing.sim.script import Person
from callrt.testing.sim.stage import BAD

SCENARIO_SECONDS = 240.0
SETTLE_SECONDS = 12.0
REAL_TIME_SLACK = 0.06
"""Latency that the checkers grant each way: loopback is fast, a loaded machine is not."""
HUMAN = "+15550100009"

HEAD = """\
[server]
port = {port}
admin_port = {admin_port}
public_url = "http://127.0.0.1:{port}"
drain_seconds = 5
[carriers.twilio]
account_sid = "{account_sid}"
auth_token = "{auth_token}"
api_url = "{api_url}"
[resilience]
model_stall_seconds = {stall}
[routes]
default = "agent0"
{routes}
"""
AGENT = """\
[models.model{n}]
url = "ws://127.0.0.1:{model_port}/v1/realtime"
api_key = "{api_key}"
model = "{model}"
[agents.agent{n}]
model = "model{n}"
instructions = "You answer the phone for a clinic."
greeting = "{greeting}"
{human}
"""


@attrs.frozen
class CallReport:
    outcome: str
    struck: tuple[str, ...]
    recoveries: tuple[float, ...]
    """Seconds of silence that each fault cost the caller while words were owed."""
    judgement: Judgement


@attrs.frozen
class ChaosReport:
    scenario: Scenario
    calls: tuple[CallReport, ...]
    seconds: float
    files_before: int | None
    files_after: int | None
    exit_status: int
    trouble: tuple[str, ...]

    @property
    def ok(self) -> bool:
        return not self.trouble and all(call.judgement.ok for call in self.calls)

    @property
    def recoveries(self) -> list[float]:
        return sorted(each for call in self.calls for each in call.recoveries)


def percentile(values: Sequence[float], part: float) -> float:
    """Of sorted values; 0 when there are none."""
    return values[min(len(values) - 1, round(part * (len(values) - 1)))] if values else 0.0


async def run_scenario(scenario: Scenario) -> ChaosReport:
    """Play one scenario. Raises CallrtError when the server does not start. If cancelled: it is killed."""
    with tempfile.TemporaryDirectory(prefix="callrt-chaos-") as folder:
        return await _Chaos(scenario, Server(Path(folder))).run()


class _Chaos:
    def __init__(self, scenario: Scenario, server: Server) -> None:
        self.scenario = scenario
        self.server = server
        self.models: list[EmulatedModel] = []
        self.people: list[Person] = []
        self.calls: list[PhoneCall] = []
        self.struck: list[list[Struck]] = []
        self.placed: list[float] = []
        self.over: list[float] = []
        self.lives: list[Life] = []
        self.calm = False
        self.epoch = 0.0

    async def run(self) -> ChaosReport:
        began = trio.current_time()
        self.epoch = time.time() - began
        scenario, server = self.scenario, self.server
        try:
            async with trio.open_nursery() as nursery:
                voice = "http://127.0.0.1:0/twilio/voice"
                async with open_carrier(voice, account_sid=ACCOUNT_SID, auth_token=AUTH_TOKEN) as carrier:
                    rest_port = await nursery.start(partial(serve_rest, carrier))
                    ports = [await self._open_model(n, nursery) for n in range(scenario.calls)]
                    server.prepare("-", f"http://127.0.0.1:{rest_port}", "ws://127.0.0.1:1")
                    self._configure(f"http://127.0.0.1:{rest_port}", ports)
                    await server.start()
                    self.lives.append(Life(1, trio.current_time()))
                    carrier.voice_url = f"http://127.0.0.1:{server.port}/twilio/voice"
                    with trio.move_on_after(SCENARIO_SECONDS) as limit:
                        await self._storm(carrier)
                    await self._quiet()
                    after = server.files()
                    status = await server.stop()
                nursery.cancel_scope.cancel()
            return self._report(began, after, status, timed_out=limit.cancelled_caught)
        finally:
            with trio.CancelScope(shield=True):
                await server.kill()

    async def _open_model(self, number: int, nursery: trio.Nursery) -> int:
        model = EmulatedModel(
            cast.make_brain(), plan=FaultPlan(self.scenario.faults), api_key=API_KEY, seed=number
        )
        self.models.append(model)
        port: int = await nursery.start(model.listen)
        return port

    def _configure(self, api_url: str, ports: Sequence[int]) -> None:
        server = self.server
        routes = "\n".join(f'"{_number(n)}" = "agent{n}"' for n in range(len(ports)))
        text = HEAD.format(
            port=server.port,
            admin_port=server.admin_port,
            account_sid=ACCOUNT_SID,
            auth_token=AUTH_TOKEN,
            api_url=api_url,
            stall=self.scenario.stall_seconds,
            routes=routes,
        )
        for n, port in enumerate(ports):
            human = f'transfer_to = "{HUMAN}"' if self.scenario.human else ""
            text += AGENT.format(
                n=n, model_port=port, api_key=API_KEY, model=MODEL_NAME, greeting=cast.GREETING, human=human
            )
        server.config.write_text(text, encoding="utf-8")

    # -- storm --------------------------------------------------------------------------------------------

    async def _storm(self, carrier: Carrier) -> None:
        async with trio.open_nursery() as nursery:
            for blow in self.scenario.blows:
                nursery.start_soon(self._strike_process, blow)
            if self.scenario.die_every:
                nursery.start_soon(self._kill_sockets)
            async with trio.open_nursery() as calls:
                for number in range(self.scenario.calls):
                    self._place(carrier, number)
                    calls.start_soon(self._carry, number)
                    await trio.sleep(0.02)
            nursery.cancel_scope.cancel()

    def _place(self, carrier: Carrier, number: int) -> None:
        struck: list[Struck] = []
        asks = tuple(Ask(line) for line in self.scenario.asks)
        person = Person(Caller(asks), self.models[number], partial(self._quieten, number))
        call = carrier.place(
            person.talk,
            to_number=_number(number),
            drops=self.scenario.drops,
            habits=Habits(webhook_attempts=12, webhook_retry_seconds=0.5),
        )
        person.call = call
        drop = call.drop

        def noted(how: Any = "rst", *, notice_seconds: float | None = None) -> None:
            if call.stream is not None:
                struck.append(Struck(trio.current_time(), Drop(how), call.stream.media.number))
            drop(how, notice_seconds=notice_seconds)

        call.drop = noted  # type: ignore[method-assign]
        self.people.append(person)
        self.calls.append(call)
        self.struck.append(struck)
        self.placed.append(trio.current_time())
        self.over.append(trio.current_time())

    async def _carry(self, number: int) -> None:
        async with trio.open_nursery() as nursery:
            for fault in self.scenario.others:
                nursery.start_soon(self._strike_stream, number, fault)
            await self.calls[number].run()
            nursery.cancel_scope.cancel()
        self.over[number] = trio.current_time()

    def _quieten(self, number: int) -> None:
        self.models[number].plan.faults = ()
        self.calls[number]._drops.clear()

    async def _strike_stream(self, number: int, fault: BadMessages | Pause) -> None:
        await trio.sleep(fault.at)
        stream = self.calls[number].stream
        if stream is None or not isinstance(fault, BadMessages):
            return
        self.struck[number].append(Struck(trio.current_time(), fault))
        for _ in range(fault.count):
            stream._transport.send_nowait(BAD[fault.what])
            await trio.sleep(0.01)

    async def _strike_process(self, blow: Blow) -> None:
        await trio.sleep(blow.at)
        for struck in self.struck:
            struck.append(Struck(trio.current_time(), _as_fault(blow)))
        process = self.server.process
        assert process is not None
        match blow.do:
            case "kill":
                await self.server.kill()
                await trio.sleep(blow.seconds)
                await self.server.start()
                self.lives.append(Life(len(self.lives) + 1, trio.current_time()))
            case "stop":
                await self.server.stop()
                await self.server.start()
                self.lives.append(Life(len(self.lives) + 1, trio.current_time()))
            case "freeze":
                process.send_signal(signal.SIGSTOP)
                await trio.sleep(blow.seconds)
                process.send_signal(signal.SIGCONT)
            case "disk_full":
                # A reader that never lets go is what a journal sees of a disk that takes nothing.
                await self._lock_journal(blow.seconds)

    async def _lock_journal(self, seconds: float) -> None:
        import sqlite3

        lock = sqlite3.connect(self.server.folder / "callrt.db", isolation_level=None)
        try:
            lock.execute("BEGIN IMMEDIATE")
            await trio.sleep(seconds)
            lock.execute("ROLLBACK")
        finally:
            lock.close()

    async def _kill_sockets(self) -> None:
        """Sockets die one after the other, carrier's and model's in turn, some call's each time."""
        until = trio.current_time() + self.scenario.die_seconds
        turn = 0
        while trio.current_time() < until:
            await trio.sleep(self.scenario.die_every)
            number = turn // 2 % max(1, len(self.calls))
            turn += 1
            if turn % 2 and number < len(self.calls):
                self.calls[number].drop("rst")
            elif number < len(self.models) and self.models[number].sessions:
                session = self.models[number].sessions[-1]
                if not session.is_over:
                    session._close(1011, "chaos")
                    fault = Fault("close")
                    self.struck[number].append(Struck(trio.current_time(), fault, session.connection))

    # -- calm ---------------------------------------------------------------------------------------------

    async def _quiet(self) -> None:
        """The server has put away what ended calls have left."""
        with trio.move_on_after(SETTLE_SECONDS):
            while any(model.live for model in self.models):
                await trio.sleep(0.1)
            await trio.sleep(1.0)

    def _report(self, began: float, after: int | None, status: int, *, timed_out: bool) -> ChaosReport:
        scenario = self.scenario
        store = SqliteStore(self.server.folder / "callrt.db")
        trouble = []
        reports = []
        try:
            for number in range(scenario.calls):
                history = self._history(number, store)
                judgement = judge(history)
                reports.append(
                    CallReport(
                        str(history.outcome),
                        tuple(name_of(struck.fault) for struck in history.struck),
                        tuple(recoveries(history)),
                        judgement,
                    )
                )
                if history.outcome != scenario.outcome:
                    trouble.append(f"call {number} ended as {history.outcome}, not as {scenario.outcome}")
        finally:
            store.close()
        if timed_out:
            trouble.append(f"it was not over after {SCENARIO_SECONDS:.0f} s")
        if status != 0:
            trouble.append(f"the server ended with status {status}")
        if "Traceback" in self.server.log:
            trouble.append("the server's log holds a traceback")
        before = self.server.idle_files
        if before is not None and after is not None and after > before + 4:
            trouble.append(f"{after - before} more file descriptors than before")
        seconds = trio.current_time() - began
        return ChaosReport(scenario, tuple(reports), seconds, before, after, status, tuple(trouble))

    def _history(self, number: int, store: SqliteStore) -> History:
        call, person, model = self.calls[number], self.people[number], self.models[number]
        struck = list(self.struck[number])
        struck += [Struck(fired.at, fired.fault, fired.connection) for fired in model.plan.fired]
        struck.sort(key=lambda each: each.at)
        entries = store.read_call(call.call_sid).entries
        case = Case(
            caller=person.caller,
            latency=REAL_TIME_SLACK,
            stall_seconds=self.scenario.stall_seconds,
            human=self.scenario.human,
        )
        return History(
            case=case,
            call=call,
            sessions=model.sessions,
            connections=model.connections,
            entries=entries,
            committed={entry.number: entry.at - self.epoch for entry in entries},
            epoch=self.epoch,
            asked=person.asked,
            struck=struck,
            lives=self.lives,
            effects=[],
            runs=[],
            reports=[("", "log", self.server.log)] if not os.environ.get("CALLRT_CHAOS_NOLOG") else [],
            metrics="",
            bad_input=0,
            leftovers=Leftovers(model_sockets=model.live),
            placed_at=self.placed[number],
            over_at=self.over[number],
            calm_at=person.calm_at,
            healed_at=person.healed_at,
        )


def _as_fault(blow: Blow) -> Kill | Pause | DiskTrouble:
    """What a blow is to the checkers."""
    if blow.do == "freeze":
        return Pause(blow.at, blow.seconds)
    if blow.do == "disk_full":
        return DiskTrouble(blow.at, blow.seconds, "busy")
    return Kill(blow.at, blow.seconds)


def recoveries(history: History) -> list[float]:
    """What each fault cost the caller: the longest silence between two words of one answer, after it struck."""
    found = []
    for struck in history.struck:
        gaps = [
            later.began - earlier.ended
            for earlier, later in zip(history.words, history.words[1:], strict=False)
            if earlier.line == later.line and struck.at - 0.5 <= earlier.ended <= struck.at + 12.0
        ]
        if gaps:
            found.append(max(0.0, max(gaps)))
    return found


def _number(call: int) -> str:
    return f"+1555020{call:04d}"
