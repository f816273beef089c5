"""Laws of every store; a store for another database is added to ``STORES`` and passes the same."""

from __future__ import annotations

from pathlib import Path

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from journal_helpers import ACCEPTED, ENDED, append, claim, said

from callrt.journal import LeaseLost, MemoryStore, SqliteStore, Store, StreamRefused
from callrt.journal.lease import Lease
from callrt.journal.store import Placed, Touch, Write
from callrt.protocol.records import StreamAttached

STORES = ("memory", "sqlite")


def make(kind: str, folder: Path) -> Store:
    return MemoryStore() if kind == "memory" else SqliteStore(folder / "calls.db")


@pytest.fixture(params=STORES)
def store(request: pytest.FixtureRequest, tmp_path: Path) -> Store:
    return make(request.param, tmp_path)


def test_store_numbers_each_call_from_one(store: Store) -> None:
    writes = [append("CA1", ACCEPTED), append("CA2", ACCEPTED), append("CA1", said("a"))]
    assert store.commit(writes) == [Placed(1), Placed(1), Placed(2)]
    assert store.commit([append("CA1", said("b"))]) == [Placed(3)]
    assert [entry.number for entry in store.read_call("CA1").entries] == [1, 2, 3]
    assert [entry.record for entry in store.read_call("CA1").entries] == [ACCEPTED, said("a"), said("b")]


def test_store_knows_nothing_of_calls_it_never_saw(store: Store) -> None:
    assert store.read_call("CA1").entries == ()
    assert store.list_calls(limit=10) == []
    assert store.read_leases(["CA1"]) == {}


def test_store_lists_newest_first_and_live_ones_only_if_asked(store: Store) -> None:
    for number in (1, 3, 2):
        store.commit([append(f"CA{number}", ACCEPTED, at=float(number))])
    store.commit([append("CA3", ENDED, at=9.0)])
    assert store.list_calls(limit=10) == ["CA3", "CA2", "CA1"]
    assert store.list_calls(limit=10, live_only=True) == ["CA2", "CA1"]
    assert store.list_calls(limit=1) == ["CA3"]


def test_store_keeps_a_call_ended_whatever_follows(store: Store) -> None:
    store.commit([append("CA1", ACCEPTED), append("CA1", ENDED), append("CA1", said("late"))])
    assert store.list_calls(limit=10, live_only=True) == []


def test_claim_appends_the_stream_with_its_lease(store: Store) -> None:
    assert store.commit([append("CA1", ACCEPTED), claim("CA1", 1)]) == [Placed(1), Placed(2, 1)]
    assert store.read_call("CA1").entries[1].record == StreamAttached(
        stream_sid="MZ1", generation=1, lease_epoch=1
    )
    assert store.read_leases(["CA1"])["CA1"] == Lease(1, 1, "MZ1")


def test_lease_that_was_lost_writes_nothing_more(store: Store) -> None:
    store.commit([claim("CA1", 1), claim("CA1", 2)])
    outcomes = store.commit(
        [append("CA1", said("old"), epoch=1), append("CA1", said("new"), epoch=2), append("CA1", ENDED)]
    )
    assert isinstance(outcomes[0], LeaseLost)
    assert (outcomes[0].epoch, outcomes[0].newer) == (1, 2)
    assert outcomes[1:] == [Placed(3), Placed(4)]
    assert said("old") not in [entry.record for entry in store.read_call("CA1").entries]


def test_lease_lost_within_the_same_transaction_counts(store: Store) -> None:
    outcomes = store.commit([claim("CA1", 1), claim("CA1", 2), append("CA1", said("old"), epoch=1)])
    assert isinstance(outcomes[2], LeaseLost)


@pytest.mark.parametrize("generation", [1, 2])
def test_claim_of_a_generation_already_attached_is_refused(store: Store, generation: int) -> None:
    store.commit([claim("CA1", 2)])
    (refused,) = store.commit([claim("CA1", generation, "MZother")])
    assert isinstance(refused, StreamRefused)
    assert store.read_leases(["CA1"])["CA1"] == Lease(1, 2, "MZ2")
    assert len(store.read_call("CA1").entries) == 1


def test_claim_may_be_repeated_by_the_same_stream(store: Store) -> None:
    store.commit([claim("CA1", 1)])
    assert store.commit([claim("CA1", 1)]) == [Placed(2, 2)]


def test_lease_of_a_lost_past_counts_again(store: Store) -> None:
    """The holder has epoch 5, the store was put back to before: the call is not cut off for that."""
    assert store.commit([append("CA1", said("a"), epoch=5)]) == [Placed(1)]
    assert store.read_leases(["CA1"])["CA1"].epoch == 5
    assert isinstance(store.commit([append("CA1", said("b"), epoch=4)])[0], LeaseLost)


def test_touch_leaves_no_entry(store: Store) -> None:
    assert store.commit([Touch(), append("CA1", ACCEPTED), Touch()]) == [Placed(0), Placed(1), Placed(0)]
    assert store.list_calls(limit=10) == ["CA1"]


def test_closed_store_opens_again(store: Store) -> None:
    store.commit([append("CA1", ACCEPTED)])
    store.close()
    store.close()
    assert store.commit([append("CA1", ENDED)]) == [Placed(2)]


WRITES = st.one_of(
    st.builds(
        append,
        st.sampled_from(["CA1", "CA2"]),
        st.sampled_from([ACCEPTED, ENDED, said("a")]),
        st.none() | st.integers(1, 4),
    ),
    st.builds(claim, st.sampled_from(["CA1", "CA2"]), st.integers(1, 4), st.sampled_from(["MZa", "MZb"])),
    st.just(Touch()),
)


@settings(max_examples=40, suppress_health_check=[HealthCheck.function_scoped_fixture], deadline=None)
@given(batches=st.lists(st.lists(WRITES, max_size=6), max_size=5))
def test_stores_agree_however_writes_are_batched(
    batches: list[list[Write]], tmp_path_factory: pytest.TempPathFactory
) -> None:
    memory, sqlite = MemoryStore(), SqliteStore(tmp_path_factory.mktemp("agree") / "calls.db")
    one_by_one = MemoryStore()
    for batch in batches:
        told = [repr(outcome) for outcome in memory.commit(batch)]
        assert told == [repr(outcome) for outcome in sqlite.commit(batch)]
        assert told == [repr(one_by_one.commit([write])[0]) for write in batch]
    sqlite.close()
    for call_sid in ("CA1", "CA2"):
        assert memory.read_call(call_sid) == sqlite.read_call(call_sid) == one_by_one.read_call(call_sid)
        assert memory.read_leases([call_sid]) == sqlite.read_leases([call_sid])
        numbers = [entry.number for entry in memory.read_call(call_sid).entries]
        assert numbers == list(range(1, len(numbers) + 1))
    for live_only in (False, True):
        assert memory.list_calls(limit=9, live_only=live_only) == sqlite.list_calls(
            limit=9, live_only=live_only
        )
