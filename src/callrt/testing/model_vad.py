"""The emulated model's ear: audio formats, and turn detection by energy, in audio time.

Nothing here knows a clock. Positions are milliseconds of audio appended to the session, so a caller whose
audio stops arriving stops time, as with the real service. The G.711 tables are written out again on purpose:
an emulator that shared the product's would share its mistakes.
"""

from __future__ import annotations

import functools
from typing import Any, Literal

import attrs
import numpy as np
from numpy.typing import NDArray

Samples = NDArray[np.int16]
Format = Literal["audio/pcmu", "audio/pcma", "audio/pcm"]

RATE = 8000
WINDOW = 160
"""20 ms: short enough for a prompt onset, long enough to hold one period of the lowest voice."""
WINDOW_MS = 20

ONSET_WINDOWS = 3
"""60 ms of energy make speech; a click does not."""

BYTES_PER_MS: dict[str, int] = {"audio/pcmu": 8, "audio/pcma": 8, "audio/pcm": 48}

EAGERNESS_MS = {"low": 1600, "medium": 800, "high": 400, "auto": 800}
"""Silence that ends a turn under ``semantic_vad``: a stand-in, the real one listens to the words."""


def _expand_mulaw() -> NDArray[np.int16]:
    code = ~np.arange(256, dtype=np.int32) & 0xFF
    magnitude = (((code & 0x0F) << 3) + 0x84 << (code >> 4 & 7)) - 0x84
    return np.where(code & 0x80, -magnitude, magnitude).astype(np.int16)


def _expand_alaw() -> NDArray[np.int16]:
    code = np.arange(256, dtype=np.int32) ^ 0x55
    exponent, mantissa = code >> 4 & 7, code & 0x0F
    low = (mantissa << 4) + 8
    magnitude = np.where(exponent == 0, low, low + 0x100 << np.maximum(exponent - 1, 0))
    return np.where(code & 0x80, magnitude, -magnitude).astype(np.int16)


_MULAW = _expand_mulaw()
_ALAW = _expand_alaw()
_ALAW_ORDER = np.argsort(_ALAW, kind="stable")
_ALAW_LEVELS = _ALAW[_ALAW_ORDER].astype(np.int32)
_ALAW_MIDPOINTS = (_ALAW_LEVELS[:-1] + _ALAW_LEVELS[1:]) // 2


def decode_mulaw(data: bytes) -> Samples:
    return _MULAW[np.frombuffer(data, dtype=np.uint8)]


def to_samples(data: bytes, form: str) -> Samples:
    """8 kHz samples of ``data``. ``audio/pcm`` (24 kHz) must be whole groups of three samples."""
    if form == "audio/pcmu":
        return decode_mulaw(data)
    if form == "audio/pcma":
        return _ALAW[np.frombuffer(data, dtype=np.uint8)]
    wide = np.frombuffer(data, dtype="<i2").reshape(-1, 3)
    narrow: Samples = wide.mean(axis=1).astype(np.int16)
    return narrow


def from_mulaw(data: bytes, form: str) -> bytes:
    """``data`` (mu-law, 8 kHz) in ``form``; milliseconds stay where they are."""
    if form == "audio/pcmu" or not data:
        return data
    samples = decode_mulaw(data)
    if form == "audio/pcma":
        return _ALAW_ORDER[np.searchsorted(_ALAW_MIDPOINTS, samples)].astype(np.uint8).tobytes()
    at = np.arange(len(samples) * 3) / 3
    return np.interp(at, np.arange(len(samples)), samples).astype("<i2").tobytes()


@attrs.frozen
class Started:
    at_ms: int
    """Padding included."""


@attrs.frozen
class Stopped:
    start_ms: int
    at_ms: int
    """Silence that ended it included."""
    audio: Samples


@attrs.frozen
class Detection:
    """Turn detection as configured; ``None`` in its place means manual."""

    level: float
    padding_ms: int
    silence_ms: int

    @classmethod
    def of(cls, config: dict[str, Any]) -> Detection:
        if config["type"] == "semantic_vad":
            return cls(_level(0.5), 300, EAGERNESS_MS[config.get("eagerness") or "auto"])
        return cls(_level(config["threshold"]), config["prefix_padding_ms"], config["silence_duration_ms"])


def _level(threshold: float) -> float:
    # 0 hears at -60 dBFS, 0.5 at -35, 1 at -10: line noise is below the default, telephone speech above it.
    return float(32768 * 10 ** ((-60 + 50 * threshold) / 20))


def _loudness(window: Samples) -> float:
    wide = window.astype(np.float32)
    return float(np.sqrt(np.mean(wide * wide)))


@functools.lru_cache(maxsize=8192)
def _mulaw_window(data: bytes) -> tuple[Samples, float]:
    """Cached: callers are mostly silent, and a simulated one says the same things thousands of times."""
    samples = decode_mulaw(data)
    return samples, _loudness(samples)


@attrs.define(eq=False)
class Ear:
    """The input audio buffer. Bound: what speech holds, else the padding; under manual control, everything
    since the last commit, up to ``limit_ms``, beyond which the oldest goes."""

    form: str = "audio/pcm"
    detection: Detection | None = None
    limit_ms: int = 600_000
    dropped_ms: int = 0
    _rest: bytes = b""
    _pending: Samples = attrs.field(factory=lambda: np.zeros(0, np.int16))
    _windows: list[Samples] = attrs.field(factory=list)
    _first: int = 0
    """Number of the window at the front of ``_windows``."""
    _run: int = 0
    _quiet: int = 0
    _speech_from: int | None = None
    _fence: int = 0
    """No turn reaches back before this window: it belongs to the one before."""

    @property
    def at_ms(self) -> int:
        return (self._first + len(self._windows)) * WINDOW_MS + len(self._pending) * 1000 // RATE

    @property
    def buffered_ms(self) -> int:
        return len(self._windows) * WINDOW_MS + len(self._pending) * 1000 // RATE

    @property
    def in_speech(self) -> bool:
        return self._speech_from is not None

    def append(self, data: bytes) -> list[Started | Stopped]:
        if self.form == "audio/pcmu" and len(data) == WINDOW and not self._rest and not len(self._pending):
            samples, loudness = _mulaw_window(data)
            return self._take_window(samples, loudness)
        whole = self._rest + data
        unit = 6 if self.form == "audio/pcm" else 1
        cut = len(whole) - len(whole) % unit
        self._rest = whole[cut:]
        samples = to_samples(whole[:cut], self.form)
        if len(self._pending):
            samples = np.concatenate([self._pending, samples])
        found: list[Started | Stopped] = []
        end = len(samples) - len(samples) % WINDOW
        for at in range(0, end, WINDOW):
            window = samples[at : at + WINDOW]
            found += self._take_window(window, _loudness(window))
        self._pending = samples[end:].copy()
        return found

    def take(self) -> Samples:
        """Everything in the buffer, for a commit by hand; the buffer is empty afterwards."""
        audio = np.concatenate([*self._windows, self._pending])
        self.clear()
        return audio

    def clear(self) -> None:
        # The clock goes on: positions count what was written, not what is kept. It moves in whole windows.
        self._first += len(self._windows) + (1 if len(self._pending) else 0)
        self._fence = self._first
        self._windows, self._pending, self._rest = [], np.zeros(0, np.int16), b""
        self._run = self._quiet = 0
        self._speech_from = None

    def _take_window(self, window: Samples, loudness: float) -> list[Started | Stopped]:
        self._windows.append(window)
        found = [] if self.detection is None else self._listen(self.detection, loudness)
        self._trim()
        return found

    def _listen(self, detection: Detection, loudness: float) -> list[Started | Stopped]:
        number = self._first + len(self._windows) - 1
        voiced = loudness >= detection.level
        self._run = self._run + 1 if voiced else 0
        self._quiet = 0 if voiced else self._quiet + 1
        if self._speech_from is None:
            if self._run < ONSET_WINDOWS:
                return []
            onset = number + 1 - self._run
            self._speech_from = max(self._fence, self._first, onset - detection.padding_ms // WINDOW_MS)
            return [Started(self._speech_from * WINDOW_MS)]
        if self._quiet * WINDOW_MS < detection.silence_ms:
            return []
        start, self._speech_from = self._speech_from, None
        audio = np.concatenate(self._windows[start - self._first :])
        self._first, self._fence, self._windows, self._run = number + 1, number + 1, [], 0
        return [Stopped(start * WINDOW_MS, (number + 1) * WINDOW_MS, audio)]

    def _trim(self) -> None:
        if self.detection is None or self._speech_from is not None:
            keep = self.limit_ms // WINDOW_MS
        else:
            keep = self.detection.padding_ms // WINDOW_MS + ONSET_WINDOWS
        if (extra := len(self._windows) - keep) > 0:
            if self.detection is None or self._speech_from is not None:
                self.dropped_ms += extra * WINDOW_MS
            del self._windows[:extra]
            self._first += extra
            if self._speech_from is not None:
                self._speech_from = max(self._speech_from, self._first)
