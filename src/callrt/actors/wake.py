"""A wake-up with a deadline: how an actor waits for "something changed, or it is time"."""

from __future__ import annotations

import math

import trio


class Wake:
    """Set by anybody, waited for by one task. A set without a waiter is remembered once."""

    def __init__(self) -> None:
        self._event = trio.Event()

    def set(self) -> None:
        """Wake the waiter. No checkpoint."""
        self._event.set()

    async def wait(self, deadline: float = math.inf) -> None:
        """Return when set, or at ``deadline`` (Trio's clock), whichever is first. If cancelled: no effect."""
        with trio.move_on_at(deadline):
            await self._event.wait()
        if self._event.is_set():
            self._event = trio.Event()
