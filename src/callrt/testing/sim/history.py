"""What can be known of a simulated call afterwards: what was heard, said, told, journalled and done.

Nothing here asks the code under test what it thinks. Sound is recognised frame by frame: the emulated model's
voice makes no two frames alike, so a frame that was heard names its word.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from functools import cached_property
from typing import Any, Literal

import attrs

from callrt.comfort.library import ComfortLibrary
from callrt.protocol.records import Entry
from callrt.testing.carrier import PhoneCall
from callrt.testing.carrier_stream import FRAME_BYTES, TICK_SECONDS
from callrt.testing.carrier_tape import is_audible
from callrt.testing.model_brain import words_of
from callrt.testing.model_session import ModelSession
from callrt.testing.sim import cast
from callrt.testing.sim.case import Case, SimFault
from callrt.testing.sim.cast import Effect
from callrt.testing.speech import pause_frames

FRAME_MS = 20

LINES: dict[str, tuple[str, ...]] = {
    "greeting": tuple(words_of(cast.GREETING)),
    "filler": tuple(words_of(cast.FILLER)),
    "unknown": tuple(words_of(cast.UNKNOWN)),
    "nudge": tuple(words_of(cast.NUDGE)),
    **{name: tuple(words_of(each.answer)) for name, each in cast.EXCHANGES.items()},
}
"""What the agent can say, as words."""


@attrs.frozen
class Asked:
    """The caller said something."""

    line: str
    began: float
    ended: float
    over_agent: bool = False


@attrs.frozen
class Struck:
    """A fault that happened."""

    at: float
    fault: SimFault
    connection: int = 0
    """Of a model's fault."""


@attrs.frozen
class Life:
    """One process."""

    number: int
    booted: float
    died: float | None = None


@attrs.define(eq=False)
class Drained:
    """A process was told to leave, and what came of it."""

    at: float
    seconds: float
    alone: bool
    over_at: float | None = None
    """When it had nothing left to do."""
    left: int = 0
    """Calls that it had then."""
    declined: list[PhoneCall] = attrs.field(factory=list)
    """Calls that were placed while it was leaving, with nobody else to take them."""


@attrs.frozen
class Leftovers:
    """What was still there when everything should have been put away."""

    tasks: int = 0
    calls: int = 0
    model_sockets: int = 0


@attrs.frozen
class WordHeard:
    """A word of one of the agent's lines at the caller's ear."""

    line: str
    index: int
    began: float
    ended: float
    part: float
    """How much of it was heard, 0 to 1."""
    ms: int
    """How long the whole word is."""


@attrs.frozen
class LineHeard:
    """A bundled line (comfort, apology, …) began to be heard."""

    name: str
    at: float


@attrs.frozen
class _Place:
    """A frame of something that the model, or the bundled library, says."""

    source: str
    frame: int


@attrs.define(eq=False)
class History:
    case: Case
    call: PhoneCall
    sessions: Sequence[ModelSession]
    """Of this call, in order."""
    connections: int
    entries: Sequence[Entry]
    committed: Mapping[int, float]
    """Entry number to clock time of its commit."""
    epoch: float
    """Wall time at the clock's zero."""
    asked: Sequence[Asked]
    struck: Sequence[Struck]
    lives: Sequence[Life]
    effects: Sequence[Effect]
    runs: Sequence[tuple[float, str]]
    reports: Sequence[tuple[str, str, str]]
    metrics: str
    bad_input: int
    leftovers: Leftovers
    placed_at: float
    over_at: float
    calm_at: float | None
    """When the storm was over; None when the call ended in it."""
    healed_at: float | None
    """When the answer to the calm's question had been heard."""
    hung_up_in_mid_answer: bool = False
    others: Sequence[History] = ()
    """Calls of other people in the same process, to whom nothing was done."""
    voices: Sequence[ModelSession] = ()
    """Every session there was: any of them may be what was heard."""
    jitter: float = 0.0
    """Seconds by which what is noted here may be late: real machines have other things to do."""
    drained: Sequence[Drained] = ()
    stuck: str = ""
    """Why the simulation itself had to be stopped, if it had."""

    # -- sound ------------------------------------------------------------------------------------------------

    @cached_property
    def _atlas(self) -> dict[bytes, _Place]:
        atlas: dict[bytes, _Place] = {}
        for name, audio in ComfortLibrary.load(None, "en").items():
            for index, frame in enumerate(_frames(audio)):
                atlas.setdefault(frame, _Place(f"line {name}", index))
        for number, session in enumerate(self.voices or self.sessions):
            for index, item in enumerate(session.spoken):
                for n, frame in enumerate(_frames(bytes(item.audio))):
                    atlas[frame] = _Place(f"item {number} {index}", n)
        return atlas

    def _frames_heard(self) -> Iterator[tuple[float, _Place]]:
        atlas = self._atlas
        for heard in self.call.tape.heard:
            if heard.source == "stream" and is_audible(heard.frame):
                place = atlas.get(heard.frame)
                if place is not None:
                    yield heard.at, place

    @cached_property
    def bundled(self) -> tuple[LineHeard, ...]:
        """Bundled lines, in the order in which they began."""
        found: list[LineHeard] = []
        last: tuple[str, int] = ("", 0)
        for at, place in self._frames_heard():
            kind, _, name = place.source.partition(" ")
            if kind == "line":
                if last[0] != name or place.frame < last[1]:
                    found.append(LineHeard(name, at))
                last = (name, place.frame)
            else:
                last = ("", 0)
        return tuple(found)

    @cached_property
    def words(self) -> tuple[WordHeard, ...]:
        """Every stretch of every word of the agent's that was heard, in order."""
        found: list[WordHeard] = []
        current: tuple[str, int, float, float, int] | None = None  # source, word, began, last, frames
        for at, place in self._frames_heard():
            kind, _, rest = place.source.partition(" ")
            word = self._word_at(rest, place.frame) if kind == "item" else None
            if word is None:
                continue
            same = (
                current is not None
                and current[0] == rest
                and current[1] == word
                and at - current[3] < 2.5 * TICK_SECONDS
            )
            if same and current is not None:
                current = (rest, word, current[2], at, current[4] + 1)
                continue
            if current is not None:
                found.append(self._heard(current))
            current = (rest, word, at, at, 1)
        if current is not None:
            found.append(self._heard(current))
        return tuple(found)

    def _item(self, rest: str) -> Any:
        number, _, index = rest.partition(" ")
        return (self.voices or self.sessions)[int(number)].spoken[int(index)]

    def _word_at(self, rest: str, frame: int) -> int | None:
        ms = frame * FRAME_MS
        for index, word in enumerate(self._item(rest).words):
            if ms < word.end_ms:
                return index
        return None

    def _heard(self, stretch: tuple[str, int, float, float, int]) -> WordHeard:
        rest, index, began, last, frames = stretch
        item = self._item(rest)
        line, offset = placed(tuple(words_of(" ".join(word.text for word in item.words))))
        word = item.words[index]
        # A word's stretch ends with a pause that is not audible.
        pause = pause_frames(word.text) if index + 1 < len(item.words) else 0
        sounding = max(1, (word.end_ms - word.start_ms) // FRAME_MS - pause)
        return WordHeard(
            line,
            offset + index,
            began,
            last + TICK_SECONDS,
            min(1.0, frames / sounding),
            word.end_ms - word.start_ms,
        )

    @cached_property
    def audible(self) -> tuple[tuple[float, float], ...]:
        """When the caller heard anything at all, as (from, to); gaps under 0.1 s are bridged."""
        return tuple(self.call.tape.audible_spans(gap_seconds=0.1))

    def silence_after(self, at: float) -> tuple[float, float]:
        """(from, to) of the first silence at or after ``at``; it may last to the end of the call."""
        start = at
        for begin, end in self.audible:
            if end <= start:
                continue
            if begin > start + 1e-9:
                return start, begin
            start = end
        return start, self.over_at

    # -- records ----------------------------------------------------------------------------------------------

    def of(self, kind: type) -> list[Entry]:
        return [entry for entry in self.entries if isinstance(entry.record, kind)]

    @cached_property
    def outcome(self) -> str | None:
        from callrt.protocol.records import CallEnded

        ends = [entry.record.outcome for entry in self.entries if isinstance(entry.record, CallEnded)]
        return ends[0] if ends else None

    # -- what happened --------------------------------------------------------------------------------------

    def faults(self, *kinds: type) -> list[Struck]:
        return [struck for struck in self.struck if isinstance(struck.fault, kinds)]

    def window(self, index: int) -> tuple[float, float]:
        """From the end of the caller's ``index``-th words to the beginning of the next, or to the end."""
        until = self.asked[index + 1].began if index + 1 < len(self.asked) else self.over_at
        return self.asked[index].ended, until

    def streaming(self, start: float, end: float) -> bool:
        """Was there one live stream, from ``start`` to ``end``, that somebody at our end of it could hear?"""
        for stream in self.call.streams:
            gone = self.stream_gone(stream.media.number)
            if stream.started_at <= start and end <= gone:
                return True
        return False

    def stream_gone(self, number: int) -> float:
        """When a stream ended at the carrier; the end of the call if it did not."""
        ends = [event.at for event in self.call.wire if event.stream == number and event.kind == "ended"]
        drops = [
            s.at for s in self.struck if getattr(s.fault, "how", "") == "half_open" and s.connection == number
        ]
        return min([*ends, *drops, self.over_at])


Verdict = Literal["held", "violated", "not exercised"]


def placed(words: tuple[str, ...]) -> tuple[str, int]:
    """Which line of the cast these words are a part of, and from which word on."""
    for name, line in LINES.items():
        for offset in range(len(line) - len(words) + 1):
            if line[offset : offset + len(words)] == words:
                return name, offset
    return "other", 0


def _frames(audio: bytes) -> Iterator[bytes]:
    for at in range(0, len(audio), FRAME_BYTES):
        frame = audio[at : at + FRAME_BYTES]
        if len(frame) == FRAME_BYTES and is_audible(frame):
            yield frame
        elif is_audible(frame.ljust(FRAME_BYTES, b"\xff")):
            yield frame.ljust(FRAME_BYTES, b"\xff")
        else:
            yield b""
