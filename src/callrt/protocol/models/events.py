"""The model vocabulary: what a speech-to-speech model says, and what we may ask of it.

A dialect (``openai_realtime.py``, later others) translates its messages into these values and back. The
vocabulary does not assume turns or truncation: a full-duplex model sends ``ReplyAudio`` without
``SpeechStarted`` and ignores ``TruncateItem``. All times are integer milliseconds of *audio in that
session*; nothing here knows a clock.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, Literal

import msgspec

# -- what the model says ------------------------------------------------------------------------------


class SessionCreated(msgspec.Struct, frozen=True, gc=False):
    """The session is real only now: an accepted upgrade proves nothing (failure-modes 2.3)."""

    session_id: str
    expires_at: int | None
    """Unix seconds, if the provider says so."""


class SessionUpdated(msgspec.Struct, frozen=True, gc=False):
    """The provider's effective configuration after one of ours was taken."""

    session: Mapping[str, Any]


class SpeechStarted(msgspec.Struct, frozen=True, gc=False):
    item_id: str
    at_ms: int
    """Milliseconds of audio appended to this session so far; padding already included."""


class SpeechStopped(msgspec.Struct, frozen=True, gc=False):
    item_id: str
    at_ms: int


class TurnCommitted(msgspec.Struct, frozen=True, gc=False):
    """The caller's audio has become an item of the conversation: a reply is owed."""

    item_id: str


class InputCleared(msgspec.Struct, frozen=True, gc=False):
    pass


class CallerTranscript(msgspec.Struct, frozen=True, gc=False):
    """What the caller said; asynchronous: before, during, after the reply, or never. Bind by item."""

    item_id: str
    text: str
    final: bool
    """False: ``text`` is a delta. True: ``text`` is the whole transcript."""


class CallerTranscriptFailed(msgspec.Struct, frozen=True, gc=False):
    item_id: str
    code: str


class ItemAdded(msgspec.Struct, frozen=True, gc=False):
    item_id: str
    role: str
    """``user``, ``assistant``, ``system`` or "" for items without a role (tool calls, outputs)."""
    kind: str
    """The item's type: ``message``, ``function_call``, ``function_call_output``, …"""


class ItemTruncated(msgspec.Struct, frozen=True, gc=False):
    item_id: str
    heard_ms: int


class ItemDeleted(msgspec.Struct, frozen=True, gc=False):
    item_id: str


class ReplyStarted(msgspec.Struct, frozen=True, gc=False):
    reply_id: str
    metadata: Mapping[str, str]
    """Echoed from ``RequestReply``; empty when the model answered by itself."""


class ReplyItemStarted(msgspec.Struct, frozen=True, gc=False):
    reply_id: str
    item_id: str
    kind: str


class ReplyAudio(msgspec.Struct, frozen=True, gc=False):
    reply_id: str
    item_id: str
    content_index: int
    audio: bytes
    """In the session's output format."""


class ReplyTranscript(msgspec.Struct, frozen=True, gc=False):
    """Words of the spoken reply, usually ahead of its audio."""

    reply_id: str
    item_id: str
    text: str
    final: bool
    """False: ``text`` is a delta. True: ``text`` is the whole transcript of the item."""


class ReplyText(msgspec.Struct, frozen=True, gc=False):
    """Written words on an audio session: a known fault after a text-only history (failure-modes 3.9)."""

    reply_id: str
    item_id: str
    text: str


class ReplyItemDone(msgspec.Struct, frozen=True, gc=False):
    reply_id: str
    item_id: str
    kind: str
    status: str
    """``completed`` or ``incomplete``."""


class ToolCallRequested(msgspec.Struct, frozen=True, gc=False):
    """A *completed* tool call: the arguments are whole. Deltas and ``arguments.done`` never become this."""

    reply_id: str
    item_id: str
    call_id: str
    name: str
    arguments: str
    """JSON as the model wrote it; may be malformed."""


class ReplyDone(msgspec.Struct, frozen=True, gc=False):
    reply_id: str
    status: Literal["completed", "cancelled", "failed", "incomplete"]
    reason: str = ""
    """cancelled: turn_detected, client_cancelled; incomplete: max_output_tokens, content_filter."""
    error_type: str = ""
    error_code: str = ""
    usage: Mapping[str, Any] | None = None
    metadata: Mapping[str, str] = msgspec.field(default_factory=dict)


class ModelError(msgspec.Struct, frozen=True, gc=False):
    """An ``error`` message; most leave the session open."""

    error_type: str
    code: str
    message: str
    """For a debugger's eyes: never into logs or metrics, it may quote the caller."""
    param: str
    client_event_id: str


class OtherMessage(msgspec.Struct, frozen=True, gc=False):
    """Known and of no interest, or unknown: counted, never fatal."""

    kind: str
    known: bool


class BadMessage(msgspec.Struct, frozen=True, gc=False):
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


class ToolSpec(msgspec.Struct, frozen=True, gc=False):
    """A tool as the model sees it."""

    name: str
    description: str
    parameters: Mapping[str, Any]
    """JSON schema of an object."""


class Configure(msgspec.Struct, frozen=True, gc=False):
    """The whole session configuration; sent after ``SessionCreated`` and to change ``answer_by_itself``."""

    instructions: str
    voice: str
    audio_format: Literal["pcmu", "pcma", "pcm24"]
    tools: Sequence[ToolSpec]
    answer_by_itself: bool
    """Does the model reply (and interrupt itself) on its own turn detection? False while history is replayed."""
    transcription_model: str = "gpt-transcribe"


class Probe(msgspec.Struct, frozen=True, gc=False):
    """Anything that a living session answers at once and that changes nothing."""


class AppendAudio(msgspec.Struct, frozen=True, gc=False):
    audio: bytes


class ClearInput(msgspec.Struct, frozen=True, gc=False):
    pass


class AddMessage(msgspec.Struct, frozen=True, gc=False):
    """An item of history, oldest first. ``text`` is what was said or, for the assistant, what was *heard*."""

    role: Literal["user", "assistant", "system"]
    text: str
    item_id: str


class AddSpeech(msgspec.Struct, frozen=True, gc=False):
    """A caller's turn whose words are not known: the audio itself, in the session's input format."""

    audio: bytes
    item_id: str


class AddToolCall(msgspec.Struct, frozen=True, gc=False):
    """A past tool call, for replay; its ``AddToolOutput`` must follow."""

    call_id: str
    name: str
    arguments: str
    item_id: str


class AddToolOutput(msgspec.Struct, frozen=True, gc=False):
    call_id: str
    output: str
    item_id: str


class TruncateItem(msgspec.Struct, frozen=True, gc=False):
    item_id: str
    content_index: int
    heard_ms: int


class DeleteItem(msgspec.Struct, frozen=True, gc=False):
    item_id: str


class RequestReply(msgspec.Struct, frozen=True, gc=False):
    instructions: str | None = None
    """Replaces the session's instructions for this reply: prepend them yourself."""
    metadata: Mapping[str, str] = msgspec.field(default_factory=dict)


class CancelReply(msgspec.Struct, frozen=True, gc=False):
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
