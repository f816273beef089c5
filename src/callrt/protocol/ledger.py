"""What has been sent to the caller and not yet acknowledged: the ledger of one carrier stream.

Theory of operation. Speech goes out in chunks of whole 20 ms frames, a mark behind each. The carrier echoes
a mark when the audio before it has drained, so an echo settles its chunk and all before it. Between echoes
the position is reckoned: the chunk at the head began when the one before it was acknowledged, but not before
it was sent plus ``delay``, and goes no further than its own end, for its mark has not come. That is late by
the echo's way back and therefore never more than was heard.

A stream of a carrier that has never echoed a mark, or whose oldest mark is overdue beyond ``patience``, is reckoned by
the clock alone: each chunk begins where the one before it ended. A chunk so reckoned counts as heard for
good only ``presume_after`` later, long after a dead stream would have been noticed.

mu-law at 8 kHz: 8 bytes are 1 ms, 160 bytes one frame. Positions are integers in bytes, times float seconds.
"""

from __future__ import annotations

import math
from typing import Generic, TypeVar

import attrs

BYTES_PER_MS = 8
FRAME_BYTES = 160
"""20 ms: what carriers play and what positions are rounded to."""

BYTES_PER_SECOND = 8000

_A_HAIR = 1e-6
"""Frames that the clock may be short of by rounding: 0.3 - 0.1 must still be ten frames."""

DELAYS_REMEMBERED = 8
"""Of the newest echoes."""

V = TypeVar("V")


@attrs.frozen
class Mark:
    """A parsed mark name: ``<generation>:<epoch>:<voice>:<end ms>``; the voice may contain colons."""

    generation: int
    epoch: int
    voice: str
    end_ms: int

    def __str__(self) -> str:
        return f"{self.generation}:{self.epoch}:{self.voice}:{self.end_ms}"

    @classmethod
    def parse(cls, name: str) -> Mark | None:
        """None for whatever we cannot have written."""
        head = name.split(":", 2)
        if len(head) != 3:
            return None
        voice, colon, end = head[2].rpartition(":")
        if not colon or not voice:
            return None
        numbers = (head[0], head[1], end)
        if not all(n.isascii() and n.isdigit() and len(n) <= 12 for n in numbers):
            return None
        return cls(int(head[0]), int(head[1]), voice, int(end))


class Chunk(Generic[V]):
    """One piece of a voice on its way. Never changed."""

    def __init__(self, voice: V, start: int, end: int, mark: str, sent_at: float, due: float) -> None:
        self.voice = voice
        self.start = start
        """In bytes of its voice, as ``end``."""
        self.end = end
        self.length = end - start
        self.mark = mark
        self.sent_at = sent_at
        self.due = due
        """When it would have drained if the carrier had received it at once."""


class Ledger(Generic[V]):
    """The chunks of one stream in flight; the carrier's buffer as far as we can know it."""

    def __init__(
        self,
        now: float,
        *,
        delay: float,
        delay_max: float,
        patience: float,
        presume_after: float,
        echoes: bool = False,
    ) -> None:
        """``echoes``: this carrier has echoed marks on an earlier stream."""
        assert presume_after >= patience
        self.chunks: list[Chunk[V]] = []
        self.in_flight = 0
        """Bytes sent and not acknowledged."""
        self.dry_at = now
        """When the carrier's buffer runs dry, at the earliest: a lead over that never starves."""
        self.echoed = echoes
        """Has this carrier echoed a mark honestly?"""
        self._free_at = now
        self.delay = delay
        """From sending into an empty buffer to being heard: as late as echoes are, or a guess."""
        self._delay_max = delay_max
        self._delays: list[float] = []
        self._patience = patience
        self._presume_after = presume_after

    def send(self, voice: V, start: int, end: int, mark: str, now: float) -> None:
        assert end > start
        assert (end - start) % FRAME_BYTES == 0
        self.dry_at = max(self.dry_at, now) + (end - start) / BYTES_PER_SECOND
        self.chunks.append(Chunk(voice, start, end, mark, now, self.dry_at))
        self.in_flight += end - start

    def acknowledge(self, mark: str, now: float) -> list[Chunk[V]]:
        """The chunks that an echo settles, oldest first; empty if no such mark is outstanding."""
        chunks = self.chunks
        if chunks and chunks[0].mark == mark:  # marks come back in order
            played = [self._settle()]
        else:
            count = next((n for n, chunk in enumerate(chunks, 1) if chunk.mark == mark), 0)
            if not count:
                return []
            played = [self._settle() for _ in range(count)]
        self._delays.append(max(0.0, now - played[-1].due))
        del self._delays[:-DELAYS_REMEMBERED]
        self.delay = min(max(self._delays), self._delay_max)
        self.echoed = True
        self._free_at = now
        self.dry_at = min(self.dry_at, now + self.in_flight / BYTES_PER_SECOND)
        return played

    def presume(self, now: float) -> list[Chunk[V]]:
        """The chunks that count as heard although no mark says so, on a stream without (living) echoes."""
        played: list[Chunk[V]] = []
        if not self.chunks:
            return played
        while self.chunks and now >= self.presumed_at():
            self._free_at = self._head_end()
            played.append(self._settle())
        return played

    def presumed_at(self) -> float:
        """Clock time at which ``presume`` may have something to say."""
        return self._head_end() + self._presume_after if self.chunks else math.inf

    def reckon(self, at: float) -> list[tuple[Chunk[V], int]]:
        """Each chunk in flight with the bytes of it that have been heard at ``at``: whole frames."""
        reckoned: list[tuple[Chunk[V], int]] = []
        if not self.chunks:
            return reckoned
        bounded = self.relies_on_echoes(at)
        free = self._free_at
        delay = self.delay
        playing = True
        for chunk in self.chunks:
            played = 0
            if playing:
                start = max(free, chunk.sent_at + delay)
                frames = math.floor((at - start) * BYTES_PER_SECOND / FRAME_BYTES + _A_HAIR)
                played = min(max(frames * FRAME_BYTES, 0), chunk.length)
                free = start + chunk.length / BYTES_PER_SECOND
                playing = played == chunk.length and not bounded
            reckoned.append((chunk, played))
        return reckoned

    def ends_at(self) -> float:
        """When all that is in flight will have been heard; -inf when nothing is."""
        if not self.chunks:
            return -math.inf
        free, delay = self._free_at, self.delay
        for chunk in self.chunks:
            free = max(free, chunk.sent_at + delay) + (chunk.end - chunk.start) / BYTES_PER_SECOND
        return free

    def relies_on_echoes(self, now: float) -> bool:
        return self.echoed and now < self.patience_ends_at()

    def patience_ends_at(self) -> float:
        return self._head_end() + self._patience if self.chunks else math.inf

    def overdue(self, now: float) -> float:
        """Seconds by which the oldest outstanding mark is late."""
        return max(0.0, now - self._head_end()) if self.chunks else 0.0

    def clear(self, now: float) -> None:
        """The carrier's buffer has been emptied."""
        self.chunks.clear()
        self.in_flight = 0
        self.dry_at = self._free_at = now

    def _head_end(self) -> float:
        head = self.chunks[0]
        return max(self._free_at, head.sent_at + self.delay) + head.length / BYTES_PER_SECOND

    def _settle(self) -> Chunk[V]:
        chunk = self.chunks.pop(0)
        self.in_flight -= chunk.length
        assert self.in_flight >= 0
        return chunk
