"""What the caller's socket says, carried out on the line: every frame of every call goes through here.

No await and no task: the carrier actor hands this to the transport, which calls it in the step in which it reads.
"""

from __future__ import annotations

import math
from typing import Final

import trio

from callrt.actors.line import CallerActive, Line, Lost, Stream
from callrt.policy import limits
from callrt.protocol.carriers import events as ev
from callrt.protocol.faults import FaultKind
from callrt.protocol.records import DigitReceived
from callrt.wire.transport import TransportClosed

SECOND_LOOK: Final = 0.5
"""Seconds after the media gap's limit: a process that was frozen finds the missing media in its socket."""


class Hearing:
    """One stream's. No method raises for anything that a carrier can send."""

    def __init__(self, line: Line, stream: Stream) -> None:
        self._line = line
        self._stream = stream
        self._next_audio = stream.codec.next_audio
        # The clock itself: asked through the library it costs three times as much, for every frame.
        self._now = trio.lowlevel.current_clock().current_time
        self._suspected_at = -math.inf
        self._looked_at = math.inf
        """Clock times of the last frame before a gap that was too long, and of when that was seen."""
        self.crash: Exception | None = None
        """Of a look in another task's step: the carrier actor raises it."""

    @property
    def due(self) -> float:
        """Clock time at which somebody has to look whether frames still come."""
        last = self._stream.last_media_at
        return (
            self._looked_at + SECOND_LOOK
            if last == self._suspected_at
            else last + limits.CARRIER_STALLED_AFTER
        )

    def look(self, now: float) -> None:
        """It is due. The second time in a row the stream has stalled: for the line it is over. Never raises."""
        stream, self._looked_at = self._stream, now
        if stream.last_media_at != self._suspected_at:
            self._suspected_at = stream.last_media_at
        elif self._line.stream is stream:
            stream.stalled = True
            try:
                self.lost(FaultKind.CARRIER_STALLED, "stalled")
            except Exception as error:
                self.crash = error
            stream.transport.abort()

    def glance(self, text: bytes) -> bool:
        """Take a message that is the caller's next frame; False: it is anything else, and nothing was done."""
        line, stream = self._line, self._stream
        audio = self._next_audio(text) if line.stream is stream else None
        if audio is None:
            return False
        at = stream.last_media_at = self._now()
        line.hear(audio, 0, at)
        if at >= line.voice.armed:
            line.voice.beat()
        return True

    def sink(self, message: str | bytes) -> bool:
        """Take one message; False: the stream is the line's no more."""
        self.hear(message)
        return self._line.stream is self._stream

    def hear(self, message: str | bytes) -> None:
        """One message of the carrier's, to its end."""
        line, stream = self._line, self._stream
        event = stream.codec.decode(message)
        match event:
            case ev.AudioReceived():
                now = stream.last_media_at = trio.current_time()
                line.hear(event.payload, event.missing_ms, now)
            case ev.MarkEchoed():
                line.voice.on_mark(event.name)
            case ev.DigitPressed() if line.log.state.digits >= limits.DIGITS_MAX:
                line.bad("carrier", "digit_flood")
            case ev.DigitPressed():
                line.active()
                line.log.write(DigitReceived())
                line.notify(CallerActive())
                if line.link is not None:
                    line.link.digit(event.digit)
            case ev.StreamStopped():
                stream.stopped = True
                self.lost(FaultKind.CARRIER_STOPPED, "stopped")
            case ev.BadMessage():
                line.bad("carrier", event.reason)
            case _:
                pass

    def closed(self, closed: TransportClosed) -> None:
        """The socket has ended."""
        line = self._line
        if line.stream is not self._stream:
            return
        if closed.code == 1009 and not closed.by_peer:
            # Our bound, not the peer's wish: bad input like any other, only that it costs the stream.
            line.bad("carrier", "too_big")
        if self._stream.stalled:  # and what was to follow from that has failed
            self.lost(FaultKind.CARRIER_STALLED, "stalled")
        else:
            self.lost(FaultKind.CARRIER_LOST, "closed" if closed.code is not None else "reset")

    def lost(self, kind: FaultKind, reason: str) -> None:
        """The stream is over for the line, at once; what follows is the director's business."""
        line, stream = self._line, self._stream
        if line.stream is not stream:
            return
        # Media comes fifty times a second: what was played after the last of it is not known to be heard.
        line.voice.detach(stream.last_media_at)
        line.stream = None
        stream.over.set()
        line.notify(Lost(stream, kind, reason))
