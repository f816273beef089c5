"""A call is the fold of its records: ``fold(entries) -> CallState``. No clock, no disk, no failure.

Theory of operation. Each entry is applied once, in the order of its number: a number that is not above the
last one applied is a duplicate and changes nothing, a number that leaves a gap counts the missing ones. A
record that makes no sense where it stands (a stream that nobody attached is detached, a second end) changes
nothing but the count ``ignored``; a record of a tag from the future only the count ``unknown``. So the fold
is total: whatever survived on the disk gives a state.

What a killed process could not write is filled in from what came after it: a stream or model session that a
newer one replaced is over, and so is everything when the call has ended. An explicit record, should it come
late (the old session of a rotation, the old stream of a retirement), replaces such an inference.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from typing import Any, Final, Literal, TypeVar

from msgspec.structs import replace

from callrt.protocol.call_json import to_json
from callrt.protocol.call_state import (
    CallState,
    Fault,
    ModelSession,
    PlayedLine,
    Restart,
    StreamPart,
    ToolUse,
    TranscriptLine,
)
from callrt.protocol.records import (
    ActorRestarted,
    AgentSaid,
    CallAccepted,
    CallEnded,
    CallerSaid,
    DigitReceived,
    Entry,
    FaultSeen,
    LinePlayed,
    ModelSessionEnded,
    ModelSessionOpened,
    StreamAttached,
    StreamDetached,
    StreamOffered,
    ToolFinished,
    ToolIntended,
    TransferFailed,
    TransferRequested,
)

__all__ = [
    "CallState",
    "Fault",
    "ModelSession",
    "PlayedLine",
    "Restart",
    "StreamPart",
    "ToolUse",
    "TranscriptLine",
    "apply",
    "fold",
    "to_json",
]

LINES_MAX: Final = 5_000
"""Turns, and tool uses, kept per call: one each 0.36 s of the longest default call. Older: left out."""
FACTS_MAX: Final = 500
"""Streams, model sessions, restarts, faults, comfort lines kept per call, each. Older ones are left out."""

T = TypeVar("T")


def fold(entries: Iterable[Entry]) -> CallState:
    """The state after these entries. Without any: a state with an empty ``call_sid``."""
    state = CallState()
    for entry in entries:
        state = apply(state, entry)
    return state


def apply(state: CallState, entry: Entry) -> CallState:
    """The state after this entry too. Total: never raises, whatever the order. Entries of another call are
    refused with an assertion, since that is a mistake of ours and of no disk."""
    if entry.number <= state.last_number:
        return state
    assert state.call_sid in ("", entry.call_sid), "an entry of another call"
    state = replace(
        state,
        call_sid=entry.call_sid,
        missing=state.missing + entry.number - state.last_number - 1,
        last_number=entry.number,
        started_at=entry.at if state.started_at is None else state.started_at,
    )
    changed = _changed(state, entry)
    return changed if changed is not None else replace(state, ignored=state.ignored + 1)


def _changed(state: CallState, entry: Entry) -> CallState | None:
    """The state with the record's change; None when the record makes no sense here."""
    at = entry.at
    match entry.record:
        case CallerSaid() | AgentSaid() as record:
            return _said(state, record, entry)
        case CallAccepted() as record:
            if state.carrier:  # a webhook that was sent again: the first one counts
                return None
            return replace(
                state,
                carrier=record.carrier,
                agent=record.agent,
                caller=record.caller,
                called=record.called,
                account=record.account,
                direction=record.direction,
                started_at=at,
            )
        case StreamOffered(generation=generation):
            return replace(state, offered_generation=max(state.offered_generation, generation))
        case StreamAttached() as record:
            return _attached(state, record, at)
        case StreamDetached() as record:
            return _detached(state, record, at)
        case ModelSessionOpened() as record:
            return _session_opened(state, record, at)
        case ModelSessionEnded() as record:
            return _session_ended(state, record, at)
        case ToolIntended() as record:
            return _tool_intended(state, record, entry)
        case ToolFinished() as record:
            return _tool_finished(state, record, at)
        case ActorRestarted(actor=actor, reason=reason):
            return _keep(state, "restarts", state.restarts, Restart(actor, reason, at))
        case FaultSeen() as record:
            fault = Fault(record.fault, record.turn, record.detail, at)
            return _keep(state, "faults", state.faults, fault)
        case LinePlayed(line=line):
            return _keep(state, "lines_played", state.lines_played, PlayedLine(line, at))
        case DigitReceived(count=count):
            return replace(state, digits=state.digits + count)
        case TransferRequested() as record:
            return replace(state, transfer=record, transfer_failed=None)
        case TransferFailed(status=status):
            return _transfer_failed(state, status)
        case CallEnded(outcome=outcome):
            return _ended(state, outcome, at)
        case _:
            return replace(state, unknown=state.unknown + 1)


# ---- what was said


def _said(state: CallState, record: CallerSaid | AgentSaid, entry: Entry) -> CallState:
    role: Literal["caller", "agent"] = "caller" if isinstance(record, CallerSaid) else "agent"
    index = _last(state.lines, lambda line: line.item_id == record.item_id and line.role == role)
    if index is None:
        line = TranscriptLine(entry.number, record.item_id, role, "", entry.at)
    else:
        line = state.lines[index]
    if isinstance(record, CallerSaid):
        # Words that are known do not become unknown again.
        line = replace(line, text=record.text or line.text, complete=record.final)
    else:
        line = replace(
            line,
            text=record.text,
            heard_ms=record.heard_ms,
            interrupted=record.interrupted,
            complete=record.complete,
        )
    if index is None:
        return _keep(state, "lines", state.lines, line, LINES_MAX)
    return replace(state, lines=_replaced(state.lines, index, line))


# ---- streams and model sessions


def _attached(state: CallState, record: StreamAttached, at: float) -> CallState:
    state = replace(
        state,
        offered_generation=max(state.offered_generation, record.generation),
        attached_generation=max(state.attached_generation, record.generation),
        lease_epoch=max(state.lease_epoch, record.lease_epoch),
    )
    index = _last(state.streams, lambda part: part.stream_sid == record.stream_sid)
    if index is not None:  # the same stream, claimed again
        part = state.streams[index]
        if record.lease_epoch >= part.lease_epoch:
            part = replace(part, lease_epoch=record.lease_epoch, process=record.process)
        return replace(state, streams=_replaced(state.streams, index, part))
    older = tuple(
        replace(part, detached_at=at, reason="lost", inferred=True) if part.detached_at is None else part
        for part in state.streams
    )
    part = StreamPart(record.stream_sid, record.generation, record.lease_epoch, at, process=record.process)
    return _keep(state, "streams", older, part)


def _detached(state: CallState, record: StreamDetached, at: float) -> CallState | None:
    index = _last(
        state.streams,
        lambda part: part.stream_sid == record.stream_sid and (part.detached_at is None or part.inferred),
    )
    if index is None:
        return None
    part = replace(state.streams[index], detached_at=at, reason=record.reason, inferred=False)
    return replace(state, streams=_replaced(state.streams, index, part))


def _session_opened(state: CallState, record: ModelSessionOpened, at: float) -> CallState | None:
    if _last(state.model_sessions, lambda session: session.number == record.number) is not None:
        return None
    older = tuple(
        replace(session, ended_at=at, reason="lost", inferred=True) if session.ended_at is None else session
        for session in state.model_sessions
    )
    session = ModelSession(record.number, record.session_id, at)
    return _keep(state, "model_sessions", older, session)


def _session_ended(state: CallState, record: ModelSessionEnded, at: float) -> CallState | None:
    index = _last(
        state.model_sessions,
        lambda session: session.number == record.number and (session.ended_at is None or session.inferred),
    )
    if index is None:
        return None
    session = replace(state.model_sessions[index], ended_at=at, reason=record.reason, inferred=False)
    return replace(state, model_sessions=_replaced(state.model_sessions, index, session))


# ---- tools


def _tool_intended(state: CallState, record: ToolIntended, entry: Entry) -> CallState | None:
    def same(tool: ToolUse) -> bool:
        return tool.call_id == record.call_id and tool.idempotency_key == record.idempotency_key

    if _last(state.tools, same) is not None:
        return None
    tool = ToolUse(
        entry.number,
        record.call_id,
        record.name,
        record.arguments,
        record.idempotency_key,
        record.side_effects,
        entry.at,
    )
    return _keep(state, "tools", state.tools, tool, LINES_MAX)


def _tool_finished(state: CallState, record: ToolFinished, at: float) -> CallState | None:
    # An end that was unknown may become known: the tool's own resolve was asked.
    index = _last(
        state.tools, lambda tool: tool.call_id == record.call_id and tool.status in (None, "unknown")
    )
    if index is None:
        return None
    tool = replace(state.tools[index], status=record.status, output=record.output, ended_at=at)
    return replace(state, tools=_replaced(state.tools, index, tool))


# ---- the end


def _ended(state: CallState, outcome: str, at: float) -> CallState | None:
    if state.outcome is not None:
        return None
    streams = tuple(
        replace(part, detached_at=at, reason="ended", inferred=True) if part.detached_at is None else part
        for part in state.streams
    )
    sessions = tuple(
        replace(session, ended_at=at, reason="ended", inferred=True) if session.ended_at is None else session
        for session in state.model_sessions
    )
    if outcome == "transferred" and state.transfer is not None and state.transfer_failed is not None:
        outcome = _outcome_of_failed(state.transfer)
    return replace(state, outcome=outcome, ended_at=at, streams=streams, model_sessions=sessions)


def _transfer_failed(state: CallState, status: str) -> CallState | None:
    if state.transfer is None:
        return None
    state = replace(state, transfer_failed=status)
    if state.outcome == "transferred":
        assert state.transfer is not None
        state = replace(state, outcome=_outcome_of_failed(state.transfer))
    return state


def _outcome_of_failed(transfer: TransferRequested) -> str:
    return "model_unavailable" if transfer.reason == "model_unavailable" else "failed"


# ---- small things


def _keep(
    state: CallState, field: str, parts: tuple[T, ...], part: T, parts_max: int = FACTS_MAX
) -> CallState:
    kept = (*parts, part)[-parts_max:]
    changes: dict[str, Any] = {field: kept, "left_out": state.left_out + len(parts) + 1 - len(kept)}
    return replace(state, **changes)


def _last(parts: tuple[T, ...], fits: Callable[[T], bool]) -> int | None:
    """Index of the last part that fits: nearly always the last or the one before it."""
    for index in range(len(parts) - 1, -1, -1):
        if fits(parts[index]):
            return index
    return None


def _replaced(parts: tuple[T, ...], index: int, part: T) -> tuple[T, ...]:
    return (*parts[:index], part, *parts[index + 1 :])
