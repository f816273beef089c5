"""A whole service and a whole carrier and model around it, in memory and in virtual time.

Nothing is mocked: a process of the service (``world_process.py``) is made of the parts of production, with
memory links for sockets and one store for the disk that all its processes share. Everything is repeatable
from the seed. For tests and simulation.
"""

from __future__ import annotations

import random
from collections import Counter
from collections.abc import AsyncIterator, Mapping, Sequence
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import attrs
import httpx
import trio

from callrt.actors.desk import Desk
from callrt.actors.tool_runner import ToolPort
from callrt.journal import MemoryStore, Store
from callrt.policy import facts
from callrt.policy.facts import Fact
from callrt.policy.settings import AgentSettings, Resilience
from callrt.protocol.call_state import CallState
from callrt.service.metrics import Metrics
from callrt.telephony.urls import Urls
from callrt.testing.carrier import Carrier
from callrt.testing.model_server import EmulatedModel
from callrt.testing.network import Network
from callrt.testing.world_process import ACCOUNT, MODEL, TOKEN, Process, Surroundings
from callrt.wire.transport import Transport

__all__ = ["ACCOUNT", "EPOCH", "MODEL", "TOKEN", "World", "open_world"]

EPOCH = 1_800_000_000.0
"""Wall time at the clock's zero: some day in January 2027."""

SETTLE_SECONDS = 8.0
"""For calls that have ended to put their things away."""


@attrs.define(eq=False)
class World:
    """One service (a process at a time, or several), one carrier, one model. ``open_world`` makes and runs it."""

    agent: AgentSettings
    model: EmulatedModel
    resilience: Resilience
    seed: int
    disk: Store
    tools: Mapping[str, ToolPort]
    latency: float
    nursery: trio.Nursery
    recordings: Path = Path("recordings")
    """Only for agents that record; a test gives a folder of its own."""
    facts: list[Fact] = attrs.field(factory=list)
    reports: list[tuple[str, str, str]] = attrs.field(factory=list)
    """(call sid, level, sentence) of each line in the log."""
    handed_over: list[tuple[str, Mapping[str, Any]]] = attrs.field(factory=list)
    metrics: Metrics = attrs.field(factory=Metrics)
    urls: Urls = attrs.field(factory=lambda: Urls("https://calls.example.org"))
    processes: list[Process] = attrs.field(factory=list)
    network: Network = attrs.field(init=False)
    carrier: Carrier = attrs.field(init=False)

    def __attrs_post_init__(self) -> None:
        self.network = Network(self.rng("network"))
        self.carrier = Carrier(
            self.urls.voice,
            self._request,
            self._connect_media,
            account_sid=ACCOUNT,
            auth_token=TOKEN,
            seed=self.seed,
            keep_time=self.network.keep_time,
        )

    # -- processes ----------------------------------------------------------------------------------------

    async def boot(self) -> Process:
        """Start a process on the shared disk. The carrier's requests go to the newest."""
        around = Surroundings(
            disk=self.disk,
            model=self.model,
            agent=self.agent,
            resilience=self.resilience,
            tools=self.tools,
            urls=self.urls,
            latency=self.latency,
            network=self.network,
            now=self.now,
            rng=self.rng,
            observe=self.observe,
            report=lambda sid, level, sentence: self.reports.append((sid, level, sentence)),
            handover=self,
            recordings=self.recordings,
            rest=self._rest_request,
        )
        process = Process(around, len(self.processes) + 1)
        await self.nursery.start(process.run)
        self.processes.append(process)
        return process

    @property
    def process(self) -> Process:
        """The newest."""
        return self.processes[-1]

    @property
    def desk(self) -> Desk:
        return self.process.desk

    # -- time, chance, facts ----------------------------------------------------------------------------

    def now(self) -> float:
        """Wall time: for records, not for decisions."""
        return EPOCH + trio.current_time()

    def rng(self, purpose: str) -> random.Random:
        return random.Random(f"{self.seed}/{purpose}")

    def observe(self, fact: Fact) -> None:
        self.facts.append(fact)
        self.metrics.observe(fact)

    def of(self, kind: type) -> list[Any]:
        """The facts of one kind, in order."""
        return [fact for fact in self.facts if isinstance(fact, kind)]

    def bad_input(self) -> Counter[str]:
        return Counter(fact.reason for fact in self.of(facts.BadInput))

    async def state(self, call_sid: str) -> CallState | None:
        """The call as the journal has it."""
        return await self.process.journal.read(call_sid)

    # -- the network --------------------------------------------------------------------------------------

    async def _request(
        self, method: str, url: str, headers: Mapping[str, str], form: Mapping[str, str]
    ) -> tuple[int, Mapping[str, str], bytes]:
        await trio.sleep(self.latency)
        answer = await self.process.request(method, url, headers, form)
        await trio.sleep(self.latency)
        return answer

    @asynccontextmanager
    async def _connect_media(
        self, url: str, headers: Sequence[tuple[bytes, bytes]]
    ) -> AsyncIterator[Transport]:
        await trio.sleep(self.latency)
        async with self.process.open_media(url, headers) as transport:
            yield transport

    async def _rest_request(self, request: httpx.Request) -> httpx.Response:
        await trio.sleep(self.latency)
        form = dict(httpx.QueryParams((await request.aread()).decode()))
        authorization = request.headers.get("authorization")
        status, body = self.carrier.handle(request.method, request.url.path, form, authorization)
        return httpx.Response(status, json=body)

    async def post(self, address: str, payload: Mapping[str, Any]) -> None:
        """The webhook that gets the transcript."""
        await trio.lowlevel.checkpoint()
        self.handed_over.append((address, payload))


@asynccontextmanager
async def open_world(
    model: EmulatedModel,
    *,
    agent: AgentSettings | None = None,
    resilience: Resilience | None = None,
    tools: Mapping[str, ToolPort] | None = None,
    disk: Store | None = None,
    seed: int = 0,
    latency: float = 0.0,
    recordings: Path = Path("recordings"),
) -> AsyncIterator[World]:
    """A running world with one process. On leaving, calls that have ended may put their things away first."""
    async with trio.open_nursery() as nursery:
        world = World(
            agent or AgentSettings("front-desk", "main", "You answer the phone."),
            model,
            resilience or Resilience(),
            seed,
            disk or MemoryStore(),
            tools or {},
            latency,
            nursery,
            recordings=recordings,
        )
        nursery.start_soon(world.network.run)
        await world.boot()
        yield world
        with trio.move_on_after(SETTLE_SECONDS):
            while any(process.up and process.desk.live_calls for process in world.processes):
                await trio.sleep(0.05)
        nursery.cancel_scope.cancel()
