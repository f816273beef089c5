"""Whose turn it is, as one table.

Theory of operation. A turn state answers two questions that every fault policy asks: *is a reply owed?* and
*is audio of that reply already on its way?* It is fed by the model's events and by playback, and it never
looks at a clock. ``AGENT_SPEAKING`` means that more audio of the reply may come from the model;
``AGENT_FINISHING`` that all of it has arrived and is being played: a model that dies then owes nothing.

Generation finished is not playback finished: both are separate inputs here, and a barge-in is a barge-in in
either state. An input that makes no sense in a state leaves it unchanged: the far ends race, and a late
event must not invent a turn.
"""

from __future__ import annotations

import enum


class TurnState(enum.StrEnum):
    IDLE = "idle"
    CALLER_SPEAKING = "caller_speaking"
    REPLY_OWED = "reply_owed"
    AGENT_SPEAKING = "agent_speaking"
    AGENT_FINISHING = "agent_finishing"
    TOOL_RUNNING = "tool_running"


class TurnInput(enum.StrEnum):
    SPEECH_STARTED = "speech_started"
    TURN_COMMITTED = "turn_committed"
    SPEECH_DISCARDED = "speech_discarded"
    """The model heard speech begin and then made no turn of it."""
    REPLY_REQUESTED = "reply_requested"
    REPLY_AUDIO = "reply_audio"
    REPLY_ENDED = "reply_ended"
    """The reply is over for the model, and audio of it is still to be heard."""
    REPLY_ENDED_SILENT = "reply_ended_silent"
    """The reply is over and nothing of it is left to be heard."""
    TOOL_STARTED = "tool_started"
    PLAYED_OUT = "played_out"
    """Everything in the mouth has been heard."""


_S, _I = TurnState, TurnInput

TRANSITIONS: dict[TurnState, dict[TurnInput, TurnState]] = {
    _S.IDLE: {
        _I.SPEECH_STARTED: _S.CALLER_SPEAKING,
        _I.TURN_COMMITTED: _S.REPLY_OWED,
        _I.REPLY_REQUESTED: _S.REPLY_OWED,
        _I.REPLY_AUDIO: _S.AGENT_SPEAKING,
        _I.TOOL_STARTED: _S.TOOL_RUNNING,
    },
    _S.CALLER_SPEAKING: {
        _I.TURN_COMMITTED: _S.REPLY_OWED,
        _I.SPEECH_DISCARDED: _S.IDLE,
        _I.REPLY_AUDIO: _S.AGENT_SPEAKING,
    },
    _S.REPLY_OWED: {
        _I.SPEECH_STARTED: _S.CALLER_SPEAKING,
        _I.REPLY_AUDIO: _S.AGENT_SPEAKING,
        _I.REPLY_ENDED: _S.AGENT_FINISHING,
        _I.REPLY_ENDED_SILENT: _S.IDLE,
        _I.TOOL_STARTED: _S.TOOL_RUNNING,
    },
    _S.AGENT_SPEAKING: {
        _I.SPEECH_STARTED: _S.CALLER_SPEAKING,
        _I.REPLY_REQUESTED: _S.REPLY_OWED,
        _I.REPLY_ENDED: _S.AGENT_FINISHING,
        _I.REPLY_ENDED_SILENT: _S.IDLE,
        _I.TOOL_STARTED: _S.TOOL_RUNNING,
    },
    _S.AGENT_FINISHING: {
        _I.SPEECH_STARTED: _S.CALLER_SPEAKING,
        _I.TURN_COMMITTED: _S.REPLY_OWED,
        _I.REPLY_REQUESTED: _S.REPLY_OWED,
        _I.REPLY_AUDIO: _S.AGENT_SPEAKING,
        _I.TOOL_STARTED: _S.TOOL_RUNNING,
        _I.PLAYED_OUT: _S.IDLE,
    },
    _S.TOOL_RUNNING: {
        _I.SPEECH_STARTED: _S.CALLER_SPEAKING,
        _I.REPLY_REQUESTED: _S.REPLY_OWED,
        _I.REPLY_AUDIO: _S.AGENT_SPEAKING,
    },
}

OWES_REPLY = (TurnState.REPLY_OWED, TurnState.AGENT_SPEAKING, TurnState.TOOL_RUNNING)
"""States in which the caller waits for (the rest of) a reply."""


def step(state: TurnState, event: TurnInput) -> TurnState:
    """The next state; inputs without an entry change nothing."""
    return TRANSITIONS[state].get(event, state)


class Turn:
    """The table with a memory: the current state and the number of caller turns so far."""

    def __init__(self, state: TurnState = TurnState.IDLE, number: int = 0) -> None:
        self.state = state
        self.number = number

    def feed(self, event: TurnInput) -> TurnState:
        if event is TurnInput.TURN_COMMITTED:
            self.number += 1
        self.state = step(self.state, event)
        return self.state

    @property
    def owed(self) -> bool:
        return self.state in OWES_REPLY
