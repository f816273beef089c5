"""A whole service and a whole carrier and model around it, in memory and in virtual time.

Nothing is mocked: the same webhooks, signatures, path tokens, codecs, desk, actors and journal as in
production, with memory links for sockets and a memory store for the disk. Everything is repeatable from the
seed. For tests and simulation.
"""

from __future__ import annotations

import random
from collections import Counter
from collections.abc import AsyncIterator, Callable, Mapping, Sequence
from contextlib import asynccontextmanager
from typing import Any
from urllib.parse import unquote, urlsplit

import attrs
import httpx
import trio

from callrt.actors.desk import AgentDesk, Desk
from callrt.actors.gate import AccountGate
from callrt.actors.ports import CallPlan, CallPorts
from callrt.actors.tool_runner import ToolPort
from callrt.comfort.library import ComfortLibrary
from callrt.journal import Hooks, Journal, MemoryStore, Store
from callrt.policy import facts
from callrt.policy.facts import Fact
from callrt.policy.settings import AgentSettings, ModelSettings, Resilience, TwilioSettings
from callrt.protocol.models.openai_realtime import OpenAIRealtimeCodec, request_headers, request_url
from callrt.service.http import HttpRequest
from callrt.service.media import MediaDoor
from callrt.service.metrics import Metrics
from callrt.service.router import Router
from callrt.service.tokens import PathTokens
from callrt.service.webhooks import Webhooks
from callrt.service.wiring import Rest
from callrt.telephony.rest import TwilioRest
from callrt.telephony.urls import Urls
from callrt.testing.carrier import Carrier
from callrt.testing.links import memory_link
from callrt.testing.model_server import EmulatedModel
from callrt.wire.transport import Transport
from callrt.wire.websocket import UpgradeRefused

TOKEN = "0123456789abcdef0123456789abcdef"
ACCOUNT = "AC" + "0" * 31 + "1"
EPOCH = 1_800_000_000.0
"""Wall time at the clock's zero: some day in January 2027."""


@attrs.define(eq=False)
class World:
    """One process of the service, one carrier, one model. ``open_world`` makes and runs it."""

    agent: AgentSettings
    model: EmulatedModel
    resilience: Resilience
    seed: int
    store: Store
    tools: Mapping[str, ToolPort]
    latency: float
    facts: list[Fact] = attrs.field(factory=list)
    reports: list[tuple[str, str, str]] = attrs.field(factory=list)
    handed_over: list[tuple[str, Mapping[str, Any]]] = attrs.field(factory=list)
    metrics: Metrics = attrs.field(factory=Metrics)
    gate: AccountGate = attrs.field(factory=AccountGate)
    urls: Urls = attrs.field(factory=lambda: Urls("https://calls.example.org"))
    carrier: Carrier = attrs.field(init=False)
    desk: Desk = attrs.field(init=False)
    journal: Journal = attrs.field(init=False)
    rest: TwilioRest = attrs.field(init=False)
    _nursery: trio.Nursery | None = None
    _router: Router = attrs.field(init=False)
    _door: MediaDoor = attrs.field(init=False)

    def __attrs_post_init__(self) -> None:
        self.carrier = Carrier(
            self.urls.voice,
            self._request,
            self._connect_media,
            account_sid=ACCOUNT,
            auth_token=TOKEN,
            seed=self.seed,
        )
        self.journal = Journal(
            self.store, now=self.now, threads=False, hooks=Hooks(on_lease_lost=self._lease_lost)
        )
        self.rest = TwilioRest(
            TwilioSettings(ACCOUNT, TOKEN),
            transport=httpx.MockTransport(self._rest_request),
            rng=self.rng("rest"),
        )
        ports = CallPorts(
            connect_model=self._connect_model,
            model_codec=OpenAIRealtimeCodec,
            journal=self.journal,
            rest=Rest(self.rest, self.urls),
            handover=self,
            comfort=lambda language: ComfortLibrary.load(None, language),
            observe=self.observe,
            now=self.now,
            rng=self.rng,
            gate=self.gate,
            report=lambda sid, level, sentence: self.reports.append((sid, level, sentence)),
        )
        plan = CallPlan(self.agent, MODEL, self.resilience)
        self.desk = Desk(
            ports, {self.agent.name: AgentDesk(plan, self.tools)}, lambda called: self.agent.name
        )
        tokens = PathTokens(TOKEN)
        self._router = Router(self.observe)
        webhooks = Webhooks(
            desk=self.desk,
            urls=self.urls,
            keys=(TOKEN,),
            verify=True,
            issue_token=tokens.issue,
            observe=self.observe,
        )
        for path, handler in webhooks.routes().items():
            self._router.post(path, handler)
        self._door = MediaDoor(
            desk=self.desk, urls=self.urls, tokens=tokens, keys=(TOKEN,), verify=True, observe=self.observe
        )

    # -- time, chance, facts ----------------------------------------------------------------------------

    def now(self) -> float:
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

    async def post(self, address: str, payload: Mapping[str, Any]) -> None:
        """The webhook that gets the transcript."""
        await trio.lowlevel.checkpoint()
        self.handed_over.append((address, payload))

    # -- the network --------------------------------------------------------------------------------------

    async def _request(
        self, method: str, url: str, headers: Mapping[str, str], form: Mapping[str, str]
    ) -> tuple[int, Mapping[str, str], bytes]:
        await trio.sleep(self.latency)
        parts = urlsplit(url)
        target = parts.path + (f"?{parts.query}" if parts.query else "")
        body = str(httpx.QueryParams(dict(form))).encode()
        lower = {name.lower(): value for name, value in headers.items()}
        lower.setdefault("content-type", "application/x-www-form-urlencoded")
        response = await self._router(make_request(method, target, lower, body))
        await trio.sleep(self.latency)
        return response.status, {"content-type": response.content_type}, response.body

    @asynccontextmanager
    async def _connect_media(
        self, url: str, headers: Sequence[tuple[bytes, bytes]]
    ) -> AsyncIterator[Transport]:
        await trio.sleep(self.latency)
        claim = self._door._claim(urlsplit(url).path, headers)
        if isinstance(claim, str):
            self.observe(facts.BadInput("upgrade", claim))
            raise UpgradeRefused(403, None)
        ours, theirs = memory_link(latency=self.latency)
        assert self._nursery is not None
        self._nursery.start_soon(self._attend, theirs, *claim)
        try:
            yield ours
        finally:
            ours.abort()

    async def _attend(self, transport: Transport, call_sid: str, generation: int) -> None:
        code, reason = await self._door._attend(transport, call_sid, generation)
        await transport.aclose(code, reason)

    @asynccontextmanager
    async def _connect_model(self, model: ModelSettings) -> AsyncIterator[Transport]:
        target = request_url(model.url, model.model)
        async with self.model.open_link(
            target,
            request_headers(model.api_key),
            latency=self.latency,
        ) as transport:
            yield transport

    async def _rest_request(self, request: httpx.Request) -> httpx.Response:
        await trio.sleep(self.latency)
        form = dict(httpx.QueryParams((await request.aread()).decode()))
        answer = self.carrier.handle(
            request.method, request.url.path, form, request.headers.get("authorization")
        )
        status, body = answer
        return httpx.Response(status, json=body)

    def _lease_lost(self, call_sid: str, epoch: int) -> None:
        self.desk.lease_lost(call_sid, epoch)

    # -- running ------------------------------------------------------------------------------------------

    async def state(self, call_sid: str) -> Any:
        """The call as the journal has it."""
        return await self.journal.read(call_sid)


MODEL = ModelSettings(
    name="main",
    provider="openai-realtime",
    url="wss://model.example.org/v1/realtime",
    api_key="sk-test-key-of-the-world",
    model="gpt-realtime-2.1",
    voice="marin",
)


@asynccontextmanager
async def open_world(
    model: EmulatedModel,
    *,
    agent: AgentSettings | None = None,
    resilience: Resilience | None = None,
    tools: Mapping[str, ToolPort] | None = None,
    store: Store | None = None,
    seed: int = 0,
    latency: float = 0.0,
    settle: Callable[[], float] = lambda: 8.0,
) -> AsyncIterator[World]:
    """A running world. On leaving, calls that have ended get ``settle`` seconds to put their things away."""
    world = World(
        agent or AgentSettings("front-desk", "main", "You answer the phone."),
        model,
        resilience or Resilience(),
        seed,
        store or MemoryStore(),
        tools or {},
        latency,
    )
    async with world.rest, trio.open_nursery() as nursery:
        world._nursery = nursery
        await nursery.start(world.journal.run)
        await nursery.start(world.desk.run)
        yield world
        with trio.move_on_after(settle()):
            while world.desk.live_calls:
                await trio.sleep(0.05)
        nursery.cancel_scope.cancel()


def make_request(method: str, target: str, headers: Mapping[str, str], body: bytes) -> HttpRequest:
    """A request as the HTTP server would hand it on."""
    path, _, query = target.partition("?")
    return HttpRequest(method, target, unquote(path), query, tuple(headers.items()), body)
