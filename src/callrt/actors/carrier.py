"""The carrier actor: the ear. Sole reader of the caller's socket, stream after stream, until the call is over."""

from __future__ import annotations

import trio

from callrt.actors.hearing import Hearing
from callrt.actors.line import Line, Stream
from callrt.supervision import Context
from callrt.wire.transport import TransportClosed, deliver


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
    hearing = line.hearing = Hearing(line, stream)
    line.metronome.expect(hearing.due)
    try:
        await deliver(stream.transport, hearing.sink, hearing.glance)
    except TransportClosed as closed:
        if hearing.crash is not None:
            raise hearing.crash from None
        hearing.closed(closed)
    finally:
        line.hearing = None
