"""The process's pulse: has it been frozen? A frozen process may have lost its calls without noticing.

SIGSTOP, a debugger, a suspended machine: when the process wakes, its timers and sockets become ready in any
order. So whoever is about to speak asks first, and the pulse's own task sees to it that it is never old
while the process is well.
"""

from __future__ import annotations

import trio

BEAT_SECONDS = 0.5
FROZEN_SECONDS = 1.5
"""A gap in the beats that no busy loop explains; well under the time in which a carrier gives a stream up."""


class Pulse:
    def __init__(self) -> None:
        self.at = trio.current_time()
        self.pauses = 0
        """How often the process has been frozen; whoever remembers another number has slept through one."""

    def check(self, now: float) -> int:
        """The number of pauses, with the present one if there is one. No checkpoint."""
        if now - self.at > FROZEN_SECONDS:
            self.pauses += 1
        self.at = max(self.at, now)
        return self.pauses

    async def run(self) -> None:
        """Beat until cancelled."""
        while True:
            self.check(trio.current_time())
            await trio.sleep(BEAT_SECONDS)
