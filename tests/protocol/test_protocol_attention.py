"""A deaf session is noticed; a model that takes a cough for noise is left alone."""

from __future__ import annotations

import math

from callrt.protocol.attention import LEAD_IN, Attention, is_loud
from callrt.testing.speech import beeps

WORD = beeps("appointment", 7)
SILENT = b"\xff" * 160


def speak(attention: Attention, at: float, frames: list[bytes]) -> tuple[float, list[float]]:
    """Feed frames from ``at``; returns the time after them and when a probe was asked for."""
    probes = []
    for frame in frames:
        if attention.hear(frame, round(at * 8000), at):
            probes.append(at)
        at += 0.02
    return at, probes


def frames(audio: bytes) -> list[bytes]:
    return [audio[at : at + 160] for at in range(0, len(audio), 160)]


def test_attention_probes_once_after_an_utterance_without_any_sign() -> None:
    attention = Attention(2.0)
    end, probes = speak(attention, 10.0, frames(WORD))
    assert probes == []
    _, probes = speak(attention, end, [SILENT] * 100)
    assert len(probes) == 1
    assert attention.deadline == probes[0] + 2.0
    assert attention.spoken_from is not None
    assert abs(attention.spoken_from - (80_000 - LEAD_IN)) <= 160 * 3


def test_attention_asks_for_nothing_when_the_model_shows_a_sign() -> None:
    attention = Attention(2.0)
    end, _ = speak(attention, 10.0, frames(WORD))
    end, _ = speak(attention, end, [SILENT] * 10)
    attention.sign()
    _, probes = speak(attention, end, [SILENT] * 100)
    assert probes == []
    assert attention.deadline == math.inf
    assert attention.spoken_from is None


def test_attention_of_a_model_that_answers_the_probe_is_not_in_doubt() -> None:
    attention = Attention(2.0)
    end, _ = speak(attention, 10.0, [*frames(WORD), *[SILENT] * 100])
    assert attention.deadline < math.inf
    attention.sign()
    assert attention.deadline == math.inf
    assert attention.spoken_from is None
    assert end > 10.0


def test_attention_ignores_a_click() -> None:
    attention = Attention(2.0)
    loud = next(frame for frame in frames(WORD) if is_loud(frame))
    _, probes = speak(attention, 1.0, [loud] * 3 + [SILENT] * 100)
    assert probes == []
    assert attention.spoken_from is None


def test_attention_sign_before_the_last_word_is_not_a_sign_of_having_heard_it() -> None:
    attention = Attention(2.0)
    end, _ = speak(attention, 1.0, frames(WORD)[:10])
    attention.sign()
    end, _ = speak(attention, end, frames(WORD)[10:])
    _, probes = speak(attention, end, [SILENT] * 100)
    assert len(probes) == 1
