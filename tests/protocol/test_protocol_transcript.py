"""What of the agent's words counts as heard."""

from __future__ import annotations

import itertools

import pytest
from hypothesis import given
from hypothesis import strategies as st

from callrt.protocol.transcript import Transcript, Utterance

TEXT = st.text(alphabet=st.sampled_from("ab ,.\n\té你好。"), max_size=80)


def utterance(text: str, received_ms: int, *, ended: bool = True) -> Utterance:
    made = Utterance()
    made.words(text)
    made.audio(received_ms)
    if ended:
        made.ended()
    return made


@given(
    st.lists(st.tuples(TEXT, st.integers(0, 5000)), max_size=5),
    st.booleans(),
    st.lists(st.integers(0, 25_000), min_size=2, max_size=10),
)
def test_heard_text_grows_with_what_was_heard_and_is_a_prefix(
    deltas: list[tuple[str, int]], ended: bool, positions: list[int]
) -> None:
    """However words and audio are interleaved."""
    said = Utterance()
    for words, ms in deltas:
        said.words(words)
        said.audio(ms)
    if ended:
        said.ended()
    text = "".join(words for words, _ in deltas)
    assert said.text == text
    texts = [said.heard_text(ms) for ms in sorted(positions)]
    for shorter, longer in itertools.pairwise(texts):
        assert longer.startswith(shorter)
    for heard in texts:
        assert text.startswith(heard)
        assert heard == heard.rstrip()
    assert said.heard_text(0) == ""
    if ended and said.received_ms:
        assert said.heard_text(said.received_ms) == text.rstrip()


@given(TEXT, st.integers(1, 20_000), st.integers(0, 20_000))
def test_heard_text_is_not_more_than_its_share(text: str, received: int, heard: int) -> None:
    said = utterance(text, received)
    if heard < received:
        units = len(said.heard_text(heard)) + 2 * sum(c in "你好。" for c in said.heard_text(heard))
        total = len(text) + 2 * sum(c in "你好。" for c in text)
        assert units * received <= total * heard


def test_words_are_never_cut_in_their_midst() -> None:
    said = utterance("Your appointment is on Friday.", 3000)
    assert said.heard_text(1500) == "Your"
    assert said.heard_text(1700) == "Your appointment"
    assert said.heard_text(2999) == "Your appointment is on"
    assert said.heard_text(3000) == "Your appointment is on Friday."


def test_text_ahead_of_its_audio_is_not_heard_early() -> None:
    """Half a second of audio has come for words that take three: the words are not spoken six times as fast."""
    said = utterance("Your appointment is on Friday at ten in the morning.", 500, ended=False)
    assert said.heard_text(500) == "Your"
    assert said.heard_text(500, ms_per_unit=30) == "Your appointment"


def test_slow_speech_is_measured_by_its_audio_even_before_it_ends() -> None:
    said = utterance("One two three", 13_000, ended=False)
    assert said.heard_text(4000) == "One"


def test_the_final_text_replaces_the_deltas_and_late_deltas_change_nothing() -> None:
    said = Utterance()
    said.words("Your apoint")
    said.words_final("Your appointment")
    said.words(" late")
    assert said.text == "Your appointment"


def test_words_that_came_after_so_much_audio_are_not_in_it() -> None:
    """A slow start: by its share, more would count as heard."""
    said = Utterance()
    said.words("Well,")
    said.audio(1200)
    said.words(" your appointment")
    said.audio(600)
    said.words_final("Well, your appointment is on Friday.")
    assert said.heard_text(1200) == "Well,"
    assert said.heard_text(1300) == "Well, your appointment"[: len("Well, your")]
    assert (
        utterance("Well, your appointment is on Friday.", 1800, ended=False).heard_text(1200) == "Well, your"
    )


def test_words_that_lag_behind_their_audio_are_heard_all_the_same() -> None:
    said = Utterance()
    said.audio(6000)
    said.words("One two three four five six")
    said.ended()
    assert said.heard_text(3000) == "One two three"
    assert said.heard_text(6000) == "One two three four five six"


def test_an_empty_final_text_does_not_take_words_back() -> None:
    said = Utterance()
    said.words("Hello")
    said.words_final("")
    assert said.text == "Hello"


def test_scripts_without_spaces_are_heard_character_by_character() -> None:
    said = utterance("你好吗我很好", 6000)
    assert said.heard_text(2000) == "你好"


def test_expected_text_is_what_will_be_heard_of_the_audio_in_hand() -> None:
    transcript = Transcript()
    transcript.agent_words("a", "Good morning, how can I ", final=False)
    transcript.agent_words("a", "help you today?", final=False)
    transcript.agent_audio("a", 1000)
    assert transcript.expected_text("a") == "Good morning,"
    assert transcript.heard_text("a", 500) == "Good"
    transcript.agent_audio("a", 1500)
    transcript.agent_ended("a")
    assert transcript.expected_text("a") == "Good morning, how can I help you today?"


def test_pace_is_learned_from_what_was_said_to_its_end() -> None:
    """A slow voice: without knowing its pace, more would count as heard than was."""
    transcript = Transcript()
    sentence = "Your appointment is on Friday at ten."
    transcript.agent_words("a", sentence, final=True)
    transcript.agent_audio("a", len(sentence) * 100)
    assert transcript.ms_per_unit == 60
    transcript.agent_ended("a")
    transcript.agent_ended("a")
    assert transcript.ms_per_unit == 100
    transcript.agent_words("b", sentence, final=True)
    transcript.agent_audio("b", 1800)
    assert transcript.expected_text("b") == "Your appointment"


@pytest.mark.parametrize(("ms", "pace"), [(1, 40), (10**6, 120)])
def test_pace_is_bounded(ms: int, pace: int) -> None:
    transcript = Transcript()
    transcript.agent_words("a", "x" * 50, final=True)
    transcript.agent_audio("a", ms)
    transcript.agent_ended("a")
    assert transcript.ms_per_unit == pace


def test_unknown_and_forgotten_items_have_no_words() -> None:
    transcript = Transcript()
    assert transcript.heard_text("a", 1000) == ""
    assert transcript.expected_text("a") == ""
    transcript.agent_words("a", "Hello there", final=True)
    transcript.agent_audio("a", 800)
    transcript.forget("a")
    transcript.forget("a")
    assert transcript.heard_text("a", 1000) == ""
    assert not transcript.has_ended("a")


def test_the_transcript_forgets_the_oldest_first() -> None:
    transcript = Transcript(items_max=2)
    for item in ("a", "b", "c"):
        transcript.agent_words(item, "Hello", final=True)
        transcript.agent_audio(item, 300)
        transcript.agent_ended(item)
    assert [transcript.heard_text(item, 300) for item in ("a", "b", "c")] == ["", "Hello", "Hello"]


def test_pauses_are_no_part_of_the_words() -> None:
    """A second of silence between two sentences: when it has passed, nothing more was said."""
    loud, quiet = b"\x10" * 8000, b"\xff" * 8000
    transcript = Transcript()
    transcript.agent_words("a", "One two three four. Five six seven nine.", final=True)
    for piece in (loud, quiet, loud):
        transcript.agent_audio("a", 1000, piece)
    transcript.agent_ended("a")
    at_end_of_first = transcript.heard_text("a", 1000)
    assert at_end_of_first in ("One two three four.", "One two three")
    assert transcript.heard_text("a", 2000) == at_end_of_first
    assert transcript.heard_text("a", 3000) == "One two three four. Five six seven nine."


@given(st.lists(st.tuples(st.integers(1, 900), st.booleans()), min_size=1, max_size=20))
def test_spoken_time_is_monotone_and_never_more_than_the_audio(pieces: list[tuple[int, bool]]) -> None:
    utterance = Utterance()
    for size, loud in pieces:
        utterance.audio(size // 8, (b"\x10" if loud else b"\xff") * (size // 8 * 8))
    last = 0
    for ms in range(0, utterance.received_ms + 1, 7):
        spoken = utterance.spoken_ms(ms)
        assert last <= spoken <= ms + 20
        last = spoken
