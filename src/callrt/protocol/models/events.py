"""The model vocabulary: what a speech-to-speech model says, and what we may ask of it.

A dialect (``openai_realtime.py``, later others) translates its messages into these values and back. The
vocabulary does not assume turns or truncation: a full-duplex model sends ``ReplyAudio`` without
``SpeechStarted`` and ignores ``TruncateItem``. All times are integer milliseconds of *audio in that
session*; nothing here knows a clock.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, Literal

import attrs

# -- what the model says ------------------------------------------------------------------------------


@attrs.frozen
class SessionCreated:
    """The session is real only now: an accepted upgrade proves nothing (failure-modes 2.3)."""

    session_id: str
    expires_at: int | None
    """Unix seconds, if the provider says so."""


@attrs.frozen
class SessionUpdated:
    """The provider's effective configuration after one of ours was taken."""

    session: Mapping[str, Any]


@attrs.frozen
class SpeechStarted:
    item_id: str
    at_ms: int
    """Milliseconds of audio appended to this session so far; padding already included."""


@attrs.frozen
class SpeechStopped:
    item_id: str
    at_ms: int


@attrs.frozen
class TurnCommitted:
    """The caller's audio has become an item of the conversation: a reply is owed."""

    item_id: str


@attrs.frozen
class InputCleared:
    pass


@attrs.frozen
class CallerTranscript:
    """What the caller said; asynchronous: before, during, after the reply, or never. Bind by item."""

    item_id: str
    text: str
    final: bool
    """False: ``text`` is a delta. True: ``text`` is the whole transcript."""


@attrs.frozen
class CallerTranscriptFailed:
    item_id: str
    code: str


@attrs.frozen
class ItemAdded:
    item_id: str
    role: str
    """``user``, ``assistant``, ``system`` or "" for items without a role (tool calls, outputs)."""
    kind: str
    """The item's type: ``message``, ``function_call``, ``function_call_output``, …"""


@attrs.frozen
class ItemTruncated:
    item_id: str
    heard_ms: int


@attrs.frozen
class ItemDeleted:
    item_id: str


@attrs.frozen
class ReplyStarted:
    reply_id: str
    metadata: Mapping[str, str]
    """Echoed from ``RequestReply``; empty when the model answered by itself."""


@attrs.frozen
class ReplyItemStarted:
    reply_id: str
    item_id: str
    kind: str


@attrs.frozen
class ReplyAudio:
    reply_id: str
    item_id: str
    content_index: int
    audio: bytes
    """In the session's output format."""


@attrs.frozen
class ReplyTranscript:
    """Words of the spoken reply, usually ahead of its audio."""

    reply_id: str
    item_id: str
    text: str
    final: bool
    """False: ``text`` is a delta. True: ``text`` is the whole transcript of the item."""


@attrs.frozen
class ReplyText:
    """Written words on an audio session: a known fault after a text-only history (failure-modes 3.9)."""

    reply_id: str
    item_id: str
    text: str


@attrs.frozen
class ReplyItemDone:
    reply_id: str
    item_id: str
    kind: str
    status: str
    """``completed`` or ``incomplete``."""


@attrs.frozen
class ToolCallRequested:
    """A *completed* tool call: the arguments are whole. Deltas and ``arguments.done`` never become this."""

    reply_id: str
    item_id: str
    call_id: str
    name: str
    arguments: str
    """JSON as the model wrote it; may be malformed."""


@attrs.frozen
class ReplyDone:
    reply_id: str
    status: Literal["completed", "cancelled", "failed", "incomplete"]
    reason: str = ""
    """cancelled: turn_detected, client_cancelled; incomplete: max_output_tokens, content_filter."""
    error_type: str = ""
    error_code: str = ""
    usage: Mapping[str, Any] | None = None
    metadata: Mapping[str, str] = attrs.field(factory=dict)


@attrs.frozen
class ModelError:
    """An ``error`` message; most leave the session open."""

    error_type: str
    code: str
    message: str
    """For a debugger's eyes: never into logs or metrics, it may quote the caller."""
    param: str
    client_event_id: str


@attrs.frozen
class OtherMessage:
    """Known and of no interest, or unknown: counted, never fatal."""

    kind: str
    known: bool


@attrs.frozen
class BadMessage:
    """Input that could not be understood: counted, reported once per call, otherwise harmless (G10)."""

    reason: str


ModelEvent = (
    SessionCreated
    | SessionUpdated
    | SpeechStarted
    | SpeechStopped
    | TurnCommitted
    | InputCleared
    | CallerTranscript
    | CallerTranscriptFailed
    | ItemAdded
    | ItemTruncated
    | ItemDeleted
    | ReplyStarted
    | ReplyItemStarted
    | ReplyAudio
    | ReplyTranscript
    | ReplyText
    | ReplyItemDone
    | ToolCallRequested
    | ReplyDone
    | ModelError
    | OtherMessage
    | BadMessage
)

# -- what we may ask ----------------------------------------------------------------------------------


@attrs.frozen
class ToolSpec:
    """A tool as the model sees it."""

    name: str
    description: str
    parameters: Mapping[str, Any]
    """JSON schema of an object."""


@attrs.frozen
class Configure:
    """The whole session configuration; sent after ``SessionCreated`` and to change ``answer_by_itself``."""

    instructions: str
    voice: str
    audio_format: Literal["pcmu", "pcma", "pcm24"]
    tools: Sequence[ToolSpec]
    answer_by_itself: bool
    """Does the model reply (and interrupt itself) on its own turn detection? False while history is replayed."""
    transcription_model: str = "gpt-transcribe"


@attrs.frozen
class Probe:
    """Anything that a living session answers at once and that changes nothing."""


@attrs.frozen
class AppendAudio:
    audio: bytes


@attrs.frozen
class ClearInput:
    pass


@attrs.frozen
class AddMessage:
    """An item of history, oldest first. ``text`` is what was said or, for the assistant, what was *heard*."""

    role: Literal["user", "assistant", "system"]
    text: str
    item_id: str


@attrs.frozen
class AddSpeech:
    """A caller's turn whose words are not known: the audio itself, in the session's input format."""

    audio: bytes
    item_id: str


@attrs.frozen
class AddToolCall:
    """A past tool call, for replay; its ``AddToolOutput`` must follow."""

    call_id: str
    name: str
    arguments: str
    item_id: str


@attrs.frozen
class AddToolOutput:
    call_id: str
    output: str
    item_id: str


@attrs.frozen
class TruncateItem:
    item_id: str
    content_index: int
    heard_ms: int


@attrs.frozen
class DeleteItem:
    item_id: str


@attrs.frozen
class RequestReply:
    instructions: str | None = None
    """Replaces the session's instructions for this reply: prepend them yourself."""
    metadata: Mapping[str, str] = attrs.field(factory=dict)


@attrs.frozen
class CancelReply:
    reply_id: str | None = None


ModelCommand = (
    Configure
    | Probe
    | AppendAudio
    | ClearInput
    | AddMessage
    | AddSpeech
    | AddToolCall
    | AddToolOutput
    | TruncateItem
    | DeleteItem
    | RequestReply
    | CancelReply
)
