"""The service: journal, desk and two ports under one supervisor, from the first socket to the last call.

Order matters only at the ends. Sockets are opened before anything runs, so that a taken port is found at
once; calls are drained before anything stops. In between each part fails and restarts alone.
"""

from __future__ import annotations

import logging
import random
import secrets
import socket
import ssl
import time
from collections.abc import Callable, Mapping, Sequence
from typing import Any, Protocol

import attrs
import msgspec
import trio

from callrt.errors import CallrtError
from callrt.journal import Hooks, Journal, JournalReport, SqliteStore, Store, database_path
from callrt.policy import facts
from callrt.policy.settings import Settings
from callrt.service.desk import CallDesk
from callrt.service.health import Health
from callrt.service.http import HttpRequest, HttpResponse
from callrt.service.listener import Port
from callrt.service.loading import certificates
from callrt.service.log import report_fields
from callrt.service.media import MediaDoor
from callrt.service.metrics import CONTENT_TYPE, Metrics, sample_loop_lag
from callrt.service.router import Router
from callrt.service.sockets import Door, open_listeners
from callrt.service.tokens import PathTokens
from callrt.service.webhooks import Webhooks
from callrt.service.workers.colleagues import Colleagues
from callrt.service.workers.messages import Declining, Tell, Told
from callrt.service.workers.totals import families_of
from callrt.supervision import (
    ChildSpec,
    Escalation,
    Report,
    Restarting,
    StartFailed,
    StartFailure,
    Supervisor,
    Unresponsive,
)
from callrt.telephony.handover import TranscriptPost
from callrt.telephony.rest import TwilioRest
from callrt.telephony.urls import Urls

log = logging.getLogger("callrt.service")

ROOT = "callrt"

STEP_BACK_SECONDS = 1.0

MAKE_WAY_SECONDS = 0.05

LAST_ANSWERS_SECONDS = 0.25
"""After the last call has ended, the answer to the carrier's last question is still on its way out."""


class ServiceDesk(CallDesk, Protocol):
    """A desk with a life: see ``callrt.actors.desk.Desk``."""

    @property
    def live_calls(self) -> int: ...

    async def run(self, ctx: Any = None, *, task_status: trio.TaskStatus[Any]) -> None:
        """Start function of a supervised child. If cancelled: calls are released, not ended."""
        ...

    def refuse(self, why: str) -> None:
        """Decline new calls from now on. No checkpoint."""
        ...

    async def step_back(self) -> None:
        """Say to all who share the journal that this process takes no more calls, and look who else does."""
        ...

    @property
    def handing_over(self) -> bool:
        """It drains, and another process on the same journal takes calls."""
        ...

    async def drain(self, seconds: float) -> None:
        """Let live calls end by themselves for so long, then end them politely; return when none is left."""
        ...


@attrs.frozen
class Parts:
    """What a desk is made of."""

    settings: Settings
    urls: Urls
    journal: Journal
    rest: TwilioRest
    transcripts: TranscriptPost
    """Posts the transcript to ``transfer_webhook``."""
    ssl_context: ssl.SSLContext
    """For model sockets; made once, because making one blocks the event loop."""
    observe: Callable[[facts.Fact], None]
    now: Callable[[], float]
    """Wall time, unix seconds: for records, never for decisions."""
    rng: Callable[[str], random.Random]
    """A stream of chance per purpose."""
    reports: Callable[[object], None]
    """A hook for supervision's reports: writes them to the log."""
    lease_lost: list[Callable[[str, int], None]]
    """Whoever wants to hear that another process has taken a call (call sid, our epoch) adds itself."""


class Service:
    """One process's service. :meth:`run` once; :meth:`stop` or :meth:`drain` end it."""

    def __init__(
        self,
        settings: Settings,
        make_desk: Callable[[Parts], ServiceDesk],
        *,
        store: Store | None = None,
        now: Callable[[], float] = time.time,
        seed: int | None = None,
        ssl_context: ssl.SSLContext | None = None,
        inherited: Mapping[str, Sequence[socket.socket]] | None = None,
        colleagues: Colleagues | None = None,
    ) -> None:
        """``inherited``: listening sockets by port, from the process manager; the others are opened.
        ``colleagues``: this is one of several workers; their parent has the admin port."""
        self.settings = settings
        self._inherited = inherited or {}
        self._colleagues = colleagues
        self._doors: dict[str, Door] = {}
        self.metrics = Metrics()
        self.urls = Urls(settings.server.reached_on(settings.server.port))
        self._seed = secrets.randbits(64) if seed is None else seed
        self._lease_lost: list[Callable[[str, int], None]] = []
        self._journal_dropped = 0
        self.journal = Journal(
            store or SqliteStore(database_path(settings.journal_url, settings.folder)),
            now=now,
            process=f"{self._rng('process').getrandbits(48):012x}",
            hooks=Hooks(
                on_commit=self._on_commit, on_report=self._on_journal, on_lease_lost=self._on_lease_lost
            ),
        )
        ssl_context = ssl_context or certificates()
        self.rest = TwilioRest(settings.twilio, rng=self._rng("rest"), ssl_context=ssl_context)
        self.transcripts = TranscriptPost(rng=self._rng("transcripts"), ssl_context=ssl_context)
        self.desk = make_desk(
            Parts(
                settings=settings,
                urls=self.urls,
                journal=self.journal,
                rest=self.rest,
                transcripts=self.transcripts,
                ssl_context=ssl_context,
                observe=self._observe_call,
                now=now,
                rng=self._rng,
                reports=self._on_report,
                lease_lost=self._lease_lost,
            )
        )
        self.health = Health(self.journal)
        self._supervisor: Supervisor | None = None

    # -- life ---------------------------------------------------------------------------------------------

    async def run(self, *, task_status: trio.TaskStatus[str] = trio.TASK_STATUS_IGNORED) -> None:
        """Serve until stopped. ``started`` gives one line that says where it listens.

        Raises :class:`CallrtError` when a port cannot be opened or a part cannot be kept alive.
        If cancelled: all parts are stopped and the journal is closed; live calls are in it.
        """
        doors = self._doors = await self._open_doors()
        where = "listening on " + ", ".join(f"{door.shown} ({name})" for name, door in doors.items())
        parts = [
            ChildSpec("journal", self.journal.run),
            ChildSpec("desk", self.desk.run, kind="supervisor"),
            ChildSpec("lag", self._sample_lag),
            *(ChildSpec(name, door.run) for name, door in reversed(doors.items())),
        ]
        if self._colleagues is not None:
            parts.append(ChildSpec("colleagues", self._colleagues.run))
        supervisor = self._supervisor = Supervisor(
            parts,
            strategy="one_for_one",
            max_restarts=5,
            period=10.0,
            name=ROOT,
            rng=self._rng("supervision"),
            reports=self._on_report,
        )

        class Announce:
            """The root's own ack is the service's."""

            def started(self, value: object = None) -> None:
                task_status.started(where)

        try:
            async with self.rest, self.transcripts:
                await supervisor.run(task_status=Announce())
        except (Escalation, StartFailed) as error:
            raise CallrtError(f"the service cannot be kept alive: its part {error.id!r} failed") from error
        finally:
            with trio.CancelScope(deadline=trio.current_time() + 6, shield=True):
                for door in doors.values():
                    await door.aclose()
                await self.journal.aclose()

    async def step_back(self) -> None:
        """Say to others on the same journal that this process takes no more calls, and look who else does. Without a
        journal nobody is told. If cancelled: it may have been said."""
        with trio.move_on_after(STEP_BACK_SECONDS):
            await self.desk.step_back()

    async def drain(self, *, make_way: bool | None = None) -> None:
        """Decline new calls, let the live ones end, then stop. If cancelled: still declining.

        ``make_way``: whether others accept on our sockets; by default, whether these were inherited."""
        if make_way is None:
            make_way = any(door.is_shared for door in self._doors.values())
        log.info(
            "draining", extra={"calls": self.desk.live_calls, "seconds": self.settings.server.drain_seconds}
        )
        self.health.refusing = "draining"
        self.desk.refuse("draining")
        if self._colleagues is not None:
            self._colleagues.say(Declining())
        async with trio.open_nursery() as nursery:
            if make_way:
                nursery.start_soon(self._make_way)
            await self.desk.drain(self.settings.server.drain_seconds)
            nursery.cancel_scope.cancel()
        await trio.sleep(LAST_ANSWERS_SECONDS)
        self.stop()

    async def _make_way(self) -> None:
        """As soon as somebody else takes calls on the same sockets, whoever knocks is theirs."""
        while not self.desk.handing_over:
            await trio.sleep(MAKE_WAY_SECONDS)
        self.stop_accepting()
        log.info("another process takes over")

    def stop_accepting(self) -> None:
        """Leave what knocks from now on to those who share the sockets. No checkpoint."""
        for door in self._doors.values():
            if door.is_shared:
                door.stop_accepting()

    async def _open_doors(self) -> dict[str, Door]:
        server = self.settings.server
        doors = {"public": await self._door("public", self._public_port(), server.host, server.port)}
        self.urls.public_url = server.reached_on(doors["public"].number)
        if self._colleagues is None:
            try:
                door = await self._door("admin", self._admin_port(), server.admin_host, server.admin_port)
            except CallrtError:
                await doors["public"].aclose()
                raise
            doors["admin"] = door
        return doors

    async def _door(self, name: str, port: Port, host: str, number: int) -> Door:
        shared = self._inherited.get(name)
        if shared:
            return Door.of_shared(port, shared)
        return Door(port, await open_listeners(host, number))

    def stop(self) -> None:
        """Stop in order, now. Idempotent. No checkpoint."""
        if self._supervisor is not None:
            self._supervisor.stop()

    # -- parts --------------------------------------------------------------------------------------------

    def _public_port(self) -> Port:
        twilio = self.settings.twilio
        tokens = PathTokens(twilio.auth_token)
        observe = self.metrics.observe
        router = Router(observe, prefix=self.urls.path_prefix)
        webhooks = Webhooks(
            desk=self.desk,
            urls=self.urls,
            keys=(twilio.auth_token,),
            verify=twilio.verify_signatures,
            issue_token=tokens.issue,
            observe=observe,
            elsewhere=self._colleagues,
        )
        for path, handler in webhooks.routes().items():
            router.post(path, handler)
        self._health_routes(router)
        door = MediaDoor(
            desk=self.desk,
            urls=self.urls,
            tokens=tokens,
            keys=(twilio.auth_token,),
            verify=twilio.verify_signatures,
            observe=observe,
            elsewhere=self._colleagues,
        )
        port = Port(
            "public",
            router,
            observe=observe,
            media=door.serve,
            prefix=self.urls.path_prefix,
            keep_alive=self._colleagues is None,
        )
        if self._colleagues is not None:
            self._colleagues.answer = webhooks.answer
            self._colleagues.adopt = port.handle_media(door.serve_here)
            self._colleagues.tell = self._tell
        return port

    def _admin_port(self) -> Port:
        router = Router(self.metrics.observe)
        router.get("/metrics", self._metrics)
        router.get("/calls", self._calls)
        self._health_routes(router)
        return Port("admin", router, observe=self.metrics.observe)

    def _health_routes(self, router: Router) -> None:
        router.get("/healthz", self.health.healthz)
        router.get("/readyz", self.health.readyz)

    async def _metrics(self, _request: HttpRequest) -> HttpResponse:
        self._count_dropped()
        return HttpResponse(200, self.metrics.exposition(), CONTENT_TYPE)

    def _count_dropped(self) -> None:
        dropped = self.journal.statistics().dropped
        if dropped > self._journal_dropped:
            self.metrics.observe(facts.JournalDropped(dropped - self._journal_dropped))
            self._journal_dropped = dropped

    async def _calls(self, _request: HttpRequest) -> HttpResponse:
        calls: list[Mapping[str, Any]] = list(self.desk.snapshot())
        return HttpResponse(200, msgspec.json.encode({"calls": calls}) + b"\n", "application/json")

    async def _tell(self, tell: Tell) -> Told:
        """What the parent wants to know, for all workers together."""
        match tell.what:
            case "metrics":
                self._count_dropped()
                return Told(tell.id, families_of(self.metrics.registry))
            case "calls":
                return Told(tell.id, calls=tuple(self.desk.snapshot()))
            case "readiness":
                return Told(tell.id, not_ready=await self.health.why_not_ready())

    async def _sample_lag(self, ctx: Any = None, *, task_status: trio.TaskStatus[None]) -> None:
        await sample_loop_lag(self.metrics, task_status=task_status)

    def _rng(self, purpose: str) -> random.Random:
        return random.Random(f"{self._seed}/{purpose}")

    def _observe_call(self, fact: facts.Fact) -> None:
        self.metrics.observe(fact)
        if self._colleagues is not None:
            self._colleagues.observe(fact)

    # -- hooks --------------------------------------------------------------------------------------------

    def _on_commit(self, seconds: float, entries: int) -> None:
        self.metrics.observe(facts.JournalCommitted(seconds, entries))

    def _on_journal(self, report: JournalReport) -> None:
        log.warning("journal report", extra=report_fields(report))

    def _on_lease_lost(self, call_sid: str, epoch: int) -> None:
        for tell in self._lease_lost:
            tell(call_sid, epoch)

    def _on_report(self, report: object) -> None:
        """Supervision's reports to the log; restarts of the service's own parts also to the metrics.

        The reason is written by its type: a message may quote somebody.
        """
        if not isinstance(report, Restarting | StartFailure | Unresponsive):
            return
        reason = report.reason.type.rpartition(".")[2] or report.reason.kind
        log.warning(
            type(report).__name__.lower(),
            extra={"actor": report.where, "reason": reason, "incarnation": report.incarnation},
        )
        if isinstance(report, Restarting) and _is_ours(report):
            self.metrics.observe(facts.ActorRestarted(str(report.id), reason))


def _is_ours(report: Report) -> bool:
    """Calls count their own restarts."""
    return report.path == (ROOT,)
