"""The carrier actor: the ear. Sole reader of the caller's socket, stream after stream, until the call is over."""

from __future__ import annotations

import trio

from callrt.actors.hearing import Hearing
from callrt.actors.line import Line, Stream
from callrt.protocol.faults import FaultKind
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
    hearing = Hearing(line, stream)
    while line.stream is stream:
        last = stream.last_media_at
        try:
            with hearing.listen(last):
                await deliver(stream.transport, hearing.sink, hearing.glance)
            if stream.last_media_at == last:
                with trio.move_on_after(SECOND_LOOK):
                    await deliver(stream.transport, hearing.sink, hearing.glance)
        except TransportClosed as closed:
            hearing.closed(closed)
            return
        if line.stream is stream and stream.last_media_at == last:
            hearing.lost(FaultKind.CARRIER_STALLED, "stalled")
            stream.transport.abort()
            return
