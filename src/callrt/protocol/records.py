"""The call's records: everything worth remembering, append-only. ``call.py`` folds them into a CallState.

A record is a frozen value with a stable tag; the journal wraps it in an envelope (call, number, wall time,
checksum). Adding an optional field is compatible; changing a meaning needs a new tag. ``must_commit`` says
whether the effect waits for the disk (DESIGN: must-commit and write-behind).
"""

from __future__ import annotations

from typing import ClassVar

import attrs
import msgspec


class Record(msgspec.Struct, frozen=True, kw_only=True, tag_field="kind", omit_defaults=True):
    """Base of all records. ``must_commit``: the effect waits for the commit; else 250 ms may be lost."""

    must_commit: ClassVar[bool] = False


class CallAccepted(Record, frozen=True, tag="call_accepted"):
    must_commit: ClassVar[bool] = True
    carrier: str
    agent: str
    caller: str
    called: str
    direction: str = "inbound"
    account: str = ""


class StreamOffered(Record, frozen=True, tag="stream_offered"):
    """A document with a stream of this generation was served; the path token names this generation."""

    must_commit: ClassVar[bool] = True
    generation: int


class StreamAttached(Record, frozen=True, tag="stream_attached"):
    must_commit: ClassVar[bool] = True
    stream_sid: str
    generation: int
    lease_epoch: int
    process: str = ""
    """Which process has the stream: whether it lives is asked when nothing is heard of the call any more."""


class StreamDetached(Record, frozen=True, tag="stream_detached"):
    stream_sid: str
    generation: int
    reason: str
    """stopped, closed, reset, stalled, retired, ended, or a short word of ours."""


class ModelSessionOpened(Record, frozen=True, tag="model_session_opened"):
    number: int
    session_id: str = ""


class ModelSessionEnded(Record, frozen=True, tag="model_session_ended"):
    number: int
    reason: str


class CallerSaid(Record, frozen=True, tag="caller_said"):
    """A caller's turn. Written again with the same item when its words become known: the last one counts."""

    item_id: str
    text: str
    """"" while the words are not known."""
    final: bool = True


class AgentSaid(Record, frozen=True, tag="agent_said"):
    """An agent's utterance as *heard*. Written again with its item as more is heard: the last one counts."""

    item_id: str
    text: str
    heard_ms: int
    interrupted: bool = False
    """The caller cut it off; it is not to be taken up again."""
    complete: bool = False
    """All of it was generated and heard. Neither interrupted nor complete: cut by a loss, to be resumed."""


class ToolIntended(Record, frozen=True, tag="tool_intended"):
    must_commit: ClassVar[bool] = True
    call_id: str
    name: str
    arguments: str
    idempotency_key: str
    side_effects: bool = False


class ToolFinished(Record, frozen=True, tag="tool_finished"):
    must_commit: ClassVar[bool] = True
    call_id: str
    status: str
    """ok, error, timeout, unknown."""
    output: str


class ActorRestarted(Record, frozen=True, tag="actor_restarted"):
    actor: str
    reason: str


class FaultSeen(Record, frozen=True, tag="fault_seen"):
    fault: str
    """A ``policy.faults.FaultKind`` value."""
    turn: str
    """The turn state in which it happened."""
    detail: str = ""
    """A code or a status, never words of the call."""


class LinePlayed(Record, frozen=True, tag="line_played"):
    """A comfort line was put on the wire (one_moment, sorry_goodbye, connecting, …)."""

    line: str


class DigitReceived(Record, frozen=True, tag="digit_received"):
    """The caller pressed a key. The digit itself is not kept: it may be a secret."""

    count: int = 1


class TransferRequested(Record, frozen=True, tag="transfer_requested"):
    must_commit: ClassVar[bool] = True
    to: str
    reason: str
    """model_unavailable, or asked (by the agent's built-in tool)."""
    summary: str
    """What the human hears first."""


class TransferFailed(Record, frozen=True, tag="transfer_failed"):
    """The human did not answer: busy, no-answer, failed, canceled."""

    must_commit: ClassVar[bool] = True
    status: str


class CallEnded(Record, frozen=True, tag="call_ended"):
    must_commit: ClassVar[bool] = True
    outcome: str
    """completed, caller_hung_up, transferred, model_unavailable, silence, max_duration, carrier_lost,
    failed."""


AnyRecord = (
    CallAccepted
    | StreamOffered
    | StreamAttached
    | StreamDetached
    | ModelSessionOpened
    | ModelSessionEnded
    | CallerSaid
    | AgentSaid
    | ToolIntended
    | ToolFinished
    | ActorRestarted
    | FaultSeen
    | LinePlayed
    | DigitReceived
    | TransferRequested
    | TransferFailed
    | CallEnded
)


class UnknownRecord(Record, frozen=True, tag="unknown_record"):
    """Stands for a record whose tag this version does not know (written by a newer one). Never written."""

    tag_seen: str


@attrs.frozen
class Entry:
    """A record in its envelope: whose it is, its number within the call (from 1), when it was made."""

    call_sid: str
    number: int
    at: float
    """Unix seconds, wall clock. For people to read; never used in decisions."""
    record: Record
