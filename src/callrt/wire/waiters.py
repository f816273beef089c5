"""Waiting for a change of a socket, in little room: a ``trio.lowlevel.ParkingLot`` takes half a kilobyte."""

from __future__ import annotations

from functools import partial

import trio


class Waiters:
    """Tasks that wait until something has changed, and look again."""

    __slots__ = ("_tasks",)

    def __init__(self) -> None:
        self._tasks: tuple[trio.lowlevel.Task, ...] = ()

    async def park(self) -> None:
        """Until :meth:`unpark_all`. If cancelled: no effect."""
        task = trio.lowlevel.current_task()
        self._tasks += (task,)
        await trio.lowlevel.wait_task_rescheduled(partial(self._leave, task))

    def unpark_all(self) -> None:
        """No checkpoint."""
        if self._tasks:
            tasks, self._tasks = self._tasks, ()
            for task in tasks:
                trio.lowlevel.reschedule(task)

    def _leave(self, task: trio.lowlevel.Task, _: object) -> trio.lowlevel.Abort:
        self._tasks = tuple(each for each in self._tasks if each is not task)
        return trio.lowlevel.Abort.SUCCEEDED
