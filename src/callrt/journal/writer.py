"""Group commit: what waits in the outbox goes to the store, many at a time, by a thread, one at a time.

Theory of operation. ``run`` takes a batch as soon as somebody waits for a commit, and at the latest
``flush_seconds`` after the first entry; what arrives while it is committed goes into the next batch. At most
one transaction is under way (the flight). It belongs to the writer and not to the task: a task that is
cancelled and started again finds it, so a restart writes nothing twice and loses nothing, and a disk that
hangs holds up no cancellation.

When a commit fails, write-behind entries wait for the next attempt, up to the bound of the outbox. Those
who wait for a must-commit are told ``JournalUnavailable``: at once, or after ``commit_timeout`` when the
store was only busy or does not answer. The first success ends the trouble; nothing has to be restarted.
"""

from __future__ import annotations

import contextlib
import math
from collections.abc import Callable
from typing import TYPE_CHECKING

import attrs
import trio

from callrt.journal.errors import JournalUnavailable, LeaseLost, StoreFailed
from callrt.journal.outbox import Item, Outbox
from callrt.journal.reports import (
    EntriesLost,
    JournalBack,
    JournalDown,
    JournalReport,
    Statistics,
    WriteRejected,
)
from callrt.journal.store import Append, Beat, Forget, Outcome, Placed, Seize, Store, Touch, Write

if TYPE_CHECKING:
    import outcome


@attrs.frozen
class JournalLimits:
    flush_seconds: float = 0.1
    """The longest a write-behind entry waits. A kill -9 may cost 250 ms: the rest is for a busy machine."""
    commit_timeout: float = 2.0
    """The longest somebody waits for a must-commit: a caller notices more than that."""
    retry_seconds: float = 0.25
    retry_seconds_max: float = 2.0
    """Between attempts while commits fail, doubling. A new must-commit is tried at once."""
    batch_max: int = 256
    """Entries in one transaction: a few ms."""
    entries_max: int = 20_000
    """Write-behind entries kept while nothing can be committed: half a minute of 100 talking calls."""
    bytes_max: int = 16 * 1024 * 1024
    must_commit_max: int = 2_000
    """Must-commits that wait at the same time; one more is told at once that the journal is unavailable."""
    close_timeout: float = 5.0
    readers_max: int = 4


@attrs.frozen
class Hooks:
    """Called in the event loop; must not block. What they raise is counted and goes no further."""

    on_commit: Callable[[float, int], None] | None = None
    """Seconds and entries of a transaction."""
    on_report: Callable[[JournalReport], None] | None = None
    on_lease_lost: Callable[[str, int], None] | None = None
    """A write of this call under this epoch was refused: cancel its tree."""


@attrs.define(eq=False)
class _Flight:
    """One transaction under way. ``landed`` is set when each of its items has its fate."""

    batch: tuple[Item, ...]
    since: float
    landed: trio.Event = attrs.field(factory=trio.Event)


class Writer:
    def __init__(self, store: Store, *, limits: JournalLimits, hooks: Hooks, threads: bool) -> None:
        self.limits = limits
        self.outbox = Outbox(
            entries_max=limits.entries_max,
            bytes_max=limits.bytes_max,
            must_commit_max=limits.must_commit_max,
        )
        self._store = store
        self._hooks = hooks
        self._threads = threads
        self._wake = trio.Event()
        self._flight: _Flight | None = None
        self._oldest_since = math.inf
        """Since when, on Trio's clock, a write-behind entry waits that is not under way."""
        self._fresh = False
        """A must-commit came after the last attempt."""
        self._running = False
        self._closing = False
        self._singly = 0
        """So many items go one by one, to find the one that no store takes."""
        self._down: str | None = None
        self._down_since = 0.0
        self._retry_at = -math.inf
        self._retry_seconds = limits.retry_seconds
        self._mistake: BaseException | None = None
        self._committed = self._commits = self._failures = 0
        self._fenced = self._rejected = self._hook_errors = 0

    # ---- taking items

    def put_nowait(self, item: Item) -> bool:
        """False when there is no room, or the writer is closed."""
        if self._closing or not self.outbox.put(item):
            return False
        if math.isinf(self._oldest_since):
            self._oldest_since = trio.current_time()
            self._wake.set()
        elif len(self.outbox) == self.limits.batch_max:
            self._wake.set()
        return True

    async def submit(self, write: Write) -> Placed:
        """Wait until it is committed. Raises ``JournalUnavailable``, ``LeaseLost``, ``StreamRefused`` or
        ``Overtaken``.
        If cancelled: it may have happened."""
        decided = trio.Event()
        item = Item(write, must=True, notify=decided.set)
        if self._closing:
            raise JournalUnavailable("the journal is closed")
        if not self.outbox.put(item):
            raise JournalUnavailable(f"{self.outbox.must_commits} writes wait already")
        self._fresh = True
        self._wake.set()
        certain = True
        try:
            with trio.move_on_after(self.limits.commit_timeout):
                await decided.wait()
        finally:
            if item.result is None:
                certain = self.outbox.withdraw(item)
        match item.result:
            case Placed() as placed:
                return placed
            case None:
                self._is_down(
                    f"no commit within {self.limits.commit_timeout:g} s", self.limits.commit_timeout
                )
                assert self._down is not None
                raise JournalUnavailable(self._down, may_have_happened=not certain)
            case refusal:
                raise refusal

    async def wait_settled(self, items: list[Item]) -> None:
        """Until none of these is just being committed, or ``commit_timeout`` has passed."""
        flight = self._flight
        if flight is not None and any(item in flight.batch for item in items):
            with trio.move_on_after(self.limits.commit_timeout):
                await flight.landed.wait()

    # ---- the task

    async def run(self) -> None:
        """Commit until cancelled or closed. If cancelled: nothing is lost; the next ``run`` goes on."""
        if self._running:
            raise RuntimeError("this journal has its writer already")
        self._running = True
        try:
            while not self._closing:
                await self._wait_due()
                await self._turn()
        finally:
            self._running = False

    async def aclose(self) -> None:
        """Take nothing more and commit what waits, for at most ``close_timeout``."""
        self._closing = True
        self._wake.set()
        with trio.move_on_after(self.limits.close_timeout):
            while len(self.outbox):
                await self._turn()
                if self._down is not None:
                    await trio.sleep(self.limits.retry_seconds)
        if self.outbox.entries:
            self.report(EntriesLost(self.outbox.entries))
        if self._flight is None:  # else its thread still uses the store
            with contextlib.suppress(StoreFailed):  # there is nothing left to lose
                if self._threads:
                    await trio.to_thread.run_sync(self._store.close, abandon_on_cancel=True)
                else:
                    self._store.close()

    async def _wait_due(self) -> None:
        while not self._closing:
            due = self._due()
            if due <= trio.current_time():
                return
            self._wake = trio.Event()
            with trio.move_on_at(due):
                await self._wake.wait()

    def _due(self) -> float:
        """When the next batch is to be taken."""
        if self._flight is not None or self._fresh or self._mistake is not None:
            return -math.inf
        if self.outbox.urgent or self.outbox.entries_waiting >= self.limits.batch_max:
            return self._retry_at
        return max(self._oldest_since + self.limits.flush_seconds, self._retry_at)

    async def _turn(self) -> None:
        if self._flight is None:
            self._launch()
        if self._flight is not None:
            await self._flight.landed.wait()
        else:
            await trio.lowlevel.checkpoint()
        if self._mistake is not None:
            mistake, self._mistake = self._mistake, None
            raise mistake

    # ---- one transaction

    def _launch(self) -> None:
        batch = self.outbox.take(1 if self._singly else self.limits.batch_max)
        self._singly = max(0, self._singly - 1)
        self._fresh = False
        if self.outbox.entries_waiting == 0:
            self._oldest_since = math.inf
        if not batch:
            return
        flight = self._flight = _Flight(batch, trio.current_time())
        writes = [item.write for item in batch]
        if not self._threads:
            self._landed(flight, _caught(self._store, writes))
            return
        token = trio.lowlevel.current_trio_token()

        def deliver(result: outcome.Outcome[list[Outcome] | Exception]) -> None:
            with contextlib.suppress(trio.RunFinishedError):  # then nobody is left to be told
                token.run_sync_soon(self._landed, flight, result.unwrap())

        trio.lowlevel.start_thread_soon(lambda: _caught(self._store, writes), deliver, "callrt journal")

    def _landed(self, flight: _Flight, result: list[Outcome] | Exception) -> None:
        """Runs between the tasks, where nothing may be raised: a mistake of ours goes to ``run``."""
        assert self._flight is flight, "one transaction at a time"
        self._flight = None
        try:
            if isinstance(result, list):
                self._succeeded(flight, result)
            elif isinstance(result, StoreFailed):
                self._failed(flight, result)
            else:
                self._rejects(flight, result)
        except Exception as mistake:
            self._mistake = mistake
            self._wake.set()
        finally:
            flight.landed.set()

    def _succeeded(self, flight: _Flight, outcomes: list[Outcome]) -> None:
        seconds = trio.current_time() - flight.since
        lost: dict[tuple[str, int], None] = {}
        committed = 0
        for item, fate in zip(flight.batch, outcomes, strict=True):
            item.settle(fate)
            if isinstance(fate, Placed):
                committed += fate.number > 0 and not isinstance(item.write, Forget)
            elif isinstance(fate, LeaseLost):
                lost[fate.call_sid, fate.epoch] = None
                self._fenced += 1
        self.outbox.done()
        self._commits += 1
        self._committed += committed
        self._retry_at = -math.inf
        self._retry_seconds = self.limits.retry_seconds
        if self._down is not None:
            self._down = None
            self.report(JournalBack(trio.current_time() - self._down_since, len(self.outbox)))
        self._call(self._hooks.on_commit, seconds, committed)
        for call_sid, epoch in lost:
            self._call(self._hooks.on_lease_lost, call_sid, epoch)

    def _failed(self, flight: _Flight, error: StoreFailed) -> None:
        for item in flight.batch:
            if item.must and not error.busy:
                item.settle(JournalUnavailable(error.reason, may_have_happened=error.may_have_happened))
        self._again(flight)
        self._failures += 1
        self._retry_at = trio.current_time() + self._retry_seconds
        self._retry_seconds = min(self._retry_seconds * 2, self.limits.retry_seconds_max)
        self._is_down(error.reason, trio.current_time() - flight.since)

    def _is_down(self, reason: str, for_seconds: float) -> None:
        if self._down is None:
            self._down = reason
            self._down_since = trio.current_time() - for_seconds
            self.report(JournalDown(reason))

    def _rejects(self, flight: _Flight, error: Exception) -> None:
        """Not the disk but something in the batch is wrong: find it, drop it, let the others pass."""
        if len(flight.batch) > 1:
            self._singly = len(flight.batch)
            self._again(flight)
            self._fresh = True
            return
        (item,) = flight.batch
        why = type(error).__name__
        item.settle(JournalUnavailable(f"rejected ({why})"))
        self.outbox.done()
        self._rejected += 1
        match item.write:
            case Append(call_sid=call_sid, kind=kind):
                self.report(WriteRejected(call_sid, kind, why))
            case Touch() | Beat() | Forget():
                self.report(WriteRejected("", "touch", why))
            case Seize(call_sid=call_sid, kind=kind):
                self.report(WriteRejected(call_sid, kind, why))
            case claim:
                self.report(WriteRejected(claim.call_sid, "stream_attached", why))

    def _again(self, flight: _Flight) -> None:
        self.outbox.give_back()
        if self.outbox.entries:
            self._oldest_since = min(self._oldest_since, flight.since)

    # ---- telling

    def report(self, report: JournalReport) -> None:
        self._call(self._hooks.on_report, report)

    def _call(self, hook: Callable[..., None] | None, *facts: object) -> None:
        if hook is None:
            return
        try:
            hook(*facts)
        except Exception:
            self._hook_errors += 1

    def statistics(self) -> Statistics:
        return Statistics(
            waiting=len(self.outbox),
            waiting_bytes=self.outbox.bytes,
            committed=self._committed,
            commits=self._commits,
            failures=self._failures,
            dropped=0,
            fenced=self._fenced,
            rejected=self._rejected,
            hook_errors=self._hook_errors,
            down=self._down,
        )


def _caught(store: Store, writes: list[Write]) -> list[Outcome] | Exception:
    """The outcomes, or why there are none: a thread has nobody to raise to."""
    try:
        return store.commit(writes)
    except OSError as error:
        return StoreFailed(error.strerror or type(error).__name__)
    except Exception as error:
        return error
