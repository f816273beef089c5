"""A desk that writes down what it is asked, and a plain HTTP client over any stream."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any
from urllib.parse import urlencode

import h11
import trio

from callrt.policy.facts import Fact
from callrt.protocol.carriers.calls import IncomingCall
from callrt.protocol.carriers.documents import ConnectStream, Document, HangUp, Whisper
from callrt.protocol.carriers.events import StreamStarted
from callrt.protocol.carriers.twilio import TwilioCodec
from callrt.telephony.signatures import sign
from callrt.wire.transport import Transport, TransportClosed

KEY = "0123456789abcdef0123456789abcdef"
CALL = "CA00000000000000000000000000000007"
VOICE = {"CallSid": CALL, "AccountSid": "AC1", "From": "+15550100001", "To": "+15550100002"}


class FakeAttached:
    def __init__(self, desk: FakeDesk, transport: Transport, codec: TwilioCodec) -> None:
        self.desk = desk
        self.transport = transport
        self.codec = codec

    async def wait_over(self) -> None:
        try:
            while True:
                message = await self.transport.receive()
                self.desk.asked.append(("heard", self.codec.decode(message)))
        except TransportClosed:
            pass
        finally:
            self.desk.living -= 1

    def call_over(self, then: Callable[[], None]) -> bool:
        """It reads the socket itself: there is something to do at once."""
        return False


class FakeDesk:
    """Answers at once; ``fails`` and ``hangs`` make it do that instead."""

    def __init__(self) -> None:
        self.asked: list[tuple[Any, ...]] = []
        self.bad: list[tuple[str, str]] = []
        self.attachable: dict[tuple[str, int], None] = {(CALL, 1): None}
        self.fails: Exception | None = None
        self.hangs = False
        self.living = 0
        self.attached = trio.Event()
        self.drained = trio.Event()
        self.crash = trio.Event()
        self.runs = 0

    async def _note(self, *what: Any) -> None:
        self.asked.append(what)
        if self.hangs:
            await trio.sleep_forever()
        if self.fails is not None:
            raise self.fails

    async def incoming(self, call: IncomingCall) -> Document:
        await self._note("incoming", call)
        return ConnectStream(call.call_sid, 1)

    async def stream_ended(self, call_sid: str) -> Document:
        await self._note("stream_ended", call_sid)
        return HangUp()

    async def dial_ended(self, call_sid: str, status: str) -> Document:
        await self._note("dial_ended", call_sid, status)
        return HangUp()

    async def whisper(self, call_sid: str) -> Document:
        await self._note("whisper", call_sid)
        return Whisper("A caller.")

    async def call_status(self, call_sid: str, status: str) -> None:
        await self._note("call_status", call_sid, status)

    async def stream_status(self, call_sid: str, stream_sid: str, event: str, error: str) -> None:
        await self._note("stream_status", call_sid, stream_sid, event, error)

    def bad_input(self, call_sid: str, reason: str) -> None:
        self.bad.append((call_sid, reason))

    def may_attach(self, call_sid: str, generation: int) -> bool:
        return (call_sid, generation) in self.attachable

    async def expects(self, call_sid: str, generation: int) -> bool:
        return self.may_attach(call_sid, generation)

    async def attach(
        self, call_sid: str, generation: int, transport: Transport, codec: TwilioCodec, started: StreamStarted
    ) -> FakeAttached:
        del self.attachable[call_sid, generation]
        await self._note("attach", call_sid, generation, started.stream_id)
        self.living += 1
        self.attached.set()
        return FakeAttached(self, transport, codec)

    @property
    def live_calls(self) -> int:
        return self.living

    async def step_back(self) -> None:
        await self._note("step_back")

    def refuse(self, why: str) -> None:
        self.asked.append(("refuse", why))

    async def drain(self, seconds: float) -> None:
        await self._note("drain", seconds)
        await self.drained.wait()

    async def run(self, ctx: Any = None, *, task_status: trio.TaskStatus[Any]) -> None:
        task_status.started(self)
        self.runs += 1
        await self.crash.wait()
        self.crash = trio.Event()
        raise RuntimeError("crashed")

    def snapshot(self) -> Sequence[Mapping[str, Any]]:
        return [{"call_sid": CALL}]


class Facts(list[Fact]):
    """A sink that keeps what it is given."""

    def observe(self, fact: Fact) -> None:
        self.append(fact)


class Answer:
    def __init__(self, status: int, headers: dict[str, str], body: bytes) -> None:
        self.status = status
        self.headers = headers
        self.body = body

    @property
    def text(self) -> str:
        return self.body.decode()


class Client:
    """One connection; requests one after the other."""

    def __init__(self, stream: trio.abc.Stream) -> None:
        self.stream = stream
        self._h11 = h11.Connection(h11.CLIENT)

    async def send(self, data: bytes) -> None:
        await self.stream.send_all(data)

    async def request(
        self, method: str, target: str, *, headers: Mapping[str, str] | None = None, body: bytes = b""
    ) -> Answer:
        if self._h11.our_state is h11.DONE:
            self._h11.start_next_cycle()
        fields = {"host": "h", **(headers or {})}
        if body or method == "POST":
            fields.setdefault("content-length", str(len(body)))
        await self.send(
            self._h11.send(h11.Request(method=method, target=target, headers=list(fields.items()))) or b""
        )
        await self.send((self._h11.send(h11.Data(data=body)) or b"") if body else b"")
        await self.send(self._h11.send(h11.EndOfMessage()) or b"")
        return await self.answer()

    async def post(
        self, path: str, form: Mapping[str, str], *, signed_for: str | None = None, key: str = KEY
    ) -> Answer:
        headers = {"content-type": "application/x-www-form-urlencoded"}
        if signed_for is not None:
            headers["X-Twilio-Signature"] = sign(key, signed_for, form.items())
        return await self.request("POST", path, headers=headers, body=urlencode(form).encode())

    async def answer(self) -> Answer:
        status, headers, body = 0, {}, bytearray()
        while True:
            event = self._h11.next_event()
            if event is h11.NEED_DATA:
                self._h11.receive_data(bytes(await self.stream.receive_some(65536)))
            elif isinstance(event, h11.Response):
                status = event.status_code
                headers = {name.decode(): value.decode() for name, value in event.headers}
            elif isinstance(event, h11.Data):
                body += event.data
            elif isinstance(event, h11.EndOfMessage | h11.ConnectionClosed):
                return Answer(status, headers, bytes(body))


async def raw_answer(stream: trio.abc.Stream) -> bytes:
    """All bytes until the other side ends."""
    data = bytearray()
    while piece := await stream.receive_some(65536):
        data += piece
    return bytes(data)
