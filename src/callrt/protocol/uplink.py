"""The caller's audio, by absolute position, for as long as somebody may still need it.

A model session that dies has heard audio that it never turned into words, and while there is no session the
caller speaks on. Both must reach the next session: no turn is lost. Positions are bytes of 8 kHz G.711 since
the call began (8 bytes = 1 ms). The ring is bounded; what falls out is counted.
"""

from __future__ import annotations

BYTES_PER_MS = 8
_FILL = b"\xff"
"""mu-law for zero."""


class Uplink:
    """``keep_ms``: bound of what is held while a session is missing. ``tail_ms``: what is always held, so
    that a successor hears the beginning of a word that its predecessor was in the middle of."""

    def __init__(self, keep_ms: int = 30_000, tail_ms: int = 2_000) -> None:
        self.keep_ms = keep_ms
        self.tail_ms = tail_ms
        self.end = 0
        """Position after the newest byte."""
        self.lost_bytes = 0
        """Needed by somebody and pushed out by the bound."""
        self._held = bytearray()
        self._needed: int | None = None
        self._trim_over = 0
        """Look at what may go when more than this is held."""

    @property
    def start(self) -> int:
        """Position of the oldest byte held."""
        return self.end - len(self._held)

    def hear(self, payload: bytes, missing_ms: int = 0) -> None:
        """Audio from the carrier; a gap is filled with silence, so that positions stay true to time."""
        if missing_ms > 0:
            payload = _FILL * (missing_ms * BYTES_PER_MS) + payload
        self._held += payload
        self.end += len(payload)
        if len(self._held) > self._trim_over:
            self._trim()

    def need_from(self, position: int | None) -> None:
        """Hold everything from this position on (None: only the tail)."""
        self._needed = position
        self._trim_over = 0

    def read(self, begin: int, stop: int | None = None) -> bytes:
        """What is held of [begin, stop)."""
        stop = self.end if stop is None else min(stop, self.end)
        begin = max(begin, self.start)
        if stop <= begin:
            return b""
        base = self.start
        return bytes(self._held[begin - base : stop - base])

    def _trim(self) -> None:
        """Let go of what nobody needs, in strides: moving the ring for each frame would cost more than it saves."""
        tail, bound = self.tail_ms * BYTES_PER_MS, self.keep_ms * BYTES_PER_MS
        stride = tail // 4
        wanted = tail if self._needed is None else max(tail, self.end - self._needed)
        if len(self._held) > wanted + stride:
            del self._held[: len(self._held) - wanted]
        excess = len(self._held) - bound
        if wanted > bound and excess > 0:
            self.lost_bytes += excess
            del self._held[:excess]
            self._needed = self.start
        self._trim_over = tail + stride if self._needed is None else bound
