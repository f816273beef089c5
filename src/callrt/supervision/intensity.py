"""The restart window: how often a supervisor may restart before it gives up."""

from __future__ import annotations


class Window:
    """At most ``max_restarts`` within ``period`` seconds, on exact clock values; an age equal to the period counts."""

    __slots__ = ("_times", "max_restarts", "period")

    def __init__(self, max_restarts: int, period: float) -> None:
        self.max_restarts = max_restarts
        self.period = period
        self._times: tuple[float, ...] = ()

    def add(self, now: float) -> bool:
        """Count a restart decision at ``now``. False: one too many, escalate (nothing is counted then)."""
        if self.count(now) >= self.max_restarts:
            return False
        self._times += (now,)
        return True

    def count(self, now: float) -> int:
        """Restarts that still count at ``now``."""
        while self._times and now - self._times[0] > self.period:
            self._times = self._times[1:]
        assert len(self._times) <= self.max_restarts
        return len(self._times)
