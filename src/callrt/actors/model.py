"""The model actor: one incarnation, one model session after the other, the next one by restart.

It acknowledges its start before it connects, so no supervisor ever waits for a network. A lost session ends
it with :class:`ModelLost` (the supervisor restarts it, and it waits for its rung of the ladder) or with
``GiveUp`` (the ladder has ended). Only a renewal of an ageing session happens within one incarnation: when
nobody speaks, a second session is opened and primed beside the first, and takes its place in one step. If
anything happens meanwhile the second is dropped, and a later pause is used: until the switch the first one is
the only one that hears and speaks.
"""

from __future__ import annotations

import math
from functools import partial

import trio

from callrt.actors.line import Line
from callrt.actors.link import ModelLink
from callrt.actors.loss import lose_model, settle_line
from callrt.actors.opening import LEAD_IN, begin_session
from callrt.protocol import faults
from callrt.protocol.faults import FaultKind, UnusableKey
from callrt.protocol.models import effects as fx
from callrt.protocol.models.session import ModelSession, SessionLimits
from callrt.protocol.models.transcoding import codec_for
from callrt.protocol.records import ModelSessionEnded
from callrt.protocol.turn import TurnState
from callrt.protocol.uplink import BYTES_PER_MS
from callrt.supervision import Context, GiveUp
from callrt.supervision.waiting import Flag
from callrt.wire.transport import Transport, TransportClosed, deliver
from callrt.wire.websocket import ConnectFailed, UpgradeRefused

RENEWAL_LOOK = 0.25
"""Seconds between two looks for a quiet moment, when a session is to be renewed."""

RENEWAL_RETRY = 5.0
"""After a renewal that did not come about."""

RENEWED = "renewed"


class _Retired(Exception):
    """A primed successor has taken this session's place."""


class _NotNow(Exception):
    """Something happened while a successor was being primed: it would not know of it."""


async def run_model(line: Line, ctx: Context[object], *, task_status: trio.TaskStatus[None]) -> None:
    """Start function of the child ``model``. If cancelled: the session is dropped, its audio plays on."""
    task_status.started()
    await trio.sleep_until(line.reconnect_at)
    relay = _Relay(line)
    try:
        async with trio.open_nursery() as relay.nursery:
            await relay.current.run_here()
            error = await relay.lost()  # at once, unless a successor has the line
            relay.nursery.cancel_scope.cancel()
        try:
            raise error
        finally:
            del error
    finally:
        del relay.current  # which knows it: what has ended is in no cycle


class _Relay:
    """One session has the line; at most one other is being primed."""

    def __init__(self, line: Line) -> None:
        self.nursery: trio.Nursery
        """Where successors live."""
        self._line = line
        self._error: Exception | None = None
        self._over = Flag()
        self._next: _Session | None = None
        self._not_before = -math.inf
        self.current = self._new()

    async def lost(self) -> Exception:
        """How the session that has the line ended; a restart is needed. If cancelled: no effect."""
        await self._over.wait()
        error, self._error = self._error, None
        assert error is not None
        return error

    def renew(self) -> None:
        """Prime a successor, unless that is being done, or was tried just now."""
        if self._next is None and trio.current_time() >= self._not_before:
            self._next = self._new()
            self.nursery.start_soon(self._next.run_here)

    def take_over(self, session: _Session) -> None:
        """The successor is live. In one step it hears and speaks, and the other does not. No checkpoint."""
        old, self.current, self._next = self.current, session, None
        old.retire()
        self._line.link = session.link
        self._line.tools.model_session_changed()

    def ended(self, session: _Session, error: Exception | None) -> None:
        if session is self._next:
            self._next = None
            self._not_before = trio.current_time() + RENEWAL_RETRY
        elif session is self.current and error is not None:
            self._error = error
            self._over.set()

    def _new(self) -> _Session:
        line = self._line
        line.sessions = max(line.sessions, *(s.number for s in line.log.state.model_sessions), 0) + 1
        return _Session(line, self)


class _Session:
    def __init__(self, line: Line, relay: _Relay) -> None:
        self.line = line
        self.relay = relay
        self.number = line.sessions
        self.link: ModelLink | None = None
        self.heard_at = 0
        self._retired = False

    async def run_here(self) -> None:
        """Its end is the relay's business."""
        error: Exception | None = None
        try:
            if self.is_current:
                await self._run_on(None)
            else:
                await self._run_beside()
        except _Retired:
            self.line.log.write(ModelSessionEnded(number=self.number, reason=RENEWED))
        except Exception as failure:
            error = failure
        try:
            self.relay.ended(self, error)
        finally:
            del error  # whose traceback knows this frame

    @property
    def is_current(self) -> bool:
        return self.relay.current is self

    def retire(self) -> None:
        """No checkpoint."""
        self._retired = True
        if self.link is not None:
            self.link.live = False
            self.link.scope.cancel()

    async def _run_beside(self) -> None:
        """A successor: as long as it does not have the line its failures cost nobody anything."""
        try:
            async with self.line.ports.connect_model(self.line.plan.model) as transport:
                await self._prime(transport)
                await self._run_on(transport)
        except Exception as error:
            if self.is_current or isinstance(error, _Retired):
                raise
            if not isinstance(error, _NotNow):
                why = type(error).__name__
                self.line.report("warning", f"the model session could not be renewed yet ({why})")

    async def _run_on(self, transport: Transport | None) -> None:
        """Until the session is renewed (raises ``_Retired``) or lost (raises)."""
        line, model = self.line, self.line.plan.model
        lose = partial(lose_model, line, number=self.number)
        try:
            if line.ports.gate.refuses(model.url, model.api_key, trio.current_time()):
                raise lose(FaultKind.MODEL_ACCOUNT, "known", opened=False)
            if transport is not None:
                await self._converse(transport)
            else:
                async with line.ports.connect_model(model) as transport:
                    self._begin(transport)
                    line.link = self.link
                    await self._converse(transport)
        except (_Retired, _NotNow):
            raise
        except UnusableKey:
            raise lose(FaultKind.MODEL_ACCOUNT, "unusable_key", opened=False) from None
        except UpgradeRefused as error:
            kind = faults.of_upgrade(error.status)
            raise lose(kind, str(error.status), opened=False, retry_after=error.retry_after) from None
        except ConnectFailed as error:
            raise lose(FaultKind.MODEL_LOST, error.reason, opened=False) from None
        except TransportClosed as closed:
            self._note_heard()
            kind = faults.of_close(closed.code, closed.reason)
            raise lose(kind, f"close {closed.code or 1006}", opened=self._opened) from None
        except _Failed as failed:
            self._note_heard()
            raise lose(failed.effect.kind, failed.effect.detail, opened=self._opened) from None
        except GiveUp:
            raise
        except trio.Cancelled:
            if not self.is_current:
                raise
            # Another actor's restart takes this one along: no rung of the ladder is spent on it.
            self._note_heard()
            if self._opened:
                line.log.write(ModelSessionEnded(number=self.number, reason="stopped"))
            settle_line(line)
            raise
        except Exception as error:
            self._note_heard()
            lost = lose(FaultKind.ACTOR_CRASHED, type(error).__name__, opened=self._opened)
            try:
                raise lost if isinstance(lost, GiveUp) else error
            finally:
                del lost  # whose traceback knows this frame

    @property
    def _opened(self) -> bool:
        return self.link is not None and self.link.live

    def _note_heard(self) -> None:
        """Caller's audio up to here has been turned into turns, or was silence; the rest is the successor's."""
        link, line = self.link, self.line
        if link is not None and link.live:
            line.heard_until = max(line.heard_until, self.heard_at - 400 * BYTES_PER_MS)

    @property
    def _quiet(self) -> bool:
        """Nobody speaks, nothing is owed, every word is known: what a successor is told now is all there is."""
        line = self.line
        return (
            line.turn.state is TurnState.IDLE
            and line.voice.silent
            and line.speech_from is None
            and not line.turn_audio
            and not line.tools.pending()
        )

    async def _prime(self, transport: Transport) -> None:
        """From connected to live, beside the session that has the line."""
        if not self._quiet:
            raise _NotNow
        line = self.line
        line.renewing_from = max(line.uplink.start, line.uplink.end - LEAD_IN)
        line.hold_audio()
        # Before that the present session has heard all there was, or it would not be quiet.
        line.heard_until = max(line.heard_until, line.renewing_from)
        try:
            self._begin(transport)
            if line.turn.state is not TurnState.IDLE:
                # Somebody may have begun to speak: that is for the session that hears it.
                line.turn.state = TurnState.IDLE
                raise _NotNow
            assert self.link is not None
            while not self._opened:
                with trio.CancelScope(deadline=self.link.deadline) as self.link.scope:
                    await deliver(transport, self._take)
                if not self._quiet:
                    raise _NotNow
                if self.link.crash is not None:
                    raise self.link.crash
                if self.link.failed is None:
                    self.link.tick()
                if self.link.failed is not None:
                    transport.abort()
                    raise _Failed(self.link.failed)
        finally:
            line.renewing_from = None
            line.hold_audio()

    def _begin(self, transport: Transport) -> None:
        line = self.line
        begin = begin_session(line)
        opened_at = trio.current_time()
        session = ModelSession(
            self.number,
            begin.opening,
            line.turn,
            opened_at,
            SessionLimits(stall_seconds=line.plan.resilience.model_stall_seconds),
        )
        link = ModelLink(
            line,
            session,
            transport,
            codec_for(line.plan.model.audio, line.ports.model_codec),
            trio.CancelScope(),
            base=begin.audio_from,
        )
        self.link = link

    async def _converse(self, transport: Transport) -> None:
        line, link = self.line, self.link
        assert link is not None
        session = link.session
        renew_at = session.started_at + line.plan.resilience.model_rotate_minutes * 60
        while True:
            if renew_at < math.inf and trio.current_time() >= renew_at:
                if session.live and not session.busy and self._quiet:
                    self.relay.renew()
                link.look_at = trio.current_time() + RENEWAL_LOOK
            else:
                link.look_at = renew_at
            with trio.CancelScope(deadline=link.deadline) as link.scope:
                await deliver(transport, self._take)
            if self._retired:
                raise _Retired
            if link.crash is not None:
                raise link.crash
            if link.failed is None:
                link.tick()
            if link.crash is not None:
                raise link.crash
            if link.failed is not None:
                # A polite close of a session that does not answer would keep the caller waiting in silence.
                transport.abort()
                raise _Failed(link.failed)

    def _take(self, message: str | bytes) -> bool:
        link = self.link
        assert link is not None
        if self._retired or not (self.is_current or self._quiet):
            return False
        self.heard_at = self.line.uplink.end
        link.receive(message)
        if link.live and not self.is_current:
            self.relay.take_over(self)
            return False
        return link.failed is None and link.crash is None


class _Failed(Exception):
    def __init__(self, effect: fx.SessionFailed) -> None:
        super().__init__(effect.kind.value)
        self.effect = effect
