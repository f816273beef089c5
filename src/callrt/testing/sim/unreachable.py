"""Cells of the fault policy that no call can reach, each with its reason. All others have to be reached.

What the policy says of them is a default that keeps its table whole. A run that reaches one of them says that this
page is wrong.
"""

from __future__ import annotations

from collections.abc import Mapping

import attrs

from callrt.protocol.faults import FaultKind
from callrt.protocol.turn import TurnState

_S = TurnState


@attrs.frozen
class Unreachable:
    kind: FaultKind
    turns: tuple[TurnState, ...]
    why: str


UNREACHABLE = (
    Unreachable(
        FaultKind.MODEL_POISONED,
        (_S.IDLE, _S.AGENT_FINISHING),
        "A reply that fails has begun: then it is owed, or heard, or runs a tool.",
    ),
    Unreachable(
        FaultKind.MODEL_POISONED,
        (_S.CALLER_SPEAKING,),
        "While the caller speaks no reply is wanted: one that fails then is no reason to replace the session.",
    ),
    Unreachable(
        FaultKind.REPLY_FAILED,
        (_S.IDLE,),
        "A reply that ends without a sound is asked for again before that is booked: then it is owed.",
    ),
    Unreachable(
        FaultKind.REPLY_FAILED,
        (_S.AGENT_SPEAKING,),
        "A failure is booked when the reply is over: what came of it is being finished, or it is owed again.",
    ),
    Unreachable(
        FaultKind.REPLY_RATE_LIMITED,
        (_S.IDLE, _S.AGENT_SPEAKING, _S.AGENT_FINISHING, _S.TOOL_RUNNING),
        "The same reply is wanted again before its refusal is booked: then it is owed.",
    ),
    Unreachable(
        FaultKind.TOOL_FAILED,
        (_S.IDLE, _S.AGENT_FINISHING),
        "While a tool runs, the end of any reply leads to tool_running: the one that the tool is for is to come.",
    ),
    Unreachable(
        FaultKind.TOOL_TIMED_OUT,
        (_S.IDLE, _S.AGENT_FINISHING),
        "While a tool runs, the end of any reply leads to tool_running: the one that the tool is for is to come.",
    ),
    Unreachable(
        FaultKind.PROCESS_DIED,
        (_S.CALLER_SPEAKING, _S.AGENT_SPEAKING, _S.AGENT_FINISHING, _S.TOOL_RUNNING),
        "A process that takes a call up knows whether a reply is owed; of all else its first session tells it.",
    ),
)


def reasons() -> Mapping[tuple[FaultKind, TurnState], str]:
    """Of each cell that cannot be reached."""
    return {(entry.kind, turn): entry.why for entry in UNREACHABLE for turn in entry.turns}
