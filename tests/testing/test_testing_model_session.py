"""Laws of the emulated session, in virtual time; each event it emits is judged by the vendor's own
types."""

from __future__ import annotations

import base64
import itertools
from typing import Any

import pytest
import trio
import trio.testing
from testing_model_helpers import BOOKED, FRAME, GREETING, SILENCE, SLOT, Client, emulated, opened, utterance

from callrt.testing.model_core import ModelOptions
from callrt.testing.model_reply import Pace
from callrt.testing.model_vad import from_mulaw
from callrt.wire.transport import TransportClosed

Clock = trio.testing.MockClock


async def test_session_is_created_before_anything_else(autojump_clock: Clock) -> None:
    async with opened() as client:
        event = await client.next()
        assert event["type"] == "session.created"
        assert event["session"]["object"] == "realtime.session"
        assert event["session"]["expires_at"] == 3600


async def test_spoken_turn_is_answered_by_the_whole_lifecycle_in_order(autojump_clock: Clock) -> None:
    async with opened() as client:
        await client.configure()
        async with trio.open_nursery() as nursery:
            nursery.start_soon(client.say, utterance("I need an appointment"))
            done = await client.until("response.done")
        kinds = [event["type"] for event in client.events]
        first: list[str] = []
        for kind in kinds:
            if kind not in first:
                first.append(kind)
        assert first == [
            "session.created",
            "session.updated",
            "input_audio_buffer.speech_started",
            "input_audio_buffer.speech_stopped",
            "input_audio_buffer.committed",
            "conversation.item.added",
            "conversation.item.done",
            "response.created",
            "response.output_item.added",
            "response.content_part.added",
            "response.output_audio_transcript.delta",
            "response.output_audio.delta",
            "conversation.item.input_audio_transcription.delta",
            "conversation.item.input_audio_transcription.completed",
            "response.output_audio.done",
            "response.output_audio_transcript.done",
            "response.content_part.done",
            "response.output_item.done",
            "response.done",
        ]
        assert done["response"]["status"] == "completed"
        (heard,) = client.of("conversation.item.input_audio_transcription.completed")
        assert heard["transcript"] == "I need an appointment"
        (said,) = client.of("response.output_audio_transcript.done")
        assert said["transcript"] == SLOT
        item = client.session.items[said["item_id"]]
        assert client.audio_of(item.id) == bytes(item.audio)
        assert item.words_until(item.sent_ms) == SLOT
        assert await client.until("rate_limits.updated")


async def test_effective_configuration_is_the_merge_of_all_updates(autojump_clock: Clock) -> None:
    async with opened() as client:
        await client.configure()
        client.send(
            "session.update",
            session={
                "type": "realtime",
                "instructions": "",
                "audio": {"input": {"turn_detection": {"type": "server_vad", "create_response": False}}},
            },
        )
        session = (await client.until("session.updated"))["session"]
        assert session["instructions"] == ""
        assert session["audio"]["input"]["format"] == {"type": "audio/pcmu"}
        assert session["audio"]["output"]["voice"] == "marin"
        assert session["audio"]["input"]["turn_detection"] == {
            "type": "server_vad",
            "threshold": 0.5,
            "prefix_padding_ms": 300,
            "silence_duration_ms": 500,
            "idle_timeout_ms": None,
            "create_response": False,
            "interrupt_response": True,
        }


UPDATES: list[tuple[dict[str, Any], str, str]] = [
    ({"instructions": "x"}, "missing_required_parameter", "session.type"),
    ({"type": "realtime", "temperature": 0.8}, "unknown_parameter", "session.temperature"),
    (
        {
            "type": "realtime",
            "instructions": "kept?",
            "audio": {"input": {"format": {"type": "audio/pcmu", "rate": 8000}}},
        },
        "unknown_parameter",
        "session.audio.input.format.rate",
    ),
    ({"type": "realtime", "modalities": ["audio"]}, "unknown_parameter", "session.modalities"),
    (
        {"type": "realtime", "output_modalities": ["audio", "text"]},
        "invalid_value",
        "session.output_modalities",
    ),
    (
        {"type": "realtime", "audio": {"output": {"voice": "siri"}}},
        "invalid_type",
        "session.audio.output.voice",
    ),
    ({"type": "realtime", "model": "gpt-other"}, "invalid_value", "session.model"),
    ({"type": "realtime", "instructions": 7}, "invalid_type", "session.instructions"),
    ({"type": "realtime", "max_output_tokens": 5000}, "invalid_value", "session.max_output_tokens"),
    (
        {"type": "realtime", "tools": [{"type": "function", "name": "with space"}]},
        "invalid_value",
        "session.tools[0].name",
    ),
    (
        {"type": "realtime", "audio": {"input": {"turn_detection": {"type": "server_vad", "treshold": 1}}}},
        "unknown_parameter",
        "session.audio.input.turn_detection.treshold",
    ),
]


@pytest.mark.parametrize(("update", "code", "param"), UPDATES)
async def test_one_wrong_key_rejects_the_whole_update(
    autojump_clock: Clock, update: dict[str, Any], code: str, param: str
) -> None:
    async with opened() as client:
        before = await client.configure()
        client.send("session.update", event_id="evt_mine", session=update)
        error = (await client.until("error"))["error"]
        assert (error["code"], error["param"], error["event_id"]) == (code, param, "evt_mine")
        assert client.session.session == before
        assert not await client.collect(1)


@pytest.mark.parametrize(
    ("event", "code", "param"),
    [
        ({"audio": "AAAA"}, "invalid_event", "type"),
        ({"type": "response.speak"}, "invalid_value", "type"),
        ({"type": "input_audio_buffer.append"}, "missing_required_parameter", "audio"),
        ({"type": "input_audio_buffer.append", "audio": "%"}, "invalid_value", "audio"),
        ({"type": "input_audio_buffer.append", "audio": "A" * (21 * 1024 * 1024)}, "invalid_value", "audio"),
        ({"type": "input_audio_buffer.commit"}, "input_audio_buffer_commit_empty", None),
        ({"type": "response.cancel"}, "response_cancel_not_active", None),
        ({"type": "response.create", "response": {"voice": "marin"}}, "unknown_parameter", "response.voice"),
        (
            {"type": "conversation.item.delete", "item_id": "item_no"},
            "item_delete_invalid_item_id",
            "item_id",
        ),
        ({"type": "conversation.item.retrieve", "item_id": "no"}, "item_retrieve_invalid_item_id", "item_id"),
        (
            {"type": "conversation.item.truncate", "item_id": "no", "content_index": 0, "audio_end_ms": 0},
            "item_truncate_invalid_item_id",
            "item_id",
        ),
        (
            {
                "type": "conversation.item.create",
                "item": {"type": "message", "role": "assistant", "content": [{"type": "text", "text": "x"}]},
            },
            "invalid_value",
            "item.content[0].type",
        ),
        (
            {
                "type": "conversation.item.create",
                "item": {
                    "type": "message",
                    "role": "assistant",
                    "content": [{"type": "output_audio", "audio": "AAAA"}],
                },
            },
            "invalid_value",
            "item.content[0].type",
        ),
        (
            {
                "type": "conversation.item.create",
                "item": {"type": "function_call_output", "call_id": "call_no", "output": "1"},
            },
            "invalid_value",
            "item.call_id",
        ),
        (
            {
                "type": "conversation.item.create",
                "previous_item_id": "item_no",
                "item": {"type": "message", "role": "user", "content": [{"type": "input_text", "text": "x"}]},
            },
            "invalid_value",
            "previous_item_id",
        ),
        (
            {
                "type": "conversation.item.create",
                "item": {
                    "id": "i" * 33,
                    "type": "message",
                    "role": "user",
                    "content": [{"type": "input_text", "text": "x"}],
                },
            },
            "string_above_max_length",
            "item.id",
        ),
    ],
)
async def test_client_mistake_is_one_error_and_changes_nothing(
    autojump_clock: Clock, event: dict[str, Any], code: str, param: str | None
) -> None:
    async with opened() as client:
        await client.configure()
        client.link._outbound.backlog_bytes = 64_000_000
        kind = event.pop("type", None)
        if kind is None:
            client.link.send_nowait('{"audio": "AAAA"}')
        else:
            client.send(kind, **event)
        error = (await client.until("error"))["error"]
        assert (error["code"], error["param"]) == (code, param)
        assert client.session.items == {}
        assert not await client.collect(1)
        await client.configure()


@pytest.mark.parametrize("message", [b"\x00binary", "not json", "[]", "[" * 5000, '"x"'])
async def test_garbage_from_the_client_is_one_error(autojump_clock: Clock, message: str | bytes) -> None:
    async with opened() as client:
        client.link.send_nowait(message)
        assert (await client.until("error"))["error"]["type"] == "invalid_request_error"
        await client.configure()


async def test_voice_cannot_change_once_the_model_has_spoken(autojump_clock: Clock) -> None:
    async with opened() as client:
        await client.configure()
        client.send("response.create", response={"instructions": f'Greet: say exactly: "{GREETING}"'})
        await client.until("response.done")
        for voice, code in (("cedar", "cannot_update_voice"), ("marin", None)):
            client.send("session.update", session={"type": "realtime", "audio": {"output": {"voice": voice}}})
            event = await client.next()
            while event["type"] not in ("error", "session.updated"):
                event = await client.next()
            assert event.get("error", {}).get("code") == code


async def test_quoted_line_is_spoken_word_for_word(autojump_clock: Clock) -> None:
    async with opened() as client:
        await client.configure()
        client.send(
            "response.create",
            response={"instructions": f'Be kind. Now say exactly: "{GREETING}"', "metadata": {"turn": "0"}},
        )
        created = await client.until("response.created")
        assert created["response"]["metadata"] == {"turn": "0"}
        await client.until("response.done")
        assert client.of("response.output_audio_transcript.done")[0]["transcript"] == GREETING


async def test_words_lead_the_audio_which_comes_faster_than_real_time(autojump_clock: Clock) -> None:
    async with opened() as client:
        await client.configure()
        client.send("response.create", response={"instructions": f'say exactly: "{GREETING}"'})
        await client.until("response.created")
        created_at = trio.current_time()
        await client.until("response.done")
        item = client.session.spoken[0]
        words: list[str] = []
        audio_ms = 0
        for event in client.events:
            if event["type"] == "response.output_audio_transcript.delta":
                words.append(event["delta"])
            elif event["type"] == "response.output_audio.delta":
                audio_ms += len(base64.b64decode(event["delta"])) // 8
                assert "".join(words).startswith(item.words_until(audio_ms))
        took = trio.current_time() - created_at - 0.3
        assert item.sent_ms / 10_000 <= took <= item.sent_ms / 3_000
        assert len({len(event["delta"]) for event in client.of("response.output_audio.delta")}) > 3


async def test_caller_who_interrupts_ends_the_reply_at_once(autojump_clock: Clock) -> None:
    options = ModelOptions(pace=Pace(rate=(0.9, 0.9), piece_ms=(20, 60)))
    async with opened(emulated(options=options)) as client:
        await client.configure()
        client.send("response.create", response={"instructions": f'say exactly: "{GREETING}"'})
        await client.until("response.output_audio.delta")
        async with trio.open_nursery() as nursery:
            nursery.start_soon(client.say, utterance("I need an appointment"))
            await client.until("input_audio_buffer.speech_started")
            started = trio.current_time()
            done = await client.until("response.done")
            assert trio.current_time() == started
            assert done["response"]["status_details"] == {"type": "cancelled", "reason": "turn_detected"}
            assert done["response"]["output"][0]["status"] == "incomplete"
            item = client.session.spoken[0]
            heard = item.sent_ms // 2
            client.send("conversation.item.truncate", item_id=item.id, content_index=0, audio_end_ms=heard)
            await client.until("conversation.item.truncated")
            assert client.session.truncations[0][1:] == (item.id, heard)
            answer = await client.until("response.done")
            assert answer["response"]["status"] == "completed"
            said = client.of("response.output_audio_transcript.done")[-1]["transcript"]
            assert said == SLOT


async def test_without_interrupt_response_the_reply_goes_on_and_no_second_one_is_made(
    autojump_clock: Clock,
) -> None:
    options = ModelOptions(pace=Pace(rate=(0.5, 0.5)))
    async with opened(emulated(options=options)) as client:
        await client.configure(
            audio={
                "input": {
                    "format": {"type": "audio/pcmu"},
                    "turn_detection": {
                        "type": "server_vad",
                        "interrupt_response": False,
                        "silence_duration_ms": 200,
                    },
                },
                "output": {"format": {"type": "audio/pcmu"}},
            }
        )
        client.send("response.create", response={"instructions": f'say exactly: "{GREETING}"'})
        await client.until("response.output_audio.delta")
        await client.say(utterance("I need an appointment"), 300)
        events = await client.collect(30)
        assert [event["response"]["status"] for event in client.of("response.done")] == ["completed"]
        assert "input_audio_buffer.committed" in [event["type"] for event in events]


async def test_truncation_never_exceeds_the_audio_and_only_touches_spoken_items(
    autojump_clock: Clock,
) -> None:
    async with opened() as client:
        await client.configure()
        client.send("response.create", response={"instructions": f'say exactly: "{GREETING}"'})
        await client.until("rate_limits.updated")
        item = client.session.spoken[0]
        length = item.sent_ms

        async def truncate(item_id: str, end: int) -> dict[str, Any]:
            client.send("conversation.item.truncate", item_id=item_id, content_index=0, audio_end_ms=end)
            return await client.next()

        too_long = await truncate(item.id, length + 1)
        assert (
            too_long["error"]["message"]
            == f"Audio content of {length}ms is already shorter than {length + 1}ms"
        )
        assert (await truncate(item.id, 1000))["type"] == "conversation.item.truncated"
        assert "1000ms is already shorter" in (await truncate(item.id, 1001))["error"]["message"]
        assert (await truncate(item.id, 0))["type"] == "conversation.item.truncated"
        client.send(
            "conversation.item.create",
            item={
                "id": "replayed",
                "type": "message",
                "role": "assistant",
                "content": [{"type": "output_text", "text": "Hello"}],
            },
        )
        await client.until("conversation.item.done")
        assert (await truncate("replayed", 0))["error"]["code"] == "invalid_value"


async def test_tool_call_waits_for_its_output_and_is_then_answered(autojump_clock: Clock) -> None:
    async with opened() as client:
        await client.configure(tools=[{"type": "function", "name": "book_appointment", "parameters": {}}])
        async with trio.open_nursery() as nursery:
            nursery.start_soon(client.say, utterance("Yes please book it for me"))
            done = await client.until("response.done")
        kinds = [item["type"] for item in done["response"]["output"]]
        assert kinds == ["message", "function_call"]
        call = done["response"]["output"][1]
        assert (call["status"], call["arguments"]) == ("completed", '{"day": "tuesday", "hour": 15}')
        deltas = "".join(event["delta"] for event in client.of("response.function_call_arguments.delta"))
        assert deltas == call["arguments"]
        client.send(
            "conversation.item.create",
            item={"type": "function_call_output", "call_id": call["call_id"], "output": '{"ok":true}'},
        )
        client.send("response.create")
        await client.until("response.done")
        assert client.of("response.output_audio_transcript.done")[-1]["transcript"] == BOOKED


async def test_reply_of_two_lines_has_two_items(autojump_clock: Clock) -> None:
    async with opened() as client:
        await client.configure()
        async with trio.open_nursery() as nursery:
            nursery.start_soon(client.say, utterance("Tell me a lot"))
            done = await client.until("response.done")
        texts = [item["content"][0]["transcript"] for item in done["response"]["output"]]
        assert texts == ["First this.", "Then that and more."]
        assert [event["output_index"] for event in client.of("response.output_item.done")] == [0, 1]


@pytest.mark.parametrize("cut", range(1, 15))
async def test_resumed_conversation_says_exactly_the_rest_of_the_line(
    autojump_clock: Clock, cut: int
) -> None:
    heard = " ".join(SLOT.split()[:cut])
    async with opened() as client:
        await client.configure()
        for role, kind, text in (
            ("user", "input_text", "I need an appointment"),
            ("assistant", "output_text", heard),
            ("system", "input_text", "The line was lost for a moment; go on."),
        ):
            client.send(
                "conversation.item.create",
                item={"type": "message", "role": role, "content": [{"type": kind, "text": text}]},
            )
        client.send("response.create")
        await client.until("response.done")
        said = client.of("response.output_audio_transcript.done")[0]["transcript"]
        rest = SLOT.split()[cut:]
        assert said == (" ".join(rest) if rest else "Are you still there?")


async def test_second_reply_at_once_is_refused_unless_out_of_band(autojump_clock: Clock) -> None:
    async with opened() as client:
        await client.configure()
        client.send("response.create", response={"instructions": f'say exactly: "{GREETING}"'})
        client.send("response.create")
        client.send(
            "response.create",
            response={
                "conversation": "none",
                "output_modalities": ["text"],
                "input": [],
                "instructions": 'say exactly: "aside"',
            },
        )
        error = (await client.until("error"))["error"]
        assert error["code"] == "conversation_already_has_active_response"
        assert client.session.replies[0].id in error["message"]
        aside = await client.until(
            "response.done", lambda event: event["response"]["conversation_id"] is None
        )
        assert aside["response"]["output"][0]["content"] == [{"type": "output_text", "text": "aside"}]
        await client.until("response.done")
        assert [item.role for item in client.session.items.values()] == ["assistant"]


async def test_duplicate_item_id_is_refused_and_the_first_one_stays(autojump_clock: Clock) -> None:
    async with opened() as client:
        await client.configure()
        for text in ("one", "two"):
            client.send(
                "conversation.item.create",
                item={
                    "id": "mine",
                    "type": "message",
                    "role": "user",
                    "content": [{"type": "input_text", "text": text}],
                },
            )
        error = (await client.until("error"))["error"]
        assert error["code"] == "item_create_duplicate_item_id"
        client.send("conversation.item.retrieve", item_id="mine")
        assert (await client.until("conversation.item.retrieved"))["item"]["content"][0]["text"] == "one"
        client.send("conversation.item.delete", item_id="mine")
        await client.until("conversation.item.deleted")
        assert client.session.items == {}


async def test_items_go_where_previous_item_id_says(autojump_clock: Clock) -> None:
    async with opened() as client:
        await client.configure()
        for item_id, after in (("b", None), ("a", "root"), ("c", "b"), ("ab", "a")):
            client.send(
                "conversation.item.create",
                previous_item_id=after,
                item={
                    "id": item_id,
                    "type": "message",
                    "role": "user",
                    "content": [{"type": "input_text", "text": item_id}],
                },
            )
            await client.until("conversation.item.done")
        assert list(client.session.items) == ["a", "ab", "b", "c"]
        previous = [event["previous_item_id"] for event in client.of("conversation.item.added")]
        assert previous == [None, None, "b", "a"]


@pytest.mark.parametrize("mode", ["before", "during", "after", "never", "failed"])
async def test_transcript_comes_when_the_options_say(autojump_clock: Clock, mode: Any) -> None:
    async with opened(emulated(options=ModelOptions(transcription=mode))) as client:
        await client.configure()
        await client.say(utterance("I need an appointment"))
        await client.collect(30)
        kinds = [event["type"] for event in client.events]
        name = "conversation.item.input_audio_transcription."
        if mode == "never":
            assert not any(kind.startswith(name) for kind in kinds)
        elif mode == "failed":
            assert f"{name}failed" in kinds
        else:
            at = kinds.index(f"{name}completed")
            assert (at < kinds.index("response.created")) == (mode == "before")
            assert (at > kinds.index("response.done")) == (mode == "after")


async def test_manual_turns_need_a_commit_and_a_request(autojump_clock: Clock) -> None:
    async with opened() as client:
        await client.configure(
            audio={
                "input": {"format": {"type": "audio/pcmu"}, "turn_detection": None},
                "output": {"format": {"type": "audio/pcmu"}},
            }
        )
        client.append(utterance("I need an appointment"))
        assert not await client.collect(10)
        client.send("input_audio_buffer.commit")
        await client.until("conversation.item.done")
        assert client.session.caller_turns[0].understood == "I need an appointment"
        client.send("response.create")
        await client.until("response.done")
        assert client.of("response.output_audio_transcript.done")[0]["transcript"] == SLOT


@pytest.mark.parametrize(
    ("form", "scale"), [({"type": "audio/pcma"}, 8), ({"type": "audio/pcm", "rate": 24000}, 48)]
)
async def test_other_formats_say_and_hear_the_same(
    autojump_clock: Clock, form: dict[str, Any], scale: int
) -> None:
    async with opened() as client:
        await client.configure(
            audio={
                "input": {"format": form, "turn_detection": {"type": "server_vad"}},
                "output": {"format": form},
            }
        )
        sound = from_mulaw(utterance("I need an appointment") + SILENCE * 30, form["type"])
        size = 1601  # odd on purpose: half a sample in one message, half in the next
        for at in range(0, len(sound), size):
            client.append(sound[at : at + size])
            await trio.sleep(0.02)
        await client.until("response.done")
        assert client.session.caller_turns[0].understood == "I need an appointment"
        item = client.session.spoken[0]
        assert len(client.audio_of(item.id)) == item.words[-1].end_ms * scale


async def test_positions_count_audio_not_time(autojump_clock: Clock) -> None:
    async with opened() as client:
        await client.configure()
        client.append(SILENCE * 50)
        await trio.sleep(1000)
        await client.say(utterance("I need an appointment"), 800)
        started = (await client.until("input_audio_buffer.speech_started"))["audio_start_ms"]
        stopped = (await client.until("input_audio_buffer.speech_stopped"))["audio_end_ms"]
        assert started == 1000 - 300
        spoken_ms = len(utterance("I need an appointment")) // 8
        assert stopped == 1000 + spoken_ms + 500


async def test_click_is_not_speech(autojump_clock: Clock) -> None:
    async with opened() as client:
        await client.configure()
        await client.say(b"\x00" * FRAME * 2, 1000)
        assert [event for event in await client.collect(5) if "speech" in event["type"]] == []


async def test_clear_forgets_the_speech_under_way(autojump_clock: Clock) -> None:
    async with opened() as client:
        await client.configure()
        await client.say(utterance("I need an appointment")[: 8 * 500], 0)
        client.send("input_audio_buffer.clear")
        await client.until("input_audio_buffer.cleared")
        await client.say(b"", 2000)
        assert not await client.collect(5)


async def test_session_ends_after_its_time_with_a_clean_close(autojump_clock: Clock) -> None:
    options = ModelOptions(session_seconds=1800)
    async with opened(emulated(options=options)) as client:
        await client.configure()
        with pytest.raises(TransportClosed) as caught:
            await _read_on(client)
        assert trio.current_time() == 1800
        assert (caught.value.code, caught.value.by_peer) == (1001, True)
        assert caught.value.reason == "Your session hit the maximum duration of 30 minutes."


async def _read_on(client: Client) -> None:
    while True:
        await client.next()


async def test_idle_timeout_commits_the_silence_and_speaks(autojump_clock: Clock) -> None:
    async with opened() as client:
        await client.configure(
            audio={
                "input": {
                    "format": {"type": "audio/pcmu"},
                    "turn_detection": {"type": "server_vad", "idle_timeout_ms": 6000},
                },
                "output": {"format": {"type": "audio/pcmu"}},
            }
        )
        client.send("response.create", response={"instructions": f'say exactly: "{GREETING}"'})
        await client.until("response.done")
        length = client.session.spoken[0].sent_ms / 1000
        done_at = trio.current_time()
        await client.until("input_audio_buffer.timeout_triggered")
        assert trio.current_time() == pytest.approx(done_at + length + 6)
        await client.until("response.created")


async def test_reply_that_meets_its_token_limit_is_incomplete(autojump_clock: Clock) -> None:
    async with opened() as client:
        await client.configure()
        client.send(
            "response.create",
            response={"instructions": f'say exactly: "{GREETING}"', "max_output_tokens": 20},
        )
        done = await client.until("response.done")
        assert done["response"]["status_details"] == {"type": "incomplete", "reason": "max_output_tokens"}
        assert client.session.spoken[0].sent_ms == 20 * 50


async def test_same_seed_gives_the_same_conversation(autojump_clock: Clock) -> None:
    async def run() -> list[dict[str, Any]]:
        async with opened(emulated(seed=5)) as client:
            await client.configure()
            await client.say(utterance("I need an appointment"))
            await client.collect(20)
            return client.events

    first, second = await run(), await run()
    for event in (*first, *second):
        if event["type"].startswith("session."):
            event["session"].pop("expires_at")
    assert first == second


async def test_usage_counts_callers_and_assistant_audio_by_the_vendors_rule(autojump_clock: Clock) -> None:
    async with opened() as client:
        await client.configure()
        async with trio.open_nursery() as nursery:
            nursery.start_soon(client.say, utterance("I need an appointment"))
            done = await client.until("response.done")
        usage = done["response"]["usage"]
        item = client.session.spoken[0]
        assert usage["output_token_details"]["audio_tokens"] == item.sent_ms // 50
        turn = client.session.caller_turns[0]
        assert usage["input_token_details"]["audio_tokens"] == len(turn.caller_audio) // 800
        assert usage["total_tokens"] == usage["input_tokens"] + usage["output_tokens"]


async def test_told_keeps_every_client_event_with_its_time(autojump_clock: Clock) -> None:
    async with opened(latency=0.1) as client:
        await client.configure()
        await client.say(utterance("I need an appointment"), 0)
        await trio.sleep(1)
        appends = [told for told in client.session.told if told.event["type"] == "input_audio_buffer.append"]
        assert len(appends) == len(utterance("I need an appointment")) // FRAME
        assert {told.event["audio"] for told in appends} == {FRAME}
        gaps = {round(b.at - a.at, 6) for a, b in itertools.pairwise(appends)}
        assert gaps == {0.02}
