"""Waiting in little room: a call has some twenty of these, and a ``trio.Event`` takes 270 bytes, waited for or not."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial

import trio


class Flag:
    """``trio.Event`` for what is seldom waited for."""

    __slots__ = ("_on", "_waiters")

    def __init__(self) -> None:
        self._on = False
        self._waiters: tuple[trio.lowlevel.Task | Callable[[], None], ...] = ()

    def is_set(self) -> bool:
        return self._on

    def set(self) -> None:
        """Idempotent. No checkpoint."""
        self._on = True
        waiters, self._waiters = self._waiters, ()
        for waiter in waiters:
            if isinstance(waiter, trio.lowlevel.Task):
                trio.lowlevel.reschedule(waiter)
            else:
                waiter()

    def call(self, then: Callable[[], None]) -> bool:
        """Instead of :meth:`wait`, for who has no task to wait in: ``then`` is called once it is set. False: it is set
        already, and nothing will be called. No checkpoint."""
        if self._on:
            return False
        self._waiters += (then,)
        return True

    async def wait(self) -> None:
        """Until it is set. If cancelled: no effect."""
        if self._on:
            await trio.lowlevel.checkpoint()
            return
        task = trio.lowlevel.current_task()
        self._waiters += (task,)
        await trio.lowlevel.wait_task_rescheduled(partial(self._abort, task))

    def _abort(self, task: trio.lowlevel.Task, _: object) -> trio.lowlevel.Abort:
        self._waiters = tuple(waiter for waiter in self._waiters if waiter is not task)
        return trio.lowlevel.Abort.SUCCEEDED


class Bell:
    """Rung by anybody, waited for by one task, or by nobody but a function. A ring without either is remembered
    once."""

    __slots__ = ("_rung", "_then", "_waiter")

    def __init__(self) -> None:
        self._rung = False
        self._waiter: trio.lowlevel.Task | None = None
        self._then: Callable[[], None] | None = None

    def ring(self) -> None:
        """Wake the waiter. No checkpoint."""
        then, self._then = self._then, None
        if then is not None:
            then()
            return
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
            assert self._then is None, "somebody waits already"
            self._waiter = trio.lowlevel.current_task()
            await trio.lowlevel.wait_task_rescheduled(self._abort)
        self._rung = False

    def _abort(self, _: object) -> trio.lowlevel.Abort:
        self._waiter = None
        return trio.lowlevel.Abort.SUCCEEDED

    def call(self, then: Callable[[], None]) -> bool:
        """Instead of :meth:`wait`: the next ring calls ``then``, once. False: it has been rung already, which is
        forgotten with that. No checkpoint."""
        assert self._waiter is None, "somebody waits already"
        assert self._then is None, "somebody waits already"
        if self._rung:
            self._rung = False
            return False
        self._then = then
        return True

    def forget(self) -> None:
        """Undo :meth:`call`. No checkpoint."""
        self._then = None
