"""The emulated model service: sessions behind a socket, real or in memory.

:class:`EmulatedModel` is the account: it admits connections, counts them, and keeps every session for
checkers. :meth:`EmulatedModel.open_link` gives a client its end of a memory link;
:meth:`EmulatedModel.listen` opens a port. What the client meets is the same.
"""

from __future__ import annotations

import functools
import random
import time
from collections.abc import AsyncIterator, Callable, Sequence
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any
from urllib.parse import parse_qs, urlsplit

import attrs
import msgspec
import trio
from trio_websocket import WebSocketConnection, wrap_server_stream

from callrt.errors import CallrtError, ConfigError
from callrt.testing.links import CLOSE_SECONDS, MemoryTransport, memory_link
from callrt.testing.model_brain import Brain, EchoBrain
from callrt.testing.model_core import Abort, Close, DelayPongs, Freeze, ModelOptions, Out, Send
from callrt.testing.model_faults import Fault, FaultPlan
from callrt.testing.model_items import Voice
from callrt.testing.model_script import load_script
from callrt.testing.model_session import ModelSession
from callrt.testing.model_sockets import CuttableStream, SocketEnd
from callrt.testing.model_voice import BeepVoice, SpokenVoice
from callrt.testing.network import Network
from callrt.testing.speech import SpeechUnavailable, synthesize
from callrt.wire.connection import WebSocketTransport
from callrt.wire.limits import SocketLimits
from callrt.wire.streams import TappedStream
from callrt.wire.transport import Transport, TransportClosed, deliver
from callrt.wire.websocket import UpgradeRefused

PATH = "/v1/realtime"
BACKLOG_BYTES = 64_000_000
"""What the service holds for a client that does not read; beyond it the session waits."""
WAIT_SECONDS = 30.0
"""How long it waits; then the socket is reset."""

MODEL_LIMITS = SocketLimits(
    message_bytes=32 * 1024 * 1024, backlog_bytes=BACKLOG_BYTES, send_timeout=WAIT_SECONDS
)
"""An append may be 15 MiB, in base64 a third more."""

Headers = Sequence[tuple[bytes, bytes]]


@attrs.frozen
class Refusal:
    """The upgrade is answered with a status instead of 101."""

    status: int
    message: str
    retry_after: float | None = None


@attrs.frozen
class Admission:
    """The upgrade succeeds; whether a session comes of it, ``error`` says."""

    connection: int
    model: str
    error: dict[str, Any] | None = None
    close: Close = attrs.field(factory=lambda: Close(1000))


@attrs.define(eq=False)
class EmulatedModel:
    """An emulated OpenAI account. Sessions draw their randomness from ``seed`` and their number."""

    brain: Brain
    voice: Voice = attrs.field(factory=BeepVoice)
    options: ModelOptions = attrs.field(factory=ModelOptions)
    plan: FaultPlan = attrs.field(factory=FaultPlan)
    api_key: str | None = None
    """The one valid key; None: any."""
    models: frozenset[str] | None = None
    """The models this account may use; None: any."""
    seed: int = 0
    keep_sessions: int | None = None
    """How many past sessions to keep for checkers; None: all."""
    report: Callable[[int, str], None] = lambda connection, line: None
    """Told in one line what happens on connection n; never what anybody said."""

    connections: int = 0
    live: int = 0
    sessions: list[ModelSession] = attrs.field(factory=list)

    # -- the door -------------------------------------------------------------------------------------

    def admit(self, target: str, headers: Headers, at: float) -> Refusal | Admission:
        """Decide about one upgrade request, which counts as a connection."""
        self.connections += 1
        number = self.connections
        door = self.plan.due("door", number, at)
        for fault in door:
            if fault.kind == "refuse":
                return Refusal(fault.status, "The service does not take this connection.", fault.retry_after)
        parts = urlsplit(target)
        fields = {name.lower(): value.decode("latin-1") for name, value in headers}
        model = parse_qs(parts.query).get("model", [""])[0]
        scheme, _, key = fields.get(b"authorization", "").partition(" ")
        if parts.path != PATH:
            return Refusal(404, "There is nothing here: the address ends in /v1/realtime.")
        if scheme.lower() != "bearer" or not key:
            return Refusal(401, "Missing bearer authentication in header.")
        if not model:
            return Refusal(400, "You must provide a model parameter.")
        if self.models is not None and model not in self.models:
            return Refusal(403, f"This account has no access to the model {model}.")
        code, close = "", 3000
        if b"openai-beta" in fields:
            code, close = "beta_api_shape_disabled", 4000
        elif self.api_key is not None and key != self.api_key:
            code = "invalid_api_key"
        for fault in door:
            code, close = fault.error_code or "invalid_api_key", fault.code
        if not code:
            return Admission(number, model)
        error = {
            "type": "invalid_request_error",
            "code": code,
            "message": _DOOR_MESSAGES.get(code, code),
            "param": None,
            "event_id": None,
        }
        return Admission(number, model, error, Close(close, f"invalid_request_error.{code}"))

    # -- one connection -------------------------------------------------------------------------------

    async def serve(self, transport: Transport, admission: Admission) -> None:
        """Be the service on ``transport`` until either side ends it. If cancelled: the socket is reset."""
        self.live += 1
        try:
            if admission.error is not None:
                event = {"type": "error", "event_id": "event_door", "error": admission.error}
                transport.send_nowait(msgspec.json.encode(event).decode())
                await transport.aclose(admission.close.code, admission.close.reason)
                self.report(admission.connection, f"turned away: {admission.close.reason}")
                return
            session = ModelSession(
                self.brain,
                self.voice,
                self.options,
                self.plan,
                random.Random(f"{self.seed}:{admission.connection}"),
                admission.connection,
                admission.model,
            )
            self.sessions.append(session)
            if self.keep_sessions is not None:
                del self.sessions[: -self.keep_sessions]
            self.report(admission.connection, f"session for {admission.model}")
            await run_session(transport, session)
            self.report(admission.connection, f"over: {session.ended or session.lost}")
        except BaseException:
            transport.abort()
            raise
        finally:
            self.live -= 1

    async def _serve_and_tell(self, transport: Transport, admission: Admission, over: trio.Event) -> None:
        try:
            await self.serve(transport, admission)
        finally:
            over.set()

    # -- in memory ------------------------------------------------------------------------------------

    @asynccontextmanager
    async def open_link(
        self,
        url: str,
        headers: Headers = (),
        *,
        latency: float = 0.0,
        backlog_bytes: int = 1_000_000,
        network: Network | None = None,
    ) -> AsyncIterator[MemoryTransport]:
        """As ``callrt.wire.websocket.open_client``, over a memory link. Raises UpgradeRefused.

        Leaving the block closes the client's end.
        """
        parts = urlsplit(url)
        await trio.sleep(2 * latency)
        admission = self.admit(
            parts.path + (f"?{parts.query}" if parts.query else ""), headers, trio.current_time()
        )
        if isinstance(admission, Refusal):
            self.report(self.connections, f"refused: {admission.status}")
            raise UpgradeRefused(admission.status, admission.retry_after)
        client, service = memory_link(
            latency=latency, backlog_bytes=backlog_bytes, far_backlog_bytes=BACKLOG_BYTES, network=network
        )
        error: BaseException
        try:
            async with trio.open_nursery() as nursery:
                over = trio.Event()
                nursery.start_soon(self._serve_and_tell, service, admission, over)
                try:
                    yield client
                finally:
                    # A reset or half-open link keeps its user waiting for nobody, as with a real socket.
                    polite = not client.has_ended and not client.is_frozen
                    await client.aclose()
                    if polite:
                        with trio.move_on_after(CLOSE_SECONDS):
                            await over.wait()
                    nursery.cancel_scope.cancel()
        except BaseExceptionGroup as group:
            if len(group.exceptions) != 1:
                raise
            error = group.exceptions[0]
        else:
            return
        raise error

    # -- on a port ------------------------------------------------------------------------------------

    async def listen(
        self,
        port: int = 0,
        *,
        host: str = "127.0.0.1",
        task_status: trio.TaskStatus[int] = trio.TASK_STATUS_IGNORED,
    ) -> None:
        """Serve until cancelled; ``task_status`` gets the port. Raises OSError if it is taken."""
        if self.options.unix_start is None:
            self.options = attrs.evolve(self.options, unix_start=time.time() - trio.current_time())
        listeners = await trio.open_tcp_listeners(port, host=host)
        async with trio.open_nursery() as nursery:
            nursery.start_soon(_serve_listeners, self.serve_stream, listeners)
            task_status.started(listeners[0].socket.getsockname()[1])

    async def serve_stream(self, stream: trio.SocketStream) -> None:
        """One accepted TCP connection, from the upgrade on."""
        admitted: list[Admission] = []

        async def handshake(library: trio.Nursery, tap: TappedStream) -> WebSocketConnection | None:
            request = await wrap_server_stream(library, tap, max_message_size=MODEL_LIMITS.message_bytes)
            admission = self.admit(request.path, request.headers, trio.current_time())
            if isinstance(admission, Admission):
                admitted.append(admission)
                return await request.accept()
            extra = [(b"content-type", b"application/json"), (b"connection", b"close")]
            if admission.retry_after is not None:
                extra.append((b"retry-after", f"{admission.retry_after:g}".encode()))
            body = msgspec.json.encode(
                {"error": {"message": admission.message, "type": "invalid_request_error"}}
            )
            await request.reject(admission.status, extra_headers=extra, body=body)
            self.report(self.connections, f"refused: {admission.status}")
            return None

        cut = CuttableStream(stream)
        transport = WebSocketTransport(cut, MODEL_LIMITS)
        async with trio.open_nursery() as nursery:
            await nursery.start(transport.run, handshake)
            if transport.is_open:
                await self.serve(SocketEnd(transport, cut, stream), admitted[0])
            nursery.cancel_scope.cancel()


async def run_session(transport: Transport, session: ModelSession) -> None:
    """Drive ``session`` over ``transport`` until one of them ends. If cancelled: nothing is closed."""
    outs = session.start(trio.current_time())
    scope = trio.CancelScope()

    def look() -> None:
        scope.deadline = session.next_due()

    session.wake = look

    def take(message: str | bytes) -> bool:
        nonlocal outs
        outs = session.receive(message, trio.current_time())
        while outs and isinstance(outs[0], Send) and transport.send_nowait(outs[0].message):
            del outs[0]
        due = session.next_due()
        if due != scope.deadline:
            scope.deadline = due
        return not outs and not session.is_over

    try:
        while await _carry_out(transport, session, outs):
            outs = []
            with trio.CancelScope(deadline=session.next_due()) as scope:
                await deliver(transport, take)
            if not outs:
                outs = session.advance(trio.current_time())
    except TransportClosed as closed:
        session.hang_up(closed.code, closed.reason, trio.current_time())
    finally:
        if not session.is_over:
            session.hang_up(None, "cut off", trio.current_time())


async def _carry_out(transport: Transport, session: ModelSession, outs: list[Out]) -> bool:
    """False when the session is over."""
    for out in outs:
        match out:
            case Send(message):
                with trio.move_on_after(WAIT_SECONDS) as patience:
                    while not transport.send_nowait(message):
                        if _has_ended(transport):
                            break
                        await trio.sleep(0.02)
                if patience.cancelled_caught:
                    transport.abort()
                    session.hang_up(None, "the client does not read", trio.current_time())
                    return False
            case Close(code, reason):
                await transport.aclose(code, reason)
            case Abort():
                transport.abort()
            case Freeze():
                freeze = getattr(transport, "freeze", None)
                if freeze is not None:
                    freeze()
            case DelayPongs(seconds):
                if isinstance(transport, MemoryTransport):
                    transport.pong_delay = seconds
    return not session.is_over


def _has_ended(transport: Transport) -> bool:
    if isinstance(transport, MemoryTransport):
        return transport.has_ended or transport.peer_has_ended
    return not getattr(transport, "is_open", True)


def run(
    *,
    host: str = "127.0.0.1",
    port: int = 8765,
    script: Path | None = None,
    api_key: str | None = None,
    seed: int = 0,
    say: Callable[[str], None] = print,
) -> int:
    """A standing emulated model with a real voice, until Ctrl-C. Returns the exit status.

    ``script``: see :mod:`callrt.testing.model_script`; without one it tells callers how long they spoke.
    Raises CallrtError: the port is taken, the script is wrong, or there is no synthesiser.
    """
    voice = SpokenVoice()
    brain: Brain = EchoBrain()
    faults: Sequence[Fault] = ()
    try:
        voice("ready")  # a missing synthesiser is noticed now, not in the first call
        if script is not None:
            brain, faults = load_script(script, synthesize)
    except SpeechUnavailable as error:
        raise ConfigError(f"{error}.") from error
    model = EmulatedModel(
        brain,
        voice,
        plan=FaultPlan(faults),
        api_key=api_key,
        seed=seed,
        keep_sessions=16,
        report=lambda connection, line: say(f"connection {connection}: {line}"),
    )

    async def main() -> None:
        async with trio.open_nursery() as nursery:
            taken = await nursery.start(functools.partial(model.listen, port, host=host))
            say(f"emulated model on ws://{host}:{taken}{PATH}")

    try:
        trio.run(main)
    except* KeyboardInterrupt:
        say("stopped")
    except* OSError as group:
        raise CallrtError(f"The emulated model cannot listen on {host}:{port}: {_first(group)}.") from None
    return 0


def _first(group: BaseException) -> BaseException:
    while isinstance(group, BaseExceptionGroup):
        group = group.exceptions[0]
    return group


async def _serve_listeners(
    handler: Callable[[trio.SocketStream], Any], listeners: list[trio.SocketListener]
) -> None:
    await trio.serve_listeners(handler, listeners)


_DOOR_MESSAGES = {
    "invalid_api_key": "Incorrect API key provided.",
    "beta_api_shape_disabled": "The beta API shape is no longer available: remove the OpenAI-Beta header.",
}
