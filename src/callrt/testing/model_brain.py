"""What the emulated model hears and says: brains, and the listener that tells scripted utterances apart.

A brain is given the conversation as the model knows it (assistant turns cut to what was heard, callers' turns
as text) and says what comes next. It is pure: the same history gives the same answer, in any session, which
is what lets a checker ask whether a resumed conversation is the conversation it resumed.
"""

from __future__ import annotations

import difflib
import hashlib
import re
from collections.abc import Sequence
from typing import Any, Protocol

import attrs
import numpy as np
from numpy.typing import NDArray

from callrt.testing.model_vad import Samples, decode_mulaw


@attrs.frozen
class Spoken:
    text: str


@attrs.frozen
class Calling:
    """A tool call. ``arguments`` is JSON as the model writes it, malformed if a test wants it so."""

    name: str
    arguments: str = "{}"


@attrs.frozen
class Answer:
    items: tuple[Spoken | Calling, ...]

    @classmethod
    def say(cls, *texts: str) -> Answer:
        return cls(tuple(Spoken(text) for text in texts))


class Brain(Protocol):
    def listen(self, audio: Samples) -> str:
        """The words in 8 kHz ``audio``; "" for noise."""
        ...

    def answer(
        self, history: Sequence[dict[str, Any]], instructions: str, speak_exactly: str | None
    ) -> Answer:
        """What to say next. ``history``: items in GA form, oldest first, audio replaced by its words."""
        ...


# -- history ------------------------------------------------------------------------------------------


def item_text(item: dict[str, Any]) -> str:
    """All words of a message item, whatever its content types."""
    parts = (part.get("text") or part.get("transcript") or "" for part in item.get("content", ()))
    return " ".join(part for part in parts if part)


_QUOTED = re.compile(r"say exactly:?\s*[\"“](.+?)[\"”](?!\w)", re.IGNORECASE | re.DOTALL)


def quoted_line(text: str) -> str | None:
    """The line after ``say exactly:``, if there is one."""
    found = _QUOTED.search(text)
    return found.group(1) if found else None


def words_of(text: str) -> list[str]:
    """Words for comparison: lower case, without punctuation."""
    return [word for raw in text.split() if (word := re.sub(r"[^\w']", "", raw.lower()))]


def remainder(heard: str, line: str) -> str | None:
    """What is left of ``line`` after ``heard``, or None when ``heard`` is not a strict prefix of it, word
    by word. A last word that was cut in its middle is said again from its start."""
    had = words_of(heard)
    raw = [word for word in line.split() if words_of(word)]
    want = [words_of(word)[0] for word in raw]
    if not had or len(had) > len(want):
        return None
    if had == want[: len(had)]:
        return " ".join(raw[len(had) :]) or None
    *whole, cut = had
    if whole == want[: len(whole)] and want[len(whole)].startswith(cut):
        return " ".join(raw[len(whole) :])
    return None


# -- the listener -------------------------------------------------------------------------------------

_DECIMATION = 4
"""Voices have their strength below 1 kHz: a quarter of the points finds them as well."""
_GONE = 0.02
"""Of a commit's energy: what is left below this is not another utterance."""
_EXPLAINED = 0.5
"""Of a commit's energy: when what was recognised accounts for less, it was a coincidence."""


def _wave(audio: Samples) -> NDArray[np.float64]:
    whole = audio[: len(audio) - len(audio) % _DECIMATION].astype(np.float64)
    coarse: NDArray[np.float64] = whole.reshape(-1, _DECIMATION).mean(axis=1)
    return coarse


class Listener:
    """Recognises known utterances by their waves: nearest match anywhere in a commit, also several in one,
    also one with a part missing. What it does not know it does not guess at. Deterministic."""

    def __init__(self, utterances: Sequence[tuple[str, bytes]], *, nearness: float = 0.5) -> None:
        self._nearness = nearness
        waves = ((text, _wave(decode_mulaw(audio))) for text, audio in utterances)
        self._known = [(text, wave, float(np.sum(wave**2))) for text, wave in waves if np.any(wave)]
        self._spectra: dict[tuple[int, int], NDArray[np.complex128]] = {}

    def listen(self, audio: Samples) -> list[str]:
        """The utterances in ``audio`` in their order; empty when none is near enough."""
        signal = _wave(audio)
        whole = float(np.sum(signal**2))
        explained = 0.0
        found: list[tuple[int, str]] = []
        while whole > 0 and len(found) < 8 and float(np.sum(signal**2)) > _GONE * whole:
            gain, at, index = self._nearest(signal)
            if index < 0:
                break
            explained += gain
            text, wave, _ = self._known[index]
            found.append((at, text))
            signal[max(0, at) : at + len(wave)] = 0
        return [text for _, text in sorted(found)] if explained >= _EXPLAINED * whole else []

    def _nearest(self, signal: NDArray[np.float64]) -> tuple[float, int, int]:
        """(energy explained, start, index) of the best match that is near enough; a start may be negative."""
        best = (0.0, 0, -1)
        longest = max((len(wave) for _, wave, _ in self._known), default=0)
        size = 1 << (len(signal) + longest).bit_length()
        spectrum = np.fft.rfft(signal, size)
        squares = np.concatenate([[0.0], np.cumsum(signal**2)])
        for index, (_, wave, energy) in enumerate(self._known):
            if (index, size) not in self._spectra:
                if len(self._spectra) > 512:
                    self._spectra.clear()
                self._spectra[index, size] = np.conj(np.fft.rfft(wave, size))
            dots = np.fft.irfft(spectrum * self._spectra[index, size], size)
            starts = np.arange(-len(wave) + 1, len(signal))
            low, high = np.clip(starts, 0, None), np.clip(starts + len(wave), None, len(signal))
            # The energy of all that is there counts below the line, so a sliver that fits is not a match.
            there = squares[high] - squares[low]
            near = dots[starts] / np.sqrt(np.maximum(there * energy, 1e-9))
            gain = np.where(near >= self._nearness, near**2 * there, 0.0)
            at = int(np.argmax(gain))
            if gain[at] > best[0]:
                best = (float(gain[at]), int(starts[at]), index)
        return best


# -- brains -------------------------------------------------------------------------------------------


@attrs.frozen
class Turn:
    """One exchange of a script."""

    caller: str
    audio: bytes
    """How the caller says it: mu-law, 8 kHz."""
    answer: str | tuple[str, ...]
    """What the agent says; several texts become several items of one reply."""
    tool: Calling | None = None
    """Called before the answer is said; the answer comes when its output is there."""
    before_tool: str = ""
    """Said in the same reply as the tool call, before it."""

    @property
    def answers(self) -> tuple[str, ...]:
        return (self.answer,) if isinstance(self.answer, str) else self.answer


@attrs.define(eq=False)
class ScriptBrain:
    """Follows a list of turns. Which turn it is follows from the history alone: the last thing the caller
    said, and how often it was said. A last assistant line that was cut is finished, not repeated."""

    turns: Sequence[Turn]
    lines: Sequence[str] = ()
    """Further lines of the agent's that it can finish when cut: a greeting, a farewell."""
    unintelligible: str = "(unintelligible)"
    unknown: str = "Sorry, I did not understand that."
    nudge: str = "Are you still there?"
    """Said when a reply is asked for and nothing is owed."""
    _listener: Listener | None = attrs.field(default=None, init=False)
    _heard: dict[bytes, str] = attrs.field(factory=dict, init=False)
    _told: dict[str, None] = attrs.field(factory=dict, init=False)
    """Lines it was made to say: they can be cut too. The latest thousand."""

    def listen(self, audio: Samples) -> str:
        if self._listener is None:
            self._listener = Listener([(turn.caller, turn.audio) for turn in self.turns])
        # Simulations say the same things thousands of times.
        key = hashlib.blake2b(audio.tobytes(), digest_size=16).digest()
        if key not in self._heard:
            if len(self._heard) >= 1000:
                del self._heard[next(iter(self._heard))]
            self._heard[key] = " ".join(self._listener.listen(audio))
        return self._heard[key] or self.unintelligible

    def answer(
        self, history: Sequence[dict[str, Any]], instructions: str, speak_exactly: str | None
    ) -> Answer:
        if speak_exactly is not None:
            self._told[speak_exactly] = None
            if len(self._told) > 1000:
                del self._told[next(iter(self._told))]
            return Answer.say(speak_exactly)
        talk = [item for item in history if item.get("role") != "system" and not _is_mute(item)]
        turn = self._turn(talk)
        said_by_caller = [at for at, item in enumerate(talk) if item.get("role") == "user"]
        after = talk[said_by_caller[-1] + 1 :] if said_by_caller else talk
        has_output = any(item["type"] == "function_call_output" for item in after)
        if turn is not None and turn.tool is not None and not has_output:
            so_far = _assistant_text(after)
            lead_in = remainder(so_far, turn.before_tool) if so_far else turn.before_tool
            return Answer((*((Spoken(lead_in),) if lead_in else ()), turn.tool))
        if talk and talk[-1].get("role") == "assistant":
            rest = self._rest_of(after, turn, instructions)
            return Answer.say(rest if rest is not None else self.nudge)
        if turn is None:
            return Answer.say(self.unknown if said_by_caller else self.nudge)
        return Answer.say(*turn.answers)

    def _turn(self, talk: Sequence[dict[str, Any]]) -> Turn | None:
        said = [self._known_utterance(item_text(item)) for item in talk if item.get("role") == "user"]
        if not said or said[-1] is None:
            return None
        same = [turn for turn in self.turns if turn.caller == said[-1]]
        return same[min(said.count(said[-1]), len(same)) - 1]

    def _known_utterance(self, text: str) -> str | None:
        heard = words_of(text)
        if not heard:
            return None
        near = [
            (difflib.SequenceMatcher(None, heard, words_of(turn.caller)).ratio(), turn) for turn in self.turns
        ]
        # Several utterances in one commit: the last one is what wants an answer.
        ended = [turn for _, turn in near if heard[-len(words_of(turn.caller)) :] == words_of(turn.caller)]
        if ended:
            return max(ended, key=lambda turn: len(words_of(turn.caller))).caller
        best = max(near, key=lambda pair: pair[0], default=None)
        return best[1].caller if best is not None and best[0] >= 0.7 else None

    def _rest_of(self, after: Sequence[dict[str, Any]], turn: Turn | None, instructions: str) -> str | None:
        """What is left of the line that the agent was saying, if it is one we know."""
        lines = [] if turn is None else [" ".join(turn.answers)]
        lines += [*self.lines, quoted_line(instructions) or "", *self._told]
        lines += [" ".join(other.answers) for other in self.turns if other is not turn]
        last = next(item_text(item) for item in reversed(after) if item.get("role") == "assistant")
        # A reply may have been several items: all that the agent said since the caller's last word, or its end.
        for heard in (_assistant_text(after), last):
            for line in lines:
                if (rest := remainder(heard, line)) is not None:
                    return rest
        return None


def _is_mute(item: dict[str, Any]) -> bool:
    return item.get("role") == "assistant" and not words_of(item_text(item))


def _assistant_text(items: Sequence[dict[str, Any]]) -> str:
    return " ".join(item_text(item) for item in items if item.get("role") == "assistant")


@attrs.define(eq=False)
class EchoBrain:
    """For standing use: no script, no recognition; it says that it heard something, and for how long."""

    heard: str = "(speech)"

    def listen(self, audio: Samples) -> str:
        return f"{self.heard[:-1]} of {len(audio) / 8000:.1f} seconds)"

    def answer(
        self, history: Sequence[dict[str, Any]], instructions: str, speak_exactly: str | None
    ) -> Answer:
        if speak_exactly is not None:
            return Answer.say(speak_exactly)
        said = [item_text(item) for item in history if item.get("role") == "user"]
        if not said:
            return Answer.say("Hello. I repeat what I know about what you say.")
        if found := re.fullmatch(r"\(speech of ([\d.]+) seconds\)", said[-1]):
            return Answer.say(
                f"I heard you speak for {found.group(1)} seconds. That was your turn number {len(said)}."
            )
        return Answer.say(f"You said: {said[-1]}")
