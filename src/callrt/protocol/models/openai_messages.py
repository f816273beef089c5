"""The OpenAI Realtime server messages as they stand on the wire, typed as loosely as we use them.

One tagged union, so that a message is parsed once. An ``Interesting`` message has a struct; the ``IGNORED``
ones are known by name only. Both together are the published schema and the names that older deployments use.
"""

from __future__ import annotations

from typing import Any

import msgspec

_Id = str | None


class Wire(msgspec.Struct, tag_field="type", gc=False):
    """Any server message."""


class AnyMessage(msgspec.Struct, gc=False):
    """What any of them has, known or not."""

    type: str | None = None


# -- session -------------------------------------------------------------------------------------------


class ErrorBody(msgspec.Struct, gc=False):
    type: str | None = None
    code: str | int | None = None
    message: str | None = None
    param: str | None = None
    event_id: str | None = None


class Error(Wire, tag="error"):
    error: ErrorBody


class SessionCreatedMessage(Wire, tag="session.created"):
    session: dict[str, Any]


class SessionUpdatedMessage(Wire, tag="session.updated"):
    session: dict[str, Any]


# -- input ---------------------------------------------------------------------------------------------


class Started(Wire, tag="input_audio_buffer.speech_started"):
    item_id: str
    audio_start_ms: int = 0


class Stopped(Wire, tag="input_audio_buffer.speech_stopped"):
    item_id: str
    audio_end_ms: int = 0


class Committed(Wire, tag="input_audio_buffer.committed"):
    item_id: str


class Cleared(Wire, tag="input_audio_buffer.cleared"):
    pass


class Heard(Wire, tag="conversation.item.input_audio_transcription.delta"):
    item_id: str
    delta: str | None = None


class HeardAll(Wire, tag="conversation.item.input_audio_transcription.completed"):
    item_id: str
    transcript: str


class HeardNothing(Wire, tag="conversation.item.input_audio_transcription.failed"):
    item_id: str
    error: ErrorBody | None = None


# -- items ---------------------------------------------------------------------------------------------


class Item(msgspec.Struct, gc=False):
    id: str | None = None
    type: str | None = None
    role: str | None = None
    status: str | None = None
    name: str | None = None
    call_id: str | None = None
    arguments: str | None = None


class Added(Wire, tag="conversation.item.added"):
    item: Item


class Created(Wire, tag="conversation.item.created"):
    item: Item


class Truncated(Wire, tag="conversation.item.truncated"):
    item_id: str
    audio_end_ms: int


class Deleted(Wire, tag="conversation.item.deleted"):
    item_id: str


# -- reply ---------------------------------------------------------------------------------------------


class StatusDetails(msgspec.Struct, gc=False):
    reason: str | None = None
    error: ErrorBody | None = None


class Response(msgspec.Struct, gc=False):
    id: str | None = None
    status: str | None = None
    status_details: StatusDetails | None = None
    metadata: dict[str, str | int | bool | None] | None = None
    usage: dict[str, Any] | None = None


class ReplyCreated(Wire, tag="response.created"):
    response: Response


class ReplyEnded(Wire, tag="response.done"):
    response: Response


class OutputAdded(Wire, tag="response.output_item.added"):
    item: Item
    response_id: str = ""


class OutputDone(Wire, tag="response.output_item.done"):
    item: Item
    response_id: str = ""


class _Delta(Wire):
    delta: str
    item_id: str
    response_id: str = ""
    content_index: int = 0


class _AudioDelta(Wire):
    delta: bytes
    """Decoded from base64 by the parser: three times as fast as doing it afterwards."""
    item_id: str
    response_id: str = ""
    content_index: int = 0


class Audio(_AudioDelta, tag="response.output_audio.delta"):
    pass


class OldAudio(_AudioDelta, tag="response.audio.delta"):
    pass


class Spoken(_Delta, tag="response.output_audio_transcript.delta"):
    pass


class OldSpoken(_Delta, tag="response.audio_transcript.delta"):
    pass


class Written(_Delta, tag="response.output_text.delta"):
    pass


class OldWritten(_Delta, tag="response.text.delta"):
    pass


class SpokenAll(Wire, tag="response.output_audio_transcript.done"):
    transcript: str
    item_id: str
    response_id: str = ""


class OldSpokenAll(Wire, tag="response.audio_transcript.done"):
    transcript: str
    item_id: str
    response_id: str = ""


Interesting = (
    Error
    | SessionCreatedMessage
    | SessionUpdatedMessage
    | Started
    | Stopped
    | Committed
    | Cleared
    | Heard
    | HeardAll
    | HeardNothing
    | Added
    | Created
    | Truncated
    | Deleted
    | ReplyCreated
    | ReplyEnded
    | OutputAdded
    | OutputDone
    | Audio
    | OldAudio
    | Spoken
    | OldSpoken
    | Written
    | OldWritten
    | SpokenAll
    | OldSpokenAll
)

IGNORED = frozenset(
    {
        "conversation.created",
        "conversation.item.done",
        "conversation.item.input_audio_transcription.segment",
        "conversation.item.retrieved",
        "input_audio_buffer.dtmf_event_received",
        "input_audio_buffer.timeout_triggered",
        "mcp_list_tools.completed",
        "mcp_list_tools.failed",
        "mcp_list_tools.in_progress",
        "output_audio_buffer.cleared",
        "output_audio_buffer.started",
        "output_audio_buffer.stopped",
        "rate_limits.updated",
        "response.audio.done",
        "response.content_part.added",
        "response.content_part.done",
        # Also sent for cancelled replies, then with half of the arguments: only a completed item is a call.
        "response.function_call_arguments.delta",
        "response.function_call_arguments.done",
        "response.mcp_call.completed",
        "response.mcp_call.failed",
        "response.mcp_call.in_progress",
        "response.mcp_call_arguments.delta",
        "response.mcp_call_arguments.done",
        "response.output_audio.done",
        "response.output_text.done",
        "response.text.done",
        "transcription_session.updated",
    }
)
"""Known, and of no interest on a phone call over a WebSocket."""
