"""The reference transport: trio-websocket's message API behind :class:`~callrt.wire.transport.Transport`.

One task (:meth:`WebSocketTransport.run`) owns the socket and all that moves on it: the library's reader, the
one writer, the pings. A cancelled write leaves half a frame behind and the next one would be garbage, so
nobody else writes; whoever wants to send puts a message into the backlog. Whatever the library raises ends
here and comes out as :class:`TransportClosed`.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Awaitable, Callable, Iterator

import attrs
import h11
import trio
from trio_websocket import ConnectionClosed, ConnectionRejected, WebSocketConnection
from wsproto.utilities import ProtocolError

from callrt.wire.limits import SocketLimits
from callrt.wire.streams import TappedStream
from callrt.wire.transport import TransportClosed, TransportStatistics

Handshake = Callable[[trio.Nursery, TappedStream], Awaitable[WebSocketConnection | None]]
"""Opens the WebSocket over a stream, with the library's tasks in the nursery. None: refused, and said so."""

PINGS_MAX = 4
"""Pings in flight; a further one waits for the youngest."""

EXPECTED = (
    ConnectionClosed,
    ConnectionRejected,
    ProtocolError,
    h11.ProtocolError,
    trio.BrokenResourceError,
    trio.ClosedResourceError,
    OSError,
)
"""Ends of a socket. Protocol errors also of the local kind: the library answers a ping that arrives while it
is closing, and rejects a bad answer to its own upgrade; wsproto and h11 forbid both."""


@attrs.frozen
class End:
    """How a socket ended."""

    code: int | None
    reason: str
    by_peer: bool


class _Ping:
    def __init__(self) -> None:
        self.over = trio.Event()
        self.answered = False


class WebSocketTransport:
    """A whole WebSocket, server or client, over any :class:`trio.abc.Stream`."""

    def __init__(self, stream: trio.abc.Stream, limits: SocketLimits, *, prefix: bytes = b"") -> None:
        self._tap = TappedStream(stream, prefix)
        self._stream = stream
        self._limits = limits
        self._scope = trio.CancelScope()
        self._connection: WebSocketConnection | None = None
        self._backlog: deque[tuple[str | bytes, int]] = deque()
        self._backlog_bytes = 0
        self._pings_due: list[_Ping] = []
        self._pings: list[_Ping] = []
        self._work = trio.lowlevel.ParkingLot()
        self._closing: tuple[int, str] | None = None
        self._end: End | None = None
        self._over = trio.Event()
        self._sent = 0
        self._received = 0
        self.opening_failure: BaseException | None = None
        """Why there is no WebSocket. TimeoutError: the peer was too slow; EOFError: it ended the stream."""

    @property
    def is_open(self) -> bool:
        """Would a message be taken now, were there room?"""
        return self._connection is not None and self._end is None and self._connection.closed is None

    @property
    def was_opened(self) -> bool:
        """Did the upgrade succeed? The peer may have said its last words since; they can be received."""
        return self._connection is not None

    @property
    def path(self) -> str:
        """The requested path with its query; "" when there was no upgrade."""
        return (self._connection.path or "") if self._connection is not None else ""

    @property
    def head_received(self) -> bytes:
        """What the peer had sent when the upgrade failed."""
        return bytes(self._tap.head or b"")

    # -- the Transport ---------------------------------------------------------------------------------

    async def receive(self) -> str | bytes:
        """The next whole message. Raises :class:`TransportClosed`. If cancelled: no effect."""
        connection = self._connection
        if connection is None or self._ended_by_us():
            await trio.lowlevel.checkpoint()
            raise self._closed()
        try:
            message = await connection.get_message()
        except ConnectionClosed:
            self._ended_by_peer()
            raise self._closed() from None
        self._received += 1
        return message

    def receive_nowait(self) -> str | bytes:
        """The next whole message that has arrived; :class:`trio.WouldBlock` if none. No checkpoint."""
        connection = self._connection
        if connection is None or self._ended_by_us():
            raise self._closed()
        try:
            # The library has no get_message_nowait; a task in between would cost a task switch per frame.
            message: str | bytes = connection._recv_channel.receive_nowait()
        except (trio.EndOfChannel, trio.ClosedResourceError):
            self._ended_by_peer()
            raise self._closed() from None
        self._received += 1
        return message

    def send_nowait(self, message: str | bytes) -> bool:
        """Queue one message. False, and nothing queued, when the backlog is full or the socket has ended."""
        if not self.is_open:
            return False
        size = len(message) if isinstance(message, bytes) or message.isascii() else len(message.encode())
        if self._backlog_bytes + size > self._limits.backlog_bytes:
            return False
        self._backlog.append((message, size))
        self._backlog_bytes += size
        self._work.unpark_all()
        return True

    async def ping(self) -> None:
        """Send a ping and wait for its pong. Raises :class:`TransportClosed`.

        If cancelled: the ping may have been sent.
        """
        if not self.is_open:
            await trio.lowlevel.checkpoint()
            raise self._closed()
        if len(self._pings) < PINGS_MAX:
            ping = _Ping()
            self._pings.append(ping)
            self._pings_due.append(ping)
            self._work.unpark_all()
        else:
            ping = self._pings[-1]
        await ping.over.wait()
        if not ping.answered:
            raise self._closed()

    async def aclose(self, code: int = 1000, reason: str = "") -> None:
        """Flush the backlog, close politely, at most ``close_timeout``. Idempotent.

        If cancelled: the socket is dead.
        """
        if self._over.is_set():
            await trio.lowlevel.checkpoint()
            return
        try:
            with trio.move_on_after(self._limits.close_timeout):
                if self._end is None and self._connection is not None:
                    if self._connection.closed is not None:
                        self._ended_by_peer()
                    else:
                        self._end = End(code, reason, by_peer=False)
                        self._closing = (code, reason)
                        self._work.unpark_all()
                await self._over.wait()
        finally:
            self.abort()

    def abort(self) -> None:
        """Drop the socket at once; the reader gets :class:`TransportClosed`. No checkpoint.

        If the peer has closed already, the reader still gets what it said before and why it closed.
        """
        if self._end is None and self._connection is not None and self._connection.closed is not None:
            self._ended_by_peer()
        elif self._end is None:
            self._end = End(None, "aborted", by_peer=False)
        self._scope.cancel()

    def statistics(self) -> TransportStatistics:
        return TransportStatistics(
            backlog_bytes=self._backlog_bytes,
            sent_messages=self._sent,
            received_messages=self._received,
        )

    # -- the owner -------------------------------------------------------------------------------------

    async def run(
        self, handshake: Handshake, *, task_status: trio.TaskStatus[None] = trio.TASK_STATUS_IGNORED
    ) -> None:
        """Own the socket until it has ended. Started when the upgrade has succeeded or failed for good.

        Raises nothing that a peer can cause. If cancelled: the socket is dropped.
        """
        dropped = End(None, "cancelled", by_peer=False)
        try:
            with self._scope:
                await self._run(handshake, task_status)
            self._ended_by_peer()
            await self._linger()
        finally:
            self._end = self._end or dropped
            for ping in self._pings:
                ping.over.set()
            self._over.set()
            await trio.aclose_forcefully(self._stream)
        if self._connection is None:
            task_status.started()

    async def _run(self, handshake: Handshake, task_status: trio.TaskStatus[None]) -> None:
        try:
            async with trio.open_nursery() as tasks:
                async with trio.open_nursery() as library:
                    with trio.move_on_after(self._limits.open_timeout) as opening:
                        self._tap.on_end = opening.cancel
                        connection = await handshake(library, self._tap)
                    self._tap.on_end = None
                    if opening.cancelled_caught:
                        self.opening_failure = EOFError() if self._tap.ended else TimeoutError()
                        library.cancel_scope.cancel()
                    elif connection is None:
                        library.cancel_scope.cancel()
                    else:
                        self._connection = connection
                        self._tap.head = None
                        tasks.start_soon(self._write, connection, tasks)
                        task_status.started()
                # The library's reader is done: nothing more will be said or heard.
                tasks.cancel_scope.cancel()
        except* EXPECTED as group:
            self.opening_failure = next(leaves(group))

    async def _write(self, connection: WebSocketConnection, tasks: trio.Nursery) -> None:
        try:
            while True:
                while self._backlog and not self._tap.write_failed:
                    message, size = self._backlog[0]
                    with trio.move_on_after(self._limits.send_timeout) as patience:
                        await connection.send_message(message)
                    if patience.cancelled_caught:
                        self._end = self._end or End(None, "peer does not read", by_peer=False)
                        self._scope.cancel()
                        return
                    self._backlog.popleft()
                    self._backlog_bytes -= size
                    self._sent += 1
                if self._tap.write_failed:
                    break
                while self._pings_due:
                    tasks.start_soon(self._ping, connection, self._pings_due.pop(0))
                if self._closing is not None:
                    code, reason = self._closing
                    await connection.aclose(code, reason or None)
                    return
                await self._work.park()
        except (ConnectionClosed, ProtocolError):
            pass  # the library's reader knows how it ended, and is about to end itself
        await trio.sleep(self._limits.close_timeout)
        self._scope.cancel()

    async def _ping(self, connection: WebSocketConnection, ping: _Ping) -> None:
        try:
            await connection.ping()
        except (ConnectionClosed, ProtocolError):
            return  # run() wakes whoever waits when the socket is gone
        ping.answered = True
        ping.over.set()
        self._pings.remove(ping)

    async def _linger(self) -> None:
        """After our own 1009: unread bytes would turn the close into a reset, which tells nothing."""
        if self._end is None or self._end.code != 1009 or self._end.by_peer:
            return
        with trio.move_on_after(self._limits.close_timeout / 2):
            try:
                while await self._stream.receive_some(65_536):
                    pass
            except (trio.BrokenResourceError, trio.ClosedResourceError):
                return

    # -- how it ended ----------------------------------------------------------------------------------

    def _ended_by_us(self) -> bool:
        return self._end is not None and not self._end.by_peer

    def _ended_by_peer(self) -> None:
        """Record how the library says it ended, unless we ended it; then there is nothing left to own."""
        if self._end is None:
            connection = self._connection
            if connection is None or connection.closed is None or connection.closed.code == 1006:
                self._end = End(None, "", by_peer=True)
            else:
                code, reason = int(connection.closed.code), connection.closed.reason or ""
                # Of a message too big the library closes its own inbox; the peer's 1009 leaves it open.
                inbox = connection._recv_channel.statistics().open_receive_channels
                self._end = End(code, reason, by_peer=code != 1009 or inbox > 0)
        self._scope.cancel()

    def _closed(self) -> TransportClosed:
        end = self._end or End(None, "never opened", by_peer=False)
        return TransportClosed(end.code, end.reason, end.by_peer)


def leaves(group: BaseExceptionGroup[BaseException]) -> Iterator[BaseException]:
    for error in group.exceptions:
        if isinstance(error, BaseExceptionGroup):
            yield from leaves(error)
        else:
            yield error
