"""What of the agent's words has been heard: text laid over audio, in proportion, at word boundaries.

Models send the words of a reply ahead of its audio and say nothing of their alignment. So a word counts as
heard when its share of the utterance's duration has been heard; pauses are no part of it, or every word after
one would count as heard too early or too late. While an utterance is being generated its
duration is not known: it is the audio received or what the words will take at the pace of speech, whichever
is more. The pace is learned from the utterances of this call that have ended. And words that came after so
much audio were not spoken in it: that bounds them from below.

Milliseconds are of the item's own audio, integers.
"""

from __future__ import annotations

import unicodedata
from bisect import bisect_right
from collections import deque

import attrs

from callrt.protocol.attention import is_loud

FRAME_MS = 20
FRAME_BYTES = 160

DEFAULT_MS_PER_UNIT = 60
"""Of one letter or space: about 16 a second, brisk speech. Too short would claim too much as heard."""

WIDE_UNITS = 3
"""A Chinese, Japanese or Korean character takes about as long as three letters."""

WIDE_FROM = "\u1100"
"""No character before it is wide."""

PACE_BOUNDS = (40, 120)
"""Milliseconds per unit; a pace outside is a fault of the transcript, not a way to speak."""

PACE_UNITS_MIN = 20
"""Shorter utterances say little about the pace: they are mostly pauses."""


WORDS_AHEAD_DOUBT_MS = 1000
"""Words may also lag behind their audio; the bound from below is believed no further than this."""


_Piece = tuple[int, int, list[tuple[int, int]]]
"""Audio received when it came; units up to its end; for each word that ends in it: units and position."""


def _units(text: str) -> int:
    if text.isascii():
        return len(text)
    return sum(WIDE_UNITS if _is_wide(character) else 1 for character in text)


def _is_wide(character: str) -> bool:
    return unicodedata.east_asian_width(character) in ("W", "F")


@attrs.define(eq=False)
class Utterance:
    """One agent item: its words and how much audio of it has arrived."""

    received_ms: int = 0
    complete: bool = False
    """All of it was generated: ``received_ms`` is its duration and ``text`` all its words."""
    _loud: bytearray = attrs.field(factory=bytearray)
    """1 for each 20 ms that is not a pause."""
    _pieces: list[tuple[str, int]] = attrs.field(factory=list)
    """Words, and the audio that had been received when they came."""
    _final: bool = False
    _index: tuple[list[_Piece], int] | None = None

    def words(self, delta: str) -> None:
        """More words. After ``words_final`` they are late and change nothing."""
        if self._final:
            return
        self._index = None
        if self._pieces and self._pieces[-1][1] == self.received_ms:
            delta = self._pieces.pop()[0] + delta
        self._pieces.append((delta, self.received_ms))

    def words_final(self, text: str) -> None:
        """The whole text, in place of the deltas. An empty one does not take words back."""
        before = self.text
        if not text and before:
            return
        self._final = True
        self._index = None
        if before and text.startswith(before):
            self._pieces.append((text[len(before) :], self._pieces[-1][1]))
        else:
            self._pieces = [(text, 0)]

    def audio(self, ms: int, audio: bytes = b"") -> None:
        """``ms`` more have been received; ``audio`` (mu-law) tells speech from pauses, without it all is speech."""
        start = self.received_ms
        self.received_ms += ms
        frames = -(-self.received_ms // FRAME_MS)
        self._loud.extend(
            bytes(max(0, frames - len(self._loud))) if audio else b"\x01" * (frames - len(self._loud))
        )
        for at in range(0, len(audio), FRAME_BYTES):
            if is_loud(audio[at : at + FRAME_BYTES]):
                self._loud[min((start + at // 8) // FRAME_MS, frames - 1)] = 1

    def spoken_ms(self, ms: int) -> int:
        """Of the first ``ms`` of audio, what is not a pause. A voice too soft to tell speaks all the time."""
        ms = min(ms, self.received_ms)
        if self._loud.count(1) * 4 < len(self._loud):
            return ms
        frames, rest = divmod(ms, FRAME_MS)
        partial = rest if frames < len(self._loud) and self._loud[frames] else 0
        return self._loud.count(1, 0, frames) * FRAME_MS + partial

    def ended(self) -> None:
        self.complete = True

    @property
    def text(self) -> str:
        return "".join(words for words, _ in self._pieces)

    def heard_text(self, heard_ms: int, ms_per_unit: float = DEFAULT_MS_PER_UNIT) -> str:
        """The longest run of whole words whose share of the duration is within ``heard_ms``.

        A prefix of ``text`` without trailing space; empty at 0; all of it once all was heard and has ended.
        """
        text = self.text
        if heard_ms <= 0 or not text:
            return ""
        if self.complete and heard_ms >= self.received_ms:
            return text.rstrip()
        pieces, total = self._word_ends()
        received, heard = self.spoken_ms(self.received_ms), self.spoken_ms(heard_ms)
        duration = received if self.complete else max(received, round(total * ms_per_unit))
        end = 0
        # Words that begin late lag as a whole: what the first ones say about the audio before them is nothing.
        lag = self._pieces[0][1]
        for after_ms, units, ends in pieces:
            doubt = WORDS_AHEAD_DOUBT_MS if after_ms - lag >= heard_ms else 0
            bound = total * (heard - doubt)
            if units * duration <= bound:
                if ends:
                    end = ends[-1][1]
                continue
            # The last word whose end lies within the bound.
            inside = bisect_right(ends, bound, key=lambda word: word[0] * duration)
            return text[: ends[inside - 1][1] if inside else end]
        return text[:end]

    def _word_ends(self) -> tuple[list[_Piece], int]:
        """Each piece as (audio received when it came, units up to its end, its words' ends), and all units.

        Asked five times a second while words come twice, so it is kept until they do.
        """
        if self._index is not None:
            return self._index
        text = self.text
        pieces: list[_Piece] = []
        spoken = position = 0
        for words, after_ms in self._pieces:
            ends: list[tuple[int, int]] = []
            for character in words:
                spoken += 1 if character < WIDE_FROM else _units(character)
                if _ends_word(text, position):
                    ends.append((spoken, position + 1))
                position += 1
            pieces.append((after_ms, spoken, ends))
        self._index = pieces, spoken
        return self._index


def _ends_word(text: str, position: int) -> bool:
    """Is there a word boundary behind this character? Wide scripts have one behind each."""
    character = text[position]
    if character.isspace():
        return False
    if character < WIDE_FROM:
        following = text[position + 1 : position + 2]
        return not following or following.isspace() or _is_wide(following)
    following = text[position + 1 : position + 2]
    return not following or following.isspace() or _is_wide(character) or _is_wide(following)


class Transcript:
    """The agent's recent items by id; bounded, the oldest forgotten first."""

    def __init__(self, items_max: int = 64) -> None:
        self._items_max = items_max
        self._items: dict[str, Utterance] = {}
        self._paces: deque[tuple[int, int]] = deque(maxlen=8)
        """(milliseconds, units) of utterances that ended."""

    @property
    def ms_per_unit(self) -> float:
        """The pace of this agent's speech, as far as it is known."""
        units = sum(units for _, units in self._paces)
        if not units:
            return DEFAULT_MS_PER_UNIT
        low, high = PACE_BOUNDS
        return min(max(sum(ms for ms, _ in self._paces) / units, low), high)

    def agent_words(self, item_id: str, text: str, final: bool) -> None:
        """``final``: ``text`` is all of it; else it is a delta."""
        utterance = self._item(item_id)
        if final:
            utterance.words_final(text)
        else:
            utterance.words(text)

    def agent_audio(self, item_id: str, ms: int, audio: bytes = b"") -> None:
        """``ms`` more have been received of this item; see :meth:`Utterance.audio`."""
        self._item(item_id).audio(ms, audio)

    def agent_ended(self, item_id: str) -> None:
        """The model has finished this item as it meant to. Not to be called for one that was cut off."""
        utterance = self._item(item_id)
        if utterance.complete:
            return
        utterance.ended()
        units = _units(utterance.text)
        if units >= PACE_UNITS_MIN and utterance.received_ms:
            self._paces.append((utterance.spoken_ms(utterance.received_ms), units))

    def heard_text(self, item_id: str, heard_ms: int) -> str:
        """The words heard when ``heard_ms`` of the item have been; "" for an unknown item."""
        utterance = self._items.get(item_id)
        return "" if utterance is None else utterance.heard_text(heard_ms, self.ms_per_unit)

    def expected_text(self, item_id: str) -> str:
        """The words that will have been heard when all audio received so far has been."""
        utterance = self._items.get(item_id)
        return "" if utterance is None else utterance.heard_text(utterance.received_ms, self.ms_per_unit)

    def has_ended(self, item_id: str) -> bool:
        utterance = self._items.get(item_id)
        return utterance is not None and utterance.complete

    def forget(self, item_id: str) -> None:
        self._items.pop(item_id, None)

    def _item(self, item_id: str) -> Utterance:
        utterance = self._items.get(item_id)
        if utterance is None:
            if len(self._items) >= self._items_max:
                del self._items[next(iter(self._items))]
            utterance = self._items[item_id] = Utterance()
        return utterance
