"""One task that watches all media sockets: an epoll of our own inside Trio's.

Waiting for a socket with Trio costs a task switch and two system calls a frame. Here one task waits for the
inner epoll to have something, takes all that are ready, and lets each socket's owner read without an await.
A second one keeps the time of those whose peer does not take what it is sent. They live as long as there is a
socket to look after. What an owner raises is a bug of ours and would end the run; owners therefore hand every
error on to the task that uses them.
"""

from __future__ import annotations

import math
import select
from typing import Protocol

import trio
import trio.lowlevel

AVAILABLE = hasattr(select, "epoll")
READABLE, WRITABLE = 1, 4
"""EPOLLIN and EPOLLOUT, by value: the module must import everywhere."""

SOCKETS_AT_ONCE = 128
"""Served before other tasks get a turn: a few milliseconds."""

SOCKETS_BETWEEN = 64
"""Served before it is asked whether an urgent one is ready: a millisecond or two. Asking for each sixteen made a call
dearer by a twentieth and was not felt."""

PAUSE_SECONDS_MAX = 0.004
PAUSE_SECONDS_MIN = 0.0005
TURN_SOCKETS = 64
"""After a turn the hub rests before it looks again; what comes meanwhile is served together. A wake-up of the process
costs as much as five frames do, so a rest is as long as so many sockets need to become ready, and never so long
that anybody could hear it: a fifth of a frame."""


class Watched(Protocol):
    """A socket's owner. All is synchronous and lets no exception out."""

    @property
    def due(self) -> float:
        """Clock time of ``on_due``, while :meth:`Hub.keep_time` applies."""
        ...

    def on_ready(self, events: int) -> None:
        """The socket is readable, writable or broken."""
        ...

    def on_again(self) -> None:
        """A turn that was asked for with :meth:`Hub.again`."""
        ...

    def on_due(self) -> None:
        """It is time: nothing is due afterwards."""
        ...


class Hub:
    """Use :func:`current_hub`."""

    def __init__(self) -> None:
        self._epoll = select.epoll()
        # Inside the other, so that there is one thing to wait for.
        self._urgent = select.epoll()
        self._epoll.register(self._urgent.fileno(), READABLE)
        self._urgent_fds: dict[int, None] = {}
        self._owners: dict[int, Watched] = {}
        self._again: dict[Watched, None] = {}
        self._timed: dict[Watched, None] = {}
        self._sleep = trio.CancelScope()
        self._scope = trio.CancelScope()
        self._wake = trio.lowlevel.ParkingLot()

    def add(self, fd: int, owner: Watched, events: int = READABLE, *, urgent: bool = False) -> None:
        """``urgent``: served before others that were ready earlier."""
        if urgent:
            self._urgent_fds[fd] = None
        self._epoll_of(fd).register(fd, events)
        self._owners[fd] = owner

    def watch(self, fd: int, events: int) -> None:
        """Change what is watched for; 0: nothing but that the connection broke."""
        self._epoll_of(fd).modify(fd, events)

    def remove(self, fd: int, owner: Watched) -> None:
        """To be called before the socket is closed."""
        del self._owners[fd]
        self._again.pop(owner, None)
        self._epoll_of(fd).unregister(fd)
        self._urgent_fds.pop(fd, None)
        self._end_if_idle()

    def _end_if_idle(self) -> None:
        if not self._owners and not self._timed and _hub.get() is self:
            _hub.set(None)
            self._scope.cancel()

    def _epoll_of(self, fd: int) -> select.epoll:
        return self._urgent if fd in self._urgent_fds else self._epoll

    def again(self, owner: Watched) -> None:
        """This owner has more to do than is fair in one turn: give it another one."""
        self._again[owner] = None
        self._wake.unpark_all()

    def keep_time(self, owner: Watched, due: float) -> None:
        """Call its ``on_due`` when ``due``, or what its ``due`` has been moved to since, has come."""
        self._timed[owner] = None
        self._sleep.deadline = min(self._sleep.deadline, due)

    def forget_time(self, owner: Watched) -> None:
        del self._timed[owner]
        self._end_if_idle()

    async def run(self) -> None:
        try:
            with self._scope:
                async with trio.open_nursery() as nursery:
                    nursery.start_soon(self._serve_again)
                    nursery.start_soon(self._keep_time)
                    await self._serve()
        finally:
            self._urgent.close()
            self._epoll.close()

    async def _serve(self) -> None:
        pause = PAUSE_SECONDS_MIN
        while True:
            count = self._turn()
            if not count:
                await trio.lowlevel.wait_readable(self._epoll.fileno())
            elif count >= SOCKETS_AT_ONCE or not PAUSE_SECONDS_MAX:
                await trio.lowlevel.checkpoint()
            else:
                if count < TURN_SOCKETS:
                    pause = min(pause * 1.25, PAUSE_SECONDS_MAX)
                else:
                    pause = max(pause * 0.8, PAUSE_SECONDS_MIN)
                await _rest(pause)

    def _turn(self) -> int:
        """Serve what is ready, and urgent sockets as soon as they are. Returns how many were ready."""
        ready = self._epoll.poll(0, SOCKETS_AT_ONCE)
        count = self._hand_out(self._urgent.poll(0, SOCKETS_AT_ONCE))
        for at in range(0, len(ready), SOCKETS_BETWEEN):
            if at:
                count += self._hand_out(self._urgent.poll(0, SOCKETS_AT_ONCE))
            count += self._hand_out(ready[at : at + SOCKETS_BETWEEN])
        return count

    def _hand_out(self, ready: list[tuple[int, int]]) -> int:
        owners = self._owners
        for fd, events in ready:
            owner = owners.get(fd)
            if owner is not None:
                owner.on_ready(events)
        return len(ready)

    async def _serve_again(self) -> None:
        while True:
            if not self._again:
                await self._wake.park()
            owners, self._again = self._again, {}
            for owner in owners:
                owner.on_again()
            await trio.lowlevel.checkpoint()

    async def _keep_time(self) -> None:
        while True:
            with self._sleep:
                await trio.sleep_forever()
            now, first = trio.current_time(), math.inf
            for owner in list(self._timed):
                if owner in self._timed and owner.due <= now:
                    owner.on_due()
            for owner in self._timed:
                first = min(first, owner.due)
            self._sleep = trio.CancelScope(deadline=first)


async def _rest(seconds: float) -> None:
    """``trio.sleep``, three hundred times a second: the deadline wakes the task, and no exception travels.
    If cancelled: no effect."""
    task = trio.lowlevel.current_task()
    scope = trio.CancelScope(deadline=trio.current_time() + seconds)

    def wake(_: object) -> trio.lowlevel.Abort:
        if not scope.cancel_called:
            return trio.lowlevel.Abort.SUCCEEDED  # somebody else's cancellation
        trio.lowlevel.reschedule(task)
        return trio.lowlevel.Abort.FAILED

    with scope:
        await trio.lowlevel.wait_task_rescheduled(wake)
    await trio.lowlevel.checkpoint_if_cancelled()


_hub: trio.lowlevel.RunVar[Hub | None] = trio.lowlevel.RunVar("callrt media hub", None)


def current_hub() -> Hub:
    """The hub of this Trio run; its task is started when there is none."""
    hub = _hub.get()
    if hub is None:
        hub = Hub()
        _hub.set(hub)
        trio.lowlevel.spawn_system_task(hub.run, name="callrt media hub")
    return hub
