"""Two voices on one time axis: what the caller said, and what the caller heard. No clock, no file.

What was sent is not yet heard: audio beyond the present can still be taken back by a barge-in or a lost
stream. So only what lies in the past is ever handed out. mu-law at 8 kHz: 8,000 bytes are a second.
"""

from __future__ import annotations

import attrs

BYTES_PER_SECOND = 8_000
SILENCE = b"\xff"


@attrs.define
class Tracks:
    """Positions are bytes since ``started_at``. ``hold_seconds`` bounds what is not handed out yet."""

    started_at: float
    jitter_seconds: float = 0.2
    """Frames that come so much too late are a late network, not a pause."""
    hold_seconds: float = 30.0
    dropped_bytes: int = 0
    _taken: int = 0
    _said: bytearray = attrs.field(factory=bytearray)
    _heard: bytearray = attrs.field(factory=bytearray)

    def say(self, audio: bytes, now: float) -> None:
        """The caller's audio, as it comes."""
        gap = self._position(now) - self._taken - len(self._said) - len(audio)
        if gap > self.jitter_seconds * BYTES_PER_SECOND:
            self._append(self._said, SILENCE * gap, wanted=False)
        self._append(self._said, audio)

    def play(self, audio: bytes, now: float) -> None:
        """Audio sent to the caller: heard behind what was sent before, or at once."""
        gap = self._position(now) - self._taken - len(self._heard)
        if gap > 0:
            self._append(self._heard, SILENCE * gap, wanted=False)
        self._append(self._heard, audio)

    def cut(self, now: float) -> None:
        """What lies in the future will not be heard: a barge-in, or the stream is gone."""
        keep = max(0, self._position(now) - self._taken)
        del self._heard[keep:]

    def take(self, now: float) -> tuple[bytes, bytes]:
        """(said, heard) of the past, in equal lengths, each byte once."""
        until = max(0, self._position(now) - self._taken)
        said = bytes(self._said[:until]).ljust(until, SILENCE)
        heard = bytes(self._heard[:until]).ljust(until, SILENCE)
        del self._said[:until]
        del self._heard[:until]
        self._taken += until
        return said, heard

    def _position(self, now: float) -> int:
        return int((now - self.started_at) * BYTES_PER_SECOND)

    def _append(self, track: bytearray, audio: bytes, *, wanted: bool = True) -> None:
        # Nobody takes: a full disk, a hanging one. The newest goes, so that the axis stays true.
        room = max(0, int(self.hold_seconds * BYTES_PER_SECOND) - len(track))
        track += audio[:room]
        if wanted:
            self.dropped_bytes += max(0, len(audio) - room)
