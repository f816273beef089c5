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
from callrt.wire.waiters import Waiters

CARRIER_BYTES, MODEL_BYTES = 4_096, 16_384
"""Per read. A buffer of this size is made for each, so it is no larger than what comes at once: some frames of a
caller's, or a piece of a reply."""


_NOTHING: deque[str | bytes] = deque(maxlen=0)
"""Once messages are delivered nothing waits for a reader."""


class DirectSocket:
    """The part of a direct transport that never waits. No method has a checkpoint, and none lets out anything that a
    peer or a sink has caused."""

    def __init__(self, limits: SocketLimits, *, server: bool, tls: TlsStream | None) -> None:
        self._limits = limits
        self._server = server
        self._tls = tls
        self._read_bytes = CARRIER_BYTES if server else MODEL_BYTES
        self._reader = FrameReader(masked=server, message_bytes=limits.message_bytes)
        self._writer = FrameWriter(masked=not server)
        self.socket: socket.socket | None = None
        self._hub: Hub | None = None
        self._events = 0
        self.inbox = _NOTHING
        self.sink: Sink | None = None
        self.glance: Glance | None = None
        self.sink_done = False
        self.sink_error: Exception | None = None
        self.changed = Waiters()
        """Unparked when a message waits, when nothing waits any more to be written, and when there is an end."""
        self.output = Output()
        self._pong_due: bytes | None = None
        self.pings = Pings()
        self.end: End | None = None
        self.received = 0
        self._lingers = False
        self._linger_until = math.inf
        self._keeper: Hub | None = None
        """Who keeps our time, while there is something that a peer must not put off for ever."""

    def take_over(self, sock: socket.socket, early: bytes) -> None:
        """The socket is open and ours from now on. ``early``: what the peer has sent behind its handshake."""
        self.socket = self.output.socket = sock
        if self._tls is not None:
            try:
                early += self._tls.decrypt(b"")
            except ssl.SSLError:
                self.lost()
                return
        self._watch()
        if early:
            self._reader.feed(early)
            self.on_again()

    # -- reading ---------------------------------------------------------------------------------------

    def on_ready(self, events: int) -> None:
        """The hub says that there is something to do."""
        if events & WRITABLE:
            self._flush()
        sock = self.socket
        if not events & ~WRITABLE or sock is None:
            return
        lingering = self._lingers
        if self._reader.rest and not lingering:
            # Not before what has come before it: the end of the stream must stay the last thing seen.
            self.on_again()
            return
        try:
            data = sock.recv(self._read_bytes)
        except (BlockingIOError, InterruptedError):
            return
        except OSError:
            data = b""
        if not data:
            self.lost()
            return
        if lingering:
            return
        if self._tls is not None:
            data = self._decrypt(data)
            if not data:
                return
        if self.sink is not None and self.end is None:
            payload = self._reader.whole(data)
            if payload is not None:
                self._take(payload)
                return
        self._reader.feed(data)
        self.on_again()

    def _take(self, payload: bytes) -> None:
        """A whole text message, for the glance or else for the sink."""
        glance = self.glance
        try:
            if glance is not None and glance(payload):
                self.received += 1
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
            self.lost()
            return b""
        answer = self._tls.answer()
        if answer:
            self._put(answer, None)
        return clear

    def on_again(self) -> None:
        """Take everything that is whole in the buffer, as far as it is wanted and fair."""
        reader, inbox = self._reader, self.inbox
        for _ in range(MESSAGES_AT_ONCE):
            if self.sink is None and len(inbox) >= self._limits.inbox_messages and not self._ended_by_us():
                self._watch()
                return
            if self.socket is None or self._lingers:
                return
            try:
                found = reader.next()
                if found is None:
                    return
                opcode, payload = found
                if opcode >= CLOSE:
                    self._control(opcode, payload)
                elif self.end is not None:
                    pass  # said after the end: nobody listens
                elif self.sink is not None and opcode == TEXT:
                    self._take(payload)
                elif self.sink is not None:
                    self._pour(payload)
                else:
                    if inbox is _NOTHING:
                        inbox = self.inbox = deque()
                    inbox.append(as_text(payload) if opcode == TEXT else payload)
                    self.changed.unpark_all()
            except ProtocolViolation as violation:
                self._violated(violation)
                return
        if reader.rest and self._hub is not None:
            self._hub.again(self)

    def _pour(self, message: str | bytes) -> None:
        sink = self.sink
        assert sink is not None
        self.received += 1
        try:
            if sink(message):
                return
            self.sink_done = True
        except Exception as error:
            self._failed(error)
        else:
            self._no_sink()

    def _failed(self, error: Exception) -> None:
        """Not the hub's business: whoever called deliver gets it."""
        self.sink_error = error
        self._no_sink()

    def _no_sink(self) -> None:
        self.sink = self.glance = None
        self.changed.unpark_all()

    def no_inbox(self) -> None:
        """It is empty, and what comes from now on is delivered: an empty deque takes a kilobyte."""
        assert not self.inbox
        self.inbox = _NOTHING

    def resume(self) -> None:
        """There is room again, or somebody who wants all: go on where the full inbox stopped."""
        self._watch()
        if self._reader.rest and self._hub is not None:
            self._hub.again(self)

    def _control(self, opcode: int, payload: bytes) -> None:
        if opcode == PING:
            self._pong(payload)
        elif opcode == PONG:
            self.pings.ponged(payload)
        else:
            code, reason = parse_close(payload)
            if self.end is None:
                self.end = End(code, reason, by_peer=True)
                self.say_close(None if code == 1005 else code, "")
            self.finish()

    def _violated(self, violation: ProtocolViolation) -> None:
        if self.end is not None:
            self.finish()
            return
        # Whom to blame is as in the reference: for a message too big it is our limit.
        self.end = End(violation.code, violation.reason, by_peer=violation.code != 1009)
        self.say_close(violation.code, violation.reason)
        if violation.code == 1009:
            self._linger()
        else:
            self.finish()

    def lost(self) -> None:
        if self.end is None:
            self.end = End(None, "", by_peer=True)
        self.finish()

    # -- writing ---------------------------------------------------------------------------------------

    def send_nowait(self, message: str | bytes) -> bool:
        """Write or queue one message. False, and nothing queued, when the backlog is full or the socket has ended."""
        if self.end is not None or self.socket is None:
            return False
        if isinstance(message, str):
            payload, opcode = message.encode(), TEXT
        else:
            payload, opcode = message, BINARY
        return self._send(opcode, payload)

    def send_encoded_nowait(self, text: bytes) -> bool:
        """``send_nowait`` for a text that is UTF-8 already."""
        if self.end is not None or self.socket is None:
            return False
        return self._send(TEXT, text)

    def _send(self, opcode: int, payload: bytes) -> bool:
        size = len(payload)
        output = self.output
        if output.backlog_bytes + size > self._limits.backlog_bytes:
            return False
        frame = self._writer.frame(opcode, payload)
        # To a peer that does not read any more nothing is said, but it may have said why: the reader is to have it.
        if not output.failed:
            self._put(frame if self._tls is None else self._tls.encrypt(frame), size)
        return True

    def send_together_nowait(self, messages: Sequence[str]) -> bool:
        """Text messages in one write: all of them, or False and none."""
        if self.end is not None or self.socket is None:
            return False
        frame = self._writer.frame
        payloads = [message.encode() for message in messages]
        size = sum(map(len, payloads))
        output = self.output
        if output.backlog_bytes + size > self._limits.backlog_bytes:
            return False
        frames = b"".join([frame(TEXT, payload) for payload in payloads])
        if not output.failed:
            self._put(frames if self._tls is None else self._tls.encrypt(frames), size, len(payloads))
        return True

    def _write(self, frame: bytes) -> None:
        """A control frame."""
        self._put(frame if self._tls is None else self._tls.encrypt(frame), None)

    def _put(self, data: bytes, size: int | None, messages: int = 1) -> None:
        if self.output.write(data, size, messages):
            self._output_changed()

    def _output_changed(self) -> None:
        self._watch()
        self._mind_the_time()
        if not self.output.waits:
            self.changed.unpark_all()

    def _flush(self) -> None:
        if self.output.flush():
            self._output_changed()
        if self._pong_due is not None and not self.output.waits:
            payload, self._pong_due = self._pong_due, None
            self._pong(payload)

    def say_close(self, code: int | None, reason: str) -> None:
        if self.socket is not None and not self.output.failed:
            self._write(self._writer.frame(CLOSE, close_payload(code, reason)))

    # -- pings -----------------------------------------------------------------------------------------

    def say_ping(self, payload: bytes) -> None:
        if self.socket is not None and not self.output.failed:
            self._write(self._writer.frame(PING, payload))

    def _pong(self, payload: bytes) -> None:
        """Answer a ping; of those that come while the socket takes nothing only the last needs an answer."""
        if self.end is not None or self.output.failed:
            return
        if self.output.waits:
            self._pong_due = payload
        else:
            self._write(self._writer.frame(PONG, payload))

    # -- ending ----------------------------------------------------------------------------------------

    def finish(self) -> None:
        """There is an end: close the socket and wake whoever waits for anything. Idempotent."""
        self._unwatch()
        if self.socket is not None:
            self.socket.close()
            self.socket = self.output.socket = None
        self.output.drop()
        self._mind_the_time()
        self.pings.end()
        self.changed.unpark_all()

    def _linger(self) -> None:
        """After our own 1009: unread bytes would turn the close into a reset, which tells nothing."""
        if self.socket is None:
            return
        self._lingers = True
        self._linger_until = trio.current_time() + self._limits.close_timeout / 2
        try:
            self.socket.shutdown(socket.SHUT_WR)
        except OSError:
            self.finish()
            return
        self._mind_the_time()
        self.changed.unpark_all()

    # -- the time ----------------------------------------------------------------------------------------

    @property
    def due(self) -> float:
        """Clock time until which the peer may take what it is sent, or read how this ends; mostly never."""
        return min(
            self.output.stuck_since + self._limits.send_timeout,
            self.output.failed_at + self._limits.close_timeout,
            self._linger_until,
        )

    def on_due(self) -> None:
        """The patience with the peer is over."""
        if self.output.stuck_since < math.inf and self.end is None:
            self.end = End(None, "peer does not read", by_peer=False)
        self.lost()

    def _mind_the_time(self) -> None:
        due = math.inf if self.socket is None else self.due
        if due < math.inf:
            self._keeper = self._keeper or current_hub()
            self._keeper.keep_time(self, due)
        elif self._keeper is not None:
            self._keeper.forget_time(self)
            self._keeper = None

    # -- watching --------------------------------------------------------------------------------------

    def _watch(self) -> None:
        """Tell the hub what we wait for, if that has changed."""
        if self.socket is None:
            return
        full = self.sink is None and len(self.inbox) >= self._limits.inbox_messages and self.end is None
        events = (0 if full else READABLE) | (WRITABLE if self.output.waits else 0)
        if events == self._events:
            return
        fd = self.socket.fileno()
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
        if self._hub is not None and self.socket is not None:
            self._hub.remove(self.socket.fileno(), self)
        self._hub = None
        self._events = 0

    # -- how it ended ----------------------------------------------------------------------------------

    def _ended_by_us(self) -> bool:
        return self.end is not None and not self.end.by_peer

    def raise_if_ours(self) -> None:
        if self._ended_by_us() or (self.end is None and self.socket is None):
            raise self.closed()

    def closed(self) -> TransportClosed:
        end = self.end or End(None, "never opened", by_peer=False)
        return TransportClosed(end.code, end.reason, end.by_peer)
