"""Opening WebSockets, from both ends. No permessage-deflate: it costs more than it saves on base64 audio.

Whoever opens a socket ends it: ``aclose`` or ``abort``, or by leaving the context of :func:`open_client`. Given a
nursery it is also dropped when that is cancelled; a socket that :func:`stands_alone` needs none.
"""

from __future__ import annotations

import ssl
from collections.abc import AsyncIterator, Awaitable, Callable, Sequence
from contextlib import AbstractAsyncContextManager, asynccontextmanager
from types import TracebackType
from urllib.parse import urlsplit

import trio
from trio_websocket import (
    ConnectionRejected,
    WebSocketConnection,
    wrap_client_stream,
    wrap_server_stream,
)

from callrt.wire.connection import Handshake, WebSocketTransport
from callrt.wire.direct import DirectTransport
from callrt.wire.direct_hub import AVAILABLE
from callrt.wire.direct_opening import can_take
from callrt.wire.direct_tls import TlsStream
from callrt.wire.limits import CLIENT_LIMITS, SERVER_LIMITS, SocketLimits
from callrt.wire.streams import TappedStream

Headers = Sequence[tuple[bytes, bytes]]
"""As h11 has them: lower-case names, in order, repeats kept."""

Check = Callable[[str, Headers], Awaitable[tuple[int, bytes] | None]]
"""Of (path with query, request headers): None to accept, or the status and body of the refusal. Cancelled when the peer
ends, or its time is up."""

RECEIVE_BYTES = 16_384
"""Per read: a reply's audio comes in pieces of some kilobytes; the buffer is allocated anew each time."""

CLOSE_AFTER_ERROR_SECONDS = 0.05
"""Enough for a close frame to be written; a peer that has failed may never answer it."""


OpenTransport = WebSocketTransport | DirectTransport
"""Whichever of the two; beyond the seam both tell the path, and whether they are open."""


class ConnectFailed(Exception):
    """There is no WebSocket, and nobody said why: worth another try."""

    def __init__(self, reason: str) -> None:
        super().__init__(f"no connection: {reason}")
        self.reason = reason
        """``network``, ``tls``, ``timeout``, or ``not_websocket``: the peer ended or spoke something else."""


class UpgradeRefused(Exception):
    """The peer is there and answered the upgrade with another status than 101."""

    def __init__(self, status: int, retry_after: float | None) -> None:
        super().__init__(f"upgrade refused: status {status}")
        self.status = status
        self.retry_after = retry_after
        """Seconds, if the peer said so in seconds."""


def stands_alone(stream: trio.abc.Stream, limits: SocketLimits) -> bool:
    """Needs a WebSocket on this stream no task of its own?"""
    return limits.direct and can_take(stream)


async def connect(
    nursery: trio.Nursery | None,
    url: str,
    headers: Headers = (),
    *,
    ssl_context: ssl.SSLContext | None = None,
    limits: SocketLimits = CLIENT_LIMITS,
) -> OpenTransport:
    """Open a client socket to ``ws://`` or ``wss://`` ``url``; ``nursery`` as in :func:`connect_over`.

    Raises :class:`ConnectFailed`, :class:`UpgradeRefused`, or ValueError for a bad address. At most twice
    ``limits.open_timeout``. If cancelled: nothing is left open.
    """
    parts = urlsplit(url)
    if parts.scheme not in ("ws", "wss") or not parts.hostname:
        raise ValueError("a WebSocket address begins with ws:// or wss:// and names a host")
    secure = parts.scheme == "wss"
    port = parts.port or (443 if secure else 80)
    host = f"[{parts.hostname}]" if ":" in parts.hostname else parts.hostname
    if parts.port is not None:
        host = f"{host}:{port}"
    target = (parts.path or "/") + (f"?{parts.query}" if parts.query else "")
    context = (ssl_context or ssl.create_default_context()) if secure else None
    stream = None
    with trio.move_on_after(limits.open_timeout):
        stream = await _dial(parts.hostname, port, context, direct=limits.direct)
    if stream is None:
        raise ConnectFailed("timeout")
    return await connect_over(nursery, stream, host, target, headers, limits=limits)


async def connect_over(
    nursery: trio.Nursery | None,
    stream: trio.abc.Stream,
    host: str,
    target: str = "/",
    headers: Headers = (),
    *,
    limits: SocketLimits = CLIENT_LIMITS,
) -> OpenTransport:
    """Upgrade an open ``stream``; as :func:`connect`. The stream is the transport's, also on failure. ``nursery``: for
    its tasks, and to end it with; None only where it :func:`stands_alone`."""

    async def handshake(library: trio.Nursery, tap: TappedStream) -> WebSocketConnection:
        return await wrap_client_stream(
            library,
            tap,  # type: ignore[arg-type]  # any stream will do: the library's own annotation is narrower than its code
            host,
            target,
            extra_headers=list(headers),
            message_queue_size=limits.inbox_messages,
            max_message_size=limits.message_bytes,
            receive_buffer_size=RECEIVE_BYTES,
        )

    transport: OpenTransport
    if stands_alone(stream, limits):
        transport = DirectTransport(stream, limits, server=False)
    else:
        transport = WebSocketTransport(stream, limits)
    await _open(transport, handshake, nursery, "websocket client")
    if not transport.was_opened:
        raise _why(transport)
    return transport


def open_client(
    url: str,
    headers: Headers = (),
    *,
    ssl_context: ssl.SSLContext | None = None,
    limits: SocketLimits = CLIENT_LIMITS,
) -> AbstractAsyncContextManager[OpenTransport]:
    """:func:`connect` for the length of a block; leaving it closes politely, a cancellation drops the socket, an
    error waits for the peer only for a moment.

    What the block raises comes out as it is, in no group.
    """
    client = _Client(url, headers, ssl_context, limits)
    # What is dialled here is a TCP stream, or TLS of our own: both stand alone.
    return client if limits.direct and AVAILABLE else _in_a_nursery(client)


class _Client:
    """A client's socket for the length of a block."""

    __slots__ = ("_headers", "_limits", "_ssl_context", "_transport", "_url", "nursery")

    def __init__(
        self, url: str, headers: Headers, ssl_context: ssl.SSLContext | None, limits: SocketLimits
    ) -> None:
        self._url = url
        self._headers = headers
        self._ssl_context = ssl_context
        self._limits = limits
        self.nursery: trio.Nursery | None = None

    async def __aenter__(self) -> OpenTransport:
        self._transport = await connect(
            self.nursery, self._url, self._headers, ssl_context=self._ssl_context, limits=self._limits
        )
        self._url, self._headers = "", ()  # of no use any more, while the call goes on
        return self._transport

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if isinstance(error, Exception):
            # Something has gone wrong, and somebody waits to be told: the peer gets a close frame, no patience.
            with trio.move_on_after(CLOSE_AFTER_ERROR_SECONDS):
                await self._transport.aclose()
        else:
            await self._transport.aclose()


@asynccontextmanager
async def _in_a_nursery(client: _Client) -> AsyncIterator[OpenTransport]:
    try:
        async with trio.open_nursery() as client.nursery, client as transport:
            yield transport
    except BaseExceptionGroup as group:
        if len(group.exceptions) != 1:
            raise
        error = group.exceptions[0]
    else:
        return
    raise error


async def accept(
    nursery: trio.Nursery | None,
    stream: trio.abc.Stream,
    check: Check,
    *,
    pre_read: bytes = b"",
    limits: SocketLimits = SERVER_LIMITS,
) -> OpenTransport | None:
    """Answer an upgrade request on ``stream``, of which ``pre_read`` has been read already; ``nursery`` as in
    :func:`connect_over`.

    None when there is no WebSocket: ``check`` refused it, the request was none (answered with 400), or it
    did not come within ``limits.open_timeout``. The stream is the transport's, also then. What ``check`` raises
    is raised here, after the client has been told 500. If cancelled: the stream is closed.
    """
    bugs: list[Exception] = []

    async def handshake(library: trio.Nursery, tap: TappedStream) -> WebSocketConnection | None:
        request = await wrap_server_stream(
            library,
            tap,
            message_queue_size=limits.inbox_messages,
            max_message_size=limits.message_bytes,
            receive_buffer_size=RECEIVE_BYTES,
        )
        try:
            refusal = await check(request.path, request.headers)
        except Exception as bug:
            bugs.append(bug)
            refusal = (500, b"")
        if refusal is None:
            # The peer may say all it has to say and go before we are back: that is heard, not a failed upgrade.
            tap.on_end = None
            return await request.accept()
        status, body = refusal
        headers = [(b"content-type", b"text/plain; charset=utf-8"), (b"connection", b"close")]
        await request.reject(status, extra_headers=headers, body=body)
        return None

    transport: OpenTransport
    if stands_alone(stream, limits):
        transport = DirectTransport(stream, limits, server=True, prefix=pre_read)
    else:
        transport = WebSocketTransport(stream, limits, prefix=pre_read)
    await _open(transport, handshake, nursery, "websocket server")
    if bugs:
        raise bugs[0]
    return transport if transport.was_opened else None


async def _open(
    transport: OpenTransport, handshake: Handshake, nursery: trio.Nursery | None, name: str
) -> None:
    if nursery is not None:
        await nursery.start(transport.run, handshake, name=name)
        return
    assert isinstance(transport, DirectTransport), "this transport has tasks: it needs a nursery"
    await transport.open(handshake)


async def _dial(host: str, port: int, context: ssl.SSLContext | None, *, direct: bool) -> trio.abc.Stream:
    try:
        plain = await trio.open_tcp_stream(host, port)
    except (OSError, ValueError) as error:  # ValueError: what cannot be a host's name is not even looked up
        raise ConnectFailed("network") from error
    if context is None:
        return plain
    stream: TlsStream | trio.SSLStream[trio.SocketStream]
    if direct:
        stream = TlsStream(plain, context, host)
    else:
        stream = trio.SSLStream(plain, context, server_hostname=host, https_compatible=True)
    try:
        await stream.do_handshake()
    except BaseException as error:
        await trio.aclose_forcefully(stream)
        if isinstance(error, trio.BrokenResourceError):
            raise ConnectFailed("tls") from error
        raise
    return stream


def _why(transport: OpenTransport) -> ConnectFailed | UpgradeRefused:
    """An answer without a length ends with the socket; then only the head says what the status was."""
    failure = transport.opening_failure
    if isinstance(failure, ConnectionRejected):
        fields = {name.lower(): value for name, value in failure.headers}
        return UpgradeRefused(failure.status_code, _seconds(fields.get(b"retry-after", b"")))
    lines = transport.head_received.split(b"\r\n\r\n")[0].split(b"\r\n")
    words = lines[0].split(b" ")
    if words[0].startswith(b"HTTP/1.") and len(words) > 1 and words[1].isdigit() and words[1] != b"101":
        fields = {
            name.strip().lower(): value.strip()
            for name, _, value in (line.partition(b":") for line in lines[1:])
        }
        return UpgradeRefused(int(words[1]), _seconds(fields.get(b"retry-after", b"")))
    return ConnectFailed("timeout" if isinstance(failure, TimeoutError) else "not_websocket")


def _seconds(value: bytes) -> float | None:
    """A delay in seconds; the date form would need a wall clock and is not worth one."""
    return float(value) if value.isdigit() and len(value) <= 6 else None
