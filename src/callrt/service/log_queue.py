"""Log lines leave by a thread of their own: whoever does not read them holds up nobody who writes them."""

from __future__ import annotations

import logging
import os
import select
import threading
from collections.abc import Callable
from queue import SimpleQueue
from typing import IO

LINES_MAX = 1_000
"""Waiting to be written, some 300 kB; later ones are dropped. A reader who is that far behind does not read."""

FLUSH_SECONDS = 1.0
"""For the lines that still wait when the process ends."""


class QueueHandler(logging.Handler):
    """Hands lines in order to one thread, which writes them. Formatting and filters stay with the one who logs."""

    def __init__(self, write: Callable[[str], object]) -> None:
        """``write`` may block for ever. What it raises costs that line."""
        super().__init__()
        self._write = write
        # Lines; events to be set when their turn comes; None, which ends the thread.
        self._waiting: SimpleQueue[str | threading.Event | None] = SimpleQueue()
        self._thread: threading.Thread | None = None
        # Each counted by one thread: those who log have the handler's lock.
        self._crowded_out = 0
        self._unwritten = 0
        self._told = 0

    @property
    def dropped(self) -> int:
        """Lines that had no room, or could not be written."""
        return self._crowded_out + self._unwritten

    def emit(self, record: logging.LogRecord) -> None:
        """Never blocks and never raises: the loop that carries the audio logs too."""
        try:
            if self._waiting.qsize() >= LINES_MAX:
                self._crowded_out += 1
                return
            line = self.format(record)
            self._tell_dropped()
            self._put(line)
        except Exception:
            self._crowded_out += 1

    def flush(self) -> None:
        """Return when all lines so far are written, at the latest after ``FLUSH_SECONDS``."""
        if self._thread is not None and self._thread.is_alive():
            self._tell_dropped()
            written = threading.Event()
            self._put(written)
            written.wait(FLUSH_SECONDS)

    def close(self) -> None:
        """End the thread when it has written what waits. A later line starts another one."""
        if self._thread is not None:
            self._waiting.put(None)
            self._thread = None
        super().close()

    def _tell_dropped(self) -> None:
        count = self.dropped - self._told
        if not count:
            return
        self._told += count
        note = logging.LogRecord("callrt.log", logging.WARNING, __file__, 0, "log lines dropped", None, None)
        note.__dict__["count"] = count
        self.filter(note)
        self._put(self.format(note))

    def _put(self, item: str | threading.Event) -> None:
        self._waiting.put(item)
        # Also in a forked child, which has the queue but not the thread.
        if self._thread is None or not self._thread.is_alive():
            self._thread = threading.Thread(target=self._write_all, name="callrt log", daemon=True)
            self._thread.start()

    def _write_all(self) -> None:
        while (item := self._waiting.get()) is not None:
            if isinstance(item, threading.Event):
                item.set()
                continue
            try:
                self._write(item + "\n")
            except Exception:
                self._unwritten += 1


def write_to(stream: IO[str]) -> Callable[[str], object]:
    """How the thread writes to ``stream``: past its buffer where it has a descriptor. The buffer's lock may be held by
    a tool whose ``print`` nobody reads, and held at exit it aborts the process."""
    try:
        descriptor = stream.fileno()
    except OSError:
        return stream.write

    def write(line: str) -> None:
        left = memoryview(line.encode(errors="backslashreplace"))
        while left:
            try:
                left = left[os.write(descriptor, left) :]
            except BlockingIOError:  # whoever shares the pipe has made it so
                select.select((), (descriptor,), ())

    return write


def dropped_lines() -> int:
    """By this process, since its logging was configured."""
    return sum(each.dropped for each in logging.getLogger().handlers if isinstance(each, QueueHandler))
