"""Laws of the journal, in virtual time and without threads: the store is the one of the simulations."""

from __future__ import annotations

import pytest
import trio
from journal_helpers import ACCEPTED, AT, ENDED, PickyStore, Witness, busy, full, running, said
from trio.testing import MockClock

from callrt.journal import (
    EntriesLost,
    EntriesUnreadable,
    Hooks,
    Journal,
    JournalBack,
    JournalDown,
    JournalLimits,
    JournalUnavailable,
    LeaseLost,
    MemoryStore,
    StreamRefused,
    WriteRejected,
)
from callrt.journal.record import RECORD_BYTES_MAX
from callrt.protocol.records import StreamAttached, ToolIntended

INTENDED = ToolIntended(call_id="t", name="book", arguments="{}", idempotency_key="k", side_effects=True)


def texts(store: MemoryStore, call_sid: str = "CA1") -> list[str]:
    return [getattr(entry.record, "text", "-") for entry in store.read_call(call_sid).entries]


# ---- the two classes


async def test_must_commit_returns_after_the_commit(autojump_clock: MockClock) -> None:
    store = MemoryStore()
    async with running(store) as journal:
        await journal.append("CA1", ACCEPTED)
        assert [entry.record for entry in store.read_call("CA1").entries] == [ACCEPTED]
        assert store.read_call("CA1").entries[0].at == AT


async def test_write_behind_is_committed_within_its_time_in_one_transaction(
    autojump_clock: MockClock,
) -> None:
    store, witness = MemoryStore(), Witness()
    async with running(store, hooks=witness.hooks()) as journal:
        for turn in range(5):
            assert journal.append_nowait("CA1", said(f"{turn}"))
            await trio.sleep(0.015)
        assert texts(store) == []
        await trio.sleep(0.04)
        assert texts(store) == ["0", "1", "2", "3", "4"]
        assert witness.commits == [5]


async def test_must_commit_takes_along_what_waited_before_it(autojump_clock: MockClock) -> None:
    store = MemoryStore()
    async with running(store) as journal:
        journal.append_nowait("CA1", said("a"))
        await journal.append("CA1", INTENDED)
        assert texts(store) == ["a", "-"]
        assert store.commits == 1


async def test_must_commits_at_the_same_time_share_a_transaction(autojump_clock: MockClock) -> None:
    store = MemoryStore()
    async with running(store) as journal:
        async with trio.open_nursery() as nursery:
            for turn in range(50):
                nursery.start_soon(journal.append, f"CA{turn}", ACCEPTED)
        assert store.commits == 1


async def test_order_within_a_call_is_the_order_of_appending(autojump_clock: MockClock) -> None:
    store = MemoryStore()
    async with running(store, limits=JournalLimits(batch_max=3)) as journal:
        for turn in range(20):
            journal.append_nowait("CA1", said(f"{turn}"))
        await journal.ping()
        assert texts(store) == [f"{turn}" for turn in range(20)]


async def test_idle_journal_writes_nothing(autojump_clock: MockClock) -> None:
    store = MemoryStore()
    async with running(store):
        await trio.sleep(3600)
    assert store.commits == 0


# ---- leases


async def test_attach_claims_the_next_epoch(autojump_clock: MockClock) -> None:
    store = MemoryStore()
    async with running(store) as journal:
        assert await journal.attach("CA1", "MZ1", 1) == 1
        assert await journal.holds("CA1", 1)
        assert await journal.attach("CA1", "MZ2", 2) == 2
        assert not await journal.holds("CA1", 1)
        assert await journal.holds("CA1", 2)
        assert store.read_call("CA1").entries[1].record == StreamAttached(
            stream_sid="MZ2", generation=2, lease_epoch=2
        )


async def test_lease_lost_fails_the_must_commit_of_the_loser(autojump_clock: MockClock) -> None:
    store, witness = MemoryStore(), Witness()
    async with running(store, hooks=witness.hooks()) as journal, running(store) as other:
        epoch = await journal.attach("CA1", "MZ1", 1)
        await other.attach("CA1", "MZ2", 2)
        with pytest.raises(LeaseLost) as caught:
            await journal.append("CA1", INTENDED, epoch=epoch)
        assert (caught.value.epoch, caught.value.newer) == (1, 2)
        assert witness.lost == [("CA1", 1)]


async def test_lease_lost_drops_the_write_behind_of_the_loser_and_tells_once(
    autojump_clock: MockClock,
) -> None:
    store, witness = MemoryStore(), Witness()
    async with running(store, hooks=witness.hooks()) as journal, running(store) as other:
        epoch = await journal.attach("CA1", "MZ1", 1)
        journal.append_nowait("CA1", said("mine"), epoch=epoch)
        journal.append_nowait("CA1", said("mine too"), epoch=epoch)
        await other.attach("CA1", "MZ2", 2)
        await trio.sleep(1)
        assert "mine" not in texts(store)
        assert witness.lost == [("CA1", 1)]
        assert journal.statistics().fenced == 2


async def test_attach_of_an_older_generation_is_refused(autojump_clock: MockClock) -> None:
    async with running(MemoryStore()) as journal:
        await journal.attach("CA1", "MZ2", 2)
        with pytest.raises(StreamRefused):
            await journal.attach("CA1", "MZ1", 1)
        with pytest.raises(StreamRefused):
            await journal.attach("CA1", "MZother", 2)


# ---- reading


async def test_read_knows_what_is_not_committed_yet(autojump_clock: MockClock) -> None:
    store = MemoryStore()
    async with running(store) as journal:
        await journal.append("CA1", ACCEPTED)
        journal.append_nowait("CA1", said("a"))
        state = await journal.read("CA1")
        assert state is not None
        assert [line.text for line in state.lines] == ["a"]
        assert state.last_number == 2
        assert texts(store) == ["-"]


async def test_read_does_not_know_a_lost_must_commit(autojump_clock: MockClock) -> None:
    store = MemoryStore()
    async with running(store) as journal:
        await journal.append("CA1", ACCEPTED)
        store.fault = full()
        with pytest.raises(JournalUnavailable):
            await journal.append("CA1", INTENDED)
        store.fault = None
        state = await journal.read("CA1")
        assert state is not None
        assert state.tools == ()


async def test_read_of_an_unknown_call_is_none(autojump_clock: MockClock) -> None:
    async with running(MemoryStore()) as journal:
        assert await journal.read("CA1") is None


async def test_read_needs_no_writer(autojump_clock: MockClock) -> None:
    store = MemoryStore()
    async with running(store) as journal:
        await journal.append("CA1", ACCEPTED)
    state = await Journal(store, now=lambda: AT, threads=False).read("CA1")
    assert state is not None
    assert state.agent == "front-desk"


async def test_read_skips_what_is_corrupt_and_reports_it_once(autojump_clock: MockClock) -> None:
    store, witness = MemoryStore(), Witness()
    async with running(store, hooks=witness.hooks()) as journal:
        for record in (ACCEPTED, said("a"), said("b")):
            await journal.append("CA1", record)
        store.rot("CA1", 2)
        for _ in range(3):
            state = await journal.read("CA1")
            assert state is not None
            assert [line.text for line in state.lines] == ["b"]
            assert state.missing == 1
        assert witness.reports == [EntriesUnreadable("CA1", (2,), "checksum does not fit")]


async def test_live_calls_are_those_without_an_end_oldest_first(autojump_clock: MockClock) -> None:
    async with running(MemoryStore()) as journal:
        for call_sid in ("CA1", "CA2", "CA3"):
            await journal.append(call_sid, ACCEPTED)
        await journal.append("CA2", ENDED)
        journal.append_nowait("CA3", ENDED)
        assert [state.call_sid for state in await journal.live_calls()] == ["CA1"]


# ---- a store that fails


async def test_failing_store_is_told_at_once_to_those_who_wait(autojump_clock: MockClock) -> None:
    store = MemoryStore()
    store.fault = full()
    async with running(store) as journal:
        with pytest.raises(JournalUnavailable, match="full") as caught:
            await journal.append("CA1", ACCEPTED)
        assert not caught.value.may_have_happened
        assert trio.current_time() == 0
        with pytest.raises(JournalUnavailable):
            await journal.ping()
        with pytest.raises(JournalUnavailable):
            await journal.read("CA1")


async def test_failing_store_costs_no_write_behind_and_is_reported_once(autojump_clock: MockClock) -> None:
    store, witness = MemoryStore(), Witness()
    async with running(store, hooks=witness.hooks()) as journal:
        await journal.ping()
        store.fault = full()
        for turn in range(100):
            assert journal.append_nowait("CA1", said(f"{turn}"))
            await trio.sleep(0.1)
        assert witness.reports == [JournalDown("database or disk is full")]
        assert journal.statistics().down == "database or disk is full"
        store.fault = None
        await trio.sleep(2.5)
        assert texts(store) == [f"{turn}" for turn in range(100)]
        (_, back) = witness.reports
        assert isinstance(back, JournalBack)
        assert 9 < back.seconds < 13
        assert journal.statistics().down is None


async def test_failing_store_is_not_hammered(autojump_clock: MockClock) -> None:
    store = MemoryStore()
    store.fault = full()
    async with running(store) as journal:
        journal.append_nowait("CA1", said("a"))
        await trio.sleep(60)
        assert journal.statistics().failures <= 35


async def test_failure_that_passed_is_over_for_the_next_must_commit(autojump_clock: MockClock) -> None:
    store = MemoryStore()
    store.fault = full()
    async with running(store) as journal:
        with pytest.raises(JournalUnavailable):
            await journal.append("CA1", ACCEPTED)
        store.fault = None
        await journal.append("CA1", ACCEPTED)
        assert trio.current_time() == 0


async def test_busy_store_is_tried_again_until_the_timeout(autojump_clock: MockClock) -> None:
    store = MemoryStore()
    store.fault = busy()
    async with running(store) as journal, trio.open_nursery() as nursery:

        async def release() -> None:
            await trio.sleep(1)
            store.fault = None

        nursery.start_soon(release)
        await journal.append("CA1", ACCEPTED)
        assert 1 <= trio.current_time() <= 2


async def test_busy_store_gives_up_after_the_timeout_and_writes_it_never(autojump_clock: MockClock) -> None:
    store = MemoryStore()
    store.fault = busy()
    async with running(store) as journal:
        with pytest.raises(JournalUnavailable, match="locked") as caught:
            await journal.append("CA1", ACCEPTED)
        assert trio.current_time() == 2
        assert not caught.value.may_have_happened
        store.fault = None
        await journal.ping()
        assert texts(store) == []


async def test_cancelled_append_that_was_not_begun_never_happens(autojump_clock: MockClock) -> None:
    store = MemoryStore()
    journal = Journal(store, now=lambda: AT, threads=False)
    with trio.move_on_after(0.5):
        await journal.append("CA1", ACCEPTED)
    async with trio.open_nursery() as nursery:
        await nursery.start(journal.run, None)
        await journal.ping()
        nursery.cancel_scope.cancel()
    assert texts(store) == []


async def test_write_that_no_store_takes_is_dropped_alone(autojump_clock: MockClock) -> None:
    store, witness = PickyStore("caller_said"), Witness()
    async with running(store, hooks=witness.hooks()) as journal:
        journal.append_nowait("CA1", ACCEPTED)
        journal.append_nowait("CA1", said("poison"))
        journal.append_nowait("CA2", ACCEPTED)
        await journal.append("CA1", ENDED)
        assert [entry.record for entry in store.read_call("CA1").entries] == [ACCEPTED, ENDED]
        assert len(store.read_call("CA2").entries) == 1
        assert witness.reports == [WriteRejected("CA1", "caller_said", "TypeError")]
        with pytest.raises(JournalUnavailable, match="rejected"):
            await journal.append("CA1", said("poison"))
        assert journal.statistics().rejected == 2


# ---- bounds


async def test_outbox_that_is_full_refuses_the_newest_and_counts(autojump_clock: MockClock) -> None:
    store = MemoryStore()
    store.fault = full()
    async with running(store, limits=JournalLimits(entries_max=10)) as journal:
        kept = [journal.append_nowait("CA1", said(f"{turn}")) for turn in range(13)]
        assert kept == [True] * 10 + [False] * 3
        assert journal.statistics().dropped == 3
        store.fault = None
        await journal.append("CA1", ENDED)
        assert texts(store) == [f"{turn}" for turn in range(10)] + ["-"]


async def test_must_commits_that_wait_are_bounded(autojump_clock: MockClock) -> None:
    store = MemoryStore()
    store.fault = busy()
    async with running(store, limits=JournalLimits(must_commit_max=5)) as journal:
        refused = 0

        async def try_one() -> None:
            nonlocal refused
            with pytest.raises(JournalUnavailable):
                await journal.append("CA1", ACCEPTED)
            refused += trio.current_time() == 0

        async with trio.open_nursery() as nursery:
            for _ in range(8):
                nursery.start_soon(try_one)
        assert refused == 3


async def test_record_that_is_too_big_is_refused(autojump_clock: MockClock) -> None:
    async with running(MemoryStore()) as journal:
        assert not journal.append_nowait("CA1", said("x" * RECORD_BYTES_MAX))
        with pytest.raises(ValueError, match="caller_said record of"):
            await journal.append("CA1", said("x" * RECORD_BYTES_MAX))
        assert journal.statistics().dropped == 1


@pytest.mark.parametrize("call_sid", ["", "x" * 129, "CA\n1", "CA\ud800", "CA\0"])
async def test_call_sid_that_is_none_is_our_mistake(call_sid: str, autojump_clock: MockClock) -> None:
    async with running(MemoryStore()) as journal:
        with pytest.raises(ValueError, match="call sid"):
            journal.append_nowait(call_sid, ACCEPTED)
        with pytest.raises(ValueError, match="call sid"):
            await journal.read(call_sid)


# ---- restarts and the end


async def test_restarted_task_finds_what_waits(autojump_clock: MockClock) -> None:
    store = MemoryStore()
    journal = Journal(store, now=lambda: AT, threads=False)
    for turn in range(3):
        journal.append_nowait("CA1", said(f"{turn}"))
        async with trio.open_nursery() as nursery:
            await nursery.start(journal.run, None)
            nursery.cancel_scope.cancel()
    assert texts(store) == []
    async with trio.open_nursery() as nursery:
        await nursery.start(journal.run, None)
        await trio.sleep(0.3)
        nursery.cancel_scope.cancel()
    assert texts(store) == ["0", "1", "2"]


async def test_task_runs_once_at_a_time(autojump_clock: MockClock) -> None:
    async with running(MemoryStore()) as journal:
        with pytest.raises(RuntimeError):
            await journal.run()


async def test_aclose_commits_what_waits_and_takes_no_more(autojump_clock: MockClock) -> None:
    store = MemoryStore()
    journal = Journal(store, now=lambda: AT, threads=False)
    journal.append_nowait("CA1", said("a"))
    await journal.aclose()
    await journal.aclose()
    assert texts(store) == ["a"]
    assert not journal.append_nowait("CA1", said("b"))
    with pytest.raises(JournalUnavailable, match="closed"):
        await journal.append("CA1", ENDED)


async def test_aclose_ends_the_task(autojump_clock: MockClock) -> None:
    store = MemoryStore()
    journal = Journal(store, now=lambda: AT, threads=False)
    async with trio.open_nursery() as nursery:
        await nursery.start(journal.run, None)
        journal.append_nowait("CA1", said("a"))
        await journal.aclose()
    assert texts(store) == ["a"]


async def test_aclose_gives_up_on_a_broken_store_and_says_what_is_lost(autojump_clock: MockClock) -> None:
    store, witness = MemoryStore(), Witness()
    store.fault = full()
    journal = Journal(store, now=lambda: AT, threads=False, hooks=witness.hooks())
    journal.append_nowait("CA1", said("a"))
    await journal.aclose()
    assert trio.current_time() == 5
    assert witness.reports == [JournalDown("database or disk is full"), EntriesLost(1)]


async def test_hooks_that_raise_are_counted_and_harm_nothing(autojump_clock: MockClock) -> None:
    def broken(*facts: object) -> None:
        raise LookupError("mistake in a hook")

    store = MemoryStore()
    async with running(store, hooks=Hooks(broken, broken, broken)) as journal:
        await journal.append("CA1", ACCEPTED)
        await journal.append("CA1", ENDED)
        assert journal.statistics().hook_errors == 2
        assert journal.statistics().committed == 2
