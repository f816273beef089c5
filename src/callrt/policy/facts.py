"""Facts: what has happened, as frozen values given to hooks. The sink knows Prometheus, the core does not.

All durations are seconds. Reasons, lines and statuses are short static words: never a caller's words, a
number, a key or an address, because facts become metric labels and log lines.
"""

from __future__ import annotations

from typing import Literal

import msgspec


class CallStarted(msgspec.Struct, frozen=True, gc=False):
    """This process has taken up a call: a new one, or one that another process had begun."""

    call_sid: str = ""


class CallEnded(msgspec.Struct, frozen=True, gc=False):
    outcome: str
    call_sid: str = ""


class CallReleased(msgspec.Struct, frozen=True, gc=False):
    """The call is no longer ours (its lease is another's) and has not ended."""

    call_sid: str = ""


class CallSettled(msgspec.Struct, frozen=True, gc=False):
    """A call that no process carried any more has got its end here."""

    outcome: str


class ActorRestarted(msgspec.Struct, frozen=True, gc=False):
    actor: str
    reason: str


class ActorEscalated(msgspec.Struct, frozen=True, gc=False):
    actor: str


class ModelRecovered(msgspec.Struct, frozen=True, gc=False):
    """Loss of a model session to the first audio of its successor."""

    seconds: float


class CarrierRecovered(msgspec.Struct, frozen=True, gc=False):
    """Loss of the carrier's stream to the attachment of its successor."""

    seconds: float


class TurnLatency(msgspec.Struct, frozen=True, gc=False):
    """The caller stops speaking to the first agent audio written to the carrier."""

    seconds: float


class BargeIn(msgspec.Struct, frozen=True, gc=False):
    """The model's speech-started event to the carrier's clear written."""

    seconds: float


class UplinkDelay(msgspec.Struct, frozen=True, gc=False):
    """Caller's audio: time inside callrt."""

    seconds: float


class DownlinkDelay(msgspec.Struct, frozen=True, gc=False):
    """Agent's audio: time inside callrt, without the wait for its turn to be played."""

    seconds: float


class DeadAir(msgspec.Struct, frozen=True, gc=False):
    """Silence the caller heard while a reply was owed."""

    seconds: float


class FramesDropped(msgspec.Struct, frozen=True, gc=False):
    direction: Literal["uplink", "downlink"]
    reason: str
    count: int = 1
    """In frames of 20 ms."""


class ToolRan(msgspec.Struct, frozen=True, gc=False):
    tool: str
    status: str
    """ok, error, timeout, unknown."""
    seconds: float


class JournalCommitted(msgspec.Struct, frozen=True, gc=False):
    seconds: float
    entries: int


class JournalDropped(msgspec.Struct, frozen=True, gc=False):
    """Write-behind entries given up because the journal's queue was full."""

    entries: int = 1


class LoopLag(msgspec.Struct, frozen=True, gc=False):
    """How much later than asked the event loop ran a task."""

    seconds: float


class BadInput(msgspec.Struct, frozen=True, gc=False):
    """Input that was refused or could not be understood: counted, otherwise harmless."""

    source: Literal["carrier", "model", "webhook", "upgrade"]
    reason: str


class ComfortPlayed(msgspec.Struct, frozen=True, gc=False):
    line: str


class TransferTried(msgspec.Struct, frozen=True, gc=False):
    reason: str


class RequestServed(msgspec.Struct, frozen=True, gc=False):
    route: str
    """The route's own name, never the path as asked."""
    status: int
    seconds: float


class ConnectionRefused(msgspec.Struct, frozen=True, gc=False):
    """A connection over the bound was turned away."""

    port: Literal["public", "admin"]


Fact = (
    CallStarted
    | CallEnded
    | CallReleased
    | CallSettled
    | ActorRestarted
    | ActorEscalated
    | ModelRecovered
    | CarrierRecovered
    | TurnLatency
    | BargeIn
    | UplinkDelay
    | DownlinkDelay
    | DeadAir
    | FramesDropped
    | ToolRan
    | JournalCommitted
    | JournalDropped
    | LoopLag
    | BadInput
    | ComfortPlayed
    | TransferTried
    | RequestServed
    | ConnectionRefused
)
