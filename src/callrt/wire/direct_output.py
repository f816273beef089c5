"""The way out of a socket: write at once what it takes, keep the rest in order until it takes more."""

from __future__ import annotations

import math
import socket
from collections import deque

import trio

_NOTHING: deque[tuple[bytes, int | None, int]] = deque(maxlen=0)
"""Most sockets take everything at once."""


class Output:
    """``write`` and ``flush`` say whether what there is to wait for may have changed. No method awaits."""

    def __init__(self) -> None:
        self.socket: socket.socket | None = None
        self.backlog_bytes = 0
        """Of messages accepted and not written."""
        self.sent_messages = 0
        self.stuck_since = math.inf
        """Clock time since when the socket has taken nothing of what waits."""
        self.failed = False
        self.failed_at = math.inf
        """Clock time of the write that failed: nothing more will be taken."""
        self._waiting = _NOTHING

    @property
    def waits(self) -> bool:
        """Is there something that the socket has not taken?"""
        return bool(self._waiting)

    def write(self, data: bytes, size: int | None, messages: int = 1) -> bool:
        """``size``: bytes of the messages in it; None: there is none."""
        if not self._waiting:
            if self.socket is None or self.failed:
                return False
            try:
                sent = self.socket.send(data)
            except OSError as error:
                sent = self._not_taken(error)
            if sent == len(data):
                if size is not None:
                    self.sent_messages += messages
                return False
            if sent < 0:
                return True
            data = data[sent:]
            self.stuck_since = trio.current_time()
        if self._waiting is _NOTHING:
            self._waiting = deque()
        self._waiting.append((data, size, messages))
        self.backlog_bytes += size or 0
        return True

    def flush(self) -> bool:
        """The socket takes something again."""
        while self._waiting:
            data, size, messages = self._waiting[0]
            sent = self._try_send(data)
            if sent < 0:
                return True
            self.stuck_since = trio.current_time()
            if sent < len(data):
                self._waiting[0] = (data[sent:], size, messages)
                return False
            self._waiting.popleft()
            if size is not None:
                self.sent_messages += messages
                self.backlog_bytes -= size
        self.drop()
        return True

    def drop(self) -> None:
        """Forget what waits."""
        self._waiting = _NOTHING
        self.backlog_bytes = 0
        self.stuck_since = math.inf

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
        return -1
