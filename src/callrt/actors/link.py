"""The link: one model session on one socket, its effects carried out on the line.

The model actor owns it. The carrier actor and the tools reach it through synchronous methods; an error of ours
in one of them must fell the model actor, not the caller of the method, so it is caught and handed over.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from functools import partial

import trio

from callrt.actors.line import TURNS_HELD, CallerActive, Line
from callrt.actors.ports import ModelCodec
from callrt.policy import facts
from callrt.protocol.attention import Attention
from callrt.protocol.ear import Ear
from callrt.protocol.faults import FaultKind
from callrt.protocol.models import effects as fx
from callrt.protocol.models import events as ev
from callrt.protocol.models.opening import say_exactly
from callrt.protocol.models.session import ModelSession
from callrt.protocol.records import CallerSaid, ModelSessionOpened
from callrt.protocol.turn import TurnState
from callrt.protocol.uplink import BYTES_PER_MS
from callrt.wire.transport import Transport, encoded_sender

PIECE = 8_000
"""Held audio is sent in pieces of one second: small enough for any message bound."""

DEADLINE_MOVES = 2.0
"""Seconds by which the session's deadline is later than its actor's when that is moved on."""


class ModelLink:
    """The model's side of the line while a session is up. ``scope`` is around the actor's wait for the socket; its
    deadline is the link's. ``base``: uplink position of the session's millisecond 0."""

    def __init__(
        self,
        line: Line,
        session: ModelSession,
        transport: Transport,
        codec: ModelCodec,
        scope: trio.CancelScope,
        base: int = 0,
    ) -> None:
        self.line = line
        self.session = session
        self.transport = transport
        self.codec = codec
        self.scope = scope
        self.base = base
        self.look_at = math.inf
        """When the actor wants to look at the session anyway."""
        self.failed: fx.SessionFailed | None = None
        self.crash: Exception | None = None
        self.live = False
        """The session takes the caller's audio."""
        self.session_id = ""
        self.send_audio: Callable[[bytes], bool] = encoded_sender(transport)
        """A message that is encoded already; False: it was not taken."""
        self._turn_began: int | None = None
        self._frames = 0

    # -- called by others -------------------------------------------------------------------------------

    def append(self, audio: bytes, now: float) -> None:
        """One frame of the caller's, which was heard at ``now``."""
        if not self.send_audio(self.codec.encode_audio(audio)):
            self.line.observe(facts.FramesDropped("uplink", "model_backlog"))
            self.transport.abort()
            return
        self._frames += 1
        if self._frames % 50 == 0:
            self.line.observe(facts.UplinkDelay(trio.current_time() - now))

    def probe(self) -> None:
        """The caller has spoken and the model shows no sign of it: does it still live?"""
        if not self.transport.send_nowait(self.codec.encode(ev.Probe())):
            self.transport.abort()
        self.scope.deadline = min(self.scope.deadline, self.deadline)

    def digit(self, digit: str) -> None:
        self._guarded(partial(self.session.digit, digit))

    def tool_output(self, call_id: str, output: str, *, reply: bool) -> None:
        self._guarded(partial(self.session.tool_output, call_id, output, reply=reply))

    def filler(self, text: str) -> None:
        request = say_exactly(self.line.plan.agent.instructions, text, purpose="filler")
        self._guarded(partial(self.session.request, request))

    def played_out(self) -> None:
        self.session.played_out()

    def _guarded(self, step: Callable[[float], Sequence[fx.Effect]]) -> None:
        try:
            self.perform(step(trio.current_time()))
        except Exception as error:
            self.crash = error
            self.scope.cancel()

    # -- called by the model actor -------------------------------------------------------------------------

    def receive(self, message: str | bytes) -> None:
        """One message of the model's, to its end."""
        now = trio.current_time()
        attention = self.line.attention
        spoken_from = attention.spoken_from
        attention.sign()
        if attention.spoken_from != spoken_from:
            self.line.hold_audio()
        for event in self.codec.decode(message):
            if isinstance(event, ev.BadMessage):
                self.line.bad("model", event.reason)
                continue
            if isinstance(event, ev.OtherMessage) and not event.known:
                self.line.bad("model", "unknown_event")
                continue
            if isinstance(event, ev.SessionCreated):
                self.session_id = event.session_id
            self.perform(self.session.handle(event, now))

    def tick(self) -> None:
        if self.live and trio.current_time() >= self.line.attention.deadline:
            # The caller has spoken to a session that hears nothing: he waits for a reply.
            self.line.turn.state = TurnState.REPLY_OWED
            self.failed = fx.SessionFailed(FaultKind.MODEL_STALLED, "deaf")
            return
        self.perform(self.session.tick(trio.current_time()))

    def perform(self, effects: Sequence[fx.Effect]) -> None:
        for effect in effects:
            self._one(effect)
        # Each message of the model's makes it a little later: who wakes too early looks again, but that is dear.
        deadline, present = self.deadline, self.scope.deadline
        if deadline < present or deadline > present + DEADLINE_MOVES:
            self.scope.deadline = deadline

    @property
    def deadline(self) -> float:
        """Clock time until which the actor may wait for the socket."""
        return min(self.session.deadline, self.look_at, self.line.attention.deadline)

    def _one(self, effect: fx.Effect) -> None:
        line = self.line
        match effect:
            case fx.Speak(item, content_index, audio):
                line.voice.speak(item, content_index, audio)
            case fx.Words(item, text, final):
                line.transcript.agent_words(item, text, final)
            case fx.Send(command, event_id):
                if not self.transport.send_nowait(self.codec.encode(command, event_id=event_id)):
                    self.transport.abort()
            case fx.BargeIn():
                self._on_barge_in(effect)
            case fx.SpeechPaused(_, at_ms):
                line.active()
                position = self.base + at_ms * BYTES_PER_MS
                line.heard_until = max(line.heard_until, min(position, line.uplink.end))
                lag = max(0, line.uplink.end - position) / (BYTES_PER_MS * 1000)
                line.voice.owe(trio.current_time() - lag)
            case fx.TurnTaken(item):
                self._on_turn(item)
            case fx.CallerWords(item, text):
                line.turn_audio.pop(item, None)
                line.hold_audio()
                line.log.write(CallerSaid(item_id=item, text=text))
            case fx.SpeechComplete(item, whole):
                if whole:
                    line.transcript.agent_ended(item)
                else:
                    line.mark_partial(item)
                line.voice.complete(item)
            case fx.RunTool(call_id, name, arguments):
                line.active()
                line.tools.request(call_id, name, arguments, line.turn.number)
            case fx.WentLive():
                self._on_live()
            case fx.Useful():
                line.ladder.useful()
            case fx.Trouble(kind, detail):
                line.fault(kind, detail)
                line.voice.trouble()
            case fx.ReplyOver():
                if not line.turn.owed:
                    line.voice.ease()
                    line.voice.owed_since = None
            case fx.Noticed(kind, detail):
                line.fault(kind, detail)
            case fx.SessionFailed():
                self.failed = effect
                self.scope.cancel()

    # -- the bigger effects --------------------------------------------------------------------------------

    def _on_barge_in(self, effect: fx.BargeIn) -> None:
        line = self.line
        began = trio.current_time()
        cuts = line.voice.barge_in(began)
        for cut in cuts:
            self.perform(self.session.cut(cut))
        line.active()
        line.voice.ease()
        line.voice.owed_since = None
        self._turn_began = max(line.uplink.start, self.base + effect.at_ms * BYTES_PER_MS)
        line.speech_from = self._turn_began
        line.hold_audio()
        line.notify(CallerActive())

    def _on_turn(self, item: str) -> None:
        line = self.line
        begin = self._turn_began if self._turn_began is not None else line.heard_until
        end = max(line.heard_until, begin)
        self._turn_began = None
        line.speech_from = None
        line.attention.taken()
        line.turn_audio[item] = (begin, end)
        while len(line.turn_audio) > TURNS_HELD:
            del line.turn_audio[next(iter(line.turn_audio))]
        line.hold_audio()
        line.log.write(CallerSaid(item_id=item, text=""))
        line.voice.owe(line.voice.paused_at or trio.current_time())

    def _on_live(self) -> None:
        """The session listens: it gets what was said while nobody did, then every frame as it comes."""
        line = self.line
        line.ports.gate.pass_(line.plan.model.url, line.plan.model.api_key)
        start = max(line.uplink.start, min(self.base, line.uplink.end))
        self.base = start
        self.live = True
        line.attention = Attention(line.plan.resilience.model_stall_seconds)
        held = line.uplink.read(start)
        for at in range(0, len(held), PIECE):
            self.append(held[at : at + PIECE], trio.current_time())
        line.ear = Ear()
        line.hold_audio()
        if not line.turn.owed:
            # All that was owed when the last session was lost has been said: nobody is to wait for more.
            line.voice.ease()
            line.voice.owed_since = None
        line.log.write(ModelSessionOpened(number=self.session.number, session_id=self.session_id))
