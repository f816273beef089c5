"""What of the agent's words counts as heard."""

from __future__ import annotations

import itertools
from collections import Counter

import pytest
from hypothesis import given
from hypothesis import strategies as st

from callrt.protocol.alignment import words_of
from callrt.protocol.mouth_values import ITEMS_MAX
from callrt.protocol.transcript import DEFAULT_MS_PER_UNIT, Transcript, Utterance
from callrt.testing.speech import synthesize_timed

TEXT = st.text(alphabet=st.sampled_from("ab ,.\n\té你好。"), max_size=80)


def utterance(text: str, received_ms: int, *, ended: bool = True) -> Utterance:
    made = Utterance()
    made.words(text)
    made.audio(received_ms)
    if ended:
        made.ended()
    return made


@given(
    st.lists(st.tuples(TEXT, st.integers(0, 5000), st.sampled_from(["", "loud", "quiet"])), max_size=8),
    st.booleans(),
    st.lists(st.integers(0, 25_000), min_size=2, max_size=10),
)
def test_heard_text_grows_with_what_was_heard_and_is_a_prefix(
    deltas: list[tuple[str, int, str]], ended: bool, positions: list[int]
) -> None:
    """However words, voice and pauses are interleaved."""
    sounds = {"": b"", "loud": b"\x10", "quiet": b"\xff"}
    said = Utterance()
    for words, ms, sound in deltas:
        said.words(words)
        said.audio(ms, sounds[sound] * (ms * 8))
    if ended:
        said.ended()
    text = "".join(words for words, _, _ in deltas)
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


@given(st.integers(2, 12), st.integers(600, 6_000), st.integers(0, 6_000))
def test_heard_text_is_its_share(count: int, received: int, heard: int) -> None:
    """Words of one length, spoken without a pause: as many as were heard, the last one for the most part."""
    said = utterance(" ".join(["word"] * count), received)
    if 0 < heard < received:
        share = heard / received * count
        assert share - 1 < len(said.heard_text(heard).split()) < share + 0.5


def test_words_are_never_cut_in_their_midst() -> None:
    said = utterance("Your appointment is on Friday.", 3000)
    assert said.heard_text(250) == ""
    assert said.heard_text(500) == "Your"
    assert said.heard_text(1600) == "Your appointment"
    assert said.heard_text(2500) == "Your appointment is on"
    assert said.heard_text(2999) == "Your appointment is on Friday."


def test_text_ahead_of_its_audio_is_not_heard_early() -> None:
    """Half a second of audio has come for words that take three: the words are not spoken six times as fast."""
    said = utterance("Your appointment is on Friday at ten in the morning.", 500, ended=False)
    assert said.heard_text(500) == "Your"
    assert said.heard_text(500, ms_per_unit=18) == "Your appointment"


def test_slow_speech_is_measured_by_its_audio_even_before_it_ends() -> None:
    said = utterance("One two three", 13_000, ended=False)
    assert said.heard_text(3500) == "One"


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
    assert said.heard_text(1300) == "Well, your appointment is"
    ahead = utterance("Well, your appointment is on Friday.", 1800, ended=False)
    assert ahead.heard_text(1200) == "Well, your appointment"


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
    assert transcript.expected_text("a") == "Good morning,", "no pause has come yet"
    assert transcript.heard_text("a", 300) == "Good"
    transcript.agent_audio("a", 1500)
    transcript.agent_ended("a")
    assert transcript.expected_text("a") == "Good morning, how can I help you today?"


def test_pace_is_learned_from_what_was_said_to_its_end() -> None:
    """A slow voice: without knowing its pace, more would count as heard than was."""
    transcript = Transcript()
    sentence = "Your appointment is on Friday at ten."
    transcript.agent_words("a", sentence, final=True)
    units = words_of(sentence)[-1].units
    transcript.agent_audio("a", round(units * 50))
    assert transcript.ms_per_unit == DEFAULT_MS_PER_UNIT
    transcript.agent_ended("a")
    transcript.agent_ended("a")
    assert transcript.ms_per_unit == pytest.approx(50, abs=0.1)
    transcript.agent_words("b", sentence, final=True)
    transcript.agent_audio("b", 1500)
    assert transcript.expected_text("b") == "Your appointment"


@pytest.mark.parametrize(("ms", "pace"), [(1, 18), (10**6, 60)])
def test_pace_is_bounded(ms: int, pace: int) -> None:
    transcript = Transcript()
    transcript.agent_words("a", "x" * 50, final=True)
    transcript.agent_audio("a", ms)
    transcript.agent_ended("a")
    assert transcript.ms_per_unit == pace


def test_unknown_and_settled_items_have_no_words() -> None:
    transcript = Transcript()
    assert transcript.heard_text("a", 1000) == ""
    assert transcript.expected_text("a") == ""
    transcript.agent_words("a", "Hello there", final=True)
    transcript.agent_audio("a", 800)
    assert not transcript.is_settled("a")
    transcript.settle("a")
    assert transcript.is_settled("a")
    assert transcript.expected_text("a") == ""


def test_what_comes_late_of_a_settled_item_changes_nothing() -> None:
    transcript = Transcript()
    transcript.settle("a")
    pace = transcript.ms_per_unit
    transcript.agent_words("a", "x" * 50, final=False)
    transcript.agent_words("a", "x" * 60, final=True)
    transcript.agent_audio("a", 6000)
    transcript.agent_ended("a")
    assert transcript.expected_text("a") == ""
    assert transcript.ms_per_unit == pace


def test_settled_items_are_forgotten_oldest_first() -> None:
    transcript = Transcript()
    items = [str(number) for number in range(100)]
    for item in items:
        transcript.settle(item)
    settled = [item for item in items if transcript.is_settled(item)]
    assert settled == items[-len(settled) :]
    assert len(settled) == ITEMS_MAX, "whatever the mouth may still tell of is known to be settled"


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


SAID = (
    "Of course. We have a free appointment on Thursday at half past ten, with Doctor Miller, on the second floor.",
    "Please bring your insurance card, a list of the medicines that you take, and be there ten minutes early.",
    "Our opening hours are from eight in the morning to six in the evening, Monday to Friday, if you like.",
)


@pytest.mark.parametrize("rate", [150, 170])
def test_estimate_of_heard_words_is_a_word_off_at_most_nearly_always(rate: int) -> None:
    """Real speech, cut every 100 ms, with the whole text known and only so much audio: a lost model session."""
    off: Counter[int] = Counter()
    transcript = Transcript()
    for number, text in enumerate(SAID):
        audio, ends = synthesize_timed(text, rate=rate)
        middles = [(begin + end) / 2 for begin, end in itertools.pairwise((0, *ends))]
        for cut in range(300, ends[-1], 100):
            said = Utterance()
            said.words_final(text)
            said.audio(cut, audio[: cut * 8])
            heard = len(said.heard_text(cut, transcript.ms_per_unit).split())
            off[sum(middle <= cut for middle in middles) - heard] += 1
        item = str(number)
        transcript.agent_words(item, text, final=True)
        transcript.agent_audio(item, len(audio) // 8, audio)
        transcript.agent_ended(item)
    near = sum(count for words, count in off.items() if abs(words) <= 1)
    assert near >= 0.92 * off.total(), off
    assert max(abs(words) for words in off) <= 3, off


def test_older_utterance_is_told_as_before_when_another_has_begun():
    transcript = Transcript()
    transcript.agent_words("one", "Good morning, this is the front desk.", True)
    transcript.agent_audio("one", 2000)
    told = [transcript.heard_text("one", ms) for ms in range(0, 2100, 100)]
    transcript.agent_words("two", "How can I help?", True)
    assert [transcript.heard_text("one", ms) for ms in range(0, 2100, 100)] == told
    assert told[0] == ""
    assert told[-1]
