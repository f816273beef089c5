"""Several processes on one store: who is there, and who may end a call that nobody carries."""

from __future__ import annotations

import sqlite3
from pathlib import Path
from typing import Any

import pytest
import trio
from journal_helpers import ACCEPTED, AT, ENDED, append, claim, full, running, said

from callrt.actors.peers import BEAT_SECONDS, DEAD_SECONDS, FORGET_SECONDS, Peers
from callrt.journal import Journal, LeaseLost, MemoryStore, Overtaken, Peer, SqliteStore, Store
from callrt.journal.lease import Lease
from callrt.journal.record import encode_record
from callrt.journal.store import Beat, Placed, Seize
from callrt.protocol.records import FaultSeen


@pytest.fixture(params=["memory", "sqlite"])
def store(request: pytest.FixtureRequest, tmp_path: Path) -> Store:
    return MemoryStore() if request.param == "memory" else SqliteStore(tmp_path / "calls.db")


def seize(after: int, record: Any = ENDED) -> Seize:
    return Seize("CA1", AT, str(type(record).__struct_config__.tag), encode_record(record), after)


def test_call_is_seized_only_if_nothing_was_written_since(store: Store) -> None:
    store.commit([append("CA1", ACCEPTED), claim("CA1", 1)])
    [refused] = store.commit([seize(after=1)])
    assert isinstance(refused, Overtaken)
    assert store.list_live(limit=9) == [("CA1", 2, AT)]
    assert store.commit([seize(after=2)]) == [Placed(3)]
    assert store.list_live(limit=9) == []


def test_end_by_seizure_fences_whoever_had_the_call(store: Store) -> None:
    store.commit([append("CA1", ACCEPTED), claim("CA1", 1), seize(after=2)])
    [late] = store.commit([append("CA1", said("late"), epoch=1)])
    assert isinstance(late, LeaseLost)
    [again] = store.commit([seize(after=3)])
    assert isinstance(again, Overtaken), "one end"


def test_seizure_without_an_end_leaves_the_lease(store: Store) -> None:
    noted = FaultSeen(fault="process_died", turn="")
    store.commit([append("CA1", ACCEPTED), claim("CA1", 1), seize(2, noted)])
    assert store.read_leases(["CA1"])["CA1"] == Lease(1, 1, "MZ1")
    assert store.commit([claim("CA1", 2)]) == [Placed(4, 2)]


def test_two_that_seize_at_once_are_one(store: Store) -> None:
    store.commit([append("CA1", ACCEPTED)])
    first, second = store.commit([seize(after=1), seize(after=1)])
    assert first == Placed(2)
    assert isinstance(second, Overtaken)


def test_peers_are_counted_told_and_forgotten(store: Store) -> None:
    assert store.list_peers() == []
    store.commit([Beat("a", True), Beat("b", True), Beat("a", False)])
    assert store.list_peers() == [Peer("a", 2, False), Peer("b", 1, True)]
    store.commit([Beat("a", True, forget=("b",))])
    assert store.list_peers() == [Peer("a", 3, True)]


def test_live_calls_are_listed_oldest_first_with_their_last_entry_and_first_time(store: Store) -> None:
    store.commit([append("CA2", ACCEPTED, at=2.0), append("CA1", ACCEPTED, at=1.0), append("CA2", said("a"))])
    assert store.list_live(limit=9) == [("CA1", 1, 1.0), ("CA2", 2, 2.0)]
    assert store.list_live(limit=1) == [("CA1", 1, 1.0)]


def test_file_of_before_there_were_peers_is_taken_up(tmp_path: Path) -> None:
    path = tmp_path / "calls.db"
    store = SqliteStore(path)
    store.commit([append("CA1", ACCEPTED)])
    store.close()
    with sqlite3.connect(path) as connection:
        connection.execute("DROP TABLE callrt_peers")
    connection.close()
    assert SqliteStore(path).list_peers() == []
    again = SqliteStore(path)
    again.commit([Beat("a", True)])
    assert again.list_peers() == [Peer("a", 1, True)]
    again.close()


# -- who is there -----------------------------------------------------------------------------------------------


async def two(store: MemoryStore, nursery: trio.Nursery) -> tuple[Peers, Peers]:
    found = []
    for name in ("a", "b"):
        journal = Journal(store, now=lambda: AT, threads=False, process=name)
        await nursery.start(journal.run)
        found.append(Peers(journal))
    return found[0], found[1]


async def test_peer_lives_while_it_moves(autojump_clock: Any) -> None:
    async with trio.open_nursery() as nursery:
        one, other = await two(MemoryStore(), nursery)
        nursery.start_soon(one.run)
        with trio.move_on_after(10):
            await other.run()
        assert one.lives("b")
        assert one.successor
        await trio.sleep(DEAD_SECONDS + BEAT_SECONDS)
        assert not one.lives("b")
        assert not one.successor
        with trio.move_on_after(3):
            await other.run()
        assert one.lives("b"), "it was only frozen"
        nursery.cancel_scope.cancel()


async def test_peer_that_was_never_seen_to_move_is_no_successor(autojump_clock: Any) -> None:
    store = MemoryStore()
    store.commit([Beat("of yesterday", True)])
    async with trio.open_nursery() as nursery:
        one, _ = await two(store, nursery)
        nursery.start_soon(one.run)
        await trio.sleep(2)
        assert not one.successor
        assert one.lives("of yesterday"), "in doubt it does"
        assert one.lives("unheard of"), "in doubt it does"
        await trio.sleep(DEAD_SECONDS)
        assert not one.lives("of yesterday")
        assert not one.lives("unheard of")
        await trio.sleep(FORGET_SECONDS + 2 * BEAT_SECONDS)
        assert [peer.name for peer in store.list_peers()] == ["a"]
        nursery.cancel_scope.cancel()


async def test_peer_that_leaves_is_no_successor_at_once(autojump_clock: Any) -> None:
    async with trio.open_nursery() as nursery:
        one, other = await two(MemoryStore(), nursery)
        nursery.start_soon(one.run)
        nursery.start_soon(other.run)
        await trio.sleep(3)
        assert one.successor
        other.serving = False
        await trio.sleep(2 * BEAT_SECONDS)
        assert not one.successor
        assert one.lives("b")
        nursery.cancel_scope.cancel()


async def test_broken_journal_leaves_everything_as_it_was_seen(autojump_clock: Any) -> None:
    store = MemoryStore()
    async with trio.open_nursery() as nursery:
        one, other = await two(store, nursery)
        nursery.start_soon(one.run)
        nursery.start_soon(other.run)
        await trio.sleep(3)
        store.fault = full()
        await trio.sleep(3)
        assert one.lives("b")
        store.fault = None
        await trio.sleep(5)
        assert one.successor
        nursery.cancel_scope.cancel()


async def test_seize_is_refused_through_the_journal(autojump_clock: Any) -> None:
    async with running(MemoryStore()) as journal:
        await journal.append("CA1", ACCEPTED)
        with pytest.raises(Overtaken):
            await journal.seize("CA1", ENDED, after=0)
        await journal.seize("CA1", ENDED, after=1)
        assert await journal.live_heads() == ()
