"""Let the library open the WebSocket, and take its tasks away when it has."""

from __future__ import annotations

import trio
from trio_websocket import WebSocketConnection

from callrt.wire.connection import EXPECTED, Handshake, leaves
from callrt.wire.direct_hub import AVAILABLE
from callrt.wire.direct_tls import TlsStream
from callrt.wire.streams import TappedStream


def can_take(stream: trio.abc.Stream) -> bool:
    """Has this stream a socket that can be taken over?"""
    return AVAILABLE and type(stream) in (trio.SocketStream, TlsStream)


async def open_websocket(
    handshake: Handshake, tap: TappedStream, scope: trio.CancelScope
) -> tuple[WebSocketConnection | None, BaseException | None]:
    """The opened connection, no task of which is left; or None and why, if anybody knows why.

    ``scope`` bounds the handshake: its deadline is the peer's time. If cancelled: nothing is left but the stream.
    """
    connection: WebSocketConnection | None = None
    failure: BaseException | None = None
    try:
        async with trio.open_nursery() as library:
            with scope:
                tap.on_end = scope.cancel
                connection = await handshake(library, tap)
            tap.on_end = None
            if scope.cancelled_caught:
                failure = EOFError() if tap.ended else TimeoutError()
            # The library's part is over, well or not.
            library.cancel_scope.cancel()
    except* EXPECTED as group:
        connection, failure = None, next(leaves(group))
    return connection, failure
