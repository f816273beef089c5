"""A byte stream that can be listened to: bytes read before, the head of an answer, the end."""

from __future__ import annotations

import re
from collections.abc import Callable
from typing import Literal

import trio

HEAD_BYTES_MAX = 16_384
"""As much of a peer's HTTP head as anybody accepts (h11's default, too)."""

END_OF_HEAD = re.compile(rb"\r?\n\r?\n")
ACCEPTED = re.compile(rb"HTTP/1\.[01] 101")
INTERIM = re.compile(rb"HTTP/1\.[01] 1(?!01)\d\d")


class TappedStream(trio.abc.Stream):
    """Wraps ``stream`` for the WebSocket library and hears what the library does not report.

    ``prefix`` is delivered first: bytes that somebody has read already. A failed write is not raised: the
    peer may have said its last words (an error, a close code) before it went, and the reader is to have them.

    ``hold``: the library gets the peer's head (a request, or an answer that accepts the upgrade) and not a byte
    more; what came with it is ``held`` for whoever takes the stream over.
    """

    def __init__(
        self,
        stream: trio.abc.Stream,
        prefix: bytes = b"",
        *,
        hold: Literal["request", "answer"] | None = None,
    ) -> None:
        self.stream = stream
        self._prefix = prefix
        self.head: bytearray | None = bytearray()
        """What the peer has sent so far, at most ``HEAD_BYTES_MAX``; None once nobody needs it."""
        self.on_end: Callable[[], None] | None = None
        """Called, without a checkpoint, when nothing more will be read."""
        self.ended = False
        self.write_failed = False
        self.held = b""
        self._hold = hold
        self._held_up = False
        self._passed = b""

    def _end(self) -> None:
        self.ended = True
        if self.on_end is not None:
            self.on_end()

    async def receive_some(self, max_bytes: int | None = None) -> bytes:
        """Bytes, or b"" at the end. If cancelled: no effect."""
        if self._held_up:
            await trio.sleep_forever()
        data = await self._receive(max_bytes)
        return data if self._hold is None else self._until_head_ends(data)

    def _until_head_ends(self, data: bytes) -> bytes:
        """``data`` without what comes after the head. Interim answers (1xx) come before the one that counts."""
        begin = len(self._passed)
        self._passed += data
        at = 0
        while (end := END_OF_HEAD.search(self._passed, at)) is not None:
            if self._hold == "request" or INTERIM.match(self._passed, at) is None:
                break
            at = end.end()
        if end is None:
            if len(self._passed) > 2 * HEAD_BYTES_MAX:
                self._hold = None  # no head at all: the library will say so
            return data
        accepted = self._hold == "request" or ACCEPTED.match(self._passed, at) is not None
        if not accepted:
            self._hold = None
            return data
        self.held = self._passed[max(end.end(), begin) :]
        self._passed = b""
        self._held_up = True
        return data[: len(data) - len(self.held)]

    async def _receive(self, max_bytes: int | None) -> bytes:
        if self._prefix:
            await trio.lowlevel.checkpoint()
            limit = len(self._prefix) if max_bytes is None else max_bytes
            data, self._prefix = self._prefix[:limit], self._prefix[limit:]
            return data
        try:
            data = bytes(await self.stream.receive_some(max_bytes))
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
            await self.stream.send_all(data)
        except (trio.BrokenResourceError, trio.ClosedResourceError):
            self.write_failed = True

    async def wait_send_all_might_not_block(self) -> None:
        await self.stream.wait_send_all_might_not_block()

    async def aclose(self) -> None:
        """If cancelled: closed all the same."""
        self._end()
        await self.stream.aclose()
