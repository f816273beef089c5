"""What the journal's tests share: stores of both kinds, records, a clock, a hook that remembers."""

from __future__ import annotations

from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager
from typing import Any

import attrs
import trio

from callrt.journal import Hooks, Journal, JournalLimits, JournalReport, StoreFailed
from callrt.journal.record import encode_record
from callrt.journal.store import Append, Claim, MemoryStore, Outcome, Store, Write
from callrt.protocol.records import CallAccepted, CallEnded, CallerSaid, Record

AT = 1_700_000_000.5
ACCEPTED = CallAccepted(carrier="twilio", agent="front-desk", caller="+1", called="+2")
ENDED = CallEnded(outcome="completed")


def said(text: str, item_id: str = "") -> CallerSaid:
    return CallerSaid(item_id=item_id or text, text=text)


def append(call_sid: str, record: Record, epoch: int | None = None, at: float = AT) -> Append:
    return Append(call_sid, at, str(type(record).__struct_config__.tag), encode_record(record), epoch)


def claim(call_sid: str, generation: int, stream_sid: str = "") -> Claim:
    return Claim(call_sid, AT, stream_sid or f"MZ{generation}", generation)


@attrs.define
class Witness:
    """Remembers what the hooks were told."""

    commits: list[int] = attrs.field(factory=list)
    reports: list[JournalReport] = attrs.field(factory=list)
    lost: list[tuple[str, int]] = attrs.field(factory=list)

    def hooks(self) -> Hooks:
        return Hooks(
            on_commit=lambda seconds, entries: self.commits.append(entries),
            on_report=self.reports.append,
            on_lease_lost=lambda call_sid, epoch: self.lost.append((call_sid, epoch)),
        )


class PickyStore(MemoryStore):
    """Chokes on one kind of record, as no store should."""

    def __init__(self, kind: str) -> None:
        super().__init__()
        self.kind = kind

    def commit(self, writes: Sequence[Write]) -> list[Outcome]:
        if any(isinstance(write, Append) and write.kind == self.kind for write in writes):
            raise TypeError("never this one")
        return super().commit(writes)


@asynccontextmanager
async def running(store: Store, *, threads: bool = False, **options: Any) -> AsyncIterator[Journal]:
    """A journal with its task; neither is closed in order at the end."""
    limits: JournalLimits | None = options.pop("limits", None)
    journal = Journal(store, now=lambda: AT, threads=threads, limits=limits, **options)
    async with trio.open_nursery() as nursery:
        await nursery.start(journal.run, None)
        yield journal
        nursery.cancel_scope.cancel()


def full() -> StoreFailed:
    return StoreFailed("database or disk is full")


def busy() -> StoreFailed:
    return StoreFailed("database is locked", busy=True)
