"""What shall happen on a call beyond the ordinary, as data: drops at exact points, humans, habits of the
carrier."""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Mapping
from typing import Literal

import attrs
import trio

from callrt.testing.carrier_caller import Script
from callrt.testing.carrier_stream import StreamBehaviour

DropKind = Literal["rst", "fin", "close", "stop", "half_open"]


@attrs.frozen
class Drop:
    """The media stream is lost; struck once, at the first tick at which every given condition holds.

    ``rst`` resets the connection, ``fin`` ends it without a close frame, ``close`` closes the WebSocket
    without ``stop``, ``stop`` ends it in order. ``half_open`` neither reads nor writes any more and keeps
    the socket. Except when half-open, nothing more is played.
    """

    how: DropKind = "rst"
    heard_ms: int | None = None
    """Audio of the app heard in this call so far."""
    seconds: float | None = None
    """Since the start of the stream."""
    stream: int | None = None
    """Only in this stream of the call, the first being 1."""
    after_mark: bool = True
    """With ``heard_ms``: right after the echo of the first mark at or after that position, not at the
    position."""
    notice_seconds: float | None = None
    """Half-open: when the carrier itself finds out; None: not before the call is redirected or over."""

    def is_due(self, stream: int, age: float, heard_ms: int, *, echoed: bool) -> bool:
        """Does it strike now, in this stream, ``age`` seconds old? ``echoed``: a mark was echoed just now."""
        if self.stream is not None and self.stream != stream:
            return False
        if self.seconds is not None and age < self.seconds - 1e-9:
            return False
        if self.heard_ms is None:
            return True
        return heard_ms >= self.heard_ms and (echoed or not self.after_mark)


@attrs.frozen
class Human:
    """Who is at the number that the app dials."""

    reaction: Literal["answers", "busy", "no-answer", "failed"] = "answers"
    answer_seconds: float = 2.0
    """Ringing before that; a whole ``timeout`` for ``no-answer``."""
    says: bytes = b""
    """mu-law, to the caller, once connected."""
    talk_seconds: float = 3.0
    """Connected; then the human hangs up."""


@attrs.frozen
class Habits:
    """How this carrier treats the app's addresses."""

    webhook_attempts: int = 2
    """Tries per document; the real default is one retry."""
    webhook_seconds: float = 15.0
    """Limit for all tries of one document together."""
    webhook_retry_seconds: float = 0.0
    """Pause before another try."""
    duplicate_webhooks: bool = False
    """Deliver the voice webhook and every action request twice; the second answer counts."""
    status_out_of_order: bool = False
    """Deliver ``completed`` before ``in-progress``."""
    congested_frames: tuple[int, ...] = ()
    """Numbers of inbound frames of the call (from 0) that are discarded as if the app read too slowly."""
    call_seconds_max: float = 3600.0
    """The carrier ends every call after so long."""


KeepTime = Callable[[float, float, Callable[[float], bool]], Awaitable[None]]
"""Of (began, interval, beat): calls ``beat`` with the time of each tick, until it returns False."""


async def by_the_clock(began: float, interval: float, beat: Callable[[float], bool]) -> None:
    """On absolute deadlines: a late tick does not delay the next."""
    count = 0
    while True:
        at = began + count * interval
        await trio.sleep_until(at)
        if not beat(at):
            return
        count += 1


Speak = Callable[[str, str], bytes]
"""Of (text, language tag): mu-law at 8 kHz."""


@attrs.frozen
class CallPlan:
    """All that is decided about a call before it is placed."""

    call_sid: str
    account_sid: str
    auth_token: str = attrs.field(repr=False)
    voice_url: str
    from_number: str
    to_number: str
    script: Script
    drops: tuple[Drop, ...] = ()
    habits: Habits = attrs.field(factory=Habits)
    behaviour: StreamBehaviour = attrs.field(factory=StreamBehaviour)
    humans: Mapping[str, Human] = attrs.field(factory=dict)
    """Number to who is there."""
    anyone: Human = attrs.field(factory=Human)
    """At every other number."""
    status_url: str | None = None


@attrs.frozen
class Alert:
    """A line of the carrier's debugger."""

    at: float
    call_sid: str
    stream: int
    code: int
    text: str


@attrs.frozen
class WebhookRecord:
    """One request to the app and its answer."""

    at: float
    kind: str
    """``voice``, ``action``, ``redirect``, ``whisper``, ``dial``, ``status``, ``stream-status``."""
    url: str
    status: int
    """0 when there was no answer."""
    seconds: float
    body: bytes


@attrs.define
class DialRecord:
    """One attempt to connect the caller with a human."""

    number: str
    call_sid: str
    """Of the human's leg."""
    status: str = "in-progress"
    whispers: list[str] = attrs.field(factory=list)
    """What the human heard before being connected."""
    bridged_at: float | None = None
    ended_at: float | None = None
