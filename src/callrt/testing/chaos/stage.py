"""One scenario: the service in its process, parties of callers in theirs, blows and strangers in between."""

from __future__ import annotations

import random
import tempfile
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager
from functools import partial
from pathlib import Path
from typing import Any

import attrs
import httpx
import trio

from callrt.service.http import HttpRequest, HttpResponse, serve_http
from callrt.testing.chaos import messages as msg
from callrt.testing.chaos.disk import DiskWatch
from callrt.testing.chaos.party import number_of
from callrt.testing.chaos.party_process import PartyProcess, open_party
from callrt.testing.chaos.relay import Relay
from callrt.testing.chaos.scenario import Scenario
from callrt.testing.chaos.service import Service
from callrt.testing.chaos.strangers import Strangers
from callrt.testing.model_faults import Fault, Trigger
from callrt.testing.sim.case import Pause, SimFault

LATE_SECONDS = 0.1
TOO_LATE_SECONDS = 1.0
"""A machine on which the emulators' clocks were so late, one time in a hundred or ever, or whose disk did not answer
for so long, says nothing about callrt."""
QUIET_SECONDS = 10.0
"""After the last call: by then its descriptors must be gone."""
MORE_FILES = 4
"""Descriptors that the service may hold beyond those it began with: the journal's, a connection that is kept."""


@attrs.frozen
class ChaosReport:
    scenario: Scenario
    calls: tuple[msg.CallReport, ...]
    seconds: float
    late: msg.Late
    blows: tuple[str, ...]
    files_before: int | None
    files_after: int | None
    trouble: tuple[str, ...]
    attempts: int = 1

    @property
    def ok(self) -> bool:
        return not self.trouble and all(call.judgement.ok for call in self.calls)

    @property
    def fit(self) -> bool:
        """Did the machine keep time well enough for a verdict?"""
        return is_fit(self.late)

    @property
    def recoveries(self) -> list[float]:
        return sorted(each for call in self.calls for each in call.recoveries)


async def run_scenario(scenario: Scenario) -> ChaosReport:
    """Play one scenario. Raises CallrtError when the service does not start. If cancelled: all processes are killed."""
    with tempfile.TemporaryDirectory(prefix="callrt-chaos-") as folder:
        service = Service(Path(folder), scenario)
        try:
            async with trio.open_nursery() as nursery:
                report = await Stage(scenario, service, nursery).run()
                nursery.cancel_scope.cancel()
        finally:
            await service.close()
        return report


def is_fit(late: msg.Late) -> bool:
    return late.p99 <= LATE_SECONDS and max(late.worst, late.disk) <= TOO_LATE_SECONDS


def lateness(overs: Sequence[msg.Over]) -> msg.Late:
    return msg.Late(
        max(over.late.worst for over in overs),
        max(over.late.p99 for over in overs),
        max(over.late.disk for over in overs),
    )


class Stage:
    def __init__(self, scenario: Scenario, service: Service, nursery: trio.Nursery) -> None:
        self.scenario = scenario
        self.service = service
        self.parties: list[PartyProcess] = []
        self.relays: list[Relay] = []
        self.strangers = Strangers(lambda: service.server.port, scenario.strangers)
        self._nursery = nursery
        self._rest_ports: list[int] = []
        self._media_ports: dict[int, int] = {}
        self._client = httpx.AsyncClient(timeout=10.0, trust_env=False)

    async def run(self) -> ChaosReport:
        began = trio.current_time()
        scenario, service = self.scenario, self.service
        async with self.assembled():
            overs = await self.storm()
            after = await self._files_when_quiet()
            status = await service.end()
            late = lateness(overs)
            calls = await self.judge(late)
        before = service.server.idle_files
        return ChaosReport(
            scenario,
            calls,
            trio.current_time() - began,
            late,
            (*service.blows, *self._squeezed(), *self._knocked()),
            before,
            after,
            tuple(self._trouble(calls, overs, status, before, after)),
        )

    # -- before ---------------------------------------------------------------------------------------------

    @asynccontextmanager
    async def assembled(self) -> AsyncIterator[None]:
        """Parties, wires and the service are there. If cancelled: the parties are killed."""
        async with self._client, trio.open_nursery() as nursery:
            await self._assemble(nursery)
            await self.service.start()
            yield
            nursery.cancel_scope.cancel()

    async def _assemble(self, nursery: trio.Nursery) -> None:
        """Start the parties, lay the wires, write the configuration."""
        scenario, service = self.scenario, self.service
        for numbers in msg.shares(scenario.calls, scenario.party):
            nursery.start_soon(self._keep_party, numbers)
        while len(self.parties) < len(msg.shares(scenario.calls, scenario.party)):
            await trio.sleep(0.01)
        model_ports: dict[int, int] = {}
        for party in self.parties:
            party.tell(msg.Order(scenario, party.numbers))
        for party in self.parties:
            ready = await party.answer()
            model_ports.update(zip(party.numbers, ready.model_ports, strict=True))
            self._rest_ports.append(ready.rest_port)
        service.choose_ports()
        rest_port: int = await self._nursery.start(self._serve_rest)
        port = service.server.port
        for number in range(scenario.disturbed):
            for peer in ("carrier", "model"):
                squeezes = [each for each in scenario.squeezes if each.peer == peer]
                if not squeezes:
                    continue
                relay = Relay(port if peer == "carrier" else model_ports[number], squeezes, number)
                self.relays.append(relay)
                ways = self._media_ports if peer == "carrier" else model_ports
                ways[number] = await self._nursery.start(relay.listen)
        service.configure(f"http://127.0.0.1:{rest_port}", dict(sorted(model_ports.items())), number_of)

    async def _keep_party(self, numbers: tuple[int, ...]) -> None:
        async with open_party(numbers, self._nursery) as party:
            self.parties.append(party)
            await trio.sleep_forever()

    async def _serve_rest(self, *, task_status: trio.TaskStatus[int]) -> None:
        """The carrier's REST interface for callrt: the party that knows the call answers."""

        async def handler(request: HttpRequest) -> HttpResponse:
            headers = {"content-type": request.header("content-type") or "text/plain"}
            if request.header("authorization"):
                headers["authorization"] = request.header("authorization") or ""
            answer = HttpResponse(404, b"", "application/json")
            for port in self._rest_ports:
                try:
                    theirs = await self._client.request(
                        request.method,
                        f"http://127.0.0.1:{port}{request.path}",
                        content=request.body,
                        headers=headers,
                    )
                except httpx.TransportError:
                    return HttpResponse(503, b"", "application/json")
                answer = HttpResponse(theirs.status_code, theirs.content, "application/json")
                if theirs.status_code != 404:
                    break
            return answer

        listeners = await trio.open_tcp_listeners(0, host="127.0.0.1")
        async with trio.open_nursery() as nursery:
            nursery.start_soon(trio.serve_listeners, partial(_serve_one, handler), listeners)
            task_status.started(listeners[0].socket.getsockname()[1])

    # -- storm ----------------------------------------------------------------------------------------------

    async def storm(self) -> list[msg.Over]:
        """All calls, once, and whatever strikes them."""
        overs: list[msg.Over] = []
        pause = self.scenario.pause * len(self.parties)
        for party in self.parties:
            party.tell(msg.Begin(f"http://127.0.0.1:{self.service.server.port}", self._media_ports, pause))
        # A blow is dealt to its end: it may have to start the service again.
        async with trio.open_nursery() as blows, trio.open_nursery() as nursery:
            for blow in self.scenario.blows:
                blows.start_soon(self.service.strike, blow, self._told)
            if self.scenario.die_every:
                nursery.start_soon(self._kill_sockets)
            if self.scenario.strangers:
                nursery.start_soon(self.strangers.run)
            disk = DiskWatch()
            nursery.start_soon(disk.run)
            for party in self.parties:
                overs.append(await party.answer())
            nursery.cancel_scope.cancel()
        return [attrs.evolve(over, late=attrs.evolve(over.late, disk=disk.worst)) for over in overs]

    def _told(self, at: float, fault: SimFault | None, number: int | None = None) -> None:
        """A blow that is no fault to the checkers excuses nothing."""
        for party in self.parties:
            if fault is not None:
                party.tell(msg.Blown(at, fault, number))

    async def _kill_sockets(self) -> None:
        """Sockets die one after the other, at one rhythm for all parties."""
        scenario = self.scenario
        rng = random.Random(scenario.seed)
        began = trio.current_time()
        for n in range(1, int(scenario.die_seconds / scenario.die_every) + 1):
            await trio.sleep_until(began + n * scenario.die_every)
            number = rng.randrange(max(1, scenario.disturbed))
            which = rng.choice(("carrier", "model"))
            party = next(party for party in self.parties if number in party.numbers)
            party.tell(msg.Strike(number, which))  # type: ignore[arg-type]

    # -- after ----------------------------------------------------------------------------------------------

    async def judge(self, late: msg.Late) -> tuple[msg.CallReport, ...]:
        """What came of the last storm's calls."""
        found: list[msg.CallReport] = []
        for relay in self.relays:
            for at, squeeze in relay.squeezed:
                shut = Fault("refuse", Trigger(connection=squeeze.connection))
                fault = shut if squeeze.shut else Pause(squeeze.at, squeeze.seconds)
                self._told(at, fault, relay.number)
        for party in self.parties:
            party.tell(msg.Judge(self.service.folder, tuple(self.service.lives), late.worst))
        for party in self.parties:
            found += (await party.answer()).calls
        return tuple(sorted(found, key=lambda call: call.number))

    async def _files_when_quiet(self) -> int | None:
        before = self.service.server.idle_files
        await trio.sleep(1.0)
        with trio.move_on_after(QUIET_SECONDS):
            while (now := self.service.server.files()) is not None and now > (before or 0) + MORE_FILES:
                await trio.sleep(0.2)
        return self.service.server.files()

    def _squeezed(self) -> list[str]:
        return [
            f"{squeeze.peer} does not accept"
            if squeeze.shut
            else f"{squeeze.peer} {'reads' if squeeze.way == 'out' else 'writes'} slowly"
            for relay in self.relays
            for _, squeeze in relay.squeezed
        ]

    def _knocked(self) -> list[str]:
        count = self.strangers.knocked.total()
        return [f"{count} strangers at the door"] if count else []

    def _trouble(
        self,
        calls: Sequence[msg.CallReport],
        overs: Sequence[msg.Over],
        status: int,
        before: int | None,
        after: int | None,
    ) -> list[str]:
        wanted = self.scenario.outcome
        found = [
            f"call {call.number} ended as {call.outcome}, not as {wanted}"
            for call in calls
            if call.outcome != wanted and wanted != "any"
        ]
        found += self.service.bad_ends
        if any(over.cut_off for over in overs):
            found.append("the calls did not come to an end")
        if status != 0:
            found.append(f"the service ended with status {status}")
        if "Traceback" in self.service.server.log:
            found.append("the service's log holds a traceback")
        if before is not None and after is not None and after > before + MORE_FILES:
            found.append(f"{after - before} more file descriptors than before")
        found += [
            f"a stranger was answered wrongly: {what} ({n} times)" for what, n in self.strangers.odd.items()
        ]
        return found


async def _serve_one(handler: Any, stream: trio.SocketStream) -> None:
    await serve_http(stream, handler)
