"""The emulators' voices: the same bytes for the same text, in whole frames, loud enough to be noticed."""

from __future__ import annotations

import sys

import numpy as np
import pytest
import trio
from hypothesis import given
from hypothesis import strategies as st

from callrt.comfort import pcm
from callrt.protocol.audio import mulaw_decode
from callrt.protocol.transcript import Transcript
from callrt.testing.carrier_tape import is_audible
from callrt.testing.model_items import speak
from callrt.testing.model_voice import SentenceVoice
from callrt.testing.speech import (
    SpeechUnavailable,
    beeps,
    pause_frames,
    sentences,
    synthesize,
    synthesize_pcm,
)


def test_speech_does_not_depend_on_what_was_said_before() -> None:
    texts = ["Hello there, one moment please.", "Something else, entirely different."]
    first = [synthesize(text) for text in texts]
    synthesize.cache_clear()
    again = [synthesize(text) for text in reversed(texts)]
    assert first == again[::-1]


def test_speech_is_framed_levelled_and_differs_by_text_voice_rate_and_pitch() -> None:
    plain = synthesize("How can I help you today?")
    assert len(plain) % 160 == 0
    assert 0.8 < len(plain) / 8000 < 3
    assert pcm.loudness_dbfs(synthesize_pcm("How can I help you today?") / 32768) == pytest.approx(-20, abs=1)
    others = [
        synthesize("How can I help you?"),
        synthesize("How can I help you today?", "de"),
        synthesize("How can I help you today?", rate=220),
        synthesize("How can I help you today?", pitch=80),
    ]
    assert len({plain, *others}) == 5
    assert len(others[2]) < len(plain)


def test_unknown_voice_and_silence() -> None:
    with pytest.raises(SpeechUnavailable, match="no voice 'atlantean'"):
        synthesize("Hello", "atlantean")
    assert synthesize("") == b""


def test_missing_synthesiser_names_the_extra(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "espeakng_loader", None)
    synthesize.cache_clear()
    with pytest.raises(SpeechUnavailable, match=r'pip install "callrt\[demo\]"'):
        synthesize("Hello")


async def test_speech_from_many_threads_is_the_same_speech() -> None:
    texts = [f"Number {n}." for n in range(8)]
    expected = [synthesize(text) for text in texts]
    synthesize.cache_clear()
    results: dict[str, bytes] = {}

    async def speak(text: str) -> None:
        results[text] = await trio.to_thread.run_sync(synthesize, text)

    async with trio.open_nursery() as nursery:
        for text in texts:
            nursery.start_soon(speak, text)
    assert [results[text] for text in texts] == expected


@given(st.text("abcdefghij ", max_size=30), st.integers(0, 5))
def test_beeps_are_framed_deterministic_and_as_long_as_their_text(text: str, seed: int) -> None:
    audio = beeps(text, seed)
    assert audio == beeps(text, seed)
    words = text.split()
    assert len(audio) // 160 == 3 * sum(map(len, words)) + 3 * max(0, len(words) - 1)


def test_no_two_frames_of_beeps_are_alike() -> None:
    audio = b"".join(beeps(f"turn {n} says quite a few words here", n) for n in range(20))
    frames = [audio[at : at + 160] for at in range(0, len(audio), 160)]
    assert len(set(frames)) == len(frames)


def test_words_of_beeps_are_loud_and_their_pauses_are_not() -> None:
    audio = beeps("aa bb")
    rms = np.sqrt(np.mean((mulaw_decode(audio).reshape(-1, 160) / 32768.0) ** 2, axis=1))
    dbfs = 20 * np.log10(rms)
    assert dbfs[:6].min() > -25
    assert dbfs[6:9].max() < -50
    assert dbfs[9:].min() > -25


def test_sentences_say_where_each_word_ends_and_pause_behind_clauses() -> None:
    text = "Hello, this is the clinic. How can I help?"
    audio, ends = sentences(text)
    assert ends[-1] == len(audio) // 8
    assert len(ends) == len(text.split())
    assert list(ends) == sorted(set(ends))
    frames = [audio[at : at + 160] for at in range(0, len(audio), 160)]
    assert len(set(frames)) == len(frames)
    start = 0
    for word, end in zip(text.split(), ends, strict=True):
        silent = [not is_audible(frame) for frame in frames[start // 20 : end // 20]]
        pause = 0 if end == ends[-1] else pause_frames(word)
        assert silent == [False] * (len(silent) - pause) + [True] * pause
        start = end


def test_sentences_are_cut_where_their_words_are_believed_to_end() -> None:
    """What is estimated of the words in a cut reply is no more than was said: no word is lost on its account."""
    text = "We are open from nine to five on every weekday and from ten to two on Saturdays."
    audio, words = speak(text, SentenceVoice(), "audio/pcmu")
    for cut_ms in range(200, len(audio) // 8, 100):
        transcript = Transcript()
        transcript.agent_words("greeting", "Hello, this is the clinic. How can I help?", final=True)
        greeting = sentences("Hello, this is the clinic. How can I help?")[0]
        transcript.agent_audio("greeting", len(greeting) // 8, greeting)
        transcript.agent_ended("greeting")
        for word in words:
            if word.start_ms < cut_ms + 500:
                transcript.agent_words("item", f" {word.text}", final=False)
        transcript.agent_audio("item", cut_ms, audio[: cut_ms * 8])
        believed = len(transcript.expected_text("item").split())
        begun = sum(word.start_ms < cut_ms for word in words)
        assert believed <= begun, cut_ms
