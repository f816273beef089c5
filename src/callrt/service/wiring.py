"""How the desk is built from a service's parts: the one place where all layers meet."""

from __future__ import annotations

import logging
import ssl
from collections.abc import Mapping
from contextlib import AbstractAsyncContextManager

import attrs

from callrt.actors import tool_exit
from callrt.actors.desk import AgentDesk, Desk
from callrt.actors.gate import AccountGate
from callrt.actors.ports import CallPlan, CallPorts
from callrt.actors.pulse import Pulse
from callrt.agents import load_tools
from callrt.comfort.library import ComfortLibrary
from callrt.policy import limits
from callrt.policy.settings import ModelSettings, Settings
from callrt.protocol.models.openai_realtime import OpenAIRealtimeCodec, request_headers, request_url
from callrt.service.service import Parts
from callrt.telephony.rest import TwilioError, TwilioRest
from callrt.telephony.urls import Urls
from callrt.wire.limits import CLIENT_LIMITS, SocketLimits
from callrt.wire.transport import Transport
from callrt.wire.websocket import open_client

log = logging.getLogger("callrt.call")

DAY_SECONDS = 86_400.0
RECORDINGS = "recordings"
"""Beside the configuration file."""

MODEL_LIMITS: SocketLimits = attrs.evolve(
    CLIENT_LIMITS,
    open_timeout=limits.MODEL_CONNECT_SECONDS,
    message_bytes=limits.MODEL_MESSAGE_BYTES,
    backlog_bytes=limits.MODEL_BACKLOG_BYTES,
)


@attrs.frozen
class ModelDialler:
    """Opens authorised sockets to models; the session on one is the call's own."""

    ssl_context: ssl.SSLContext
    """One for all: making one takes a whole frame's time."""

    def connect(self, model: ModelSettings) -> AbstractAsyncContextManager[Transport]:
        return open_client(
            request_url(model.url, model.model),
            request_headers(model.api_key),
            ssl_context=self.ssl_context,
            limits=MODEL_LIMITS,
        )


@attrs.frozen
class Rest:
    """The carrier's REST interface as calls use it."""

    rest: TwilioRest
    urls: Urls

    async def hang_up(self, call_sid: str) -> None:
        await self.rest.hang_up(call_sid)

    async def ask_again(self, call_sid: str) -> None:
        await self.rest.update_call(call_sid, url=self.urls.action)

    async def how_it_ended(self, call_sid: str) -> str | None:
        try:
            call = await self.rest.fetch_call(call_sid)
        except TwilioError as error:
            if error.already_over:
                return "carrier_lost"
            raise
        if not call.is_over:
            return None
        return "caller_hung_up" if call.status == "completed" else "carrier_lost"

    async def send_sms(self, *, to: str, sender: str, body: str) -> None:
        await self.rest.send_sms(to, sender, body)


def report_call(call_sid: str, level: str, sentence: str) -> None:
    """One line in the log about one call."""
    log.log(logging.getLevelNamesMapping()[level.upper()], sentence, extra={"call_sid": call_sid})


def plans(settings: Settings) -> Mapping[str, AgentDesk]:
    """Every agent with its model, its patience and its tools. Raises ``ToolError`` for a tool that is not there."""
    tool_exit.install()
    out: dict[str, AgentDesk] = {}
    for name, agent in settings.agents.items():
        tools = {tool.name: tool for tool in load_tools(agent.tools, settings.folder)}
        out[name] = AgentDesk(CallPlan(agent, settings.models[agent.model], settings.resilience), tools)
    return out


def route(settings: Settings, called: str) -> str:
    """The agent for a called number. Nobody is turned away: without a ``default``, the first agent of the file."""
    return settings.routes.get(called) or settings.routes.get("default") or next(iter(settings.agents))


def make_desk(parts: Parts) -> Desk:
    """The service's desk: real sockets, real files, the operator's settings."""
    settings = parts.settings
    libraries = {
        agent.language: ComfortLibrary.load(settings.comfort_folder, agent.language)
        for agent in settings.agents.values()
    }
    ports = CallPorts(
        connect_model=ModelDialler(parts.ssl_context).connect,
        model_codec=OpenAIRealtimeCodec,
        journal=parts.journal,
        rest=Rest(parts.rest, parts.urls),
        handover=parts.transcripts,
        comfort=lambda language: libraries[language],
        observe=parts.observe,
        now=parts.now,
        rng=parts.rng,
        gate=AccountGate(),
        pulse=Pulse(),
        recordings=settings.folder / RECORDINGS,
        report=report_call,
    )
    desk = Desk(
        ports,
        plans(settings),
        lambda called: route(settings, called),
        keep_seconds=settings.journal_keep_days * DAY_SECONDS,
    )
    parts.lease_lost.append(desk.lease_lost)
    return desk
