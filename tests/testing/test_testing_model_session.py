"""Laws of the emulated session, in virtual time; each event it emits is judged by the vendor's own types."""

from __future__ import annotations

import base64
import random
from typing import Any

import attrs
import pytest
import trio
import trio.testing
from testing_model_helpers import BOOKED, FRAME, GREETING, SILENCE, SLOT, Client, emulated, opened, utterance

from callrt.testing.model_core import ModelOptions
from callrt.testing.model_reply import Pace
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
