"""A bare client of the emulated model, and the vendor's own types as the judge of what it is told."""

from __future__ import annotations

import base64
import typing
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from typing import Any

import attrs
import msgspec
import trio
from openai.types import realtime
from pydantic import BaseModel

from callrt.testing.links import MemoryTransport
from callrt.testing.model_brain import Calling, ScriptBrain, Turn
from callrt.testing.model_core import ModelOptions
from callrt.testing.model_faults import Fault, FaultPlan
from callrt.testing.model_server import EmulatedModel
from callrt.testing.model_session import ModelSession
from callrt.testing.model_voice import BeepVoice
from callrt.testing.speech import beeps

URL = "ws://model.test/v1/realtime?model=gpt-realtime-2.1"
HEADERS = [(b"authorization", b"Bearer sk-test")]
FRAME = 160
SILENCE = b"\xff" * FRAME

GREETING = "Hello, this is the clinic. How can I help?"
SLOT = "You can come on Tuesday at three in the afternoon, does that suit you?"
BOOKED = "It is booked. See you on Tuesday."


def utterance(text: str) -> bytes:
    return beeps(text, seed=7)


def script() -> ScriptBrain:
    return ScriptBrain(
        [
            Turn("I need an appointment", utterance("I need an appointment"), SLOT),
            Turn(
                "Yes please book it for me",
                utterance("Yes please book it for me"),
                BOOKED,
                tool=Calling("book_appointment", '{"day": "tuesday", "hour": 15}'),
                before_tool="One second.",
            ),
            Turn("Tell me a lot", utterance("Tell me a lot"), ("First this.", "Then that and more.")),
        ]
    )


# -- the judge ----------------------------------------------------------------------------------------


def _classes(union: Any) -> dict[str, type[BaseModel]]:
    found = {}
    for each in typing.get_args(typing.get_args(union)[0]):
        (kind,) = typing.get_args(each.model_fields["type"].annotation)
        found[kind] = each
    return found


SERVER_EVENTS = _classes(realtime.RealtimeServerEvent)


def check_server_event(event: dict[str, Any]) -> None:
    """The vendor's class takes it, knows every key of it, and finds none missing."""
    model = SERVER_EVENTS[event["type"]].model_validate(event)
    _no_strays(model, event["type"])
    if event["type"].startswith("session."):
        _no_strays(
            realtime.realtime_session_create_response.RealtimeSessionCreateResponse.model_validate(
                event["session"]
            ),
            "session",
        )


def _no_strays(value: Any, path: str) -> None:
    if isinstance(value, BaseModel):
        # These two are part of the answer only; the vendor's request class is what the event's type names.
        allowed = {
            "session.created.session": {"id", "object", "expires_at"},
            "session.updated.session": {"id", "object", "expires_at"},
        }
        strays = set(value.model_extra or {}) - allowed.get(path, set())
        assert not strays, f"{path}: the vendor knows no {strays}"
        for name in value.model_fields_set:
            if name in type(value).model_fields:
                _no_strays(getattr(value, name), f"{path}.{name}")
    elif isinstance(value, (list, tuple)):
        for index, element in enumerate(value):
            _no_strays(element, f"{path}[{index}]")


# -- the client ---------------------------------------------------------------------------------------


@attrs.define(eq=False)
class Client:
    link: MemoryTransport
    session: ModelSession
    events: list[dict[str, Any]] = attrs.field(factory=list)
    times: list[float] = attrs.field(factory=list)
    judged: bool = True

    def send(self, kind: str, **body: Any) -> None:
        assert self.link.send_nowait(msgspec.json.encode({"type": kind, **body}).decode())

    async def next(self) -> dict[str, Any]:
        message = await self.link.receive()
        event: dict[str, Any] = msgspec.json.decode(message)
        if self.judged:
            check_server_event(event)
        self.events.append(event)
        self.times.append(trio.current_time())
        return event

    async def until(
        self, kind: str, where: Callable[[dict[str, Any]], bool] = lambda _: True
    ) -> dict[str, Any]:
        with trio.fail_after(120):
            while True:
                event = await self.next()
                if event["type"] == kind and where(event):
                    return event

    async def collect(self, seconds: float) -> list[dict[str, Any]]:
        start = len(self.events)
        with trio.move_on_after(seconds):
            while True:
                await self.next()
        return self.events[start:]

    async def configure(self, **session: Any) -> dict[str, Any]:
        base: dict[str, Any] = {
            "type": "realtime",
            "output_modalities": ["audio"],
            "instructions": "You answer the phone for a clinic.",
            "audio": {
                "input": {
                    "format": {"type": "audio/pcmu"},
                    "transcription": {"model": "gpt-transcribe"},
                    "turn_detection": {"type": "server_vad", "silence_duration_ms": 500},
                },
                "output": {"format": {"type": "audio/pcmu"}, "voice": "marin"},
            },
        }
        self.send("session.update", session={**base, **session})
        return (await self.until("session.updated"))["session"]

    async def say(self, audio: bytes, silence_ms: int = 700) -> None:
        """In real time, 20 ms at a time, with the silence that ends a turn."""
        frames = [audio[at : at + FRAME] for at in range(0, len(audio), FRAME)] + [SILENCE] * (
            silence_ms // 20
        )
        for frame in frames:
            self.append(frame)
            await trio.sleep(0.02)

    def append(self, audio: bytes) -> None:
        self.send("input_audio_buffer.append", audio=base64.b64encode(audio).decode())

    def of(self, kind: str) -> list[dict[str, Any]]:
        return [event for event in self.events if event["type"] == kind]

    def audio_of(self, item_id: str) -> bytes:
        deltas = (event for event in self.of("response.output_audio.delta") if event["item_id"] == item_id)
        return b"".join(base64.b64decode(event["delta"]) for event in deltas)


def emulated(*faults: Fault, options: ModelOptions | None = None, **more: Any) -> EmulatedModel:
    return EmulatedModel(
        more.pop("brain", None) or script(), BeepVoice(), options or ModelOptions(), FaultPlan(faults), **more
    )


@asynccontextmanager
async def opened(model: EmulatedModel | None = None, *, latency: float = 0.0) -> AsyncIterator[Client]:
    model = model or emulated()
    async with model.open_link(URL, HEADERS, latency=latency) as link:
        await trio.testing.wait_all_tasks_blocked()
        yield Client(link, model.sessions[-1])
