"""What of the agent's words has been heard: text laid over audio, at word boundaries.

Models send the words of a reply ahead of its audio and say nothing of their alignment: it is estimated
(``alignment.py``) at the pace of the voice, which is learned from the utterances of this call that have ended. Of
an ended utterance it is known from its own length. And words that came after so much audio were not spoken in it:
that bounds them from below.

Milliseconds are of the item's own audio, integers.
"""

from __future__ import annotations

from array import array
from bisect import bisect_left

from callrt.protocol.alignment import Sound, Word, heard_until, units_spoken, words_of
from callrt.protocol.attention import loud_frames
from callrt.protocol.mouth_values import ITEMS_MAX

DEFAULT_MS_PER_UNIT = 26.0
"""Milliseconds of voice for half a letter: brisk speech. Too short would claim too much as heard."""

PACE_BOUNDS = (18.0, 60.0)
"""Milliseconds per unit; a pace outside is a fault of the transcript, not a way to speak."""

PACE_UNITS_MIN = 40
"""Shorter utterances say little about the pace: they are mostly pauses."""

PACES_REMEMBERED = 8
"""Utterances."""

WORDS_AHEAD_DOUBT_MS = 1000
"""Words may also lag behind their audio; the bound from below is believed no further than this."""


class Utterance:
    """One agent item: its words and how much audio of it has arrived."""

    def __init__(self) -> None:
        self.complete = False
        """All of it was generated: ``received_ms`` is its duration and ``text`` all its words."""
        self.text = ""
        self._sound = Sound()
        self._ends = array("i")
        self._after_ms = array("i")
        """Up to which position of the text words came together, and the audio that had been received by then."""
        self._final = False
        self._index: tuple[str, tuple[Word, ...], list[int]] | None = None

    @property
    def received_ms(self) -> int:
        return self._sound.ms

    def words(self, delta: str) -> None:
        """More words. After ``words_final`` they are late and change nothing."""
        if self._final:
            return
        self._index = None
        self.text += delta
        if self._after_ms and self._after_ms[-1] == self.received_ms:
            self._ends[-1] = len(self.text)
        else:
            self._ends.append(len(self.text))
            self._after_ms.append(self.received_ms)

    def words_final(self, text: str) -> None:
        """The whole text, in place of the deltas. An empty one does not take words back."""
        before = self.text
        if not text and before:
            return
        self._final = True
        self._index = None
        self.text = text
        if before and text.startswith(before):
            self._ends[-1] = len(text)
        else:
            self._ends, self._after_ms = array("i", (len(text),)), array("i", (0,))

    def audio(self, ms: int, audio: bytes = b"") -> None:
        """``ms`` more have been received; ``audio`` (mu-law) tells speech from pauses, without it all is speech."""
        self._sound.add(ms, loud_frames(audio) if audio else None)

    def spoken_ms(self, ms: int) -> int:
        """Of the first ``ms`` of audio, what is not a pause. A voice too soft to tell speaks all the time."""
        return self._sound.voice_ms(ms)

    def ended(self) -> None:
        self.complete = True

    def rest(self) -> None:
        """It is asked about seldom from now on: its index, which takes more room than its text, is made when it is."""
        self._index = None

    @property
    def units(self) -> float:
        """The length of its text; see ``alignment.py``."""
        words = self._indexed()[1]
        return words[-1].units if words else 0.0

    def heard_text(self, heard_ms: int, ms_per_unit: float = DEFAULT_MS_PER_UNIT) -> str:
        """The words that are estimated to lie within the first ``heard_ms``.

        A prefix of ``text`` without trailing space; empty at 0; all of it once all was heard and has ended. Grows
        with ``heard_ms``.
        """
        text, words, arrivals = self._indexed()
        if heard_ms <= 0 or not words:
            return ""
        if self.complete and heard_ms >= self.received_ms:
            return text.rstrip()
        received = self.spoken_ms(self.received_ms) / words[-1].units if words[-1].units else 0.0
        pace = received if self.complete else max(received, ms_per_unit)
        if pace <= 0:
            return ""
        units, pace = units_spoken(words, self._sound, heard_ms, pace, steady=self.complete)
        count = heard_until(words, units)
        # Words that begin late lag as a whole: what the first ones say about the audio before them is nothing.
        late = bisect_left(arrivals, heard_ms + arrivals[0])
        if count > late:
            count = max(late, heard_until(words, units - WORDS_AHEAD_DOUBT_MS / pace))
        return text[: words[count - 1].end] if count else ""

    def _indexed(self) -> tuple[str, tuple[Word, ...], list[int]]:
        """The text, its words, and for each the audio that had been received when it came.

        Asked five times a second while words come twice, so it is kept until they do.
        """
        if self._index is None:
            text = self.text
            words = words_of(text)
            arrivals: list[int] = []
            number = 0
            for end, after_ms in zip(self._ends, self._after_ms, strict=True):
                while number < len(words) and words[number].end <= end:
                    arrivals.append(after_ms)
                    number += 1
            self._index = text, words, arrivals
        return self._index


class Transcript:
    """The agent's items that are not settled, by id; bounded, the oldest forgotten first."""

    def __init__(self, items_max: int = ITEMS_MAX) -> None:
        self._items_max = items_max
        self._items: dict[str, Utterance] = {}
        self._settled: dict[str, None] = {}
        self._paces: list[tuple[int, float]] = []
        """(milliseconds, units) of utterances that ended."""
        self.ms_per_unit = DEFAULT_MS_PER_UNIT
        """The pace of this agent's speech, as far as it is known."""

    def agent_words(self, item_id: str, text: str, final: bool) -> None:
        """``final``: ``text`` is all of it; else it is a delta."""
        if item_id in self._settled:
            return
        utterance = self._item(item_id)
        if final:
            utterance.words_final(text)
        else:
            utterance.words(text)

    def agent_audio(self, item_id: str, ms: int, audio: bytes = b"") -> None:
        """``ms`` more have been received of this item; see :meth:`Utterance.audio`."""
        if item_id not in self._settled:
            self._item(item_id).audio(ms, audio)

    def agent_ended(self, item_id: str) -> None:
        """The model has finished this item as it meant to. Not to be called for one that was cut off."""
        if item_id in self._settled:
            return
        utterance = self._item(item_id)
        if utterance.complete:
            return
        utterance.ended()
        units = utterance.units
        if units >= PACE_UNITS_MIN and utterance.received_ms:
            self._paces.append((utterance.spoken_ms(utterance.received_ms), units))
            del self._paces[:-PACES_REMEMBERED]
            low, high = PACE_BOUNDS
            all_ms, all_units = 0, 0.0
            for ms, units in self._paces:
                all_ms += ms
                all_units += units
            self.ms_per_unit = min(max(all_ms / all_units, low), high)

    def heard_text(self, item_id: str, heard_ms: int) -> str:
        """The words heard when ``heard_ms`` of the item have been; "" for an unknown item."""
        utterance = self._items.get(item_id)
        return "" if utterance is None else utterance.heard_text(heard_ms, self.ms_per_unit)

    def expected_text(self, item_id: str) -> str:
        """The words that will have been heard when all audio received so far has been."""
        utterance = self._items.get(item_id)
        return "" if utterance is None else utterance.heard_text(utterance.received_ms, self.ms_per_unit)

    def settle(self, item_id: str) -> None:
        """Its words have been told for the last time: they are let go, and what still comes of it changes nothing."""
        self._items.pop(item_id, None)
        self._settled.pop(item_id, None)
        self._settled[item_id] = None
        if len(self._settled) > ITEMS_MAX:
            del self._settled[next(iter(self._settled))]

    def is_settled(self, item_id: str) -> bool:
        return item_id in self._settled

    def _item(self, item_id: str) -> Utterance:
        utterance = self._items.get(item_id)
        if utterance is None:
            if len(self._items) >= self._items_max:
                del self._items[next(iter(self._items))]
            for older in self._items.values():
                older.rest()
            utterance = self._items[item_id] = Utterance()
        return utterance
