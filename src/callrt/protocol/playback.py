"""The mouth: state of the sole writer to the caller. What was queued, sent and heard, and what to send next.

Theory of operation. Everything said is a *voice*: an item of the model, or a line of ours. Voices are spoken
in the order they came; the one that has the mouth keeps it until it has nothing to send. Audio goes out in
chunks with a mark after each (``ledger.py``), some hundred milliseconds ahead of the caller's ear. Whatever
is not known to be heard stays here, so that a dropped stream only moves the pen back to the heard position.

Two numbers name a stream's past: ``generation``, new with every carrier stream, and ``epoch``, new with every
barge-in. Both are in each mark, so an echo caused by a clear, or by another stream, can never count as heard.

No clock: ``now`` is float seconds, given to each method. mu-law at 8 kHz: 8 bytes are 1 ms, 160 one frame.
"""

from __future__ import annotations

import math

from callrt.protocol.carriers.events import CarrierCommand, ClearAudio, SendAudio, SendMark
from callrt.protocol.ledger import BYTES_PER_MS, BYTES_PER_SECOND, Ledger, Mark
from callrt.protocol.mouth_values import (
    Flush,
    ItemCut,
    ItemHeard,
    ItemProgress,
    Lost,
    MarkOutcome,
    MouthLimits,
)
from callrt.protocol.voice import Voice

__all__ = ["Flush", "ItemCut", "ItemHeard", "ItemProgress", "Lost", "MarkOutcome", "Mouth", "MouthLimits"]


class Mouth:
    """Pure state of the sole writer to the caller; see the module's theory of operation.

    Call ``pump`` after every push, say, end_item, mark and attach, and at ``next_wakeup``; write all that it
    returns, in order. Nothing is ever sent twice on one stream.
    """

    def __init__(self, limits: MouthLimits | None = None) -> None:
        self.limits = limits if limits is not None else MouthLimits()
        self.generation = 0
        self.epoch = 0
        self.attached = False
        self.dropped: dict[str, int] = {}
        """Bytes by reason: dead_item, ended_item, queue_full, too_many_items, flushed, lost_line."""
        self._voices: list[Voice] = []
        """Neither complete nor cut, in the order of their first audio."""
        self._speaker: Voice | None = None
        """Has the mouth until it has nothing to send."""
        self._recent: list[Voice] = []
        """Items, live or not, in the order of their first audio, until ``progress`` has told that they are complete or
        cut; the oldest forgotten first."""
        self._items: dict[tuple[str, int], Voice] = {}
        """Those of this model session by id and content index."""
        self._dead: dict[str, None] = {}
        """Items of which no more audio is wanted; bounded, oldest forgotten first."""
        self._lines_said: dict[str, int] = {}
        self._ledger: Ledger[Voice] = self._new_ledger(0.0)

    # -- the stream --------------------------------------------------------------------------------

    def attach(self, generation: int, now: float, *, epoch: int = 0) -> None:
        """A new carrier stream: what was not heard is sent again from the first unheard position.

        ``generation`` must be greater than any before (ValueError). A stream still attached is
        detached first. ``epoch`` is for a mouth rebuilt on a stream that still runs: one more than any
        epoch used on it.
        """
        if self.attached:
            self.detach(now)
        if generation <= self.generation:
            raise ValueError(f"generation {generation} is not newer than {self.generation}")
        self.generation = generation
        self.epoch = epoch
        self.attached = True
        # A carrier that has echoed will echo: until it does, a stream that is slow to begin is not taken as heard.
        self._ledger = self._new_ledger(now, echoes=self._ledger.echoed)

    def detach(self, now: float, last_evidence: float | None = None) -> Lost:
        """The stream is gone: what was sent and not heard goes back to the queue's head, lines are dropped.

        The heard position is frozen at the estimate for ``now``, or for 20 ms after ``last_evidence`` (clock
        time of the last sign of life): give it always, a stream may have died unnoticed, and a reset may be
        slow to arrive. Without a stream: no effect.
        """
        if not self.attached:
            return Lost()
        at = now if last_evidence is None else min(now, last_evidence + 0.02)
        in_flight = self._ledger.in_flight
        first_unheard = next((c.voice for c, n in self._ledger.reckon(at) if n < c.length), self._speaker)
        lines: list[str] = []
        for voice, position in self._positions(at).items():
            in_flight -= position - voice.heard
            voice.settle(position)
            voice.sent = position
            if voice.line and not voice.complete:
                lines.append(voice.name)
                self._drop("lost_line", voice.length - position)
                voice.silence()
        self._ledger.clear(now)
        self.attached = False
        self._speaker = first_unheard
        completed, _ = self._retire()
        return Lost(
            items=tuple(v.progress(v.heard) for v in self._voices),
            lines=tuple(lines),
            unheard_ms=in_flight // BYTES_PER_MS,
            completed=completed,
        )

    # -- what is to be said ------------------------------------------------------------------------

    def push(self, item_id: str, content_index: int, audio: bytes) -> int:
        """Audio of the model, any length. Returns how many bytes were dropped; ``dropped`` counts why."""
        if not audio:
            return 0
        if item_id in self._dead:
            return self._drop("dead_item", len(audio))
        voice = self._items.get((item_id, content_index))
        if voice is None:
            if len(self._voices) >= self.limits.items_max:
                return self._drop("too_many_items", len(audio))
            voice = self._new_item(item_id, content_index)
        elif voice.ended or voice.cut:
            return self._drop("ended_item", len(audio))
        taken = audio[: self._room()] if not voice.choked else b""
        voice.append(taken)
        if len(taken) == len(audio):
            return 0
        voice.choked = True
        return self._drop("queue_full", len(audio) - len(taken))

    def end_item(self, item_id: str) -> bool:
        """No more audio comes for this item. True if it became complete by this: all of it had been heard."""
        for voice in self._voices:
            if voice.name == item_id and not voice.line:
                voice.end()
        return item_id in self._retire()[0]

    def end_session(self) -> tuple[str, ...]:
        """The model's session is over: no open item gets more audio, and its item ids may come again.

        Audio that has arrived plays on. Returns the items that have become complete by this.
        """
        for voice in self._voices:
            voice.end()
        self._dead.clear()
        self._items.clear()
        return self._retire()[0]

    def mute(self, item_id: str) -> None:
        """Nothing more is wanted of this item: later pushes are dropped, what is queued of it is said."""
        self._bury(item_id)
        self.end_item(item_id)

    def say(self, line: str, audio: bytes) -> None:
        """A line of ours, behind what is queued; dropped whole (and counted) when the queue has no room."""
        if len(audio) > self._room() or len(self._voices) >= self.limits.items_max:
            self._drop("queue_full", len(audio))
            return
        if not audio:
            return
        number = self._lines_said.get(line, 0) + 1
        if line in self._lines_said or len(self._lines_said) < self.limits.items_max:
            self._lines_said[line] = number
        voice = Voice(line, 0, line if number == 1 else f"{line}~{number}", line=True)
        voice.append(audio)
        voice.end()
        self._voices.append(voice)

    # -- what to write now -------------------------------------------------------------------------

    def pump(self, now: float) -> list[CarrierCommand]:
        """What to write now: chunks with their marks, as far as the lead allows."""
        commands: list[CarrierCommand] = []
        if not self.attached:
            return commands
        presumed = self._ledger.presume(now)
        for chunk in presumed:
            chunk.voice.settle(chunk.end)
        if presumed:
            self._retire()
        while (plan := self._next_chunk(now)) is not None and now >= plan[2]:
            voice, count, _ = plan
            start = voice.sent
            audio = voice.take(count)
            mark = str(Mark(self.generation, self.epoch, voice.label, voice.sent // BYTES_PER_MS))
            self._ledger.send(voice, start, voice.sent, mark, now)
            self._speaker = voice
            commands += (SendAudio(audio), SendMark(mark))
        return commands

    def next_wakeup(self, now: float) -> float:
        """Clock time at which ``pump`` may have something to do although nothing happens; inf if none.

        After ``pump(now)`` it is later than ``now``.
        """
        if not self.attached:
            return math.inf
        at = self._ledger.presumed_at()
        plan = self._next_chunk(now)
        return max(now, at if plan is None else min(at, plan[2]))

    def _next_chunk(self, now: float) -> tuple[Voice, int, float] | None:
        """The next chunk, its length, and when it is to be sent."""
        voice = self._next_voice()
        if voice is None:
            return None
        limits, ledger = self.limits, self._ledger
        count = min(voice.sendable, limits.chunk_ms * BYTES_PER_MS)
        # Half a chunk with no end in sight waits for more until the lead is low: tiny deltas stutter.
        whole = count == limits.chunk_ms * BYTES_PER_MS or voice.ended
        at = ledger.dry_at - (limits.lead_ms if whole else limits.lead_ms // 2) / 1000
        in_flight_max = limits.lead_max_ms * BYTES_PER_MS
        if ledger.in_flight + count > in_flight_max and ledger.relies_on_echoes(now):
            at = max(at, ledger.patience_ends_at())
        return voice, count, at

    def _next_voice(self) -> Voice | None:
        if self._speaker is not None and self._speaker.sendable:
            return self._speaker
        return next((voice for voice in self._voices if voice.sendable), None)

    # -- what the carrier and the caller say -------------------------------------------------------

    def on_mark(self, name: str, now: float) -> MarkOutcome:
        """An echo. Late, duplicate, reordered and foreign ones change nothing."""
        played = self._ledger.acknowledge(name, now)
        if not played:
            return self._why_not(name)
        for chunk in played:
            chunk.voice.settle(chunk.end)
        completed, lines = self._retire()
        return MarkOutcome("played", completed, lines)

    def _why_not(self, name: str) -> MarkOutcome:
        """What an echo is that settles nothing: no chunk in flight has such a mark."""
        mark = Mark.parse(name)
        if mark is None or mark.generation > self.generation:
            return MarkOutcome("unknown")
        if mark.generation < self.generation or not self.attached:
            return MarkOutcome("stale")
        if mark.epoch != self.epoch:
            return MarkOutcome("flushed" if mark.epoch < self.epoch else "unknown")
        return MarkOutcome("stale")

    def flush(self, now: float) -> Flush:
        """Barge-in: all that is unplayed is dropped, and the items are dead: later audio of them is refused.

        Items that were heard to their end are not among those cut; an open one is, even if all that had
        arrived of it was heard.
        """
        self.epoch += 1
        heard = self._positions(now - self.limits.safety_ms / 1000)
        commands: tuple[CarrierCommand, ...] = (ClearAudio(),) if self._ledger.chunks else ()
        cuts: list[ItemCut] = []
        lines: list[str] = []
        for voice, position in heard.items():
            voice.settle(position)
            if voice.complete:
                continue
            self._drop("flushed", voice.length - position)
            voice.silence()
            if voice.line:
                lines.append(voice.name)
            else:
                self._bury(voice.name)
                cuts.append(
                    ItemCut(
                        item_id=voice.name,
                        content_index=voice.content_index,
                        heard_ms=voice.ms(position),
                        received_ms=voice.received // BYTES_PER_MS,
                        ended=voice.ended,
                        before_ms=self._heard_before(voice),
                    )
                )
        self._ledger.clear(now)
        completed, _ = self._retire()
        return Flush(self.epoch, commands, tuple(cuts), tuple(lines), completed)

    # -- where we are ------------------------------------------------------------------------------

    def items(self, now: float) -> tuple[ItemProgress, ...]:
        """The model's items by parts, in the order of their first audio, without those that :meth:`progress` has told
        to be complete or cut."""
        heard = self._positions(now)
        return tuple(voice.progress(heard.get(voice, voice.heard)) for voice in self._recent)

    def progress(self, now: float) -> tuple[ItemHeard, ...]:
        """What has been heard of each item. Those that are complete or cut are told this once, and forgotten, also
        behind one that never ends."""
        if not self._recent:
            return ()
        heard = self._positions(now)
        told: list[ItemHeard] = []
        for parts in _by_item(self._recent):
            heard_ms = 0
            complete, cut, over = True, False, True
            for part in parts:
                heard_ms += part.ms(heard.get(part, part.heard))
                complete = complete and part.complete
                cut = cut or part.cut
                over = over and (part.complete or part.cut)
            told.append(ItemHeard(parts[0].name, heard_ms, complete, cut))
            if over:
                for part in parts:
                    self._forget(part)
        return tuple(told)

    def audio_end(self, now: float) -> float:
        """Clock time when all that is in the mouth now will have been heard; ``now`` if silent.

        Without a stream: as if one were attached now.
        """
        queued = sum(voice.sendable for voice in self._voices)
        return max(now, self._ledger.ends_at()) + queued / BYTES_PER_SECOND

    def unheard_ms(self, now: float) -> int:
        """Audio, sent and queued, that has not been heard; frames not yet whole do not count."""
        heard = self._positions(now)
        return sum(v.sent + v.sendable - heard[v] for v in self._voices) // BYTES_PER_MS

    def speaking(self, now: float) -> str | None:
        """The item or line at the caller's ear, or next to reach it; None when silent."""
        for chunk, played in self._ledger.reckon(now):
            if played < chunk.length:
                return chunk.voice.name
        voice = self._next_voice()
        return None if voice is None else voice.name

    def marks_overdue(self, now: float) -> float:
        """Seconds by which the oldest outstanding mark is late; 0 if none: evidence for a stalled stream."""
        return self._ledger.overdue(now)

    # -- within ------------------------------------------------------------------------------------

    def _positions(self, at: float) -> dict[Voice, int]:
        """How far each live voice has been heard at ``at``: settled, or reckoned if that is more."""
        positions = {voice: voice.heard for voice in self._voices}
        for chunk, played in self._ledger.reckon(at):
            if played:
                positions[chunk.voice] = chunk.start + played
        return positions

    def _retire(self) -> tuple[tuple[str, ...], tuple[str, ...]]:
        """Let go of voices that are done; the items and lines that have become complete."""
        if self._speaker is not None and (self._speaker.complete or self._speaker.cut):
            self._speaker = None
        if not any(voice.complete or voice.cut for voice in self._voices):
            return (), ()
        items: list[str] = []
        lines: list[str] = []
        live: list[Voice] = []
        for voice in self._voices:
            if voice.complete:
                (lines if voice.line else items).append(voice.name)
            elif not voice.cut:
                live.append(voice)
        self._voices = live
        return tuple(items), tuple(lines)

    def _room(self) -> int:
        unheard = sum(voice.length - voice.heard for voice in self._voices)
        return max(0, self.limits.queue_max_ms * BYTES_PER_MS - unheard)

    def _new_item(self, item_id: str, content_index: int) -> Voice:
        label = item_id if content_index == 0 else f"{item_id}/{content_index}"
        voice = Voice(item_id, content_index, label, line=False)
        if len(self._recent) == self.limits.items_max:
            self._forget(self._recent[0])
        self._recent.append(voice)
        self._items[item_id, content_index] = voice
        self._voices.append(voice)
        return voice

    def _heard_before(self, voice: Voice) -> int:
        """Milliseconds of the item's parts before this one."""
        heard_ms = 0
        for part in self._recent:
            if part is voice:
                break
            if part.name == voice.name and part.content_index < voice.content_index:
                heard_ms += part.ms(part.heard)
        return heard_ms

    def _forget(self, voice: Voice) -> None:
        """Of what is complete or cut no more audio is taken, also when it is known no longer."""
        self._recent.remove(voice)
        key = (voice.name, voice.content_index)
        if self._items.get(key) is not voice:
            return  # of an earlier session, whose ids may come again
        del self._items[key]
        if voice.complete or voice.cut:
            self._bury(voice.name)

    def _bury(self, item_id: str) -> None:
        self._dead[item_id] = None
        if len(self._dead) > self.limits.items_max:
            del self._dead[next(iter(self._dead))]

    def _drop(self, reason: str, count: int) -> int:
        if count > 0:
            self.dropped[reason] = self.dropped.get(reason, 0) + count
        return count

    def _new_ledger(self, now: float, *, echoes: bool = False) -> Ledger[Voice]:
        limits = self.limits
        return Ledger(
            now,
            delay=limits.delay_ms / 1000,
            delay_max=limits.delay_max_ms / 1000,
            patience=limits.patience_ms / 1000,
            presume_after=limits.presume_ms / 1000,
            echoes=echoes,
        )


def _by_item(voices: list[Voice]) -> list[list[Voice]]:
    """The parts of each item together. An id whose parts begin anew is a later session's, and another item."""
    found: list[list[Voice]] = []
    latest: dict[str, list[Voice]] = {}
    for voice in voices:
        parts = latest.get(voice.name)
        if parts is not None and parts[-1].content_index < voice.content_index:
            parts.append(voice)
        else:
            latest[voice.name] = parts = [voice]
            found.append(parts)
    return found
