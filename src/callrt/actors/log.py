"""The call's memory as its actors see it: the fold in memory, and the journal behind it.

Every record is applied to the fold at once, so that a restart of any actor reads the present; the disk
follows. One call's ``CallLog`` outlives all its actors.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Sequence
from typing import Protocol

import attrs
import trio

from callrt.actors.wake import Wake
from callrt.journal.errors import JournalUnavailable, LeaseLost
from callrt.journal.store import Peer
from callrt.protocol.call import apply
from callrt.protocol.call_state import CallState
from callrt.protocol.records import Entry, Record, StreamAttached

QUEUE_MAX = 1_000
"""Records waiting for the call's journal actor; a call writes some ten a second, so this is a dead journal."""


class JournalPort(Protocol):
    """What a call needs of the shared journal."""

    def append_nowait(self, call_sid: str, record: Record, *, epoch: int | None = None) -> bool: ...

    async def append(self, call_sid: str, record: Record, *, epoch: int | None = None) -> None: ...

    async def attach(self, call_sid: str, stream_sid: str, generation: int) -> int: ...

    async def read(self, call_sid: str) -> CallState | None: ...

    async def holds(self, call_sid: str, epoch: int) -> bool: ...

    async def live_heads(self) -> tuple[tuple[str, int], ...]: ...

    async def seize(self, call_sid: str, record: Record, *, after: int) -> None: ...

    @property
    def process(self) -> str: ...

    async def beat(self, *, serving: bool, forget: tuple[str, ...] = ()) -> None: ...

    async def peers(self) -> Sequence[Peer]: ...


@attrs.define
class CallLog:
    """``write`` for what may be lost for a moment, ``commit`` for what may not."""

    call_sid: str
    journal: JournalPort
    now: Callable[[], float]
    """Wall time, unix seconds."""
    state: CallState
    on_trouble: Callable[[], None]
    """A must-commit record could not be committed: speech goes on, side effects do not."""
    on_fenced: Callable[[], None]
    """Another process owns the call: nothing more may be written or spoken."""
    epoch: int = 0
    """The lease that it writes under: what the journal said last, until a stream claims the next one here. So a
    process that only waits for a stream is fenced, too, when the stream comes to another."""
    claiming: trio.Event | None = None
    """While a lease is being claimed: set when that is over."""
    dropped: int = 0
    fenced: bool = False
    wake: Wake = attrs.field(factory=Wake)
    queue: deque[Record] = attrs.field(factory=deque)

    def write(self, record: Record) -> None:
        """Remember now, store soon. No checkpoint; when the queue is full the record is only in memory."""
        self._apply(record)
        if self.fenced:
            return
        if len(self.queue) >= QUEUE_MAX:
            self.dropped += 1
            return
        self.queue.append(record)
        self.wake.set()

    async def commit(self, record: Record) -> None:
        """Return when the record is on the disk. Raises JournalUnavailable or LeaseLost; the record is then not in
        the fold. If cancelled: it may have happened; ask the journal."""
        while self.claiming is not None:
            await self.claiming.wait()
        self.flush()
        try:
            await self.journal.append(self.call_sid, record, epoch=self.epoch)
        except LeaseLost:
            self.lost_lease()
            raise
        except JournalUnavailable:
            self.on_trouble()
            raise
        self._apply(record)

    async def commit_if_possible(self, record: Record) -> bool:
        """For what the call must go on with even if the disk is gone: the record is then written behind."""
        try:
            await self.commit(record)
        except JournalUnavailable:
            self.write(record)
            return False
        except LeaseLost:
            return False
        return True

    async def claim(self, stream_sid: str, generation: int) -> int:
        """The next lease, for this stream. Raises JournalUnavailable or StreamRefused. Meanwhile nothing is handed
        to the journal: under the lease of before it would come too late, and look like another process's.
        If cancelled: it may have happened."""
        while self.claiming is not None:
            await self.claiming.wait()
        self.flush()
        self.claiming = trio.Event()
        try:
            epoch = self.epoch = await self.journal.attach(self.call_sid, stream_sid, generation)
        finally:
            self.claiming.set()
            self.claiming = None
            self.wake.set()
        return epoch

    def attached(self, stream_sid: str, generation: int, epoch: int | None) -> None:
        """A stream is attached under this lease; None: the journal could not be asked, and learns of it later."""
        record = StreamAttached(
            stream_sid=stream_sid,
            generation=generation,
            lease_epoch=epoch if epoch is not None else self.state.lease_epoch,
        )
        if epoch is None:
            self.write(record)
            return
        self.epoch = epoch
        self._apply(record)

    def flush(self) -> None:
        """Hand everything queued to the journal, in order."""
        while self.queue and not self.fenced and self.claiming is None:
            try:
                if not self.journal.append_nowait(self.call_sid, self.queue[0], epoch=self.epoch):
                    self.dropped += 1
            except LeaseLost:
                self.lost_lease()
                return
            self.queue.popleft()

    def lost_lease(self) -> None:
        """Idempotent."""
        if not self.fenced:
            self.fenced = True
            self.queue.clear()
            self.on_fenced()

    def _apply(self, record: Record) -> None:
        self.state = apply(self.state, Entry(self.call_sid, self.state.last_number + 1, self.now(), record))
