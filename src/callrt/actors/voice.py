"""The voice: everything the caller hears goes through here, in order, written by one hand.

A ``Voice`` belongs to the playback actor. Its methods are synchronous, so that audio goes from the model's
socket to the carrier's without a mailbox or a task switch; the actor itself only supplies time.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from typing import TYPE_CHECKING

import trio

from callrt.policy import facts
from callrt.protocol.carriers.events import CarrierCommand, ClearAudio, SendAudio
from callrt.protocol.comfort import ComfortPlan
from callrt.protocol.mouth_values import ITEMS_MAX, ItemCut
from callrt.protocol.playback import Mouth
from callrt.protocol.records import AgentSaid, LinePlayed
from callrt.protocol.tracks import Tracks

if TYPE_CHECKING:
    from callrt.actors.line import Line

GRACE_SECONDS = 0.05
"""A tick is left to the caller's next frame for so long: one comes each 20 ms, mostly, and speech is 400 ms ahead."""

PROGRESS_SECONDS = 0.25
"""Between two looks at what has been heard, where no mark asks for one: as fresh as the journal is."""


class Voice:
    """``lines``: our own, by name, as mu-law. ``wake``: wakes the playback actor."""

    def __init__(
        self,
        line: Line,
        lines: Mapping[str, bytes],
        mouth: Mouth,
        comfort: ComfortPlan,
        wake: Callable[[], None],
    ) -> None:
        self.line = line
        self.lines = lines
        self.mouth = mouth
        self.comfort = comfort
        self.wake = wake
        self.owed_since: float | None = None
        """Clock time since when the caller waits for a reply; for the measure of dead air."""
        self.paused_at: float | None = None
        """Clock time at which the caller stopped speaking; for the measure of turn latency."""
        self.armed = math.inf
        """Clock time at which ``tick`` is due."""
        self.crash: Exception | None = None
        """Of a tick in another actor's step: the playback actor raises it."""
        self._quiet_from = 0.0
        self._spoke = False
        self._said: dict[str, str] = {}
        """The words of each item as they were last recorded, until the last of its records."""
        self._progress_at = -math.inf

    # -- what there is to say --------------------------------------------------------------------------

    def speak(self, item: str, content_index: int, audio: bytes) -> None:
        """Audio of the agent's reply, of any length."""
        now = trio.current_time()
        if self.comfort.known_at is not None:
            self.comfort.eased()
        dropped = self.mouth.push(item, content_index, audio)
        if dropped:
            self.line.observe(facts.FramesDropped("downlink", "dead_or_full", max(1, dropped // 160)))
        self.line.transcript.agent_audio(item, len(audio) // 8, audio)
        if self._pump(now):
            # The first audio of a reply goes out at once: later audio waits for its turn on purpose.
            self.line.observe(facts.DownlinkDelay(trio.current_time() - now))
        self._wake_if_due(now)

    def complete(self, item: str) -> None:
        self.mouth.end_item(item)
        now = trio.current_time()
        self._pump(now)
        self._progress(now)
        self._soon(now)

    def say_line(self, name: str) -> None:
        """One of the bundled lines, behind what is already queued."""
        audio = self.lines.get(name)
        if audio is None:
            return
        self.mouth.say(name, audio)
        self.line.log.write(LinePlayed(line=name))
        self.line.observe(facts.ComfortPlayed(name))
        now = trio.current_time()
        self._pump(now)
        self._soon(now)

    def trouble(self) -> None:
        """A failure is known while a reply is owed: comfort, unless the reply comes in time."""
        now = trio.current_time()
        self.comfort.trouble(now)
        self._soon(now)

    def ease(self) -> None:
        self.comfort.eased()

    def barge_in(self, began: float) -> tuple[ItemCut, ...]:
        """Silence now. Returns what was cut, and how much of it the caller had heard; ``began`` is the clock time
        of the event that asked for it."""
        now = trio.current_time()
        flush = self.mouth.flush(now)
        if flush.commands and not self.line.doubtful(now):
            self._write(flush.commands, now)
            self.line.observe(facts.BargeIn(max(0.0, trio.current_time() - began)))
        for cut in flush.items:
            self._record(cut.item_id, cut.before_ms + cut.heard_ms, interrupted=True, complete=False)
        self._progress(now)
        self._soon(now)
        return flush.items

    # -- the carrier's word ----------------------------------------------------------------------------

    def on_mark(self, name: str) -> None:
        now = trio.current_time()
        outcome = self.mouth.on_mark(name, now)
        self._pump(now)
        self._progress(now)
        if outcome.completed or outcome.lines:
            self._soon(now)
        else:
            self._wake_if_due(now)

    def attach(self, generation: int, *, epoch: int = 0) -> None:
        """A new stream: what was not heard is spoken from the first unheard position."""
        now = trio.current_time()
        self.mouth.attach(generation, now, epoch=epoch)
        self._pump(now)
        self._soon(now)

    def detach(self, last_evidence: float | None) -> None:
        now = trio.current_time()
        self.mouth.detach(now, last_evidence)
        if self.line.tracks is not None:
            self.line.tracks.cut(now)
        self._progress(now)

    # -- time ------------------------------------------------------------------------------------------

    def beat(self) -> None:
        """A frame of the caller's has come when a tick was due, or the metronome says so: do it in this step, and the
        playback actor sleeps on. To wake it five times a second would cost ten times as much. Never raises."""
        try:
            self.arm()
        except Exception as error:
            self.crash = error
            self.armed = math.inf
            self.wake()

    def arm(self) -> None:
        """Do what is due, and see to it that the next tick comes in time."""
        self.armed = self.tick()
        self.line.metronome.ticked(self.armed)

    def tick(self) -> float:
        """Do what is due; returns the clock time of the next tick."""
        now = trio.current_time()
        if self.line.doubtful(now):
            return math.inf  # whoever ends the doubt wakes us
        waiting = self.comfort.known_at is not None and self.line.stream is not None
        if waiting and self.comfort.due(self._sound_until(now)) <= now:
            self.comfort.spoke()
            self._dead_air(now)
            self.say_line("one_moment")
        self._pump(now)
        if now >= self._progress_at + PROGRESS_SECONDS:
            self._progress(now)
        end = self._sound_until(now)
        # While there is a sound to come there is something unheard.
        if self._spoke and end <= now and self.mouth.unheard_ms(now) == 0:
            self._spoke = False
            self.line.played_out()
        due = self.mouth.next_wakeup(now)
        if waiting:
            due = min(due, max(now, self.comfort.due(end)))
        if self._spoke and end > now:
            due = min(due, end + 0.001)
        elif self._spoke:
            due = min(due, now + 0.02)
        return due

    def _wake_if_due(self, now: float) -> None:
        """Most messages change nothing about when the next tick is due."""
        self._soon(self.mouth.next_wakeup(now))

    def _soon(self, due: float) -> None:
        """A tick with the caller's next frame from then on."""
        if due < self.armed:
            self.armed = due
            self.line.metronome.expect(due + GRACE_SECONDS)

    @property
    def silent(self) -> bool:
        """Nothing is left to be heard."""
        return self.mouth.unheard_ms(trio.current_time()) == 0

    @property
    def silent_at(self) -> float:
        """Clock time when all there is will have been heard."""
        return self.mouth.audio_end(trio.current_time())

    def owe(self, paused_at: float | None) -> None:
        """The caller waits for a reply from now on."""
        if self.owed_since is None:
            self.owed_since = trio.current_time()
        self.paused_at = paused_at

    # -- inside ----------------------------------------------------------------------------------------

    def _pump(self, now: float) -> bool:
        """Write what is due. True when that broke a silence."""
        if self.line.stream is None or self.line.doubtful(now):
            return False
        silent = self._quiet_from <= now
        commands = self.mouth.pump(now)
        if not commands:
            return False
        spoken = any(isinstance(command, SendAudio) for command in commands)
        if spoken:
            self._first_audio(now)
        self._write(commands, now)
        return spoken and silent

    def _first_audio(self, now: float) -> None:
        self._spoke = True
        self.line.active_at = now
        if self.owed_since is None and self.paused_at is None and self.line.model_lost_at is None:
            return  # nobody waited for it
        if self.comfort.said or self.mouth.speaking(now) in self.lines:
            return
        self.line.first_audio(now)
        if self.paused_at is not None:
            self.line.observe(facts.TurnLatency(max(0.0, now - self.paused_at)))
            self.paused_at = None
        self._dead_air(now)
        self.owed_since = None

    def _dead_air(self, now: float) -> None:
        if self.owed_since is not None:
            silence = now - max(self.owed_since, min(now, self._quiet_from))
            self.line.observe(facts.DeadAir(max(0.0, silence)))
            self.owed_since = now

    def _write(self, commands: list[CarrierCommand] | tuple[CarrierCommand, ...], now: float) -> None:
        stream = self.line.stream
        if stream is None:
            return
        if self.line.tracks is not None:
            self._record_tracks(self.line.tracks, commands, now)
        encode = stream.codec.encode
        if not stream.send([encode(command) for command in commands]):
            # The lead is a fraction of the backlog: a full one is a socket that takes nothing any more.
            self.line.observe(facts.FramesDropped("downlink", "carrier_backlog"))
            stream.transport.abort()
            return
        self._sound_until(now)

    def _record_tracks(self, tracks: Tracks, commands: Sequence[CarrierCommand], now: float) -> None:
        for command in commands:
            if isinstance(command, SendAudio):
                tracks.play(command.payload, now)
            elif isinstance(command, ClearAudio):
                tracks.cut(now)

    def _sound_until(self, now: float) -> float:
        """When the caller will have heard, or has heard, the last of what was said."""
        end = self.mouth.audio_end(now)
        self._quiet_from = end if end > now else min(self._quiet_from, now)
        return self._quiet_from

    def conclude(self) -> None:
        """The call is over: what has been heard by now is recorded, also what no mark will confirm any more."""
        self._progress(trio.current_time())

    def _progress(self, now: float) -> None:
        """What has been heard by now, into the call's records; once per new word, not once per mark."""
        self._progress_at = now
        for item in self.mouth.progress(now):
            if item.cut or item.heard_ms <= 0:
                continue
            self._record(item.item_id, item.heard_ms, interrupted=False, complete=item.complete)

    def _record(self, item: str, heard_ms: int, *, interrupted: bool, complete: bool) -> None:
        transcript = self.line.transcript
        if transcript.is_settled(item):
            return
        whole = complete and not self.line.is_partial(item)
        # All of it has been heard: then its words are those that came, and no estimate.
        text = self.line.words(item, heard_ms) if not complete else self.line.all_words(item)
        if interrupted or whole:
            self._said.pop(item, None)
            transcript.settle(item)
        elif self._said.get(item) == text:
            return
        else:
            self._said[item] = text
            while len(self._said) > ITEMS_MAX:
                del self._said[next(iter(self._said))]
        self.line.log.write(
            AgentSaid(item_id=item, text=text, heard_ms=heard_ms, interrupted=interrupted, complete=whole)
        )


def beat_overdue(lines: list[Line], now: float) -> float:
    """Beat where no frame has done it, look after streams of which none comes, and wake the directors whose time has
    come. Returns the clock time at which there is something to do again."""
    first = math.inf
    for line in lines:
        if line.speaks:
            voice = line.voice
            if voice.armed + GRACE_SECONDS <= now:
                voice.beat()
            if voice.armed + GRACE_SECONDS < first:
                first = voice.armed + GRACE_SECONDS
        hearing = line.hearing
        if hearing is not None:
            if hearing.due <= now:
                hearing.look(now)
            if hearing.due < first:
                first = hearing.due
        if line.director_due <= now:
            line.director_due = math.inf
            line.director_wake.ring()
        elif line.director_due < first:
            first = line.director_due
    return first
