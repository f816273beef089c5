"""One message of every published server type, as short as the schema allows."""

from __future__ import annotations

from typing import Any

SESSION = {"type": "realtime", "id": "sess_1", "object": "realtime.session", "expires_at": 1_800_000_000}
USER_ITEM = {
    "id": "item_1",
    "type": "message",
    "role": "user",
    "status": "completed",
    "content": [{"type": "input_audio", "transcript": None}],
}
REPLY_ITEM = {"id": "item_2", "type": "message", "role": "assistant", "status": "in_progress", "content": []}
CALL_ITEM = {
    "id": "item_3",
    "type": "function_call",
    "status": "completed",
    "call_id": "call_1",
    "name": "book",
    "arguments": '{"at":"15:30"}',
}
USAGE = {
    "total_tokens": 30,
    "input_tokens": 20,
    "output_tokens": 10,
    "input_token_details": {"text_tokens": 5, "audio_tokens": 15, "cached_tokens": 0},
    "output_token_details": {"text_tokens": 4, "audio_tokens": 6},
}
_OUTPUT = {"response_id": "resp_1", "item_id": "item_2", "output_index": 0}
_PART = _OUTPUT | {"content_index": 0}
_INPUT = {"item_id": "item_1", "content_index": 0}

_BODIES: dict[str, dict[str, Any]] = {
    "conversation.created": {"conversation": {"id": "conv_1", "object": "realtime.conversation"}},
    "conversation.item.added": {"item": USER_ITEM, "previous_item_id": None},
    "conversation.item.created": {"item": USER_ITEM, "previous_item_id": None},
    "conversation.item.deleted": {"item_id": "item_2"},
    "conversation.item.done": {"item": USER_ITEM, "previous_item_id": None},
    "conversation.item.input_audio_transcription.completed": _INPUT
    | {"transcript": "hello", "usage": {"type": "duration", "seconds": 1}},
    "conversation.item.input_audio_transcription.delta": _INPUT | {"delta": "hel"},
    "conversation.item.input_audio_transcription.failed": _INPUT
    | {"error": {"type": "transcription_error", "code": "audio_unintelligible", "message": "?"}},
    "conversation.item.input_audio_transcription.segment": _INPUT
    | {"id": "seg_1", "text": "hello", "speaker": "A", "start": 0.0, "end": 1.0},
    "conversation.item.retrieved": {"item": USER_ITEM},
    "conversation.item.truncated": {"item_id": "item_2", "content_index": 0, "audio_end_ms": 740},
    "error": {
        "error": {
            "type": "invalid_request_error",
            "code": "invalid_value",
            "message": "No.",
            "param": "session.type",
            "event_id": "cfg-1",
        }
    },
    "input_audio_buffer.cleared": {},
    "input_audio_buffer.committed": {"item_id": "item_1", "previous_item_id": None},
    "input_audio_buffer.dtmf_event_received": {"event": "5", "received_at": 1_800_000_000},
    "input_audio_buffer.speech_started": {"item_id": "item_1", "audio_start_ms": 1000},
    "input_audio_buffer.speech_stopped": {"item_id": "item_1", "audio_end_ms": 2000},
    "input_audio_buffer.timeout_triggered": {"item_id": "item_1", "audio_start_ms": 1, "audio_end_ms": 2},
    "mcp_list_tools.completed": {"item_id": "item_9"},
    "mcp_list_tools.failed": {"item_id": "item_9"},
    "mcp_list_tools.in_progress": {"item_id": "item_9"},
    "output_audio_buffer.cleared": {"response_id": "resp_1"},
    "output_audio_buffer.started": {"response_id": "resp_1"},
    "output_audio_buffer.stopped": {"response_id": "resp_1"},
    "rate_limits.updated": {
        "rate_limits": [{"name": "requests", "limit": 400, "remaining": 399, "reset_seconds": 1.5}]
    },
    "response.content_part.added": _PART | {"part": {"type": "audio"}},
    "response.content_part.done": _PART | {"part": {"type": "audio", "transcript": "Good day."}},
    "response.created": {"response": {"id": "resp_1", "status": "in_progress", "metadata": {"turn": "3"}}},
    "response.done": {
        "response": {
            "id": "resp_1",
            "object": "realtime.response",
            "status": "failed",
            "status_details": {
                "type": "failed",
                "error": {"type": "server_error", "code": "overloaded", "message": "Sorry."},
            },
            "output": [REPLY_ITEM],
            "usage": USAGE,
            "metadata": {"turn": "3"},
        }
    },
    "response.function_call_arguments.delta": _OUTPUT | {"call_id": "call_1", "delta": '{"at'},
    "response.function_call_arguments.done": _OUTPUT
    | {"call_id": "call_1", "name": "book", "arguments": '{"at":"15:30"}'},
    "response.mcp_call.completed": {"item_id": "item_9", "output_index": 0},
    "response.mcp_call.failed": {"item_id": "item_9", "output_index": 0},
    "response.mcp_call.in_progress": {"item_id": "item_9", "output_index": 0},
    "response.mcp_call_arguments.delta": _OUTPUT | {"delta": "{"},
    "response.mcp_call_arguments.done": _OUTPUT | {"arguments": "{}"},
    "response.output_audio.delta": _PART | {"delta": "/38A"},
    "response.output_audio.done": _PART,
    "response.output_audio_transcript.delta": _PART | {"delta": "Good"},
    "response.output_audio_transcript.done": _PART | {"transcript": "Good day."},
    "response.output_item.added": {"response_id": "resp_1", "output_index": 0, "item": REPLY_ITEM},
    "response.output_item.done": {"response_id": "resp_1", "output_index": 0, "item": CALL_ITEM},
    "response.output_text.delta": _PART | {"delta": "Good"},
    "response.output_text.done": _PART | {"text": "Good day."},
    "session.created": {"session": SESSION},
    "session.updated": {"session": SESSION},
}

SAMPLES: dict[str, dict[str, Any]] = {
    kind: {"type": kind, "event_id": f"event_{number}"} | body
    for number, (kind, body) in enumerate(_BODIES.items())
}
