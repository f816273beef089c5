"""The journal of all calls of a process, as actors see it: records in, states out, no disk in the loop."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from typing import Final, TypeVar

import attrs
import trio

from callrt.journal.errors import CorruptRecord, JournalUnavailable, StoreFailed
from callrt.journal.outbox import Item
from callrt.journal.record import RECORD_BYTES_MAX, encode_record
from callrt.journal.reports import EntriesUnreadable, JournalReadable, JournalUnreadable, Statistics
from callrt.journal.store import Append, Beat, Claim, Forget, Peer, Placed, Seize, Store, Touch
from callrt.journal.writer import Hooks, JournalLimits, Writer
from callrt.protocol.call import CallState, apply, fold
from callrt.protocol.records import Entry, Record

T = TypeVar("T")

CALL_SID_CHARS_MAX: Final = 128
LIVE_CALLS_MAX: Final = 10_000
"""Told by ``live_calls`` at once: more than a process carries."""
READ_ATTEMPTS_MAX: Final = 3
"""A read that a commit overtook is repeated; after that many the last one is good enough."""


class Journal:
    """``now`` gives unix seconds for the envelopes. ``threads=False``: the store is called in the event loop,
    for stores that are simulated. Writes wait for ``run``; reads do not."""

    def __init__(
        self,
        store: Store,
        *,
        now: Callable[[], float],
        threads: bool = True,
        limits: JournalLimits | None = None,
        hooks: Hooks | None = None,
        process: str = "",
    ) -> None:
        """``process``: this one's name among all that share the store."""
        self.process = process
        self._store = store
        self._now = now
        self._threads = threads
        self._limits = limits or JournalLimits()
        self._writer = Writer(store, limits=self._limits, hooks=hooks or Hooks(), threads=threads)
        self._readers = trio.CapacityLimiter(self._limits.readers_max)
        self._unreadable: dict[str, None] = {}
        self._unanswered_since: float | None = None
        self._dropped = 0

    # ---- writing

    def append_nowait(self, call_sid: str, record: Record, *, epoch: int | None = None) -> bool:
        """Write behind: committed within ``flush_seconds`` while the store works, later if it does not.

        ``epoch``: the lease that it is written under; None for who needs none (webhooks). False when the
        outbox is full, the record over ``RECORD_BYTES_MAX``, or the journal closed: dropped and counted.
        Under a lost lease it is dropped at the commit and counted, and ``on_lease_lost`` is called.
        """
        write = self._append(call_sid, record, epoch)
        if len(write.record) > RECORD_BYTES_MAX or not self._writer.put_nowait(
            Item(write, must=False, record=record)
        ):
            self._dropped += 1
            return False
        return True

    async def append(self, call_sid: str, record: Record, *, epoch: int | None = None) -> None:
        """Must commit: on return it is on the disk, and so is what was appended before it for this call
        (unless the store failed meanwhile, and that still waits).

        Raises ``JournalUnavailable`` (``may_have_happened`` says when that is so), ``LeaseLost``, or
        ``ValueError`` for a record over ``RECORD_BYTES_MAX``. If cancelled: it may have happened; ask the
        journal.
        """
        write = self._append(call_sid, record, epoch)
        if len(write.record) > RECORD_BYTES_MAX:
            raise ValueError(f"a {write.kind} record of {len(write.record)} bytes")
        await self._writer.submit(write)

    async def attach(self, call_sid: str, stream_sid: str, generation: int) -> int:
        """Claim the call for this stream: its next lease epoch, in the transaction that appends
        ``StreamAttached``. From then on appends under an older epoch fail, in every process.

        Raises ``JournalUnavailable``, or ``StreamRefused`` when another stream of this generation, or one of
        a newer, was attached before. If cancelled: it may have happened; the same stream may claim again.
        """
        _check_call_sid(call_sid)
        placed = await self._writer.submit(Claim(call_sid, self._at(), stream_sid, generation, self.process))
        assert placed.epoch is not None, "a claim gets an epoch"
        return placed.epoch

    async def seize(self, call_sid: str, record: Record, *, after: int) -> None:
        """Append to a call that seems to be nobody's, if entry ``after`` is still its last. Raises ``Overtaken``
        when it is not, or ``JournalUnavailable``. If cancelled: it may have happened."""
        write = self._append(call_sid, record, None)
        await self._writer.submit(Seize(call_sid, write.at, write.kind, write.record, after))

    async def beat(self, *, serving: bool, forget: tuple[str, ...] = ()) -> None:
        """Tell all that share the store that this process is there. Raises ``JournalUnavailable``."""
        await self._writer.submit(Beat(self.process, serving, forget))

    async def forget(self, *, before: float, limit: int) -> int:
        """Delete up to ``limit`` ended calls that began before this wall time, the oldest first; how many it were.
        Raises ``JournalUnavailable``. If cancelled: it may have happened."""
        return (await self._writer.submit(Forget(before, limit))).number

    async def ping(self) -> None:
        """Commit a write without content, and with it what waits; then read. Raises ``JournalUnavailable``.
        If cancelled: no effect."""
        await self._writer.submit(Touch())
        await self._from_store(self._store.list_peers)

    # ---- reading

    async def read(self, call_sid: str) -> CallState | None:
        """The call as known here: what is committed, and behind it what this process is about to commit. None
        when nothing is known of it. Entries that cannot be read are skipped, counted in ``missing``, and
        reported once. Raises ``JournalUnavailable``. If cancelled: no effect."""
        _check_call_sid(call_sid)
        for _ in range(READ_ATTEMPTS_MAX):
            held = self._writer.outbox.of_call(call_sid)
            reading = await self._from_store(lambda: self._store.read_call(call_sid))
            await self._writer.wait_settled(held)
            if not any(isinstance(item.result, Placed) for item in held):
                break  # else: committed while we read, and perhaps not in what was read
        self._report_unreadable(call_sid, reading.corrupt)
        state = fold(reading.entries)
        for item in held:
            if isinstance(item.write, Append) and item.record is not None and item.result is None:
                entry = Entry(call_sid, state.last_number + 1, item.write.at, item.record)
                state = apply(state, entry)
        return state if state.call_sid else None

    async def live_calls(self) -> tuple[CallState, ...]:
        """The calls without an end, oldest first. Raises ``JournalUnavailable``. If cancelled: no effect."""
        found = await self._from_store(lambda: self._store.list_calls(limit=LIVE_CALLS_MAX, live_only=True))
        states = [await self.read(call_sid) for call_sid in reversed(found)]
        return tuple(state for state in states if state is not None and state.state == "live")

    async def live_heads(self) -> tuple[tuple[str, int, float], ...]:
        """Each call without an end, the number of its last entry and the wall time of its first, oldest first; nothing
        is folded. Raises ``JournalUnavailable``. If cancelled: no effect."""
        return tuple(await self._from_store(lambda: self._store.list_live(limit=LIVE_CALLS_MAX)))

    async def peers(self) -> tuple[Peer, ...]:
        """Every process that has beaten, this one among them. Raises ``JournalUnavailable``.
        If cancelled: no effect."""
        return tuple(await self._from_store(self._store.list_peers))

    async def holds(self, call_sid: str, epoch: int) -> bool:
        """Whether this lease is still the newest: to be asked after a pause that nobody planned, before a
        word is said. Raises ``JournalUnavailable``. If cancelled: no effect."""
        _check_call_sid(call_sid)
        return (await self.leases((call_sid,))).get(call_sid, 0) <= epoch

    async def leases(self, call_sids: Sequence[str]) -> Mapping[str, int]:
        """The newest lease's epoch of each of these calls that the store knows; one question for all of them.
        Raises ``JournalUnavailable``. If cancelled: no effect."""
        found = await self._from_store(lambda: self._store.read_leases(call_sids))
        return {call_sid: lease.epoch for call_sid, lease in found.items()}

    async def is_gone(self, process: str) -> bool:
        """Whether that process is proven to run no more; False in doubt, and for one that is only frozen.
        If cancelled: no effect."""
        try:
            return await self._from_store(lambda: self._store.is_gone(process))
        except JournalUnavailable:
            return False

    # ---- life

    async def run(
        self, ctx: object = None, *, task_status: trio.TaskStatus[Journal] = trio.TASK_STATUS_IGNORED
    ) -> None:
        """Commit what is appended, until cancelled or closed: a start function for a permanent child.

        If cancelled: nothing is lost; what waits, and what is under way, is found by the next ``run``.
        """
        task_status.started(self)
        await self._writer.run()

    async def aclose(self) -> None:
        """Take nothing more, commit what waits, close the store. Idempotent. What cannot be committed within
        ``close_timeout`` is lost, and reported. If cancelled: what waits is lost."""
        await self._writer.aclose()

    def statistics(self) -> Statistics:
        return attrs.evolve(self._writer.statistics(), dropped=self._dropped)

    # ---- small things

    def _append(self, call_sid: str, record: Record, epoch: int | None) -> Append:
        _check_call_sid(call_sid)
        kind = str(type(record).__struct_config__.tag)
        return Append(call_sid, self._at(), kind, encode_record(record), epoch)

    def _at(self) -> float:
        at = self._now()
        return at if math.isfinite(at) else 0.0

    def _report_unreadable(self, call_sid: str, corrupt: tuple[CorruptRecord, ...]) -> None:
        if not corrupt or call_sid in self._unreadable:
            return
        if len(self._unreadable) >= LIVE_CALLS_MAX:
            self._unreadable.clear()
        self._unreadable[call_sid] = None
        numbers = tuple(error.number for error in corrupt)
        self._writer.report(EntriesUnreadable(call_sid, numbers, corrupt[0].why))

    async def _from_store(self, ask: Callable[[], T]) -> T:
        """Reads that fail are told once, and once more when it is over: a scrambled file may go on taking writes."""
        try:
            answer = await self._ask(ask)
        except JournalUnavailable as error:
            if self._unanswered_since is None:
                self._unanswered_since = trio.current_time()
                self._writer.report(JournalUnreadable(error.reason))
            raise
        if self._unanswered_since is not None:
            seconds = trio.current_time() - self._unanswered_since
            self._unanswered_since = None
            self._writer.report(JournalReadable(seconds))
        return answer

    async def _ask(self, ask: Callable[[], T]) -> T:
        try:
            if not self._threads:
                await trio.lowlevel.checkpoint()
                return ask()
            with trio.fail_after(self._limits.commit_timeout):
                return await trio.to_thread.run_sync(ask, abandon_on_cancel=True, limiter=self._readers)
        except StoreFailed as error:
            raise JournalUnavailable(error.reason) from error
        except OSError as error:
            raise JournalUnavailable(error.strerror or type(error).__name__) from error
        except trio.TooSlowError:
            raise JournalUnavailable(f"no answer within {self._limits.commit_timeout:g} s") from None


def _check_call_sid(call_sid: str) -> None:
    if not 0 < len(call_sid) <= CALL_SID_CHARS_MAX or not call_sid.isascii() or not call_sid.isprintable():
        raise ValueError(f"a call sid is 1 to {CALL_SID_CHARS_MAX} printable characters")
