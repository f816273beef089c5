"""The ladder of a failing model: reconnect at once, retry after a backoff, then a human, then an apology.

Pure: time and randomness are arguments. Rungs are counted over consecutive failures; only a useful event of
a session (words, audio, a committed turn) starts the count again, because an accepted upgrade can still be
followed by an admission error.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Protocol

import attrs


class Chance(Protocol):
    """A seeded stream of chance: ``random.Random``."""

    def uniform(self, a: float, b: float, /) -> float: ...


class LateChance:
    """A stream that is made when it is first needed: most calls never need theirs, and it is large."""

    __slots__ = ("_made", "_make")

    def __init__(self, make: Callable[[], Chance]) -> None:
        self._make = make
        self._made: Chance | None = None

    def uniform(self, a: float, b: float, /) -> float:
        if self._made is None:
            self._made = self._make()
        return self._made.uniform(a, b)


@attrs.frozen
class Reconnect:
    """Open a new session after ``delay`` seconds."""

    delay: float


@attrs.frozen
class HandOver:
    """Stop trying: a human if there is one, else an apology."""

    why: str


@attrs.define
class Ladder:
    """One call's ladder.

    With a human at its end, ``retries`` attempts follow the first failed reconnect. Without one it goes on
    until ``give_up_seconds`` after the first loss: nobody else can help the caller.
    """

    retries: int
    give_up_seconds: float
    human: bool
    rng: Chance
    first_delay: float = 0.5
    factor: float = 2.0
    cap: float = 8.0
    losses: int = 0
    """Consecutive losses without a useful event between."""
    lost_at: float | None = None
    """Clock time of the first of them."""

    def lost(
        self, now: float, *, permanent: bool = False, retry_after: float | None = None
    ) -> Reconnect | HandOver:
        """A session was lost, or an attempt to open one failed."""
        if self.lost_at is None:
            self.lost_at = now
        self.losses += 1
        if permanent:
            return HandOver("permanent")
        if self.human and self.losses > 1 + self.retries:
            return HandOver("retries")
        left = self.lost_at + self.give_up_seconds - now
        if left <= 0:
            return HandOver("time")
        delay = self._delay()
        if retry_after is not None:
            delay = max(delay, retry_after)
        # A provider may ask for more patience than the caller has: then one last try within the budget.
        return Reconnect(min(delay, left))

    def useful(self) -> None:
        """The session has done something for the caller: the next loss is a first one."""
        self.losses = 0
        self.lost_at = None

    def _delay(self) -> float:
        if self.losses <= 1:
            return 0.0
        base = min(self.cap, self.first_delay * self.factor ** min(self.losses - 2, 16))
        return base * self.rng.uniform(0.75, 1.0)
