"""One utterance on its way to the caller: an item of the model, or a line of ours."""

from __future__ import annotations

from callrt.protocol.ledger import BYTES_PER_MS, FRAME_BYTES
from callrt.protocol.mouth_values import ItemProgress

SILENCE = b"\xff"
"""mu-law for zero."""


PIECE_BYTES = 479
"""What is kept together, whatever it came in: larger objects are not of Python's own allocator, and leave holes behind
that nothing fits in; this is the largest of the others."""


class Voice:
    """One utterance. All positions in bytes from its beginning; ``heard`` <= ``sent`` <= ``length``."""

    def __init__(self, name: str, content_index: int, label: str, *, line: bool) -> None:
        self.name = name
        self.content_index = content_index
        self.label = label
        """Its name in marks: unique among what can be outstanding."""
        self.line = line
        self.received = 0
        self.length = 0
        """``received`` and the padding of the last frame."""
        self.sent = 0
        self.heard = 0
        """Settled: by a mark, or frozen when a stream was lost. Whole frames."""
        self.ended = False
        self.complete = False
        self.cut = False
        self.choked = False
        """The queue was full once: the rest is refused too, a hole would be worse than an end."""
        self._pieces: list[bytes] = []
        """The audio as it came, from the piece on that ``heard`` is in."""
        self._base = 0
        """Where the first piece begins."""

    @property
    def sendable(self) -> int:
        return (self.length - self.sent) // FRAME_BYTES * FRAME_BYTES

    def append(self, audio: bytes) -> None:
        room = PIECE_BYTES - len(self._pieces[-1]) if self._pieces else 0
        if room and audio:
            self._pieces[-1] += audio[:room]
        for at in range(room, len(audio), PIECE_BYTES):
            self._pieces.append(audio[at : at + PIECE_BYTES])
        self.received += len(audio)
        self.length += len(audio)

    def take(self, count: int) -> bytes:
        """The next so many bytes that have not been sent; no more than are ``sendable``."""
        begin, end = self.sent, self.sent + count
        self.sent = end
        taken: list[bytes] = []
        at = self._base
        for piece in self._pieces:
            behind = at + len(piece)
            if behind > begin:
                taken.append(piece[max(0, begin - at) : end - at])
                if behind >= end:
                    break
            at = behind
        return taken[0] if len(taken) == 1 else b"".join(taken)

    def end(self) -> None:
        if not self.ended:
            self.ended = True
            missing = -self.length % FRAME_BYTES
            if missing:
                self._pieces.append(SILENCE * missing)
                self.length += missing
            self.settle(self.heard)

    def settle(self, heard: int) -> None:
        """All before ``heard`` has been heard for good: its audio is let go."""
        assert self.heard <= heard <= self.sent
        self.heard = heard
        done = 0
        while done < len(self._pieces) and self._base + len(self._pieces[done]) <= heard:
            self._base += len(self._pieces[done])
            done += 1
        del self._pieces[:done]
        self.complete = self.ended and heard == self.length

    def silence(self) -> None:
        self.cut = True
        self._pieces.clear()

    def progress(self, heard: int) -> ItemProgress:
        return ItemProgress(
            item_id=self.name,
            content_index=self.content_index,
            received_ms=self.received // BYTES_PER_MS,
            sent_ms=min(self.sent, self.received) // BYTES_PER_MS,
            heard_ms=self.ms(heard),
            ended=self.ended,
            complete=self.complete,
            cut=self.cut,
        )

    def ms(self, position: int) -> int:
        """Milliseconds of the model's own audio: padding is not its own."""
        return min(position, self.received) // BYTES_PER_MS
