"""Twilio Media Streams: its JSON messages to the carrier vocabulary and back.

Numbers arrive as strings, from look-alikes also as numbers; both are taken. Everything else that is not as
documented becomes :class:`BadMessage` and leaves the codec as it was. Outgoing envelopes carry the documented
fields and nothing else: Twilio ignores a message with an extra field, and warns once per stream only.
"""

from __future__ import annotations

from binascii import Error as Base64Error
from binascii import a2b_base64, b2a_base64
from typing import TypeVar

import msgspec

from callrt.protocol.carriers import twilio_messages as wire
from callrt.protocol.carriers.events import (
    AudioReceived,
    BadMessage,
    CarrierCommand,
    CarrierEvent,
    ClearAudio,
    DigitPressed,
    MarkEchoed,
    SendAudio,
    SendMark,
    StreamConnected,
    StreamStarted,
    StreamStopped,
)

MESSAGE_CHARACTERS_MAX = 262_144
"""A media message has about 350."""
AUDIO_BYTES_MAX = 16_000
"""Two seconds in one message; Twilio sends 20 ms."""
MISSING_MS_MAX = 2_000
"""No longer gap is filled with silence: a clock has jumped, or the line was dead and all have noticed."""
NAME_CHARACTERS_MAX = 256
"""Of identifiers and marks; Twilio's have 34, ours fewer than 100."""
BYTES_PER_MS = 8
COUNT_MAX = 10**18 - 1
"""Of a chunk or a sequence number: eighteen digits, which 60 bits hold."""
_NEXT_CHARACTERS_MIN, _NEXT_CHARACTERS_MAX = 200, 2_048
"""Of what is looked at as the next media message: a mark is shorter, and all bounds are far longer."""

T = TypeVar("T")
_EVENTS = ("connected", "start", "media", "dtmf", "mark", "stop")
_DIGITS = "0123456789*#ABCD"


_decode = msgspec.json.Decoder(wire.Envelope).decode
_decode_next = msgspec.json.Decoder(wire.Next).decode


class _Bad(Exception):
    """Carries a static reason out of a handler."""


class TwilioCodec:
    """One stream's dialect. Knows the stream's identity from ``start`` on, and where its audio has gaps."""

    def __init__(self) -> None:
        self.stream_id: str | None = None
        """Learned at ``start``."""
        self._next_chunk: str | None = None
        """As Twilio will write it; None: not known."""
        self._call_id = ""
        self._stopped = False
        self._sequence: int | None = None
        self._chunk: int | None = None
        self._audio_end_ms: int | None = None
        self._media_head = ""
        self._mark_head = ""
        self._clear = ""

    # -- in --------------------------------------------------------------------------------------------

    def decode(self, message: str | bytes) -> CarrierEvent:
        """One message of the carrier. Never raises: what cannot be understood is a :class:`BadMessage`."""
        if not isinstance(message, str):
            return BadMessage("binary")
        if len(message) > MESSAGE_CHARACTERS_MAX:
            return BadMessage("too_large")
        try:
            envelope = _decode(message)
        except (msgspec.DecodeError, UnicodeError, RecursionError):
            return BadMessage(_why_not(message))
        try:
            match envelope.event:
                case "media":
                    return self._media(envelope)
                case "mark":
                    sequence = self._in_stream(envelope)
                    echoed = MarkEchoed(_name(_needed(envelope.mark).name))
                    self._sequence = sequence
                    return echoed
                case "dtmf":
                    return self._dtmf(envelope)
                case "start":
                    return self._start(envelope)
                case "stop":
                    return self._stop(envelope)
                case "connected":
                    if self.stream_id is not None:
                        return BadMessage("after_start")
                    return StreamConnected(_text(envelope.protocol), _text(envelope.version))
                case None:
                    return BadMessage("missing_field")
                case _:
                    return BadMessage("unknown_event")
        except _Bad as bad:
            return BadMessage(str(bad))

    def next_audio(self, text: bytes) -> bytes | None:
        """The payload, if this is the media message after the one before it, in the form that Twilio gives it: fifty
        times a second it is. None: it is anything else, or wrong; ask :meth:`decode`, nothing has changed."""
        last = self._chunk
        if last is None or self._next_chunk is None:
            return None
        if not _NEXT_CHARACTERS_MIN <= len(text) <= _NEXT_CHARACTERS_MAX:
            return None
        try:
            envelope = _decode_next(text)
        except (msgspec.DecodeError, UnicodeError, RecursionError):
            return None
        media, sequence = envelope.media, envelope.sequenceNumber
        timestamp, payload = media.timestamp, media.payload
        if (
            media.chunk != self._next_chunk
            or envelope.streamSid != self.stream_id
            or not payload
            or len(timestamp) > 18
            or len(sequence) > 18
            or not (timestamp and sequence)
            or not (digits := timestamp + sequence).isdigit()
            or not digits.isascii()
        ):
            return None
        chunk = self._chunk = last + 1
        self._next_chunk = str(chunk + 1) if chunk < COUNT_MAX else None
        self._sequence = int(sequence)
        self._audio_end_ms = int(timestamp) + len(payload) // BYTES_PER_MS
        return payload

    def _in_stream(self, envelope: wire.Envelope) -> int | None:
        """Check that the message is one of our stream's; returns its sequence number."""
        if self.stream_id is None:
            raise _Bad("before_start")
        if _needed(envelope.streamSid) != self.stream_id:
            raise _Bad("wrong_stream")
        if self._stopped:
            raise _Bad("after_stop")
        return None if envelope.sequenceNumber is None else _number(envelope.sequenceNumber)

    def _media(self, envelope: wire.Envelope) -> CarrierEvent:
        sequence = self._in_stream(envelope)
        media = _needed(envelope.media)
        if media.track is not None and not media.track.startswith("inbound"):
            raise _Bad("outbound_track")
        encoded = _needed(media.payload)
        try:
            payload = a2b_base64(encoded, strict_mode=True)
        except (Base64Error, ValueError):
            raise _Bad("bad_base64") from None
        if not payload:
            raise _Bad("empty_audio")
        if len(payload) > AUDIO_BYTES_MAX:
            raise _Bad("too_large")
        expected_ms = self._audio_end_ms
        chunk = None if media.chunk is None else _number(media.chunk)
        if media.timestamp is not None:
            timestamp_ms = _number(media.timestamp)
        else:
            timestamp_ms = expected_ms or 0
        if chunk is not None and self._chunk is not None:
            gap = chunk > self._chunk + 1
        else:
            gap = sequence is not None and self._sequence is not None and sequence > self._sequence + 1
        missing_ms = 0
        if gap and expected_ms is not None:
            missing_ms = min(max(timestamp_ms - expected_ms, 0), MISSING_MS_MAX)
        self._sequence = sequence
        self._chunk = chunk
        self._next_chunk = None if chunk is None or chunk >= COUNT_MAX else str(chunk + 1)
        self._audio_end_ms = timestamp_ms + len(payload) // BYTES_PER_MS
        return AudioReceived(payload, timestamp_ms, missing_ms)

    def _dtmf(self, envelope: wire.Envelope) -> CarrierEvent:
        sequence = self._in_stream(envelope)
        digit = _name(_needed(envelope.dtmf).digit)
        if len(digit) != 1 or digit not in _DIGITS:
            raise _Bad("bad_digit")
        self._sequence = sequence
        return DigitPressed(digit)

    def _start(self, envelope: wire.Envelope) -> CarrierEvent:
        if self.stream_id is not None:
            raise _Bad("second_start")
        start = _needed(envelope.start)
        stream_id = _name(start.streamSid or envelope.streamSid)
        if envelope.streamSid is not None and envelope.streamSid != stream_id:
            raise _Bad("wrong_stream")
        call_id = _name(start.callSid)
        form = _needed(start.mediaFormat)
        parameters = start.customParameters or envelope.customParameters or {}
        started = StreamStarted(
            stream_id=stream_id,
            call_id=call_id,
            account=start.accountSid or "",
            tracks=start.tracks or (),
            encoding=_name(form.encoding),
            sample_rate=_number(form.sampleRate),
            channels=1 if form.channels is None else _number(form.channels),
            parameters={name: _text(value) for name, value in parameters.items()},
        )
        self._sequence = None if envelope.sequenceNumber is None else _number(envelope.sequenceNumber)
        self.stream_id = stream_id
        self._call_id = call_id
        quoted = _json(stream_id)
        self._media_head = f'{{"event":"media","streamSid":{quoted},"media":{{"payload":"'
        self._mark_head = f'{{"event":"mark","streamSid":{quoted},"mark":{{"name":'
        self._clear = f'{{"event":"clear","streamSid":{quoted}}}'
        return started

    def _stop(self, envelope: wire.Envelope) -> CarrierEvent:
        self._in_stream(envelope)
        self._stopped = True
        self._next_chunk = None
        call_id = envelope.stop.callSid if envelope.stop is not None else None
        return StreamStopped(call_id or self._call_id)

    # -- out -------------------------------------------------------------------------------------------

    def encode(self, command: CarrierCommand) -> str:
        """One message for the carrier. RuntimeError before ``start``: there is no stream to speak to."""
        if self.stream_id is None:
            raise RuntimeError("nothing can be sent before the stream has started")
        match command:
            case SendAudio(payload):
                return self._media_head + b2a_base64(payload, newline=False).decode("ascii") + '"}}'
            case SendMark(name):
                return self._mark_head + _json(name) + "}}"
            case ClearAudio():
                return self._clear


def _needed(value: T | None) -> T:
    if value is None:
        raise _Bad("missing_field")
    return value


def _number(value: str | int | None) -> int:
    """A count or a time. Clocks may jump, but not below 0 nor beyond what 60 bits hold."""
    if isinstance(value, str):
        if not (value.isascii() and value.isdigit() and len(value) <= 18):
            raise _Bad("wrong_type")
        return int(value)
    if value is None:
        raise _Bad("missing_field")
    if not 0 <= value <= COUNT_MAX:
        raise _Bad("wrong_type")
    return value


def _name(value: str | int | None) -> str:
    """An identifier: there, not empty, not absurdly long."""
    text = str(_needed(value))
    if not text:
        raise _Bad("missing_field")
    if len(text) > NAME_CHARACTERS_MAX:
        raise _Bad("too_large")
    return text


def _text(value: str | float | bool | None) -> str:
    if isinstance(value, bool):
        return "true" if value else "false"
    return "" if value is None else str(value)


def _json(text: str) -> str:
    return msgspec.json.encode(text).decode()


def _why_not(message: str) -> str:
    """The message did not fit the envelope; which static word says why?"""
    try:
        value = msgspec.json.decode(message)
    except (msgspec.DecodeError, UnicodeError, RecursionError):
        return "not_json"
    if not isinstance(value, dict):
        return "not_an_object"
    event = value.get("event")
    if isinstance(event, str) and event not in _EVENTS:
        return "unknown_event"
    return "wrong_type"
