"""One media socket of the carrier: a :class:`MediaStream` wired to a transport, and every way in which it
ends."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from contextlib import AbstractAsyncContextManager
from typing import Literal, Protocol, runtime_checkable

import trio

from callrt.testing.carrier_plan import DropKind
from callrt.testing.carrier_stream import MediaStream
from callrt.wire.transport import Transport, TransportClosed, deliver

Connect = Callable[[str, Sequence[tuple[bytes, bytes]]], AbstractAsyncContextManager[Transport]]
"""Opens a client socket to an address with extra headers. Raises
:class:`callrt.wire.websocket.ConnectFailed` or
:class:`callrt.wire.websocket.UpgradeRefused`."""

Ending = Literal["none", "peer_closed", "lost", "rst", "fin", "close", "stop", "half_open"]

FLUSH_SECONDS = 0.25
"""How long a drop waits until what was sent before it has left."""


@runtime_checkable
class Droppable(Protocol):
    """A transport whose connection can be broken in other ways than :meth:`Transport.abort`."""

    def reset(self) -> None:
        """RST: the peer's next read or write fails."""
        ...

    def finish(self) -> None:
        """FIN without a close frame: the peer reads the end of the stream."""
        ...


@runtime_checkable
class Freezable(Protocol):
    """A transport that can lose its network without either end noticing."""

    def freeze(self) -> None: ...


class LiveStream:
    """The stream while its socket lives. One task runs :meth:`run`; everything else is synchronous."""

    def __init__(self, media: MediaStream, transport: Transport, started_at: float) -> None:
        self.media = media
        self.started_at = started_at
        self.ending: Ending = "none"
        self.close_code: int | None = None
        self.over = trio.Event()
        """The carrier knows that the stream has ended: the call's document goes on."""
        self.closed = trio.Event()
        """The socket is gone, too."""
        self.retired = False
        """A newer stream of the call is being played instead."""
        self._transport = transport
        self._half_open = False
        self._read_scope = trio.CancelScope()
        self._released = trio.Event()

    @property
    def is_live(self) -> bool:
        return not self.over.is_set()

    @property
    def is_sending(self) -> bool:
        return self.is_live and not self._half_open

    def send(self, messages: Sequence[str]) -> bool:
        """False when the app reads too slowly and something was lost. Nothing goes out when half-open."""
        if not self.is_sending:
            return True
        taken = True
        for message in messages:  # all of them: a short cut would leave out what follows a refused one
            taken &= self._transport.send_nowait(message)
        return taken

    def send_audio(self, frame: bytes, *, discard: bool) -> bool:
        """The caller's next frame; False if it was discarded."""
        message = self.media.hear(frame, discard=discard)
        if message is not None and self.is_sending and not self._transport.send_nowait(message):
            self.media.discarded += 1
            return False
        return message is not None

    def drop(self, how: DropKind) -> None:
        """Lose the stream now. No checkpoint. Half-open: it stays ``live`` for the carrier until
        :meth:`notice`."""
        if not self.is_live:
            return
        if how == "half_open":
            self._half_open = True
            self._read_scope.cancel()
            if isinstance(self._transport, Freezable):
                self._transport.freeze()
            return
        self._end(how)

    def stop(self) -> None:
        """The carrier ends the stream in order; when half-open, nobody hears of it."""
        self._end("half_open" if self._half_open else "stop")

    def notice(self) -> None:
        """The carrier finds out about a half-open socket."""
        if self._half_open:
            self._end("half_open")

    def release(self) -> None:
        """The call is over: a socket that was kept open for nobody is closed now."""
        self._released.set()
        self.stop()

    def _end(self, how: Ending) -> None:
        if self.is_live:
            self.ending = how
            self.over.set()
            self._read_scope.cancel()

    async def run(self) -> None:
        """Read until the stream ends, then end the socket. If cancelled: the socket is dropped."""
        try:
            await self._read()
            await self.over.wait()
            await self._finish()
        finally:
            self._transport.abort()
            self.closed.set()

    async def _read(self) -> None:
        with self._read_scope:
            try:
                await deliver(self._transport, self._take)
            except TransportClosed as closed:
                self.close_code = closed.code
                self._end("lost" if closed.code in (None, 1006) else "peer_closed")

    def _take(self, message: str | bytes) -> bool:
        self.send(self.media.receive(message, trio.current_time()))
        return True

    async def _finish(self) -> None:
        match self.ending:
            case "rst" | "fin":
                await self._flush()
                if not isinstance(self._transport, Droppable):
                    self._transport.abort()
                elif self.ending == "rst":
                    self._transport.reset()
                else:
                    self._transport.finish()
                    await trio.sleep(FLUSH_SECONDS)  # closing over unread input would be a reset
            case "stop":
                self._transport.send_nowait(self.media.stop(trio.current_time()))
                await self._transport.aclose()
            case "half_open":
                await self._released.wait()
            case _:
                await self._transport.aclose()

    async def _flush(self) -> None:
        """An echo that was sent before the drop shall arrive; a reset would overtake it."""
        with trio.move_on_after(FLUSH_SECONDS):
            while self._transport.statistics().backlog_bytes:
                await trio.sleep(0.001)
