"""The OpenAI Realtime dialect, held against the vendor's own types on the way out and in."""

from __future__ import annotations

import base64
import json
from typing import Any, get_args

import pytest
from hypothesis import given
from hypothesis import strategies as st
from msgspec.structs import replace
from openai.types.realtime.realtime_client_event import RealtimeClientEvent
from openai.types.realtime.realtime_server_event import RealtimeServerEvent
from protocol_openai_samples import SAMPLES
from pydantic import BaseModel

from callrt.protocol.models import openai_messages
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
    ModelError,
    ModelEvent,
    OtherMessage,
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
from callrt.protocol.models.openai_realtime import OpenAIRealtimeCodec, request_headers, request_url


def by_type(union: Any) -> dict[str, type[BaseModel]]:
    return {
        get_args(model.model_fields["type"].annotation)[0]: model for model in get_args(get_args(union)[0])
    }


SERVER = by_type(RealtimeServerEvent)
CLIENT = by_type(RealtimeClientEvent)


def tell(message: object, codec: OpenAIRealtimeCodec | None = None) -> tuple[Any, ...]:
    return (codec or OpenAIRealtimeCodec()).decode(json.dumps(message))


# -- in ------------------------------------------------------------------------------------------------


def test_the_samples_fit_the_vendors_schema():
    """Whatever version of the vendor's package is installed: it may know a type more or less than 46."""
    assert len(SAMPLES) == 46
    both = [kind for kind in SAMPLES if kind in SERVER]
    assert len(both) > 40
    for kind in both:
        SERVER[kind].model_validate(SAMPLES[kind])


@pytest.mark.parametrize("kind", SAMPLES)
def test_every_message_of_the_schema_is_known(kind):
    events = tell(SAMPLES[kind])
    assert events
    for event in events:
        assert not isinstance(event, BadMessage)
        assert not isinstance(event, OtherMessage) or event.known


EXPECTED = {
    "session.created": (SessionCreated("sess_1", 1_800_000_000),),
    "session.updated": (SessionUpdated(SAMPLES["session.updated"]["session"]),),
    "error": (ModelError("invalid_request_error", "invalid_value", "No.", "session.type", "cfg-1"),),
    "input_audio_buffer.speech_started": (SpeechStarted("item_1", 1000),),
    "input_audio_buffer.speech_stopped": (SpeechStopped("item_1", 2000),),
    "input_audio_buffer.committed": (TurnCommitted("item_1"),),
    "input_audio_buffer.cleared": (InputCleared(),),
    "conversation.item.input_audio_transcription.delta": (CallerTranscript("item_1", "hel", final=False),),
    "conversation.item.input_audio_transcription.completed": (
        CallerTranscript("item_1", "hello", final=True),
    ),
    "conversation.item.input_audio_transcription.failed": (
        CallerTranscriptFailed("item_1", "audio_unintelligible"),
    ),
    "conversation.item.added": (ItemAdded("item_1", "user", "message"),),
    "conversation.item.created": (ItemAdded("item_1", "user", "message"),),
    "conversation.item.truncated": (ItemTruncated("item_2", 740),),
    "conversation.item.deleted": (ItemDeleted("item_2"),),
    "response.created": (ReplyStarted("resp_1", {"turn": "3"}),),
    "response.output_item.added": (ReplyItemStarted("resp_1", "item_2", "message"),),
    "response.output_item.done": (
        ReplyItemDone("resp_1", "item_3", "function_call", "completed"),
        ToolCallRequested("resp_1", "item_3", "call_1", "book", '{"at":"15:30"}'),
    ),
    "response.output_audio.delta": (ReplyAudio("resp_1", "item_2", 0, b"\xff\x7f\x00"),),
    "response.output_audio_transcript.delta": (ReplyTranscript("resp_1", "item_2", "Good", final=False),),
    "response.output_audio_transcript.done": (ReplyTranscript("resp_1", "item_2", "Good day.", final=True),),
    "response.output_text.delta": (ReplyText("resp_1", "item_2", "Good"),),
    "response.done": (
        ReplyDone(
            "resp_1",
            "failed",
            error_type="server_error",
            error_code="overloaded",
            usage=SAMPLES["response.done"]["response"]["usage"],
            metadata={"turn": "3"},
        ),
    ),
}


@pytest.mark.parametrize("kind", EXPECTED)
def test_messages_of_interest_become_these_events(kind):
    assert tell(SAMPLES[kind]) == EXPECTED[kind]


@pytest.mark.parametrize("kind", sorted(set(SAMPLES) - set(EXPECTED)))
def test_the_others_are_known_and_of_no_interest(kind):
    assert tell(SAMPLES[kind]) == (OtherMessage(kind, known=True),)


@pytest.mark.parametrize(
    ("old", "new"),
    [
        ("response.audio.delta", "response.output_audio.delta"),
        ("response.audio_transcript.delta", "response.output_audio_transcript.delta"),
        ("response.audio_transcript.done", "response.output_audio_transcript.done"),
        ("response.text.delta", "response.output_text.delta"),
    ],
)
def test_old_names_mean_the_same(old, new):
    assert tell(SAMPLES[new] | {"type": old}) == EXPECTED[new]


@pytest.mark.parametrize(
    "kind", ["response.audio.done", "response.text.done", "transcription_session.updated"]
)
def test_old_names_of_no_interest_are_known(kind):
    assert tell({"type": kind}) == (OtherMessage(kind, known=True),)


@pytest.mark.parametrize(
    ("status", "details", "expected"),
    [
        ("completed", None, ("completed", "", "", "")),
        (
            "cancelled",
            {"type": "cancelled", "reason": "turn_detected"},
            ("cancelled", "turn_detected", "", ""),
        ),
        ("incomplete", {"reason": "max_output_tokens"}, ("incomplete", "max_output_tokens", "", "")),
        (
            "failed",
            {"type": "failed", "error": {"type": "invalid_request_error", "code": "insufficient_quota"}},
            ("failed", "", "invalid_request_error", "insufficient_quota"),
        ),
        ("failed", {"error": {"type": "server_error", "code": None}}, ("failed", "", "server_error", "")),
        ("failed", {"error": None}, ("failed", "", "", "")),
        ("novel", None, ("failed", "unknown_status", "", "")),
        (None, None, ("failed", "unknown_status", "", "")),
    ],
)
def test_a_reply_always_ends_and_says_how(status, details, expected):
    response = {"id": "r", "status": status, "status_details": details}
    (done,) = tell({"type": "response.done", "response": response})
    assert (done.status, done.reason, done.error_type, done.error_code) == expected
    assert done.metadata == {}


# -- tool calls ----------------------------------------------------------------------------------------


def call_item(**changes: object) -> dict[str, Any]:
    item = SAMPLES["response.output_item.done"]["item"] | changes
    return SAMPLES["response.output_item.done"] | {"item": item}


@pytest.mark.parametrize("status", ["incomplete", "in_progress", None])
def test_an_unfinished_tool_call_is_never_requested(status):
    events = tell(call_item(status=status, arguments='{"at":"15'))
    assert events == (ReplyItemDone("resp_1", "item_3", "function_call", status or ""),)


def test_a_tool_call_is_requested_once_whoever_repeats_it():
    codec = OpenAIRealtimeCodec()
    done = {
        "type": "response.done",
        "response": {"id": "resp_1", "status": "completed", "output": [call_item()["item"]]},
    }
    events = [event for message in (call_item(), done, call_item(), done) for event in tell(message, codec)]
    assert len([event for event in events if isinstance(event, ToolCallRequested)]) == 1


def test_arguments_done_alone_requests_nothing():
    events = tell(SAMPLES["response.function_call_arguments.done"])
    assert not any(isinstance(event, ToolCallRequested) for event in events)


def test_a_tool_call_without_a_name_is_a_bad_message_and_the_item_still_ends():
    assert tell(call_item(name=None)) == (
        ReplyItemDone("resp_1", "item_3", "function_call", "completed"),
        BadMessage("missing_field"),
    )


# -- bad input -----------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("message", "reason"),
    [
        (b"{}", "binary"),
        ("", "not_json"),
        ("{", "not_json"),
        ('{"x":' + "[" * 100_000, "not_json"),
        ("[]", "not_an_object"),
        ("5", "not_an_object"),
        ("{}", "missing_field"),
        ('{"type":null}', "missing_field"),
        ('{"type":7}', "wrong_type"),
        ('{"type":"response.done"}', "wrong_type"),
        ('{"type":"response.done","response":[]}', "wrong_type"),
        ('{"type":"response.created","response":{}}', "missing_field"),
        ('{"type":"response.output_audio.delta","item_id":"i","delta":"a*=="}', "bad_base64"),
        ('{"type":"input_audio_buffer.speech_started","item_id":"i","audio_start_ms":"x"}', "wrong_type"),
        ('{"type":"conversation.item.added","item":{}}', "missing_field"),
        ('{"type":"response.output_item.done","item":{}}', "missing_field"),
        ('{"type":"response.output_item.added","item":{}}', "missing_field"),
    ],
)
def test_bad_input_is_named_by_a_static_word(message, reason):
    assert OpenAIRealtimeCodec().decode(message) == (BadMessage(reason),)


def test_an_unknown_message_is_counted_under_a_bounded_name():
    assert tell({"type": "response.sung"}) == (OtherMessage("response.sung", known=False),)
    (event,) = tell({"type": "x" * 1000})
    assert len(event.kind) == 80


@pytest.mark.parametrize(("said", "meant"), [(-5, 0), (10**30, 86_400_000)])
def test_wild_clocks_are_kept_within_reason(said, meant):
    message = {"type": "input_audio_buffer.speech_started", "item_id": "i", "audio_start_ms": said}
    assert tell(message) == (SpeechStarted("i", meant),)


json_values = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False) | st.text(),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(), inner, max_size=3),
    max_leaves=6,
)
FIELDS = sorted({field for message in SAMPLES.values() for field in message} - {"type"})


@given(st.text() | st.binary())
def test_no_text_and_no_bytes_make_it_raise(message):
    events = OpenAIRealtimeCodec().decode(message)
    assert all(isinstance(event, BadMessage) for event in events)


@given(st.sampled_from(sorted(SAMPLES)), st.data())
def test_no_broken_message_makes_it_raise(kind, data):
    message = dict(SAMPLES[kind])
    for field in data.draw(st.lists(st.sampled_from(FIELDS), max_size=3)):
        message[field] = data.draw(json_values)
    for inside in ("item", "response", "error"):
        if isinstance(message.get(inside), dict) and message[inside]:
            field = data.draw(st.sampled_from(sorted(message[inside])))
            message[inside] = message[inside] | {field: data.draw(json_values)}
    assert all(isinstance(event, ModelEvent) for event in tell(message))


# -- out -----------------------------------------------------------------------------------------------

SCHEMA = {"type": "object", "properties": {"at": {"type": "string"}}, "required": ["at"]}
TOOL = ToolSpec("book", "Books.", SCHEMA)
CONFIGURE = Configure("You answer the phone.", "marin", "pcmu", (TOOL,), answer_by_itself=True)
COMMANDS = [
    CONFIGURE,
    replace(CONFIGURE, audio_format="pcma", tools=(), answer_by_itself=False),
    replace(CONFIGURE, audio_format="pcm24", voice="voice_123", transcription_model=""),
    AppendAudio(bytes(range(160))),
    ClearInput(),
    AddMessage("user", 'Say "hi" ☎', "msg_1"),
    AddMessage("assistant", "Hi.", "msg_2"),
    AddMessage("system", "Go on.", "msg_3"),
    AddSpeech(b"\xff" * 800, "msg_4"),
    AddToolCall("call_1", "book", '{"at":"15:30"}', "fc_1"),
    AddToolOutput("call_1", '{"ok":true}', "fo_1"),
    TruncateItem("item_2", 0, 740),
    DeleteItem("item_2"),
    RequestReply(),
    RequestReply("Apologise.", {"turn": "3"}),
    CancelReply(),
    CancelReply("resp_1"),
]


def strays(model: BaseModel, path: str = "") -> list[str]:
    found = [f"{path}.{key}" for key in model.model_extra or {}]
    for name in type(model).model_fields:
        value = getattr(model, name)
        for index, inner in enumerate(value if isinstance(value, list) else [value]):
            if isinstance(inner, BaseModel):
                found += strays(inner, f"{path}.{name}[{index}]")
    return found


@pytest.mark.parametrize("event_id", [None, "our-7"])
@pytest.mark.parametrize("command", COMMANDS, ids=lambda command: type(command).__name__)
def test_what_is_sent_fits_the_vendors_schema_and_has_no_stray_key(command, event_id):
    message = json.loads(OpenAIRealtimeCodec().encode(command, event_id=event_id))
    assert message.get("event_id") == event_id
    parsed = CLIENT[message["type"]].model_validate(message)
    assert strays(parsed) == []


def test_the_configuration_is_the_minimal_phone_session():
    message = json.loads(OpenAIRealtimeCodec().encode(CONFIGURE, event_id="cfg-1"))
    assert message == {
        "type": "session.update",
        "event_id": "cfg-1",
        "session": {
            "type": "realtime",
            "output_modalities": ["audio"],
            "instructions": "You answer the phone.",
            "audio": {
                "input": {
                    "format": {"type": "audio/pcmu"},
                    "transcription": {"model": "gpt-transcribe"},
                    "turn_detection": {
                        "type": "server_vad",
                        "threshold": 0.5,
                        "prefix_padding_ms": 300,
                        "silence_duration_ms": 500,
                        "create_response": True,
                        "interrupt_response": True,
                    },
                },
                "output": {"format": {"type": "audio/pcmu"}, "voice": "marin"},
            },
            "tools": [
                {
                    "type": "function",
                    "name": "book",
                    "description": "Books.",
                    "parameters": SCHEMA,
                }
            ],
            "tool_choice": "auto",
            "truncation": {"type": "retention_ratio", "retention_ratio": 0.8},
        },
    }


def test_the_voice_is_named_only_until_it_has_been_heard():
    codec = OpenAIRealtimeCodec()
    tell(SAMPLES["response.output_audio.delta"], codec)
    output = json.loads(codec.encode(CONFIGURE))["session"]["audio"]["output"]
    assert output == {"format": {"type": "audio/pcmu"}}


def test_a_model_that_must_not_answer_by_itself_does_not_interrupt_itself_either():
    quiet = replace(CONFIGURE, answer_by_itself=False)
    session = json.loads(OpenAIRealtimeCodec().encode(quiet))["session"]
    detection = session["audio"]["input"]["turn_detection"]
    assert (detection["create_response"], detection["interrupt_response"]) == (False, False)


@given(st.binary(max_size=2000))
def test_appended_audio_is_the_audio(audio):
    message = json.loads(OpenAIRealtimeCodec().encode(AppendAudio(audio)))
    assert base64.b64decode(message["audio"]) == audio


@pytest.mark.parametrize("item_id", ["", "x" * 33])
def test_an_item_id_that_would_be_refused_is_our_own_bug(item_id):
    with pytest.raises(ValueError, match="item id"):
        OpenAIRealtimeCodec().encode(AddMessage("user", "hi", item_id))


@pytest.mark.parametrize("metadata", [{str(n): "" for n in range(17)}, {"k" * 65: ""}, {"k": "v" * 513}])
def test_metadata_that_would_be_refused_is_our_own_bug(metadata):
    with pytest.raises(ValueError, match="metadata"):
        OpenAIRealtimeCodec().encode(RequestReply(metadata=metadata))


# -- connecting ----------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("configured", "expected"),
    [
        ("wss://api.openai.com/v1/realtime", "wss://api.openai.com/v1/realtime?model=gpt-realtime-2.1"),
        (
            "ws://127.0.0.1:9/v1/realtime?x=1&model=old",
            "ws://127.0.0.1:9/v1/realtime?x=1&model=gpt-realtime-2.1",
        ),
    ],
)
def test_the_address_names_the_model_once(configured, expected):
    assert request_url(configured, "gpt-realtime-2.1") == expected


def test_the_headers_carry_the_key_and_never_the_beta():
    headers = request_headers(" sk-abc\n")
    assert headers == [(b"authorization", b"Bearer sk-abc")]
    assert not any(name.lower() == b"openai-beta" for name, _ in headers)


@pytest.mark.parametrize("key", ["", "sk-\r\nx", "sk-ü", "sk- x"])
def test_a_key_that_no_header_can_carry_is_refused_and_not_quoted(key):
    with pytest.raises(ValueError, match="API key") as caught:
        request_headers(key)
    assert not key or key not in str(caught.value)


def test_known_names_are_of_the_schema_or_of_the_older_dialect():
    interesting = {str(message.__struct_config__.tag) for message in get_args(openai_messages.Interesting)}
    assert not interesting & openai_messages.IGNORED
    assert set(SAMPLES) <= interesting | openai_messages.IGNORED
