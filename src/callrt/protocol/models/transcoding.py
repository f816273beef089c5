"""For models that speak 24 kHz PCM: their dialect, with the telephone's mu-law on our side of it.

Everything else stays as it is: positions are counted in milliseconds and bytes of mu-law, whatever the model
speaks. Up, one filter runs through the whole session, 2 ms late. Down, each item has its own; the first 2 ms that
come out of it are the filter's, not the model's, and are left out, so speech is as long as the model made it.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Literal, Protocol

from callrt.protocol.audio import (
    SAMPLE_RATE,
    Resampler,
    Widener,
    mulaw_decode,
    mulaw_encode,
    pcm_decode,
    pcm_encode,
)
from callrt.protocol.models.events import (
    AddSpeech,
    AppendAudio,
    ModelCommand,
    ModelEvent,
    ReplyAudio,
    ReplyDone,
    ReplyItemDone,
)

MODEL_RATE = 24_000
AudioFormat = Literal["pcmu", "pcm24"]
AUDIO_FORMATS: tuple[AudioFormat, ...] = ("pcmu", "pcm24")
_SAMPLE_BYTES = 2


class Dialect(Protocol):
    """A model's codec, in the format that its sessions are configured for."""

    def decode(self, message: str | bytes) -> tuple[ModelEvent, ...]: ...

    def encode(self, command: ModelCommand, *, event_id: str | None = None) -> str: ...

    def encode_audio(self, audio: bytes) -> bytes: ...


def codec_for(audio_format: AudioFormat, dialect: Callable[[], Dialect]) -> Dialect:
    """The codec of one session that the model speaks ``audio_format`` in."""
    return Transcoder(dialect()) if audio_format == "pcm24" else dialect()


class Transcoder:
    """One session's codec; mu-law on this side of it, PCM on the other."""

    def __init__(self, dialect: Dialect) -> None:
        self._dialect = dialect
        self._up = Widener()
        self._item: tuple[str, str, int] | None = None
        self._down = _Unhurried()

    def decode(self, message: str | bytes) -> tuple[ModelEvent, ...]:
        """As the dialect's; audio comes out as mu-law. Never raises."""
        events = self._dialect.decode(message)
        first = events[0] if events else None
        if isinstance(first, ReplyAudio):  # the one that comes often, and always alone
            return self._heard(first)
        if isinstance(first, ReplyItemDone) and self._item is not None and self._item[1] == first.item_id:
            return (*self._rest(first), *events)
        if isinstance(first, ReplyDone):
            self._item = None
        return events

    def encode(self, command: ModelCommand, *, event_id: str | None = None) -> str:
        """As the dialect's; audio goes in as mu-law."""
        if isinstance(command, AppendAudio):
            command = AppendAudio(self._to_model(command.audio))
        elif isinstance(command, AddSpeech):
            command = AddSpeech(_whole(command.audio), command.item_id)
        return self._dialect.encode(command, event_id=event_id)

    def encode_audio(self, audio: bytes) -> bytes:
        """``encode(AppendAudio(audio))`` in UTF-8, fifty times a second."""
        return self._dialect.encode_audio(self._to_model(audio))

    def _to_model(self, mulaw: bytes) -> bytes:
        return self._up.push(mulaw)

    def _heard(self, event: ReplyAudio) -> tuple[ModelEvent, ...]:
        item = (event.reply_id, event.item_id, event.content_index)
        if item != self._item:
            self._item = item
            self._down = _Unhurried()
        audio = self._down.push(event.audio)
        return (ReplyAudio(*item, audio),) if audio else ()

    def _rest(self, done: ReplyItemDone) -> tuple[ModelEvent, ...]:
        assert self._item is not None
        (reply_id, item_id, content_index), self._item = self._item, None
        audio = self._down.flush()
        if done.status != "completed" or not audio:
            return ()
        return (ReplyAudio(reply_id, item_id, content_index, audio),)


class _Unhurried:
    """24 kHz PCM to mu-law without the filter's delay: what it holds back at the beginning comes at the end."""

    def __init__(self) -> None:
        self._filter = Resampler(MODEL_RATE, SAMPLE_RATE)
        self._skip = int(self._filter.delay_samples) * _SAMPLE_BYTES

    def push(self, pcm: bytes) -> bytes:
        return self._encode(self._filter.push(pcm))

    def flush(self) -> bytes:
        return self._encode(self._filter.flush())

    def _encode(self, pcm: bytes) -> bytes:
        if self._skip:
            skipped = min(self._skip, len(pcm))
            self._skip -= skipped
            pcm = pcm[skipped:]
        return mulaw_encode(pcm_decode(pcm))


def _whole(mulaw: bytes) -> bytes:
    """One piece of speech at 24 kHz, exactly as long as it was."""
    up = Resampler(SAMPLE_RATE, MODEL_RATE)
    late = int(up.delay_samples) * _SAMPLE_BYTES
    return (up.push(pcm_encode(mulaw_decode(mulaw))) + up.flush())[late:]
