"""The way out of a socket: write at once what it takes, keep the rest in order until it takes more."""

from __future__ import annotations

import math
import socket
from collections import deque
from collections.abc import Callable

import trio

_NOTHING: deque[tuple[bytes, int | None, int]] = deque(maxlen=0)
"""Most sockets take everything at once."""


class Output:
    """``changed`` is called when there begins or ceases to be something to wait for. No method awaits."""

    def __init__(self, changed: Callable[[], None]) -> None:
        self.socket: socket.socket | None = None
        self.backlog_bytes = 0
        """Of messages accepted and not written."""
        self.sent_messages = 0
        self.stuck_since = math.inf
        """Clock time since when the socket has taken nothing of what waits."""
        self.failed = False
        self.failed_at = math.inf
        """Clock time of the write that failed: nothing more will be taken."""
        self.flushed = trio.lowlevel.ParkingLot()
        """Unparked when nothing waits any more."""
        self._waiting = _NOTHING
        self._changed = changed

    @property
    def waits(self) -> bool:
        """Is there something that the socket has not taken?"""
        return bool(self._waiting)

    def write(self, data: bytes, size: int | None, messages: int = 1) -> None:
        """``size``: bytes of the messages in it; None: there is none."""
        if not self._waiting:
            if self.socket is None or self.failed:
                return
            try:
                sent = self.socket.send(data)
            except OSError as error:
                sent = self._not_taken(error)
            if sent == len(data):
                if size is not None:
                    self.sent_messages += messages
                return
            if sent < 0:
                return
            data = data[sent:]
            self.stuck_since = trio.current_time()
        if self._waiting is _NOTHING:
            self._waiting = deque()
        self._waiting.append((data, size, messages))
        self.backlog_bytes += size or 0
        self._changed()

    def flush(self) -> None:
        """The socket takes something again."""
        while self._waiting:
            data, size, messages = self._waiting[0]
            sent = self._try_send(data)
            if sent < 0:
                return
            self.stuck_since = trio.current_time()
            if sent < len(data):
                self._waiting[0] = (data[sent:], size, messages)
                return
            self._waiting.popleft()
            if size is not None:
                self.sent_messages += messages
                self.backlog_bytes -= size
        self.drop()
        self._changed()

    def drop(self) -> None:
        """Forget what waits."""
        self._waiting = _NOTHING
        self.backlog_bytes = 0
        self.stuck_since = math.inf
        self.flushed.unpark_all()

    def _try_send(self, data: bytes) -> int:
        """How much the socket took; -1 when it takes nothing any more."""
        if self.socket is None or self.failed:
            return -1
        try:
            return self.socket.send(data)
        except OSError as error:
            return self._not_taken(error)

    def _not_taken(self, error: OSError) -> int:
        if isinstance(error, BlockingIOError | InterruptedError):
            return 0
        # The reader goes on for a moment: the peer's last words may be on their way.
        self.failed = True
        self.failed_at = trio.current_time()
        self.drop()
        self._changed()
        return -1
