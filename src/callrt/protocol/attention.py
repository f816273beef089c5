"""Does the model still listen? Asked when the caller has spoken and the model shows no sign of it.

Theory of operation. A session that has gone deaf (a stalled server, a half-open socket) sends nothing, and owes
nothing as far as its own events tell: the caller would talk to a wall. So the caller's voice is watched here,
roughly. When an utterance has ended and the model has sent *nothing at all* since its last sound, it is probed
with a request that any living session answers at once; no answer within the operator's patience is a stall. A
model that merely took the sound for noise answers the probe, and nothing happens.
"""

from __future__ import annotations

import math
from typing import Final

from callrt.protocol.audio import mulaw_decode
from callrt.protocol.uplink import BYTES_PER_MS

FRAME_BYTES: Final = 20 * BYTES_PER_MS
LOUD_SAMPLE: Final = 500
"""Of 32 767: well above a line's noise, well below the softest speech's peaks."""
LOUD_PART: Final = 4
"""A frame of which every fourth sample is loud is voiced."""
UTTERANCE_FRAMES: Final = 10
PAUSE_SECONDS: Final = 0.7
LEAD_IN: Final = 300 * BYTES_PER_MS

_LOUD: Final = bytes([int(abs(int(sample)) > LOUD_SAMPLE) for sample in mulaw_decode(bytes(range(256)))])


def is_loud(mulaw: bytes) -> bool:
    """Half a microsecond a frame: this runs for every frame of every call."""
    return mulaw.translate(_LOUD).count(1) * LOUD_PART >= len(mulaw)


def loud_frames(mulaw: bytes) -> list[bool]:
    """:func:`is_loud` of each 20 ms that begin in it."""
    loud, size = mulaw.translate(_LOUD), len(mulaw)
    return [
        loud.count(1, at, at + FRAME_BYTES) * LOUD_PART >= min(FRAME_BYTES, size - at)
        for at in range(0, size, FRAME_BYTES)
    ]


class Attention:
    """One session's. ``patience``: seconds without any answer after which it is deaf."""

    def __init__(self, patience: float) -> None:
        self.patience = patience
        self.spoken_from: int | None = None
        """Position (of the caller's audio) at which an utterance began that the model has not taken note of."""
        self.deadline = math.inf
        """Clock time by which the model must have sent anything at all."""
        self._voiced = 0
        self._voiced_at = -math.inf
        self._sign = False

    def hear(self, frame: bytes, position: int, now: float) -> bool:
        """One frame of the caller's, which began at ``position``. True: probe the model now."""
        if frame.translate(_LOUD).count(1) * LOUD_PART >= len(frame):
            if not self._voiced:
                self.spoken_from = (
                    max(0, position - LEAD_IN) if self.spoken_from is None else self.spoken_from
                )
            self._voiced += 1
            self._voiced_at = now
            self._sign = False
            return False
        if not self._voiced or now - self._voiced_at < PAUSE_SECONDS - 1e-6:
            return False
        spoke, self._voiced = self._voiced >= UTTERANCE_FRAMES, 0
        if self._sign or (not spoke and self.deadline == math.inf):
            self.spoken_from = None
        if self._sign or not spoke or self.deadline < math.inf:
            return False
        self.deadline = now + self.patience
        return True

    def sign(self) -> None:
        """The model has sent something: it lives."""
        self._sign = True
        self.deadline = math.inf
        if not self._voiced:
            self.spoken_from = None

    def taken(self) -> None:
        """The model has made a turn of what was said so far."""
        self._voiced = 0
        self.spoken_from = None
        self.deadline = math.inf
