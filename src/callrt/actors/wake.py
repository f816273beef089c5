"""A wake-up with a deadline: how an actor waits for "something changed, or it is time"."""

from __future__ import annotations

import trio

from callrt.supervision.waiting import Bell


class Wake:
    """Set by anybody, waited for by one task. A set without a waiter is remembered once."""

    __slots__ = ("_bell", "_scope")

    def __init__(self) -> None:
        self._bell = Bell()
        self._scope: trio.CancelScope | None = None

    def set(self) -> None:
        """Wake the waiter. No checkpoint."""
        self._bell.ring()

    def expect(self, deadline: float) -> None:
        """Move the deadline of whoever waits, without waking him. No checkpoint."""
        if self._scope is not None:
            self._scope.deadline = deadline

    def expect_by(self, deadline: float) -> None:
        """As ``expect``, but never to a later time."""
        if self._scope is not None and deadline < self._scope.deadline:
            self._scope.deadline = deadline

    async def wait(self, deadline: float | None = None) -> None:
        """Return when set, or at ``deadline`` (Trio's clock), whichever is first. None: there is none, nor can there
        be one later. If cancelled: no effect."""
        if deadline is None:
            await self._bell.wait()
        else:
            with trio.CancelScope(deadline=deadline) as self._scope:
                await self._bell.wait()
            self._scope = None
            self._bell.hush()
