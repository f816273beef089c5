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

import trio
from trio_websocket import WebSocketConnection

from callrt.wire.connection import End, Handshake
from callrt.wire.direct_opening import open_websocket
from callrt.wire.direct_socket import DirectSocket
from callrt.wire.direct_tls import TlsStream
from callrt.wire.limits import SocketLimits
from callrt.wire.streams import TappedStream
from callrt.wire.transport import Glance, Sink, TransportStatistics, glancing


class DirectTransport(DirectSocket):
    """A whole WebSocket, server or client, on a socket of its own."""

    def __init__(
        self, stream: trio.abc.Stream, limits: SocketLimits, *, server: bool, prefix: bytes = b""
    ) -> None:
        super().__init__(limits, server=server, tls=stream if isinstance(stream, TlsStream) else None)
        self._tap = TappedStream(stream, prefix, hold="request" if server else "answer")
        self._stream = stream
        self.path = ""
        """The requested path with its query; "" when there was no upgrade."""
        self._response_headers: tuple[tuple[bytes, bytes], ...] = ()
        self._gone = trio.Event()
        """The socket is closed."""
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

    async def deliver(self, sink: Sink, glance: Glance | None = None) -> None:
        """Hand every message to ``sink``, in the very step in which it is read, until it returns False.

        ``glance`` is asked before a text message is even looked through for UTF-8. Raises :class:`TransportClosed`, and
        whatever the two raise. One at a time, and no :meth:`receive` beside it. If cancelled: no message is lost.
        """
        await trio.lowlevel.checkpoint()
        self._raise_if_ours()
        either = glancing(sink, glance)
        while self._inbox:
            self._received += 1
            if not either(self._inbox.popleft()):
                return
            self._raise_if_ours()
        self._sink, self._glance, self._sink_done, self._sink_error = sink, glance, False, None
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
            self._sink = self._glance = self._sink_error = None

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
                # The library's part is over, and larger than ours.
                del connection, handshake
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
