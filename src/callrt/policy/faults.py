"""The one place that maps a failure to what the caller hears: ``(FaultKind, TurnState) -> Response``.

Read a row as: *when this happens in this turn state, the caller hears* ``audible`` *and callrt does* ``then``.
The table is total (a test walks the whole product) and nothing else decides these things. The default
ladder: play what has arrived → comfort line when silence would exceed its limit → reconnect with replay →
one retry after a backoff → human with transcript → apology and a clean end.
"""

from __future__ import annotations

import enum

import attrs

from callrt.policy.settings import Resilience
from callrt.protocol.faults import FaultKind
from callrt.protocol.turn import OWES_REPLY, TurnState


class Audible(enum.StrEnum):
    NOTHING = "nothing"
    """The caller must not notice."""
    COMFORT = "comfort"
    """What has arrived plays to its end; then the comfort line, if the reply is not there in time."""
    LAST_WORDS = "last_words"
    """What has arrived plays to its end; then "connecting you" (a human) or "sorry, goodbye"."""
    SILENCE = "silence"
    """Nobody can be heard: the caller has no stream. What was not heard is kept for the next one."""


class Then(enum.StrEnum):
    CLIMB = "climb"
    """Replace the model session: the next rung of the ladder, with the conversation as heard."""
    CLIMB_AFRESH = "climb_afresh"
    """The same, without the history that the provider chokes on: a summary instead."""
    HAND_OVER = "hand_over"
    """To the human with the transcript; without one, apologise and end cleanly."""
    RETRY_REPLY = "retry_reply"
    """The same reply once more, in the same session."""
    RETRY_LATER = "retry_later"
    """The same reply, after a growing pause, in the same session."""
    COUNT = "count"
    """Count it, log it once, go on."""
    AWAIT_CARRIER = "await_carrier"
    """Keep the call and its model; the carrier asks for a new stream, or the call ends."""
    REDIRECT_CARRIER = "redirect_carrier"
    """Drop the dead stream and tell the carrier, over REST, to ask for a new one."""
    RESTART = "restart"
    """The supervisor restarts the actor (and those that depend on it) from the call's records."""
    TELL_MODEL = "tell_model"
    """The model gets an error that it can speak about."""
    HOLD_SIDE_EFFECTS = "hold_side_effects"
    """Speech goes on; nothing whose effect must be remembered is started."""
    RESUME = "resume"
    """Take the call up from the journal: history as heard, the cut reply continued."""


@attrs.frozen
class Response:
    audible: Audible
    then: Then

    def within_ms(self, resilience: Resilience) -> int | None:
        """How long the caller may hear silence before ``audible`` begins; None when nothing has to be heard."""
        if self.audible in (Audible.COMFORT, Audible.LAST_WORDS):
            return resilience.comfort_after_ms
        return None


def _always(audible: Audible, then: Then) -> dict[TurnState, Response]:
    return {state: Response(audible, then) for state in TurnState}


def _when_owed(then: Then) -> dict[TurnState, Response]:
    """Comfort where a reply is owed, nothing where none is."""
    return {
        state: Response(Audible.COMFORT if state in OWES_REPLY else Audible.NOTHING, then)
        for state in TurnState
    }


_F = FaultKind

POLICY: dict[FaultKind, dict[TurnState, Response]] = {
    _F.MODEL_LOST: _when_owed(Then.CLIMB),
    _F.MODEL_OVERLOADED: _when_owed(Then.CLIMB),
    _F.MODEL_EXPIRED: _when_owed(Then.CLIMB),
    _F.MODEL_STALLED: _when_owed(Then.CLIMB),
    _F.MODEL_POISONED: _when_owed(Then.CLIMB),
    _F.MODEL_REJECTS_HISTORY: _when_owed(Then.CLIMB_AFRESH),
    _F.MODEL_REFUSED: _always(Audible.LAST_WORDS, Then.HAND_OVER),
    _F.MODEL_ACCOUNT: _always(Audible.LAST_WORDS, Then.HAND_OVER),
    _F.REPLY_FAILED: _when_owed(Then.RETRY_REPLY),
    _F.REPLY_RATE_LIMITED: _when_owed(Then.RETRY_LATER),
    _F.REQUEST_REJECTED: _always(Audible.NOTHING, Then.COUNT),
    _F.CARRIER_LOST: _always(Audible.SILENCE, Then.AWAIT_CARRIER),
    _F.CARRIER_STOPPED: _always(Audible.SILENCE, Then.AWAIT_CARRIER),
    _F.CARRIER_STALLED: _always(Audible.SILENCE, Then.REDIRECT_CARRIER),
    _F.ACTOR_CRASHED: _when_owed(Then.RESTART),
    _F.TOOL_FAILED: _always(Audible.NOTHING, Then.TELL_MODEL),
    _F.TOOL_TIMED_OUT: _always(Audible.NOTHING, Then.TELL_MODEL),
    _F.JOURNAL_UNAVAILABLE: _always(Audible.NOTHING, Then.HOLD_SIDE_EFFECTS),
    _F.PROCESS_DIED: _always(Audible.SILENCE, Then.RESUME),
    _F.BAD_INPUT: _always(Audible.NOTHING, Then.COUNT),
}


def respond(kind: FaultKind, turn: TurnState) -> Response:
    """What the caller hears and what happens next."""
    return POLICY[kind][turn]
