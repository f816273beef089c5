"""The emulated session's configuration: defaults, strict checks, and the merge of ``session.update``.

Strict as the real service: one unknown key anywhere rejects the whole update and names the key's path.
"""

from __future__ import annotations

import copy
import re
from typing import Any

from callrt.testing.model_checks import (
    Check,
    Rejected,
    anything,
    boolean,
    either,
    fields,
    list_of,
    mapping,
    nullable,
    number,
    one_of,
    short_text,
    tagged,
    text,
)

DEFAULT_INSTRUCTIONS = "You are a helpful assistant. Speak clearly and keep to the point."
VOICES = ("alloy", "ash", "ballad", "coral", "echo", "sage", "shimmer", "verse", "marin", "cedar")

# -- what an object may hold ---------------------------------------------------------------------------

AUDIO_FORMAT = tagged(
    **{
        "audio/pcmu": fields({"type": text}),
        "audio/pcma": fields({"type": text}),
        "audio/pcm": fields({"type": text, "rate": one_of(24000)}),
    }
)
VOICE = either(one_of(*VOICES), fields({"id": text}))


def tool_name(value: Any, path: str) -> None:
    text(value, path)
    if not re.fullmatch(r"[a-zA-Z0-9_-]{1,64}", value):
        raise Rejected(
            "invalid_value",
            f"Invalid '{path}': string does not match pattern '^[a-zA-Z0-9_-]{{1,64}}$'.",
            path,
        )


TOOLS = list_of(
    tagged(
        function=fields(
            {"type": text, "name": tool_name}, {"description": text, "parameters": nullable(mapping)}
        )
    )
)
TOOL_CHOICE = either(
    one_of("auto", "none", "required"), tagged(function=fields({"type": text, "name": tool_name}))
)
MODALITIES = one_of(["audio"], ["text"])
MAX_OUTPUT = either(one_of("inf"), number(1, 4096, whole=True))
METADATA_PAIRS = 16


def metadata(value: Any, path: str) -> None:
    mapping(value, path)
    if len(value) > METADATA_PAIRS:
        raise Rejected("invalid_value", f"Invalid '{path}': at most {METADATA_PAIRS} pairs.", path)
    for name, element in value.items():
        short_text(64)(name, path)
        short_text(512)(element, f"{path}.{name}")


_TURN = nullable(
    tagged(
        server_vad=fields(
            {"type": text},
            {
                "threshold": number(0, 1),
                "prefix_padding_ms": number(0, 10_000, whole=True),
                "silence_duration_ms": number(0, 10_000, whole=True),
                "idle_timeout_ms": nullable(number(5_000, 30_000, whole=True)),
                "create_response": boolean,
                "interrupt_response": boolean,
            },
        ),
        semantic_vad=fields(
            {"type": text},
            {
                "eagerness": one_of("low", "medium", "high", "auto"),
                "create_response": boolean,
                "interrupt_response": boolean,
            },
        ),
    )
)
_SESSION = fields(
    {"type": one_of("realtime")},
    {
        "model": text,
        "output_modalities": MODALITIES,
        "instructions": text,
        "audio": fields(
            {},
            {
                "input": fields(
                    {},
                    {
                        "format": AUDIO_FORMAT,
                        "noise_reduction": nullable(
                            fields({"type": one_of("near_field", "far_field")}, {"strength": number(0, 1)})
                        ),
                        "transcription": nullable(
                            fields(
                                {},
                                {
                                    "model": text,
                                    "language": text,
                                    "languages": list_of(text),
                                    "keywords": list_of(text),
                                    "prompt": text,
                                    "delay": one_of("minimal", "low", "medium", "high", "xhigh"),
                                },
                            )
                        ),
                        "turn_detection": _TURN,
                    },
                ),
                "output": fields({}, {"format": AUDIO_FORMAT, "voice": VOICE, "speed": number(0.25, 1.5)}),
            },
        ),
        "tools": TOOLS,
        "tool_choice": TOOL_CHOICE,
        "parallel_tool_calls": boolean,
        "reasoning": nullable(fields({}, {"effort": one_of("minimal", "low", "medium", "high", "xhigh")})),
        "max_output_tokens": MAX_OUTPUT,
        "truncation": either(
            one_of("auto", "disabled"),
            tagged(
                retention_ratio=fields(
                    {"type": text, "retention_ratio": number(0, 1)},
                    {"token_limits": fields({}, {"post_instructions": number(0, 1_000_000, whole=True)})},
                )
            ),
        ),
        "prompt": nullable(fields({"id": text}, {"version": nullable(text), "variables": nullable(mapping)})),
        "tracing": nullable(
            either(one_of("auto"), fields({}, {"workflow_name": text, "group_id": text, "metadata": mapping}))
        ),
        "include": nullable(list_of(one_of("item.input_audio_transcription.logprobs"))),
    },
)

# -- the session object -------------------------------------------------------------------------------

_SERVER_VAD: dict[str, Any] = {
    "type": "server_vad",
    "threshold": 0.5,
    "prefix_padding_ms": 300,
    "silence_duration_ms": 200,
    "idle_timeout_ms": None,
    "create_response": True,
    "interrupt_response": True,
}
_SEMANTIC_VAD: dict[str, Any] = {
    "type": "semantic_vad",
    "eagerness": "auto",
    "create_response": True,
    "interrupt_response": True,
}
_WHOLE = frozenset({"format", "tools", "tool_choice", "truncation", "tracing", "prompt", "voice"})


def reasons(model: str) -> bool:
    """Does ``model`` take ``reasoning`` and ``parallel_tool_calls``?"""
    return model.startswith("gpt-realtime-2") and not model.startswith("gpt-realtime-2025")


def default_session(session_id: str, model: str, expires_at: int) -> dict[str, Any]:
    """The session as ``session.created`` shows it."""
    session: dict[str, Any] = {
        "type": "realtime",
        "object": "realtime.session",
        "id": session_id,
        "model": model,
        "expires_at": expires_at,
        "output_modalities": ["audio"],
        "instructions": DEFAULT_INSTRUCTIONS,
        "audio": {
            "input": {
                "format": {"type": "audio/pcm", "rate": 24000},
                "noise_reduction": None,
                "transcription": None,
                "turn_detection": dict(_SERVER_VAD),
            },
            "output": {"format": {"type": "audio/pcm", "rate": 24000}, "voice": "marin", "speed": 1.0},
        },
        "tools": [],
        "tool_choice": "auto",
        "max_output_tokens": "inf",
        "truncation": "auto",
        "prompt": None,
        "tracing": None,
        "include": None,
    }
    if reasons(model):
        session["reasoning"] = {"effort": "low"}
    return session


def update_session(
    session: dict[str, Any], update: Any, *, has_spoken: bool, is_replying: bool
) -> dict[str, Any]:
    """The new session object; ``session`` is not changed. Raises :class:`Rejected`."""
    _SESSION(update, "session")
    model = session["model"]
    if update.get("model", model) != model:
        raise Rejected("invalid_value", "Cannot change a session's model.", "session.model")
    for name in ("reasoning", "parallel_tool_calls"):
        if name in update and not reasons(model):
            raise Rejected(
                "invalid_value",
                f"Unsupported option for this model: '{name}'.",
                f"session.{name}",
            )
    if session["tracing"] is not None and "tracing" in update and update["tracing"] != session["tracing"]:
        raise Rejected("invalid_value", "Cannot change tracing once it is on.", "session.tracing")
    output = update.get("audio", {}).get("output", {})
    now = session["audio"]["output"]
    if has_spoken and "voice" in output and output["voice"] != now["voice"]:
        raise Rejected(
            "cannot_update_voice",
            "Cannot update a conversation's voice if assistant audio is present.",
            "session.audio.output.voice",
        )
    if is_replying and "speed" in output and output["speed"] != now["speed"]:
        raise Rejected(
            "invalid_value",
            "Cannot change the speed while a response is in progress.",
            "session.audio.output.speed",
        )
    # Taken, and as in the vendor's schema of the answer not shown.
    shown = {name: value for name, value in update.items() if name != "parallel_tool_calls"}
    merged: dict[str, Any] = _merge(copy.deepcopy(session), shown)
    return merged


def _merge(old: Any, new: dict[str, Any]) -> Any:
    for name, value in new.items():
        if name == "turn_detection" and value is not None:
            kind = _SERVER_VAD if value["type"] == "server_vad" else _SEMANTIC_VAD
            before = old[name] if old[name] is not None and old[name]["type"] == value["type"] else kind
            old[name] = {**before, **value}
        elif isinstance(value, dict) and isinstance(old.get(name), dict) and name not in _WHOLE:
            old[name] = _merge(old[name], value)
        else:
            old[name] = copy.deepcopy(value)
    return old


# -- client events ------------------------------------------------------------------------------------

_ITEM_ID = short_text(32)
_STATUS = one_of("completed", "incomplete", "in_progress")
_ITEM = {"id": _ITEM_ID, "object": one_of("realtime.item"), "status": _STATUS}

_MESSAGE_CONTENT: dict[str, Check] = {
    "user": list_of(
        tagged(
            input_text=fields({"type": text, "text": text}),
            input_audio=fields({"type": text, "audio": text}, {"transcript": nullable(text)}),
            input_image=fields({"type": text, "image_url": text}, {"detail": one_of("auto", "low", "high")}),
        )
    ),
    "system": list_of(tagged(input_text=fields({"type": text, "text": text}))),
    "assistant": list_of(tagged(output_text=fields({"type": text, "text": text}))),
}


def _message(value: Any, path: str) -> None:
    fields({"type": text, "role": one_of(*_MESSAGE_CONTENT), "content": anything}, _ITEM)(value, path)
    _MESSAGE_CONTENT[value["role"]](value["content"], f"{path}.content")
    if not value["content"]:
        raise Rejected("invalid_value", f"Invalid '{path}.content': empty array.", f"{path}.content")


ITEM = tagged(
    message=_message,
    function_call=fields({"type": text, "name": tool_name, "arguments": text}, {**_ITEM, "call_id": text}),
    function_call_output=fields({"type": text, "call_id": text, "output": text}, _ITEM),
)
_ITEM_OR_REFERENCE = either(tagged(item_reference=fields({"type": text, "id": text})), ITEM)

_RESPONSE = fields(
    {},
    {
        "audio": fields({}, {"output": fields({}, {"format": AUDIO_FORMAT, "voice": VOICE})}),
        "conversation": one_of("auto", "none"),
        "input": list_of(_ITEM_OR_REFERENCE),
        "instructions": nullable(text),
        "max_output_tokens": MAX_OUTPUT,
        "metadata": nullable(metadata),
        "output_modalities": MODALITIES,
        "parallel_tool_calls": boolean,
        "prompt": nullable(mapping),
        "reasoning": nullable(mapping),
        "tool_choice": TOOL_CHOICE,
        "tools": TOOLS,
    },
)

_EVENT = {"event_id": short_text(512)}
_TYPE = {"type": text}


def _event(required: dict[str, Check] | None = None, optional: dict[str, Check] | None = None) -> Check:
    return fields({**_TYPE, **(required or {})}, {**_EVENT, **(optional or {})})


CLIENT_EVENTS: dict[str, Check] = {
    "session.update": _event({"session": anything}),  # checked where it is merged, with the path "session"
    "input_audio_buffer.append": _event({"audio": text}),
    "input_audio_buffer.commit": _event(),
    "input_audio_buffer.clear": _event(),
    "conversation.item.create": _event({"item": ITEM}, {"previous_item_id": nullable(text)}),
    "conversation.item.truncate": _event(
        {
            "item_id": text,
            "content_index": number(0, 1_000_000, whole=True),
            "audio_end_ms": number(0, 10**9, whole=True),
        }
    ),
    "conversation.item.delete": _event({"item_id": text}),
    "conversation.item.retrieve": _event({"item_id": text}),
    "response.create": _event({}, {"response": nullable(_RESPONSE)}),
    "response.cancel": _event({}, {"response_id": nullable(text)}),
}


def check_client_event(event: Any) -> str:
    """The type of a well-formed client event. Raises :class:`Rejected`."""
    if not isinstance(event, dict):
        raise Rejected("invalid_event", "A client event must be a JSON object.")
    kind = event.get("type")
    if not isinstance(kind, str):
        raise Rejected("invalid_event", "The event has no 'type'.", "type")
    if kind not in CLIENT_EVENTS:
        allowed = ", ".join(repr(each) for each in CLIENT_EVENTS)
        raise Rejected("invalid_value", f"Invalid value: '{kind}'. Supported values are: {allowed}.", "type")
    CLIENT_EVENTS[kind](event, "")
    return kind
