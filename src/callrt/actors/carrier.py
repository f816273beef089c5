"""The carrier actor: the ear. Sole reader of the caller's socket, stream after stream, until the call is over."""

from __future__ import annotations

import trio

from callrt.actors.line import CallerActive, Line, Lost, Stream
from callrt.policy import limits
from callrt.protocol.carriers import events as ev
from callrt.protocol.faults import FaultKind
from callrt.protocol.records import DigitReceived
from callrt.supervision import Context
from callrt.wire.transport import TransportClosed, deliver

SECOND_LOOK = 0.5
"""After the media gap's limit: a process that was frozen finds the missing media in its socket."""


async def run_carrier(line: Line, ctx: Context[object], *, task_status: trio.TaskStatus[None]) -> None:
    """Start function of the child ``carrier``. Returns when the call has no further use for a carrier. If cancelled:
    the stream stays open and unread; a successor reads on."""
    task_status.started()
    while True:
        stream = line.stream
        if stream is not None:
            await _listen(line, stream)
        elif line.over.is_set():
            return
        else:
            await line.stream_ready.wait()


async def _listen(line: Line, stream: Stream) -> None:
    """Until this stream is no longer the line's."""

    # The clock itself: asked through the library it costs three times as much, for every frame.
    next_audio, now = stream.codec.next_audio, trio.lowlevel.current_clock().current_time

    def glance(text: bytes) -> bool:
        audio = next_audio(text) if line.stream is stream else None
        if audio is None:
            return False
        at = stream.last_media_at = now()
        line.hear(audio, 0, at)
        if at >= line.voice.armed:
            line.voice.beat()
        return True

    def sink(message: str | bytes) -> bool:
        hear(line, stream, message)
        return line.stream is stream

    while line.stream is stream:
        last = stream.last_media_at
        try:
            # One deadline for many frames: it is looked at again when it has passed, not moved with each frame.
            with trio.move_on_at(last + limits.CARRIER_STALLED_AFTER):
                await deliver(stream.transport, sink, glance)
            if stream.last_media_at == last:
                with trio.move_on_after(SECOND_LOOK):
                    await deliver(stream.transport, sink, glance)
        except TransportClosed as closed:
            _closed(line, stream, closed)
            return
        if line.stream is stream and stream.last_media_at == last:
            _lost(line, stream, FaultKind.CARRIER_STALLED, "stalled")
            stream.transport.abort()
            return


def hear(line: Line, stream: Stream, message: str | bytes) -> None:
    """One message of the carrier's, to its end. Never raises for anything that a carrier can send."""
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
            _lost(line, stream, FaultKind.CARRIER_STOPPED, "stopped")
        case ev.BadMessage():
            line.bad("carrier", event.reason)
        case _:
            pass


def _closed(line: Line, stream: Stream, closed: TransportClosed) -> None:
    if line.stream is not stream:
        return
    if closed.code == 1009 and not closed.by_peer:
        # Our bound, not the peer's wish: bad input like any other, only that it costs the stream.
        line.bad("carrier", "too_big")
    _lost(line, stream, FaultKind.CARRIER_LOST, "closed" if closed.code is not None else "reset")


def _lost(line: Line, stream: Stream, kind: FaultKind, reason: str) -> None:
    """The stream is over for the line, at once; what follows is the director's business."""
    if line.stream is not stream:
        return
    # Media comes fifty times a second: what was played after the last of it is not known to be heard.
    line.voice.detach(stream.last_media_at)
    line.stream = None
    stream.over.set()
    line.notify(Lost(stream, kind, reason))
