"""What the emulated model understands, and that it never says a word twice or skips one."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st
from testing_model_helpers import BOOKED, GREETING, SLOT, script, utterance

from callrt.testing.model_brain import (
    Answer,
    Calling,
    EchoBrain,
    Listener,
    ScriptBrain,
    Spoken,
    Turn,
    quoted_line,
    remainder,
)
from callrt.testing.model_items import speak
from callrt.testing.model_vad import BYTES_PER_MS, decode_mulaw, from_mulaw, to_samples
from callrt.testing.model_voice import BeepVoice, SpokenVoice
from callrt.testing.speech import synthesize

TEXTS = [
    "I need an appointment",
    "Yes please book it for me",
    "Tell me a lot",
    "Yes",
    "No",
    "Can I speak to a human please",
    "Actually make it Wednesday instead",
    "Wait",
]
VOICES = {"beeps": utterance, "espeak": synthesize}
STRANGE = ["Completely different words here to hear", "Elephants are very big and grey animals", "Hmm"]
QUIET = b"\xff" * 2400


def user(text: str) -> dict[str, Any]:
    return {"type": "message", "role": "user", "content": [{"type": "input_text", "text": text}]}


def agent(text: str) -> dict[str, Any]:
    return {"type": "message", "role": "assistant", "content": [{"type": "output_text", "text": text}]}


def system(text: str) -> dict[str, Any]:
    return {"type": "message", "role": "system", "content": [{"type": "input_text", "text": text}]}


CALL = {"type": "function_call", "name": "book_appointment", "call_id": "c", "arguments": "{}"}
OUTPUT = {"type": "function_call_output", "call_id": "c", "output": "{}"}


# -- the listener -------------------------------------------------------------------------------------


@pytest.mark.parametrize("voice", VOICES)
def test_listener_knows_each_utterance_also_when_an_end_of_it_is_missing(voice: str) -> None:
    listener = Listener([(text, VOICES[voice](text)) for text in TEXTS])
    for text in TEXTS:
        audio = VOICES[voice](text)
        for heard in (audio, QUIET + audio + QUIET, audio[400:] + QUIET, QUIET[:777] + audio[:-400]):
            assert listener.listen(decode_mulaw(heard)) == [text]


@pytest.mark.parametrize("voice", VOICES)
def test_listener_hears_two_utterances_in_one_turn_in_their_order(voice: str) -> None:
    listener = Listener([(text, VOICES[voice](text)) for text in TEXTS])
    for first in TEXTS:
        for second in TEXTS:
            audio = QUIET + VOICES[voice](first) + QUIET + VOICES[voice](second) + QUIET
            assert listener.listen(decode_mulaw(audio)) == [first, second]


@pytest.mark.parametrize("voice", VOICES)
def test_listener_does_not_guess(voice: str) -> None:
    listener = Listener([(text, VOICES[voice](text)) for text in TEXTS])
    for text in STRANGE:
        assert listener.listen(decode_mulaw(QUIET + VOICES[voice](text) + QUIET)) == []
    noise = np.random.default_rng(1).integers(-3000, 3000, 16_000).astype(np.int16)
    assert listener.listen(noise) == []
    assert listener.listen(np.zeros(8000, np.int16)) == []
    assert listener.listen(np.zeros(0, np.int16)) == []


@pytest.mark.parametrize("form", ["audio/pcma", "audio/pcm"])
def test_listener_does_not_mind_the_format(form: str) -> None:
    listener = Listener([(text, synthesize(text)) for text in TEXTS])
    for text in TEXTS:
        assert listener.listen(to_samples(from_mulaw(synthesize(text), form), form)) == [text]


def test_listener_without_utterances_hears_nothing() -> None:
    assert Listener([]).listen(decode_mulaw(utterance("Yes"))) == []
    assert ScriptBrain([]).listen(decode_mulaw(utterance("Yes"))) == "(unintelligible)"


# -- remainders ---------------------------------------------------------------------------------------


@given(st.lists(st.text("abcde'", min_size=1, max_size=6), min_size=1, max_size=12), st.data())
def test_heard_and_remainder_are_the_whole_line(words: list[str], data: st.DataObject) -> None:
    line = " ".join(words) + "."
    cut = data.draw(st.integers(0, len(words)))
    heard = " ".join(words[:cut])
    rest = remainder(heard, line)
    if 0 < cut < len(words):
        assert rest is not None
        assert f"{heard} {rest}" == line
    else:
        assert rest is None


def test_word_cut_in_its_middle_is_said_again() -> None:
    assert remainder("Hello, this is the cli", GREETING) == "clinic. How can I help?"
    assert remainder("hello this is the…", GREETING) == "clinic. How can I help?"
    assert remainder("Hello, that is", GREETING) is None
    assert remainder(GREETING + " Well", GREETING) is None


@pytest.mark.parametrize(
    ("text", "line"),
    [
        (f'say exactly: "{GREETING}"', GREETING),
        (f'You are kind. Say exactly: "{GREETING}" Then wait.', GREETING),
        ("Say exactly: “Guten Tag.”", "Guten Tag."),
        ("Say hello.", None),
        ("", None),
    ],
)
def test_quoted_line_is_found(text: str, line: str | None) -> None:
    assert quoted_line(text) == line


# -- answers ------------------------------------------------------------------------------------------


def say(*history: dict[str, Any]) -> Answer:
    return script().answer(history, "", None)


def test_answer_follows_from_the_callers_last_words() -> None:
    assert say(user("I need an appointment")) == Answer.say(SLOT)
    assert say(user("i need  an appointment!"), system("note")) == Answer.say(SLOT)
    assert say(user("Quantum chromodynamics?")) == Answer.say("Sorry, I did not understand that.")
    assert say(user("Tell me a lot"), agent("First this."), user("I need an appointment")) == Answer.say(SLOT)
    assert say(user("Tell me a lot I need an appointment")) == Answer.say(SLOT)
    assert say() == Answer.say("Are you still there?")


def test_reply_that_was_not_heard_at_all_is_given_whole() -> None:
    assert say(user("I need an appointment"), agent("")) == Answer.say(SLOT)


def test_cut_line_is_finished_even_over_several_items() -> None:
    assert say(user("Tell me a lot"), agent("First this.")) == Answer.say("Then that and more.")
    assert say(user("Tell me a lot"), agent("First")) == Answer.say("this. Then that and more.")
    assert say(user("Tell me a lot"), agent("First this."), agent("Then that")) == Answer.say("and more.")


def test_tool_is_called_once_and_its_output_is_answered() -> None:
    asked = user("Yes please book it for me")
    tool = Calling("book_appointment", '{"day": "tuesday", "hour": 15}')
    assert say(asked) == Answer((Spoken("One second."), tool))
    assert say(asked, agent("One")) == Answer((Spoken("second."), tool))
    assert say(asked, agent("One second.")) == Answer((tool,))
    assert say(asked, agent("One second."), CALL, OUTPUT) == Answer.say(BOOKED)
    assert say(asked, agent("One second."), CALL, OUTPUT, agent("It is")) == Answer.say(
        "booked. See you on Tuesday."
    )
    assert say(asked, CALL, OUTPUT, agent(BOOKED)) == Answer.say("Are you still there?")


def test_call_without_a_result_is_repeated() -> None:
    assert say(user("Yes please book it for me"), agent("One second."), CALL).items[-1] == Calling(
        "book_appointment", '{"day": "tuesday", "hour": 15}'
    )


def test_same_words_at_another_time_may_have_another_answer() -> None:
    brain = ScriptBrain([Turn("Yes", b"", "First."), Turn("Yes", b"", "Second.")])
    assert brain.answer([user("Yes")], "", None) == Answer.say("First.")
    assert brain.answer([user("Yes"), agent("First."), user("Yes")], "", None) == Answer.say("Second.")


def test_greeting_once_told_can_be_finished_in_another_session() -> None:
    brain = script()
    brain.answer([], "", GREETING)
    assert brain.answer([agent("Hello, this")], "", None) == Answer.say("is the clinic. How can I help?")
    assert brain.answer([agent(GREETING)], "", None) == Answer.say("Are you still there?")


def test_echo_tells_how_long_the_caller_spoke() -> None:
    brain = EchoBrain()
    heard = brain.listen(np.zeros(18_400, np.int16))
    assert brain.answer([user(heard)], "", None).items[0] == Spoken(
        "I heard you speak for 2.3 seconds. That was your turn number 1."
    )
    assert brain.answer([], "", GREETING) == Answer.say(GREETING)


# -- words and their audio ----------------------------------------------------------------------------


@settings(deadline=None, max_examples=40)
@example(["."], "espeak", "audio/pcm")  # a voice that has nothing to say
@given(
    st.lists(st.text("abcdefg,.-'", min_size=1, max_size=8), min_size=1, max_size=10),
    st.sampled_from(["beeps", "espeak", "word by word"]),
    st.sampled_from(["audio/pcmu", "audio/pcma", "audio/pcm"]),
)
def test_words_cover_the_audio_without_gap_or_overlap(words: list[str], voice: str, form: str) -> None:
    chosen: Any = {"beeps": BeepVoice(), "espeak": SpokenVoice(), "word by word": utterance}[voice]
    audio, spans = speak(" ".join(words), chosen, form)
    assert [span.text for span in spans] == words
    edges = [0, *(span.end_ms for span in spans)]
    assert [span.start_ms for span in spans] == edges[:-1]
    assert edges == sorted(edges)
    assert edges[-1] * BYTES_PER_MS[form] == len(audio)


def test_beeps_of_a_word_lie_where_it_says() -> None:
    audio, spans = speak("Hi there you", BeepVoice(), "audio/pcmu")
    loud = [
        np.abs(decode_mulaw(audio[at : at + 160]).astype(int)).max() > 500 for at in range(0, len(audio), 160)
    ]
    assert [span.end_ms for span in spans] == [180, 540, 720]
    assert loud == [True] * 6 + [False] * 3 + [True] * 15 + [False] * 3 + [True] * 9
