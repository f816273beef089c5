"""Forgetting: ended calls that are older than the operator keeps them leave the journal, some at a time.

A call that lives is never touched, however old it says it is. Age is wall time, the only measure that outlives
processes; a clock that jumps stops the forgetting until it has gone steadily for an hour.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Protocol

import attrs
import trio

from callrt.journal.errors import JournalUnavailable

LOOK_SECONDS = 60.0
AGAIN_SECONDS = 0.5
"""Between two batches while there is more: others want to write, too."""
BATCH_CALLS = 20
"""Per transaction: some thousand entries, a few milliseconds."""
STEADY_SECONDS = 3600.0
JUMP_SECONDS = 60.0


class ForgetfulJournal(Protocol):
    async def forget(self, *, before: float, limit: int) -> int: ...


@attrs.define(eq=False)
class Retention:
    journal: ForgetfulJournal
    now: Callable[[], float]
    """Wall time, unix seconds."""
    keep_seconds: float
    """Infinite: nothing is ever forgotten."""
    _offset: float | None = None
    _steady_since: float = -math.inf

    async def run(self) -> None:
        """Forget until cancelled. If cancelled: some calls are forgotten, whole ones."""
        while True:
            await trio.sleep(AGAIN_SECONDS if await self.turn() else LOOK_SECONDS)

    async def turn(self) -> bool:
        """One batch. True when there may be more."""
        if math.isinf(self.keep_seconds) or not self._is_steady():
            return False
        try:
            gone = await self.journal.forget(before=self.now() - self.keep_seconds, limit=BATCH_CALLS)
        except JournalUnavailable:
            return False
        return gone == BATCH_CALLS

    def _is_steady(self) -> bool:
        """Wall time has gone as fast as ours for long enough."""
        ours = trio.current_time()
        offset = self.now() - ours
        if self._offset is not None and abs(offset - self._offset) > JUMP_SECONDS:
            self._steady_since = ours
        if self._offset is None or self._steady_since == ours:
            self._offset = offset
        return ours - self._steady_since >= STEADY_SECONDS
