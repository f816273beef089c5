"""Many rows in few statements, and the way back from a call's last entry to its first.

Each step of a statement lets go of the interpreter and has to get it back, from the task that carries the calls'
audio and will not be asked for half a millisecond. So a batch that took a step a row kept both waiting for each other
a hundred times; here all heads are read in one step, and rows are written by dozens.
"""

from __future__ import annotations

import sqlite3
from collections.abc import Iterator, Sequence
from typing import Final

import msgspec

from callrt.journal.lease import Lease
from callrt.journal.store import Head, Row

_AT_ONCE: Final = (64, 8, 1)
"""Rows in one statement. Few sizes, so that each is prepared once."""

_HEADS: Final = (
    "SELECT json_group_array(json_array("
    "call_sid, last_number, ended, lease_epoch, lease_generation, lease_stream_sid, last_entry)),"
    " (SELECT coalesce(max(id), 0) FROM entries)"
    " FROM calls WHERE call_sid IN (SELECT value FROM json_each(?))"
)
_heads: Final = msgspec.json.Decoder(list[tuple[str, int, bool | int, int, int, str, int]])

_CHAIN: Final = """WITH RECURSIVE chain (id, before, number, sealed) AS (
        SELECT id, before, number, sealed FROM entries
        WHERE id = (SELECT last_entry FROM calls WHERE call_sid = ?1) AND call_sid = ?1
    UNION ALL
        SELECT entries.id, entries.before, entries.number, entries.sealed FROM chain
        JOIN entries ON entries.id = chain.before
        WHERE chain.before < chain.id AND entries.call_sid = ?1
    )"""


class Tails:
    """Of the calls of a transaction: their heads, where their last entries are, and where the last of all is."""

    __slots__ = ("heads", "last", "newest")

    def __init__(self, newest: int) -> None:
        self.heads: dict[str, Head] = {}
        self.last: dict[str, int] = {}
        self.newest = newest


def read_tails(connection: sqlite3.Connection, call_sids: Sequence[str]) -> Tails:
    """The head of a call that is known is without ``first_at``, which never changes."""
    found, newest = connection.execute(_HEADS, (msgspec.json.encode(call_sids).decode(),)).fetchone()
    tails = Tails(newest)
    for sid, number, ended, epoch, generation, stream, last in _heads.decode(found):
        tails.heads[sid] = Head(number, 0.0, bool(ended), Lease(epoch, generation, stream))
        tails.last[sid] = last
    for sid in call_sids:
        if sid not in tails.heads:
            number, last = _orphans(connection, sid)
            tails.heads[sid] = Head(last_number=number)
            tails.last[sid] = last
    return tails


def _orphans(connection: sqlite3.Connection, call_sid: str) -> tuple[int, int]:
    """Normally none. Entries without their head are what a repaired file may hold: go on behind them."""
    first = "SELECT 1 FROM entries WHERE call_sid = ? AND number = 1"
    if connection.execute(first, (call_sid,)).fetchone() is None:
        return 0, 0
    newest = "SELECT number, id FROM entries WHERE call_sid = ? ORDER BY number DESC LIMIT 1"
    number, entry = connection.execute(newest, (call_sid,)).fetchone()
    return int(number), int(entry)


def write_rows(connection: sqlite3.Connection, rows: Sequence[Row], tails: Tails) -> None:
    """Behind all others; ``tails`` are afterwards those of the calls with these rows."""
    last = tails.last
    for some in _pieces(len(rows)):
        values: list[object] = []
        for row in rows[some]:
            tails.newest += 1
            sid = row.call_sid
            values += (tails.newest, sid, row.number, row.at, row.kind, row.sealed, last[sid])
            last[sid] = tails.newest
        marks = ", ".join(["(?, ?, ?, ?, ?, ?, ?)"] * (some.stop - some.start))
        connection.execute(f"INSERT INTO entries VALUES {marks}", values)


def write_tails(connection: sqlite3.Connection, tails: Tails) -> None:
    """``first_at`` counts for a new call only."""
    known = [(sid, head) for sid, head in tails.heads.items() if head.last_number]
    for some in _pieces(len(known)):
        values: list[object] = []
        for sid, head in known[some]:
            lease = head.lease
            values += (sid, head.last_number, head.first_at, head.ended)
            values += (lease.epoch, lease.generation, lease.stream_sid, tails.last[sid])
        marks = ", ".join(["(?, ?, ?, ?, ?, ?, ?, ?)"] * (some.stop - some.start))
        connection.execute(
            f"INSERT INTO calls VALUES {marks} ON CONFLICT (call_sid) DO UPDATE SET"
            " last_number = excluded.last_number, ended = excluded.ended, lease_epoch = excluded.lease_epoch,"
            " lease_generation = excluded.lease_generation, lease_stream_sid = excluded.lease_stream_sid,"
            " last_entry = excluded.last_entry",
            values,
        )


def read_chain(connection: sqlite3.Connection, call_sid: str) -> list[tuple[int, bytes]]:
    """Number and sealed bytes of a call's entries, from the first on. If the way back does not lead to as many as
    there should be, or there is no head to begin with, all entries are searched for those of the call."""
    rows = connection.execute(f"{_CHAIN} SELECT number, sealed FROM chain ORDER BY number", (call_sid,))
    chain = rows.fetchall()
    if len(chain) == _number_of(connection, call_sid):
        return chain
    return read_unchained(connection, call_sid)


def read_unchained(connection: sqlite3.Connection, call_sid: str) -> list[tuple[int, bytes]]:
    """The same in a file in which entries do not know the one before, or lost it."""
    which = "SELECT number, sealed FROM entries WHERE call_sid = ? ORDER BY number"
    return connection.execute(which, (call_sid,)).fetchall()


def delete_call(connection: sqlite3.Connection, call_sid: str) -> None:
    """With all of its entries."""
    chain = f"DELETE FROM entries WHERE id IN ({_CHAIN} SELECT id FROM chain)"
    if connection.execute(chain, (call_sid,)).rowcount != _number_of(connection, call_sid):
        connection.execute("DELETE FROM entries WHERE call_sid = ?", (call_sid,))
    connection.execute("DELETE FROM calls WHERE call_sid = ?", (call_sid,))


def _number_of(connection: sqlite3.Connection, call_sid: str) -> int:
    """How many entries there should be."""
    head = connection.execute("SELECT last_number FROM calls WHERE call_sid = ?", (call_sid,)).fetchone()
    return int(head[0]) if head is not None else _orphans(connection, call_sid)[0]


def _pieces(count: int) -> Iterator[slice]:
    at = 0
    for size in _AT_ONCE:
        while count - at >= size:
            yield slice(at, at + size)
            at += size
