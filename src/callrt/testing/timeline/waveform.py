"""mu-law audio as the outline of a waveform: an SVG path, a few kilobytes for any length of call."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from callrt.protocol.audio import mulaw_decode

SAMPLES_PER_SECOND = 8000
COLUMNS_PER_SECOND = 100
"""A syllable has about twenty columns."""
COLUMNS_MAX = 9_000
"""Longer calls get wider columns: the page stays small and a browser draws it at once."""

_MAGNITUDE = np.abs(mulaw_decode(bytes(range(256))).astype(np.int32))
"""Of each code: the sign does not matter to an outline."""


def peaks(audio: bytes, duration: float) -> NDArray[np.float64]:
    """The loudest sample of each column, 0 to 1, over the whole duration; missing audio is silence."""
    columns = max(1, min(COLUMNS_MAX, round(duration * COLUMNS_PER_SECOND)))
    samples = np.zeros(max(columns, round(duration * SAMPLES_PER_SECOND)), dtype=np.int32)
    heard = _MAGNITUDE[np.frombuffer(audio[: len(samples)], dtype=np.uint8)]
    samples[: len(heard)] = heard
    edges = np.linspace(0, len(samples), columns, endpoint=False).astype(np.int64)
    loudest = np.maximum.reduceat(samples, edges)
    # The root makes soft speech visible beside loud speech, much as the ear does.
    return np.asarray(np.sqrt(loudest / _MAGNITUDE.max()))


def outline(audio: bytes, duration: float) -> str:
    """``d`` of a path in a box ``0 0 <columns> 200``, mirrored around 100."""
    tops = np.round(100 - 98 * peaks(audio, duration)).astype(int)
    above = _run(tops.tolist())
    below = _run([200 - top for top in tops.tolist()])
    forth = " ".join(f"L{x} {y}" for x, y in above)
    back = " ".join(f"L{x} {y}" for x, y in reversed(below))
    return f"M0 100 {forth} L{len(tops)} 100 {back} Z"


def columns(duration: float) -> int:
    return max(1, min(COLUMNS_MAX, round(duration * COLUMNS_PER_SECOND)))


def _run(heights: list[int]) -> list[tuple[float, int]]:
    """Points at the columns' middles; of a level stretch only its two ends."""
    points: list[tuple[float, int]] = []
    for x, y in enumerate(heights):
        level = 0 < x < len(heights) - 1 and heights[x - 1] == y == heights[x + 1]
        if not level:
            points.append((x + 0.5, y))
    return points
