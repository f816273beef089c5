"""The line: what the actors of one call share, and nothing else. It outlives every one of them.

Each part has one owner: ``voice`` belongs to playback, ``link`` to model, ``stream`` to the call (which lends
it to carrier and playback). The others reach it through synchronous methods, in the same task switch: that is
what keeps a frame's way short. What must survive an actor (the history, the caller's audio that no session
has turned into words, the rung of the ladder) is here.
"""

from __future__ import annotations

import itertools
import math
from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING, Literal

import attrs
import trio

from callrt.actors.log import CallLog
from callrt.actors.metronome import current_metronome
from callrt.actors.ports import CallPlan, CallPorts, CarrierCodec
from callrt.actors.tools import ToolDesk
from callrt.actors.voice import Voice
from callrt.policy import facts, limits
from callrt.protocol.attention import Attention
from callrt.protocol.carriers.events import ClearAudio
from callrt.protocol.comfort import ComfortPlan
from callrt.protocol.conduct import Verdict
from callrt.protocol.ear import Ear
from callrt.protocol.faults import FaultKind
from callrt.protocol.ladder import Chance, Ladder
from callrt.protocol.mouth_values import ITEMS_MAX
from callrt.protocol.playback import Mouth
from callrt.protocol.records import AgentSaid, FaultSeen
from callrt.protocol.tracks import Tracks
from callrt.protocol.transcript import Transcript
from callrt.protocol.turn import Turn
from callrt.protocol.uplink import BYTES_PER_MS, Uplink
from callrt.supervision.waiting import Bell, Flag
from callrt.wire.transport import Transport, sender

if TYPE_CHECKING:
    from callrt.actors.hearing import Hearing
    from callrt.actors.link import ModelLink


class Stream:
    """One carrier stream, from its start message to its end."""

    def __init__(
        self, stream_sid: str, generation: int, transport: Transport, codec: CarrierCodec, attached_at: float
    ) -> None:
        self.stream_sid = stream_sid
        self.generation = generation
        self.transport = transport
        self.codec = codec
        self.attached_at = attached_at
        self.last_media_at = attached_at
        self.over = Flag()
        self.stopped = False
        self.stalled = False
        """Frames have stopped coming: the carrier may believe in it still."""
        self.send: Callable[[Sequence[str]], bool] = sender(transport)
        """Several messages, in one write if possible; False: not all were taken."""


@attrs.frozen
class Lost:
    """What the director is told when a stream has ended."""

    stream: Stream
    kind: FaultKind
    reason: str


@attrs.frozen
class Wish:
    """A built-in tool asks for the end of the agent's part."""

    verdict: Verdict


@attrs.frozen
class CallerActive:
    """The caller spoke: a wish of the agent's that was not carried out yet is void."""


@attrs.frozen
class Fenced:
    """Another process owns the call."""


@attrs.frozen
class Doubt:
    """The process was frozen: is the call still ours? Nothing is spoken until that is known."""


@attrs.frozen
class Leave:
    """Another process is to take the call up."""


Notice = Lost | Wish | CallerActive | Fenced | Doubt | Leave


TURNS_HELD = 8


class Line:
    """See the module's text. ``tools`` is set by whoever makes the line."""

    tools: ToolDesk

    __deletable__ = ("voice",)
    """A call that has ended takes it away: see ``Call._part``."""

    def __init__(self, call_sid: str, plan: CallPlan, ports: CallPorts, log: CallLog, ladder: Ladder) -> None:
        now = trio.current_time()
        self.call_sid = call_sid
        self.plan = plan
        self.ports = ports
        self.log = log
        self.ladder = ladder
        self.transcript = Transcript()
        self.uplink = Uplink(keep_ms=limits.UPLINK_HELD_MS)
        self.ear = Ear()
        self.attention = Attention(plan.resilience.model_stall_seconds)
        self.turn = Turn()
        self.link: ModelLink | None = None
        self.stream: Stream | None = None
        self.stream_ready = Bell()
        self.over = Flag()
        """The call has no further use for a carrier: the carrier actor ends in good order."""
        self.voice_wake = Bell()
        self.metronome = current_metronome()
        self.speaks = False
        """The playback actor is up."""
        self.hearing: Hearing | None = None
        """While the carrier actor listens to a stream."""
        self.director_due = math.inf
        """Clock time at which the metronome wakes the director."""
        self.notices: list[Notice] = []
        """For the director. As many as streams, wishes and freezes; "the caller spoke" stands there once."""
        self.director_wake = Bell()
        self.model_lost_at: float | None = None
        self.reconnect_at = 0.0
        self.afresh = False
        """The provider choked on the history: the next session gets a summary instead."""
        self.sessions = 0
        self.heard_until = 0
        """Uplink position up to which the last session had turned the caller's audio into turns."""
        self.speech_from: int | None = None
        """Uplink position at which the caller's present utterance began."""
        self.renewing_from: int | None = None
        """Uplink position from which a session that is being primed will be given the caller's audio."""
        self.turn_audio: dict[str, tuple[int, int]] = {}
        """Uplink ranges of turns whose words are not known yet; bounded by ``TURNS_HELD``."""
        self.partial: dict[str, str] = {}
        """Agent's items whose generation was cut by a loss: never complete, whatever is heard of them. With the words
        of what had arrived, as reckoned then: the successor goes on behind exactly these."""
        self.bad_input: dict[str, int] = {}
        self.active_at = now
        self.tracks: Tracks | None = None
        """Where both voices are recorded; None unless the operator wants it."""
        self.in_doubt = False
        self.pauses_seen = ports.pulse.check(now)
        self.replay_ids = itertools.count(1)
        self.voice = self._fresh_voice()

    def _fresh_voice(self) -> Voice:
        comfort = ComfortPlan(after=self.plan.resilience.comfort_after_ms / 1000)
        lines = self.ports.comfort(self.plan.agent.language)
        return Voice(self, lines, Mouth(), comfort, self.voice_wake.ring)

    def renew_voice(self) -> None:
        """After a crash of playback: a new mouth on the same stream."""
        stream = self.stream
        waiting = self.voice.comfort.known_at is not None
        epoch = self.voice.mouth.epoch + 1
        # The old one may be inconsistent.
        self.voice = self._fresh_voice()
        if stream is not None:
            stream.transport.send_nowait(stream.codec.encode(ClearAudio()))
            self.voice.attach(stream.generation, epoch=epoch)
        if waiting or self.turn.owed:
            self.voice.owe(None)
            self.voice.trouble()

    # -- the caller's audio ------------------------------------------------------------------------------

    def hear(self, payload: bytes, missing_ms: int, now: float) -> None:
        """One frame from the caller: to the model if one listens, and kept in any case for one that will."""
        self.uplink.hear(payload, missing_ms)
        if self.tracks is not None:
            self.tracks.say(b"\xff" * (missing_ms * BYTES_PER_MS) + payload, now)
        link = self.link
        if link is not None and link.live:
            if missing_ms:
                payload = b"\xff" * (missing_ms * BYTES_PER_MS) + payload
            link.append(payload, now)
            before = self.attention.spoken_from
            unnoticed = self.attention.hear(payload, self.uplink.end - len(payload), now)
            if self.attention.spoken_from != before:
                self.hold_audio()
            if unnoticed:
                link.probe()
        elif self.ear.hear(payload):
            # He spoke to nobody, and has finished: now he waits for a reply.
            self.voice.owe(now)
            self.voice.trouble()

    def hold_audio(self) -> None:
        """Recompute from where the caller's audio may still be needed."""
        needed = [begin for begin, _ in self.turn_audio.values()]
        if self.speech_from is not None:
            needed.append(self.speech_from)
        if self.attention.spoken_from is not None:
            needed.append(self.attention.spoken_from)
        if self.link is None or not self.link.live:
            needed.append(self.heard_until)
        if self.renewing_from is not None:
            needed.append(self.renewing_from)
        self.uplink.need_from(min(needed) if needed else None)

    # -- small services to the actors ----------------------------------------------------------------------

    def observe(self, fact: facts.Fact) -> None:
        self.ports.observe(fact)

    def report(self, level: str, sentence: str) -> None:
        self.ports.report(self.call_sid, level, sentence)

    def bad(self, source: Literal["carrier", "model"], reason: str, sentence: str = "") -> None:
        """Count bad input; the first of its source in a call is reported, in a sentence of its own or the usual one."""
        seen = self.bad_input[source] = self.bad_input.get(source, 0) + 1
        self.observe(facts.BadInput(source, reason))
        if seen <= limits.BAD_INPUT_REPORTS:
            usual = f"the {source} sent a message that was not understood ({reason}); it was skipped"
            self.report("warning", sentence or usual)
            self.fault(FaultKind.BAD_INPUT, f"{source} {reason}")

    def fault(self, kind: FaultKind, detail: str = "") -> None:
        self.log.write(FaultSeen(fault=kind.value, turn=self.turn.state.value, detail=detail[:80]))

    def doubtful(self, now: float) -> bool:
        """May nothing be said now? Asked before every word: whoever wakes first after a freeze finds out."""
        pauses = self.ports.pulse.check(now)
        if pauses != self.pauses_seen:
            self.pauses_seen = pauses
            self.in_doubt = True
            self.notify(Doubt())
        return self.in_doubt

    def notify(self, notice: Notice) -> None:
        if not (isinstance(notice, CallerActive) and self.notices and self.notices[-1] == notice):
            self.notices.append(notice)
        self.director_wake.ring()

    def active(self) -> None:
        """Somebody speaks: silence counts from here."""
        self.active_at = trio.current_time()

    def played_out(self) -> None:
        self.active()
        if self.link is not None:
            self.link.played_out()
        self.director_wake.ring()

    def first_audio(self, now: float) -> None:
        """The first audio of a reply is on the wire."""
        if self.model_lost_at is not None:
            self.observe(facts.ModelRecovered(max(0.0, now - self.model_lost_at)))
            self.model_lost_at = None

    def words(self, item: str, heard_ms: int) -> str:
        """The words in so much of an agent's item."""
        text = self.transcript.heard_text(item, heard_ms)
        cut = self.partial.get(item)
        return text if cut is None or len(text) < len(cut) else cut

    def all_words(self, item: str) -> str:
        """The words of all that has arrived of an agent's item."""
        cut = self.partial.get(item)
        return self.transcript.expected_text(item) if cut is None else cut

    def is_partial(self, item: str) -> bool:
        return item in self.partial

    def mark_partial(self, item: str) -> None:
        self.partial.setdefault(item, self.transcript.expected_text(item))
        while len(self.partial) > ITEMS_MAX:
            del self.partial[next(iter(self.partial))]

    def expected(self) -> dict[str, str]:
        """Agent's items that are still being played, with the words that will have been heard when they are."""
        now = trio.current_time()
        return {
            item.item_id: self.all_words(item.item_id)
            for item in self.voice.mouth.items(now)
            if not item.complete and not item.cut and item.received_ms > 0
        }

    def note_expected(self) -> None:
        """An item that has arrived and not begun to be heard is not in the history yet: give it its place."""
        known = {line.item_id for line in self.log.state.lines}
        for item in self.expected():
            if item not in known:
                self.log.write(AgentSaid(item_id=item, text="", heard_ms=0))


def make_ladder(plan: CallPlan, rng: Chance) -> Ladder:
    resilience = plan.resilience
    return Ladder(
        retries=resilience.model_retries,
        give_up_seconds=resilience.model_give_up_seconds,
        human=plan.agent.transfer_to is not None,
        rng=rng,
    )
