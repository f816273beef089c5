"""What was said and what was *heard* on one call, frame by frame on one clock."""

from __future__ import annotations

import functools
import wave
from pathlib import Path

import attrs
import numpy as np

from callrt.protocol.audio import mulaw_decode
from callrt.testing.carrier_stream import FRAME_BYTES, SILENT_FRAME, TICK_SECONDS

AUDIBLE_LEVEL = 200
"""Mean magnitude of a frame's samples, of 32767, above which a person hears something: about -44 dBFS."""

_MAGNITUDE = np.abs(mulaw_decode(bytes(range(256))).astype(np.int32))


@functools.lru_cache(maxsize=16_384)
def is_audible(frame: bytes) -> bool:
    """Cached: a simulation says and hears the same frames thousands of times."""
    return frame != SILENT_FRAME and bool(
        _MAGNITUDE[np.frombuffer(frame, dtype=np.uint8)].mean() > AUDIBLE_LEVEL
    )


@attrs.frozen
class HeardFrame:
    """20 ms at the caller's ear."""

    at: float
    """When it began, in seconds on the Trio clock."""
    frame: bytes
    """160 bytes of mu-law; silence where there was nothing to play."""
    stream: int
    """1 for the first media stream of the call; 0 when no stream was open."""
    source: str
    """``stream``, ``say`` (the carrier's own voice), ``ring``, ``human``, or empty for an idle line."""
    agent_bytes: int
    """How many of the bytes the app had sent; the rest is a dry buffer."""


class Tape:
    """Two tracks in step: frame n of both began at ``started_at + n * 0.02``."""

    def __init__(self) -> None:
        self.started_at = 0.0
        self.heard: list[HeardFrame] = []
        self.said: list[bytes] = []

    def add(self, heard: HeardFrame, said: bytes) -> None:
        self.heard.append(heard)
        self.said.append(said)

    @property
    def seconds(self) -> float:
        return len(self.heard) * TICK_SECONDS

    def heard_audio(self) -> bytes:
        """The ear's track with its silences: mu-law at 8 kHz."""
        return b"".join(heard.frame for heard in self.heard)

    def said_audio(self) -> bytes:
        return b"".join(self.said)

    def agent_audio(self, stream: int | None = None) -> bytes:
        """What the app had sent and the caller heard, without the silences of a dry buffer."""
        return b"".join(
            heard.frame[: heard.agent_bytes]
            for heard in self.heard
            if stream is None or heard.stream == stream
        )

    def audible_spans(self, *, gap_seconds: float = 0.2) -> list[tuple[float, float]]:
        """When the caller heard something, as (from, to) on the Trio clock; shorter pauses are bridged."""
        spans: list[tuple[float, float]] = []
        for heard in self.heard:
            if not is_audible(heard.frame):
                continue
            end = heard.at + TICK_SECONDS
            if spans and heard.at - spans[-1][1] < gap_seconds:
                spans[-1] = (spans[-1][0], end)
            else:
                spans.append((heard.at, end))
        return spans

    def longest_silence(self, start: float, end: float) -> float:
        """Seconds of the longest silence heard between two clock times."""
        longest = quiet = 0.0
        for heard in self.heard:
            if not start <= heard.at < end:
                continue
            quiet = 0.0 if is_audible(heard.frame) else quiet + TICK_SECONDS
            longest = max(longest, quiet)
        return longest

    def write_wav(self, path: Path) -> None:
        """Stereo, 8 kHz, 16 bit: left what the caller said, right what the caller heard."""
        left, right = mulaw_decode(self.said_audio()), mulaw_decode(self.heard_audio())
        with wave.open(str(path), "wb") as file:
            file.setnchannels(2)
            file.setsampwidth(2)
            file.setframerate(8000)
            file.writeframes(np.stack([left, right], axis=1).astype("<i2").tobytes())


def frames_of(audio: bytes) -> list[bytes]:
    """Cut into 160-byte frames, the last one padded with silence."""
    padded = audio + b"\xff" * (-len(audio) % FRAME_BYTES)
    return [padded[at : at + FRAME_BYTES] for at in range(0, len(padded), FRAME_BYTES)]
