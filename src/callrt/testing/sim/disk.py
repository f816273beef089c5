"""The disk that all processes of a simulation share: it can be full, torn, unsure or busy, and it knows when
each entry reached it."""

from __future__ import annotations

from collections.abc import Sequence

import trio

from callrt.journal import MemoryStore
from callrt.journal.errors import StoreFailed
from callrt.journal.store import Append, Claim, Outcome, Placed, Write
from callrt.testing.sim.case import DiskTrouble


class SimDisk(MemoryStore):
    def __init__(self) -> None:
        super().__init__()
        self.trouble: DiskTrouble | None = None
        self.failures = 0
        self.committed: dict[tuple[str, int], float] = {}
        """(call, entry) to the clock time at which it was durable."""

    def commit(self, writes: Sequence[Write]) -> list[Outcome]:
        how = self.trouble.how if self.trouble is not None else ""
        if how in ("full", "torn", "busy"):
            self.failures += 1
            raise StoreFailed(f"disk {how}", busy=how == "busy")
        outcomes = super().commit(writes)
        for write, outcome in zip(writes, outcomes, strict=True):
            if isinstance(outcome, Placed) and isinstance(write, (Append, Claim)):
                self.committed[write.call_sid, outcome.number] = trio.current_time()
        if how == "unsure":
            self.failures += 1
            raise StoreFailed("disk unsure", may_have_happened=True)
        return outcomes
