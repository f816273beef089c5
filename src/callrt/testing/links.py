"""Memory links: both ends of a WebSocket in one process, in Trio's time, with nothing in between.

A link is two one-way streams. A message waits in its sender's *backlog* until the far end's *window* has
room (as with kernel socket buffers: a reader that is slow fills the window first, then our backlog), then
travels for ``latency`` seconds, then can be received. Order is kept. No task and no thread runs behind a
link, so it leaves nothing behind, and under an autojumping clock a minute of traffic takes no time. Links of a
world belong to its :class:`~callrt.testing.network.Network`, which hands messages over without a task switch.
"""

from __future__ import annotations

import math
from collections import deque
from collections.abc import Callable

import attrs
import trio

from callrt.testing.network import SAME_INSTANT, Network
from callrt.wire.transport import Glance, Sink, TransportClosed, TransportStatistics, glancing

WINDOW_BYTES = 65_536
"""What the network holds for a reader that does not read: about the default of a Linux loopback socket."""

CLOSE_SECONDS = 2.0
"""How long a polite close waits for its backlog and the far end's answer."""


@attrs.frozen
class _Ended:
    """Travels in a stream behind the messages that were written before it."""

    code: int | None
    reason: str


@attrs.define(eq=False)
class _Parcel:
    due: float
    """When it can be received; infinity while the link is frozen."""
    content: str | bytes | _Ended
    size: int


@attrs.define(eq=False)
class _Stream:
    """One direction: what is travelling (or has arrived unread), and behind it the sender's backlog."""

    latency: float
    window_bytes: int
    backlog_bytes: int
    frozen: bool = False
    travelling: deque[_Parcel] = attrs.field(factory=deque)
    travelling_bytes: int = 0
    backlog: deque[_Parcel] = attrs.field(factory=deque)
    backlog_size: int = 0
    changed: trio.lowlevel.ParkingLot = attrs.field(factory=trio.lowlevel.ParkingLot)
    network: Network | None = None
    arrived: Callable[[], None] | None = None
    """Called when something may have arrived: whoever takes messages as they come."""

    def put(self, content: str | bytes | _Ended) -> bool:
        size = _size(content)
        fits = not self.travelling or self.travelling_bytes + size <= self.window_bytes
        if fits and not self.backlog and not self.frozen and size <= self.backlog_bytes:
            self._send_off(_Parcel(0.0, content, size), trio.current_time() + self.latency)
            self.wake()
            return True
        if self.backlog_size + size > self.backlog_bytes:
            return False
        self.backlog.append(_Parcel(math.inf, content, size))
        self.backlog_size += size
        self._advance()
        self.wake()
        return True

    def put_end(self, end: _Ended, *, drop_backlog: bool) -> None:
        if drop_backlog:
            self.backlog.clear()
            self.backlog_size = 0
        self.backlog.append(_Parcel(math.inf, end, 0))
        self._advance()
        self.wake()

    def wake(self) -> None:
        if self.changed:
            self.changed.unpark_all()

    def arrive(self) -> None:
        """A parcel is due. The network calls this."""
        if self.arrived is not None:
            self.arrived()
        else:
            self.wake()

    def take(self) -> str | bytes | _Ended | None:
        """What has arrived, or None. An end stays where it is."""
        if not self.travelling or self.travelling[0].due > trio.current_time() + SAME_INSTANT:
            return None
        parcel = self.travelling[0]
        if isinstance(parcel.content, _Ended):
            return parcel.content
        self.travelling.popleft()
        self.travelling_bytes -= parcel.size
        if self.backlog:
            self._advance()
        self.wake()
        return parcel.content

    def next_due(self) -> float:
        return self.travelling[0].due if self.travelling else math.inf

    def set_frozen(self, frozen: bool) -> None:
        self.frozen = frozen
        now = trio.current_time()
        for parcel in self.travelling:
            if frozen and parcel.due > now + SAME_INSTANT:
                parcel.due = math.inf
            elif not frozen and parcel.due == math.inf:
                self._expect(parcel, now + self.latency)
        self._advance()
        self.wake()

    def _advance(self) -> None:
        # A message larger than the window still goes through, alone.
        due = trio.current_time() + self.latency
        while (
            self.backlog
            and not self.frozen
            and (not self.travelling or self.travelling_bytes + self.backlog[0].size <= self.window_bytes)
        ):
            parcel = self.backlog.popleft()
            self.backlog_size -= parcel.size
            self._send_off(parcel, due)

    def _send_off(self, parcel: _Parcel, due: float) -> None:
        self.travelling.append(parcel)
        self.travelling_bytes += parcel.size
        self._expect(parcel, due)

    def _expect(self, parcel: _Parcel, due: float) -> None:
        parcel.due = due
        if self.network is not None:
            self.network.expect(due, self.arrive)


def _size(content: str | bytes | _Ended) -> int:
    if isinstance(content, _Ended):
        return 0
    if isinstance(content, bytes) or content.isascii():
        return len(content)
    return len(content.encode())


@attrs.define(eq=False)
class MemoryTransport:
    """One end of :func:`memory_link`: a :class:`~callrt.wire.transport.Transport`, and switches for
    faults."""

    _inbound: _Stream
    _outbound: _Stream
    _ended: TransportClosed | None = None
    _reading: bool = False
    _sent: int = 0
    _received: int = 0
    pong_delay: float = 0.0
    """Seconds by which this end is late in answering the other's pings."""
    _peer: MemoryTransport | None = None
    _sink: Sink | None = None
    _enough: bool = False
    """The sink wants no more, or there is no more."""
    _failure: Exception | None = None
    _settled: trio.lowlevel.ParkingLot = attrs.field(factory=trio.lowlevel.ParkingLot)

    # -- Transport ------------------------------------------------------------------------------------

    async def receive(self) -> str | bytes:
        """The next whole message. Raises :class:`TransportClosed`. If cancelled: no effect."""
        if self._reading:
            raise trio.BusyResourceError("another task is receiving from this link")
        self._reading = True
        try:
            await trio.lowlevel.checkpoint_if_cancelled()
            message = self._poll()
            if message is not None:
                await trio.lowlevel.cancel_shielded_checkpoint()
                return message
            # Fifty messages a second and call: each scope and each task switch less is felt in a simulation.
            while message is None:
                due = self._inbound.next_due()
                if due == math.inf or self._inbound.network is not None:
                    await self._inbound.changed.park()
                else:
                    with trio.move_on_at(due):
                        await self._inbound.changed.park()
                message = self._poll()
            return message
        finally:
            self._reading = False

    async def deliver(self, sink: Sink, glance: Glance | None = None) -> None:
        """Every message to ``sink`` until it returns False; see :func:`callrt.wire.transport.deliver`."""
        sink = glancing(sink, glance)
        if self._inbound.network is None:
            while sink(await self.receive()):
                pass
            return
        if self._reading:
            raise trio.BusyResourceError("another task is receiving from this link")
        self._reading = True
        try:
            await trio.lowlevel.checkpoint_if_cancelled()
            self._sink, self._enough, self._failure = sink, False, None
            self._pour()
            if self._enough:
                await trio.lowlevel.cancel_shielded_checkpoint()
            else:
                self._inbound.arrived = self._pour
            while not self._enough:
                await self._settled.park()
            if self._failure is not None:
                raise self._failure
        finally:
            self._inbound.arrived = self._sink = self._failure = None
            self._reading = False

    def _pour(self) -> None:
        sink = self._sink
        try:
            while sink is not None and not self._enough:
                message = self._poll()
                if message is None:
                    return
                if not sink(message):
                    self._failure, self._enough = None, True
        except Exception as error:  # the reader's business, not that of whoever has sent the message
            self._failure, self._enough = error, True
        self._settled.unpark_all()

    def receive_nowait(self) -> str | bytes:
        """The next message that has arrived; :class:`trio.WouldBlock` if none."""
        message = self._poll()
        if message is None:
            raise trio.WouldBlock
        return message

    def send_nowait(self, message: str | bytes) -> bool:
        """Queue one message. False, and nothing queued, when the backlog is full or the link has ended."""
        if self._ended is not None:
            return False
        if self.peer_has_ended:
            # As with a socket: behind an unread close it is taken and goes nowhere, behind a reset it is not taken.
            end = self._inbound.travelling[-1].content
            return isinstance(end, _Ended) and end.code is not None
        if not self._outbound.put(message):
            return False
        self._sent += 1
        return True

    async def ping(self) -> None:
        """Wait for one round trip behind what is queued. Raises :class:`TransportClosed`. If cancelled: no
        effect."""
        await trio.lowlevel.checkpoint()
        while self._ended is None and not self.peer_has_ended and (self.is_frozen or self._outbound.backlog):
            await self._outbound.changed.park()
        late = self._peer.pong_delay if self._peer is not None else 0.0
        answer_at = trio.current_time() + self._outbound.latency + self._inbound.latency + late
        while self._ended is None and not self.peer_has_ended:
            if trio.current_time() >= answer_at and not self.is_frozen:
                return
            with trio.move_on_at(answer_at if not self.is_frozen else math.inf):
                await self._outbound.changed.park()
        if self._ended is not None:
            raise self._closed()
        raise TransportClosed(None, "", True)

    async def aclose(self, code: int = 1000, reason: str = "") -> None:
        """Flush the backlog, close politely, at most :data:`CLOSE_SECONDS`. Idempotent. If cancelled: the
        link is dead."""
        if self._ended is not None:
            await trio.lowlevel.checkpoint()
            return
        self._end(TransportClosed(code, reason, False))
        self._outbound.put_end(_Ended(code, reason), drop_backlog=False)
        try:
            with trio.move_on_after(CLOSE_SECONDS) as limit:
                while self.is_frozen or self._outbound.backlog:
                    await self._outbound.changed.park()
                await trio.sleep(self._outbound.latency + self._inbound.latency)
        except trio.Cancelled:
            self._reset()
            raise
        if limit.cancelled_caught:
            self._reset()

    def abort(self) -> None:
        """Drop the link. The other end's reader gets what was already written, then ``TransportClosed(None,
        "", True)``; it hears nothing at all while the link is frozen."""
        if self._ended is None:
            self._end(TransportClosed(None, "", False))
            self._reset()

    def statistics(self) -> TransportStatistics:
        return TransportStatistics(
            backlog_bytes=self._outbound.backlog_size,
            sent_messages=self._sent,
            received_messages=self._received,
        )

    # -- faults ---------------------------------------------------------------------------------------

    def freeze(self) -> None:
        """Half-open: nothing that has not arrived yet gets through, either way, and nobody is told."""
        self._inbound.set_frozen(True)
        self._outbound.set_frozen(True)

    def thaw(self) -> None:
        """The network is back: what was under way arrives now, in order (TCP would have retransmitted it)."""
        self._inbound.set_frozen(False)
        self._outbound.set_frozen(False)

    @property
    def is_frozen(self) -> bool:
        return self._outbound.frozen

    @property
    def has_ended(self) -> bool:
        """True when this end closed, aborted, or has received the other's end."""
        return self._ended is not None

    @property
    def peer_has_ended(self) -> bool:
        """True when the other end's close or reset has arrived here, read or not."""
        last = self._inbound.travelling[-1] if self._inbound.travelling else None
        if last is None or not isinstance(last.content, _Ended):
            return False
        return last.due <= trio.current_time() + SAME_INSTANT

    # -- inside ---------------------------------------------------------------------------------------

    def _poll(self) -> str | bytes | None:
        if self._ended is not None:
            raise self._closed()
        content = self._inbound.take()
        if isinstance(content, _Ended):
            self._end(TransportClosed(content.code, content.reason, True))
            raise self._closed()
        if content is not None:
            self._received += 1
        return content

    def _closed(self) -> TransportClosed:
        # A fresh exception each time: one that is raised twice grows its traceback.
        assert self._ended is not None
        return TransportClosed(self._ended.code, self._ended.reason, self._ended.by_peer)

    def _end(self, end: TransportClosed) -> None:
        self._ended = end
        if self._inbound.arrived is not None and not self._enough:
            self._failure, self._enough = self._closed(), True
            self._settled.unpark_all()
        self._inbound.wake()
        self._outbound.wake()

    def _reset(self) -> None:
        already_under_way = self._outbound.travelling and isinstance(
            self._outbound.travelling[-1].content, _Ended
        )
        if not already_under_way:
            self._outbound.put_end(_Ended(None, ""), drop_backlog=True)


def memory_link(
    *,
    latency: float = 0.0,
    backlog_bytes: int = 1_000_000,
    far_backlog_bytes: int | None = None,
    window_bytes: int = WINDOW_BYTES,
    network: Network | None = None,
) -> tuple[MemoryTransport, MemoryTransport]:
    """The two ends of a new link. ``latency`` in seconds, each way; ``backlog_bytes`` bounds what each end
    accepts beyond the ``window_bytes`` that the network holds; the second end may have another bound,
    ``far_backlog_bytes``. ``network`` must be running. Must be called, and used, inside one Trio run."""
    if latency < 0 or backlog_bytes < 1 or window_bytes < 1:
        raise ValueError("latency must not be negative; backlog_bytes and window_bytes must be at least 1")
    there = _Stream(latency, window_bytes, backlog_bytes, network=network)
    far = backlog_bytes if far_backlog_bytes is None else far_backlog_bytes
    back = _Stream(latency, window_bytes, far, network=network)
    left = MemoryTransport(inbound=back, outbound=there)
    right = MemoryTransport(inbound=there, outbound=back)
    left._peer, right._peer = right, left
    return left, right
