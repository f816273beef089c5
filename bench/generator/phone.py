"""One telephone at its carrier: webhook, upgrade, then fifty frames a second; marks echoed, ``clear`` obeyed."""

from __future__ import annotations

import json
import os
import re
import struct
from binascii import a2b_base64
from collections import deque
from html import unescape
from typing import TYPE_CHECKING
from urllib.parse import urlencode, urlsplit

import msgspec

from generator import audio
from generator.shortcuts import StampedFrames, TextPlace, media_message
from generator.sockets import Socket, dial, header, sign, xor
from generator.world import World, now

if TYPE_CHECKING:
    from generator.model import Model

REPLY_MS = 6_000
"""Length of the model's answers."""

json_decode = msgspec.json.decode


class Calls:
    """The calls of one world."""

    def __init__(self, world: World) -> None:
        self.world = world
        self.numbered = 0
        self.live: dict[int, Caller] = {}
        self.starting: set[int] = set()

    def start(self) -> None:
        self.numbered += 1
        try:
            Caller(self.world, self, self.numbered)
        except OSError:
            self.world.failed_starts += 1

    def kill_one(self) -> None:
        """The oldest call dies at both ends, without a word; another takes its place."""
        if self.live:
            caller = self.live.pop(next(iter(self.live)))
            caller.live = False
            caller.reset()
            if caller.model is not None:
                caller.model.reset()
            self.world.window.killed += 1
        self.start()

    def hang_up(self, count: int) -> None:
        """The youngest ``count`` calls."""
        for number in list(self.live)[-count:] if count else ():
            self.live.pop(number).hang_up()


class Caller(Socket):
    def __init__(self, world: World, calls: Calls, number: int) -> None:
        plan = world.plan
        self.world = world
        self.calls = calls
        self.number = number
        self.call_sid = f"CA{number:032x}"
        self.stream_sid = f"MZ{number:032x}"
        self.stream_sid_bytes = self.stream_sid.encode()
        self.began = now()
        self.live = False
        self.mask = bytes(byte or 1 for byte in os.urandom(4))
        self.frames_out = StampedFrames(number & 0xFFFF, self.stream_sid_bytes, self.mask)
        self.due = 0.0
        self.frame = 0
        self.beacons: list[float] = []
        self.buffer_end = 0.0
        self.speaking = False
        self.heard_ms = 0.0
        self.marks: deque[tuple[float, bytes]] = deque()
        """When each has been heard, and its name as it stands in JSON."""
        self.marks_armed = False
        self.sound_in, self.name_in = TextPlace(), TextPlace()
        self.model: Model | None = None
        self.stream_url = plan.stream or ""
        super().__init__(world, dial(plan.host, plan.port))
        calls.starting.add(number)
        if plan.stream:
            self._upgrade()
        else:
            self._webhook()

    def _webhook(self) -> None:
        plan = self.world.plan
        fields = {
            "AccountSid": plan.account,
            "ApiVersion": "2010-04-01",
            "CallSid": self.call_sid,
            "CallStatus": "ringing",
            "Direction": "inbound",
            "From": f"+1555{self.number:07d}",
            "To": "+15550100002",
        }
        body = urlencode(fields).encode()
        url = f"http://{plan.host}:{plan.port}{plan.webhook}"
        signature = sign(plan.key, url + "".join(k + fields[k] for k in sorted(fields)))
        self.send(
            f"POST {plan.webhook} HTTP/1.1\r\nHost: {plan.host}:{plan.port}\r\nX-Twilio-Signature: {signature}\r\n"
            f"Content-Type: application/x-www-form-urlencoded\r\nContent-Length: {len(body)}\r\n"
            "Connection: close\r\n\r\n".encode()
            + body
        )

    def _upgrade(self) -> None:
        url = urlsplit(self.stream_url)
        signature = sign(self.world.plan.key, self.stream_url)
        self.send(
            f"GET {url.path} HTTP/1.1\r\nHost: {url.netloc}\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n"
            "Sec-WebSocket-Version: 13\r\nSec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\n"
            f"X-Twilio-Signature: {signature}\r\n\r\n".encode()
        )

    def head(self, data: bytes) -> bytes:
        end = data.find(b"\r\n\r\n")
        if end < 0:
            return data
        if not self.stream_url:
            return self._twiml(data)
        if not data.startswith(b"HTTP/1.1 101"):
            self.world.failed_starts += 1
            self.ended()
            return b""
        self.upgraded = True
        self._begin()
        return self.frames(data[end + 4 :])

    def _twiml(self, data: bytes) -> bytes:
        found = re.search(rb'<Stream[^>]*?url="([^"]+)"', data)
        if found is None:
            if b"</Response>" in data or not data.startswith(b"HTTP/1.1 200"):
                self.world.failed_starts += 1
                self.ended()
            return data
        self.stream_url = unescape(found[1].decode())
        self.world.forget(self.sock)
        Socket.__init__(self, self.world, dial(self.world.plan.host, self.world.plan.port))
        self._upgrade()
        return b""

    def _begin(self) -> None:
        self.text(b'{"event":"connected","protocol":"Call","version":"1.0.0"}')
        start = {
            "event": "start",
            "sequenceNumber": "1",
            "streamSid": self.stream_sid,
            "start": {
                "accountSid": self.world.plan.account,
                "callSid": self.call_sid,
                "streamSid": self.stream_sid,
                "tracks": ["inbound"],
                "customParameters": {},
                "mediaFormat": {"encoding": "audio/x-mulaw", "sampleRate": 8000, "channels": 1},
            },
        }
        self.text(json.dumps(start).encode())
        self.live = True
        self.calls.live[self.number] = self
        self.calls.starting.discard(self.number)
        self.world.join(self)

    def text(self, payload: bytes) -> None:
        self.send(header(1, len(payload), 128) + self.mask + xor(payload, self.mask))

    def control(self, opcode: int, payload: bytes) -> None:
        self.send(header(opcode, len(payload), 128) + self.mask + xor(payload, self.mask))

    def send_frame(self) -> None:
        number = self.frame
        self.frame = number + 1
        t = now()
        self.world.window.late.append(t - self.due)
        self.due += audio.FRAME
        if not self.world.plan.beacon:
            self.send(self.frames_out.frame(number, t))
            return
        if number % audio.BEACON_FRAMES == 0:
            self.beacons.append(t)
        self.text(media_message(number, audio.beacon_frame(self.number, number), self.stream_sid_bytes))

    def message(self, payload: bytes, mask: bytes) -> None:
        t = now()
        if mask:
            payload = xor(payload, mask)
        sound = self.sound_in.find(payload)
        if sound is not None:
            self._play(sound, t)
            return
        name = self.name_in.find(payload)
        if name is not None:
            self._mark(name)
            return
        message = json_decode(payload)
        match message.get("event"):
            case "media":
                sound = message["media"]["payload"].encode()
                self.sound_in.learn(payload, sound)
                self._play(sound, t)
            case "mark":
                name = msgspec.json.encode(message["mark"]["name"])[1:-1]
                self.name_in.learn(payload, name)
                self._mark(name)
            case "clear":
                if self.model is not None and self.model.cut_at:
                    self.world.window.barge_in.append(t - self.model.cut_at)
                    self.model.cut_at = 0.0
                self.buffer_end = t
                self.speaking = False
                while self.marks:
                    self._echo(self.marks.popleft()[1])

    def _mark(self, name: bytes) -> None:
        self.marks.append((self.buffer_end, name))
        if not self.marks_armed:
            self._arm()

    def _play(self, encoded: bytes, t: float) -> None:
        size = len(encoded) * 3 // 4 - encoded.count(b"=", -2)
        window = self.world.window
        said_at = self._reply_begins(encoded)
        if said_at:
            window.down.append(t - said_at)
            window.replies += 1
            if self.model is not None and self.model.reply == 1:
                window.startup.append(t - self.began - self.model.own_time)
            self.heard_ms = 0.0
            self.speaking = True
        elif self.speaking and t > self.buffer_end:
            window.starved_ms += (t - self.buffer_end) * 1000
        self.heard_ms += size / 8
        if self.heard_ms >= REPLY_MS:
            self.speaking = False
        self.buffer_end = max(self.buffer_end, t) + size / 8000

    def _reply_begins(self, encoded: bytes) -> float:
        """When the model said this, if it is the beginning of a reply; else 0."""
        if not self.world.plan.beacon:
            if not encoded.startswith(audio.MAGIC_TEXT):
                return 0.0
            return float(audio.STAMP.unpack_from(a2b_base64(encoded[: audio.STAMP_CHARS]))[4])
        model = self.model
        if model is None or not model.spoke_at or not audio.is_loud(a2b_base64(encoded)):
            return 0.0
        said_at, model.spoke_at = model.spoke_at, 0.0
        return said_at

    def _arm(self) -> None:
        self.marks_armed = True
        self.world.at(self.marks[0][0], self._echo_due)

    def _echo_due(self) -> None:
        self.marks_armed = False
        t = now()
        while self.marks and self.marks[0][0] <= t:
            self._echo(self.marks.popleft()[1])
        if self.marks:
            self._arm()

    def _echo(self, name: bytes) -> None:
        if self.live:
            self.text(
                b'{"event":"mark","sequenceNumber":"%d","streamSid":"%b","mark":{"name":"%b"}}'
                % (self.frame, self.stream_sid_bytes, name)
            )

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
        self.calls.live.pop(self.number, None)
        self.calls.starting.discard(self.number)
        super().ended()
