"""A wake-up with a deadline: how an actor waits for "something changed, or it is time"."""

from __future__ import annotations

import trio

from callrt.supervision.waiting import Bell


class Wake:
    """Set by anybody, waited for by one task. A set without a waiter is remembered once."""

    __slots__ = ("_bell",)

    def __init__(self) -> None:
        self._bell = Bell()

    def set(self) -> None:
        """Wake the waiter. No checkpoint."""
        self._bell.ring()

    async def wait(self, deadline: float | None = None) -> None:
        """Return when set, or at ``deadline`` (Trio's clock), whichever is first. If cancelled: no effect."""
        if deadline is None:
            await self._bell.wait()
        else:
            with trio.CancelScope(deadline=deadline):
                await self._bell.wait()
            self._bell.hush()
