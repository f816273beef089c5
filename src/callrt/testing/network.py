"""The network of a world: one clockwork for all its links.

Whatever is sent arrives when it is due, without a task at each socket. Messages of one link keep their order;
which link's message comes first at the same instant is drawn from a seed. Under a :class:`JumpClock` the network
works between the scheduler's rounds: a frame's way from the caller to the model and back is not one of them.
"""

from __future__ import annotations

import heapq
import math
import random
from collections.abc import Callable
from typing import Final

import attrs
import trio

from callrt.supervision.determinism import next_step

SAME_INSTANT: Final = 1e-9
"""Seconds: sums of the same steps in another order."""
AT_ONCE_MAX = 200_000
"""Arrivals at one instant: two ends that answer each other without end would never let time pass."""

INSTANTS_AT_ONCE: Final = 50
"""Between two rounds of the scheduler, as long as no task has anything to do: it listens for Ctrl-C."""


@attrs.define(eq=False)
class Network(trio.abc.Instrument):
    """What is under way. Bound: what its links' windows hold."""

    rng: random.Random
    _under_way: list[tuple[float, float, int, Callable[[], None]]] = attrs.field(factory=list)
    _count: int = 0
    _sleep: trio.CancelScope | None = None
    """Around the wait for what is due next, where a task of its own has to wait."""
    _failed: trio.Event = attrs.field(factory=trio.Event)
    _error: Exception | None = None
    _round_at: float = -math.inf
    _rounds: int = 0
    """Of the scheduler, at this instant."""

    def expect(self, due: float, arrive: Callable[[], None]) -> None:
        """``arrive`` is called at clock time ``due``: it must neither wait nor ask which task it is. No
        checkpoint."""
        self._count += 1
        heapq.heappush(self._under_way, (due, self.rng.random(), self._count, arrive))
        if self._sleep is not None and due < self._sleep.deadline:
            self._sleep.deadline = due

    async def keep_time(self, began: float, interval: float, beat: Callable[[float], bool]) -> None:
        """``beat(at)`` at each multiple of ``interval`` seconds after ``began``, until it returns False. If
        cancelled: it is not called any more."""
        over = trio.Event()
        count = 0

        def tick() -> None:
            nonlocal count
            if over.is_set():
                return
            if beat(began + count * interval):
                count += 1
                self.expect(began + count * interval, tick)
            else:
                over.set()

        self.expect(began, tick)
        try:
            await over.wait()
        finally:
            over.set()

    async def run(self) -> None:
        """Until cancelled. Raises what an arrival has raised."""
        clock = trio.lowlevel.current_clock()
        if isinstance(clock, JumpClock):
            clock.network = self
            trio.lowlevel.add_instrument(self)
            try:
                await self._failed.wait()
            finally:
                clock.network = None
                trio.lowlevel.remove_instrument(self)
        while True:
            self.arrive(trio.current_time())
            if self._error is not None:
                raise self._error
            with trio.CancelScope(deadline=self.next_due) as self._sleep:
                await trio.sleep_forever()

    def after_io_wait(self, timeout: float) -> None:
        """Trio's turn to look at its sockets is ours, too: what has been sent does not wait until all are idle."""
        now = trio.current_time()
        if now > self._round_at:
            self._round_at, self._rounds = now, 0
        self._rounds += 1
        if self._rounds > AT_ONCE_MAX:
            self._fail(RuntimeError("tasks wake each other and time stands still"))
        if self.next_due <= now + SAME_INSTANT:
            self.arrive(now)

    def _fail(self, error: Exception) -> None:
        self._under_way.clear()
        self._error = error
        self._failed.set()

    @property
    def next_due(self) -> float:
        return self._under_way[0][0] if self._under_way else math.inf

    def arrive(self, now: float) -> None:
        """All that is due by ``now``, and all that follows from it at once."""
        under_way = self._under_way
        limit = self._count + AT_ONCE_MAX
        now += SAME_INSTANT
        try:
            while under_way and under_way[0][0] <= now:
                heapq.heappop(under_way)[3]()
                if self._count > limit:
                    raise RuntimeError("messages go to and fro and time stands still")
        except Exception as error:
            self._fail(error)


class JumpClock(trio.abc.Clock):
    """Virtual time: when everybody waits it is at once the time at which the next thing happens.

    Half the scheduler's rounds of an autojumping :class:`trio.testing.MockClock`, and none for what only the
    network does. ``trio.testing.wait_all_tasks_blocked`` does not return under it while there is any deadline:
    sleep for a moment instead.
    """

    def __init__(self) -> None:
        self.network: Network | None = None
        self._now = 0.0

    def start_clock(self) -> None:
        """Nothing is to be started."""

    def current_time(self) -> float:
        return self._now

    def deadline_to_sleep_time(self, deadline: float) -> float:
        # Trio asks this when nobody can run: that is the moment to jump.
        network = self.network
        for _ in range(INSTANTS_AT_ONCE):
            due = network.next_due if network is not None else math.inf
            if due == math.inf and deadline == math.inf:
                return math.inf
            self._now = max(self._now, min(due, deadline))
            if network is None or due > deadline:
                break
            network.arrive(self._now)
            deadline = next_step()
        return 0.0
