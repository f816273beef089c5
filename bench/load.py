"""The load generator: N telephones and N models in one process, on raw sockets, with a stamp inside the audio.

Both ends of every call live here, so one clock sees a frame go in and come out:

* up: every 20 ms frame of the caller carries (call, number, time) in its first bytes; the model's end reads them.
* down: the first audio of every reply carries (call, reply, time); the carrier's end reads them. Later audio is
  paced on purpose, so for it *starvation* is measured: milliseconds in which the carrier's buffer was dry
  in the middle of a reply.

Carriers echo marks when their buffer has drained to them and obey ``clear``. Models take turns by a script:
the caller speaks, the model answers six seconds of audio at four times real time; every second answer is cut
off by the caller after three seconds. All phases are spread. The processor time of the program under test is read
from /proc at the ends of each window. One JSON object per step goes to stdout.
"""

from __future__ import annotations

import argparse
import base64
import hashlib
import heapq
import hmac
import itertools
import json
import os
import re
import select
import socket
import ssl
import struct
import sys
import time
from array import array
from binascii import a2b_base64, b2a_base64
from collections import deque
from collections.abc import Callable
from html import unescape
from urllib.parse import urlencode, urlsplit

import msgspec

FRAME = 0.02
DELTA_MS = 200
REPLY_MS = 6_000
PACE = 4
ANSWER_AFTER = 0.8
WHOLE_TURN, CUT_TURN = 8.0, 4.0
LISTENS = 0.02
"""From a session's first frame to its first answer: the model's own time at the start of a call."""
RAMP_PER_SECOND = 40

MAGIC = b"\xc3\x5a\xa5"
MAGIC_TEXT = base64.b64encode(MAGIC).decode()
STAMP = struct.Struct("<3sHHId")
"""19 bytes: magic, direction and call, number of the reply, number of the frame, time."""
STAMP_CHARS = 28
FILL = b2a_base64(b"\x71" * (160 - 21), newline=False)

GUID = b"258EAFA5-E914-47DA-95CA-C5AB0DC85B11"
now = time.perf_counter
json_decode = msgspec.json.decode


class Window:
    """What is counted between two instants."""

    def __init__(self) -> None:
        self.up = array("d")
        self.down = array("d")
        self.barge_in = array("d")
        self.late = array("d")
        self.starved_ms = 0.0
        self.lost_up = 0
        self.lost_down_ms = 0.0
        self.replies = 0
        self.frames = 0
        self.ended = 0


class World:
    def __init__(self, args: argparse.Namespace) -> None:
        self.args = args
        self.poll = select.epoll()
        self.handlers: dict[int, Callable[[], None]] = {}
        self.timers: list[tuple[float, int, Callable[[], None]]] = []
        self.serial = itertools.count()
        self.phases: deque[Carrier] = deque()
        self.calls: dict[int, Carrier] = {}
        self.window = Window()
        self.startup = array("d")
        self.failed_starts = 0
        self.out_of_room = 0
        self.tls = None
        if args.tls:
            self.tls = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
            self.tls.load_cert_chain(args.tls)
        self.listener = socket.create_server(("127.0.0.1", args.model_port), backlog=1024)
        self.listener.setblocking(False)
        self.watch(self.listener, self.accept)

    def watch(self, sock: socket.socket, handler: Callable[[], None]) -> None:
        self.handlers[sock.fileno()] = handler
        self.poll.register(sock.fileno(), select.EPOLLIN)

    def forget(self, sock: socket.socket) -> None:
        number = sock.fileno()
        if number >= 0 and self.handlers.pop(number, None) is not None:
            self.poll.unregister(number)
        sock.close()

    def at(self, when: float, what: Callable[[], None]) -> None:
        heapq.heappush(self.timers, (when, next(self.serial), what))

    def accept(self) -> None:
        try:
            sock, _ = self.listener.accept()
        except BlockingIOError:
            return
        sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        sock.setblocking(False)
        if self.tls is not None:
            sock = self.tls.wrap_socket(sock, server_side=True, do_handshake_on_connect=False)
        Model(self, sock)

    def run(self, seconds: float) -> None:
        """The loop: read what has come, send what is due, run what is late."""
        end = now() + seconds
        poll, handlers, timers, phases = self.poll.poll, self.handlers, self.timers, self.phases
        waiting = (self.poll,)
        while True:
            t = now()
            if t >= end:
                return
            due = end
            if phases and phases[0].due < due:
                due = phases[0].due
            if timers and timers[0][0] < due:
                due = timers[0][0]
            wait = due - t
            if wait > 0.0002:
                # epoll counts in whole milliseconds, and frames are due in between.
                select.select(waiting, (), (), wait)
            for fd, _ in poll(0, 256):
                handler = handlers.get(fd)
                if handler is not None:
                    handler()
            t = now()
            for _ in range(64):
                if not phases or phases[0].due > t:
                    break
                carrier = phases.popleft()
                if carrier.live:
                    carrier.send_frame()
                    phases.append(carrier)
            while timers and timers[0][0] <= t:
                heapq.heappop(timers)[2]()


class Socket:
    """Reading whole frames, writing what fits; the rest follows with the next write."""

    def __init__(self, world: World, sock: socket.socket) -> None:
        self.world = world
        self.sock = sock
        self.rest = b""
        self.out = b""
        self.upgraded = False
        world.watch(sock, self.readable)

    def readable(self) -> None:
        try:
            data = self.sock.recv(262_144)
        except (BlockingIOError, ssl.SSLWantReadError):
            return
        except OSError:
            data = b""
        if not data:
            self.ended()
            return
        while True:
            if self.rest:
                data = self.rest + data
            self.rest = self.frames(data) if self.upgraded else self.head(data)
            # A TLS socket may hold more than epoll knows of.
            if not isinstance(self.sock, ssl.SSLSocket) or not self.sock.pending():
                return
            data = self.sock.recv(262_144)

    def send(self, data: bytes) -> None:
        if self.out:
            data = self.out + data
        try:
            sent = self.sock.send(data)
        except (BlockingIOError, ssl.SSLWantWriteError):
            sent = 0
        except OSError:
            return
        if sent < len(data):
            self.world.out_of_room += 1
        self.out = data[sent:]

    def frames(self, data: bytes) -> bytes:
        """Handle the whole frames of ``data``; returns what is left."""
        at, end = 0, len(data)
        while end - at >= 2:
            opcode, length = data[at] & 15, data[at + 1]
            masked = length & 128
            length &= 127
            body = at + 2
            if length == 126:
                if end - at < 4:
                    break
                length = data[at + 2] << 8 | data[at + 3]
                body += 2
            elif length == 127:
                if end - at < 10:
                    break
                length = int.from_bytes(data[at + 2 : at + 10], "big")
                body += 8
            if masked:
                mask = data[body : body + 4]
                body += 4
            if end < body + length:
                break
            payload = data[body : body + length]
            if masked:
                payload = xor(payload, mask)
            at = body + length
            if opcode in (0, 1, 2):
                self.message(payload)
            elif opcode == 9:
                self.control(10, payload)
            elif opcode == 8:
                self.ended()
                return b""
        return data[at:]

    def ended(self) -> None:
        self.world.forget(self.sock)

    def head(self, data: bytes) -> bytes:
        raise NotImplementedError

    def message(self, payload: bytes) -> None:
        raise NotImplementedError

    def control(self, opcode: int, payload: bytes) -> None:
        raise NotImplementedError


def xor(payload: bytes, mask: bytes) -> bytes:
    size = len(payload)
    pattern = (mask * (size // 4 + 1))[:size]
    return (int.from_bytes(payload, "little") ^ int.from_bytes(pattern, "little")).to_bytes(size, "little")


def header(opcode: int, size: int, masked: int) -> bytes:
    if size < 126:
        return bytes((128 | opcode, masked | size))
    if size < 65_536:
        return struct.pack("!BBH", 128 | opcode, masked | 126, size)
    return struct.pack("!BBQ", 128 | opcode, masked | 127, size)


class Carrier(Socket):
    """One telephone: webhook, upgrade, then fifty frames a second."""

    def __init__(self, world: World, number: int) -> None:
        args = world.args
        self.number = number
        self.call_sid = f"CA{number:032x}"
        self.stream_sid = f"MZ{number:032x}"
        self.began = now()
        self.live = False
        self.attached = False
        self.mask = os.urandom(4)
        self.due = 0.0
        self.frame = 1_000_000
        self.buffer_end = 0.0
        self.speaking = False
        self.heard_ms = 0.0
        self.marks: deque[tuple[float, str]] = deque()
        self.marks_armed = False
        self.model: Model | None = None
        self.stream_url = args.stream
        host, port = args.host, args.port
        if args.stream:
            self.phase = "upgrade"
            sock = dial(host, port)
            super().__init__(world, sock)
            self.upgrade()
        else:
            self.phase = "webhook"
            super().__init__(world, dial(host, port))
            fields = {
                "AccountSid": args.account,
                "ApiVersion": "2010-04-01",
                "CallSid": self.call_sid,
                "CallStatus": "ringing",
                "Direction": "inbound",
                "From": f"+1555{number:07d}",
                "To": "+15550100002",
            }
            body = urlencode(fields).encode()
            url = f"http://{host}:{port}{args.webhook}"
            signature = sign(args.key, url + "".join(k + fields[k] for k in sorted(fields)))
            self.send(
                f"POST {args.webhook} HTTP/1.1\r\nHost: {host}:{port}\r\nX-Twilio-Signature: {signature}\r\n"
                f"Content-Type: application/x-www-form-urlencoded\r\nContent-Length: {len(body)}\r\n"
                "Connection: close\r\n\r\n".encode()
                + body
            )

    def head(self, data: bytes) -> bytes:
        end = data.find(b"\r\n\r\n")
        if end < 0:
            return data
        if self.phase == "webhook":
            found = re.search(rb'<Stream[^>]*?url="([^"]+)"', data)
            if found is None:
                if b"</Response>" in data or not data.startswith(b"HTTP/1.1 200"):
                    self.world.failed_starts += 1
                    self.ended()
                return data
            self.stream_url = unescape(found[1].decode())
            self.world.forget(self.sock)
            self.phase = "upgrade"
            self.rest = b""
            Socket.__init__(self, self.world, dial(self.world.args.host, self.world.args.port))
            self.upgrade()
            return b""
        if not data.startswith(b"HTTP/1.1 101"):
            self.world.failed_starts += 1
            self.ended()
            return b""
        self.upgraded = True
        self.text(b'{"event":"connected","protocol":"Call","version":"1.0.0"}')
        start = {
            "event": "start",
            "sequenceNumber": "1",
            "streamSid": self.stream_sid,
            "start": {
                "accountSid": self.world.args.account,
                "callSid": self.call_sid,
                "streamSid": self.stream_sid,
                "tracks": ["inbound"],
                "customParameters": {},
                "mediaFormat": {"encoding": "audio/x-mulaw", "sampleRate": 8000, "channels": 1},
            },
        }
        self.text(json.dumps(start).encode())
        self.phase = "live"
        self.live = True
        self.world.calls[self.number] = self
        # The golden ratio spreads the calls over the frame's 20 ms; the queue stays sorted by time.
        self.due = now() + FRAME
        self.world.phases.append(self)
        return self.frames(data[end + 4 :])

    def upgrade(self) -> None:
        url = urlsplit(self.stream_url)
        signature = sign(self.world.args.key, self.stream_url)
        self.send(
            f"GET {url.path} HTTP/1.1\r\nHost: {url.netloc}\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n"
            "Sec-WebSocket-Version: 13\r\nSec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\n"
            f"X-Twilio-Signature: {signature}\r\n\r\n".encode()
        )

    def text(self, payload: bytes) -> None:
        self.send(header(1, len(payload), 128) + self.mask + xor(payload, self.mask))

    def control(self, opcode: int, payload: bytes) -> None:
        self.send(header(opcode, len(payload), 128) + self.mask + xor(payload, self.mask))

    def send_frame(self) -> None:
        self.frame = frame = self.frame + 1
        time_ms = (frame - 1_000_000) * 20
        t = now()
        window = self.world.window
        window.late.append(t - self.due)
        window.frames += 1
        self.due += FRAME
        stamp = b2a_base64(STAMP.pack(MAGIC, self.number, 0, frame, t) + b"\x71\x71", newline=False)
        payload = (
            b'{"event":"media","sequenceNumber":"%d","media":{"track":"inbound","chunk":"%d","timestamp":"%d",'
            b'"payload":"%b%b"},"streamSid":"%b"}'
            % (frame, frame, time_ms, stamp, FILL, self.stream_sid.encode())
        )
        self.text(payload)

    def message(self, payload: bytes) -> None:
        t = now()
        message = json_decode(payload)
        match message.get("event"):
            case "media":
                self.play(message["media"]["payload"], t)
            case "mark":
                self.marks.append((self.buffer_end, message["mark"]["name"]))
                if not self.marks_armed:
                    self.arm()
            case "clear":
                if self.model is not None and self.model.cut_at:
                    self.world.window.barge_in.append(t - self.model.cut_at)
                    self.model.cut_at = 0.0
                self.buffer_end = t
                self.speaking = False
                while self.marks:
                    self.echo(self.marks.popleft()[1])

    def play(self, encoded: str, t: float) -> None:
        size = len(encoded) * 3 // 4 - encoded.count("=", -2)
        window = self.world.window
        if encoded.startswith(MAGIC_TEXT):
            _, _, reply, _, sent_at = STAMP.unpack_from(a2b_base64(encoded[:STAMP_CHARS]))
            window.down.append(t - sent_at)
            window.replies += 1
            if self.model is not None and reply == 1:
                self.world.startup.append(t - self.began - self.model.own_time)
            self.heard_ms = 0.0
            self.speaking = True
        elif self.speaking and t > self.buffer_end:
            window.starved_ms += (t - self.buffer_end) * 1000
        ms = size / 8
        self.heard_ms += ms
        if self.heard_ms >= REPLY_MS:
            self.speaking = False
        self.buffer_end = max(self.buffer_end, t) + ms / 1000

    def arm(self) -> None:
        self.marks_armed = True
        self.world.at(self.marks[0][0], self.echo_due)

    def echo_due(self) -> None:
        self.marks_armed = False
        t = now()
        while self.marks and self.marks[0][0] <= t:
            self.echo(self.marks.popleft()[1])
        if self.marks:
            self.arm()

    def echo(self, name: str) -> None:
        if not self.live:
            return
        message = {
            "event": "mark",
            "sequenceNumber": str(self.frame),
            "streamSid": self.stream_sid,
            "mark": {"name": name},
        }
        self.text(msgspec.json.encode(message))

    def hang_up(self) -> None:
        self.live = False
        stop = {
            "event": "stop",
            "sequenceNumber": str(self.frame),
            "streamSid": self.stream_sid,
            "stop": {"callSid": self.call_sid},
        }
        self.text(json.dumps(stop).encode())
        self.control(8, struct.pack("!H", 1000))
        self.world.forget(self.sock)

    def ended(self) -> None:
        if self.live:
            self.live = False
            self.world.window.ended += 1
        self.world.calls.pop(self.number, None)
        super().ended()


class Model(Socket):
    """One model session: configured, listening, answering by script."""

    def __init__(self, world: World, sock: socket.socket) -> None:
        self.carrier: Carrier | None = None
        self.own_time = 0.0
        self.expected = 0
        self.appended_ms = 0
        self.turn = 0
        self.reply = 0
        self.deltas = 0
        self.events = itertools.count(1)
        self.cut_at = 0.0
        self.open = True
        self.handshaking = world.tls is not None
        super().__init__(world, sock)

    def readable(self) -> None:
        if self.handshaking:
            try:
                self.sock.do_handshake()  # type: ignore[attr-defined]
            except (ssl.SSLWantReadError, ssl.SSLWantWriteError):
                return
            except OSError:
                self.ended()
                return
            self.handshaking = False
        super().readable()

    def head(self, data: bytes) -> bytes:
        end = data.find(b"\r\n\r\n")
        if end < 0:
            return data
        key = re.search(rb"(?i)sec-websocket-key: *(\S+)", data)
        assert key is not None
        accept = base64.b64encode(hashlib.sha1(key[1] + GUID).digest())
        self.upgraded = True
        self.send(
            b"HTTP/1.1 101 Switching Protocols\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n"
            b"Sec-WebSocket-Accept: " + accept + b"\r\n\r\n"
        )
        session = {"id": "sess", "object": "realtime.session", "type": "realtime", "model": "m"}
        self.say({"type": "session.created", "session": session})
        return self.frames(data[end + 4 :])

    def say(self, message: dict[str, object]) -> None:
        message["event_id"] = f"event_{next(self.events)}"
        payload = msgspec.json.encode(message)
        self.send(header(1, len(payload), 0) + payload)

    def control(self, opcode: int, payload: bytes) -> None:
        self.send(header(opcode, len(payload), 0) + payload)

    def message(self, payload: bytes) -> None:
        at = payload.find(b'"audio":"')
        skip = 9
        if at < 0:
            at = payload.find(b'"audio": "')
            skip = 10
        if at >= 0:
            self.hear(payload, at + skip)
            return
        message = json_decode(payload)
        match message.get("type"):
            case "session.update":
                session = {**message["session"], "id": "sess", "object": "realtime.session", "model": "m"}
                self.say({"type": "session.updated", "session": session})
            case "conversation.item.truncate":
                fields = ("item_id", "content_index", "audio_end_ms")
                self.say({"type": "conversation.item.truncated"} | {f: message[f] for f in fields})
            case "conversation.item.create":
                self.say(
                    {"type": "conversation.item.added", "item": {"status": "completed"} | message["item"]}
                )

    def hear(self, payload: bytes, at: int) -> None:
        t = now()
        # Some bridges send several frames in one message: each has its own stamp.
        end = payload.find(b'"', at)
        audio = payload[at:end]
        if len(audio) > 220:
            raw = a2b_base64(audio)
            pieces = [raw[i : i + STAMP.size] for i in range(0, len(raw), 160)]
        else:
            pieces = [a2b_base64(audio[:STAMP_CHARS])]
        for piece in pieces:
            self.appended_ms += 20
            if len(piece) < STAMP.size or piece[:3] != MAGIC:
                continue
            _, call, _, frame, sent_at = STAMP.unpack_from(piece)
            window = self.world.window
            window.up.append(t - sent_at)
            if self.expected and frame != self.expected:
                window.lost_up += max(0, frame - self.expected)
            self.expected = frame + 1
            if self.carrier is None:
                self.bind(call)

    def bind(self, call: int) -> None:
        carrier = self.world.calls.get(call)
        if carrier is None:
            return
        self.carrier = carrier
        carrier.model = self
        self.answer_at(now() + LISTENS)

    # -- the script ------------------------------------------------------------------------------------

    def answer_at(self, when: float) -> None:
        self.world.at(when, self.caller_speaks)

    def caller_speaks(self) -> None:
        carrier = self.carrier
        if not self.open or carrier is None or not carrier.live:
            return
        t = now()
        if carrier.buffer_end > t + 0.1:
            self.cut_at = t
        elif self.reply and self.turn % 2 and carrier.heard_ms < REPLY_MS:
            self.world.window.lost_down_ms += REPLY_MS - carrier.heard_ms
        self.turn += 1
        item = f"u{self.turn}"
        self.say(
            {"type": "input_audio_buffer.speech_started", "item_id": item, "audio_start_ms": self.appended_ms}
        )
        self.world.at(t + (0.0 if self.turn == 1 else ANSWER_AFTER), self.answer)
        # The first turns differ in length from call to call, so that the calls do not speak in chorus.
        spread = (carrier.number * 0.6180339) % 1.0 * 12 if self.turn == 1 else 0.0
        self.answer_at(t + spread + (WHOLE_TURN if self.turn % 2 else CUT_TURN))

    def answer(self) -> None:
        if not self.open:
            return
        if self.turn == 1 and self.carrier is not None:
            self.own_time = LISTENS
        item = f"u{self.turn}"
        self.reply += 1
        self.deltas = 0
        self.cut_at = 0.0
        response, said = f"r{self.reply}", f"a{self.reply}"
        self.say(
            {"type": "input_audio_buffer.speech_stopped", "item_id": item, "audio_end_ms": self.appended_ms}
        )
        self.say({"type": "input_audio_buffer.committed", "item_id": item})
        user = {"id": item, "type": "message", "role": "user", "status": "completed", "content": []}
        self.say({"type": "conversation.item.added", "item": user})
        self.say(
            {
                "type": "conversation.item.input_audio_transcription.completed",
                "item_id": item,
                "content_index": 0,
                "transcript": "could I have an appointment on Tuesday please",
            }
        )
        self.say(
            {"type": "response.created", "response": {"id": response, "status": "in_progress", "output": []}}
        )
        agent = {"id": said, "type": "message", "role": "assistant", "status": "in_progress", "content": []}
        self.say(
            {"type": "response.output_item.added", "response_id": response, "output_index": 0, "item": agent}
        )
        self.say({"type": "conversation.item.added", "item": agent})
        self.delta()

    def delta(self) -> None:
        carrier = self.carrier
        if not self.open or carrier is None or not carrier.live:
            return
        response, said = f"r{self.reply}", f"a{self.reply}"
        place = {"response_id": response, "item_id": said, "output_index": 0, "content_index": 0}
        if self.deltas * DELTA_MS >= REPLY_MS:
            words = "we are open all day and would be glad to see you " * 2
            self.say({"type": "response.output_audio.done"} | place)
            self.say({"type": "response.output_audio_transcript.done", "transcript": words} | place)
            done = {"id": said, "type": "message", "role": "assistant", "status": "completed", "content": []}
            self.say(
                {
                    "type": "response.output_item.done",
                    "response_id": response,
                    "output_index": 0,
                    "item": done,
                }
            )
            self.say(
                {
                    "type": "response.done",
                    "response": {"id": response, "status": "completed", "output": [done]},
                }
            )
            return
        if self.deltas % 3 == 0:
            self.say({"type": "response.output_audio_transcript.delta", "delta": "we are open "} | place)
        if self.deltas == 0:
            audio = STAMP.pack(MAGIC, carrier.number, self.reply & 0xFFFF, 0, now())
            audio += b"\x71" * (DELTA_MS * 8 - len(audio))
        else:
            audio = b"\x71" * (DELTA_MS * 8)
        self.deltas += 1
        delta = b2a_base64(audio, newline=False).decode()
        self.say({"type": "response.output_audio.delta", "delta": delta} | place)
        self.world.at(now() + DELTA_MS / 1000 / PACE, self.delta)

    def ended(self) -> None:
        self.open = False
        super().ended()


def dial(host: str, port: int) -> socket.socket:
    sock = socket.create_connection((host, port), timeout=5)
    sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
    sock.setblocking(False)
    return sock


def sign(key: str, text: str) -> str:
    return base64.b64encode(hmac.new(key.encode(), text.encode(), hashlib.sha1).digest()).decode()


# -- measuring -------------------------------------------------------------------------------------------


def cpu_seconds(pids: list[int]) -> float:
    """User and system time of these processes, from the operating system's own books."""
    ticks = 0
    for pid in pids:
        with open(f"/proc/{pid}/stat") as file:
            fields = file.read().rpartition(")")[2].split()
        ticks += int(fields[11]) + int(fields[12])
    return ticks / os.sysconf("SC_CLK_TCK")


def memory_kb(pids: list[int]) -> int:
    total = 0
    for pid in pids:
        with open(f"/proc/{pid}/status") as file:
            total += int(re.search(r"VmRSS:\s+(\d+)", file.read())[1])  # type: ignore[index]
    return total


def quantile(values: array[float], q: float) -> float | None:
    """In milliseconds."""
    if not values:
        return None
    ordered = sorted(values)
    return round(ordered[min(len(ordered) - 1, int(q * len(ordered)))] * 1000, 2)


def measure(world: World, calls: int, args: argparse.Namespace) -> dict[str, object]:
    world.run(args.settle)
    world.window = window = Window()
    wall, cpu, own = now(), cpu_seconds(args.pid), time.process_time()
    world.run(args.seconds)
    wall, cpu, own = now() - wall, cpu_seconds(args.pid) - cpu, time.process_time() - own
    live = len(world.calls)
    return {
        "calls": calls,
        "live": live,
        "cpu_ms_per_call_second": round(cpu * 1000 / wall / max(1, live), 3),
        "cpu_percent": round(100 * cpu / wall, 1),
        "up_p50_ms": quantile(window.up, 0.5),
        "up_p99_ms": quantile(window.up, 0.99),
        "down_p50_ms": quantile(window.down, 0.5),
        "down_p99_ms": quantile(window.down, 0.99),
        "barge_in_p99_ms": quantile(window.barge_in, 0.99),
        "startup_p50_ms": quantile(world.startup, 0.5),
        "starved_ms": round(window.starved_ms, 1),
        "lost_up_frames": window.lost_up,
        "lost_down_ms": round(window.lost_down_ms, 1),
        "frames": window.frames,
        "frames_heard": len(window.up),
        "replies": window.replies,
        "ended": window.ended,
        "failed_starts": world.failed_starts,
        "memory_kb": memory_kb(args.pid),
        "generator_cpu_percent": round(100 * own / wall, 1),
        "generator_late_p99_ms": quantile(window.late, 0.99),
    }


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--host", default="127.0.0.1")
    parser.add_argument("--port", type=int, required=True)
    parser.add_argument("--webhook", default="/twilio/voice")
    parser.add_argument("--stream", help="stream address, for programs without a webhook")
    parser.add_argument("--key", default="bench")
    parser.add_argument("--account", default="AC" + "0" * 32)
    parser.add_argument("--model-port", type=int, required=True)
    parser.add_argument("--tls", help="certificate and key of the model's end")
    parser.add_argument("--pid", type=int, action="append", required=True)
    parser.add_argument("--steps", default="25,100", help="numbers of calls, ascending")
    parser.add_argument("--settle", type=float, default=5.0)
    parser.add_argument("--seconds", type=float, default=10.0)
    parser.add_argument("--bound-ms", type=float, default=20.0)
    parser.add_argument("--core", type=int, help="run on this core only")
    args = parser.parse_args()
    if args.core is not None:
        os.sched_setaffinity(0, {args.core})
    world = World(args)
    before = memory_kb(args.pid)
    number = 0
    for calls in (int(word) for word in args.steps.split(",")):
        while number < calls:
            number += 1
            try:
                Carrier(world, number)
            except OSError:
                world.failed_starts += 1
            world.run(1 / RAMP_PER_SECOND)
        result = measure(world, calls, args)
        result["memory_kb_per_call"] = round((int(result["memory_kb"]) - before) / calls, 1)  # type: ignore[call-overload]
        print(json.dumps(result), flush=True)
        late = max(result["up_p99_ms"] or 1e9, result["down_p99_ms"] or 0.0)  # type: ignore[type-var]
        if late > 5 * args.bound_ms or world.window.ended:  # type: ignore[operator]
            break
    for carrier in list(world.calls.values()):
        carrier.hang_up()
    world.run(1.0)
    return 0


if __name__ == "__main__":
    sys.exit(main())
