"""What the carrier is told when it asks: pure functions of a call's folded state."""

from __future__ import annotations

from callrt.comfort.sentences import sentence
from callrt.policy import limits
from callrt.protocol.call_state import CallState
from callrt.protocol.carriers.documents import DialHuman, Document, HangUp, SayAndHangUp

SHORT_STREAM_SECONDS = 3.0


def after_end(state: CallState | None) -> Document:
    """The stream is over and the call does not go on here: dial the human, or hang up."""
    if state is None or state.transfer is None or state.transfer_failed is not None:
        return HangUp()
    if state.outcome != "transferred":
        return HangUp()
    return DialHuman(state.call_sid, state.transfer.to)


def after_dial(state: CallState | None, *, answered: bool, language: str = "en") -> Document:
    """The human's leg is over. Nobody there: the caller is told, not cut off."""
    if answered or state is None:
        return HangUp()
    return SayAndHangUp(*sentence(language, "nobody_there"))


def pause_before(state: CallState) -> int:
    """Seconds to wait in the document: streams that die at once would make a hot loop of questions."""
    recent = state.streams[-limits.PAUSE_AFTER_GENERATION :]
    if len(recent) < limits.PAUSE_AFTER_GENERATION:
        return 0
    short = all(
        part.detached_at is not None and part.detached_at - part.attached_at < SHORT_STREAM_SECONDS
        for part in recent
    )
    return 1 if short else 0
