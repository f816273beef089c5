"""Durable, append-only records per call, committed in groups, fenced by leases. See docs/durability.md."""

from __future__ import annotations

from pathlib import Path

from callrt.journal.errors import (
    CorruptRecord,
    JournalUnavailable,
    LeaseLost,
    Overtaken,
    StoreFailed,
    StreamRefused,
)
from callrt.journal.journal import Journal
from callrt.journal.lease import Lease
from callrt.journal.reports import (
    EntriesLost,
    EntriesUnreadable,
    JournalBack,
    JournalDown,
    JournalReadable,
    JournalReport,
    JournalUnreadable,
    Statistics,
    WriteRejected,
)
from callrt.journal.sqlite import SqliteStore, database_path
from callrt.journal.store import MemoryStore, Peer, Reading, Store
from callrt.journal.writer import Hooks, JournalLimits

__all__ = [
    "CorruptRecord",
    "EntriesLost",
    "EntriesUnreadable",
    "Hooks",
    "Journal",
    "JournalBack",
    "JournalDown",
    "JournalLimits",
    "JournalReadable",
    "JournalReport",
    "JournalUnavailable",
    "JournalUnreadable",
    "Lease",
    "LeaseLost",
    "MemoryStore",
    "Overtaken",
    "Peer",
    "Reading",
    "SqliteStore",
    "Statistics",
    "Store",
    "StoreFailed",
    "StreamRefused",
    "WriteRejected",
    "database_path",
    "open_store",
]


def open_store(url: str, folder: Path) -> Store:
    """The store that ``[journal] url`` names, relative to ``folder``. Opens nothing yet. Raises
    ``ValueError`` with one sentence for a url that names none."""
    return SqliteStore(database_path(url, folder))
