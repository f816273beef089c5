"""The model actor: one incarnation, one model session after the other, the next one by restart.

It acknowledges its start before it connects, so no supervisor ever waits for a network. A lost session ends
it with :class:`ModelLost` (the supervisor restarts it, and it waits for its rung of the ladder) or with
``GiveUp`` (the ladder has ended). Only a renewal of an ageing session happens within one incarnation.
"""

from __future__ import annotations

import math
from functools import partial

import trio

from callrt.actors.line import Line
from callrt.actors.link import ModelLink
from callrt.actors.loss import lose_model, settle_line
from callrt.actors.opening import begin_session
from callrt.protocol import faults
from callrt.protocol.faults import FaultKind
from callrt.protocol.models import effects as fx
from callrt.protocol.models.session import ModelSession, SessionLimits
from callrt.protocol.records import ModelSessionEnded
from callrt.protocol.uplink import BYTES_PER_MS
from callrt.supervision import Context, GiveUp
from callrt.wire.transport import Transport, TransportClosed, deliver
from callrt.wire.websocket import ConnectFailed, UpgradeRefused

RENEWAL_LOOK = 1.0
"""Seconds between two looks for a quiet moment, when a session is to be renewed."""

RENEWED = "renewed"


class _Renew(Exception):
    """The session is old and the moment is quiet."""


async def run_model(line: Line, ctx: Context[object], *, task_status: trio.TaskStatus[None]) -> None:
    """Start function of the child ``model``. If cancelled: the session is dropped, its audio plays on."""
    task_status.started()
    while True:
        await trio.sleep_until(line.reconnect_at)
        line.sessions = max(line.sessions, *(s.number for s in line.log.state.model_sessions), 0) + 1
        await _Session(line).run()


class _Session:
    def __init__(self, line: Line) -> None:
        self.line = line
        self.number = line.sessions
        self.link: ModelLink | None = None
        self.heard_at = 0

    async def run(self) -> None:
        """Until the session is renewed (returns) or lost (raises)."""
        line, model = self.line, self.line.plan.model
        lose = partial(lose_model, line, number=self.number)
        try:
            if line.ports.gate.refuses(model.url, model.api_key, trio.current_time()):
                raise lose(FaultKind.MODEL_ACCOUNT, "known", opened=False)
            async with line.ports.connect_model(model) as transport:
                await self._converse(transport)
        except _Renew:
            line.log.write(ModelSessionEnded(number=self.number, reason=RENEWED))
            settle_line(line)
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
            # Another actor's restart takes this one along: no rung of the ladder is spent on it.
            self._note_heard()
            if self._opened:
                line.log.write(ModelSessionEnded(number=self.number, reason="stopped"))
            settle_line(line)
            raise
        except Exception as error:
            self._note_heard()
            lose(FaultKind.ACTOR_CRASHED, type(error).__name__, opened=self._opened)
            raise

    @property
    def _opened(self) -> bool:
        return self.link is not None and self.link.live

    def _note_heard(self) -> None:
        """Caller's audio up to here has been turned into turns, or was silence; the rest is the successor's."""
        link, line = self.link, self.line
        if link is not None and link.live:
            line.heard_until = max(line.heard_until, self.heard_at - 400 * BYTES_PER_MS)

    async def _converse(self, transport: Transport) -> None:
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
            line.ports.model_codec(),
            trio.CancelScope(),
            base=begin.audio_from,
        )
        self.link = link
        line.link = link
        renew_at = opened_at + line.plan.resilience.model_rotate_minutes * 60
        while True:
            if renew_at < math.inf and trio.current_time() >= renew_at:
                if session.live and not session.busy and line.voice.silent:
                    raise _Renew
                link.look_at = trio.current_time() + RENEWAL_LOOK
            else:
                link.look_at = renew_at
            with trio.CancelScope(deadline=link.deadline) as link.scope:
                await deliver(transport, self._take)
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
        self.heard_at = self.line.uplink.end
        link.receive(message)
        return link.failed is None and link.crash is None


class _Failed(Exception):
    def __init__(self, effect: fx.SessionFailed) -> None:
        super().__init__(effect.kind.value)
        self.effect = effect
