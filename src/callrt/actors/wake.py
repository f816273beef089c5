"""How an actor waits for "something has changed"."""

from __future__ import annotations

from callrt.supervision.waiting import Bell


class Wake(Bell):
    """Set by anybody, waited for by one task. A set without a waiter is remembered once."""

    __slots__ = ()

    def set(self) -> None:
        """Wake the waiter. No checkpoint."""
        self.ring()
