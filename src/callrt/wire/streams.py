"""A byte stream that can be listened to: bytes read before, the head of an answer, the end."""

from __future__ import annotations

from collections.abc import Callable

import trio

HEAD_BYTES_MAX = 16_384
"""As much of a peer's HTTP head as anybody accepts (h11's default, too)."""


class TappedStream(trio.abc.Stream):
    """Wraps ``stream`` for the WebSocket library and hears what the library does not report.

    ``prefix`` is delivered first: bytes that somebody has read already. A failed write is not raised: the
    peer may have said its last words (an error, a close code) before it went, and the reader is to have them.
    """

    def __init__(self, stream: trio.abc.Stream, prefix: bytes = b"") -> None:
        self._stream = stream
        self._prefix = prefix
        self.head: bytearray | None = bytearray()
        """What the peer has sent so far, at most ``HEAD_BYTES_MAX``; None once nobody needs it."""
        self.on_end: Callable[[], None] | None = None
        """Called, without a checkpoint, when nothing more will be read."""
        self.ended = False
        self.write_failed = False

    def _end(self) -> None:
        self.ended = True
        if self.on_end is not None:
            self.on_end()

    async def receive_some(self, max_bytes: int | None = None) -> bytes:
        """Bytes, or b"" at the end. If cancelled: no effect."""
        if self._prefix:
            await trio.lowlevel.checkpoint()
            limit = len(self._prefix) if max_bytes is None else max_bytes
            data, self._prefix = self._prefix[:limit], self._prefix[limit:]
            return data
        try:
            data = bytes(await self._stream.receive_some(max_bytes))
        except (trio.BrokenResourceError, trio.ClosedResourceError):
            self._end()
            raise
        if not data:
            self._end()
        if self.head is not None:
            self.head += data[: HEAD_BYTES_MAX - len(self.head)]
        return data

    async def send_all(self, data: bytes | bytearray | memoryview) -> None:
        """If cancelled: part of it may have been sent; the stream is of no use any more."""
        if self.write_failed:
            await trio.lowlevel.checkpoint()
            return
        try:
            await self._stream.send_all(data)
        except (trio.BrokenResourceError, trio.ClosedResourceError):
            self.write_failed = True

    async def wait_send_all_might_not_block(self) -> None:
        await self._stream.wait_send_all_might_not_block()

    async def aclose(self) -> None:
        """If cancelled: closed all the same."""
        self._end()
        await self._stream.aclose()
