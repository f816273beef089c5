"""The emulated carrier over loopback sockets: real resets, real ends, real time."""

from __future__ import annotations

import base64
import json
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from urllib.parse import parse_qsl

import httpx
import pytest
import trio
from carrier_helpers import TOKEN, document

from callrt.service.http import HttpRequest, HttpResponse, serve_http
from callrt.testing.carrier import Carrier, Drop, Line
from callrt.testing.carrier_net import open_carrier, serve_rest
from callrt.testing.carrier_plan import DropKind
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
        def check(path: str, headers: object) -> tuple[int, bytes] | None:
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


async def test_call_over_sockets_is_heard_in_real_time() -> None:
    async def script(line: Line) -> None:
        await line.wait_for_agent_silence(0.1)
        line.hang_up()

    async with serving() as (server, carrier):
        call = carrier.place(script)
        began = trio.current_time()
        await call.run()
        lasted = trio.current_time() - began
    assert server.unsigned == 0
    assert call.tape.agent_audio() == AUDIO
    assert call.end_reason == "caller_hung_up"
    assert lasted >= len(AUDIO) / 8000
    # Absolute deadlines: the clock does not run late however long it runs.
    assert call.tape.seconds == pytest.approx(lasted, abs=0.2)
    assert '"stop"' in server.received[-1][1]
    assert server.closed[0].code == 1000


@pytest.mark.parametrize(("how", "code"), [("rst", None), ("fin", None), ("close", 1000), ("stop", 1000)])
async def test_drop_ends_the_socket_as_named_and_the_echo_before_it_arrives(
    how: DropKind, code: int | None
) -> None:
    async with serving() as (server, carrier):
        call = carrier.place(drops=(Drop(how, heard_ms=200),))
        await call.run()
        with trio.fail_after(5):
            while not server.closed:  # noqa: ASYNC110
                await trio.sleep(0.01)
    assert server.closed[0].by_peer
    assert server.closed[0].code == code
    assert call.tape.agent_audio() == AUDIO[:1600]
    assert server.marks()[-1] == "1"
    assert server.paths == ["/voice", "/action"]


async def test_half_open_socket_answers_no_ping_and_tells_nobody() -> None:
    pongs: list[bool] = []

    async def ping(server: Server, transport: WebSocketTransport) -> None:
        await transport.ping()
        pongs.append(True)
        await trio.sleep(0.5)
        await transport.ping()
        pongs.append(True)

    async with serving(ping) as (server, carrier):
        call = carrier.place(drops=(Drop("half_open", seconds=0.3, notice_seconds=1.0),))
        async with trio.open_nursery() as nursery:
            nursery.start_soon(call.run)
            await trio.sleep(1.2)
            last = server.received[-1][0]
            assert trio.current_time() - last > 0.7
            assert server.closed == []
    assert pongs == [True]
    assert server.paths == ["/voice", "/action"]


async def test_refused_upgrade_and_missing_server_are_told_apart() -> None:
    async with serving() as (server, carrier):
        server.refuse = 403
        refused = carrier.place()
        await refused.run()
        server.documents["/voice"] = document(
            '<Connect action="/action"><Stream url="ws://127.0.0.1:9/m"/></Connect>'
        )
        absent = carrier.place()
        await absent.run()
    assert [alert.code for alert in refused.alerts] == [31920]
    assert [alert.code for alert in absent.alerts] == [31902]
    assert server.paths.count("/action") == 2


async def test_app_that_is_down_is_an_application_error() -> None:
    brief = {"speak": lambda text, language: beeps("no")}
    async with open_carrier("http://127.0.0.1:9/voice", auth_token=TOKEN, **brief) as carrier:
        call = carrier.place()
        await call.run()
    assert call.end_reason == "application_error"
    assert [record.status for record in call.requests] == [0, 0]


async def test_rest_interface_on_a_port_redirects_and_ends_a_live_call() -> None:
    async def wait(server: Server, transport: WebSocketTransport) -> None:
        await trio.sleep_forever()

    async with serving(wait) as (server, carrier), trio.open_nursery() as nursery:
        port = await nursery.start(serve_rest, carrier)
        call = carrier.place()
        nursery.start_soon(call.run)
        with trio.fail_after(5):
            while not server.received:  # noqa: ASYNC110
                await trio.sleep(0.01)
        address = (
            f"http://127.0.0.1:{port}/2010-04-01/Accounts/{carrier.account_sid}/Calls/{call.call_sid}.json"
        )
        async with httpx.AsyncClient(auth=(carrier.account_sid, TOKEN)) as client:
            assert (await client.get(address)).json()["status"] == "in-progress"
            pause = document('<Pause length="30"/>')
            assert (await client.post(address, data={"Twiml": pause})).status_code == 200
            assert (await client.post(address, data={"Status": "completed"})).json()["status"] == "completed"
            assert (await client.post(address, data={"Status": "completed"})).json()["code"] == 21220
            assert (await client.post(address, auth=("x", "y"))).status_code == 401
        with trio.fail_after(5):
            await call.over.wait()
        await trio.sleep(0.1)
        nursery.cancel_scope.cancel()
    assert '"stop"' in server.received[-1][1]
