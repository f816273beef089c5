"""A taken-over socket between two awaits: frames in, messages out, all in the step in which something happens.

What has no await of :class:`~callrt.wire.direct.DirectTransport`: reading when the hub says so, writing at once,
answering pings, noticing the end. Nearly every read brings exactly one message and nearly every write is taken whole;
both have a short way of their own, and everything else the long one.
"""

from __future__ import annotations

import math
import socket
import ssl
from collections import deque
from collections.abc import Sequence

import trio
from mypy_extensions import mypyc_attr

from callrt.wire.connection import End
from callrt.wire.direct_frames import (
    BINARY,
    CLOSE,
    PING,
    PONG,
    TEXT,
    FrameReader,
    FrameWriter,
    ProtocolViolation,
    as_text,
    close_payload,
    parse_close,
)
from callrt.wire.direct_hub import READABLE, WRITABLE, Hub, current_hub
from callrt.wire.direct_output import Output
from callrt.wire.direct_pings import Pings
from callrt.wire.direct_tls import TlsStream
from callrt.wire.limits import SocketLimits
from callrt.wire.transport import MESSAGES_AT_ONCE, Glance, Sink, TransportClosed

RECEIVE_BYTES = 16_384
"""Per read. A buffer of this size is made for each, so it is no larger than what comes at once."""


_NOTHING: deque[str | bytes] = deque(maxlen=0)
"""Once messages are delivered nothing waits for a reader."""


@mypyc_attr(allow_interpreted_subclasses=True)
class DirectSocket:
    """The part of a direct transport that never waits. No method has a checkpoint, and none lets out anything that a
    peer or a sink has caused."""

    def __init__(self, limits: SocketLimits, *, server: bool, tls: TlsStream | None) -> None:
        self._limits = limits
        self._server = server
        self._tls = tls
        self._reader = FrameReader(masked=server, message_bytes=limits.message_bytes)
        self._writer = FrameWriter(masked=not server)
        self._socket: socket.socket | None = None
        self._hub: Hub | None = None
        self._events = 0
        self._inbox = _NOTHING
        self._sink: Sink | None = None
        self._glance: Glance | None = None
        self._sink_done = False
        self._sink_error: Exception | None = None
        self._readers = trio.lowlevel.ParkingLot()
        self._output = Output(self._output_changed)
        self._pong_due: bytes | None = None
        self._pings = Pings(self._say_ping)
        self._end: End | None = None
        self._changed = trio.lowlevel.ParkingLot()
        self._received = 0
        self._lingers = False
        self._linger_until = math.inf

    # -- reading ---------------------------------------------------------------------------------------

    def on_ready(self, events: int) -> None:
        """The hub says that there is something to do."""
        if events & WRITABLE:
            self._flush()
        sock = self._socket
        if not events & ~WRITABLE or sock is None:
            return
        lingering = self._lingers
        if self._reader.rest and not lingering:
            # Not before what has come before it: the end of the stream must stay the last thing seen.
            self.on_again()
            return
        try:
            data = sock.recv(RECEIVE_BYTES)
        except (BlockingIOError, InterruptedError):
            return
        except OSError:
            data = b""
        if not data:
            self._lost()
            return
        if lingering:
            return
        if self._tls is not None:
            data = self._decrypt(data)
            if not data:
                return
        if self._sink is not None and self._end is None:
            payload = self._reader.whole(data)
            if payload is not None:
                self._take(payload)
                return
        self._reader.feed(data)
        self.on_again()

    def _take(self, payload: bytes) -> None:
        """A whole text message, for the glance or else for the sink."""
        glance = self._glance
        try:
            if glance is not None and glance(payload):
                self._received += 1
                return
            text = as_text(payload)
        except ProtocolViolation as violation:
            self._violated(violation)
        except Exception as error:
            self._failed(error)
        else:
            self._pour(text)

    def _decrypt(self, data: bytes) -> bytes:
        """b"" when there is nothing to read yet, or nothing any more."""
        assert self._tls is not None
        try:
            clear = self._tls.decrypt(data)
        except ssl.SSLError:
            self._lost()
            return b""
        answer = self._tls.answer()
        if answer:
            self._output.write(answer, None)
        return clear

    def on_again(self) -> None:
        """Take everything that is whole in the buffer, as far as it is wanted and fair."""
        reader, inbox = self._reader, self._inbox
        for _ in range(MESSAGES_AT_ONCE):
            if self._sink is None and len(inbox) >= self._limits.inbox_messages and not self._ended_by_us():
                self._watch()
                return
            if self._socket is None or self._lingers:
                return
            try:
                found = reader.next()
                if found is None:
                    return
                opcode, payload = found
                if opcode >= CLOSE:
                    self._control(opcode, payload)
                elif self._end is not None:
                    pass  # said after the end: nobody listens
                elif self._sink is not None and opcode == TEXT:
                    self._take(payload)
                elif self._sink is not None:
                    self._pour(payload)
                else:
                    if inbox is _NOTHING:
                        inbox = self._inbox = deque()
                    inbox.append(as_text(payload) if opcode == TEXT else payload)
                    self._readers.unpark_all()
            except ProtocolViolation as violation:
                self._violated(violation)
                return
        if reader.rest and self._hub is not None:
            self._hub.again(self)

    def _pour(self, message: str | bytes) -> None:
        sink = self._sink
        assert sink is not None
        self._received += 1
        try:
            if sink(message):
                return
            self._sink_done = True
        except Exception as error:
            self._failed(error)
        else:
            self._no_sink()

    def _failed(self, error: Exception) -> None:
        """Not the hub's business: whoever called deliver gets it."""
        self._sink_error = error
        self._no_sink()

    def _no_sink(self) -> None:
        self._sink = self._glance = None
        self._readers.unpark_all()

    def _resume(self) -> None:
        """There is room again, or somebody who wants all: go on where the full inbox stopped."""
        self._watch()
        if self._reader.rest and self._hub is not None:
            self._hub.again(self)

    def _control(self, opcode: int, payload: bytes) -> None:
        if opcode == PING:
            self._pong(payload)
        elif opcode == PONG:
            self._pings.ponged(payload)
        else:
            code, reason = parse_close(payload)
            if self._end is None:
                self._end = End(code, reason, by_peer=True)
                self._say_close(None if code == 1005 else code, "")
            self._finish()

    def _violated(self, violation: ProtocolViolation) -> None:
        if self._end is not None:
            self._finish()
            return
        # Whom to blame is as in the reference: for a message too big it is our limit.
        self._end = End(violation.code, violation.reason, by_peer=violation.code != 1009)
        self._say_close(violation.code, violation.reason)
        if violation.code == 1009:
            self._linger()
        else:
            self._finish()

    def _lost(self) -> None:
        if self._end is None:
            self._end = End(None, "", by_peer=True)
        self._finish()

    # -- writing ---------------------------------------------------------------------------------------

    def send_nowait(self, message: str | bytes) -> bool:
        """Write or queue one message. False, and nothing queued, when the backlog is full or the socket has ended."""
        if self._end is not None or self._socket is None:
            return False
        if isinstance(message, str):
            payload, opcode = message.encode(), TEXT
        else:
            payload, opcode = message, BINARY
        return self._send(opcode, payload)

    def send_encoded_nowait(self, text: bytes) -> bool:
        """``send_nowait`` for a text that is UTF-8 already."""
        if self._end is not None or self._socket is None:
            return False
        return self._send(TEXT, text)

    def _send(self, opcode: int, payload: bytes) -> bool:
        size = len(payload)
        output = self._output
        if output.backlog_bytes + size > self._limits.backlog_bytes:
            return False
        frame = self._writer.frame(opcode, payload)
        # To a peer that does not read any more nothing is said, but it may have said why: the reader is to have it.
        if not output.failed:
            output.write(frame if self._tls is None else self._tls.encrypt(frame), size)
        return True

    def send_together_nowait(self, messages: Sequence[str]) -> bool:
        """Text messages in one write: all of them, or False and none."""
        if self._end is not None or self._socket is None:
            return False
        frame = self._writer.frame
        payloads = [message.encode() for message in messages]
        size = sum(map(len, payloads))
        output = self._output
        if output.backlog_bytes + size > self._limits.backlog_bytes:
            return False
        frames = b"".join([frame(TEXT, payload) for payload in payloads])
        if not output.failed:
            output.write(frames if self._tls is None else self._tls.encrypt(frames), size, len(payloads))
        return True

    def _write(self, frame: bytes) -> None:
        """A control frame."""
        self._output.write(frame if self._tls is None else self._tls.encrypt(frame), None)

    def _output_changed(self) -> None:
        self._watch()
        self._changed.unpark_all()

    def _flush(self) -> None:
        self._output.flush()
        if self._pong_due is not None and not self._output.waits:
            payload, self._pong_due = self._pong_due, None
            self._pong(payload)

    def _say_close(self, code: int | None, reason: str) -> None:
        if self._socket is not None and not self._output.failed:
            self._write(self._writer.frame(CLOSE, close_payload(code, reason)))

    # -- pings -----------------------------------------------------------------------------------------

    def _say_ping(self, payload: bytes) -> None:
        if self._socket is not None and not self._output.failed:
            self._write(self._writer.frame(PING, payload))

    def _pong(self, payload: bytes) -> None:
        """Answer a ping; of those that come while the socket takes nothing only the last needs an answer."""
        if self._end is not None or self._output.failed:
            return
        if self._output.waits:
            self._pong_due = payload
        else:
            self._write(self._writer.frame(PONG, payload))

    # -- ending ----------------------------------------------------------------------------------------

    def _finish(self) -> None:
        """There is an end: close the socket and wake whoever waits for anything. Idempotent."""
        self._unwatch()
        if self._socket is not None:
            self._socket.close()
            self._socket = self._output.socket = None
        self._output.drop()
        self._readers.unpark_all()
        self._changed.unpark_all()

    def _linger(self) -> None:
        """After our own 1009: unread bytes would turn the close into a reset, which tells nothing."""
        if self._socket is None:
            return
        self._lingers = True
        self._linger_until = trio.current_time() + self._limits.close_timeout / 2
        try:
            self._socket.shutdown(socket.SHUT_WR)
        except OSError:
            self._finish()
            return
        self._readers.unpark_all()
        self._changed.unpark_all()

    # -- watching --------------------------------------------------------------------------------------

    def _watch(self) -> None:
        """Tell the hub what we wait for, if that has changed."""
        if self._socket is None:
            return
        full = self._sink is None and len(self._inbox) >= self._limits.inbox_messages and self._end is None
        events = (0 if full else READABLE) | (WRITABLE if self._output.waits else 0)
        if events == self._events:
            return
        fd = self._socket.fileno()
        # A socket that nothing is wanted of leaves the hub: a broken connection would be reported for ever.
        if not events:
            self._unwatch()
        elif self._hub is None:
            self._hub = current_hub()
            # What a model says may be that the caller has begun to speak: it goes before everybody's frames.
            self._hub.add(fd, self, events, urgent=not self._server)
        else:
            self._hub.watch(fd, events)
        self._events = events

    def _unwatch(self) -> None:
        if self._hub is not None and self._socket is not None:
            self._hub.remove(self._socket.fileno(), self)
        self._hub = None
        self._events = 0

    # -- how it ended ----------------------------------------------------------------------------------

    def _ended_by_us(self) -> bool:
        return self._end is not None and not self._end.by_peer

    def _raise_if_ours(self) -> None:
        if self._ended_by_us() or (self._end is None and self._socket is None):
            raise self._closed()

    def _closed(self) -> TransportClosed:
        end = self._end or End(None, "never opened", by_peer=False)
        return TransportClosed(end.code, end.reason, end.by_peer)
