"""From an accepted upgrade to a session that listens: created, configured, told what was heard before.

A machine of its own, because everything in it is over before the first word. ``step`` results: the effects to
carry out, and in ``phase`` whether the session is live or failed.
"""

from __future__ import annotations

import attrs
from msgspec.structs import replace

from callrt.protocol.faults import FaultKind
from callrt.protocol.models import effects as fx
from callrt.protocol.models import events as ev
from callrt.protocol.models.opening import Opening
from callrt.protocol.models.session_values import Asked, Phase, Requests, SessionLimits, wrong_format


@attrs.define
class Handshake:
    """``began`` is the clock time of the upgrade."""

    opening: Opening
    """Without its replay when that is over: a session lives long, and unheard speech is large."""
    requests: Requests
    limits: SessionLimits
    began: float
    phase: Phase = Phase.OPENING
    deadline: float = attrs.field(init=False)
    """Clock time at which ``tick`` has something to do."""
    _awaited: str | None = None

    def __attrs_post_init__(self) -> None:
        self.deadline = self.began + self.limits.open_seconds

    def handle(self, event: ev.ModelEvent, now: float) -> list[fx.Effect]:
        """One event; anything that is not about the opening is ignored."""
        match event:
            case ev.SessionCreated() if self.phase is Phase.OPENING:
                self._enter(Phase.CONFIGURING, now + self.limits.open_seconds)
                by_itself = not self.opening.replay
                return [self.requests.send(replace(self.opening.configure, answer_by_itself=by_itself))]
            case ev.SessionUpdated() if self.phase is Phase.CONFIGURING:
                return self._configured(event, now)
            case ev.ItemAdded() if self.phase is Phase.REPLAYING and event.item_id == self._awaited:
                return self._live()
        return []

    def rejected(self, request: Asked | None, code: str, what: str) -> list[fx.Effect]:
        """An error about one of our requests."""
        if isinstance(request, ev.Configure) and self.phase is Phase.CONFIGURING:
            return self._fail(FaultKind.MODEL_REFUSED, f"configuration {what}")
        if self.phase is Phase.REPLAYING and request == self._awaited:
            known = code == "item_create_duplicate_item_id"  # present already: as good as added
            noticed = [] if known else [fx.Noticed(FaultKind.REQUEST_REJECTED, code)]
            return [*noticed, *self._live()]
        return []

    def tick(self, now: float) -> list[fx.Effect]:
        """Time is up: without its first words a session is stalled, without the last echo it goes on."""
        if now < self.deadline:
            return []
        if self.phase is Phase.REPLAYING:
            return self._live()
        return self._fail(FaultKind.MODEL_STALLED, self.phase.value)

    def _configured(self, event: ev.SessionUpdated, now: float) -> list[fx.Effect]:
        wrong = wrong_format(event, self.opening.configure.audio_format)
        if wrong:
            # Playing another encoding as ours is loud noise in the caller's ear.
            return self._fail(FaultKind.MODEL_REFUSED, f"audio_format {wrong}")
        out: list[fx.Effect] = [self.requests.send(command) for command in self.opening.replay]
        self._awaited = self.opening.last_item
        if self._awaited is None:
            return out + self._live()
        self._enter(Phase.REPLAYING, now + self.limits.replay_seconds)
        return out

    def _live(self) -> list[fx.Effect]:
        self.phase = Phase.LIVE
        out: list[fx.Effect] = []
        if self.opening.replay:
            out.append(self.requests.send(replace(self.opening.configure, answer_by_itself=True)))
            self.opening = attrs.evolve(self.opening, replay=())
        return [*out, fx.WentLive()]

    def _fail(self, kind: FaultKind, detail: str) -> list[fx.Effect]:
        self.phase = Phase.OVER
        return [fx.SessionFailed(kind, detail)]

    def _enter(self, phase: Phase, deadline: float) -> None:
        self.phase = phase
        self.deadline = deadline
