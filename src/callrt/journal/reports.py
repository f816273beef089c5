"""What the journal tells whoever watches it: frozen facts, one per change, nothing of what was said."""

from __future__ import annotations

import attrs


@attrs.frozen
class JournalDown:
    """Commits fail from now on. Told once, until ``JournalBack``."""

    reason: str


@attrs.frozen
class JournalBack:
    """Commits work again; what was waiting is being written."""

    seconds: float
    waiting: int


@attrs.frozen
class JournalUnreadable:
    """Reads fail from now on, whatever becomes of commits. Told once, until ``JournalReadable``."""

    reason: str


@attrs.frozen
class JournalReadable:
    """Reads work again."""

    seconds: float


@attrs.frozen
class EntriesUnreadable:
    """Some entries of a call cannot be read and were skipped. Told once per call."""

    call_sid: str
    numbers: tuple[int, ...]
    why: str


@attrs.frozen
class WriteRejected:
    """A write that no store will ever take was dropped, so that the others can go on: a mistake of ours."""

    call_sid: str
    kind: str
    why: str


@attrs.frozen
class EntriesLost:
    """The journal was closed while it could not commit: so many write-behind entries are gone."""

    count: int


JournalReport = (
    JournalDown
    | JournalBack
    | JournalUnreadable
    | JournalReadable
    | EntriesUnreadable
    | WriteRejected
    | EntriesLost
)


@attrs.frozen
class Statistics:
    """Counters since the start, and what is held now."""

    waiting: int
    waiting_bytes: int
    committed: int
    commits: int
    failures: int
    dropped: int
    """Write-behind entries refused: the outbox was full, or they were too big."""
    fenced: int
    """Writes refused because their lease was lost."""
    rejected: int
    hook_errors: int
    down: str | None
    """Why commits fail now, if they do."""
