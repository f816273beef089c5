"""One media stream as the carrier sees it: playback buffer, marks, strict reading. No clock, no socket.

Playback is counted in bytes (8 are 1 ms). A frame of 20 ms is *begun* at one tick and *finished* at the
next; what has been begun is heard, whatever is cleared meanwhile. A mark is echoed when all audio queued
before it is finished.
"""

from __future__ import annotations

import base64
import binascii
import json
from collections import deque
from collections.abc import Callable, Mapping
from typing import Any, Final

import attrs

FRAME_BYTES: Final = 160
SILENT_FRAME: Final = b"\xff" * FRAME_BYTES
TICK_SECONDS: Final = 0.02

UNDECODABLE: Final = 31950
NONCONFORMING: Final = 31951

_KEYS: Final[Mapping[str, frozenset[str]]] = {
    "media": frozenset({"event", "streamSid", "media"}),
    "mark": frozenset({"event", "streamSid", "mark"}),
    "clear": frozenset({"event", "streamSid"}),
}
_INNER: Final[Mapping[str, str]] = {"media": "payload", "mark": "name"}


@attrs.frozen
class StreamBehaviour:
    """How this carrier plays and echoes. The default is the documented behaviour."""

    echo_delay: float | Callable[[str], float] = 0.0
    """Seconds by which an echo is late, or a function of the mark's name."""
    echoes_marks: bool = True
    clear_echoes: bool = True
    """Whether ``clear`` sends back the outstanding marks, as the real carrier does; otherwise they are
    lost."""
    buffer_ms_max: int = 600_000
    """Audio beyond this is dropped and counted. The real capacity is not documented."""


@attrs.frozen
class WireEvent:
    """One message or happening on the stream, for measurements."""

    at: float
    """Seconds on the Trio clock."""
    stream: int
    """1 for the first stream of the call."""
    sent: bool
    """By the carrier; False: received from the app."""
    kind: str
    detail: str = ""
    size: int = 0
    """Audio bytes of a media message."""


@attrs.frozen
class Drawn:
    """The frame begun at this tick."""

    frame: bytes
    agent_bytes: int
    """How many of its bytes came from the app; the rest is silence of a dry buffer."""


class MediaStream:
    """The carrier's half of the conversation on one socket. Methods return the messages to send, in
    order."""

    def __init__(
        self,
        stream_sid: str,
        call_sid: str,
        account_sid: str,
        parameters: Mapping[str, str],
        *,
        number: int = 1,
        behaviour: StreamBehaviour | None = None,
        first_timestamp_ms: int = 20,
        record: Callable[[WireEvent], None] = lambda event: None,
        warn: Callable[[int, str], None] = lambda code, text: None,
    ) -> None:
        self.stream_sid = stream_sid
        self.call_sid = call_sid
        self.account_sid = account_sid
        self.parameters = dict(parameters)
        self.number = number
        self.behaviour = behaviour or StreamBehaviour()
        self.refused: dict[int, int] = {}
        """Error code to how many messages earned it; each code is *reported* once per stream."""
        self.reasons: dict[str, int] = {}
        self.ragged = 0
        """Media messages that were no whole number of frames: they stutter on a telephone."""
        self.overflow_bytes = 0
        self.underruns = 0
        """Frames in which the buffer ran dry in mid-speech with no mark to say that it should."""
        self.discarded = 0
        """Inbound frames that the app's slow socket cost (31930)."""
        self.finished_bytes = 0
        """Audio of the app that the caller has heard to its end."""
        self._record = record
        self._warn = warn
        self._buffer: deque[bytes] = deque()
        self._buffered = 0
        self._queued_at = 0  # absolute byte position of the buffer's end
        self._finished_at = 0  # absolute byte position up to which playback is finished
        self._begun = 0  # bytes of the frame being played
        self._marks: deque[tuple[int, str]] = deque()
        self._late: list[tuple[float, str]] = []
        self._sequence = 0
        self._chunk = 0
        self._timestamp_ms = first_timestamp_ms

    @property
    def buffered_ms(self) -> int:
        return self._buffered // 8

    @property
    def pending_marks(self) -> tuple[str, ...]:
        return tuple(name for _, name in self._marks)

    def opening(self, now: float) -> list[str]:
        """``connected`` and ``start``."""
        start = {
            "accountSid": self.account_sid,
            "callSid": self.call_sid,
            "streamSid": self.stream_sid,
            "tracks": ["inbound"],
            "mediaFormat": {"encoding": "audio/x-mulaw", "sampleRate": 8000, "channels": 1},
            "customParameters": self.parameters,
        }
        self._note(now, True, "start")
        return [
            json.dumps({"event": "connected", "protocol": "Call", "version": "1.0.0"}),
            self._envelope("start", start),
        ]

    def finish_frame(self, now: float) -> list[str]:
        """The frame begun at the last tick has been played: echo the marks that it reached."""
        self._finished_at += self._begun
        self.finished_bytes += self._begun
        self._begun = 0
        messages = self._due_echoes(now)
        while self._marks and self._marks[0][0] <= self._finished_at:
            messages += self._echo(self._marks.popleft()[1], now)
        return messages

    def begin_frame(self) -> Drawn:
        """Take the next 20 ms from the buffer; what it lacks is silence."""
        taken = bytearray()
        while self._buffer and len(taken) < FRAME_BYTES:
            part = self._buffer.popleft()
            room = FRAME_BYTES - len(taken)
            taken += part[:room]
            if len(part) > room:
                self._buffer.appendleft(part[room:])
        count = len(taken)
        self._buffered -= count
        self._begun = count
        if 0 < count < FRAME_BYTES:
            self.underruns += 1
        return Drawn(bytes(taken) + SILENT_FRAME[count:], count)

    def hear(self, frame: bytes, *, discard: bool = False) -> str | None:
        """The caller's next frame as a message; None when it is discarded, which leaves a gap in the
        numbers."""
        self._sequence += 1
        self._chunk += 1
        timestamp = self._timestamp_ms
        self._timestamp_ms += 20
        if discard:
            self.discarded += 1
            return None
        payload = base64.b64encode(frame).decode()
        return (
            f'{{"event":"media","sequenceNumber":"{self._sequence}","streamSid":"{self.stream_sid}","media":'
            f'{{"track":"inbound","chunk":"{self._chunk}","timestamp":"{timestamp}","payload":"{payload}"}}}}'
        )

    def press(self, digit: str, now: float) -> str:
        self._note(now, True, "dtmf", digit)
        return self._envelope("dtmf", {"track": "inbound_track", "digit": digit})

    def stop(self, now: float) -> str:
        self._note(now, True, "stop")
        return self._envelope("stop", {"accountSid": self.account_sid, "callSid": self.call_sid})

    def receive(self, message: str | bytes, now: float) -> list[str]:
        """One message of the app. What does not conform is counted, reported once per stream, and
        ignored."""
        if not isinstance(message, str):
            return self._refuse(UNDECODABLE, "binary", now)
        try:
            body = json.loads(message)
        except ValueError:
            return self._refuse(NONCONFORMING, "not_json", now)
        reason = self._fault_in(body)
        if reason is not None:
            return self._refuse(NONCONFORMING, reason, now)
        match body["event"]:
            case "media":
                return self._receive_media(body["media"]["payload"], now)
            case "mark":
                return self._receive_mark(body["mark"]["name"], now)
            case _:
                return self._receive_clear(now)

    def _fault_in(self, body: Any) -> str | None:
        if not isinstance(body, dict):
            return "not_an_object"
        event = body.get("event")
        if not isinstance(event, str) or event not in _KEYS:
            return "unknown_event"
        if body.keys() - _KEYS[event]:
            return "extra_field"
        if _KEYS[event] - body.keys():
            return "missing_field"
        if body["streamSid"] != self.stream_sid:
            return "wrong_stream"
        if event in _INNER:
            inner = body[event]
            if not isinstance(inner, dict) or not isinstance(inner.get(_INNER[event]), str):
                return "missing_field"
            if len(inner) > 1:
                return "extra_field"
        return None

    def _receive_media(self, payload: str, now: float) -> list[str]:
        try:
            audio = base64.b64decode(payload, validate=True)
        except (binascii.Error, ValueError):
            return self._refuse(NONCONFORMING, "bad_base64", now)
        if not audio:
            return self._refuse(NONCONFORMING, "empty_payload", now)
        if len(audio) % FRAME_BYTES:
            self.ragged += 1
        room = self.behaviour.buffer_ms_max * 8 - self._buffered
        kept = audio[: max(0, room)]
        self.overflow_bytes += len(audio) - len(kept)
        if kept:
            self._buffer.append(kept)
            self._buffered += len(kept)
            self._queued_at += len(kept)
        self._note(now, False, "media", size=len(audio))
        return []

    def _receive_mark(self, name: str, now: float) -> list[str]:
        self._note(now, False, "mark", name)
        if self._queued_at <= self._finished_at:
            return self._echo(name, now)
        self._marks.append((self._queued_at, name))
        return []

    def _receive_clear(self, now: float) -> list[str]:
        self._note(now, False, "clear", size=self._buffered)
        self._buffer.clear()
        self._buffered = 0
        # Positions are absolute: what was thrown away counts as passed, the frame being played does not yet.
        self._finished_at = self._queued_at - self._begun
        names = [name for _, name in self._marks]
        self._marks.clear()
        if not self.behaviour.clear_echoes:
            return []
        return [message for name in names for message in self._echo(name, now)]

    def _echo(self, name: str, now: float) -> list[str]:
        if not self.behaviour.echoes_marks:
            return []
        delay = self.behaviour.echo_delay
        seconds = delay(name) if callable(delay) else delay
        if seconds > 0:
            self._late.append((now + seconds, name))
            return []
        return [self._echo_now(name, now)]

    def _due_echoes(self, now: float) -> list[str]:
        if not self._late:
            return []
        due = [entry for entry in self._late if entry[0] <= now + 1e-9]
        self._late = [entry for entry in self._late if entry[0] > now + 1e-9]
        return [self._echo_now(name, now) for _, name in sorted(due, key=lambda entry: entry[0])]

    def _echo_now(self, name: str, now: float) -> str:
        self._note(now, True, "mark", name)
        return self._envelope("mark", {"name": name})

    def _refuse(self, code: int, reason: str, now: float) -> list[str]:
        first = code not in self.refused
        self.refused[code] = self.refused.get(code, 0) + 1
        self.reasons[reason] = self.reasons.get(reason, 0) + 1
        self._note(now, False, "refused", reason)
        if first:
            self._warn(code, reason)
        return []

    def _envelope(self, event: str, body: Mapping[str, object]) -> str:
        self._sequence += 1
        return json.dumps(
            {"event": event, "sequenceNumber": str(self._sequence), "streamSid": self.stream_sid, event: body}
        )

    def _note(self, now: float, sent: bool, kind: str, detail: str = "", size: int = 0) -> None:
        self._record(WireEvent(now, self.number, sent, kind, detail, size))
