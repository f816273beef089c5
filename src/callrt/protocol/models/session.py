"""One model session from its first message to its last, without a socket or a clock.

Theory of operation. A session goes through four phases::

    OPENING ──session.created──▶ CONFIGURING ──session.updated──▶ REPLAYING ──last item added──▶ LIVE
       (an accepted upgrade proves nothing)      (no answers by itself)    (history as heard)

``handle`` takes one event and returns effects; ``tick`` does the same for time, and ``deadline`` says when
it next wants to be called. In LIVE it keeps three promises:

* *One request at a time.* A reply that we want while another is active is remembered and asked for when that
  one is done (the server refuses a second one).
* *Nothing dead is spoken.* From the moment the caller speaks, everything of the reply that was under way is
  muted until its end, because deltas in flight keep arriving.
* *A reply that is owed comes, or the session is declared failed.* Failed replies are tried again (rate
  limits up to three times with growing pauses, anything else once); silence while a reply is owed is a stall.

Items are named ``m<session number>.<provider's item id>`` towards the call: providers may count anew in each
session.
"""

from __future__ import annotations

import math

from callrt.protocol import faults
from callrt.protocol.faults import FaultKind
from callrt.protocol.models import effects as fx
from callrt.protocol.models import events as ev
from callrt.protocol.models.handshake import Handshake
from callrt.protocol.models.opening import CONTINUE_NOTE, Opening
from callrt.protocol.models.session_values import (
    Arrived,
    Failures,
    Phase,
    Reply,
    Requests,
    SessionLimits,
)
from callrt.protocol.models.tool_calls import ToolCalls
from callrt.protocol.mouth_values import ItemCut
from callrt.protocol.turn import Turn, TurnInput, TurnState

__all__ = ["Effects", "ModelSession", "Phase", "SessionLimits"]

Effects = list[fx.Effect]


class ModelSession:
    """See the module's text. Owned by one task; ``number`` counts the call's sessions from 1."""

    def __init__(
        self, number: int, opening: Opening, turn: Turn, started_at: float, limits: SessionLimits
    ) -> None:
        self.number = number
        self.turn = turn
        self.started_at = started_at
        self.limits = limits
        self.phase = Phase.OPENING
        self.caller_talking = False
        self.dropped_audio_bytes = 0
        """Audio of muted replies."""
        self._prefix = f"m{number}."
        self._reply: Reply | None = None
        self._dead_replies: dict[str, None] = {}
        self._arrived = Arrived()
        self._pending_tools = ToolCalls()
        self._wanted: ev.RequestReply | None = None
        self._asked: ev.RequestReply | None = None
        """What the present reply was asked for with; None when the caller's turn brought it by itself."""
        self._retry_at = math.inf
        self._waiting_since = math.inf
        """Since when the model, and nobody else, owes the next step; inf when it owes nothing."""
        self._nudged = False
        self._digit_at = math.inf
        self._failures = Failures(self.limits)
        self._requests = Requests(number)
        self._handshake = Handshake(opening, self._requests, self.limits, started_at)
        self._pending_tools.take_over(opening.running)

    # -- reading ---------------------------------------------------------------------------------------

    @property
    def deadline(self) -> float:
        """Clock time at which ``tick`` wants to be called; inf when nothing is pending."""
        if self.phase is Phase.OVER:
            return math.inf
        if self.phase is not Phase.LIVE:
            return self._handshake.deadline
        due = min(self._retry_at, self._digit_at)
        if self._model_owes():
            limit = self.limits.stall_seconds
            if self._may_nudge():
                limit *= self.limits.nudge_fraction
            due = min(due, self._waiting_since + limit)
        return due

    @property
    def live(self) -> bool:
        return self.phase is Phase.LIVE

    @property
    def busy(self) -> bool:
        """A reply is under way, wanted or owed: not the moment to renew the session."""
        return self._reply is not None or self._wanted is not None or self.turn.state is not TurnState.IDLE

    def name(self, item_id: str) -> str:
        """The call's name of one of this session's items."""
        return self._prefix + item_id

    # -- the model speaks ------------------------------------------------------------------------------

    def handle(self, event: ev.ModelEvent, now: float) -> Effects:
        """One event in, effects out. Never raises for anything a peer can send."""
        if self.phase is Phase.OVER:
            return []
        if self.phase is not Phase.LIVE and not isinstance(event, ev.ModelError):
            return self._open(self._handshake.handle(event, now), now)
        if isinstance(event, ev.ReplyAudio):  # the one that comes often
            return self._on_audio(event, now)
        match event:
            case ev.SpeechStarted():
                return self._on_speech_started(event, now)
            case ev.SpeechStopped():
                self.caller_talking = False
                self._owe(now)
                return [fx.SpeechPaused(self.name(event.item_id), event.at_ms)]
            case ev.TurnCommitted():
                return self._on_committed(event, now)
            case ev.CallerTranscript():
                if not event.final:
                    return []
                return [fx.Useful(), fx.CallerWords(self.name(event.item_id), event.text)]
            case ev.CallerTranscriptFailed():
                return [fx.Noticed(FaultKind.REQUEST_REJECTED, "transcription")]
            case ev.ReplyStarted():
                return self._on_reply_started(event, now)
            case ev.ReplyItemStarted():
                self._owe(now)
                reply = self._reply_of(event.reply_id)
                if reply is not None and event.kind == "message":
                    reply.items.setdefault(event.item_id, False)
                return []
            case ev.ReplyTranscript():
                self._owe(now)
                if self._is_dead(event.reply_id):
                    return []
                return [fx.Words(self.name(event.item_id), event.text, event.final)]
            case ev.ReplyText():
                return self._on_text(event, now)
            case ev.ReplyItemDone():
                return self._on_item_done(event, now)
            case ev.ToolCallRequested():
                return self._on_tool_call(event, now)
            case ev.ReplyDone():
                return self._on_reply_done(event, now)
            case ev.ModelError():
                return self._on_error(event, now)
            case ev.OtherMessage():
                if event.kind.startswith("response."):
                    self._owe(now)
                return []
            case _:
                return []

    # -- opening ---------------------------------------------------------------------------------------

    def _open(self, effects: Effects, now: float) -> Effects:
        """Carry on from a step of the handshake."""
        self.phase = self._handshake.phase
        if self.phase is not Phase.LIVE:
            return effects
        held, reply = self._pending_tools.release()
        effects = [*effects, *[self._give(call_id, output) for call_id, output in held]]
        opening = self._handshake.opening
        if opening.first is not None:
            return effects + self._ask(opening.first, now)
        if reply and not self._pending_tools:
            return effects + self._ask(ev.RequestReply(), now)
        if opening.owed:
            # The caller spoke while nobody listened: his own words, sent now, will call for the reply.
            self.turn.feed(TurnInput.REPLY_REQUESTED)
            self._owe(now)
        return effects

    # -- the caller ------------------------------------------------------------------------------------

    def _on_speech_started(self, event: ev.SpeechStarted, now: float) -> Effects:
        self.caller_talking = True
        self.turn.feed(TurnInput.SPEECH_STARTED)
        self._settle()
        self._retry_at = math.inf
        self._wanted = None
        self._digit_at = math.inf
        out: Effects = [fx.BargeIn(self.name(event.item_id), event.at_ms)]
        if self._reply is not None:
            self._mute(self._reply)
        return out

    def _on_committed(self, event: ev.TurnCommitted, now: float) -> Effects:
        self.caller_talking = False
        self.turn.feed(TurnInput.TURN_COMMITTED)
        self._asked = None
        self._nudged = False
        self._owe(now)
        return [fx.Useful(), fx.TurnTaken(self.name(event.item_id))]

    def cut(self, cut: ItemCut) -> Effects:
        """The caller heard only so much of this item: tell the model. Items that have no audio in this session
        (replayed ones, another session's) cannot be truncated, and are left alone."""
        prefix = self._prefix
        if self.phase is not Phase.LIVE or not cut.item_id.startswith(prefix):
            return []
        raw = cut.item_id[len(prefix) :]
        received = self._arrived.of(raw)
        if received is None:
            return []
        if cut.before_ms + cut.heard_ms <= 0 and cut.ended:
            self._arrived.forget(raw)
            return [self._requests.send(ev.DeleteItem(raw))]
        heard_ms = max(0, min(cut.heard_ms, received // 8))
        return [self._requests.send(ev.TruncateItem(raw, cut.content_index, heard_ms))]

    def digit(self, digit: str, now: float) -> Effects:
        """The caller pressed a key; the model is asked to react when no further key follows."""
        if self.phase is not Phase.LIVE:
            return []
        self._digit_at = now + self.limits.digit_pause
        return [
            self._requests.send(
                ev.AddMessage("user", f"(The caller pressed the key {digit}.)", self._requests.next_id())
            )
        ]

    def played_out(self) -> None:
        """Everything that was spoken has been heard."""
        self.turn.feed(TurnInput.PLAYED_OUT)
        self._arrived.heard(self._reply.items if self._reply is not None else ())

    # -- replies ---------------------------------------------------------------------------------------

    def _on_reply_started(self, event: ev.ReplyStarted, now: float) -> Effects:
        self._reply = Reply(event.reply_id)
        if self.caller_talking:
            # A reply to words that the caller is already taking back: late, and not wanted.
            self._mute(self._reply)
            return [self._requests.send(ev.CancelReply(event.reply_id))]
        if self.turn.state is not TurnState.AGENT_SPEAKING:
            self.turn.feed(TurnInput.REPLY_REQUESTED)
        self._owe(now)
        return []

    def _on_audio(self, event: ev.ReplyAudio, now: float) -> Effects:
        if event.reply_id in self._dead_replies:
            self.dropped_audio_bytes += len(event.audio)
            return []
        reply = self._reply_of(event.reply_id)
        if reply is None:
            # Audio without a created reply happens around interruptions; it is a reply all the same.
            reply = self._reply = Reply(event.reply_id)
            if self.caller_talking:
                self._mute(reply)
                self.dropped_audio_bytes += len(event.audio)
                return []
        first = not reply.spoke
        reply.spoke = True
        reply.items.setdefault(event.item_id, False)
        self._arrived.add(event.item_id, len(event.audio))
        self.turn.feed(TurnInput.REPLY_AUDIO)
        self._owe(now)
        speak = fx.Speak(self.name(event.item_id), event.content_index, event.audio)
        if first:
            # No reason to forgive: a poisoned session's replies fail after their first sound, again and again.
            return [fx.Useful(), speak]
        return [speak]

    def _on_text(self, event: ev.ReplyText, now: float) -> Effects:
        """Written words on an audio session: the reply will never be heard, so ask for it anew, spoken."""
        self._owe(now)
        reply = self._reply_of(event.reply_id)
        if reply is None or reply.muted:
            return []
        self._mute(reply)
        return [
            *(fx.SpeechComplete(self.name(item), whole=False) for item in reply.unfinished()),
            fx.Noticed(FaultKind.REPLY_FAILED, "text_reply"),
            self._requests.send(ev.CancelReply(event.reply_id)),
            # Nobody heard it: as long as it stands in the conversation the model believes that it was said.
            self._requests.send(ev.DeleteItem(event.item_id)),
            *self._retry(FaultKind.REPLY_FAILED, "text_reply", spoke=False, now=now),
        ]

    def _on_item_done(self, event: ev.ReplyItemDone, now: float) -> Effects:
        self._owe(now)
        reply = self._reply_of(event.reply_id)
        if reply is not None and event.kind == "message":
            reply.items[event.item_id] = True
        if event.kind != "message" or self._is_dead(event.reply_id):
            return []
        return [fx.SpeechComplete(self.name(event.item_id), whole=event.status == "completed")]

    def _on_reply_done(self, event: ev.ReplyDone, now: float) -> Effects:
        reply = self._reply_of(event.reply_id)
        dead = self._is_dead(event.reply_id)
        self._dead_replies.pop(event.reply_id, None)
        if reply is not None:
            self._reply = None
        whole = event.status == "completed"
        out: Effects = []
        if reply is not None and not dead:
            out += [fx.SpeechComplete(self.name(item), whole) for item in reply.unfinished()]
        out.append(fx.ReplyOver())
        spoke = reply is not None and reply.spoke
        if event.status == "failed":
            kind = faults.of_failed_reply(event.error_type, event.error_code)
            if kind is FaultKind.MODEL_ACCOUNT:
                return out + self._fail(kind, event.error_code or event.error_type)
            if not dead and not self.caller_talking:
                if reply is not None and reply.barely_spoke(self._arrived):
                    # Less than a word: as long as it stands there, the model takes it for a beginning.
                    out += [self._requests.send(ev.DeleteItem(item)) for item in reply.items]
                    spoke = False
                return out + self._retry(kind, event.error_code or event.error_type, spoke=spoke, now=now)
            return [*out, fx.Noticed(kind, event.error_code or event.error_type)]
        if dead:
            return out + self._ask_if_wanted(now)
        if event.status == "incomplete":
            if reply is not None and not spoke and not self._pending_tools and not self.caller_talking:
                # Withheld as a whole: to the caller that is no reply.
                return out + self._retry(
                    FaultKind.REPLY_FAILED, f"incomplete {event.reason}", spoke=False, now=now
                )
            out.append(fx.Noticed(FaultKind.REPLY_FAILED, f"incomplete {event.reason}"))
        if whole:
            self._failures.forgive()
        self._end_reply(spoke)
        return out + self._ask_if_wanted(now)

    def _end_reply(self, spoke: bool) -> None:
        if self._pending_tools:
            self.turn.feed(TurnInput.TOOL_STARTED)
            self._settle()
            return
        if not self.caller_talking:
            self.turn.feed(TurnInput.REPLY_ENDED if spoke else TurnInput.REPLY_ENDED_SILENT)
            self._settle()

    def _retry(self, kind: FaultKind, detail: str, *, spoke: bool, now: float) -> Effects:
        """A reply failed. The same one again, or, when that does not help, the end of this session."""
        verdict = self._failures.add(kind)
        if isinstance(verdict, FaultKind):
            return self._fail(verdict, detail)
        pause = verdict
        self.turn.feed(TurnInput.REPLY_REQUESTED)
        out: Effects = [fx.Trouble(kind, detail)]
        if spoke:
            out.append(self._requests.send(ev.AddMessage("system", CONTINUE_NOTE, self._requests.next_id())))
            self._asked = None
        if pause == 0.0:
            return out + self._ask(self._asked or ev.RequestReply(), now)
        self._settle()
        self._retry_at = now + pause
        return out

    def request(self, request: ev.RequestReply, now: float) -> Effects:
        """Ask for a reply now, or as soon as the server will take the request."""
        if self.phase is not Phase.LIVE:
            return []
        return self._ask(request, now)

    def _ask(self, request: ev.RequestReply, now: float) -> Effects:
        if self.caller_talking:
            return []  # his turn, once committed, brings a reply by itself
        self._retry_at = math.inf
        if self._reply is not None:
            self._wanted = request
            self._owe(now)  # at least its end: a tool was waited for, the model is waited for now
            return []
        self._wanted = None
        self._asked = request
        self.turn.feed(TurnInput.REPLY_REQUESTED)
        self._nudged = True
        self._owe(now)
        return [self._requests.send(request)]

    def _ask_if_wanted(self, now: float) -> Effects:
        if self._wanted is None or self._pending_tools:
            return []  # the last tool's output asks
        return self._ask(self._wanted, now)

    # -- tools -----------------------------------------------------------------------------------------

    def _on_tool_call(self, event: ev.ToolCallRequested, now: float) -> Effects:
        if not self._pending_tools.ask(event.call_id):
            return []
        self.turn.feed(TurnInput.TOOL_STARTED)
        self._settle()
        return [fx.Useful(), fx.RunTool(event.call_id, event.name, event.arguments)]

    def tool_output(self, call_id: str, output: str, now: float, *, reply: bool = True) -> Effects:
        """The one output of a call of this session, or of one that it took over. The follow-up reply is asked for
        once, when the last of the reply's calls has its output. Others are in the replay and change nothing here."""
        if call_id not in self._pending_tools or self.phase is Phase.OVER:
            return []
        if self.phase is not Phase.LIVE:
            self._pending_tools.hold(call_id, output, reply)
            return []
        self._pending_tools.settle(call_id)
        out: Effects = [self._give(call_id, output)]
        if not reply:
            if not self._pending_tools and self.turn.state is TurnState.TOOL_RUNNING:
                self.turn.state = TurnState.AGENT_FINISHING
            return out
        return out if self._pending_tools else out + self._ask(ev.RequestReply(), now)

    def _give(self, call_id: str, output: str) -> fx.Send:
        return self._requests.send(ev.AddToolOutput(call_id, output, self._requests.next_id()))

    # -- errors and time -------------------------------------------------------------------------------

    def _on_error(self, event: ev.ModelError, now: float) -> Effects:
        request = self._requests.take(event.client_event_id)
        detail = event.code or event.error_type
        kind = faults.of_error(event.error_type, event.code)
        if event.code == "conversation_already_has_active_response":
            if isinstance(request, ev.RequestReply) and not self.caller_talking and self._reply is not None:
                self._wanted = request
            return []
        if self.phase is not Phase.LIVE and not faults.ends_session(kind):
            return self._open(self._handshake.rejected(request, detail, event.param or detail), now)
        if kind is None:
            return []
        if faults.ends_session(kind):
            return self._fail(kind, detail)
        if isinstance(request, ev.RequestReply) and self._reply is None:
            return self._retry(FaultKind.REPLY_FAILED, detail, spoke=False, now=now)
        return [fx.Noticed(kind, detail)]

    def tick(self, now: float) -> Effects:
        """Time has passed. Cheap when nothing is due."""
        if now < self.deadline:
            return []
        if self.phase is not Phase.LIVE:
            return self._open(self._handshake.tick(now), now)
        if now >= self._retry_at:
            return self._ask(self._asked or ev.RequestReply(), now)
        if now >= self._digit_at:
            self._digit_at = math.inf
            if self.turn.state in (TurnState.IDLE, TurnState.AGENT_FINISHING):
                return self._ask(ev.RequestReply(), now)
            return []
        return self._on_silence(now)

    def _on_silence(self, now: float) -> Effects:
        reply = self._reply
        if self._may_nudge():
            self._nudged = True
            return [fx.Noticed(FaultKind.MODEL_STALLED, "nudge"), self._requests.send(ev.RequestReply())]
        if reply is not None and reply.items and all(reply.items.values()) and not self._pending_tools:
            # All of the reply has come; only its last word is missing. That is no reason to fail.
            return [
                fx.Noticed(FaultKind.MODEL_STALLED, "reply_done_missing"),
                *self._on_reply_done(ev.ReplyDone(reply.reply_id, "completed"), now),
            ]
        return self._fail(FaultKind.MODEL_STALLED, self.turn.state.value)

    def _fail(self, kind: FaultKind, detail: str) -> Effects:
        self.phase = Phase.OVER
        return [fx.SessionFailed(kind, detail)]

    # -- small things ----------------------------------------------------------------------------------

    def _reply_of(self, reply_id: str) -> Reply | None:
        return self._reply if self._reply is not None and self._reply.reply_id == reply_id else None

    def _mute(self, reply: Reply) -> None:
        reply.muted = True
        self._dead_replies[reply.reply_id] = None
        while len(self._dead_replies) > 32:
            del self._dead_replies[next(iter(self._dead_replies))]

    def _is_dead(self, reply_id: str) -> bool:
        return reply_id in self._dead_replies

    def _owe(self, now: float) -> None:
        """The model is at work, or should be: its silence counts from here."""
        self._waiting_since = now

    def _settle(self) -> None:
        self._waiting_since = math.inf

    def _model_owes(self) -> bool:
        if self._waiting_since == math.inf or self.caller_talking or self._retry_at != math.inf:
            return False
        if self._reply is not None and not self._reply.muted:
            return not (self._pending_tools and all(self._reply.items.values()))
        return self.turn.state in (TurnState.REPLY_OWED, TurnState.CALLER_SPEAKING)

    def _may_nudge(self) -> bool:
        return not self._nudged and self._reply is None and self.turn.state is TurnState.REPLY_OWED
