"""A model's dialect with mu-law on our side of it: lengths, places, and nothing else changed."""

from __future__ import annotations

import base64
import itertools
import json
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from callrt.protocol.audio import mulaw_decode, mulaw_encode, pcm_decode, pcm_encode
from callrt.protocol.models.events import (
    AddMessage,
    AddSpeech,
    AppendAudio,
    ReplyAudio,
    ReplyDone,
    ReplyItemDone,
    RequestReply,
)
from callrt.protocol.models.openai_realtime import OpenAIRealtimeCodec
from callrt.protocol.models.transcoding import Transcoder, codec_for

FRAME = 160


def tone(hertz: float, rate: int, seconds: float) -> np.ndarray:
    return (12_000 * np.sin(2 * np.pi * hertz * np.arange(int(rate * seconds)) / rate)).astype(np.int16)


def transcoder() -> Transcoder:
    return Transcoder(OpenAIRealtimeCodec())


def delta(pcm: bytes, item: str = "a1", reply: str = "r1") -> str:
    return json.dumps(
        {
            "type": "response.output_audio.delta",
            "event_id": "e",
            "response_id": reply,
            "item_id": item,
            "output_index": 0,
            "content_index": 0,
            "delta": base64.b64encode(pcm).decode(),
        }
    )


def item_done(item: str = "a1", reply: str = "r1", status: str = "completed") -> str:
    body = {"id": item, "type": "message", "role": "assistant", "status": status, "content": []}
    return json.dumps(
        {
            "type": "response.output_item.done",
            "event_id": "e",
            "response_id": reply,
            "output_index": 0,
            "item": body,
        }
    )


def reply_done(reply: str = "r1") -> str:
    body = {"id": reply, "object": "realtime.response", "status": "cancelled", "output": []}
    return json.dumps({"type": "response.done", "event_id": "e", "response": body})


def sent(message: str, *keys: str | int) -> bytes:
    value: Any = json.loads(message)
    for key in keys:
        value = value[key]
    return base64.b64decode(value)


def spoken(codec: Transcoder, messages: list[str]) -> dict[str, bytes]:
    """Mu-law by item."""
    audio: dict[str, bytes] = {}
    for message in messages:
        for event in codec.decode(message):
            if isinstance(event, ReplyAudio):
                audio[event.item_id] = audio.get(event.item_id, b"") + event.audio
    return audio


def test_each_frame_of_the_callers_is_three_times_as_many_samples():
    codec = transcoder()
    for _ in range(5):
        assert len(sent(codec.encode_audio(b"\x7f" * FRAME), "audio")) == FRAME * 3 * 2
        assert len(sent(codec.encode(AppendAudio(b"\x7f" * FRAME)), "audio")) == FRAME * 3 * 2


def test_the_callers_voice_reaches_the_model_pure_and_two_milliseconds_late():
    codec = transcoder()
    line = mulaw_encode(tone(1000, 8000, 0.5))
    heard = b"".join(
        sent(codec.encode_audio(line[at : at + FRAME]), "audio") for at in range(0, len(line), FRAME)
    )
    samples = pcm_decode(heard).astype(float)
    ideal = np.concatenate([np.zeros(48), tone(1000, 24_000, 0.5)])[: len(samples)].astype(float)
    error = (samples - ideal)[200:]
    assert 20 * np.log10(np.linalg.norm(error) / np.linalg.norm(ideal[200:])) < -35


@given(st.lists(st.integers(0, 1500), min_size=1, max_size=8), st.binary(min_size=1, max_size=64))
def test_speech_is_as_long_as_the_model_made_it_in_any_pieces(cuts, seed):
    samples = np.frombuffer(seed * 200, np.uint8).astype(np.int16) * 100
    pcm = pcm_encode(samples[: 3 * (len(samples) // 3)])
    edges = sorted({0, len(pcm), *(min(2 * cut, len(pcm)) for cut in cuts)})
    pieces = [delta(pcm[a:b]) for a, b in itertools.pairwise(edges)]
    whole = spoken(transcoder(), [delta(pcm), item_done()])
    assert spoken(transcoder(), [*pieces, item_done()]) == whole
    assert len(whole["a1"]) == len(pcm) // 6


def test_the_models_speech_is_not_late():
    pcm = pcm_encode(tone(500, 24_000, 0.4))
    heard = mulaw_decode(spoken(transcoder(), [delta(pcm), item_done()])["a1"]).astype(float)
    ideal = tone(500, 8_000, 0.4).astype(float)
    assert len(heard) == len(ideal)
    inner = slice(40, -40)
    assert 20 * np.log10(np.linalg.norm((heard - ideal)[inner]) / np.linalg.norm(ideal[inner])) < -35


def test_an_item_does_not_begin_with_the_end_of_the_one_before():
    loud, quiet = pcm_encode(tone(1000, 24_000, 0.1)), bytes(4800)
    codec = transcoder()
    audio = spoken(codec, [delta(loud, "a1"), delta(quiet, "a2"), item_done("a2")])
    assert set(audio["a2"]) == {0xFF}
    audio = spoken(codec, [delta(loud, "a3", "r3"), reply_done("r3"), delta(quiet, "a4", "r4")])
    assert set(audio["a4"]) == {0xFF}


def test_an_item_that_was_cut_gets_nothing_more():
    codec = transcoder()
    spoken(codec, [delta(pcm_encode(tone(1000, 24_000, 0.1)))])
    (event,) = codec.decode(item_done(status="incomplete"))
    assert isinstance(event, ReplyItemDone)


def test_the_end_of_an_item_is_told_after_its_last_sound():
    codec = transcoder()
    spoken(codec, [delta(pcm_encode(tone(1000, 24_000, 0.1)))])
    last, end = codec.decode(item_done())
    assert isinstance(last, ReplyAudio)
    assert isinstance(end, ReplyItemDone)
    assert len(last.audio) == 16
    assert [type(event) for event in codec.decode(reply_done())] == [ReplyDone]


def test_a_turn_that_is_replayed_is_exactly_as_long_as_it_was():
    speech = mulaw_encode(tone(700, 8000, 0.3))
    message = transcoder().encode(AddSpeech(speech, "i1"))
    pcm = sent(message, "item", "content", 0, "audio")
    assert len(pcm) == len(speech) * 6
    assert json.loads(message)["item"]["id"] == "i1"


@pytest.mark.parametrize("command", [AddMessage("user", "hello", "i1"), RequestReply()])
def test_what_is_not_audio_passes_untouched(command):
    assert transcoder().encode(command, event_id="c1") == OpenAIRealtimeCodec().encode(command, event_id="c1")


@given(st.text(max_size=80))
def test_nonsense_is_what_the_dialect_says_it_is(message):
    assert transcoder().decode(message) == OpenAIRealtimeCodec().decode(message)


def test_only_a_pcm_model_is_transcoded():
    assert isinstance(codec_for("pcm24", OpenAIRealtimeCodec), Transcoder)
    assert isinstance(codec_for("pcmu", OpenAIRealtimeCodec), OpenAIRealtimeCodec)
