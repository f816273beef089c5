"""The emulated carrier on real sockets: webhooks through httpx, media sockets that can be broken, REST on a
port."""

from __future__ import annotations

import json
import socket
import ssl
import struct
from collections.abc import AsyncIterator, Mapping, Sequence
from contextlib import asynccontextmanager
from typing import Any
from urllib.parse import parse_qsl, urlsplit

import httpx
import trio

from callrt.service.http import HttpRequest, HttpResponse, serve_http
from callrt.testing.carrier import Carrier
from callrt.testing.carrier_webhooks import Reply, Request
from callrt.wire.limits import CLIENT_LIMITS
from callrt.wire.transport import Transport, TransportStatistics
from callrt.wire.websocket import ConnectFailed, connect_over

_LINGER_ZERO = struct.pack("ii", 1, 0)


@asynccontextmanager
async def open_carrier(voice_url: str, **options: Any) -> AsyncIterator[Carrier]:
    """A :class:`Carrier` over real sockets; ``options`` are its own. Nothing stays open behind the
    block."""
    async with httpx.AsyncClient(timeout=10.0, trust_env=False) as client:
        yield Carrier(voice_url, http_request(client), open_media_socket, **options)


def http_request(client: httpx.AsyncClient) -> Request:
    """The HTTP seam over httpx."""

    async def request(method: str, url: str, headers: Mapping[str, str], form: Mapping[str, str]) -> Reply:
        data = dict(form) if method == "POST" else None
        try:
            answer = await client.request(method, url, headers=dict(headers), data=data)
        except httpx.TransportError as error:
            raise ConnectionError(f"{type(error).__name__}") from error
        return answer.status_code, dict(answer.headers), answer.content

    return request


@asynccontextmanager
async def open_media_socket(url: str, headers: Sequence[tuple[bytes, bytes]]) -> AsyncIterator[Transport]:
    """The media seam over TCP. Raises ConnectFailed or UpgradeRefused; leaving the block closes
    politely."""
    error: BaseException
    try:
        async with trio.open_nursery() as nursery:
            transport = await _open(nursery, url, headers)
            try:
                yield transport
            finally:
                await transport.aclose()
    except BaseExceptionGroup as group:
        if len(group.exceptions) != 1:
            raise
        error = group.exceptions[0]
    else:
        return
    raise error


async def _open(
    nursery: trio.Nursery, url: str, headers: Sequence[tuple[bytes, bytes]]
) -> BreakableTransport:
    parts = urlsplit(url)
    secure = parts.scheme == "wss"
    if not parts.hostname:
        raise ConnectFailed("network")
    port = parts.port or (443 if secure else 80)
    with trio.move_on_after(CLIENT_LIMITS.open_timeout):
        try:
            raw = await trio.open_tcp_stream(parts.hostname, port)
        except OSError as error:
            raise ConnectFailed("network") from error
        stream: trio.abc.Stream = raw
        if secure:
            context = ssl.create_default_context()
            stream = trio.SSLStream(raw, context, server_hostname=parts.hostname, https_compatible=True)
        gate = GatedStream(stream)
        host = parts.hostname if parts.port is None else f"{parts.hostname}:{port}"
        websocket = await connect_over(nursery, gate, host, parts.path or "/", headers)
        return BreakableTransport(websocket, gate, raw)
    raise ConnectFailed("timeout")


class GatedStream(trio.abc.Stream):
    """A stream whose network can be lost: after :meth:`freeze` nothing is read or written, and nobody is
    told."""

    def __init__(self, stream: trio.abc.Stream) -> None:
        self._stream = stream
        self._frozen = False

    def freeze(self) -> None:
        self._frozen = True

    async def receive_some(self, max_bytes: int | None = None) -> bytes | bytearray:
        """If cancelled: no effect."""
        data = await self._stream.receive_some(max_bytes)
        if self._frozen:
            await trio.sleep_forever()
        return data

    async def send_all(self, data: bytes | bytearray | memoryview) -> None:
        """If cancelled: part of it may have been sent."""
        if self._frozen:
            await trio.sleep_forever()
        await self._stream.send_all(data)

    async def wait_send_all_might_not_block(self) -> None:
        if self._frozen:
            await trio.sleep_forever()
        await self._stream.wait_send_all_might_not_block()

    async def aclose(self) -> None:
        await self._stream.aclose()


class BreakableTransport:
    """A :class:`~callrt.wire.transport.Transport` that owns its TCP socket, to break it as networks do."""

    def __init__(self, transport: Transport, gate: GatedStream, raw: trio.SocketStream) -> None:
        self._transport = transport
        self._gate = gate
        self._raw = raw

    def reset(self) -> None:
        """RST, by closing with a linger of zero."""
        self._raw.socket.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, _LINGER_ZERO)
        self._transport.abort()

    def finish(self) -> None:
        """FIN, and no close frame before it."""
        self._raw.socket.shutdown(socket.SHUT_WR)

    def freeze(self) -> None:
        """Half-open from now on: pings are not answered either."""
        self._gate.freeze()

    async def receive(self) -> str | bytes:
        return await self._transport.receive()

    def receive_nowait(self) -> str | bytes:
        return self._transport.receive_nowait()

    def send_nowait(self, message: str | bytes) -> bool:
        return self._transport.send_nowait(message)

    async def ping(self) -> None:
        await self._transport.ping()

    async def aclose(self, code: int = 1000, reason: str = "") -> None:
        await self._transport.aclose(code, reason)

    def abort(self) -> None:
        self._transport.abort()

    def statistics(self) -> TransportStatistics:
        return self._transport.statistics()


async def serve_rest(
    carrier: Carrier,
    port: int = 0,
    *,
    host: str = "127.0.0.1",
    task_status: trio.TaskStatus[int] = trio.TASK_STATUS_IGNORED,
) -> None:
    """The carrier's REST interface on a port, until cancelled; ``task_status`` gets the port."""

    async def handler(request: HttpRequest) -> HttpResponse:
        form = dict(parse_qsl(request.body.decode("utf-8", "replace"), keep_blank_values=True))
        status, body = carrier.handle(request.method, request.path, form, request.header("authorization"))
        return HttpResponse(status, json.dumps(body).encode(), "application/json")

    async def serve(stream: trio.SocketStream) -> None:
        await serve_http(stream, handler)

    listeners = await trio.open_tcp_listeners(port, host=host)
    async with trio.open_nursery() as nursery:
        nursery.start_soon(trio.serve_listeners, serve, listeners)
        task_status.started(listeners[0].socket.getsockname()[1])
