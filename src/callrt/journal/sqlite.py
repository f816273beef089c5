"""The embedded store: one SQLite file, in WAL mode, synced at each commit.

One connection writes, opened at the first commit and again after an error that it may not survive (a full
disk needs no new one, a broken or replaced file does). Each read has its own read-only connection, so that
``callrt calls`` and a second process see what is committed while the service writes, and never hold it up.
Several processes may share one file on one machine: SQLite orders their transactions, leases do the rest.
"""

from __future__ import annotations

import sqlite3
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Final
from urllib.parse import quote, unquote

from callrt.journal.errors import StoreFailed
from callrt.journal.lease import Lease
from callrt.journal.presence import Presence
from callrt.journal.sqlite_rows import (
    delete_call,
    read_chain,
    read_tails,
    read_unchained,
    write_rows,
    write_tails,
)
from callrt.journal.sqlite_schema import CHAINED, check_version, has_table, prepare, version_of
from callrt.journal.store import (
    Append,
    Beat,
    Claim,
    Forget,
    Outcome,
    Peer,
    Placed,
    Reading,
    Row,
    Seize,
    Touch,
    Write,
    place,
    unseal_all,
)

BUSY_SECONDS: Final = 0.5
"""How long a commit waits for another process's transaction. Ours take a few milliseconds."""
LEASES_AT_ONCE: Final = 500
"""In one statement: SQLite takes a bounded number of parameters."""
WAL_BYTES_MAX: Final = 16 * 1024 * 1024
"""The log is cut back to this after a checkpoint; a burst may have made it longer."""
CACHE_KIB: Final = 512
"""Of the writer's pages: it writes at the end of the file, and what it has to look at there is little."""

_SURVIVABLE: Final = frozenset({sqlite3.SQLITE_BUSY, sqlite3.SQLITE_LOCKED, sqlite3.SQLITE_FULL})
_BUSY: Final = frozenset({sqlite3.SQLITE_BUSY, sqlite3.SQLITE_LOCKED})


def database_path(url: str, folder: Path) -> Path:
    """The file that ``sqlite:///callrt.db`` (relative to ``folder``) or ``sqlite:////var/lib/callrt.db``
    (four slashes: absolute) names. Raises ``ValueError`` with one sentence."""
    prefix = "sqlite:///"
    name = unquote(url.removeprefix(prefix))
    if not url.startswith(prefix) or not name.strip("/") or "\0" in name:
        raise ValueError(f"journal.url must be sqlite:///FILE, not {url.partition(':')[0]}:…")
    return folder / name


class SqliteStore:
    """See ``Store``. Nothing is opened before it is needed, so that a broken file breaks no start."""

    def __init__(
        self, path: Path, *, busy_seconds: float = BUSY_SECONDS, pages_max: int | None = None
    ) -> None:
        self.path = path
        self._busy_seconds = busy_seconds
        self._pages_max = pages_max
        """A quota: the file grows to this many pages (of 4 kB) and no further. None: as far as the disk."""
        self._writer: sqlite3.Connection | None = None
        self._reopen = False
        self._presence = Presence(path)

    # ---- writing

    def commit(self, writes: Sequence[Write]) -> list[Outcome]:
        committing = False
        self._attest(writes)
        if self._reopen:
            self._reopen = False
            self._abandon(keep=False)
        try:
            connection = self._writer if self._writer is not None else self._open()
            connection.execute("BEGIN IMMEDIATE")
            outcomes = _write_all(connection, writes)
            committing = True
            connection.execute("COMMIT")
        except sqlite3.Error as error:
            code = _code(error)
            self._abandon(keep=code in _SURVIVABLE)
            unknown = committing and code not in _SURVIVABLE
            raise _failed(error, may_have_happened=unknown) from error
        except BaseException:
            self._abandon(keep=True)
            raise
        return outcomes

    def _attest(self, writes: Sequence[Write]) -> None:
        """Before the disk is asked for anything: what proves that we live must not depend on its room."""
        for write in writes:
            if isinstance(write, Beat):
                self._presence.attest(write.process)
                for name in write.forget:
                    self._presence.forget(name)

    def close(self) -> None:
        self._presence.close()
        connection, self._writer = self._writer, None
        if connection is not None:
            try:
                connection.close()
            except sqlite3.Error as error:
                raise _failed(error) from error

    def set_pages_max(self, pages_max: int | None) -> None:
        """Change the quota from the next commit on. May be called by any thread."""
        self._pages_max = pages_max
        self._reopen = True

    def _open(self) -> sqlite3.Connection:
        connection = sqlite3.connect(
            self.path, timeout=self._busy_seconds, isolation_level=None, check_same_thread=False
        )
        try:
            check_version(version_of(connection))  # before the pragmas, which would change a file not ours
            connection.execute("PRAGMA journal_mode = WAL")
            connection.execute(f"PRAGMA cache_size = -{CACHE_KIB}")
            connection.execute("PRAGMA synchronous = FULL")
            connection.execute("PRAGMA secure_delete = ON")  # a caller's words that are forgotten are gone
            connection.execute(f"PRAGMA journal_size_limit = {WAL_BYTES_MAX}")
            if self._pages_max is not None:
                connection.execute(f"PRAGMA max_page_count = {self._pages_max}")
            connection.execute("BEGIN IMMEDIATE")
            prepare(connection)
            connection.execute("COMMIT")
        except BaseException:
            connection.close()
            raise
        self._writer = connection
        return connection

    def _abandon(self, *, keep: bool) -> None:
        """Leave no transaction open; without ``keep``, or if that fails, leave no connection either."""
        connection = self._writer
        if connection is None:
            return
        try:
            if connection.in_transaction:
                connection.execute("ROLLBACK")
            if keep:
                return
        except sqlite3.Error:
            pass  # then it is closed, which rolls back
        self._writer = None
        try:
            connection.close()
        except sqlite3.Error:
            pass  # a connection that cannot be closed is out of use all the same

    # ---- reading

    def read_call(self, call_sid: str) -> Reading:
        with self._reader() as connection:
            if connection is None:
                return Reading()
            chained = (version_of(connection) or 0) >= CHAINED  # a reader changes no file
            rows = (read_chain if chained else read_unchained)(connection, call_sid)
        return unseal_all(call_sid, rows)

    def read_leases(self, call_sids: Sequence[str]) -> dict[str, Lease]:
        found: dict[str, Lease] = {}
        with self._reader() as connection:
            for at in range(0, len(call_sids) if connection is not None else 0, LEASES_AT_ONCE):
                assert connection is not None
                some = call_sids[at : at + LEASES_AT_ONCE]
                rows = connection.execute(
                    "SELECT call_sid, lease_epoch, lease_generation, lease_stream_sid FROM calls"
                    f" WHERE call_sid IN ({','.join('?' * len(some))})",
                    some,
                )
                found |= {sid: Lease(epoch, generation, stream) for sid, epoch, generation, stream in rows}
        return found

    def list_calls(self, *, limit: int, live_only: bool = False) -> list[str]:
        which = "WHERE ended = 0" if live_only else ""
        with self._reader() as connection:
            if connection is None:
                return []
            rows = connection.execute(
                f"SELECT call_sid FROM calls {which} ORDER BY first_at DESC, call_sid DESC LIMIT ?", (limit,)
            ).fetchall()
        return [call_sid for (call_sid,) in rows]

    def list_live(self, *, limit: int) -> list[tuple[str, int, float]]:
        with self._reader() as connection:
            if connection is None:
                return []
            return connection.execute(
                "SELECT call_sid, last_number, first_at FROM calls WHERE ended = 0"
                " ORDER BY first_at, call_sid LIMIT ?",
                (limit,),
            ).fetchall()

    def list_peers(self) -> list[Peer]:
        with self._reader() as connection:
            if connection is None or not has_table(connection, "callrt_peers"):
                return []
            rows = connection.execute(
                "SELECT name, beats, serving FROM callrt_peers ORDER BY name"
            ).fetchall()
        return [Peer(name, beats, bool(serving)) for name, beats, serving in rows]

    def is_gone(self, process: str) -> bool:
        return self._presence.is_gone(process)

    @contextmanager
    def _reader(self) -> Iterator[sqlite3.Connection | None]:
        """A read-only connection; None while there is no file, or nothing in it yet."""
        if not self.path.exists():
            yield None
            return
        connection: sqlite3.Connection | None = None
        try:
            address = f"file:{quote(str(self.path))}?mode=ro"
            connection = sqlite3.connect(address, uri=True, timeout=self._busy_seconds)
            version = version_of(connection)
            check_version(version)
            yield connection if version is not None else None
        except sqlite3.Error as error:
            raise _failed(error) from error
        finally:
            if connection is not None:
                connection.close()


# ---- statements


def _write_all(connection: sqlite3.Connection, writes: Sequence[Write]) -> list[Outcome]:
    tails = read_tails(
        connection,
        list(dict.fromkeys(write.call_sid for write in writes if isinstance(write, Append | Claim | Seize))),
    )
    heads = tails.heads
    rows: list[Row] = []
    outcomes: list[Outcome] = []
    touched = False
    forgets: list[tuple[int, Forget]] = []
    for write in writes:
        if isinstance(write, Touch):
            touched = True
            outcomes.append(Placed(0))
            continue
        if isinstance(write, Beat):
            _beat(connection, write)
            outcomes.append(Placed(0))
            continue
        if isinstance(write, Forget):
            forgets.append((len(outcomes), write))
            outcomes.append(Placed(0))
            continue
        heads[write.call_sid], row, outcome = place(heads[write.call_sid], write)
        outcomes.append(outcome)
        if row is not None:
            rows.append(row)
    write_rows(connection, rows, tails)
    write_tails(connection, tails)
    for index, forget in forgets:  # last: a call goes with all that is written of it
        outcomes[index] = Placed(_forget(connection, forget))
    if touched:
        connection.execute("UPDATE callrt_touch SET count = count + 1")
    return outcomes


def _beat(connection: sqlite3.Connection, beat: Beat) -> None:
    connection.execute(
        "INSERT INTO callrt_peers VALUES (?, 1, ?)"
        " ON CONFLICT (name) DO UPDATE SET beats = beats + 1, serving = excluded.serving",
        (beat.process, beat.serving),
    )
    connection.executemany("DELETE FROM callrt_peers WHERE name = ?", [(name,) for name in beat.forget])


def _forget(connection: sqlite3.Connection, forget: Forget) -> int:
    old = connection.execute(
        "SELECT call_sid FROM calls WHERE ended = 1 AND first_at < ? ORDER BY first_at LIMIT ?",
        (forget.before, forget.limit),
    ).fetchall()
    for (call_sid,) in old:
        delete_call(connection, call_sid)
    return len(old)


# ---- errors


def _code(error: sqlite3.Error) -> int:
    """The primary result code; 0 for errors of the Python module itself."""
    return getattr(error, "sqlite_errorcode", 0) & 0xFF


def _failed(error: sqlite3.Error, *, may_have_happened: bool = False) -> StoreFailed:
    """SQLite's messages name tables and pages, never what is stored in them."""
    return StoreFailed(str(error), busy=_code(error) in _BUSY, may_have_happened=may_have_happened)
