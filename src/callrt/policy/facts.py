"""Facts: what has happened, as frozen values given to hooks. The sink knows Prometheus, the core does not.

All durations are seconds. Reasons, lines and statuses are short static words: never a caller's words, a
number, a key or an address, because facts become metric labels and log lines.
"""

from __future__ import annotations

from typing import Literal

import attrs


@attrs.frozen
class CallStarted:
    """This process has taken up a call: a new one, or one that another process had begun."""

    call_sid: str = ""


@attrs.frozen
class CallEnded:
    outcome: str
    call_sid: str = ""


@attrs.frozen
class CallReleased:
    """The call is no longer ours (its lease is another's) and has not ended."""

    call_sid: str = ""


@attrs.frozen
class CallSettled:
    """A call that no process carried any more has got its end here."""

    outcome: str


@attrs.frozen
class ActorRestarted:
    actor: str
    reason: str


@attrs.frozen
class ActorEscalated:
    actor: str


@attrs.frozen
class ModelRecovered:
    """Loss of a model session to the first audio of its successor."""

    seconds: float


@attrs.frozen
class CarrierRecovered:
    """Loss of the carrier's stream to the attachment of its successor."""

    seconds: float


@attrs.frozen
class TurnLatency:
    """The caller stops speaking to the first agent audio written to the carrier."""

    seconds: float


@attrs.frozen
class BargeIn:
    """The model's speech-started event to the carrier's clear written."""

    seconds: float


@attrs.frozen
class UplinkDelay:
    """Caller's audio: time inside callrt."""

    seconds: float


@attrs.frozen
class DownlinkDelay:
    """Agent's audio: time inside callrt, without the wait for its turn to be played."""

    seconds: float


@attrs.frozen
class DeadAir:
    """Silence the caller heard while a reply was owed."""

    seconds: float


@attrs.frozen
class FramesDropped:
    direction: Literal["uplink", "downlink"]
    reason: str
    count: int = 1
    """In frames of 20 ms."""


@attrs.frozen
class ToolRan:
    tool: str
    status: str
    """ok, error, timeout, unknown."""
    seconds: float


@attrs.frozen
class JournalCommitted:
    seconds: float
    entries: int


@attrs.frozen
class JournalDropped:
    """Write-behind entries given up because the journal's queue was full."""

    entries: int = 1


@attrs.frozen
class LoopLag:
    """How much later than asked the event loop ran a task."""

    seconds: float


@attrs.frozen
class BadInput:
    """Input that was refused or could not be understood: counted, otherwise harmless."""

    source: Literal["carrier", "model", "webhook", "upgrade"]
    reason: str


@attrs.frozen
class ComfortPlayed:
    line: str


@attrs.frozen
class TransferTried:
    reason: str


@attrs.frozen
class RequestServed:
    route: str
    """The route's own name, never the path as asked."""
    status: int
    seconds: float


@attrs.frozen
class ConnectionRefused:
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
