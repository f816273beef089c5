"""The direct transport: takes the socket over after trio-websocket's handshake and moves media without an await.

Theory of operation. The handshake is the library's; its reader is then stopped at the last byte of the HTTP
head (:class:`~callrt.wire.streams.TappedStream` holds back what came after it). From there on the socket is in
the hub's inner epoll (``direct_hub.py``). When it is readable, one ``recv`` takes what there is, and each whole
message goes straight to the sink of :meth:`DirectTransport.deliver`, or into a small inbox for :meth:`receive`; a
full inbox stops the reading, and TCP slows the peer down. ``send_nowait`` writes at once; what the socket does not
take waits in the bounded backlog until it is writable again. The hub also keeps the time of a peer that does not
take what it is sent: an open socket needs no task of its own.

It promises what the reference transport (``connection.py``) promises; both pass the same tests.
"""

from __future__ import annotations

import socket
from collections.abc import Callable, Sequence

import trio

from callrt.wire.connection import End, Handshake
from callrt.wire.direct_opening import open_websocket
from callrt.wire.direct_socket import DirectSocket
from callrt.wire.direct_tls import TlsStream
from callrt.wire.limits import SocketLimits
from callrt.wire.streams import TappedStream
from callrt.wire.transport import Glance, Sink, TransportStatistics, glancing


class DirectTransport:
    """A whole WebSocket, server or client, on a socket of its own."""

    def __init__(
        self, stream: trio.abc.Stream, limits: SocketLimits, *, server: bool, prefix: bytes = b""
    ) -> None:
        self._limits = limits
        tls = stream if isinstance(stream, TlsStream) else None
        self.core = DirectSocket(limits, server=server, tls=tls)
        """What never waits: the hub's and the writers' side."""
        self._tap: TappedStream | None = TappedStream(stream, prefix, hold="request" if server else "answer")
        """Until the socket is taken over: who is open needs neither it nor the stream."""
        self.path = ""
        """The requested path with its query; "" when there was no upgrade."""
        self.was_opened = False
        """Also when the peer has gone since: its last words can be received."""
        self.opening_failure: BaseException | None = None
        """Why there is no WebSocket. TimeoutError: the peer was too slow; EOFError: it ended."""

    @property
    def is_open(self) -> bool:
        """Would a message be taken now, were there room?"""
        return self.core.socket is not None and self.core.end is None

    @property
    def head_received(self) -> bytes:
        """What the peer had sent when the upgrade failed."""
        return b"" if self._tap is None else bytes(self._tap.head or b"")

    # -- reading ---------------------------------------------------------------------------------------

    async def receive(self) -> str | bytes:
        """The next whole message. Raises :class:`TransportClosed`. If cancelled: no effect."""
        await trio.lowlevel.checkpoint()
        while True:
            try:
                return self.receive_nowait()
            except trio.WouldBlock:
                await self.core.changed.park()

    def receive_nowait(self) -> str | bytes:
        """The next whole message that has arrived; :class:`trio.WouldBlock` if none. No checkpoint."""
        core = self.core
        core.raise_if_ours()
        if not core.inbox:
            if core.end is not None:
                raise core.closed()
            raise trio.WouldBlock
        message = core.inbox.popleft()
        core.received += 1
        core.resume()
        return message

    async def deliver(self, sink: Sink, glance: Glance | None = None) -> None:
        """Hand every message to ``sink``, in the very step in which it is read, until it returns False.

        ``glance`` is asked before a text message is even looked through for UTF-8. Raises :class:`TransportClosed`, and
        whatever the two raise. One at a time, and no :meth:`receive` beside it. If cancelled: no message is lost.
        """
        core = self.core
        await trio.lowlevel.checkpoint()
        core.raise_if_ours()
        either = glancing(sink, glance)
        while core.inbox:
            core.received += 1
            if not either(core.inbox.popleft()):
                return
            core.raise_if_ours()
        core.no_inbox()
        core.sink, core.glance, core.sink_done, core.sink_error = sink, glance, False, None
        try:
            core.resume()
            while True:
                if core.sink_error is not None:
                    raise core.sink_error
                if core.sink_done:
                    return
                if core.end is not None:
                    raise core.closed()
                await core.changed.park()
        finally:
            core.sink = core.glance = core.sink_error = None

    # -- writing ---------------------------------------------------------------------------------------

    def send_nowait(self, message: str | bytes) -> bool:
        """Write or queue one message. False, and nothing queued, when the backlog is full or the socket has ended."""
        return self.core.send_nowait(message)

    @property
    def send_encoded_nowait(self) -> Callable[[bytes], bool]:
        """``send_nowait`` for a text that is UTF-8 already."""
        return self.core.send_encoded_nowait

    @property
    def send_together_nowait(self) -> Callable[[Sequence[str]], bool]:
        """``send_nowait`` for text messages in one write: all of them, or False and none."""
        return self.core.send_together_nowait

    # -- pings -----------------------------------------------------------------------------------------

    async def ping(self) -> None:
        """Send a ping and wait for its pong. Raises :class:`TransportClosed`.

        If cancelled: the ping may have been sent.
        """
        if not self.is_open:
            await trio.lowlevel.checkpoint()
            raise self.core.closed()
        if not await self.core.pings.ping(self.core.say_ping):
            raise self.core.closed()

    # -- ending ----------------------------------------------------------------------------------------

    async def aclose(self, code: int = 1000, reason: str = "") -> None:
        """Flush the backlog, close politely, at most ``close_timeout``. Idempotent.

        If cancelled: the socket is dead.
        """
        core = self.core
        if core.socket is None:
            self.abort()
            await trio.lowlevel.checkpoint()
            return
        try:
            with trio.move_on_after(self._limits.close_timeout):
                if core.end is None:
                    core.end = End(code, reason, by_peer=False)
                    core.changed.unpark_all()
                    while core.output.waits:
                        await core.changed.park()
                    core.say_close(code, reason)
                    core.resume()
                await self.wait_gone()
        finally:
            self.abort()

    async def wait_gone(self) -> None:
        """Until the socket is closed. If cancelled: no effect."""
        await trio.lowlevel.checkpoint()
        while self.core.socket is not None:
            await self.core.changed.park()

    def abort(self) -> None:
        """Drop the socket at once; the reader gets :class:`TransportClosed`. No checkpoint."""
        if self.core.end is None:
            self.core.end = End(None, "aborted", by_peer=False)
        self.core.finish()

    def statistics(self) -> TransportStatistics:
        return TransportStatistics(
            backlog_bytes=self.core.output.backlog_bytes,
            sent_messages=self.core.output.sent_messages,
            received_messages=self.core.received,
        )

    # -- opening ---------------------------------------------------------------------------------------

    async def open(self, handshake: Handshake) -> None:
        """Returns when the upgrade has succeeded (``was_opened``) or failed for good. An open transport is to be
        ended with :meth:`aclose` or :meth:`abort` by whoever has it.

        Raises nothing that a peer can cause. If cancelled: the stream is closed.
        """
        tap = self._tap
        assert tap is not None
        try:
            scope = trio.CancelScope(deadline=trio.current_time() + self._limits.open_timeout)
            connection, self.opening_failure = await open_websocket(handshake, tap, scope)
            if connection is not None:
                self.was_opened = True
                self.path = connection.path or ""
                self._take_over(tap)
        finally:
            if not self.was_opened:
                self.core.end = End(None, "", by_peer=True)
                await trio.aclose_forcefully(tap.stream)

    async def run(
        self, handshake: Handshake, *, task_status: trio.TaskStatus[None] = trio.TASK_STATUS_IGNORED
    ) -> None:
        """:meth:`open`, and own the socket until it has ended: for who wants a nursery to end it.

        Raises nothing that a peer can cause. If cancelled: the socket is dropped.
        """
        try:
            await self.open(handshake)
            del handshake
            task_status.started()
            await self.wait_gone()
        finally:
            self.abort()

    def _take_over(self, tap: TappedStream) -> None:
        plain = tap.stream.stream if isinstance(tap.stream, TlsStream) else tap.stream
        assert isinstance(plain, trio.SocketStream)
        sock = socket.socket(fileno=plain.socket.detach())
        sock.setblocking(False)
        self._tap = None
        self.core.take_over(sock, tap.held)
