"""A call's state as the object that ``callrt calls show --json`` prints: the form other programs rely on."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from typing import Any, Final

from callrt.protocol.call_state import CallState

_EPOCH: Final = datetime(1970, 1, 1, tzinfo=UTC)


def rfc3339(at: float | None) -> str | None:
    """Unix seconds as RFC 3339 in UTC with milliseconds; None stays None, a time outside the calendar too."""
    if at is None:
        return None
    try:
        moment = _EPOCH + timedelta(seconds=at)
    except (OverflowError, ValueError):  # a wall clock far off, or not a number
        return None
    return moment.isoformat(timespec="milliseconds").replace("+00:00", "Z")


def to_json(state: CallState) -> dict[str, Any]:
    """Only JSON values. Turns without words and agent lines of which nothing was heard are left out."""
    return {
        "call_sid": state.call_sid,
        "agent": state.agent,
        "carrier": state.carrier,
        "caller": state.caller,
        "called": state.called,
        "state": state.state,
        "outcome": state.outcome,
        "started_at": rfc3339(state.started_at),
        "ended_at": rfc3339(state.ended_at),
        "transcript": [
            {
                "role": line.role,
                "text": line.text,
                "interrupted": line.interrupted,
                "at": rfc3339(line.at),
                "item_id": line.item_id,
                "complete": line.complete,
                "heard_ms": line.heard_ms if line.role == "agent" else None,
            }
            for line in state.lines
            if line.told
        ],
        "streams": [
            {
                "stream_sid": part.stream_sid,
                "generation": part.generation,
                "attached_at": rfc3339(part.attached_at),
                "detached_at": rfc3339(part.detached_at),
                "reason": part.reason,
                "lease_epoch": part.lease_epoch,
            }
            for part in state.streams
        ],
        "model_sessions": [
            {
                "number": session.number,
                "opened_at": rfc3339(session.opened_at),
                "ended_at": rfc3339(session.ended_at),
                "reason": session.reason,
            }
            for session in state.model_sessions
        ],
        "restarts": [
            {"actor": restart.actor, "reason": restart.reason, "at": rfc3339(restart.at)}
            for restart in state.restarts
        ],
        "tools": [
            {
                "call_id": tool.call_id,
                "name": tool.name,
                # Without a recorded end nobody can know whether it ran.
                "status": tool.status or "unknown",
                "started_at": rfc3339(tool.started_at),
                "ended_at": rfc3339(tool.ended_at),
                "side_effects": tool.side_effects,
            }
            for tool in state.tools
        ],
        "faults": [
            {"fault": fault.fault, "turn": fault.turn, "detail": fault.detail, "at": rfc3339(fault.at)}
            for fault in state.faults
        ],
        "lines_played": [{"line": played.line, "at": rfc3339(played.at)} for played in state.lines_played],
        "transfer": None
        if state.transfer is None
        else {"to": state.transfer.to, "reason": state.transfer.reason, "failed": state.transfer_failed},
        "records": {
            "last_number": state.last_number,
            "missing": state.missing,
            "unknown": state.unknown,
            "ignored": state.ignored,
            "left_out": state.left_out,
        },
    }
