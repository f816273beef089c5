"""Has the caller said something while no model was listening? A small energy detector for that one question.

The model's own turn detection decides everything else. This one only has to be right about "somebody spoke
for a while and then stopped", so that the caller hears "one moment please" instead of nothing.
"""

from __future__ import annotations

from callrt.protocol.audio import is_voiced

FRAME = 160


class Ear:
    """Fed with 20 ms frames of mu-law. Frames, not clock time: gaps are filled before they get here.

    ``speech_frames``: voiced ones that make an utterance (200 ms).
    ``pause_frames``: unvoiced ones that end it (700 ms).
    """

    def __init__(self, speech_frames: int = 10, pause_frames: int = 35) -> None:
        self.speech_frames = speech_frames
        self.pause_frames = pause_frames
        self._voiced = 0
        self._pause = 0

    def hear(self, frame: bytes) -> bool:
        """True once, when an utterance has just ended."""
        if is_voiced(frame):
            self._voiced += 1
            self._pause = 0
            return False
        self._pause += 1
        if self._pause < self.pause_frames:
            return False
        ended = self._voiced >= self.speech_frames
        self._voiced = 0
        return ended

    @property
    def speaking(self) -> bool:
        """An utterance is under way."""
        return self._voiced >= self.speech_frames


def first_speech(audio: bytes, *, run: int = 3, needed: int = 10) -> int | None:
    """Where speech begins in this audio (in bytes, at a frame), or None if there are not ``needed`` voiced
    frames in it. A single loud frame is a click; ``run`` of them in a row are a beginning."""
    voiced = [is_voiced(audio[i : i + FRAME]) for i in range(0, len(audio) - FRAME + 1, FRAME)]
    if sum(voiced) < needed:
        return None
    streak = 0
    for index, loud in enumerate(voiced):
        streak = streak + 1 if loud else 0
        if streak == run:
            return (index - run + 1) * FRAME
    return None
