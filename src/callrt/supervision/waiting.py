"""Waiting in little room: a call has some twenty of these, and a ``trio.Event`` takes 270 bytes, waited for or not."""

from __future__ import annotations

import trio


class Flag:
    """``trio.Event`` for what is seldom waited for."""

    __slots__ = ("_event", "_on")

    def __init__(self) -> None:
        self._on = False
        self._event: trio.Event | None = None

    def is_set(self) -> bool:
        return self._on

    def set(self) -> None:
        """Idempotent. No checkpoint."""
        self._on = True
        if self._event is not None:
            self._event.set()
            self._event = None

    async def wait(self) -> None:
        """Until it is set. If cancelled: no effect."""
        if self._on:
            await trio.lowlevel.checkpoint()
            return
        if self._event is None:
            self._event = trio.Event()
        await self._event.wait()


class Bell:
    """Rung by anybody, waited for by one task. A ring without a waiter is remembered once."""

    __slots__ = ("_rung", "_waiter")

    def __init__(self) -> None:
        self._rung = False
        self._waiter: trio.lowlevel.Task | None = None

    def ring(self) -> None:
        """Wake the waiter. No checkpoint."""
        self._rung = True
        if self._waiter is not None:
            trio.lowlevel.reschedule(self._waiter)
            self._waiter = None

    def hush(self) -> None:
        """Forget what was rung until now. No checkpoint."""
        self._rung = False

    async def wait(self) -> None:
        """Until it is rung, then :meth:`hush`. If cancelled: no effect."""
        if self._rung:
            await trio.lowlevel.checkpoint()
        else:
            assert self._waiter is None, "somebody waits already"
            self._waiter = trio.lowlevel.current_task()
            await trio.lowlevel.wait_task_rescheduled(self._abort)
        self._rung = False

    def _abort(self, _: object) -> trio.lowlevel.Abort:
        self._waiter = None
        return trio.lowlevel.Abort.SUCCEEDED
