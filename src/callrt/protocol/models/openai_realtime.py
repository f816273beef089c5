"""OpenAI Realtime, the GA dialect: its JSON messages to the model vocabulary and back.

The older dialect's names of server messages are understood, since deployments still speak them; it is never
spoken. One unknown key makes the provider refuse a whole configuration, so what is sent is the documented
minimum, and nothing that only some models take.
"""

from __future__ import annotations

from binascii import b2a_base64
from collections.abc import Mapping
from typing import Any, Literal, get_args
from urllib.parse import parse_qsl, urlencode, urlsplit, urlunsplit

import msgspec

from callrt.protocol.faults import UnusableKey
from callrt.protocol.models import openai_messages as wire
from callrt.protocol.models.events import (
    AddMessage,
    AddSpeech,
    AddToolCall,
    AddToolOutput,
    AppendAudio,
    BadMessage,
    CallerTranscript,
    CallerTranscriptFailed,
    CancelReply,
    ClearInput,
    Configure,
    DeleteItem,
    InputCleared,
    ItemAdded,
    ItemDeleted,
    ItemTruncated,
    ModelCommand,
    ModelError,
    ModelEvent,
    OtherMessage,
    Probe,
    ReplyAudio,
    ReplyDone,
    ReplyItemDone,
    ReplyItemStarted,
    ReplyStarted,
    ReplyText,
    ReplyTranscript,
    RequestReply,
    SessionCreated,
    SessionUpdated,
    SpeechStarted,
    SpeechStopped,
    ToolCallRequested,
    ToolSpec,
    TruncateItem,
    TurnCommitted,
)

ITEM_ID_CHARACTERS_MAX = 32
"""Longer ones are refused by the provider."""
METADATA_PAIRS_MAX, METADATA_KEY_MAX, METADATA_VALUE_MAX = 16, 64, 512
"""The provider's bounds, in pairs and characters."""
TOOL_CALLS_REMEMBERED = 256
"""A session has an hour; a call repeated after so many others is a new one."""
SESSION_MS_MAX = 24 * 3600 * 1000
"""No session lasts a day."""
KIND_CHARACTERS_MAX = 80
"""Of an unknown message's type, kept for a counter."""

AUDIO_FORMATS: Mapping[str, Mapping[str, str | int]] = {
    "pcmu": {"type": "audio/pcmu"},
    "pcma": {"type": "audio/pcma"},
    "pcm24": {"type": "audio/pcm", "rate": 24_000},
}
"""G.711 has no ``rate`` in the schema."""


_interesting: msgspec.json.Decoder[wire.Interesting] = msgspec.json.Decoder(wire.Interesting)
_any_message = msgspec.json.Decoder(wire.AnyMessage)
_APPEND = b'{"type":"input_audio_buffer.append","audio":"'


class OpenAIRealtimeCodec:
    """One session's dialect. Remembers which tool calls it has reported, and whether it has heard a voice."""

    def __init__(self) -> None:
        self._tool_calls: dict[str, None] = {}
        self._audio_seen = False

    # -- in --------------------------------------------------------------------------------------------

    def decode(self, message: str | bytes) -> tuple[ModelEvent, ...]:
        """One message of the model: usually one event. Never raises: there is :class:`BadMessage`."""
        if not isinstance(message, str):
            return (BadMessage("binary"),)
        try:
            parsed = _interesting.decode(message)
        except msgspec.ValidationError as misfit:
            return (self._not_interesting(message, str(misfit)),)
        except (msgspec.DecodeError, UnicodeError, RecursionError):
            return (BadMessage("not_json"),)
        match parsed:
            case wire.Audio() | wire.OldAudio():
                self._audio_seen = True
                return (ReplyAudio(parsed.response_id, parsed.item_id, parsed.content_index, parsed.delta),)
            case wire.Spoken() | wire.OldSpoken():
                return (ReplyTranscript(parsed.response_id, parsed.item_id, parsed.delta, final=False),)
            case wire.SpokenAll() | wire.OldSpokenAll():
                return (ReplyTranscript(parsed.response_id, parsed.item_id, parsed.transcript, final=True),)
            case wire.Written() | wire.OldWritten():
                return (ReplyText(parsed.response_id, parsed.item_id, parsed.delta),)
            case wire.Started():
                return (SpeechStarted(parsed.item_id, _ms(parsed.audio_start_ms)),)
            case wire.Stopped():
                return (SpeechStopped(parsed.item_id, _ms(parsed.audio_end_ms)),)
            case wire.Committed():
                return (TurnCommitted(parsed.item_id),)
            case wire.Cleared():
                return (InputCleared(),)
            case wire.Heard():
                return (CallerTranscript(parsed.item_id, parsed.delta or "", final=False),)
            case wire.HeardAll():
                return (CallerTranscript(parsed.item_id, parsed.transcript, final=True),)
            case wire.HeardNothing():
                return (CallerTranscriptFailed(parsed.item_id, _code(parsed.error)),)
            case wire.Added() | wire.Created():
                return (_item_added(parsed.item),)
            case wire.Truncated():
                return (ItemTruncated(parsed.item_id, _ms(parsed.audio_end_ms)),)
            case wire.Deleted():
                return (ItemDeleted(parsed.item_id),)
            case wire.OutputAdded():
                item = parsed.item
                if item.id is None or item.type is None:
                    return (BadMessage("missing_field"),)
                return (ReplyItemStarted(parsed.response_id, item.id, item.type),)
            case wire.OutputDone():
                return self._output_done(parsed)
            case wire.ReplyCreated():
                if parsed.response.id is None:
                    return (BadMessage("missing_field"),)
                return (ReplyStarted(parsed.response.id, _metadata(parsed.response)),)
            case wire.ReplyEnded():
                return (_reply_done(parsed.response),)
            case wire.SessionCreatedMessage():
                return (_session_created(parsed.session),)
            case wire.SessionUpdatedMessage():
                return (SessionUpdated(parsed.session),)
            case wire.Error():
                error = parsed.error
                return (
                    ModelError(
                        error_type=error.type or "",
                        code="" if error.code is None else str(error.code),
                        message=error.message or "",
                        param=error.param or "",
                        client_event_id=error.event_id or "",
                    ),
                )

    def _not_interesting(self, message: str, why: str) -> OtherMessage | BadMessage:
        """Rare enough to be parsed twice: which kind is it, or what is wrong with it?"""
        try:
            kind = _any_message.decode(message).type
        except msgspec.ValidationError:
            return BadMessage("wrong_type" if message.lstrip()[:1] == "{" else "not_an_object")
        except (msgspec.DecodeError, UnicodeError, RecursionError):
            return BadMessage("not_json")
        if kind is None:
            return BadMessage("missing_field")
        if kind in wire.IGNORED:
            return OtherMessage(kind, known=True)
        if kind in _INTERESTING_KINDS:
            return BadMessage("bad_base64" if "base64" in why else "wrong_type")
        return OtherMessage(kind[:KIND_CHARACTERS_MAX], known=False)

    def _output_done(self, message: wire.OutputDone) -> tuple[ModelEvent, ...]:
        item = message.item
        if item.id is None or item.type is None:
            return (BadMessage("missing_field"),)
        done = ReplyItemDone(message.response_id, item.id, item.type, item.status or "")
        if item.type != "function_call" or item.status != "completed":
            return (done,)
        if not item.call_id or not item.name:
            return (done, BadMessage("missing_field"))
        if item.call_id in self._tool_calls:
            return (done,)
        if len(self._tool_calls) >= TOOL_CALLS_REMEMBERED:
            del self._tool_calls[next(iter(self._tool_calls))]
        self._tool_calls[item.call_id] = None
        return (
            done,
            ToolCallRequested(message.response_id, item.id, item.call_id, item.name, item.arguments or ""),
        )

    # -- out -------------------------------------------------------------------------------------------

    def encode(self, command: ModelCommand, *, event_id: str | None = None) -> str:
        """One message for the model. ``event_id`` comes back inside an error, and only there.

        ValueError for what the provider would refuse: an item id or metadata beyond its bounds.
        """
        if isinstance(command, AppendAudio):
            if event_id is None:
                return self.encode_audio(command.audio).decode()
            audio = b2a_base64(command.audio, newline=False).decode("ascii")
            body: dict[str, Any] = {"type": "input_audio_buffer.append", "audio": audio}
        else:
            body = self._body(command)
        if event_id is not None:
            body["event_id"] = event_id
        return msgspec.json.encode(body).decode()

    def encode_audio(self, audio: bytes) -> bytes:
        """``encode(AppendAudio(audio))`` in UTF-8, without the value in between."""
        return _APPEND + b2a_base64(audio, newline=False) + b'"}'

    def _body(self, command: ModelCommand) -> dict[str, Any]:
        match command:
            case Configure():
                return {"type": "session.update", "session": self._session(command)}
            case Probe():
                return {"type": "session.update", "session": {"type": "realtime"}}
            case ClearInput():
                return {"type": "input_audio_buffer.clear"}
            case AddMessage(role, text, item_id):
                kind = "output_text" if role == "assistant" else "input_text"
                content = [{"type": kind, "text": text}]
                return _create({"type": "message", "role": role, "content": content}, item_id)
            case AddSpeech(audio, item_id):
                content = [{"type": "input_audio", "audio": b2a_base64(audio, newline=False).decode("ascii")}]
                return _create({"type": "message", "role": "user", "content": content}, item_id)
            case AddToolCall(call_id, name, arguments, item_id):
                item = {"type": "function_call", "call_id": call_id, "name": name, "arguments": arguments}
                return _create(item, item_id)
            case AddToolOutput(call_id, output, item_id):
                return _create(
                    {"type": "function_call_output", "call_id": call_id, "output": output}, item_id
                )
            case TruncateItem(item_id, content_index, heard_ms):
                return {
                    "type": "conversation.item.truncate",
                    "item_id": item_id,
                    "content_index": content_index,
                    "audio_end_ms": heard_ms,
                }
            case DeleteItem(item_id):
                return {"type": "conversation.item.delete", "item_id": item_id}
            case RequestReply(instructions, metadata):
                response: dict[str, Any] = {}
                if instructions is not None:
                    response["instructions"] = instructions
                if metadata:
                    response["metadata"] = _checked(metadata)
                return {"type": "response.create"} | ({"response": response} if response else {})
            case CancelReply(reply_id):
                return {"type": "response.cancel"} | ({} if reply_id is None else {"response_id": reply_id})
            case AppendAudio():
                raise AssertionError("appended by encode")

    def _session(self, command: Configure) -> dict[str, Any]:
        form = AUDIO_FORMATS[command.audio_format]
        output: dict[str, Any] = {"format": form}
        if not self._audio_seen:  # after the first sound a voice is an error, even the same one
            voice = command.voice
            output["voice"] = {"id": voice} if voice.startswith("voice_") else voice
        transcription = {"model": command.transcription_model} if command.transcription_model else None
        return {
            "type": "realtime",
            "output_modalities": ["audio"],
            "instructions": command.instructions,
            "audio": {
                "input": {
                    "format": form,
                    "transcription": transcription,
                    "turn_detection": {
                        "type": "server_vad",
                        "threshold": 0.5,
                        "prefix_padding_ms": 300,
                        "silence_duration_ms": 500,
                        "create_response": command.answer_by_itself,
                        "interrupt_response": command.answer_by_itself,
                    },
                },
                "output": output,
            },
            "tools": [_tool(tool) for tool in command.tools],
            "tool_choice": "auto",
            "truncation": {"type": "retention_ratio", "retention_ratio": 0.8},
        }


def request_url(settings_url: str, model: str) -> str:
    """The socket's address: the configured one with ``model`` as its query; other parameters stay."""
    parts = urlsplit(settings_url)
    query = [(key, value) for key, value in parse_qsl(parts.query, keep_blank_values=True) if key != "model"]
    return urlunsplit(parts._replace(query=urlencode([*query, ("model", model)]), fragment=""))


def request_headers(api_key: str) -> list[tuple[bytes, bytes]]:
    """Of the upgrade. Never the beta header: the provider ends such sessions. Raises ``UnusableKey``."""
    key = api_key.strip()
    if not key or not key.isascii() or not key.isprintable() or " " in key:
        raise UnusableKey("the API key is empty or has characters that a header cannot carry")
    return [(b"authorization", b"Bearer " + key.encode("ascii"))]


_INTERESTING_KINDS = frozenset(str(message.__struct_config__.tag) for message in get_args(wire.Interesting))

_STATUSES: Mapping[str | None, Literal["completed", "cancelled", "failed", "incomplete"]] = {
    "completed": "completed",
    "cancelled": "cancelled",
    "failed": "failed",
    "incomplete": "incomplete",
}


def _reply_done(response: wire.Response) -> ModelEvent:
    """Somebody always waits for this event, so an unheard-of status is a failure and not a bad message."""
    details = response.status_details or wire.StatusDetails()
    error = details.error or wire.ErrorBody()
    status = _STATUSES.get(response.status)
    return ReplyDone(
        reply_id=response.id or "",
        status=status or "failed",
        reason=details.reason or ("" if status else "unknown_status"),
        error_type=error.type or "",
        error_code="" if error.code is None else str(error.code),
        usage=response.usage,
        metadata=_metadata(response),
    )


def _session_created(session: Mapping[str, Any]) -> SessionCreated:
    session_id, expires_at = session.get("id"), session.get("expires_at")
    return SessionCreated(
        session_id if isinstance(session_id, str) else "",
        expires_at if isinstance(expires_at, int) and expires_at > 0 else None,
    )


def _item_added(item: wire.Item) -> ModelEvent:
    if item.id is None or item.type is None:
        return BadMessage("missing_field")
    return ItemAdded(item.id, item.role or "", item.type)


def _metadata(response: wire.Response) -> dict[str, str]:
    return {key: str(value) for key, value in (response.metadata or {}).items()}


def _ms(value: int) -> int:
    """A session's clock starts at 0 and ends within the hour; a wild one is kept within reason."""
    return min(max(value, 0), SESSION_MS_MAX)


def _code(error: wire.ErrorBody | None) -> str:
    if error is None:
        return ""
    return str(error.code or error.type or "")


def _create(item: dict[str, Any], item_id: str) -> dict[str, Any]:
    if not 0 < len(item_id) <= ITEM_ID_CHARACTERS_MAX:
        raise ValueError(f"an item id has 1 to {ITEM_ID_CHARACTERS_MAX} characters, not {len(item_id)}")
    return {"type": "conversation.item.create", "item": {"id": item_id} | item}


def _tool(tool: ToolSpec) -> dict[str, Any]:
    return {
        "type": "function",
        "name": tool.name,
        "description": tool.description,
        "parameters": dict(tool.parameters),
    }


def _checked(metadata: Mapping[str, str]) -> dict[str, str]:
    if len(metadata) > METADATA_PAIRS_MAX:
        raise ValueError(f"at most {METADATA_PAIRS_MAX} pairs of metadata, not {len(metadata)}")
    for key, value in metadata.items():
        if len(key) > METADATA_KEY_MAX or len(value) > METADATA_VALUE_MAX:
            raise ValueError(f"metadata {key[:METADATA_KEY_MAX]!r} is too long")
    return dict(metadata)
