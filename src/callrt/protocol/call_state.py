"""What is known of one call, as values: the result of the fold in ``protocol/call.py``."""

from __future__ import annotations

from typing import Literal

import msgspec

from callrt.protocol.records import TransferRequested
from callrt.protocol.replay import HistoryItem, SaidByAgent, SaidByCaller, UsedTool


class TranscriptLine(msgspec.Struct, frozen=True, gc=False):
    """One turn, at the place where it was first mentioned, with its words as last known."""

    number: int
    item_id: str
    role: Literal["caller", "agent"]
    text: str
    """What was said or, for the agent, what was heard."""
    at: float
    interrupted: bool = False
    complete: bool = False
    heard_ms: int = 0

    @property
    def told(self) -> bool:
        """Whether there is anything to show: words of the caller's, or agent's words that were heard."""
        return bool(self.text.strip()) and (self.role == "caller" or self.heard_ms > 0)


class StreamPart(msgspec.Struct, frozen=True):
    stream_sid: str
    generation: int
    lease_epoch: int
    attached_at: float
    detached_at: float | None = None
    reason: str | None = None
    inferred: bool = False
    """Its end was concluded from later records, not recorded."""
    process: str = ""


class ModelSession(msgspec.Struct, frozen=True):
    number: int
    session_id: str
    opened_at: float
    ended_at: float | None = None
    reason: str | None = None
    inferred: bool = False


class Restart(msgspec.Struct, frozen=True):
    actor: str
    reason: str
    at: float


class Fault(msgspec.Struct, frozen=True):
    fault: str
    turn: str
    detail: str
    at: float


class PlayedLine(msgspec.Struct, frozen=True):
    line: str
    at: float


class ToolUse(msgspec.Struct, frozen=True):
    number: int
    call_id: str
    name: str
    arguments: str
    idempotency_key: str
    side_effects: bool
    started_at: float
    status: str | None = None
    """ok, error, timeout, unknown; None while no end is recorded: it runs, or its process died."""
    output: str | None = None
    ended_at: float | None = None


class CallState(msgspec.Struct, frozen=True):
    """All that is known of one call. Times are unix seconds."""

    call_sid: str = ""
    carrier: str = ""
    agent: str = ""
    caller: str = ""
    called: str = ""
    account: str = ""
    direction: str = ""
    started_at: float | None = None
    ended_at: float | None = None
    outcome: str | None = None
    """None while the call lives."""
    lines: tuple[TranscriptLine, ...] = ()
    streams: tuple[StreamPart, ...] = ()
    model_sessions: tuple[ModelSession, ...] = ()
    restarts: tuple[Restart, ...] = ()
    tools: tuple[ToolUse, ...] = ()
    faults: tuple[Fault, ...] = ()
    lines_played: tuple[PlayedLine, ...] = ()
    digits: int = 0
    offered_generation: int = 0
    attached_generation: int = 0
    lease_epoch: int = 0
    transfer: TransferRequested | None = None
    transfer_failed: str | None = None
    last_number: int = 0
    missing: int = 0
    """Numbers that were skipped: entries that could not be read."""
    unknown: int = 0
    """Records of a tag that this version does not know."""
    ignored: int = 0
    """Records that made no sense where they stood."""
    left_out: int = 0
    """Parts that the fold's bounds left out."""

    @property
    def state(self) -> Literal["live", "ended"]:
        return "live" if self.outcome is None else "ended"

    @property
    def stream(self) -> StreamPart | None:
        """The stream that is attached now, if any."""
        last = self.streams[-1] if self.streams else None
        return last if last is not None and last.detached_at is None else None

    @property
    def history(self) -> tuple[HistoryItem, ...]:
        """Turns and tool uses in the order in which they began, as ``protocol.replay`` wants them."""
        parts: list[TranscriptLine | ToolUse] = [*self.lines, *self.tools]
        parts.sort(key=lambda part: part.number)
        return tuple(_history_item(part) for part in parts)


def _history_item(part: TranscriptLine | ToolUse) -> HistoryItem:
    if isinstance(part, ToolUse):
        return UsedTool(part.call_id, part.name, part.arguments, part.output, part.status or "")
    if part.role == "caller":
        return SaidByCaller(part.item_id, part.text)
    return SaidByAgent(part.item_id, part.text, part.interrupted, part.complete)
