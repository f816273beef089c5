"""The tables of a journal in SQLite, and how a file of an older callrt becomes one of this one.

Entries lie in the order in which they were written, of all calls together, and each knows its call's entry before
it; ``calls`` knows the last one. So a commit writes at the end of one table: with entries in the order of their calls,
each of 150 was on another page, and a commit cost three times as much. A call is read backwards, entry by entry.
"""

from __future__ import annotations

import sqlite3
from typing import Final

from callrt.journal.errors import StoreFailed

SCHEMA_VERSION: Final = 2
CHAINED: Final = 2
"""From this version on, entries know the one before; until then they lay in the order of their calls."""

_ENTRIES: Final = (
    """CREATE TABLE entries (
        id INTEGER PRIMARY KEY,
        call_sid TEXT NOT NULL,
        number INTEGER NOT NULL,
        at REAL NOT NULL,
        kind TEXT NOT NULL,
        sealed BLOB NOT NULL,
        before INTEGER NOT NULL
    )""",
    # Whether anything is known of a call that has no head, in a file that was repaired.
    "CREATE INDEX entries_first ON entries (call_sid) WHERE number = 1",
)

_SCHEMA: Final = (
    "CREATE TABLE callrt_schema (version INTEGER NOT NULL)",
    f"INSERT INTO callrt_schema VALUES ({SCHEMA_VERSION})",
    # One row, rewritten by Touch: a write that needs no room.
    "CREATE TABLE callrt_touch (id INTEGER PRIMARY KEY CHECK (id = 1), count INTEGER NOT NULL)",
    "INSERT INTO callrt_touch VALUES (1, 0)",
    """CREATE TABLE calls (
        call_sid TEXT PRIMARY KEY,
        last_number INTEGER NOT NULL,
        first_at REAL NOT NULL,
        ended INTEGER NOT NULL,
        lease_epoch INTEGER NOT NULL,
        lease_generation INTEGER NOT NULL,
        lease_stream_sid TEXT NOT NULL,
        last_entry INTEGER NOT NULL DEFAULT 0
    ) WITHOUT ROWID""",
    "CREATE INDEX calls_by_start ON calls (first_at)",
    "CREATE INDEX calls_live ON calls (first_at) WHERE ended = 0",
    *_ENTRIES,
)

_TO_CHAINED: Final = (
    "ALTER TABLE entries RENAME TO entries_by_call",
    *_ENTRIES,
    """INSERT INTO entries
        SELECT row_number() OVER calls_in_turn, call_sid, number, at, kind, sealed,
            iif(lag(call_sid) OVER calls_in_turn = call_sid, row_number() OVER calls_in_turn - 1, 0)
        FROM entries_by_call WINDOW calls_in_turn AS (ORDER BY call_sid, number)""",
    "DROP TABLE entries_by_call",
    "ALTER TABLE calls ADD COLUMN last_entry INTEGER NOT NULL DEFAULT 0",
    """UPDATE calls SET last_entry = newest.id
        FROM (SELECT call_sid, max(id) AS id FROM entries GROUP BY call_sid) AS newest
        WHERE newest.call_sid = calls.call_sid""",
    "UPDATE callrt_schema SET version = 2",
)

_PEERS: Final = """CREATE TABLE IF NOT EXISTS callrt_peers (
    name TEXT PRIMARY KEY, beats INTEGER NOT NULL, serving INTEGER NOT NULL
) WITHOUT ROWID"""
"""Added to a file when somebody writes to it: nothing that an older callrt reads has changed."""


def prepare(connection: sqlite3.Connection) -> None:
    """In a transaction of its caller's: make the tables, or bring them up to this version."""
    version = version_of(connection)
    check_version(version)
    if version is None:
        for statement in _SCHEMA:
            connection.execute(statement)
    elif version < CHAINED:
        for statement in _TO_CHAINED:
            connection.execute(statement)
    connection.execute(_PEERS)


def version_of(connection: sqlite3.Connection) -> int | None:
    """The schema's version; None in an empty file. Raises ``StoreFailed`` for another program's."""
    tables = {name for (name,) in connection.execute("SELECT name FROM sqlite_master WHERE type = 'table'")}
    if not tables:
        return None
    if "callrt_schema" not in tables:
        raise StoreFailed("the file is a database, but not a callrt journal")
    row = connection.execute("SELECT max(version) FROM callrt_schema").fetchone()
    return int(row[0])


def has_table(connection: sqlite3.Connection, name: str) -> bool:
    found = connection.execute("SELECT 1 FROM sqlite_master WHERE type = 'table' AND name = ?", (name,))
    return found.fetchone() is not None


def check_version(version: int | None) -> None:
    """Raises ``StoreFailed`` for a version of the future."""
    if version is not None and version > SCHEMA_VERSION:
        raise StoreFailed(f"the journal has schema {version}, this callrt knows up to {SCHEMA_VERSION}")
