"""The direct transport: takes the socket over after trio-websocket's handshake and moves media without an await.

Theory of operation. The handshake is the library's; its reader is then stopped at the last byte of the HTTP
head (:class:`~callrt.wire.streams.TappedStream` holds back what came after it). From there on the socket is in
the hub's inner epoll (``direct_hub.py``). When it is readable, one ``recv`` takes what there is, and each whole
message goes straight to the sink of :meth:`DirectTransport.deliver`, or into a small inbox for :meth:`receive`; a
full inbox stops the reading, and TCP slows the peer down. ``send_nowait`` writes at once; what the socket does not
take waits in the bounded backlog until it is writable again. :meth:`run` owns the socket, keeps the time, closes.

It promises what the reference transport (``connection.py``) promises; both pass the same tests.
"""

from __future__ import annotations

import math
import socket
import ssl
from collections import deque

import trio
from trio_websocket import WebSocketConnection

from callrt.wire.connection import End, Handshake
from callrt.wire.direct_frames import (
    BINARY,
    CLOSE,
    PING,
    PONG,
    TEXT,
    Control,
    FrameReader,
    FrameWriter,
    ProtocolViolation,
    close_payload,
    parse_close,
)
from callrt.wire.direct_hub import READABLE, WRITABLE, Hub, current_hub
from callrt.wire.direct_opening import open_websocket
from callrt.wire.direct_output import Output
from callrt.wire.direct_pings import Pings
from callrt.wire.direct_tls import TlsStream
from callrt.wire.limits import SocketLimits
from callrt.wire.streams import TappedStream
from callrt.wire.transport import MESSAGES_AT_ONCE, Sink, TransportClosed, TransportStatistics

RECEIVE_BYTES = 16_384
"""Per read. A buffer of this size is made for each, so it is no larger than what comes at once."""


class DirectTransport:
    """A whole WebSocket, server or client, on a socket of its own."""

    def __init__(
        self, stream: trio.abc.Stream, limits: SocketLimits, *, server: bool, prefix: bytes = b""
    ) -> None:
        self._tap = TappedStream(stream, prefix, hold="request" if server else "answer")
        self._stream = stream
        self._tls = stream if isinstance(stream, TlsStream) else None
        self._limits = limits
        self._reader = FrameReader(masked=server, message_bytes=limits.message_bytes)
        self._writer = FrameWriter(masked=not server)
        self._socket: socket.socket | None = None
        self._hub: Hub | None = None
        self._events = 0
        self.path = ""
        """The requested path with its query; "" when there was no upgrade."""
        self._response_headers: tuple[tuple[bytes, bytes], ...] = ()
        self._inbox: deque[str | bytes] = deque()
        self._sink: Sink | None = None
        self._sink_done = False
        self._sink_error: Exception | None = None
        self._readers = trio.lowlevel.ParkingLot()
        self._output = Output(self._output_changed)
        self._pong_due: bytes | None = None
        self._pings = Pings(self._say_ping)
        self._end: End | None = None
        self._gone = trio.Event()
        """The socket is closed."""
        self._changed = trio.lowlevel.ParkingLot()
        self._received = 0
        self._linger_until = math.inf
        self._opening = trio.CancelScope()
        self.was_opened = False
        """Also when the peer has gone since: its last words can be received."""
        self.opening_failure: BaseException | None = None
        """Why there is no WebSocket. TimeoutError: the peer was too slow; EOFError: it ended."""

    @property
    def is_open(self) -> bool:
        """Would a message be taken now, were there room?"""
        return self._socket is not None and self._end is None

    @property
    def response_headers(self) -> tuple[tuple[bytes, bytes], ...]:
        """For a client: the head of the answer to the upgrade."""
        return self._response_headers

    @property
    def head_received(self) -> bytes:
        """What the peer had sent when the upgrade failed."""
        return bytes(self._tap.head or b"")

    # -- reading ---------------------------------------------------------------------------------------

    async def receive(self) -> str | bytes:
        """The next whole message. Raises :class:`TransportClosed`. If cancelled: no effect."""
        await trio.lowlevel.checkpoint()
        while True:
            try:
                return self.receive_nowait()
            except trio.WouldBlock:
                await self._readers.park()

    def receive_nowait(self) -> str | bytes:
        """The next whole message that has arrived; :class:`trio.WouldBlock` if none. No checkpoint."""
        self._raise_if_ours()
        if not self._inbox:
            if self._end is not None:
                raise self._closed()
            raise trio.WouldBlock
        message = self._inbox.popleft()
        self._received += 1
        self._resume()
        return message

    async def deliver(self, sink: Sink) -> None:
        """Hand every message to ``sink``, in the very step in which it is read, until it returns False.

        Raises :class:`TransportClosed`, and whatever ``sink`` raises. One at a time, and no :meth:`receive` beside it.
        If cancelled: no message is lost.
        """
        await trio.lowlevel.checkpoint()
        self._raise_if_ours()
        while self._inbox:
            self._received += 1
            if not sink(self._inbox.popleft()):
                return
            self._raise_if_ours()
        self._sink, self._sink_done, self._sink_error = sink, False, None
        try:
            self._resume()
            while True:
                if self._sink_error is not None:
                    raise self._sink_error
                if self._sink_done:
                    return
                if self._end is not None:
                    raise self._closed()
                await self._readers.park()
        finally:
            self._sink = self._sink_error = None

    def on_ready(self, events: int) -> None:
        """The hub says that there is something to do."""
        if events & WRITABLE:
            self._flush()
        if events & ~WRITABLE and self._socket is not None:
            self._read()

    def _read(self) -> None:
        assert self._socket is not None
        lingering = self._linger_until < math.inf
        if self._reader.pending and not lingering:
            # Not before what has come before it: the end of the stream must stay the last thing seen.
            self.on_again()
            return
        try:
            data = self._socket.recv(RECEIVE_BYTES)
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
            try:
                data = self._tls.decrypt(data)
            except ssl.SSLError:
                self._lost()
                return
            answer = self._tls.encrypt(b"")
            if answer:
                self._output.write(answer, None)
            if not data:
                return
        self._reader.feed(data)
        self.on_again()

    def on_again(self) -> None:
        """Take everything that is whole in the buffer, as far as it is wanted and fair."""
        reader, inbox = self._reader, self._inbox
        for _ in range(MESSAGES_AT_ONCE):
            if self._sink is None and len(inbox) >= self._limits.inbox_messages and not self._ended_by_us():
                self._watch()
                return
            if self._socket is None or self._linger_until < math.inf:
                return
            try:
                message = reader.next()
                if type(message) is Control:
                    self._control(message)
                    continue
            except ProtocolViolation as violation:
                self._violated(violation)
                return
            if message is None:
                return
            if self._end is not None:
                continue  # said after the end: nobody listens
            if self._sink is None:
                inbox.append(message)  # type: ignore[arg-type]  # not a Control
                self._readers.unpark_all()
            else:
                self._pour(message)  # type: ignore[arg-type]
        if reader.pending and self._hub is not None:
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
            # Not the hub's business: whoever called deliver gets it.
            self._sink_error = error
        self._sink = None
        self._readers.unpark_all()

    def _resume(self) -> None:
        """There is room again, or somebody who wants all: go on where the full inbox stopped."""
        self._watch()
        if self._reader.pending and self._hub is not None:
            self._hub.again(self)

    def _control(self, message: Control) -> None:
        if message.opcode == PING:
            self._pong(message.payload)
        elif message.opcode == PONG:
            self._pings.ponged(message.payload)
        else:
            code, reason = parse_close(message.payload)
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
        size = len(payload)
        if self._output.backlog_bytes + size > self._limits.backlog_bytes:
            return False
        if self._output.failed:
            # The peer does not read any more, but may have said why: the reader is to have it.
            return True
        self._write(self._writer.frame(opcode, payload), size)
        return True

    def _write(self, frame: bytes, size: int | None) -> None:
        """``size``: of the message in it; None: it is none."""
        self._output.write(frame if self._tls is None else self._tls.encrypt(frame), size)

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
            self._write(self._writer.frame(CLOSE, close_payload(code, reason)), None)

    # -- pings -----------------------------------------------------------------------------------------

    async def ping(self) -> None:
        """Send a ping and wait for its pong. Raises :class:`TransportClosed`.

        If cancelled: the ping may have been sent.
        """
        if not self.is_open:
            await trio.lowlevel.checkpoint()
            raise self._closed()
        if not await self._pings.ping():
            raise self._closed()

    def _say_ping(self, payload: bytes) -> None:
        if self._socket is not None and not self._output.failed:
            self._write(self._writer.frame(PING, payload), None)

    def _pong(self, payload: bytes) -> None:
        """Answer a ping; of those that come while the socket takes nothing only the last needs an answer."""
        if self._end is not None or self._output.failed:
            return
        if self._output.waits:
            self._pong_due = payload
        else:
            self._write(self._writer.frame(PONG, payload), None)

    # -- ending ----------------------------------------------------------------------------------------

    async def aclose(self, code: int = 1000, reason: str = "") -> None:
        """Flush the backlog, close politely, at most ``close_timeout``. Idempotent.

        If cancelled: the socket is dead.
        """
        if self._gone.is_set():
            await trio.lowlevel.checkpoint()
            return
        try:
            with trio.move_on_after(self._limits.close_timeout):
                if self._end is None:
                    self._end = End(code, reason, by_peer=False)
                    self._readers.unpark_all()
                    while self._output.waits:
                        await self._output.flushed.park()
                    self._say_close(code, reason)
                    self._resume()
                await self._gone.wait()
        finally:
            self.abort()

    def abort(self) -> None:
        """Drop the socket at once; the reader gets :class:`TransportClosed`. No checkpoint."""
        if self._end is None:
            self._end = End(None, "aborted", by_peer=False)
        self._opening.cancel()
        self._finish()

    def statistics(self) -> TransportStatistics:
        return TransportStatistics(
            backlog_bytes=self._output.backlog_bytes,
            sent_messages=self._output.sent_messages,
            received_messages=self._received,
        )

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
            self._hub.add(fd, self, events)
        else:
            self._hub.watch(fd, events)
        self._events = events

    def _unwatch(self) -> None:
        if self._hub is not None and self._socket is not None:
            self._hub.remove(self._socket.fileno(), self)
        self._hub = None
        self._events = 0

    # -- the owner -------------------------------------------------------------------------------------

    async def run(
        self, handshake: Handshake, *, task_status: trio.TaskStatus[None] = trio.TASK_STATUS_IGNORED
    ) -> None:
        """Own the socket until it has ended. Started when the upgrade has succeeded or failed for good.

        Raises nothing that a peer can cause. If cancelled: the socket is dropped.
        """
        try:
            self._opening.deadline = trio.current_time() + self._limits.open_timeout
            connection, self.opening_failure = await open_websocket(handshake, self._tap, self._opening)
            if connection is not None and self._end is None:
                self.was_opened = True
                self._take_over(connection)
                task_status.started()
                await self._keep_time()
        finally:
            self._end = self._end or End(
                None, "cancelled" if self.was_opened else "", by_peer=not self.was_opened
            )
            self._finish()
            self._gone.set()
            try:
                await trio.aclose_forcefully(self._stream)
            finally:
                self._pings.end()  # after a checkpoint: the reader is to learn of the end first
        if not self.was_opened:
            task_status.started()

    def _take_over(self, connection: WebSocketConnection) -> None:
        self.path = connection.path or ""
        self._response_headers = tuple(connection.handshake_headers)
        stream = self._tls.stream if self._tls is not None else self._stream
        assert isinstance(stream, trio.SocketStream)
        self._socket = self._output.socket = socket.socket(fileno=stream.socket.detach())
        self._socket.setblocking(False)
        early = self._tap.held
        self._tap.forget()
        if self._tls is not None:
            try:
                early += self._tls.decrypt(b"")
            except ssl.SSLError:
                self._lost()
                return
        self._watch()
        if early:
            self._reader.feed(early)
            self.on_again()

    async def _keep_time(self) -> None:
        """Return when the socket is closed, which it is at the latest when the patience with its peer ends."""
        limits = self._limits
        while self._socket is not None:
            due = min(
                self._output.stuck_since + limits.send_timeout,
                self._output.failed_at + limits.close_timeout,
                self._linger_until,
            )
            if trio.current_time() < due:
                with trio.move_on_at(due):
                    await self._changed.park()
                continue
            if self._output.stuck_since < math.inf and self._end is None:
                self._end = End(None, "peer does not read", by_peer=False)
            self._lost()

    # -- how it ended ----------------------------------------------------------------------------------

    def _ended_by_us(self) -> bool:
        return self._end is not None and not self._end.by_peer

    def _raise_if_ours(self) -> None:
        if self._ended_by_us() or (self._end is None and self._socket is None):
            raise self._closed()

    def _closed(self) -> TransportClosed:
        end = self._end or End(None, "never opened", by_peer=False)
        return TransportClosed(end.code, end.reason, end.by_peer)
