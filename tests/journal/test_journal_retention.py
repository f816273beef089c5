"""Ended calls leave the journal when they are old enough, whole, and nothing else does."""

from __future__ import annotations

import math
import sqlite3
from pathlib import Path
from typing import Any

import pytest
import trio
from journal_helpers import ACCEPTED, AT, ENDED, append, claim, full, running, said

from callrt.actors.retention import BATCH_CALLS, LOOK_SECONDS, STEADY_SECONDS, Retention
from callrt.journal import MemoryStore, SqliteStore, Store
from callrt.journal.store import Forget, Placed

DAY = 86_400.0


@pytest.fixture(params=["memory", "sqlite"])
def store(request: pytest.FixtureRequest, tmp_path: Path) -> Store:
    return MemoryStore() if request.param == "memory" else SqliteStore(tmp_path / "calls.db")


def ended(call_sid: str, at: float) -> list[Any]:
    return [
        append(call_sid, ACCEPTED, at=at),
        append(call_sid, said("words"), at=at),
        append(call_sid, ENDED, at=at),
    ]


def test_old_calls_are_forgotten_whole_and_the_oldest_first(store: Store) -> None:
    for number in (3, 1, 2):
        store.commit(ended(f"CA{number}", AT + number))
    assert store.commit([Forget(before=AT + 9, limit=2)]) == [Placed(2)]
    assert store.list_calls(limit=9) == ["CA3"]
    assert store.read_call("CA1").entries == ()
    assert len(store.read_call("CA3").entries) == 3
    assert store.read_leases(["CA1", "CA3"]).keys() == {"CA3"}


def test_call_that_lives_or_is_young_is_not_forgotten(store: Store) -> None:
    store.commit([append("CA1", ACCEPTED, at=1.0), claim("CA1", 1)])
    store.commit(ended("CA2", AT))
    assert store.commit([Forget(before=AT, limit=9)]) == [Placed(0)]
    assert sorted(store.list_calls(limit=9)) == ["CA1", "CA2"]


def test_call_that_is_written_to_while_it_is_forgotten_leaves_nothing(store: Store) -> None:
    store.commit(ended("CA1", AT))
    assert store.commit([Forget(AT + 1, 9), append("CA1", said("late"))]) == [Placed(1), Placed(4)]
    assert store.list_calls(limit=9) == []
    assert store.read_call("CA1").entries == ()


def test_forgotten_words_are_not_in_the_file(tmp_path: Path) -> None:
    path = tmp_path / "calls.db"
    store = SqliteStore(path)
    store.commit([*ended("CA1", AT), append("CA1", said("unmistakable"), at=AT)])
    store.commit([Forget(AT + 1, 9)])
    store.close()
    with sqlite3.connect(path) as connection:
        connection.execute("PRAGMA wal_checkpoint(TRUNCATE)")
    connection.close()
    assert b"unmistakable" not in path.read_bytes()


async def test_journal_says_how_many_it_has_forgotten(autojump_clock: Any) -> None:
    async with running(MemoryStore()) as journal:
        await journal.append("CA1", ACCEPTED)
        await journal.append("CA1", ENDED)
        committed = journal.statistics().committed
        assert await journal.forget(before=math.inf, limit=9) == 1
        assert await journal.read("CA1") is None
        assert journal.statistics().committed == committed, "no entry was written"


# -- when -----------------------------------------------------------------------------------------------------------


class Clock:
    def __init__(self) -> None:
        self.offset = AT

    def __call__(self) -> float:
        return self.offset + trio.current_time()


def fill(store: Store, calls: int, at: float) -> None:
    for number in range(calls):
        store.commit(ended(f"CA{number}", at))


async def test_retention_forgets_in_small_batches_until_only_the_young_are_left(autojump_clock: Any) -> None:
    store, clock = MemoryStore(), Clock()
    fill(store, 3 * BATCH_CALLS + 5, clock() - 31 * DAY)
    store.commit(ended("CAyoung", clock() - 29 * DAY))
    async with running(store) as journal:
        retention = Retention(journal, clock, 30 * DAY)
        left = []
        while await retention.turn():
            left.append(len(store.list_calls(limit=999)))
        assert left == [2 * BATCH_CALLS + 6, BATCH_CALLS + 6, 6]
        assert store.list_calls(limit=999) == ["CAyoung"]
        async with trio.open_nursery() as nursery:
            nursery.start_soon(retention.run)
            await trio.sleep(DAY + 2 * LOOK_SECONDS)
            nursery.cancel_scope.cancel()
        assert store.list_calls(limit=999) == [], "and that one when its day has come"


async def test_clock_that_jumps_costs_no_call(autojump_clock: Any) -> None:
    store, clock = MemoryStore(), Clock()
    fill(store, 3, clock())
    async with running(store) as journal:
        retention = Retention(journal, clock, 30 * DAY)
        assert not await retention.turn()
        clock.offset += 400 * DAY
        await trio.sleep(STEADY_SECONDS / 2)
        await retention.turn()
        clock.offset -= 400 * DAY
        for _ in range(200):
            await trio.sleep(LOOK_SECONDS)
            await retention.turn()
        assert len(store.list_calls(limit=9)) == 3
        clock.offset += 400 * DAY  # and stays so: then it is the time
        await retention.turn()
        assert len(store.list_calls(limit=9)) == 3
        await trio.sleep(STEADY_SECONDS + 1)
        await retention.turn()
        assert store.list_calls(limit=9) == []


async def test_retention_without_a_journal_waits(autojump_clock: Any) -> None:
    store, clock = MemoryStore(), Clock()
    fill(store, 3, clock() - 31 * DAY)
    async with running(store) as journal:
        retention = Retention(journal, clock, 30 * DAY)
        store.fault = full()
        assert not await retention.turn()
        store.fault = None
        await retention.turn()
        assert store.list_calls(limit=9) == []


async def test_retention_for_ever_asks_nothing(autojump_clock: Any) -> None:
    store, clock = MemoryStore(), Clock()
    fill(store, 3, 0.0)
    async with running(store) as journal:
        commits = store.commits
        assert not await Retention(journal, clock, math.inf).turn()
        assert store.commits == commits
