"""The stage: the real server in its own process, the emulated model, carrier and REST interface in ours, one call."""

from __future__ import annotations

import json
import time
from collections import Counter
from collections.abc import Callable, Mapping
from functools import partial
from pathlib import Path
from typing import Any

import attrs
import httpx
import trio

from callrt.comfort.library import ComfortLibrary
from callrt.errors import CallrtError
from callrt.journal import SqliteStore, StoreFailed
from callrt.protocol.call import fold
from callrt.telephony.urls import VOICE
from callrt.testing.carrier import Alert, Carrier, Habits, PhoneCall, WebhookRecord, WireEvent
from callrt.testing.carrier_net import open_carrier, serve_rest
from callrt.testing.carrier_tape import HeardFrame
from callrt.testing.demo.cast import Cast, Said, Tell
from callrt.testing.demo.checks import first_audible
from callrt.testing.demo.hearing import Spoken
from callrt.testing.demo.plot import AGENT_VOICE, Plot, say_as_caller
from callrt.testing.demo.server import ACCOUNT_SID, API_KEY, AUTH_TOKEN, MODEL, Server
from callrt.testing.demo.show import Picture, Show
from callrt.testing.demo.waits import Waits
from callrt.testing.model_core import ModelOptions
from callrt.testing.model_faults import FaultPlan
from callrt.testing.model_server import PATH, EmulatedModel
from callrt.testing.speech import synthesize

CALL_SECONDS_MAX = 110.0
SETTLE_SECONDS = 8.0
"""For the server to put away what was the call's."""
PICTURE_SECONDS = 0.2
QUIET_SECONDS = 0.4
"""Of silence: the agent has paused."""

HABITS = Habits(webhook_attempts=40, webhook_retry_seconds=0.3)
"""Asks for a document again until its 15 s are over: what a load balancer in front of two processes does for a
carrier that itself asks twice."""

OPTIONS = ModelOptions(transcription_seconds=0.2)
"""The caller's words are written down before the answer begins: a session that dies in its answer takes a
transcript that was still to come along, and nobody else has it."""


@attrs.frozen
class Performance:
    """All that was seen, heard and told from outside. Times on the Trio clock."""

    plot: Plot
    call_sid: str
    began: float
    unix: float
    """Add to a Trio time for unix seconds."""
    seconds: float
    heard: tuple[HeardFrame, ...]
    caller_audio: bytes
    heard_audio: bytes
    said: tuple[Said, ...]
    spoken: tuple[Spoken, ...]
    wire: tuple[WireEvent, ...]
    alerts: tuple[Alert, ...]
    refused: tuple[str, ...]
    """Codes of what the model refused."""
    speech_started: tuple[float, ...]
    model_losses: tuple[float, ...]
    stream_losses: tuple[float, ...]
    kills: tuple[float, ...]
    revivals: tuple[float, ...]
    comfort: bytes
    show: Mapping[str, Any]
    shown: str
    """The same as text, as the command printed it."""
    effects: tuple[str, ...]
    live: float | None
    idle_files: int | None
    files: int | None
    log: str
    secrets: Mapping[str, str]
    missed: tuple[str, ...]
    exit_status: int
    waits: Waits
    write_wav: Callable[[Path], None] = attrs.field(repr=False)


async def perform(plot: Plot, folder: Path, show: Show) -> Performance:
    """One call from the first ring to an idle server again. Raises CallrtError.

    If cancelled: the server is killed.
    """
    server = Server(folder, plot.hung_tool)
    model = EmulatedModel(
        plot.brain(),
        AGENT_VOICE,
        OPTIONS,
        plan=FaultPlan(plot.model_faults),
        api_key=API_KEY,
        models=frozenset({MODEL}),
        seed=plot.seed,
    )
    began = trio.current_time()

    def tell(kind: str, text: str) -> None:
        show.note(trio.current_time() - began, kind, text)

    comfort = ComfortLibrary.load()["one_moment"]
    waits = Waits()
    cast = Cast(plot, model, server, tell, first_audible(comfort)[1])
    await _rehearse(plot)
    async with trio.open_nursery() as nursery:
        model_port = await _open(nursery, model.listen, "model")
        try:
            async with open_carrier(
                "", auth_token=AUTH_TOKEN, account_sid=ACCOUNT_SID, speak=_say, seed=f"demo/{plot.seed}"
            ) as carrier:
                rest_port = await _open(nursery, partial(serve_rest, carrier), "carrier's REST interface")
                call = await _start(cast, carrier, model_port, rest_port)
                call.on_event = partial(_describe, tell, call)
                tell("note", f"callrt serve listens, process {server.process.pid if server.process else '?'}")
                async with trio.open_nursery() as audience:
                    audience.start_soon(partial(_watch, cast, call, show, began))
                    audience.start_soon(waits.run, server.pids)
                    with trio.move_on_after(CALL_SECONDS_MAX):
                        await call.run()
                    audience.cancel_scope.cancel()
            cast.catch_up()
            cast.before_words()
            tell("end", call.end_reason.replace("_", " "))
            return await _gather(cast, call, comfort, waits)
        finally:
            with trio.CancelScope(shield=True):
                await server.kill()
            nursery.cancel_scope.cancel()


async def _rehearse(plot: Plot) -> None:
    """Every line is synthesised before the call: no voice may be late because it is being made."""
    for exchange in plot.exchanges:
        await trio.to_thread.run_sync(say_as_caller, exchange.caller)
        for text in (exchange.answer, exchange.sorry):
            if text:
                await trio.to_thread.run_sync(AGENT_VOICE, text)


async def _open(nursery: trio.Nursery, listen: Any, what: str) -> int:
    try:
        port: int = await nursery.start(listen)
    except OSError as error:
        raise CallrtError(f"The emulated {what} cannot listen on 127.0.0.1: {error.strerror}") from error
    return port


async def _start(cast: Cast, carrier: Carrier, model_port: int, rest_port: int) -> PhoneCall:
    server = cast.server
    call = carrier.place(cast.play, habits=HABITS)
    cast.call = call
    server.prepare(call.call_sid, f"http://127.0.0.1:{rest_port}", f"ws://127.0.0.1:{model_port}{PATH}")
    await server.start()
    url = f"http://127.0.0.1:{server.port}{VOICE}"
    carrier.voice_url = url
    call.plan = attrs.evolve(call.plan, voice_url=url)
    return call


def _say(text: str, language: str) -> bytes:
    """The carrier's own voice."""
    return synthesize(text)


# -- the audience -------------------------------------------------------------------------------------------


async def _watch(cast: Cast, call: PhoneCall, show: Show, began: float) -> None:
    """Captions, faults as they strike, and the picture of the tree."""
    captions = _Captions(cast)
    cast.before_words = captions.flush
    model = _ModelNews(cast)
    async with httpx.AsyncClient(timeout=1.0, trust_env=False) as client, trio.open_nursery() as nursery:
        state = _State()
        nursery.start_soon(_look, cast, call.call_sid, client, state)
        while True:
            await trio.sleep(PICTURE_SECONDS)
            cast.catch_up()
            captions.follow()
            model.follow()
            show.picture(
                Picture(
                    trio.current_time() - began,
                    state.call,
                    state.restarts,
                    cast.server.processes,
                    len(cast.kills) == len(cast.revivals),
                    cast.speaking,
                    captions.now,
                    trio.current_time() - call.line.agent_ended_at < QUIET_SECONDS,
                )
            )


@attrs.define
class _State:
    call: Mapping[str, Any] | None = None
    restarts: Mapping[str, int] = attrs.field(factory=dict)


async def _look(cast: Cast, call_sid: str, client: httpx.AsyncClient, state: _State) -> None:
    store = SqliteStore(cast.server.folder / "callrt.db")

    def read() -> Mapping[str, int]:
        try:
            call = fold(store.read_call(call_sid).entries)
        except StoreFailed:
            return {}  # being written for the first time, or by a process that has just died
        return Counter(restart.actor for restart in call.restarts)

    while True:
        answer = await cast.server.ask("/calls", client)
        calls = answer.json()["calls"] if answer is not None and answer.status_code == 200 else []
        state.call = next((call for call in calls if call["call_sid"] == call_sid), None)
        state.restarts = await trio.to_thread.run_sync(read) or state.restarts
        await trio.sleep(2 * PICTURE_SECONDS)


@attrs.define
class _Captions:
    """Tells each of the agent's lines once, when it is over."""

    cast: Cast
    now: str = ""
    _item: int = -1
    _told: str = ""

    def follow(self) -> None:
        item, words = self.cast.caption()
        call = self.cast.call
        quiet = call is not None and trio.current_time() - call.line.agent_ended_at > QUIET_SECONDS
        if item != self._item and self._item >= 0:
            self._tell()
        self._item, self.now = item, words
        if quiet:
            self._tell()

    def flush(self) -> None:
        """Tell what there is now."""
        self.follow()
        self._tell()

    def _tell(self) -> None:
        rest = self.now.removeprefix(self._told).strip() if self.now.startswith(self._told) else self.now
        if rest:
            self.cast.tell("agent", rest)
        self._told = self.now


@attrs.define
class _ModelNews:
    """Faults, sessions and tool calls at the model's end."""

    cast: Cast
    _fired: int = 0
    _sessions: int = 0
    _items: dict[str, None] = attrs.field(factory=dict)

    def follow(self) -> None:
        model, tell = self.cast.model, self.cast.tell
        for event in model.plan.fired[self._fired :]:
            tell("fault", _name_fault(event.fault.kind, event.fault.code, event.fault.status))
        self._fired = len(model.plan.fired)
        for session in model.sessions[self._sessions :]:
            tell(
                "recovered" if self._sessions else "model",
                f"a model session begins, connection {session.connection}",
            )
            # What it is told of the past is no news.
            self._items |= {item.id: None for item in session.conversation.items}
        self._sessions = len(model.sessions)
        for item in model.sessions[-1].conversation.items if model.sessions else ():
            if item.kind == "message" or item.id in self._items or item.status == "in_progress":
                continue
            self._items[item.id] = None
            if item.kind == "function_call":
                tell("tool", f"{item.name} {item.arguments}")
            else:
                tell("tool", f"→ {item.output[:100]}")


def _name_fault(kind: str, code: int, status: int) -> str:
    match kind:
        case "close":
            return f"the model closes its session in mid-sentence ({code})"
        case "refuse":
            return f"the model refuses a new session ({status})"
    return f"the model: {kind}"


def _describe(tell: Tell, call: PhoneCall, event: WireEvent | Alert | WebhookRecord) -> None:
    match event:
        case WireEvent(kind="start"):
            tell("stream", f"media stream {event.stream} begins")
        case WireEvent(kind="ended", stream=number):
            reset = any(s.media.number == number and s.ending == "rst" for s in call.streams)
            if reset:
                tell("fault", "the carrier's stream is reset in mid-speech")
            else:
                tell("stream", f"media stream {number} is over")
        case WireEvent(kind="clear"):
            tell("stream", f"clear: {event.size // 8} ms that the caller has not heard are thrown away")
        case WebhookRecord(kind="action", status=200):
            tell("stream", "the carrier asks what comes next, and is told")
        case Alert(code=31950 | 31951):
            tell("fault", f"the carrier refuses a message: {event.text}")
        case _:
            pass


# -- afterwards ---------------------------------------------------------------------------------------------


async def _gather(cast: Cast, call: PhoneCall, comfort: bytes, waits: Waits) -> Performance:
    server, model = cast.server, cast.model
    live, files = await _settled(server)
    shown = await server.show_call(call.call_sid)
    idle = server.idle_files
    status = await server.stop()
    sessions = model.sessions
    said = [(s.at, s.event["type"]) for session in sessions for s in session.said]
    return Performance(
        plot=cast.plot,
        call_sid=call.call_sid,
        began=call.tape.started_at,
        unix=time.time() - trio.current_time(),
        seconds=call.tape.seconds,
        heard=tuple(call.tape.heard),
        caller_audio=call.tape.said_audio(),
        heard_audio=call.tape.heard_audio(),
        said=tuple(cast.said),
        spoken=tuple(cast.spoken()),
        wire=tuple(call.wire),
        alerts=tuple(call.alerts),
        refused=tuple(str(code) for session in sessions for _, code, _ in session.refused),
        speech_started=tuple(at for at, kind in said if kind == "input_audio_buffer.speech_started"),
        model_losses=tuple(f.at for f in model.plan.fired if f.fault.kind == "close"),
        stream_losses=tuple(_ended_at(call, s.media.number) for s in call.streams if s.ending == "rst"),
        kills=tuple(cast.kills),
        revivals=tuple(cast.revivals),
        comfort=comfort,
        show=json.loads(shown),
        shown=shown,
        effects=tuple(server.effects),
        live=live,
        idle_files=idle,
        files=files,
        log=server.log,
        secrets={
            "the model's key": API_KEY,
            "the carrier's token": AUTH_TOKEN,
            "the caller's number": call.from_number.removeprefix("+"),
        },
        missed=tuple(cast.missed),
        exit_status=status,
        waits=waits,
        write_wav=call.tape.write_wav,
    )


def _ended_at(call: PhoneCall, stream: int) -> float:
    return next(event.at for event in call.wire if event.kind == "ended" and event.stream == stream)


async def _settled(server: Server) -> tuple[float | None, int | None]:
    """Live calls and descriptors of the server once both are as in an idle one, or when patience ends.

    Descriptors are counted before each question: the question has one of its own.
    """
    deadline = trio.current_time() + SETTLE_SECONDS
    async with httpx.AsyncClient(timeout=5.0, trust_env=False) as client:
        while True:
            await trio.sleep(0.2)
            files = server.files()
            live = await server.live_calls(client)
            is_idle = files is None or server.idle_files is None or files <= server.idle_files
            if (live == 0 and is_idle) or trio.current_time() > deadline:
                return live, files
