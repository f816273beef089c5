"""The seam between sockets and codecs: whole messages in and out, no await on the way out.

Two implementations stand behind it: the reference one over trio-websocket's message API (``connection.py``) and
the direct one that takes the socket over after the handshake (``direct.py``). Both pass ``tests/wire``.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Protocol, runtime_checkable

import attrs
import trio

MESSAGES_AT_ONCE = 64
"""Handed over before others get a turn: a reply in a burst must not starve another call."""

Sink = Callable[[str | bytes], bool]
"""Takes one message; False: no more of them."""


class TransportClosed(Exception):
    """The socket has ended. Says who ended it and how; raised to the one reader."""

    def __init__(self, code: int | None, reason: str, by_peer: bool) -> None:
        super().__init__(f"socket closed by {'peer' if by_peer else 'us'}: code {code}")
        self.code = code
        """The close code, or None when the connection was lost without a close (1006)."""
        self.reason = reason
        self.by_peer = by_peer


@attrs.frozen
class TransportStatistics:
    backlog_bytes: int
    """Accepted by ``send_nowait`` and not yet written."""
    sent_messages: int
    received_messages: int


class Transport(Protocol):
    """One WebSocket, one reader, one writer."""

    async def receive(self) -> str | bytes:
        """The next whole message. Raises :class:`TransportClosed`. If cancelled: no effect."""
        ...

    def receive_nowait(self) -> str | bytes:
        """The next whole message that has arrived; :class:`trio.WouldBlock` if none. No checkpoint."""
        ...

    def send_nowait(self, message: str | bytes) -> bool:
        """Queue one text (str) or binary (bytes) message, in order. No checkpoint.

        False, and nothing queued, when the bounded backlog is full or the socket has ended: the sender
        decides what that means.
        """
        ...

    async def ping(self) -> None:
        """Send a ping and wait for its pong. If cancelled: the ping may have been sent."""
        ...

    async def aclose(self, code: int = 1000, reason: str = "") -> None:
        """Flush the backlog, close politely, at most a few seconds. Idempotent.

        If cancelled: the socket is dead.
        """
        ...

    def abort(self) -> None:
        """Drop the socket at once; the reader gets :class:`TransportClosed`. No checkpoint."""
        ...

    def statistics(self) -> TransportStatistics: ...


@runtime_checkable
class Delivering(Protocol):
    """A transport that can hand messages over in the step in which it reads them."""

    async def deliver(self, sink: Sink) -> None: ...


@runtime_checkable
class WritingTogether(Protocol):
    """A transport that can put several messages into one write."""

    def send_together_nowait(self, messages: Sequence[str]) -> bool: ...


def sender(transport: Transport) -> Callable[[Sequence[str]], bool]:
    """``send_nowait`` for several text messages, in one write where the transport can do that. False: the last of
    them was not taken, and perhaps none."""
    if isinstance(transport, WritingTogether):
        return transport.send_together_nowait

    def one_by_one(messages: Sequence[str]) -> bool:
        return all(transport.send_nowait(message) for message in messages)

    return one_by_one


async def deliver(transport: Transport, sink: Sink) -> None:
    """Hand every message to ``sink`` until it returns False: without a task switch where the transport can do that.

    Raises :class:`TransportClosed`, and whatever ``sink`` raises. ``sink`` is called between checkpoints, possibly in
    another task's step: it must neither wait nor ask which task it is. If cancelled: no message is lost.
    """
    if isinstance(transport, Delivering):
        await transport.deliver(sink)
        return
    while True:
        message = await transport.receive()
        for _ in range(MESSAGES_AT_ONCE):
            if not sink(message):
                return
            try:
                message = transport.receive_nowait()
            except trio.WouldBlock:
                break
        else:
            if not sink(message):
                return
