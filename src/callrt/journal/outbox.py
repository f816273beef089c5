"""What waits to be committed: one queue in order of arrival, bounded, and nothing asynchronous.

Two classes share it, so that a call's records keep their order. Write-behind items stay until they are
committed, through any number of failures; when the queue is full a new one is refused (the rule for what is
dropped: the newest). Must-commit items have somebody waiting, who may withdraw them; they have a bound of
their own and cannot be pushed out by the others.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Iterator

import attrs

from callrt.journal.errors import JournalUnavailable, LeaseLost, Overtaken, StreamRefused
from callrt.journal.store import Append, Beat, Forget, Placed, Touch, Write
from callrt.protocol.records import Record

Result = Placed | LeaseLost | StreamRefused | Overtaken | JournalUnavailable


@attrs.define(eq=False)
class Item:
    """One write on its way. ``result`` is set once, when its fate is known."""

    write: Write
    must: bool
    record: Record | None = None
    """What an ``Append`` says, for readers who cannot wait for the disk."""
    notify: Callable[[], None] | None = None
    """Called when ``result`` is set."""
    result: Result | None = None
    withdrawn: bool = False

    @property
    def size(self) -> int:
        """Bytes, near enough for a bound."""
        return 200 + (len(self.write.record) if isinstance(self.write, Append) else 0)

    def settle(self, result: Result) -> None:
        assert self.result is None, "the fate of a write is decided once"
        self.result = result
        if self.notify is not None:
            self.notify()


class Outbox:
    """Counts include what is being committed, until ``done`` or ``give_back``."""

    def __init__(self, *, entries_max: int, bytes_max: int, must_commit_max: int) -> None:
        self._entries_max = entries_max
        self._bytes_max = bytes_max
        self._must_commit_max = must_commit_max
        self._waiting: deque[Item] = deque()
        self._taken: tuple[Item, ...] = ()
        self.entries = 0
        """Write-behind items held."""
        self.bytes = 0
        """Their size."""
        self.must_commits = 0
        """Must-commit items held."""

    def put(self, item: Item) -> bool:
        """False, and nothing changed, when there is no room."""
        if item.must:
            if self.must_commits >= self._must_commit_max:
                return False
            self.must_commits += 1
        else:
            if self.entries >= self._entries_max or self.bytes + item.size > self._bytes_max:
                return False
            self.entries += 1
            self.bytes += item.size
        self._waiting.append(item)
        return True

    def take(self, count: int) -> tuple[Item, ...]:
        """The oldest items, to be committed now. To be followed by ``done`` or ``give_back``."""
        assert not self._taken, "one batch at a time"
        batch: list[Item] = []
        while self._waiting and len(batch) < count:
            item = self._waiting.popleft()
            if not item.withdrawn:
                batch.append(item)
        self._taken = tuple(batch)
        return self._taken

    def done(self) -> None:
        """All that was taken has its result."""
        for item in self._taken:
            assert item.result is not None, "done means decided"
            self._forget(item)
        self._taken = ()

    def give_back(self) -> None:
        """What was taken and has no result yet goes back to where it was."""
        undecided: list[Item] = []
        for item in self._taken:
            if item.result is None and not item.withdrawn:
                undecided.append(item)
            else:
                self._forget(item)
        self._waiting.extendleft(reversed(undecided))
        self._taken = ()

    def withdraw(self, item: Item) -> bool:
        """Take an undecided item out again. False when it is just being committed: then nobody knows, but at
        least it is not tried again."""
        assert item.must, "nobody waits for the others"
        assert item.result is None, "what is decided stays"
        assert not item.withdrawn, "withdrawn once"
        item.withdrawn = True
        if item in self._taken:
            return False
        self._forget(item)
        return True

    def of_call(self, call_sid: str) -> list[Item]:
        """What is held for this call, in order."""
        return [
            item
            for item in self
            if not isinstance(item.write, Touch | Beat | Forget) and item.write.call_sid == call_sid
        ]

    @property
    def urgent(self) -> bool:
        """Somebody waits for something that is not being committed yet."""
        return self.must_commits > sum(item.must for item in self._taken)

    @property
    def entries_waiting(self) -> int:
        """Write-behind items that are not being committed."""
        return self.entries - sum(not item.must for item in self._taken)

    def __iter__(self) -> Iterator[Item]:
        yield from self._taken
        for item in self._waiting:
            if not item.withdrawn:
                yield item

    def __len__(self) -> int:
        return self.entries + self.must_commits

    def _forget(self, item: Item) -> None:
        if item.must:
            self.must_commits -= 1
        else:
            self.entries -= 1
            self.bytes -= item.size
        assert self.must_commits >= 0, "counts follow the queue"
        assert self.entries >= 0, "counts follow the queue"
