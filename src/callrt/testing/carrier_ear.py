"""The caller's ear: whatever is played to it next, be it the app's stream, the carrier's voice, ringing or
a human."""

from __future__ import annotations

from collections import deque
from typing import Final

import numpy as np
import trio

from callrt.protocol.audio import mulaw_encode
from callrt.testing.carrier_media import LiveStream
from callrt.testing.carrier_stream import SILENT_FRAME, TICK_SECONDS
from callrt.testing.carrier_tape import HeardFrame, frames_of


def _ringback() -> tuple[bytes, ...]:
    """440 and 480 Hz, two seconds of six, quiet."""
    clock = np.arange(2 * 8000) / 8000
    tone = 800 * (np.sin(2 * np.pi * 440 * clock) + np.sin(2 * np.pi * 480 * clock))
    return tuple(frames_of(mulaw_encode(np.round(tone).astype(np.int16)))) + (SILENT_FRAME,) * 200


_RINGBACK: Final = _ringback()


class Ear:
    def __init__(self) -> None:
        self.ringing = False
        """While a human's telephone rings."""
        self._voices: deque[tuple[bytes, str]] = deque()

    async def play(self, audio: bytes, source: str) -> None:
        """A voice that is not the app's; returns when it has been heard. If cancelled: the rest is not."""
        frames = frames_of(audio)
        self._voices.extend((frame, source) for frame in frames)
        try:
            await trio.sleep(len(frames) * TICK_SECONDS)
        finally:
            self._voices.clear()

    def next_frame(self, at: float, number: int, stream: LiveStream | None) -> HeardFrame:
        """What is heard in frame ``number`` of the call. Takes it from the stream's buffer if nothing else
        sounds."""
        if self._voices:
            frame, source = self._voices.popleft()
            return HeardFrame(at, frame, 0, source, 0)
        if self.ringing:
            return HeardFrame(at, _RINGBACK[number % len(_RINGBACK)], 0, "ring", 0)
        if stream is None:
            return HeardFrame(at, SILENT_FRAME, 0, "", 0)
        drawn = stream.media.begin_frame()
        source = "stream" if drawn.agent_bytes else ""
        return HeardFrame(at, drawn.frame, stream.media.number, source, drawn.agent_bytes)
