"""A disk that can be full: a small file system in memory where we may mount one, else a limit on the size of files.

On the first, every write beyond the room fails with ENOSPC, as on a full disk; under the second with EFBIG, which
callrt has to survive as well. Which of them it was stands in the report.
"""

from __future__ import annotations

import os
import resource
import shutil
import subprocess
import tempfile
from pathlib import Path

import attrs
import trio

ROOM_BYTES = 16_000_000
WATCH_EVERY = 0.25


@attrs.define(eq=False)
class DiskWatch:
    """How long a small write to the machine's own disk takes: one that stands still lets no journal be kept."""

    worst: float = 0.0

    async def run(self) -> None:
        """Until cancelled; a write that is under way is then left to itself."""
        with tempfile.TemporaryFile(prefix="callrt-chaos-") as file:
            while True:
                began = trio.current_time()
                await trio.to_thread.run_sync(_write_through, os.dup(file.fileno()), abandon_on_cancel=True)
                self.worst = max(self.worst, trio.current_time() - began)
                await trio.sleep(WATCH_EVERY)


def _write_through(file: int) -> None:
    try:
        os.pwrite(file, b"x", 0)
        os.fsync(file)
    finally:
        os.close(file)


@attrs.define(eq=False)
class SmallDisk:
    """Over ``folder``, which must be empty. :meth:`open` before anything is written there, :meth:`close` at the end."""

    folder: Path
    is_mounted: bool = False
    is_full: bool = False

    @property
    def kind(self) -> str:
        return "no space left" if self.is_mounted else "files limited in size"

    def open(self) -> None:
        """Mount, if this system lets us."""
        mount = shutil.which("mount")
        if mount is None:
            return
        done = subprocess.run(
            [mount, "-t", "tmpfs", "-o", f"size={ROOM_BYTES},mode=0700", "tmpfs", str(self.folder)],
            capture_output=True,
            check=False,
        )
        self.is_mounted = done.returncode == 0

    def fill(self, pid: int) -> None:
        """No room for another byte, for the process ``pid``."""
        self.is_full = True
        if not self.is_mounted:
            hard = resource.prlimit(pid, resource.RLIMIT_FSIZE)[1]
            resource.prlimit(pid, resource.RLIMIT_FSIZE, (1, hard))
            return
        with self._ballast.open("wb", buffering=0) as file:
            size = 1_000_000
            while size:
                try:
                    file.write(b"\0" * size)
                except OSError:
                    size //= 4

    def clear(self, pid: int) -> None:
        """Room again."""
        self.is_full = False
        if not self.is_mounted:
            hard = resource.prlimit(pid, resource.RLIMIT_FSIZE)[1]
            resource.prlimit(pid, resource.RLIMIT_FSIZE, (hard, hard))
            return
        self._ballast.unlink(missing_ok=True)

    def close(self) -> None:
        if self.is_mounted:
            os.sync()
            subprocess.run(["umount", "-l", str(self.folder)], capture_output=True, check=False)
            self.is_mounted = False

    @property
    def _ballast(self) -> Path:
        return self.folder / "ballast"
