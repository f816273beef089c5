"""The carrier vocabulary: what any carrier's media socket says, and what we may say to it.

One dialect (``twilio.py``, later others) translates its messages into these values and back. Audio
payloads are in the encoding that ``StreamStarted`` declares; positions are integers. mu-law at 8 kHz:
8 bytes are 1 ms, 160 bytes are one 20 ms frame.
"""

from __future__ import annotations

from collections.abc import Mapping

import msgspec


class StreamConnected(msgspec.Struct, frozen=True, gc=False):
    """The carrier has opened its protocol; the stream itself is not known yet."""

    protocol: str
    version: str


class StreamStarted(msgspec.Struct, frozen=True, gc=False):
    """The stream's identity and media format. Nothing else counts as "the call has a stream"."""

    stream_id: str
    call_id: str
    account: str
    tracks: tuple[str, ...]
    encoding: str
    """As the carrier writes it, e.g. ``audio/x-mulaw``."""
    sample_rate: int
    """In Hz."""
    channels: int
    parameters: Mapping[str, str]


class AudioReceived(msgspec.Struct, frozen=True, gc=False):
    """One inbound media message, usually one 20 ms frame."""

    payload: bytes
    timestamp_ms: int
    """Presentation time since stream start; the first need not be 0."""
    missing_ms: int = 0
    """Audio that the carrier dropped before this frame: fill with so much silence."""


class DigitPressed(msgspec.Struct, frozen=True, gc=False):
    digit: str


class MarkEchoed(msgspec.Struct, frozen=True, gc=False):
    """The carrier has played all audio queued before this mark, or has cleared it: the wire does not tell which."""

    name: str


class StreamStopped(msgspec.Struct, frozen=True, gc=False):
    """An ordered end of the stream. It carries no reason: it is not a hang-up."""

    call_id: str


class BadMessage(msgspec.Struct, frozen=True, gc=False):
    """Input that could not be understood: counted, reported once per call, otherwise harmless (G10)."""

    reason: str
    """A short, static word for metrics: never any part of the message."""


CarrierEvent = (
    StreamConnected | StreamStarted | AudioReceived | DigitPressed | MarkEchoed | StreamStopped | BadMessage
)


class SendAudio(msgspec.Struct, frozen=True, gc=False):
    payload: bytes


class SendMark(msgspec.Struct, frozen=True, gc=False):
    name: str


class ClearAudio(msgspec.Struct, frozen=True, gc=False):
    """Empty the carrier's playback buffer; it answers with all outstanding marks, as if they had been played."""


CarrierCommand = SendAudio | SendMark | ClearAudio
