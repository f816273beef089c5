"""When the caller must hear "one moment please", as a small machine without a clock.

The rule (G1): where a reply is owed and something has failed, the line begins at the latest ``after`` seconds
after the failure is known or after the audio that had already arrived has ended, whichever is later. A reply
that comes in time makes the line unnecessary; one that has begun is left to finish.
"""

from __future__ import annotations

import math


class ComfortPlan:
    def __init__(self, after: float, margin: float = 0.12, again: float = 6.0, most: int = 5) -> None:
        self.after = after
        """Seconds of silence that the caller may hear."""
        self.margin = margin
        """Begin so much earlier: the way to the caller, a frame's grid, and words that end before their audio does."""
        self.again = again
        """Silence after a line before it is said once more."""
        self.most = most
        """Lines in one wait: past that, repeating does not comfort."""
        self.known_at: float | None = None
        self.said = 0

    def trouble(self, now: float) -> None:
        """A failure has become known while a reply is owed. Idempotent until eased."""
        if self.known_at is None:
            self.known_at = now
            self.said = 0

    def eased(self) -> None:
        """The reply is coming, or is owed no more."""
        self.known_at = None
        self.said = 0

    def due(self, audio_end: float) -> float:
        """Clock time at which the line should begin, given when the caller will have heard all there is."""
        if self.known_at is None or self.said >= self.most:
            return math.inf
        wait = self.again if self.said else max(0.0, self.after - self.margin)
        return max(self.known_at, audio_end) + wait

    def spoke(self) -> None:
        self.said += 1
