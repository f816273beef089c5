"""A model session is gone: what the caller hears, what is kept for the next one, and which rung comes now."""

from __future__ import annotations

import trio

from callrt.actors.line import Line
from callrt.policy.faults import Audible, Then, respond
from callrt.protocol.faults import FaultKind
from callrt.protocol.ladder import HandOver
from callrt.protocol.records import ModelSessionEnded
from callrt.protocol.uplink import BYTES_PER_MS
from callrt.supervision import GiveUp

UNHEARD_BY_DETECTOR = 400 * BYTES_PER_MS
"""The model reports speech some hundred milliseconds after it began: so much of it may be lost with it."""


class ModelLost(Exception):
    """The model session is gone; the supervisor's restart brings the next one."""

    def __init__(self, kind: FaultKind, detail: str) -> None:
        super().__init__(f"{kind.value} {detail}".strip())
        self.kind = kind
        self.detail = detail


def lose_model(
    line: Line, kind: FaultKind, detail: str, *, number: int, opened: bool, retry_after: float | None = None
) -> ModelLost | GiveUp:
    """Book the loss and climb the ladder. Returns the exit with which the model actor has to end."""
    now = trio.current_time()
    turn = line.turn.state
    response = respond(kind, turn)
    line.fault(kind, detail)
    if opened:
        line.log.write(ModelSessionEnded(number=number, reason=f"{kind.value} {detail}".strip()[:80]))
    line.report("warning", f"the model session was lost ({kind.value}); {response.then.value} follows")
    settle_line(line)
    if line.model_lost_at is None:
        line.model_lost_at = now
    if response.audible is Audible.COMFORT:
        line.voice.owe(None)
        line.voice.trouble()
    if response.then is Then.CLIMB_AFRESH:
        line.afresh = True
    if kind is FaultKind.MODEL_ACCOUNT:
        line.ports.gate.trip(line.plan.model.url, line.plan.model.api_key, now)
    rung = line.ladder.lost(now, permanent=response.then is Then.HAND_OVER, retry_after=retry_after)
    if isinstance(rung, HandOver):
        return GiveUp(f"model unavailable: {kind.value} ({rung.why})")
    line.reconnect_at = now + rung.delay
    return ModelLost(kind, detail)


def settle_line(line: Line) -> None:
    """The session's part of the line comes to rest: what has arrived is played, what was said is kept."""
    line.link = None
    now = trio.current_time()
    for item in line.voice.mouth.items(now):
        if not item.ended and not item.cut:
            line.mark_partial(item.item_id)
            line.voice.complete(item.item_id)
    line.note_expected()
    if line.speech_from is not None:
        line.heard_until = line.speech_from
    if line.attention.spoken_from is not None:
        line.heard_until = min(line.heard_until, line.attention.spoken_from)
    line.speech_from = None
    line.attention.taken()
    line.hold_audio()
    line.tools.model_session_changed()
