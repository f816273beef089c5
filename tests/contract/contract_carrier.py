"""An independent raw carrier: signs, posts, streams, plays in real time, follows documents. Written from the
protocol's description only."""

from __future__ import annotations

import base64
import bisect
import hashlib
import hmac
import itertools
import json
import socket
import struct
import xml.etree.ElementTree as ET
from collections import deque
from collections.abc import Callable
from functools import partial
from typing import Any
from urllib.parse import urlencode

import httpx
import trio
from contract_audio import FRAME, SILENCE, frame, loud, stamps
from trio_websocket import (
    ConnectionClosed,
    ConnectionRejected,
    WebSocketConnection,
    connect_websocket_url,
)

TOKEN = "5f1c" * 8
ACCOUNT = "AC" + "9" * 32

_streams = itertools.count(1)


def sign(url: str, form: dict[str, str] | None = None, token: str = TOKEN) -> str:
    text = url + "".join(name + value for name, value in sorted((form or {}).items()))
    return base64.b64encode(hmac.new(token.encode(), text.encode(), hashlib.sha1).digest()).decode()


class Phone:
    """One call, from the carrier's side."""

    def __init__(
        self, base: str, sid: str, called: str, nursery: trio.Nursery, caller: str = "+15550170001"
    ) -> None:
        self.base, self.sid, self.called, self.nursery, self.caller = base, sid, called, nursery, caller
        self.streams: list[MediaStream] = []
        self.documents: list[ET.Element] = []
        self.over = trio.Event()
        self.ending = ""
        self.dialled: list[dict[str, Any]] = []
        self.said: list[str] = []
        self.follow = True
        """Ask the action address when a stream ends."""
        self.hung_up = False
        self.refused = 0
        """Upgrades that were."""
        self.dial_result = "completed"
        self.played: list[tuple[float, bytearray]] = []
        """(clock time, what the caller's ear got), silence left out."""
        self._heard: list[tuple[float, int, int]] = []
        self._tail = b""
        self.to_say: deque[bytes] = deque()
        self.http = httpx.AsyncClient(timeout=15, trust_env=False)
        self.action: str | None = None
        self.between: Callable[[], Any] | None = None
        self.generation = 0
        self._documents_run = 0

    async def post(self, url: str, extra: dict[str, str] | None = None) -> httpx.Response:
        form = {
            "CallSid": self.sid,
            "AccountSid": ACCOUNT,
            "From": self.caller,
            "To": self.called,
            "CallStatus": "in-progress",
            "ApiVersion": "2010-04-01",
            "Direction": "inbound",
            "FromCity": "",
            **(extra or {}),
        }
        return await self.http.post(url, data=form, headers={"X-Twilio-Signature": sign(url, form)})

    async def document(self, url: str, extra: dict[str, str] | None = None) -> ET.Element:
        response = await self.post(url, extra)
        assert response.status_code == 200, (response.status_code, response.text)
        assert "xml" in response.headers["content-type"], response.headers
        root = ET.fromstring(response.text)
        assert root.tag == "Response"
        self.documents.append(root)
        return root

    async def dial_in(self) -> MediaStream:
        """The call comes in; returns when its first stream is attached."""
        root = await self.document(self.base + "/twilio/voice")
        self.nursery.start_soon(self._run, root)
        return await self.stream(1)

    async def stream(self, number: int, seconds: float = 12) -> MediaStream:
        """The n-th stream of this call, attached."""
        with trio.fail_after(seconds):
            while len(self.streams) < number:
                if self.over.is_set():
                    raise AssertionError(f"the call is over ({self.ending}) without stream {number}")
                await trio.sleep(0.01)
        return self.streams[number - 1]

    async def _run(self, root: ET.Element) -> None:
        # A repeated webhook has a second document run beside the first: the call is over with the last of them.
        self._documents_run += 1
        try:
            await self._perform(root)
        finally:
            self._documents_run -= 1
            if not self._documents_run:
                self.over.set()
                with trio.CancelScope(shield=True):
                    await self.http.aclose()

    async def _perform(self, root: ET.Element) -> None:
        while True:
            next_root: ET.Element | None = None
            for verb in root:
                if verb.tag == "Say":
                    self.said.append("".join(verb.itertext()))
                elif verb.tag == "Pause":
                    await trio.sleep(float(verb.get("length", "1")))
                elif verb.tag == "Hangup":
                    self.ending = "hangup"
                    return
                elif verb.tag == "Connect":
                    await self._connect(verb)
                    self.action = verb.get("action")
                    if self.hung_up or not self.follow:
                        self.ending = "caller"
                        return
                    if self.between is not None:
                        await self.between()
                    next_root = await self.document(self.action or "")
                    break
                elif verb.tag == "Dial":
                    next_root = await self._dial(verb)
                    if next_root is None:
                        self.ending = "dialled"
                        return
                    break
                else:
                    raise AssertionError(f"unknown verb {verb.tag}")
            if next_root is None:
                self.ending = self.ending or "document over"
                return
            root = next_root

    async def _dial(self, verb: ET.Element) -> ET.Element | None:
        number = verb.find("Number")
        to = number.text if number is not None else verb.text
        entry: dict[str, Any] = {"to": to, "at": trio.current_time()}
        self.dialled.append(entry)
        whisper = number.get("url") if number is not None else None
        if self.dial_result == "completed" and whisper:
            form = {
                "CallSid": "CA" + "e" * 32,
                "ParentCallSid": self.sid,
                "AccountSid": ACCOUNT,
                "From": self.caller,
                "To": to or "",
                "CallStatus": "in-progress",
                "Direction": "outbound-dial",
            }
            response = await self.http.post(
                whisper, data=form, headers={"X-Twilio-Signature": sign(whisper, form)}
            )
            assert response.status_code == 200, response.text
            entry["whisper"] = "".join(ET.fromstring(response.text).itertext())
        action = verb.get("action")
        if action is None:
            return None
        extra = {"DialCallStatus": self.dial_result, "DialCallSid": "CA" + "e" * 32}
        return await self.document(action, extra)

    async def _connect(self, verb: ET.Element) -> None:
        stream = verb.find("Stream")
        assert stream is not None
        url = stream.get("url") or ""
        assert url.startswith(("ws://", "wss://")), url
        assert "?" not in url
        media = MediaStream(self, url, {p.get("name"): p.get("value") for p in stream.findall("Parameter")})
        try:
            await media.run()
        except* (ConnectionRejected, OSError):
            self.refused += 1

    # -- what the caller heard --------------------------------------------------------------------------

    def ear(self, at: float, piece: bytes) -> None:
        """Note what has just been played, frame by frame."""
        if self.played and abs(self.played[-1][0] + len(self.played[-1][1]) / 8000 - at) < 1e-4:
            self.played[-1][1].extend(piece)
        else:
            self.played.append((at, bytearray(piece)))
        self._tail += piece
        end = at + len(piece) / 8000
        keep = 0
        for byte, who, place in stamps(self._tail):
            began = end - (len(self._tail) - byte) / 8000
            self._heard.append((began, who, place))
            keep = byte + 8
        self._tail = self._tail[max(keep, len(self._tail) - 7) :]

    def heard(self) -> list[tuple[float, int, int]]:
        """(clock time, voice, place) of every stamped frame that was played."""
        return self._heard

    def voice(self, who: int) -> list[int]:
        return [place for _, heard_who, place in self.heard() if heard_who == who]

    def summary(self) -> list[str]:
        """What was heard in runs, for messages: voice, places, from when to when."""
        out: list[list[float]] = []
        for at, who, place in self.heard():
            if out and out[-1][0] == who and out[-1][2] == place - 1 and at - out[-1][4] < 0.06:
                out[-1][2], out[-1][4] = place, at
            else:
                out.append([who, place, place, at, at])
        return [f"{int(w)}[{int(a)}-{int(b)}] {s % 1000:.2f}-{e % 1000 + 0.02:.2f}" for w, a, b, s, e in out]

    def lines(self) -> list[tuple[float, float]]:
        """(begin, end) of every sound that is not the model's: comfort, apology."""
        out: list[list[float]] = []
        spans = [at for at, _, _ in self._heard]
        for at, piece in self.played:
            for offset in range(0, len(piece), FRAME):
                part = piece[offset : offset + FRAME]
                now = at + offset / 8000
                if len(part) < 80 or not loud(part):
                    continue
                before = bisect.bisect_right(spans, now + 0.02)
                if before and spans[before - 1] >= now - 0.021:
                    continue
                if out and now - out[-1][1] < 0.3:
                    out[-1][1] = now + 0.02
                else:
                    out.append([now, now + 0.02])
        return [(begin, end) for begin, end in out if end - begin > 0.1]

    def speak(self, tag: int, ms: int) -> None:
        """The caller says something; silence follows."""
        for place in range(ms // 20):
            self.to_say.append(frame(tag, place))

    async def until(self, true: Callable[[], bool], seconds: float = 15, what: str = "") -> None:
        with trio.move_on_after(seconds):
            while not true():
                await trio.sleep(0.025)
            return
        raise AssertionError(
            f"{self.sid}: not within {seconds} s: {what}; lines {self.lines()}, over {self.ending}, "
            f"heard {self.summary()}, media {[len(s.received_at) for s in self.streams]}, refused {self.refused}, "
            f"said {self.said}"
        )

    async def hears(self, who: int, places: int = 1, seconds: float = 15) -> None:
        await self.until(lambda: len(set(self.voice(who))) >= places, seconds, f"voice {who} x {places}")


class MediaStream:
    def __init__(self, phone: Phone, url: str, parameters: dict[Any, Any]) -> None:
        self.phone, self.url, self.parameters = phone, url, parameters
        self.sid = f"MZ{next(_streams):08x}{phone.sid[-24:]}"
        self.ws: WebSocketConnection | None = None
        self.over = trio.Event()
        self.buffer: deque[bytes | str] = deque()
        self.queued = 0
        self.marks: list[str] = []
        self.clears: list[float] = []
        self.received_at: list[float] = []
        self.violations: list[str] = []
        self.sequence = 0
        self.chunk = 0
        self.muted = trio.Event()
        self.reading = True
        self.close_code: int | None = None
        self.max_ahead = 0.0
        self.started_at = 0.0
        self.scope = trio.CancelScope()

    async def send(self, message: dict[str, Any] | str | bytes) -> None:
        assert self.ws is not None
        if isinstance(message, dict):
            message = json.dumps(message)
        await self.ws.send_message(message)

    async def event(self, kind: str, **fields: Any) -> None:
        self.sequence += 1
        await self.send(
            {"event": kind, "sequenceNumber": str(self.sequence), "streamSid": self.sid, **fields}
        )

    async def start(self, call_sid: str | None = None) -> None:
        sid = call_sid or self.phone.sid
        await self.send({"event": "connected", "protocol": "Call", "version": "1.0.0"})
        await self.event(
            "start",
            start={
                "accountSid": ACCOUNT,
                "callSid": sid,
                "streamSid": self.sid,
                "tracks": ["inbound"],
                "mediaFormat": {"encoding": "audio/x-mulaw", "sampleRate": 8000, "channels": 1},
                "customParameters": self.parameters,
            },
        )

    async def run(self) -> None:
        async with trio.open_nursery() as nursery:
            ws = await connect_websocket_url(
                nursery,
                self.url,
                extra_headers=[(b"X-Twilio-Signature", sign(self.url).encode())],
                max_message_size=1 << 22,
                message_queue_size=1024,
            )
            self.ws = ws
            ws._stream.socket.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
            await self.start()
            self.started_at = trio.current_time()
            self.phone.streams.append(self)
            try:
                with self.scope:
                    async with trio.open_nursery() as inner:
                        inner.start_soon(self._guard, self._talk)
                        inner.start_soon(self._guard, self._play)
                        await self._guard(self._listen)
                        inner.cancel_scope.cancel()
            finally:
                self.over.set()
                nursery.cancel_scope.cancel()

    async def _guard(self, step: Callable[[], Any]) -> None:
        try:
            await step()
        except ConnectionClosed as closed:
            self.close_code = closed.reason.code if closed.reason else 1006
            self.scope.cancel()
        except (OSError, trio.BrokenResourceError, trio.ClosedResourceError):
            self.scope.cancel()

    async def _talk(self) -> None:
        begin = trio.current_time()
        count = 0
        while not self.muted.is_set():
            payload = self.phone.to_say.popleft() if self.phone.to_say else SILENCE
            self.chunk += 1
            count += 1
            await self.event(
                "media",
                media={
                    "track": "inbound",
                    "chunk": str(self.chunk),
                    "timestamp": str(self.chunk * 20 + 18),
                    "payload": base64.b64encode(payload).decode(),
                },
            )
            await trio.sleep_until(begin + count * 0.02)
        await trio.sleep_forever()

    async def _listen(self) -> None:
        assert self.ws is not None
        while True:
            if not self.reading:
                await trio.sleep_forever()
            message = await self.ws.get_message()
            now = trio.current_time()
            if isinstance(message, bytes):
                self.violations.append("31950 binary")
                continue
            event = json.loads(message)
            kind = event.get("event")
            shapes = {"media": {"event", "streamSid", "media"}, "mark": {"event", "streamSid", "mark"}}
            if set(event) != shapes.get(kind, {"event", "streamSid"}) or event.get("streamSid") != self.sid:
                self.violations.append(f"31951 {sorted(event)}")
            elif kind == "media":
                if set(event["media"]) != {"payload"}:
                    self.violations.append("31951 media")
                payload = base64.b64decode(event["media"]["payload"], validate=True)
                if len(payload) % FRAME:
                    self.violations.append(f"media of {len(payload)} bytes")
                self.received_at.append(now)
                self.buffer.append(payload)
                self.queued += len(payload)
                self.max_ahead = max(self.max_ahead, self.queued / 8000)
            elif kind == "mark":
                if set(event["mark"]) != {"name"}:
                    self.violations.append("31951 mark")
                self.buffer.append(str(event["mark"]["name"]))
            elif kind == "clear":
                self.clears.append(now)
                names = [part for part in self.buffer if isinstance(part, str)]
                self.buffer.clear()
                self.queued = 0
                for name in names:
                    await self.event("mark", mark={"name": name})
            else:
                self.violations.append(f"31951 {kind}")

    async def _play(self) -> None:
        """The caller's ear: 8 bytes a millisecond, whatever the loop does."""
        at = trio.current_time()
        while True:
            await trio.sleep(0.005)
            now = trio.current_time()
            due = int((now - at) * 8000)
            while self.buffer and (due > 0 or isinstance(self.buffer[0], str)):
                part = self.buffer.popleft()
                if isinstance(part, str):
                    await self.event("mark", mark={"name": part})
                    continue
                piece, rest = part[:due], part[due:]
                self.phone.ear(at, piece)
                self.queued -= len(piece)
                at += len(piece) / 8000
                due -= len(piece)
                if rest:
                    self.buffer.appendleft(rest)
            if not self.buffer:
                at = now
            await trio.lowlevel.checkpoint()

    # -- ends --------------------------------------------------------------------------------------------

    def reset(self) -> None:
        """RST, no close frame."""
        assert self.ws is not None
        self.ws._stream.socket.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
        self.scope.cancel()
        self.ws._stream.socket.close()

    def fin(self) -> None:
        assert self.ws is not None
        self.scope.cancel()
        self.ws._stream.socket.close()

    def half_open(self) -> None:
        """Nothing is sent any more, nothing is read."""
        self.muted.set()
        self.reading = False

    async def stop(self) -> None:
        with trio.move_on_after(1):
            await self.event("stop", stop={"accountSid": ACCOUNT, "callSid": self.phone.sid})
            assert self.ws is not None
            await self.ws.aclose()
        self.scope.cancel()

    async def hang_up(self) -> None:
        self.phone.hung_up = True
        await self.stop()


class RestServer:
    """The carrier's REST interface: notes what it is asked, answers what it must."""

    def __init__(self) -> None:
        self.asked: list[tuple[str, str, dict[str, str]]] = []
        self.posted: list[tuple[str, Any]] = []
        self.port = 0

    async def run(self, *, task_status: trio.TaskStatus[RestServer]) -> None:
        async with trio.open_nursery() as nursery:
            listeners = await nursery.start(partial(trio.serve_tcp, self._serve, 0, host="127.0.0.1"))
            self.port = listeners[0].socket.getsockname()[1]
            task_status.started(self)

    async def _serve(self, stream: trio.SocketStream) -> None:
        data = b""
        try:
            while b"\r\n\r\n" not in data:
                more = await stream.receive_some()
                if not more:
                    return
                data += more
            head, _, body = data.partition(b"\r\n\r\n")
            lines = head.decode().split("\r\n")
            headers = {k.lower(): v.strip() for k, _, v in (line.partition(":") for line in lines[1:])}
            while len(body) < int(headers.get("content-length", "0")):
                body += await stream.receive_some()
            method, path, _ = lines[0].split(" ")
            if path.startswith("/hook"):
                self.posted.append((path, json.loads(body)))
                answer = {"ok": True}
            else:
                self.asked.append((method, path, dict(httpx.QueryParams(body.decode()))))
                answer = {"sid": path.split("/")[-1].removesuffix(".json"), "status": "in-progress"}
            payload = json.dumps(answer).encode()
            await stream.send_all(
                b"HTTP/1.1 200 OK\r\ncontent-type: application/json\r\nconnection: close\r\ncontent-length: %d\r\n\r\n"
                % len(payload)
                + payload
            )
        except (OSError, trio.BrokenResourceError):
            return
        finally:
            await stream.aclose()

    def of(self, sid: str) -> list[dict[str, str]]:
        return [form for _, path, form in self.asked if sid in path]


__all__ = ["ACCOUNT", "TOKEN", "MediaStream", "Phone", "RestServer", "sign", "urlencode"]
