"""The call's memory as its actors see it: the fold in memory, and the journal behind it.

Every record is applied to the fold at once, so that a restart of any actor reads the present; the disk
follows. One call's ``CallLog`` outlives all its actors.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Protocol

import attrs
import trio

from callrt.journal.errors import JournalUnavailable, LeaseLost, StreamRefused
from callrt.journal.store import Peer
from callrt.protocol.call import apply
from callrt.protocol.call_state import CallState
from callrt.protocol.records import Entry, Record, StreamAttached
from callrt.supervision.waiting import Bell

QUEUE_MAX = 2_000
"""Records waiting for the call's journal actor, or for a lease: minutes of talk without a journal."""


class JournalPort(Protocol):
    """What a call needs of the shared journal."""

    def append_nowait(self, call_sid: str, record: Record, *, epoch: int | None = None) -> bool: ...

    async def append(self, call_sid: str, record: Record, *, epoch: int | None = None) -> None: ...

    async def attach(self, call_sid: str, stream_sid: str, generation: int) -> int: ...

    async def read(self, call_sid: str) -> CallState | None: ...

    async def holds(self, call_sid: str, epoch: int) -> bool: ...

    async def leases(self, call_sids: Sequence[str]) -> Mapping[str, int]: ...

    async def is_gone(self, process: str) -> bool: ...

    async def live_heads(self) -> tuple[tuple[str, int, float], ...]: ...

    async def forget(self, *, before: float, limit: int) -> int: ...

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
    owned: bool = True
    """This process has had the call's stream, or nobody has: it may speak without asking. False for a call of another
    process's that is being taken up."""
    unleased: tuple[str, int] | None = None
    """The stream (sid, generation) that is spoken on though the journal could not take its claim. Until it can,
    nothing is handed to the journal: the claim may be there, and the lease of before it be void."""
    dropped: int = 0
    fenced: bool = False
    wake: Bell = attrs.field(factory=Bell)
    queue: list[Record] = attrs.field(factory=list)

    def write(self, record: Record) -> None:
        """Remember now, store soon. No checkpoint; when the queue is full the record is only in memory."""
        self._apply(record)
        if self.fenced or self._handed_on(record):
            return
        if len(self.queue) >= QUEUE_MAX:
            self.dropped += 1
            return
        self.queue.append(record)
        self.wake.ring()

    def _handed_on(self, record: Record) -> bool:
        """Usually the journal takes a record at once and no task has to be woken for it. False: the call's journal
        actor has it to do, and to bear what is wrong with it."""
        if self.queue or self.claiming is not None or self.unleased is not None:
            return False
        try:
            if not self.journal.append_nowait(self.call_sid, record, epoch=self.epoch):
                self.dropped += 1
        except Exception:
            return False
        return True

    async def commit(self, record: Record) -> None:
        """Return when the record is on the disk. Raises JournalUnavailable or LeaseLost; the record is then not in
        the fold. If cancelled: it may have happened; ask the journal."""
        while self.claiming is not None:
            await self.claiming.wait()
        try:
            if self.unleased is not None:
                await self._claim_again(*self.unleased)
            self.flush()
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
            epoch = self.epoch = await self._claimed(stream_sid, generation)
            self.unleased = None
            self.owned = True
            # Streams that came without a lease: told now, behind the claim, they would be a step back.
            unclaimed = [record for record in self.queue if isinstance(record, StreamAttached)]
            for record in unclaimed:
                self.queue.remove(record)
        finally:
            self.claiming.set()
            self.claiming = None
            self.wake.ring()
        return epoch

    async def _claimed(self, stream_sid: str, generation: int) -> int:
        try:
            return await self.journal.attach(self.call_sid, stream_sid, generation)
        except JournalUnavailable as error:
            if not error.may_have_happened:
                raise
            # It may be on the disk all the same: then the newest lease is ours.
            state = await self.journal.read(self.call_sid)
            for part in state.streams if state is not None else ():
                if part.stream_sid == stream_sid and part.generation == generation:
                    return part.lease_epoch
            raise

    async def claim_late(self) -> None:
        """Make up for the claim that could not be made; a stream that is refused is another process's call by now.
        If cancelled: it may have happened."""
        if self.unleased is None or self.claiming is not None or self.fenced:
            return
        try:
            await self._claim_again(*self.unleased)
        except JournalUnavailable:
            return
        except LeaseLost:
            self.lost_lease()

    async def _claim_again(self, stream_sid: str, generation: int) -> None:
        try:
            epoch = await self.claim(stream_sid, generation)
        except StreamRefused as refused:
            raise LeaseLost(self.call_sid, self.epoch, self.epoch + 1) from refused
        self._apply(self._stream_attached(stream_sid, generation, epoch))

    def _stream_attached(self, stream_sid: str, generation: int, epoch: int) -> StreamAttached:
        return StreamAttached(
            stream_sid=stream_sid,
            generation=generation,
            lease_epoch=epoch,
            process=self.journal.process,
        )

    def attached(self, stream_sid: str, generation: int, epoch: int | None) -> None:
        """A stream is attached under this lease; None: the journal could not be asked, and learns of it later."""
        self.owned = True
        if epoch is None:
            self.unleased = (stream_sid, generation)
            self.write(self._stream_attached(stream_sid, generation, self.state.lease_epoch))
            return
        self.epoch = epoch
        self._apply(self._stream_attached(stream_sid, generation, epoch))

    def flush(self, *, last: bool = False) -> None:
        """Hand everything queued to the journal, in order. ``last``: nobody will claim any more, what is queued is
        worth a try under the lease of before."""
        while self.queue and not self.fenced and self.claiming is None and (last or self.unleased is None):
            try:
                if not self.journal.append_nowait(self.call_sid, self.queue[0], epoch=self.epoch):
                    self.dropped += 1
            except LeaseLost:
                self.lost_lease()
                return
            del self.queue[0]

    def lost_lease(self) -> None:
        """Idempotent."""
        if not self.fenced:
            self.fenced = True
            self.queue.clear()
            self.on_fenced()

    def _apply(self, record: Record) -> None:
        self.state = apply(self.state, Entry(self.call_sid, self.state.last_number + 1, self.now(), record))
