"""How long to wait before a restart. Delays are data; chance is an argument."""

from __future__ import annotations

import math
import random
from typing import Any

import attrs

from .errors import SpecError


def _number(field: str, value: Any, *, low: float, finite: bool = True) -> None:
    if isinstance(value, bool) or not isinstance(value, int | float) or math.isnan(value):
        raise SpecError(field, f"must be a number, not {value!r}")
    if value < low or (finite and math.isinf(value)):
        raise SpecError(field, f"must be {'finite and ' if finite else ''}>= {low}, not {value!r}")


@attrs.frozen
class Backoff:
    """The k-th failure in a row waits ``min * factor**(k-1)`` seconds, grown by up to ``jitter``, never over ``cap``.

    Delays longer than the restart window would let a crash loop go on for ever, because the window never fills;
    ``max_consecutive`` closes that hole: more failures in a row than that escalate.
    """

    min: float = 0.0
    """Seconds before the first restart."""
    factor: float = 2.0
    cap: float = 30.0
    """Upper bound of the real delay in seconds, jitter included."""
    jitter: float = 0.0
    """Share of the delay that chance may add: 0.2 means up to 20 % more."""
    reset_after: float = 60.0
    """Seconds of healthy life, counted from the last ack, after which failures count from one again."""
    max_consecutive: int | None = None
    """Failures in a row that are still restarted; None: only the window limits."""

    def __attrs_post_init__(self) -> None:
        _number("backoff.min", self.min, low=0)
        _number("backoff.factor", self.factor, low=1)
        _number("backoff.cap", self.cap, low=0)
        _number("backoff.jitter", self.jitter, low=0)
        _number("backoff.reset_after", self.reset_after, low=0, finite=False)
        if self.cap < self.min:
            raise SpecError("backoff.cap", f"must not be below min ({self.min}), not {self.cap}")
        limit = self.max_consecutive
        if limit is not None and (isinstance(limit, bool) or not isinstance(limit, int) or limit < 0):
            raise SpecError("backoff.max_consecutive", f"must be None or an integer >= 0, not {limit!r}")

    @classmethod
    def none(cls) -> Backoff:
        """Restart at once, as OTP does."""
        return AT_ONCE

    def delay(self, failures: int, rng: random.Random) -> float:
        """Seconds to wait after the ``failures``-th failure in a row (1 for the first)."""
        assert failures >= 1
        try:
            grown = self.min * self.factor ** (failures - 1)
        except OverflowError:
            grown = self.cap
        grown = min(grown, self.cap)
        if self.jitter:
            grown *= 1.0 + self.jitter * rng.random()
        return min(grown, self.cap)


AT_ONCE = Backoff(min=0.0, factor=1.0, cap=0.0)
"""One for all who say nothing."""
