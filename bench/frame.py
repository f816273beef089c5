"""``make bench-frame``: what one call's messages cost on their way through callrt, step by step.

Calls of the real desk (all actors, the direct transport, real sockets on loopback, a journal in memory) run in
this process on a clock that only this program moves. Each message is put into its socket and handled by the
transport's owner in one step; that step alone is timed, by the thread's processor time. So the figures need no
quiet machine: they contain reading, decoding, deciding, encoding and writing, but neither the hub's rounds nor
anybody's waiting. ``tasks`` is what the calls' other tasks do between the messages. With one call everything is in
the processor's caches; ``--calls 300`` shows what the same messages cost when every one is another call's.
"""

from __future__ import annotations

import argparse
import random
import socket
import statistics
import sys
import time
from binascii import b2a_base64
from collections import deque
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path

import msgspec
import trio
import trio.testing

sys.path.insert(0, str(Path(__file__).parent))

import trio.lowlevel
from generator.sockets import accept_key, header, xor

from callrt.actors.desk import AgentDesk, Desk
from callrt.actors.gate import AccountGate
from callrt.actors.ports import CallPlan, CallPorts
from callrt.actors.pulse import Pulse
from callrt.actors.tool_runner import InlineRunner
from callrt.comfort.library import ComfortLibrary
from callrt.journal import Journal, MemoryStore
from callrt.policy.settings import AgentSettings, ModelSettings, Resilience
from callrt.protocol.carriers.calls import IncomingCall
from callrt.protocol.carriers.events import StreamStarted
from callrt.protocol.carriers.twilio import TwilioCodec
from callrt.protocol.models.openai_realtime import OpenAIRealtimeCodec
from callrt.service.garbage import collect_rarely
from callrt.service.metrics import Metrics
from callrt.wire.direct import DirectTransport
from callrt.wire.direct_hub import READABLE
from callrt.wire.transport import Transport
from callrt.wire.websocket import accept, connect_over

DELTA_MS, DELTAS, PACE_TICKS = 200, 30, 3
"""A reply of six seconds in pieces of 200 ms, one each 60 ms."""
TURN_TICKS = 500
"""20 ms each: a turn of ten seconds, with one reply."""
FRAME = b2a_base64(b"\x71" * 160, newline=False)
DELTA = b2a_base64(b"\x71" * (DELTA_MS * 8), newline=False).decode()


class Rest:
    """Nobody asks the carrier for anything here."""

    def __getattr__(self, name: str) -> object:
        raise AssertionError(name)


class Meter:
    """Processor time of steps, in microseconds, by kind."""

    def __init__(self) -> None:
        self.steps: dict[str, list[float]] = {}
        empty = [self._once() for _ in range(2000)]
        self.overhead = statistics.median(empty)

    @staticmethod
    def _once() -> float:
        began = time.thread_time_ns()
        return (time.thread_time_ns() - began) / 1000

    def step(self, kind: str, transport: DirectTransport) -> None:
        began = time.thread_time_ns()
        transport.core.on_ready(READABLE)
        self.add(kind, (time.thread_time_ns() - began) / 1000)

    def add(self, kind: str, microseconds: float) -> None:
        self.steps.setdefault(kind, []).append(max(0.0, microseconds - self.overhead))


class Peer:
    """The other end of a socket, raw."""

    def __init__(self, sock: socket.socket, *, masked: bool) -> None:
        self.sock = sock
        self.rest = b""
        self.bit = 128 if masked else 0
        self.mask = b"\x37\xfa\x21\x3d"

    async def handshake_as_client(self) -> None:
        self.sock.send(
            b"GET /media HTTP/1.1\r\nHost: there\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n"
            b"Sec-WebSocket-Version: 13\r\nSec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\n\r\n"
        )
        await self._head()

    async def handshake_as_server(self) -> None:
        head = await self._head()
        key = next(
            line for line in head.split(b"\r\n") if line.lower().startswith(b"sec-websocket-key")
        ).split(b": ")[1]
        self.sock.send(
            b"HTTP/1.1 101 Switching Protocols\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n"
            b"Sec-WebSocket-Accept: " + accept_key(key) + b"\r\n\r\n"
        )

    async def _head(self) -> bytes:
        while b"\r\n\r\n" not in self.rest:
            await trio.lowlevel.wait_readable(self.sock)
            self.rest += self.sock.recv(65_536)
        head, self.rest = self.rest.split(b"\r\n\r\n", 1)
        return head

    def say(self, message: bytes) -> None:
        body = xor(message, self.mask) if self.bit else message
        self.sock.send(header(1, len(message), self.bit) + (self.mask if self.bit else b"") + body)

    def heard(self) -> list[bytes]:
        """The messages that have come."""
        try:
            self.rest += self.sock.recv(1_000_000)
        except BlockingIOError:
            return []
        messages: list[bytes] = []
        data, at = self.rest, 0
        while len(data) - at >= 2:
            length, body = data[at + 1] & 127, at + 2
            if length == 126:
                length, body = int.from_bytes(data[at + 2 : at + 4], "big"), at + 4
            masked = data[at + 1] & 128
            mask, body = (data[body : body + 4], body + 4) if masked else (b"", body)
            if len(data) < body + length:
                break
            messages.append(xor(data[body : body + length], mask) if mask else data[body : body + length])
            at = body + length
        self.rest = data[at:]
        return messages


async def accept_all(path: str, headers: object) -> None:
    return None


def pair() -> tuple[socket.socket, socket.socket]:
    """Two ends of one loopback connection."""
    with socket.create_server(("127.0.0.1", 0)) as server:
        left = socket.create_connection(server.getsockname())
        right, _ = server.accept()
    for sock in (left, right):
        sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        sock.setblocking(False)
    return left, right


class Rig:
    """One call, its two sockets, and both peers."""

    def __init__(
        self, number: int, nursery: trio.Nursery, clock: trio.testing.MockClock, meter: Meter
    ) -> None:
        self.number = number
        self.call_sid, self.stream_sid = f"CA{number:032x}", f"MZ{number:032x}"
        self.nursery = nursery
        self.clock = clock
        self.meter = meter
        self.carrier_transport: DirectTransport
        self.model_transport: DirectTransport
        self.carrier: Peer
        self.model: Peer
        self.codec = TwilioCodec()
        self.frame = 0
        self.buffer_end = 0.0
        self.marks: deque[tuple[float, str]] = deque()
        self.turn = 0
        self.appended_ms = 0

    @asynccontextmanager
    async def connect_model(self, model: ModelSettings) -> AsyncIterator[Transport]:
        ours, theirs = pair()
        self.model = Peer(theirs, masked=False)
        async with trio.open_nursery() as nursery:
            nursery.start_soon(self.model.handshake_as_server)
            stream = trio.SocketStream(trio.socket.from_stdlib_socket(ours))
            transport = await connect_over(self.nursery, stream, "model")
        assert isinstance(transport, DirectTransport)
        self.model_transport = transport
        self.tell_model({"type": "session.created", "session": {"id": "sess"}})
        yield transport

    def tell_model(self, message: dict[str, object]) -> None:
        self.model.say(msgspec.json.encode({**message, "event_id": "event_1"}))

    async def open_carrier(self, desk: Desk) -> None:
        ours, theirs = pair()
        self.carrier = Peer(theirs, masked=True)
        stream = trio.SocketStream(trio.socket.from_stdlib_socket(ours))
        self.nursery.start_soon(self.carrier.handshake_as_client)
        transport = await accept(self.nursery, stream, accept_all)
        assert isinstance(transport, DirectTransport)
        self.carrier_transport = transport
        form = {"encoding": "audio/x-mulaw", "sampleRate": 8000, "channels": 1}
        start = {
            "callSid": self.call_sid,
            "streamSid": self.stream_sid,
            "tracks": ["inbound"],
            "mediaFormat": form,
        }
        message = {"event": "start", "sequenceNumber": "1", "streamSid": self.stream_sid, "start": start}
        started = self.codec.decode(msgspec.json.encode(message).decode())
        assert isinstance(started, StreamStarted)
        self.nursery.start_soon(desk.attach, self.call_sid, 1, transport, self.codec, started)

    # -- one step of 20 ms -------------------------------------------------------------------------------

    def hear(self) -> None:
        """What callrt has said by now, and what the carrier answers."""
        self.hear_carrier()
        self.hear_model()
        now = self.clock.current_time()
        while self.marks and self.marks[0][0] <= now:
            self.send_mark(self.marks.popleft()[1])

    def send_frame(self) -> None:
        self.frame += 1
        count = 1_000_000 + self.frame
        self.carrier.say(
            b'{"event":"media","sequenceNumber":"%d","media":{"track":"inbound","chunk":"%d","timestamp":"%d",'
            b'"payload":"%b"},"streamSid":"%b"}'
            % (count, count, self.frame * 20, FRAME, self.stream_sid.encode())
        )

    def take_frame(self) -> None:
        self.meter.step("frame up", self.carrier_transport)

    def send_mark(self, name: str) -> None:
        message = {
            "event": "mark",
            "sequenceNumber": "1",
            "streamSid": self.stream_sid,
            "mark": {"name": name},
        }
        self.carrier.say(msgspec.json.encode(message))
        self.meter.step("mark echoed", self.carrier_transport)
        self.hear_carrier()

    def hear_carrier(self) -> None:
        now = self.clock.current_time()
        for raw in self.carrier.heard():
            message = msgspec.json.decode(raw)
            if message["event"] == "media":
                size = len(message["media"]["payload"]) * 3 // 4
                self.buffer_end = max(self.buffer_end, now) + size / 8000
            elif message["event"] == "mark":
                self.marks.append((self.buffer_end, message["mark"]["name"]))

    def hear_model(self) -> None:
        for raw in self.model.heard():
            if raw.startswith(b'{"type":"input_audio_buffer.append"'):
                self.appended_ms += 20
                continue
            message = msgspec.json.decode(raw)
            if message["type"] == "session.update":
                self.tell_model({"type": "session.updated", "session": message["session"]})
                self.meter.step("other from the model", self.model_transport)

    # -- the model's script ------------------------------------------------------------------------------

    def model_says(self, kind: str, message: dict[str, object]) -> None:
        self.tell_model(message)
        self.meter.step(kind, self.model_transport)

    def speak(self, tick: int) -> None:
        """What the model says in this tick of its turn."""
        if tick == 0:
            self._begin_turn()
        delta, rest = divmod(tick, PACE_TICKS)
        if rest or delta > DELTAS:
            return
        response, said = f"r{self.turn}", f"a{self.turn}"
        place = {"response_id": response, "item_id": said, "output_index": 0, "content_index": 0}
        if delta < DELTAS:
            if delta % 3 == 0:
                words = {"type": "response.output_audio_transcript.delta", "delta": "we are open "}
                self.model_says("words from the model", words | place)
            self.model_says(
                "200 ms from the model", {"type": "response.output_audio.delta", "delta": DELTA} | place
            )
            return
        done = {"id": said, "type": "message", "role": "assistant", "status": "completed", "content": []}
        other = "other from the model"
        self.model_says(other, {"type": "response.output_item.done", "response_id": response, "item": done})
        self.model_says(other, {"type": "response.done", "response": {"id": response, "status": "completed"}})

    def _begin_turn(self) -> None:
        self.turn += 1
        asked, response, said = f"u{self.turn}", f"r{self.turn}", f"a{self.turn}"
        agent = {"id": said, "type": "message", "role": "assistant", "status": "in_progress", "content": []}
        other = "other from the model"
        at = self.appended_ms
        started, stopped = "input_audio_buffer.speech_started", "input_audio_buffer.speech_stopped"
        self.model_says(other, {"type": started, "item_id": asked, "audio_start_ms": at})
        self.model_says(other, {"type": stopped, "item_id": asked, "audio_end_ms": at + 1})
        self.model_says(other, {"type": "input_audio_buffer.committed", "item_id": asked})
        self.model_says(other, {"type": "response.created", "response": {"id": response}})
        self.model_says(other, {"type": "response.output_item.added", "response_id": response, "item": agent})


async def tick(rigs: list[Rig], clock: trio.testing.MockClock, meter: Meter) -> None:
    """20 ms of all calls, of which no two are at the same place in their turns."""
    clock.jump(0.02)
    began = time.thread_time_ns()
    await trio.testing.wait_all_tasks_blocked()
    meter.add("tasks, per 20 ms", (time.thread_time_ns() - began) / 1000 / len(rigs))
    for rig in rigs:
        rig.hear()
    # In the service a turn of the hub finds frames of many calls, too.
    for rig in rigs:
        rig.send_frame()
    for rig in rigs:
        rig.take_frame()
    now = clock.current_time()
    for rig in rigs:
        while rig.marks and rig.marks[0][0] <= now:
            rig.send_mark(rig.marks.popleft()[1])


async def run(calls: int, turns: int, clock: trio.testing.MockClock) -> Meter:
    meter = Meter()
    async with trio.open_nursery() as nursery:
        journal = Journal(MemoryStore(), now=lambda: 1e9 + clock.current_time(), threads=False)
        await nursery.start(journal.run)
        model = ModelSettings("main", "openai-realtime", "ws://model", "sk-bench", "bench", "marin")
        plan = CallPlan(AgentSettings("desk", "main", "You answer the phone."), model, Resilience())
        library = ComfortLibrary.load(None, "en")
        rigs: list[Rig] = []
        ports = CallPorts(
            connect_model=lambda model: rigs[-1].connect_model(model),
            model_codec=OpenAIRealtimeCodec,
            journal=journal,
            rest=Rest(),  # type: ignore[arg-type]
            handover=Rest(),  # type: ignore[arg-type]
            comfort=lambda language: library,
            observe=Metrics().observe,
            now=lambda: 1e9 + clock.current_time(),
            rng=random.Random,
            gate=AccountGate(),
            pulse=Pulse(),
            recordings=Path("recordings"),
            report=lambda sid, level, sentence: None,
            runner=InlineRunner(),
        )
        desk = Desk(ports, {"desk": AgentDesk(plan, {})}, lambda called: "desk")
        await nursery.start(desk.run)
        for number in range(calls):
            rig = Rig(number, nursery, clock, meter)
            rigs.append(rig)
            await desk.incoming(IncomingCall(rig.call_sid, "AC", "+1", "+2"))
            await rig.open_carrier(desk)
            while not hasattr(rig, "model_transport"):
                await trio.lowlevel.checkpoint()
            await trio.testing.wait_all_tasks_blocked()
            await tick(rigs, clock, meter)
        for _ in range(50):
            await tick(rigs, clock, meter)
        meter.steps.clear()
        for number in range(turns * TURN_TICKS):
            for rig in rigs:
                rig.speak((number + rig.number * TURN_TICKS // calls) % TURN_TICKS)
            await tick(rigs, clock, meter)
        nursery.cancel_scope.cancel()
    return meter


def main() -> int:
    parser = argparse.ArgumentParser(description="Processor time of one call's messages, step by step.")
    parser.add_argument("--calls", type=int, default=1, help="side by side (default %(default)s)")
    parser.add_argument("--turns", type=int, default=12, help="of ten seconds each (default %(default)s)")
    args = parser.parse_args()
    collect_rarely()
    clock = trio.testing.MockClock()
    meter = trio.run(run, args.calls, args.turns, clock, clock=clock)
    seconds = args.calls * args.turns * TURN_TICKS * 0.02
    print(
        f"{'step':24} {'undisturbed':>12} {'median':>8} {'mean':>8} {'per s':>7} {'ms per call-second':>19}"
    )
    total = 0.0
    for kind, values in meter.steps.items():
        # Other work on the machine makes the slow ones slower; the fastest tenth hardly notices it.
        low, middle, mean = (
            statistics.quantiles(values, n=10)[0],
            statistics.median(values),
            statistics.fmean(values),
        )
        share = len(values) * mean / seconds / 1000
        total += share
        print(f"{kind:24} {low:12.1f} {middle:8.1f} {mean:8.1f} {len(values) / seconds:7.1f} {share:19.3f}")
    print(f"{'together':24} {'':12} {'':8} {'':8} {'':7} {total:19.3f}")
    return 0


if __name__ == "__main__":
    sys.exit(main())
