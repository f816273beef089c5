"""How long our process and the server's were ready to run and had no processor.

Silence that nobody had a processor to break is the machine's, not the server's: it is measured and told apart.
"""

from __future__ import annotations

from bisect import bisect_left, bisect_right
from collections.abc import Callable
from pathlib import Path

import trio

SAMPLE_SECONDS = 0.01


class Waits:
    """Samples on the Trio clock. On systems that do not tell, nobody ever waits."""

    def __init__(self) -> None:
        self._times: list[float] = []
        self._waited: list[float] = []
        self._last: dict[int, float] = {}

    async def run(self, pids: Callable[[], list[int]]) -> None:
        """Sample until cancelled; ``pids`` may change."""
        total = 0.0
        while True:
            for pid in pids():
                waited = waited_seconds(pid)
                total += max(0.0, waited - self._last.get(pid, waited))
                self._last[pid] = waited
            self.note(trio.current_time(), total)
            await trio.sleep(SAMPLE_SECONDS)

    def note(self, at: float, total: float) -> None:
        self._times.append(at)
        self._waited.append(total)

    def between(self, start: float, end: float) -> float:
        """Seconds waited from the last sample before ``start`` to the first one after ``end``; never more than
        lie between the two."""
        if not self._times or end <= start:
            return 0.0
        first = max(0, bisect_right(self._times, start) - 1)
        last = min(len(self._times) - 1, bisect_left(self._times, end))
        return min(end - start, max(0.0, self._waited[last] - self._waited[first]))


def waited_seconds(pid: int) -> float:
    """The main thread's time on a run queue since it began."""
    try:
        return int(Path(f"/proc/{pid}/schedstat").read_text("ascii").split()[1]) / 1e9
    except (OSError, IndexError, ValueError):
        return 0.0
