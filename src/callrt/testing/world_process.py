"""One process of the service in a world: everything that dies with it, and the way it dies.

The same parts as in production (webhooks, signatures, path tokens, desk, actors, journal), over memory links.
``kill`` is what kill -9 is: its sockets are reset, what was not committed is gone, and nothing it still does
reaches anybody.
"""

from __future__ import annotations

import random
from collections.abc import AsyncIterator, Callable, Coroutine, Mapping, Sequence
from contextlib import asynccontextmanager
from pathlib import Path
from urllib.parse import unquote, urlsplit

import attrs
import httpx
import trio

from callrt.actors.desk import AgentDesk, Desk
from callrt.actors.gate import AccountGate
from callrt.actors.ports import CallPlan, CallPorts, Handover
from callrt.actors.pulse import Pulse
from callrt.actors.tool_runner import InlineRunner, ToolPort
from callrt.comfort.library import ComfortLibrary
from callrt.journal import Hooks, Journal, MemoryStore
from callrt.journal.errors import StoreFailed
from callrt.journal.lease import Lease
from callrt.journal.store import Outcome, Peer, Reading, Store, Write
from callrt.policy import facts
from callrt.policy.facts import Fact
from callrt.policy.settings import AgentSettings, ModelSettings, Resilience, TwilioSettings
from callrt.protocol.models.openai_realtime import OpenAIRealtimeCodec, request_headers, request_url
from callrt.service.http import HttpRequest
from callrt.service.media import MediaDoor
from callrt.service.router import Router
from callrt.service.tokens import PathTokens
from callrt.service.webhooks import Webhooks
from callrt.service.wiring import Rest
from callrt.telephony.rest import TwilioRest
from callrt.telephony.urls import Urls
from callrt.testing.links import memory_link
from callrt.testing.model_server import EmulatedModel
from callrt.testing.network import Network
from callrt.wire.transport import Transport
from callrt.wire.websocket import ConnectFailed, UpgradeRefused

TOKEN = "0123456789abcdef0123456789abcdef"
ACCOUNT = "AC" + "0" * 31 + "1"

MODEL = ModelSettings(
    name="main",
    provider="openai-realtime",
    url="wss://model.example.org/v1/realtime",
    api_key="sk-test-key-of-the-world",
    model="gpt-realtime-2.1",
    voice="marin",
)


@attrs.define(eq=False)
class MortalStore:
    """A process's handle on the disk that all processes share. A dead process cannot write."""

    disk: Store
    dead: bool = False

    def commit(self, writes: Sequence[Write]) -> list[Outcome]:
        if self.dead:
            raise StoreFailed("the process is dead")
        return self.disk.commit(writes)

    def read_call(self, call_sid: str) -> Reading:
        return self.disk.read_call(call_sid)

    def read_leases(self, call_sids: Sequence[str]) -> dict[str, Lease]:
        return self.disk.read_leases(call_sids)

    def list_calls(self, *, limit: int, live_only: bool = False) -> list[str]:
        return self.disk.list_calls(limit=limit, live_only=live_only)

    def list_live(self, *, limit: int) -> list[tuple[str, int, float]]:
        return self.disk.list_live(limit=limit)

    def list_peers(self) -> list[Peer]:
        return self.disk.list_peers()

    def is_gone(self, process: str) -> bool:
        return self.disk.is_gone(process)

    def close(self) -> None:
        """The disk outlives its processes."""


@attrs.frozen
class Surroundings:
    """What a process is put into."""

    disk: Store
    model: EmulatedModel
    agent: AgentSettings
    resilience: Resilience
    tools: Mapping[str, ToolPort]
    urls: Urls
    latency: float
    network: Network
    now: Callable[[], float]
    rng: Callable[[str], random.Random]
    observe: Callable[[Fact], None]
    report: Callable[[str, str, str], None]
    handover: Handover
    recordings: Path
    rest: Callable[[httpx.Request], Coroutine[None, None, httpx.Response]]


@attrs.define(eq=False)
class Process:
    around: Surroundings
    number: int
    gate: AccountGate = attrs.field(factory=AccountGate)
    pulse: Pulse = attrs.field(factory=Pulse)
    store: MortalStore = attrs.field(init=False)
    journal: Journal = attrs.field(init=False)
    desk: Desk = attrs.field(init=False)
    router: Router = attrs.field(init=False)
    up: bool = False
    _door: MediaDoor = attrs.field(init=False)
    _rest: TwilioRest = attrs.field(init=False)
    _scope: trio.CancelScope = attrs.field(factory=trio.CancelScope)
    _sockets: trio.Nursery | None = None
    _open: dict[int, Transport] = attrs.field(factory=dict)
    _opened: int = 0

    def __attrs_post_init__(self) -> None:
        around = self.around
        self.store = MortalStore(around.disk)
        self.journal = Journal(
            self.store,
            now=around.now,
            threads=False,
            hooks=Hooks(on_lease_lost=self._lease_lost),
            process=f"process-{self.number}",
        )
        self._rest = TwilioRest(
            TwilioSettings(ACCOUNT, TOKEN),
            transport=httpx.MockTransport(around.rest),
            rng=around.rng(f"rest/{self.number}"),
        )
        self.desk = self._make_desk()
        tokens = PathTokens(TOKEN)
        self.router = Router(around.observe)
        webhooks = Webhooks(
            desk=self.desk,
            urls=around.urls,
            keys=(TOKEN,),
            verify=True,
            issue_token=tokens.issue,
            observe=around.observe,
        )
        for path, handler in webhooks.routes().items():
            self.router.post(path, handler)
        self._door = MediaDoor(
            desk=self.desk,
            urls=around.urls,
            tokens=tokens,
            keys=(TOKEN,),
            verify=True,
            observe=around.observe,
        )

    def _make_desk(self) -> Desk:
        around = self.around
        ports = CallPorts(
            connect_model=self._connect_model,
            model_codec=OpenAIRealtimeCodec,
            journal=self.journal,
            rest=Rest(self._rest, around.urls),
            handover=around.handover,
            comfort=lambda language: ComfortLibrary.load(None, language),
            observe=around.observe,
            now=around.now,
            rng=lambda purpose: around.rng(f"{self.number}/{purpose}"),
            gate=self.gate,
            pulse=self.pulse,
            recordings=around.recordings,
            report=around.report,
            runner=InlineRunner(),
        )
        plan = CallPlan(around.agent, MODEL, around.resilience)
        agents = {around.agent.name: AgentDesk(plan, around.tools)}
        return Desk(ports, agents, lambda called: around.agent.name)

    # -- life ---------------------------------------------------------------------------------------------

    async def run(self, *, task_status: trio.TaskStatus[None]) -> None:
        """Until killed, or cancelled: then it stops in order."""
        with self._scope:
            async with self._rest, trio.open_nursery() as nursery:
                self._sockets = nursery
                await nursery.start(self.journal.run)
                await nursery.start(self.desk.run)
                self.up = True
                task_status.started()
                await trio.sleep_forever()
        self.up = False

    def stop(self) -> None:
        """It ends in order: what it still has is let go of. No checkpoint."""
        self.up = False
        self._scope.cancel()

    def kill(self) -> None:
        """kill -9, at this instant. No checkpoint."""
        self.up = False
        self.store.dead = True
        if isinstance(self.around.disk, MemoryStore):
            self.around.disk.bury(self.journal.process)
        for transport in list(self._open.values()):
            transport.abort()
        self._open.clear()
        self._scope.cancel()

    # -- its sockets ----------------------------------------------------------------------------------------

    async def request(
        self, method: str, url: str, headers: Mapping[str, str], form: Mapping[str, str]
    ) -> tuple[int, Mapping[str, str], bytes]:
        """One webhook. Raises OSError when there is nobody, or nobody any more."""
        if not self.up:
            raise ConnectionRefusedError("the process is down")
        parts = urlsplit(url)
        body = str(httpx.QueryParams(dict(form))).encode()
        lower = {name.lower(): value for name, value in headers.items()}
        lower.setdefault("content-type", "application/x-www-form-urlencoded")
        target = parts.path + (f"?{parts.query}" if parts.query else "")
        request = HttpRequest(method, target, unquote(parts.path), parts.query, tuple(lower.items()), body)
        response = await self.router(request)
        if not self.up:
            raise ConnectionResetError("the process died")
        return response.status, {"content-type": response.content_type}, response.body

    @asynccontextmanager
    async def open_media(self, url: str, headers: Sequence[tuple[bytes, bytes]]) -> AsyncIterator[Transport]:
        """The carrier's end of a media socket."""
        if not self.up or self._sockets is None:
            raise ConnectFailed("network")
        claim = await self._door.claim(urlsplit(url).path, headers)
        if isinstance(claim, str):
            self.around.observe(facts.BadInput("upgrade", claim))
            raise UpgradeRefused(403, None)
        ours, theirs = memory_link(latency=self.around.latency, network=self.around.network)
        self._sockets.start_soon(self._attend, theirs, *claim)
        try:
            yield ours
        finally:
            ours.abort()

    async def _attend(self, transport: Transport, call_sid: str, generation: int) -> None:
        with self._mine(transport):
            visit = await self._door.attend(transport, call_sid, generation)
            if visit is not None:
                await visit.wait()

    @asynccontextmanager
    async def _connect_model(self, model: ModelSettings) -> AsyncIterator[Transport]:
        target, headers = request_url(model.url, model.model), request_headers(model.api_key)
        around = self.around
        async with around.model.open_link(
            target, headers, latency=around.latency, network=around.network
        ) as transport:
            with self._mine(transport):
                yield transport

    def _mine(self, transport: Transport) -> _Held:
        self._opened += 1
        return _Held(self._open, self._opened, transport)

    def _lease_lost(self, call_sid: str, epoch: int) -> None:
        self.desk.lease_lost(call_sid, epoch)


@attrs.frozen
class _Held:
    """A socket that is the process's while this block lasts."""

    table: dict[int, Transport]
    number: int
    transport: Transport

    def __enter__(self) -> None:
        self.table[self.number] = self.transport

    def __exit__(self, *details: object) -> None:
        self.table.pop(self.number, None)
