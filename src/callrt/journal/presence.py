"""Proof that a process is gone: each holds a lock on a small file of its own beside the database.

The kernel gives the lock back when the process ends, however it ends, and not before: a frozen process keeps it.
So whoever can take it knows that nothing more is said or written by that process, also while the database takes
no write. Where locks are not known to the platform nothing is ever proven.
"""

from __future__ import annotations

import contextlib
import os
import re
from pathlib import Path
from typing import Final

try:
    import fcntl
except ImportError:  # a platform without locks
    fcntl = None  # type: ignore[assignment]

_NAME: Final = re.compile(r"[A-Za-z0-9-]{1,64}\Z")


class Presence:
    """The locks of one database. Methods are called by one thread at a time, ``is_gone`` by any."""

    def __init__(self, database: Path) -> None:
        self._database = database
        self._held: dict[str, int] = {}

    def attest(self, process: str) -> None:
        """Hold this process's lock from now on. Idempotent. Where that cannot be done its end cannot be proven."""
        path = self._path(process)
        if path is None or process in self._held or fcntl is None:
            return
        with contextlib.suppress(OSError):
            file = os.open(path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o644)
            try:
                fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
            except OSError:
                os.close(file)
                raise
            self._held[process] = file

    def is_gone(self, process: str) -> bool:
        """It held its lock once, and holds it no more."""
        path = self._path(process)
        if path is None or process in self._held or fcntl is None:
            return False
        try:
            file = os.open(path, os.O_RDONLY | os.O_CLOEXEC)
        except OSError:
            return False
        try:
            fcntl.flock(file, fcntl.LOCK_SH | fcntl.LOCK_NB)
        except OSError:
            return False
        finally:
            os.close(file)
        return True

    def forget(self, process: str) -> None:
        """Nobody asks for it any more. One that lives keeps its file."""
        path = self._path(process)
        if path is not None and self.is_gone(process):
            with contextlib.suppress(OSError):
                path.unlink()

    def close(self) -> None:
        """This process is no longer there. Idempotent."""
        held, self._held = self._held, {}
        for file in held.values():
            os.close(file)

    def _path(self, process: str) -> Path | None:
        if _NAME.match(process) is None:
            return None
        return self._database.with_name(f"{self._database.name}-process-{process}")
