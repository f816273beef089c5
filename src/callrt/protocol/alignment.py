"""Which words lie in the first so many milliseconds of speech: text laid over sound, pause by pause.

Theory of operation. Models do not say where in their audio their words are. But a voice makes a pause where the
text has a comma or a full stop, and between two pauses words take their time by their length. So the estimate
walks through the sound at the pace of the voice and, at each pause near an end of a clause, takes it for that
end: an error does not outlive the clause, and the pace is corrected by what the clause took. Where the estimate
arrives at an end of a clause and no pause has come, it waits there for a moment.

Lengths are counted in units, half a letter each; time in milliseconds of voice, pauses left out.
"""

from __future__ import annotations

import re
import unicodedata
from bisect import bisect_right
from collections.abc import Sequence

from mypy_extensions import mypyc_attr

FRAME_MS = 20

LETTER, BETWEEN_WORDS, DIGIT, WIDE = 2, 1, 8, 6
"""Units. A digit is read as a word; a Chinese, Japanese or Korean character takes about as long as three letters."""

LENGTHENED = 4
"""The last word before a pause is drawn out."""

WIDE_FROM = "\u1100"
"""No character before it is wide."""

CLAUSE_ENDS = ",.;:!?…—" + "、。，；：！？"
CLOSERS = "\"')]»”’」』"

PAUSE_FRAMES = 8
"""160 ms: longer than the silence inside a word (before a p or t), shorter than a comma."""

NEAR_SHARE, NEAR_UNITS = 0.2, 18
"""How far from an end of a clause the estimate may be for a pause to be taken for it: of the clause, and at least."""

TRUSTED_UNITS = 30
"""A clause of this length corrects the pace by half of what it says; a longer one by more."""

HEARD_SHARE = 0.75
"""A word counts as heard when so much of it was: then saying it again would be a stutter."""


_WORD = re.compile(r"\S+")


@mypyc_attr(acyclic=True)  # a text has dozens: nothing for the garbage collector to look at
class Word:
    """One word of a text: units before it and up to its end, the position behind its last character. Never changed."""

    def __init__(self, before: float, units: float, end: int, ends_clause: bool) -> None:
        self.before = before
        self.units = units
        self.end = end
        self.ends_clause = ends_clause


def words_of(text: str) -> tuple[Word, ...]:
    """The words, in order. Of wide scripts each character is one; what cannot be spoken costs nothing."""
    return _by_spaces(text) if text.isascii() else _by_characters(text)


def _by_spaces(text: str) -> tuple[Word, ...]:
    """Of a script that puts spaces between words: twice as quick, and asked for with each piece of text."""
    words: list[Word] = []
    before = 0
    for found in _WORD.finditer(text):
        word = found[0]
        units = before + (LETTER * len(word) if word.isalpha() else sum(map(_cost, word)))
        # As far as three characters back, which may be the end of the word before.
        last = (
            word[-1:]
            if word[-1] not in CLOSERS
            else text[max(0, found.end() - 4) : found.end()].rstrip(CLOSERS)[-1:]
        )
        ends_clause = last != "" and last in CLAUSE_ENDS
        if ends_clause:
            units += LENGTHENED
        words.append(Word(before, units, found.end(), ends_clause))
        before = units + BETWEEN_WORDS
    return tuple(words)


def _by_characters(text: str) -> tuple[Word, ...]:
    words: list[Word] = []
    units = before = 0
    for position, character in enumerate(text):
        if character.isspace():
            continue
        units += _cost(character)
        if not _ends_word(text, position):
            continue
        last = text[max(0, position - 3) : position + 1].rstrip(CLOSERS)[-1:]
        ends_clause = last != "" and last in CLAUSE_ENDS
        if ends_clause:
            units += LENGTHENED
        words.append(Word(before, units, position + 1, ends_clause))
        units += BETWEEN_WORDS if character < WIDE_FROM else 0
        before = units
    return tuple(words)


def _cost(character: str) -> int:
    if character.isdecimal():
        return DIGIT
    if not character.isalnum():
        return 0
    return WIDE if _is_wide(character) else LETTER


def _is_wide(character: str) -> bool:
    return character >= WIDE_FROM and unicodedata.east_asian_width(character) in ("W", "F")


def _ends_word(text: str, position: int) -> bool:
    following = text[position + 1 : position + 2]
    if not following or following.isspace():
        return True
    if _is_wide(following):
        return following.isalnum()
    return _is_wide(text[position])


class Sound:
    """What is known of an utterance's audio: voice and pauses, 20 ms by 20 ms."""

    def __init__(self) -> None:
        self.ms = 0
        self._voiced = bytearray()
        self._pauses: list[tuple[int, int]] = []
        """(frame in which it had become one, voiced frames before it)."""
        self._quiet = 0
        self._voice = 0

    def add(self, ms: int, voiced: Sequence[bool] | None) -> None:
        """``ms`` more; ``voiced`` tells of each 20 ms that began in them, None: all of it is voice."""
        end = self.ms + ms
        frames = -(-end // FRAME_MS)
        for number in range(frames - len(self._voiced)):
            loud = voiced is None or (number < len(voiced) and voiced[number])
            self._voiced.append(loud)
            if loud:
                self._voice += 1
                self._quiet = 0
                continue
            self._quiet += 1
            if self._quiet == PAUSE_FRAMES and self._voice:
                self._pauses.append((len(self._voiced) - 1, self._voice))
        self.ms = end

    def voice_ms(self, ms: int) -> int:
        """Of the first ``ms``, what is not a pause. A voice too soft to tell speaks all the time."""
        ms = min(ms, self.ms)
        if self._too_soft:
            return ms
        frames, rest = divmod(ms, FRAME_MS)
        partial = rest if frames < len(self._voiced) and self._voiced[frames] else 0
        return self._voiced.count(1, 0, frames) * FRAME_MS + partial

    def pauses(self, ms: int) -> list[int]:
        """Milliseconds of voice before each pause within the first ``ms``."""
        if self._too_soft:
            return []
        known = bisect_right(self._pauses, ms // FRAME_MS, key=lambda pause: pause[0] + 1)
        return [voice * FRAME_MS for _, voice in self._pauses[:known]]

    @property
    def _too_soft(self) -> bool:
        return self._voice * 4 < len(self._voiced)


def units_spoken(
    words: Sequence[Word], sound: Sound, ms: int, ms_per_unit: float, *, steady: bool = False
) -> tuple[float, float]:
    """(units spoken in the first ``ms`` of ``sound``, milliseconds per unit at that point).

    ``steady``: the pace is known and not to be corrected. Grows with ``ms``.
    """
    clauses = [word.units for word in words[:-1] if word.ends_clause]
    pace = ms_per_unit
    units = voice = 0.0
    first = 0
    for pause in sound.pauses(ms):
        estimate = units + (pause - voice) / pace
        nearest = _nearest(clauses, first, units, estimate)
        if nearest is None:
            continue
        length = clauses[nearest] - units
        if not steady and length > 0:
            trust = length / (length + TRUSTED_UNITS)
            pace += trust * ((pause - voice) / length - pace)
        units, voice, first = clauses[nearest], float(pause), nearest + 1
    estimate = units + (sound.voice_ms(ms) - voice) / pace
    for end in clauses[first:]:
        if estimate <= end:
            break
        if estimate - end <= _near(end - units):
            return end, pace
    return estimate, pace


def _near(length: float) -> float:
    return max(NEAR_UNITS, NEAR_SHARE * length)


def _nearest(clauses: Sequence[float], first: int, units: float, estimate: float) -> int | None:
    best: int | None = None
    for number in range(first, len(clauses)):
        off = abs(clauses[number] - estimate)
        if off <= _near(clauses[number] - units) and (best is None or off < abs(clauses[best] - estimate)):
            best = number
        elif clauses[number] > estimate:
            break
    return best


def heard_until(words: Sequence[Word], units: float) -> int:
    """How many of the words were heard when so many units were spoken."""
    return bisect_right(
        words, units + 1e-6, key=lambda word: word.before + HEARD_SHARE * (word.units - word.before)
    )
