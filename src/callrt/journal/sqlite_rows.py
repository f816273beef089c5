"""Many rows in few statements.

Each step of a statement lets go of the interpreter and has to get it back, from the task that carries the calls'
audio and will not be asked for half a millisecond. So a batch that took a step a row kept both waiting for each other
a hundred times; here all heads are read in one step, and rows are written by dozens.
"""

from __future__ import annotations

import sqlite3
from collections.abc import Iterator, Mapping, Sequence
from typing import Final

import msgspec

from callrt.journal.lease import Lease
from callrt.journal.store import Head, Row

_AT_ONCE: Final = (64, 8, 1)
"""Rows in one statement. Few sizes, so that each is prepared once."""

_HEADS: Final = (
    "SELECT json_group_array(json_array("
    "call_sid, last_number, ended, lease_epoch, lease_generation, lease_stream_sid))"
    " FROM calls WHERE call_sid IN (SELECT value FROM json_each(?))"
)
_heads: Final = msgspec.json.Decoder(list[tuple[str, int, bool | int, int, int, str]])


def read_heads(connection: sqlite3.Connection, call_sids: Sequence[str]) -> dict[str, Head]:
    """The heads of these calls; of a call that is known, without ``first_at``, which never changes."""
    [found] = connection.execute(_HEADS, (msgspec.json.encode(call_sids).decode(),)).fetchone()
    heads = {
        sid: Head(number, 0.0, bool(ended), Lease(epoch, generation, stream))
        for sid, number, ended, epoch, generation, stream in _heads.decode(found)
    }
    for sid in call_sids:
        if sid not in heads:
            # Normally 0. Entries without their head are what a repaired file may hold: go on behind them.
            newest = "SELECT coalesce(max(number), 0) FROM entries WHERE call_sid = ?"
            heads[sid] = Head(last_number=int(connection.execute(newest, (sid,)).fetchone()[0]))
    return heads


def write_rows(connection: sqlite3.Connection, rows: Sequence[Row]) -> None:
    for some in _pieces(len(rows)):
        values = ", ".join(["(?, ?, ?, ?, ?)"] * (some.stop - some.start))
        connection.execute(
            f"INSERT INTO entries (call_sid, number, at, kind, sealed) VALUES {values}",
            [
                value
                for row in rows[some]
                for value in (row.call_sid, row.number, row.at, row.kind, row.sealed)
            ],
        )


def write_heads(connection: sqlite3.Connection, heads: Mapping[str, Head]) -> None:
    """``first_at`` counts for a new call only."""
    known = [(sid, head) for sid, head in heads.items() if head.last_number]
    for some in _pieces(len(known)):
        values = ", ".join(["(?, ?, ?, ?, ?, ?, ?)"] * (some.stop - some.start))
        connection.execute(
            f"INSERT INTO calls VALUES {values} ON CONFLICT (call_sid) DO UPDATE SET"
            " last_number = excluded.last_number, ended = excluded.ended, lease_epoch = excluded.lease_epoch,"
            " lease_generation = excluded.lease_generation, lease_stream_sid = excluded.lease_stream_sid",
            [
                value
                for sid, head in known[some]
                for value in (
                    sid,
                    head.last_number,
                    head.first_at,
                    head.ended,
                    head.lease.epoch,
                    head.lease.generation,
                    head.lease.stream_sid,
                )
            ],
        )


def _pieces(count: int) -> Iterator[slice]:
    at = 0
    for size in _AT_ONCE:
        while count - at >= size:
            yield slice(at, at + size)
            at += size
