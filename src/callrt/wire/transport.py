"""The seam between sockets and codecs: whole messages in and out, no await on the way out.

Two implementations stand behind it: the reference one over trio-websocket's message API (``connection.py``) and
the direct one that takes the socket over after the handshake (``direct.py``). Both pass ``tests/wire``.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Sequence
from typing import Protocol

import attrs
import trio

MESSAGES_AT_ONCE = 64
"""Handed over before others get a turn: a reply in a burst must not starve another call."""

Sink = Callable[[str | bytes], bool]
"""Takes one message; False: no more of them."""

Glance = Callable[[bytes], bool]
"""Looks at the bytes of a text message before anybody has asked whether they are UTF-8. True: it is handled, whole.
False: nothing has been done, the sink is to have it."""


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


# A transport may have ways of its own for what comes often: ``deliver``, ``send_together_nowait`` and
# ``send_encoded_nowait``, of these types. They are looked up by name: to ask whether it fits a Protocol takes as
# long as three frames.
_Deliver = Callable[[Sink, Glance | None], Awaitable[None]]
_SendTogether = Callable[[Sequence[str]], bool]
_SendEncoded = Callable[[bytes], bool]


def encoded_sender(transport: Transport) -> Callable[[bytes], bool]:
    """``send_nowait`` for text messages that are UTF-8 already."""
    own: _SendEncoded | None = getattr(transport, "send_encoded_nowait", None)
    return own or (lambda text: transport.send_nowait(text.decode()))


def sender(transport: Transport) -> Callable[[Sequence[str]], bool]:
    """``send_nowait`` for several text messages, in one write where the transport can do that. False: the last of
    them was not taken, and perhaps none."""
    own: _SendTogether | None = getattr(transport, "send_together_nowait", None)
    if own is not None:
        return own

    def one_by_one(messages: Sequence[str]) -> bool:
        return all(transport.send_nowait(message) for message in messages)

    return one_by_one


def glancing(sink: Sink, glance: Glance | None) -> Sink:
    """Both in one, for a transport that has only whole messages."""
    if glance is None:
        return sink

    def both(message: str | bytes) -> bool:
        return (isinstance(message, str) and glance(message.encode())) or sink(message)

    return both


def deliver(transport: Transport, sink: Sink, glance: Glance | None = None) -> Awaitable[None]:
    """Hand every message to ``sink`` until it returns False: without a task switch where the transport can do that.

    ``glance`` is asked first about each text message; what it has handled does not come to ``sink``. Raises
    :class:`TransportClosed`, and whatever the two raise. They are called between checkpoints, possibly in another
    task's step: they must neither wait nor ask which task it is. If cancelled: no message is lost.
    """
    own: _Deliver | None = getattr(transport, "deliver", None)
    return own(sink, glance) if own is not None else _deliver(transport, glancing(sink, glance))


async def _deliver(transport: Transport, sink: Sink) -> None:
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
