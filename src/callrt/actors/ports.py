"""What a call borrows from its service: everything that touches the world outside the call, as small seams.

Tests and simulation hand in others behind the same names.
"""

from __future__ import annotations

import random
from collections.abc import Callable, Mapping
from contextlib import AbstractAsyncContextManager
from pathlib import Path
from typing import Any, Protocol

import attrs

from callrt.actors.gate import AccountGate
from callrt.actors.log import JournalPort
from callrt.actors.pulse import Pulse
from callrt.actors.tool_runner import ThreadRunner, ToolRunner
from callrt.policy.facts import Fact
from callrt.policy.settings import AgentSettings, ModelSettings, Resilience
from callrt.protocol.carriers.events import CarrierCommand, CarrierEvent
from callrt.protocol.models.events import ModelCommand, ModelEvent
from callrt.wire.transport import Transport


class CarrierCodec(Protocol):
    def decode(self, message: str | bytes) -> CarrierEvent: ...

    def next_audio(self, text: bytes) -> bytes | None:
        """The audio of a text message that is the next frame and nothing unusual; None: ``decode`` is to tell.
        ``text``: UTF-8, if the peer is honest."""
        ...

    def encode(self, command: CarrierCommand) -> str: ...


class ModelCodec(Protocol):
    def decode(self, message: str | bytes) -> tuple[ModelEvent, ...]: ...

    def encode(self, command: ModelCommand, *, event_id: str | None = None) -> str: ...

    def encode_audio(self, audio: bytes) -> bytes:
        """``encode(AppendAudio(audio))`` in UTF-8, fifty times a second."""
        ...


class CarrierRest(Protocol):
    """What can be asked of the carrier outside the media socket. Every method raises on failure."""

    async def hang_up(self, call_sid: str) -> object: ...

    async def ask_again(self, call_sid: str) -> object:
        """Make the carrier request its action address for this live call."""
        ...

    async def how_it_ended(self, call_sid: str) -> str | None:
        """The outcome of a call that is over, as far as the carrier can tell; None while it lives."""
        ...

    async def send_sms(self, *, to: str, sender: str, body: str) -> object: ...


class Handover(Protocol):
    """Gives the human the transcript as text."""

    async def post(self, address: str, payload: Mapping[str, Any]) -> object: ...


@attrs.frozen
class CallPorts:
    connect_model: Callable[[ModelSettings], AbstractAsyncContextManager[Transport]]
    model_codec: Callable[[], ModelCodec]
    journal: JournalPort
    rest: CarrierRest
    handover: Handover
    comfort: Callable[[str], Mapping[str, bytes]]
    """Language to line to mu-law audio, in memory."""
    observe: Callable[[Fact], None]
    now: Callable[[], float]
    """Wall time, unix seconds: for records, never for decisions."""
    rng: Callable[[str], random.Random]
    """A seeded stream per purpose."""
    gate: AccountGate
    pulse: Pulse
    recordings: Path
    """Where agents with ``record`` put their calls."""
    report: Callable[[str, str, str], None]
    """(call sid, level, one sentence): the log. Never a caller's words, a key or a number."""
    runner: ToolRunner = attrs.field(factory=ThreadRunner)
    """One for all calls of the process: a tool that hangs in many of them has one bound of threads."""


@attrs.frozen
class CallPlan:
    """Who answers this call, and how faults are met."""

    agent: AgentSettings
    model: ModelSettings
    resilience: Resilience
