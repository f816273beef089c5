"""The journal with its thread and a disk: real time, so each test takes some of it."""

from __future__ import annotations

import os
import sqlite3
import threading
import time
from collections.abc import Sequence
from pathlib import Path

import pytest
import trio
from journal_helpers import ACCEPTED, AT, ENDED, Witness, running, said

from callrt.journal import (
    Journal,
    JournalBack,
    JournalDown,
    JournalLimits,
    JournalReadable,
    JournalUnavailable,
    JournalUnreadable,
    MemoryStore,
    SqliteStore,
)
from callrt.journal.store import Outcome, Write

QUICK = JournalLimits(flush_seconds=0.02, commit_timeout=0.3, retry_seconds=0.02, retry_seconds_max=0.05)


class SlowStore(MemoryStore):
    """Hangs in a commit until it is let go, as a disk does whose controller resets."""

    def __init__(self) -> None:
        super().__init__()
        self.entered = threading.Event()
        self.let_go = threading.Event()

    def commit(self, writes: Sequence[Write]) -> list[Outcome]:
        self.entered.set()
        assert self.let_go.wait(10)
        return super().commit(writes)


async def entered(store: SlowStore) -> None:
    with trio.fail_after(5):
        while not store.entered.is_set():
            await trio.sleep(0.001)


async def test_disk_never_holds_up_the_loop() -> None:
    store = SlowStore()
    async with running(store, threads=True, limits=QUICK) as journal:
        journal.append_nowait("CA1", ACCEPTED)
        await entered(store)
        worst = 0.0
        for _ in range(20):
            before = time.perf_counter()
            await trio.sleep(0.001)
            worst = max(worst, time.perf_counter() - before)
        assert worst < 0.2, (
            "ten times what a busy machine needs, far from the ten seconds that the disk hangs"
        )
        store.let_go.set()


async def test_hanging_disk_is_told_as_perhaps_and_reported() -> None:
    store, witness = SlowStore(), Witness()
    async with running(store, threads=True, limits=QUICK, hooks=witness.hooks()) as journal:
        with pytest.raises(JournalUnavailable, match="no commit within") as caught:
            await journal.append("CA1", ACCEPTED)
        assert caught.value.may_have_happened
        assert [type(report) for report in witness.reports] == [JournalDown]
        store.let_go.set()
        with trio.fail_after(5):
            await journal.append("CA1", ENDED)
        assert [type(report) for report in witness.reports] == [JournalDown, JournalBack]
        assert len(store.read_call("CA1").entries) == 2


async def test_restarted_task_writes_nothing_twice() -> None:
    store = SlowStore()
    journal = Journal(store, now=lambda: AT, limits=QUICK)
    journal.append_nowait("CA1", said("a"))
    with trio.fail_after(5):
        async with trio.open_nursery() as nursery:
            await nursery.start(journal.run, None)
            await entered(store)
            nursery.cancel_scope.cancel()  # returns although the disk hangs
        async with trio.open_nursery() as nursery:
            await nursery.start(journal.run, None)
            journal.append_nowait("CA1", said("b"))
            store.let_go.set()
            await journal.ping()
            nursery.cancel_scope.cancel()
    assert [getattr(entry.record, "text", "") for entry in store.read_call("CA1").entries] == ["a", "b"]


async def test_read_waits_for_the_commit_under_way() -> None:
    store = SlowStore()
    async with running(store, threads=True, limits=QUICK) as journal:
        journal.append_nowait("CA1", said("a"))
        await entered(store)
        async with trio.open_nursery() as nursery:
            nursery.start_soon(trio.to_thread.run_sync, store.let_go.set)
            state = await journal.read("CA1")
        assert state is not None
        assert (state.last_number, len(state.lines)) == (1, 1)


async def test_locked_database_is_waited_for(tmp_path: Path) -> None:
    path = tmp_path / "calls.db"
    store = SqliteStore(path, busy_seconds=0.02)
    async with running(store, threads=True) as journal:
        await journal.append("CA1", ACCEPTED)
        other = sqlite3.connect(path, isolation_level=None)
        other.execute("BEGIN IMMEDIATE")
        async with trio.open_nursery() as nursery:
            nursery.start_soon(journal.append, "CA1", ENDED)
            await trio.sleep(0.2)
            other.execute("ROLLBACK")
        assert len(store.read_call("CA1").entries) == 2


async def test_locked_database_for_good_is_unavailable_and_comes_back(tmp_path: Path) -> None:
    path, witness = tmp_path / "calls.db", Witness()
    store = SqliteStore(path, busy_seconds=0.02)
    async with running(store, threads=True, limits=QUICK, hooks=witness.hooks()) as journal:
        await journal.append("CA1", ACCEPTED)
        other = sqlite3.connect(path, isolation_level=None)
        other.execute("BEGIN IMMEDIATE")
        journal.append_nowait("CA1", said("kept"))
        with pytest.raises(JournalUnavailable, match="locked"):
            await journal.ping()
        state = await journal.read("CA1")
        assert state is not None, "reading goes on"
        assert state.lines[0].text == "kept"
        other.execute("ROLLBACK")
        await journal.append("CA1", ENDED)
        assert len(store.read_call("CA1").entries) == 3
        assert [type(report) for report in witness.reports] == [JournalDown, JournalBack]


async def test_full_disk_keeps_the_words_and_refuses_side_effects_until_there_is_room(tmp_path: Path) -> None:
    witness = Witness()
    store = SqliteStore(tmp_path / "calls.db")
    store.set_pages_max(20)
    async with running(store, threads=True, limits=QUICK, hooks=witness.hooks()) as journal:
        acknowledged = 0

        async def fill() -> None:
            nonlocal acknowledged
            while acknowledged < 100:
                await journal.append("CA1", said("x" * 2_000, f"i{acknowledged}"))
                acknowledged += 1

        with pytest.raises(JournalUnavailable, match="full"):
            await fill()
        assert journal.append_nowait("CA1", said("kept " * 400, "kept"))
        await trio.sleep(0.1)
        with pytest.raises(JournalUnavailable, match="full"):
            await journal.append("CA1", ENDED)
        assert len(store.read_call("CA1").entries) == acknowledged, "all that was acknowledged, and no more"
        store.set_pages_max(None)
        await trio.sleep(0.2)
        await journal.append("CA1", ENDED)
        entries = store.read_call("CA1").entries
        assert len(entries) == acknowledged + 2
        assert entries[-2].record == said("kept " * 400, "kept")
        assert [type(report) for report in witness.reports] == [JournalDown, JournalBack]


async def test_corrupt_database_is_unavailable_until_it_is_mended(tmp_path: Path) -> None:
    path, witness = tmp_path / "calls.db", Witness()
    path.write_bytes(b"not at all a database" * 100)
    async with running(SqliteStore(path), threads=True, limits=QUICK, hooks=witness.hooks()) as journal:
        with pytest.raises(JournalUnavailable, match="not a database"):
            await journal.append("CA1", ACCEPTED)
        with pytest.raises(JournalUnavailable, match="not a database"):
            await journal.read("CA1")
        journal.append_nowait("CA1", said("kept"))
        await trio.sleep(0.1)
        path.unlink()
        with trio.fail_after(10):
            while JournalBack not in [type(report) for report in witness.reports]:
                await trio.sleep(0.01)
        state = await journal.read("CA1")
        assert state is not None
        assert state.lines[0].text == "kept"
        told = [type(report) for report in witness.reports]
        assert told[:2] == [JournalDown, JournalUnreadable]
        assert sorted(each.__name__ for each in told[2:]) == ["JournalBack", "JournalReadable"]


async def test_file_that_takes_writes_and_gives_no_reads_is_told(tmp_path: Path) -> None:
    """Scrambled behind SQLite's back: its writer has what it needs in memory, and notices nothing."""
    path, witness = tmp_path / "calls.db", Witness()
    async with running(SqliteStore(path), threads=True, hooks=witness.hooks()) as journal:
        await journal.append("CA1", ACCEPTED)
        log = path.with_name("calls.db-wal")
        whole = path.read_bytes(), log.read_bytes()
        for file in (path, log):
            file.write_bytes(b"\xa5" * file.stat().st_size)
        for _ in range(2):
            with pytest.raises(JournalUnavailable, match="not a database"):
                await journal.read("CA1")
        with pytest.raises(JournalUnavailable):
            await journal.ping()
        path.write_bytes(whole[0])
        log.write_bytes(whole[1])
        state = await journal.read("CA1")
        assert state is not None
        told = [type(report) for report in witness.reports]
        assert told.count(JournalUnreadable) == told.count(JournalReadable) == 1


async def test_aclose_leaves_one_file(tmp_path: Path) -> None:
    path = tmp_path / "calls.db"
    journal = Journal(SqliteStore(path), now=lambda: AT)
    journal.append_nowait("CA1", said("a"))
    await journal.aclose()
    assert os.listdir(tmp_path) == ["calls.db"]
    assert len(SqliteStore(path).read_call("CA1").entries) == 1
