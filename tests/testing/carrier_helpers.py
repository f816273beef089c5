"""An app in a few lines, for tests of the emulated carrier: it answers webhooks and holds media sockets, in
memory."""

from __future__ import annotations

import base64
import json
from collections.abc import AsyncIterator, Awaitable, Callable, Mapping, Sequence
from contextlib import asynccontextmanager
from urllib.parse import urlsplit

import trio

from callrt.testing.carrier import Carrier
from callrt.testing.carrier_signing import sign
from callrt.testing.links import MemoryTransport, memory_link
from callrt.wire.transport import Transport, TransportClosed
from callrt.wire.websocket import UpgradeRefused

TOKEN = "0123456789abcdef0123456789abcdef"
BASE = "http://app.test"
STREAM = (
    f'<Connect action="{BASE}/action"><Stream url="ws://app.test/media/1" statusCallback="{BASE}/stream-status">'
    '<Parameter name="generation" value="1"/></Stream></Connect>'
)


def document(verbs: str) -> str:
    return f"<Response>{verbs}</Response>"


class Socket:
    """The app's end of one stream: what the carrier has sent, and what may be sent to it."""

    def __init__(self, transport: MemoryTransport) -> None:
        self.transport = transport
        self.messages: list[tuple[float, dict]] = []
        self.closed: TransportClosed | None = None
        self.stream_sid = ""
        self.started = trio.Event()
        self.changed = trio.lowlevel.ParkingLot()
        self.reading = trio.CancelScope()

    async def read(self) -> None:
        try:
            with self.reading:
                while True:
                    message = json.loads(await self.transport.receive())
                    self.messages.append((trio.current_time(), message))
                    if message["event"] == "start":
                        self.stream_sid = message["streamSid"]
                        self.started.set()
                    self.changed.unpark_all()
        except TransportClosed as closed:
            self.closed = closed
            self.changed.unpark_all()

    def play(self, audio: bytes, *marks: str) -> None:
        payload = base64.b64encode(audio).decode()
        self.send({"event": "media", "streamSid": self.stream_sid, "media": {"payload": payload}})
        for name in marks:
            self.mark(name)

    def mark(self, name: str) -> None:
        self.send({"event": "mark", "streamSid": self.stream_sid, "mark": {"name": name}})

    def clear(self) -> None:
        self.send({"event": "clear", "streamSid": self.stream_sid})

    def send(self, message: Mapping[str, object] | str | bytes) -> None:
        assert self.transport.send_nowait(
            message if isinstance(message, str | bytes) else json.dumps(message)
        )

    def events(self, kind: str) -> list[dict]:
        return [message for _, message in self.messages if message["event"] == kind]

    def marks(self) -> list[str]:
        return [message["mark"]["name"] for message in self.events("mark")]

    def mark_times(self) -> dict[str, float]:
        return {m["mark"]["name"]: at for at, m in self.messages if m["event"] == "mark"}

    async def wait_mark(self, name: str) -> None:
        while name not in self.marks():
            await self.changed.park()

    async def wait_closed(self) -> None:
        while self.closed is None:
            await self.changed.park()


Behaviour = Callable[[Socket], Awaitable[None]]


async def silent(socket: Socket) -> None:
    await trio.sleep_forever()


class App:
    """Documents by path; a value may be a list (one answer after the other, the last for ever), or (status,
    body)."""

    def __init__(self, nursery: trio.Nursery, behaviour: Behaviour = silent, **documents: object) -> None:
        self.documents: dict[str, object] = {
            "voice": document(STREAM),
            "action": document("<Hangup/>"),
            **documents,
        }
        self.behaviour = behaviour
        self.sockets: list[Socket] = []
        self.forms: list[tuple[str, dict[str, str]]] = []
        self.unsigned: list[str] = []
        self.refuse: int | None = None
        self._nursery = nursery

    def carrier(self, **options: object) -> Carrier:
        return Carrier(f"{BASE}/voice", self.request, self.connect, auth_token=TOKEN, **options)

    def paths(self) -> list[str]:
        return [path for path, _ in self.forms]

    def form(self, path: str) -> dict[str, str]:
        return next(form for each, form in self.forms if each == path)

    async def request(
        self, method: str, url: str, headers: Mapping[str, str], form: Mapping[str, str]
    ) -> tuple[int, Mapping[str, str], bytes]:
        await trio.sleep(0.01)
        path = urlsplit(url).path.removeprefix("/")
        if headers["x-twilio-signature"] != sign(TOKEN, url, form):
            self.unsigned.append(url)
        self.forms.append((path, dict(form)))
        answer = self.documents.get(path, document(""))
        if isinstance(answer, list):
            answer = answer.pop(0) if len(answer) > 1 else answer[0]
        if isinstance(answer, OSError):
            raise answer
        if isinstance(answer, tuple):
            return answer[0], {"Content-Type": "text/xml"}, answer[1].encode()
        return 200, {"Content-Type": "text/xml; charset=utf-8"}, str(answer).encode()

    @asynccontextmanager
    async def connect(self, url: str, headers: Sequence[tuple[bytes, bytes]]) -> AsyncIterator[Transport]:
        await trio.sleep(0.01)
        if dict(headers)[b"x-twilio-signature"].decode() != sign(TOKEN, url, {}):
            self.unsigned.append(url)
        if self.refuse is not None:
            raise UpgradeRefused(self.refuse, None)
        theirs, ours = memory_link()
        socket = Socket(ours)
        self.sockets.append(socket)
        self._nursery.start_soon(socket.read)
        self._nursery.start_soon(self._behave, socket)
        try:
            yield theirs
        finally:
            await theirs.aclose()

    async def _behave(self, socket: Socket) -> None:
        await socket.started.wait()
        await self.behaviour(socket)


@asynccontextmanager
async def app(behaviour: Behaviour = silent, **documents: object) -> AsyncIterator[App]:
    async with trio.open_nursery() as nursery:
        yield App(nursery, behaviour, **documents)
        nursery.cancel_scope.cancel()
