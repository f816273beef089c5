"""An app on loopback sockets, for tests of the emulated carrier in real time."""

from __future__ import annotations

import base64
import json
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from urllib.parse import parse_qsl

import trio
from carrier_helpers import TOKEN, document

from callrt.service.http import HttpRequest, HttpResponse, serve_http
from callrt.testing.carrier import Carrier
from callrt.testing.carrier_net import open_carrier
from callrt.testing.carrier_signing import sign
from callrt.testing.speech import beeps
from callrt.wire.connection import WebSocketTransport
from callrt.wire.transport import TransportClosed
from callrt.wire.websocket import accept

AUDIO = beeps("some words")


class Server:
    """Webhooks on one port, media sockets on another."""

    def __init__(
        self, nursery: trio.Nursery, behaviour: Callable[[Server, WebSocketTransport], Awaitable[None]]
    ) -> None:
        self._nursery = nursery
        self._behaviour = behaviour
        self.url = self.media_url = ""
        self.documents: dict[str, str] = {}
        self.paths: list[str] = []
        self.unsigned = 0
        self.refuse: int | None = None
        self.stream_sid = ""
        self.received: list[tuple[float, str]] = []
        self.closed: list[TransportClosed] = []

    async def start(self) -> None:
        http = await trio.open_tcp_listeners(0, host="127.0.0.1")
        media = await trio.open_tcp_listeners(0, host="127.0.0.1")
        self.url = f"http://127.0.0.1:{http[0].socket.getsockname()[1]}"
        self.media_url = f"ws://127.0.0.1:{media[0].socket.getsockname()[1]}/media"
        self._nursery.start_soon(trio.serve_listeners, self._http, http)
        self._nursery.start_soon(trio.serve_listeners, self._media, media)
        connect = f'<Connect action="/action"><Stream url="{self.media_url}"/></Connect>'
        self.documents = {"/voice": document(connect), "/action": document("<Hangup/>")}

    async def _http(self, stream: trio.SocketStream) -> None:
        async def handler(request: HttpRequest) -> HttpResponse:
            form = dict(parse_qsl(request.body.decode(), keep_blank_values=True))
            if request.header("x-twilio-signature") != sign(TOKEN, self.url + request.path, form):
                self.unsigned += 1
            self.paths.append(request.path)
            return HttpResponse(200, self.documents[request.path].encode(), "text/xml")

        await serve_http(stream, handler)

    async def _media(self, stream: trio.SocketStream) -> None:
        async def check(path: str, headers: object) -> tuple[int, bytes] | None:
            fields = dict(headers)  # type: ignore[call-overload]
            if fields.get(b"x-twilio-signature", b"").decode() != sign(TOKEN, self.media_url, {}):
                self.unsigned += 1
            return None if self.refuse is None else (self.refuse, b"no")

        async with trio.open_nursery() as nursery:
            transport = await accept(nursery, stream, check)
            if transport is None:
                return
            try:
                while True:
                    message = str(await transport.receive())
                    self.received.append((trio.current_time(), message))
                    if '"start"' in message:
                        self.stream_sid = json.loads(message)["streamSid"]
                        nursery.start_soon(self._behaviour, self, transport)
            except TransportClosed as closed:
                self.closed.append(closed)
            nursery.cancel_scope.cancel()

    async def wait_closed(self) -> None:
        with trio.fail_after(5):
            while not self.closed:
                await trio.sleep(0.01)

    def marks(self) -> list[str]:
        return [json.loads(m)["mark"]["name"] for _, m in self.received if '"mark"' in m]


def media(stream_sid: str, audio: bytes) -> str:
    payload = base64.b64encode(audio).decode()
    return json.dumps({"event": "media", "streamSid": stream_sid, "media": {"payload": payload}})


def mark(stream_sid: str, name: str) -> str:
    return json.dumps({"event": "mark", "streamSid": stream_sid, "mark": {"name": name}})


async def play(server: Server, transport: WebSocketTransport) -> None:
    for at in range(0, len(AUDIO), 800):
        transport.send_nowait(media(server.stream_sid, AUDIO[at : at + 800]))
        transport.send_nowait(mark(server.stream_sid, str(at // 800)))


@asynccontextmanager
async def serving(
    behaviour: Callable[[Server, WebSocketTransport], Awaitable[None]] = play,
) -> AsyncIterator[tuple[Server, Carrier]]:
    async with trio.open_nursery() as nursery:
        server = Server(nursery, behaviour)
        await server.start()
        async with open_carrier(f"{server.url}/voice", auth_token=TOKEN) as carrier:
            yield server, carrier
        nursery.cancel_scope.cancel()
