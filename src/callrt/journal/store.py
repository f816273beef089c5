"""What a store is: a synchronous, transactional log per call. ``Journal`` is its asynchronous face.

All rules are in ``place``, which is pure; a store looks up the ``Head`` of a call, asks ``place``, and writes
what it says, many at a time in one transaction. A store for another database has nothing else to decide, and
passes the same tests.
"""

from __future__ import annotations

import threading
from collections.abc import Sequence
from typing import Final, Protocol

import msgspec

from callrt.journal.errors import CorruptRecord, LeaseLost, Overtaken, StoreFailed, StreamRefused
from callrt.journal.lease import Lease, check, claim
from callrt.journal.record import encode_record, seal, unseal
from callrt.protocol.records import CallEnded, Entry, StreamAttached

# ---- what is asked of a store


class Append(msgspec.Struct, frozen=True, gc=False):
    """One record to append, already encoded. ``epoch``: the lease it is written under, None for none."""

    call_sid: str
    at: float
    kind: str
    record: bytes
    epoch: int | None = None


class Claim(msgspec.Struct, frozen=True, gc=False):
    """Claim the call for a stream: the next lease and its ``StreamAttached``, together or not at all."""

    call_sid: str
    at: float
    stream_sid: str
    generation: int
    process: str = ""


class Seize(msgspec.Struct, frozen=True, gc=False):
    """Append to a call that seems to be nobody's, if nothing was written of it since entry ``after``. With an end
    the lease moves on, so that an owner who was only slow writes nothing more."""

    call_sid: str
    at: float
    kind: str
    record: bytes
    after: int


class Beat(msgspec.Struct, frozen=True, gc=False):
    """This process is there. ``serving``: it takes calls. ``forget``: others that have long been gone."""

    process: str
    serving: bool
    forget: tuple[str, ...] = ()


class Forget(msgspec.Struct, frozen=True, gc=False):
    """Delete ended calls that began before this wall time, the oldest first and so many at most."""

    before: float
    limit: int


class Touch(msgspec.Struct, frozen=True, gc=False):
    """Nothing to keep, but the disk must take a write: the proof that the next one would work."""


Write = Append | Claim | Seize | Beat | Forget | Touch


class Placed(msgspec.Struct, frozen=True, gc=False):
    """It is in the journal, under this number. ``epoch``: of a ``Claim``, the lease it got. Of a ``Forget``, the
    number of calls that are gone."""

    number: int
    epoch: int | None = None


Outcome = Placed | LeaseLost | StreamRefused | Overtaken
"""Of one write in a transaction: a refusal concerns that one and not its neighbours."""


class Peer(msgspec.Struct, frozen=True, gc=False):
    """A process as the store knows it. ``beats`` only ever grows while it lives."""

    name: str
    beats: int
    serving: bool


class Reading(msgspec.Struct, frozen=True, gc=False):
    """All that can be read of one call, in the order of the numbers, and what cannot."""

    entries: tuple[Entry, ...] = ()
    corrupt: tuple[CorruptRecord, ...] = ()


class Store(Protocol):
    """Each method blocks and may raise ``StoreFailed``. ``commit`` and ``close`` are called by one thread at
    a time; the others by any, also while a commit runs."""

    def commit(self, writes: Sequence[Write]) -> list[Outcome]:
        """One transaction, durable on return; an outcome per write. When it raises, nothing was written,
        except that ``may_have_happened`` says that this cannot be known."""
        ...

    def read_call(self, call_sid: str) -> Reading: ...

    def read_leases(self, call_sids: Sequence[str]) -> dict[str, Lease]:
        """The newest lease of each of these calls that has one."""
        ...

    def list_calls(self, *, limit: int, live_only: bool = False) -> list[str]:
        """Calls by their first entry, newest first."""
        ...

    def list_live(self, *, limit: int) -> list[tuple[str, int, float]]:
        """Calls without an end, the number of their last entry and the wall time of their first, oldest first."""
        ...

    def list_peers(self) -> list[Peer]:
        """All processes that have beaten and were not forgotten, by name."""
        ...

    def is_gone(self, process: str) -> bool:
        """Whether a process that has beaten here is proven to run no more; False in doubt. Frozen is not gone.
        Answers also while nothing can be committed."""
        ...

    def close(self) -> None:
        """Idempotent. A later commit opens the store again."""
        ...


# ---- the rules

ENDED_KIND: Final = str(CallEnded.__struct_config__.tag)


NO_LEASE: Final = Lease()


class Head(msgspec.Struct, frozen=True, gc=False):
    """What a store must know of a call to append to it."""

    last_number: int = 0
    first_at: float = 0.0
    ended: bool = False
    lease: Lease = NO_LEASE


class Row(msgspec.Struct, frozen=True, gc=False):
    """What a store writes for one ``Placed``: the entry's sealed bytes, and columns to look at."""

    call_sid: str
    number: int
    at: float
    kind: str
    sealed: bytes


def place(head: Head, write: Append | Claim | Seize) -> tuple[Head, Row | None, Outcome]:
    """Where a write goes: the call's next head, the row to write, and the outcome to tell."""
    epoch: int | None = None
    if isinstance(write, Claim):
        verdict = claim(write.call_sid, head.lease, write.generation, write.stream_sid)
        if isinstance(verdict, StreamRefused):
            return head, None, verdict
        epoch = verdict.epoch
        kind = "stream_attached"
        record = encode_record(
            StreamAttached(
                stream_sid=write.stream_sid,
                generation=write.generation,
                lease_epoch=epoch,
                process=write.process,
            )
        )
        lease = verdict
    elif isinstance(write, Seize):
        if head.ended or head.last_number != write.after:
            return head, None, Overtaken(write.call_sid, write.after, head.last_number)
        lease, kind, record = head.lease, write.kind, write.record
        if kind == ENDED_KIND:
            lease = msgspec.structs.replace(lease, epoch=lease.epoch + 1)
    else:
        checked = check(write.call_sid, head.lease, write.epoch)
        if isinstance(checked, LeaseLost):
            return head, None, checked
        lease, kind, record = checked, write.kind, write.record
    number = head.last_number + 1
    assert lease.epoch >= head.lease.epoch, "a lease never goes back"
    after = Head(
        last_number=number,
        first_at=write.at if number == 1 else head.first_at,
        ended=head.ended or kind == ENDED_KIND,
        lease=lease,
    )
    row = Row(write.call_sid, number, write.at, kind, seal(write.call_sid, number, write.at, record))
    return after, row, Placed(number, epoch)


def unseal_all(call_sid: str, rows: Sequence[tuple[int, bytes]]) -> Reading:
    """Skip and report: what cannot be read costs nothing else."""
    entries: list[Entry] = []
    corrupt: list[CorruptRecord] = []
    for number, sealed in rows:
        try:
            entries.append(unseal(sealed, call_sid=call_sid, number=number))
        except CorruptRecord as error:
            corrupt.append(error)
    return Reading(tuple(entries), tuple(corrupt))


# ---- the store of simulations and tests


class MemoryStore:
    """A store that forgets with the program. It holds the same bytes as one on disk, and can be made to fail:
    while ``fault`` is set, every commit and read raises it."""

    def __init__(self) -> None:
        self.fault: StoreFailed | None = None
        self.commits = 0
        self._lock = threading.Lock()
        self._heads: dict[str, Head] = {}
        self._rows: dict[str, dict[int, bytes]] = {}
        self._peers: dict[str, Peer] = {}
        self._gone: dict[str, None] = {}

    def commit(self, writes: Sequence[Write]) -> list[Outcome]:
        self._fail()
        with self._lock:
            heads: dict[str, Head] = {}
            rows: list[Row] = []
            outcomes: list[Outcome] = []
            forgets: list[tuple[int, Forget]] = []
            for write in writes:
                if isinstance(write, Touch):
                    outcomes.append(Placed(0))
                    continue
                if isinstance(write, Beat):
                    self._beat(write)
                    outcomes.append(Placed(0))
                    continue
                if isinstance(write, Forget):
                    forgets.append((len(outcomes), write))
                    outcomes.append(Placed(0))
                    continue
                head = heads.get(write.call_sid) or self._heads.get(write.call_sid) or Head()
                heads[write.call_sid], row, outcome = place(head, write)
                outcomes.append(outcome)
                if row is not None:
                    rows.append(row)
            self._heads.update(heads)
            for row in rows:
                self._rows.setdefault(row.call_sid, {})[row.number] = row.sealed
            for index, forget in forgets:
                outcomes[index] = Placed(self._forget(forget))
            self.commits += 1
        return outcomes

    def read_call(self, call_sid: str) -> Reading:
        self._fail()
        with self._lock:
            rows = sorted(self._rows.get(call_sid, {}).items())
        return unseal_all(call_sid, rows)

    def read_leases(self, call_sids: Sequence[str]) -> dict[str, Lease]:
        self._fail()
        with self._lock:
            return {sid: self._heads[sid].lease for sid in call_sids if sid in self._heads}

    def list_calls(self, *, limit: int, live_only: bool = False) -> list[str]:
        self._fail()
        with self._lock:
            found = [
                (head.first_at, call_sid)
                for call_sid, head in self._heads.items()
                if head.last_number and not (live_only and head.ended)
            ]
        found.sort(reverse=True)
        return [call_sid for _, call_sid in found[:limit]]

    def list_live(self, *, limit: int) -> list[tuple[str, int, float]]:
        self._fail()
        with self._lock:
            found = sorted(
                (head.first_at, call_sid, head.last_number)
                for call_sid, head in self._heads.items()
                if head.last_number and not head.ended
            )
        return [(call_sid, number, first_at) for first_at, call_sid, number in found[:limit]]

    def list_peers(self) -> list[Peer]:
        self._fail()
        with self._lock:
            return sorted(self._peers.values(), key=lambda peer: peer.name)

    def is_gone(self, process: str) -> bool:
        return process in self._gone

    def bury(self, process: str) -> None:
        """The process is dead: what the kernel does for a store on a disk."""
        self._gone[process] = None

    def _beat(self, beat: Beat) -> None:
        known = self._peers.get(beat.process)
        beats = known.beats + 1 if known is not None else 1
        self._peers[beat.process] = Peer(beat.process, beats, beat.serving)
        for name in beat.forget:
            self._peers.pop(name, None)

    def _forget(self, forget: Forget) -> int:
        found = sorted(
            (head.first_at, call_sid)
            for call_sid, head in self._heads.items()
            if head.ended and head.first_at < forget.before
        )[: forget.limit]
        for _, call_sid in found:
            del self._heads[call_sid], self._rows[call_sid]
        return len(found)

    def close(self) -> None:
        pass

    def rot(self, call_sid: str, number: int) -> None:
        """Flip a byte of one entry, as a dying disk does."""
        with self._lock:
            sealed = self._rows[call_sid][number]
            self._rows[call_sid][number] = sealed[:-2] + bytes([sealed[-2] ^ 0xFF]) + sealed[-1:]

    def _fail(self) -> None:
        if self.fault is not None:
            fault = self.fault
            raise StoreFailed(fault.reason, busy=fault.busy, may_have_happened=fault.may_have_happened)
