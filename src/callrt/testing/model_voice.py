"""Voices of the emulated model: whole lines with their melody, and to the millisecond which word is where."""

from __future__ import annotations

from itertools import accumulate

import attrs

from callrt.testing.speech import PITCH, VOICE, WORDS_PER_MINUTE, beeps, sentences, synthesize_timed

_BEEP_MS = 60
"""Per character, and between words: how :func:`~callrt.testing.speech.beeps` is made."""


@attrs.frozen
class SpokenVoice:
    """espeak-ng. Raises :class:`~callrt.testing.speech.SpeechUnavailable` without the ``demo`` extra."""

    name: str = VOICE
    words_per_minute: int = WORDS_PER_MINUTE
    pitch: int = PITCH

    def __call__(self, text: str) -> bytes:
        return self.timed(text)[0]

    def timed(self, text: str) -> tuple[bytes, tuple[int, ...]]:
        return synthesize_timed(text, self.name, self.words_per_minute, self.pitch)


@attrs.frozen
class BeepVoice:
    """Needs no synthesiser. Every 20 ms frame it makes is unlike any other, so a frame heard names its
    place."""

    seed: int = 0

    def __call__(self, text: str) -> bytes:
        return beeps(text, self.seed)

    def timed(self, text: str) -> tuple[bytes, tuple[int, ...]]:
        audio = beeps(text, self.seed)
        ends = list(accumulate((len(word) + 1) * _BEEP_MS for word in text.split()))
        if ends:
            ends[-1] -= _BEEP_MS
        assert (ends[-1] if ends else 0) == len(audio) // 8, "beeps are not what they were"
        return audio, tuple(ends)


@attrs.frozen
class SentenceVoice:
    """As :class:`BeepVoice`, with the rhythm of speech: what is estimated from it is estimated as of a person."""

    seed: int = 0

    def __call__(self, text: str) -> bytes:
        return self.timed(text)[0]

    def timed(self, text: str) -> tuple[bytes, tuple[int, ...]]:
        return sentences(text, self.seed)
