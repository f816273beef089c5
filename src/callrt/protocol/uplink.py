"""The caller's audio, by absolute position, for as long as somebody may still need it.

A model session that dies has heard audio that it never turned into words, and while there is no session the
caller speaks on. Both must reach the next session: no turn is lost. Positions are bytes of 8 kHz G.711 since
the call began (8 bytes = 1 ms). The ring is bounded; what falls out is counted.
"""

from __future__ import annotations

BYTES_PER_MS = 8
_FILL = b"\xff"
"""mu-law for zero."""
_CELL_BYTES = 40 * BYTES_PER_MS
"""What is let go of together: two frames. One buffer for it all would be moved, and be larger than what it holds; and
objects above half a kilobyte leave holes behind."""


class Uplink:
    """``keep_ms``: bound of what is held while a session is missing. ``tail_ms``: what is always held, so
    that a successor hears the beginning of a word that its predecessor was in the middle of; whole utterances that
    nobody has taken note of are needed by name (``protocol/attention.py``). Both hold to 40 ms."""

    def __init__(self, keep_ms: int = 30_000, tail_ms: int = 700) -> None:
        self.end = 0
        """Position after the newest byte."""
        self.lost_bytes = 0
        """Needed by somebody and pushed out by the bound."""
        self._keep = keep_ms * BYTES_PER_MS
        self._tail = tail_ms * BYTES_PER_MS
        self._cells: list[bytes] = []
        self._held = 0
        """Bytes in all of them."""
        self._needed: int | None = None

    @property
    def start(self) -> int:
        """Position of the oldest byte held."""
        return self.end - self._held

    def hear(self, payload: bytes, missing_ms: int = 0) -> None:
        """Audio from the carrier; a gap is filled with silence, so that positions stay true to time."""
        if missing_ms > 0:
            payload = _FILL * (missing_ms * BYTES_PER_MS) + payload
        size = len(payload)
        self.end += size
        self._held += size
        if self._cells and len(self._cells[-1]) + size <= _CELL_BYTES:
            self._cells[-1] += payload
        else:
            self._cells.append(payload)
        self._trim()

    def need_from(self, position: int | None) -> None:
        """Hold everything from this position on (None: only the tail)."""
        self._needed = None if position is None else max(position, self.start)

    def read(self, begin: int, stop: int | None = None) -> bytes:
        """What is held of [begin, stop)."""
        stop = self.end if stop is None else min(stop, self.end)
        begin = max(begin, self.start)
        if stop <= begin:
            return b""
        at = self.start
        found: list[bytes] = []
        for cell in self._cells:
            behind = at + len(cell)
            if behind > begin and at < stop:
                found.append(cell[max(0, begin - at) : stop - at])
            at = behind
        return b"".join(found)

    def _trim(self) -> None:
        """Let go of what nobody needs, and of what the bound does not allow."""
        wanted = self._tail if self._needed is None else max(self._tail, self.end - self._needed)
        while self._cells and self._held - len(self._cells[0]) >= min(wanted, self._keep):
            self._held -= len(self._cells.pop(0))
        if self._needed is not None and self.start > self._needed:
            self.lost_bytes += self.start - self._needed
            self._needed = self.start
