"""Does a measure grow? Told from samples by their slope, whatever the noise of a single one."""

from __future__ import annotations

import statistics
from collections.abc import Sequence

import attrs


@attrs.frozen
class Trend:
    name: str
    unit: str
    first: float
    last: float
    slope: float
    """Per call."""
    allowed: float
    """Per call."""

    @property
    def flat(self) -> bool:
        return self.slope <= self.allowed

    def __str__(self) -> str:
        verdict = "flat" if self.flat else "GROWS"
        return (
            f"{self.name} {self.first:.0f} to {self.last:.0f} {self.unit}, {self.slope:+.3f} per call "
            f"({self.allowed:g} allowed): {verdict}"
        )


def slope(xs: Sequence[float], ys: Sequence[float]) -> float:
    """The median of the slopes between all pairs: a few wild samples do not move it. 0 of fewer than two."""
    slopes = [
        (ys[j] - ys[i]) / (xs[j] - xs[i])
        for i in range(len(xs))
        for j in range(i + 1, len(xs))
        if xs[j] != xs[i]
    ]
    return statistics.median(slopes) if slopes else 0.0


def trend(name: str, unit: str, calls: Sequence[int], values: Sequence[float], allowed: float) -> Trend:
    return Trend(name, unit, values[0], values[-1], slope(calls, values), allowed)
