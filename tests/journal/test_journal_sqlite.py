"""What the disk does to a SQLite journal, and what it then says."""

from __future__ import annotations

import sqlite3
from pathlib import Path
from typing import Any

import pytest
from journal_helpers import ACCEPTED, ENDED, append, claim, said

from callrt.journal import SqliteStore, StoreFailed, database_path, open_store
from callrt.journal.record import encode_record, seal
from callrt.journal.sqlite_rows import delete_call, read_chain
from callrt.journal.store import Forget, Placed, Touch
from callrt.protocol.records import Record


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / "calls.db"


def lock(path: Path) -> sqlite3.Connection:
    """Another process in the middle of a transaction."""
    other = sqlite3.connect(path, isolation_level=None)
    other.execute("BEGIN IMMEDIATE")
    return other


def flip(path: Path, offset: int) -> None:
    data = bytearray(path.read_bytes())
    for place in range(offset, min(offset + 64, len(data))):
        data[place] ^= 0xFF
    path.write_bytes(bytes(data))


# ---- addresses


@pytest.mark.parametrize(
    ("url", "file"),
    [
        ("sqlite:///callrt.db", "/etc/callrt/callrt.db"),
        ("sqlite:///data/callrt.db", "/etc/callrt/data/callrt.db"),
        ("sqlite:////var/lib/callrt.db", "/var/lib/callrt.db"),
        ("sqlite:///two%20words.db", "/etc/callrt/two words.db"),
    ],
)
def test_url_names_a_file_relative_to_the_configuration(url: str, file: str) -> None:
    assert database_path(url, Path("/etc/callrt")) == Path(file)


@pytest.mark.parametrize(
    "url", ["", "sqlite://", "sqlite:///", "postgres://user:secret@host/db", "callrt.db"]
)
def test_url_that_names_no_file_is_refused_without_its_secrets(url: str) -> None:
    with pytest.raises(ValueError, match="sqlite:///FILE") as caught:
        open_store(url, Path("/etc"))
    assert "secret" not in str(caught.value)


# ---- what is durable, who may look


def test_commit_is_synced_and_in_wal_mode(path: Path) -> None:
    store = SqliteStore(path)
    store.commit([Touch()])
    assert store._writer is not None
    assert store._writer.execute("PRAGMA synchronous").fetchone() == (2,)
    assert store._writer.execute("PRAGMA journal_mode").fetchone() == ("wal",)


def test_reader_sees_what_is_committed_while_the_writer_writes(path: Path) -> None:
    store = SqliteStore(path)
    store.commit([append("CA1", ACCEPTED)])
    other = lock(path)
    other.execute("UPDATE calls SET ended = 1")
    assert SqliteStore(path).list_calls(limit=9, live_only=True) == ["CA1"]
    other.execute("COMMIT")
    assert SqliteStore(path).list_calls(limit=9, live_only=True) == []


def test_reader_writes_nothing(path: Path) -> None:
    SqliteStore(path).read_call("CA1")
    SqliteStore(path).list_calls(limit=1)
    assert not path.exists()
    path.touch()
    assert SqliteStore(path).read_call("CA1").entries == ()
    assert path.stat().st_size == 0


def test_two_stores_on_one_file_number_as_one(path: Path) -> None:
    one, other = SqliteStore(path), SqliteStore(path)
    for turn in range(5):
        assert one.commit([append("CA1", said(f"one {turn}"))]) == [Placed(2 * turn + 1)]
        assert other.commit([append("CA1", said(f"other {turn}"))]) == [Placed(2 * turn + 2)]
    assert len(one.read_call("CA1").entries) == 10


# ---- locked


def test_locked_database_is_busy_and_free_again(path: Path) -> None:
    store = SqliteStore(path, busy_seconds=0.01)
    store.commit([append("CA1", ACCEPTED)])
    other = lock(path)
    with pytest.raises(StoreFailed, match="locked") as caught:
        store.commit([append("CA1", ENDED)])
    assert caught.value.busy
    assert not caught.value.may_have_happened
    assert len(store.read_call("CA1").entries) == 1
    other.execute("ROLLBACK")
    assert store.commit([append("CA1", ENDED)]) == [Placed(2)]


def test_locked_database_can_be_met_at_the_first_opening(path: Path) -> None:
    SqliteStore(path).commit([Touch()])
    other = lock(path)
    store = SqliteStore(path, busy_seconds=0.01)
    with pytest.raises(StoreFailed) as caught:
        store.commit([Touch()])
    assert caught.value.busy
    other.execute("ROLLBACK")
    store.commit([Touch()])


# ---- full


def test_full_disk_refuses_whole_transactions_and_recovers(path: Path) -> None:
    store = SqliteStore(path)
    store.commit([append("CA1", ACCEPTED)])
    store.set_pages_max(20)
    long = "x" * 2_000
    kept = 1

    def fill() -> None:
        nonlocal kept
        for turn in range(100):
            store.commit([append("CA1", said(long, f"i{turn}")), append("CA2", said(long, f"i{turn}"))])
            kept += 1

    with pytest.raises(StoreFailed, match="full") as caught:
        fill()
    assert not caught.value.busy
    assert not caught.value.may_have_happened
    assert kept > 3
    assert len(store.read_call("CA1").entries) == kept
    assert len(store.read_call("CA2").entries) == kept - 1
    store.set_pages_max(2_000)
    assert store.commit([append("CA1", ENDED)]) == [Placed(kept + 1)]


# ---- torn and corrupt


def test_corrupt_row_is_skipped_and_named(path: Path) -> None:
    store = SqliteStore(path)
    store.commit([append("CA1", ACCEPTED), append("CA1", said("a")), append("CA1", ENDED)])
    other = sqlite3.connect(path)
    other.execute("UPDATE entries SET sealed = substr(sealed, 1, 30) WHERE number = 2")
    other.commit()
    reading = store.read_call("CA1")
    assert [entry.number for entry in reading.entries] == [1, 3]
    assert [(error.call_sid, error.number) for error in reading.corrupt] == [("CA1", 2)]


@pytest.mark.parametrize("cut", [1, 100, 4_000])
def test_torn_tail_costs_the_last_transaction_at_most(path: Path, cut: int) -> None:
    store = SqliteStore(path)
    store.commit([append("CA1", ACCEPTED)])
    store.commit([append("CA1", said("a"))])
    before = {name.name: name.read_bytes() for name in path.parent.iterdir()}
    store.commit([append("CA1", said("b"))])
    wal = Path(f"{path}-wal")
    torn = wal.read_bytes()[:-cut]
    assert len(torn) > len(before[wal.name]), "the cut is within the last transaction"
    # As after a loss of power: what a new process finds is the file and the torn log.
    crashed = path.parent / "crashed.db"
    crashed.write_bytes(path.read_bytes())
    Path(f"{crashed}-wal").write_bytes(torn)
    store.close()
    survivor = SqliteStore(crashed)
    assert [entry.number for entry in survivor.read_call("CA1").entries] == [1, 2]
    assert survivor.commit([append("CA1", said("c"))]) == [Placed(3)]


@pytest.mark.parametrize("content", [b"this is no database at all, but quite long" * 50, b"\0" * 8192])
def test_corrupt_file_is_an_error_and_never_overwritten(path: Path, content: bytes) -> None:
    path.write_bytes(content)
    store = SqliteStore(path)
    with pytest.raises(StoreFailed, match="not a database"):
        store.commit([append("CA1", ACCEPTED)])
    with pytest.raises(StoreFailed, match="not a database"):
        store.read_call("CA1")
    assert path.read_bytes() == content


def test_corrupt_page_is_an_error_and_a_mended_file_is_taken_up(path: Path) -> None:
    store = SqliteStore(path)
    for turn in range(50):
        store.commit([append("CA1", said("x" * 1_000, f"i{turn}"))])
    store.close()
    good = path.read_bytes()
    for page in range(4, len(good) // 4096):
        flip(path, page * 4096)
    with pytest.raises(StoreFailed, match="malformed"):
        store.read_call("CA1")
    with pytest.raises(StoreFailed, match="malformed"):
        store.commit([append("CA1", ENDED)])
    path.write_bytes(good)
    assert len(store.read_call("CA1").entries) == 50
    assert store.commit([append("CA1", ENDED)]) == [Placed(51)]


def test_entries_without_their_head_are_continued(path: Path) -> None:
    store = SqliteStore(path)
    store.commit([append("CA1", ACCEPTED), append("CA1", said("a"))])
    other = sqlite3.connect(path)
    other.execute("DELETE FROM calls")
    other.commit()
    assert store.commit([append("CA1", ENDED)]) == [Placed(3)]


def test_entries_without_their_head_are_read(path: Path) -> None:
    store = SqliteStore(path)
    store.commit([append("CA1", ACCEPTED), append("CA1", said("a"))])
    spoil(path, "DELETE FROM calls")
    assert [entry.number for entry in store.read_call("CA1").entries] == [1, 2]


@pytest.mark.parametrize(
    "accident", ["UPDATE entries SET before = 0 WHERE number = 2", "UPDATE entries SET before = id"]
)
def test_entries_that_lost_the_way_back_are_read_and_forgotten_all_the_same(
    path: Path, accident: str
) -> None:
    store = SqliteStore(path)
    for sid in ("CA1", "CA2"):
        store.commit([append(sid, ACCEPTED), append(sid, said("a")), append(sid, ENDED)])
    spoil(path, accident)
    assert [entry.number for entry in store.read_call("CA1").entries] == [1, 2, 3]
    store.commit([Forget(before=2e9, limit=1)])
    assert ask(path, "SELECT DISTINCT call_sid FROM entries") == [("CA2",)]


def test_call_is_read_and_forgotten_without_a_search_through_all_entries(path: Path) -> None:
    store = SqliteStore(path)
    for text in "abc":
        store.commit([append("CA1", said(text)), append("CA2", said(text))])
    connection = sqlite3.connect(path)
    statements: list[str] = []
    connection.set_trace_callback(statements.append)
    assert [number for number, _ in read_chain(connection, "CA1")] == [1, 2, 3]
    delete_call(connection, "CA1")
    assert len(statements) > 2
    for statement in list(statements):
        if statement.startswith(("WITH", "SELECT", "DELETE")):
            plan = connection.execute(f"EXPLAIN QUERY PLAN {statement}").fetchall()
            assert "SCAN entries" not in str(plan)
    connection.close()


def test_way_back_never_leads_into_another_call(path: Path) -> None:
    store = SqliteStore(path)
    store.commit([append("CA1", ACCEPTED), append("CA2", ACCEPTED), append("CA2", said("a"))])
    spoil(path, "UPDATE entries SET before = 1 WHERE call_sid = 'CA2'")
    assert [entry.number for entry in store.read_call("CA2").entries] == [1, 2]
    assert store.read_call("CA2").corrupt == ()


# ---- files of an older callrt


def test_journal_of_the_first_schema_is_read_as_it_is_and_goes_on_in_the_new_one(path: Path) -> None:
    stories = {
        "CA1": [ACCEPTED, said("a"), said("b")],
        "CA2": [ACCEPTED],
        "CA3": [ACCEPTED, said("c"), ENDED],
    }
    first_schema(path, stories)
    store = SqliteStore(path)

    def told() -> dict[str, list[Record]]:
        return {sid: [entry.record for entry in store.read_call(sid).entries] for sid in stories}

    assert told() == stories
    assert ask(path, "SELECT version FROM callrt_schema") == [(1,)], "a reader changes nothing"
    assert sorted(store.list_calls(limit=9, live_only=True)) == ["CA1", "CA2"]
    assert store.commit([append("CA1", said("d")), append("CA4", ACCEPTED)]) == [Placed(4), Placed(1)]
    assert ask(path, "SELECT version FROM callrt_schema") == [(2,)]
    assert told() == {**stories, "CA1": [*stories["CA1"], said("d")]}
    assert sorted(store.list_calls(limit=9, live_only=True)) == ["CA1", "CA2", "CA4"]
    assert ask(path, "SELECT count(*) FROM entries WHERE before = 0 AND number > 1") == [(0,)]


def first_schema(path: Path, stories: dict[str, list[Record]]) -> None:
    """The file that callrt wrote before entries knew the one before."""
    connection = sqlite3.connect(path)
    connection.execute("CREATE TABLE callrt_schema (version INTEGER NOT NULL)")
    connection.execute("INSERT INTO callrt_schema VALUES (1)")
    connection.execute(
        "CREATE TABLE callrt_touch (id INTEGER PRIMARY KEY CHECK (id = 1), count INTEGER NOT NULL)"
    )
    connection.execute("INSERT INTO callrt_touch VALUES (1, 0)")
    connection.execute(
        "CREATE TABLE calls (call_sid TEXT PRIMARY KEY, last_number INTEGER NOT NULL, first_at REAL NOT NULL,"
        " ended INTEGER NOT NULL, lease_epoch INTEGER NOT NULL, lease_generation INTEGER NOT NULL,"
        " lease_stream_sid TEXT NOT NULL) WITHOUT ROWID"
    )
    connection.execute("CREATE INDEX calls_by_start ON calls (first_at)")
    connection.execute("CREATE INDEX calls_live ON calls (first_at) WHERE ended = 0")
    connection.execute(
        "CREATE TABLE entries (call_sid TEXT NOT NULL, number INTEGER NOT NULL, at REAL NOT NULL,"
        " kind TEXT NOT NULL, sealed BLOB NOT NULL, PRIMARY KEY (call_sid, number)) WITHOUT ROWID"
    )
    for sid, records in stories.items():
        for number, record in enumerate(records, 1):
            sealed = seal(sid, number, 1.0, encode_record(record))
            connection.execute("INSERT INTO entries VALUES (?, ?, 1.0, 'x', ?)", (sid, number, sealed))
        connection.execute(
            "INSERT INTO calls VALUES (?, ?, 1.0, ?, 0, 0, '')", (sid, len(records), ENDED in records)
        )
    connection.commit()
    connection.close()


def spoil(path: Path, statement: str) -> None:
    connection = sqlite3.connect(path)
    connection.execute(statement)
    connection.commit()
    connection.close()


def ask(path: Path, question: str) -> list[Any]:
    connection = sqlite3.connect(path)
    try:
        return connection.execute(question).fetchall()
    finally:
        connection.close()


# ---- other people's files


def test_database_of_another_program_is_left_alone(path: Path) -> None:
    other = sqlite3.connect(path)
    other.execute("CREATE TABLE songs (name TEXT)")
    other.commit()
    other.close()
    content = path.read_bytes()
    with pytest.raises(StoreFailed, match="not a callrt journal"):
        SqliteStore(path).read_call("CA1")
    with pytest.raises(StoreFailed, match="not a callrt journal"):
        SqliteStore(path).commit([Touch()])
    tables = sqlite3.connect(path).execute("SELECT name FROM sqlite_master").fetchall()
    assert tables == [("songs",)]
    assert path.read_bytes() == content


def test_schema_of_the_future_is_not_written(path: Path) -> None:
    SqliteStore(path).commit([Touch()])
    other = sqlite3.connect(path)
    other.execute("UPDATE callrt_schema SET version = 3")
    other.commit()
    with pytest.raises(StoreFailed, match="schema 3"):
        SqliteStore(path).commit([claim("CA1", 1)])
    with pytest.raises(StoreFailed, match="schema 3"):
        SqliteStore(path).list_calls(limit=1)


def test_folder_that_does_not_exist_is_an_error(tmp_path: Path) -> None:
    with pytest.raises(StoreFailed, match="unable to open"):
        SqliteStore(tmp_path / "no" / "calls.db").commit([Touch()])
