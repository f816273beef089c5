"""What a fresh model session is told, and what a human is."""

from __future__ import annotations

import itertools
import json
from collections.abc import Callable

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from callrt.protocol.models.events import AddMessage, AddSpeech, AddToolCall, AddToolOutput
from callrt.protocol.replay import (
    RESUME_NOTE,
    SPEECH_NOT_UNDERSTOOD,
    HistoryItem,
    ReplayPlan,
    SaidByAgent,
    SaidByCaller,
    UsedTool,
    replay_plan,
    summary,
    transcript_text,
)

ASK = SaidByCaller("c1", "I need an appointment.")
ANSWER = SaidByAgent("a1", "On which day?", complete=True)
FRIDAY = SaidByCaller("c2", "On Friday.")
BOOKED = UsedTool("call_1", "book_appointment", '{"day":"Friday"}', '{"ok":true}', "ok")
CUT = SaidByAgent("a2", "Your appointment is on")


def ids() -> Callable[[], str]:
    numbers = itertools.count(1)
    return lambda: f"r1_{next(numbers)}"


def plan(history: list[HistoryItem], budget: int = 10_000, **more: object) -> ReplayPlan:
    given_ = {"expected": {}, "speech": {}, "next_id": ids(), **more}
    return replay_plan(history, token_budget=budget, **given_)  # type: ignore[arg-type]


def said(made: ReplayPlan) -> list[tuple[str, str]]:
    return [(c.role, c.text) for c in made.commands if isinstance(c, AddMessage)]


def test_history_is_told_oldest_first_as_heard() -> None:
    made = plan([ASK, ANSWER, FRIDAY])
    assert said(made) == [
        ("user", "I need an appointment."),
        ("assistant", "On which day?"),
        ("user", "On Friday."),
    ]
    assert (made.owed, made.resume, made.dropped_turns) == (True, False, 0)


def test_nothing_said_is_nothing_to_tell() -> None:
    assert plan([]) == ReplayPlan((), owed=False, resume=False, dropped_turns=0)


def test_a_line_cut_by_a_loss_is_taken_up_again() -> None:
    made = plan([ASK, CUT])
    assert said(made)[-2:] == [("assistant", "Your appointment is on"), ("system", RESUME_NOTE)]
    assert (made.owed, made.resume) == (False, True)


def test_an_interrupted_line_is_not_taken_up_again() -> None:
    made = plan([ASK, SaidByAgent("a2", "Your appointment is on", interrupted=True)])
    assert said(made)[-1] == ("assistant", "Your appointment is on")
    assert (made.owed, made.resume) == (False, False)


def test_a_complete_line_leaves_the_caller_to_speak() -> None:
    made = plan([ASK, ANSWER])
    assert (made.owed, made.resume) == (False, False)


def test_a_finished_tool_is_owed_a_reply() -> None:
    made = plan([ASK, BOOKED])
    assert made.owed
    call, output = made.commands[-2:]
    assert call == AddToolCall("call_1", "book_appointment", '{"day":"Friday"}', "r1_2")
    assert output == AddToolOutput("call_1", '{"ok":true}', "r1_3")


@pytest.mark.parametrize(
    ("status", "word"), [("", "interrupted"), ("unknown", "not known"), ("timeout", "too long")]
)
def test_a_tool_without_result_gets_an_output_that_says_so(status: str, word: str) -> None:
    made = plan([ASK, UsedTool("call_1", "book", "", None, status)])
    call, output = made.commands[-2:]
    assert isinstance(call, AddToolCall)
    assert isinstance(output, AddToolOutput)
    assert call.arguments == "{}"
    assert word in json.loads(output.output)["error"]


def test_a_line_of_which_nothing_was_heard_is_left_out_and_still_owed() -> None:
    made = plan([ASK, SaidByAgent("a1", "")])
    assert said(made) == [("user", ASK.text)]
    assert (made.owed, made.resume) == (True, False)


def test_a_reply_whose_second_item_was_lost_is_gone_on_with() -> None:
    made = plan([ASK, SaidByAgent("a1", "Let me see.", complete=True), SaidByAgent("a2", " ")])
    assert said(made)[-2:] == [("assistant", "Let me see."), ("system", RESUME_NOTE)]
    assert made.resume


def test_a_reply_interrupted_before_it_was_heard_is_not_owed() -> None:
    made = plan([ASK, SaidByAgent("a1", "", interrupted=True)])
    assert (made.owed, made.resume) == (False, False)


def test_a_lost_greeting_is_owed() -> None:
    assert plan([SaidByAgent("a1", "")]) == ReplayPlan((), owed=True, resume=False, dropped_turns=0)


def test_expected_words_count_as_heard() -> None:
    made = plan([ASK, SaidByAgent("a2", "Your")], expected={"a2": "Your appointment is on"})
    assert said(made)[-2] == ("assistant", "Your appointment is on")
    assert made.resume


def test_expected_words_of_an_unknown_line_come_last() -> None:
    made = plan([ASK], expected={"a2": "Your appointment"})
    assert said(made)[-2] == ("assistant", "Your appointment")
    assert made.resume


def test_expected_words_to_the_end_leave_nothing_to_resume() -> None:
    made = plan([ASK, SaidByAgent("a1", "On")], expected={"a1": "On which day?"}, ended={"a1"})
    assert said(made)[-1] == ("assistant", "On which day?")
    assert (made.owed, made.resume) == (False, False)


def test_expectation_does_not_bring_back_what_the_caller_cut_off() -> None:
    made = plan([ASK, SaidByAgent("a1", "On", interrupted=True)], expected={"a1": "On which day?"})
    assert said(made)[-1] == ("assistant", "On")


def test_a_turn_without_words_is_told_as_audio_or_as_a_gap() -> None:
    history: list[HistoryItem] = [SaidByCaller("c1", ""), SaidByCaller("c2", " ")]
    made = plan(history, speech={"c1": b"\x00" * 1600})
    assert made.commands == (
        AddSpeech(b"\x00" * 1600, "r1_1"),
        AddMessage("user", SPEECH_NOT_UNDERSTOOD, "r1_2"),
    )
    assert made.owed


def test_the_oldest_turns_give_way_to_a_summary() -> None:
    history: list[HistoryItem] = []
    for n in range(50):
        history += [
            SaidByCaller(f"c{n}", f"question {n} " * 10),
            SaidByAgent(f"a{n}", "yes " * 20, complete=True),
        ]
    history.append(FRIDAY)
    made = plan(history, budget=1000)
    first, *_, last = said(made)
    assert first[0] == "system"
    assert f"{made.dropped_turns} entries" in first[1]
    assert "question" in first[1]
    assert last == ("user", "On Friday.")
    assert 50 < made.dropped_turns < 100
    assert said(made)[1][0] == "user"


def test_the_last_turn_of_the_caller_stays_whatever_it_costs() -> None:
    made = plan([ASK, ANSWER, SaidByCaller("c2", "x" * 4000)], budget=100)
    assert said(made)[-1] == ("user", "x" * 4000)
    assert made.dropped_turns == 2


def test_long_tool_results_of_the_last_turn_give_way_before_the_line_to_go_on_with() -> None:
    tools = [UsedTool(f"call_{n}", "look_up", "{}", "y" * 4000, "ok") for n in range(5)]
    made = plan([ASK, *tools, CUT], budget=2600)
    roles = [role for role, _ in said(made)]
    assert roles == ["system", "user", "assistant", "system"]
    assert sum(isinstance(c, AddToolCall) for c in made.commands) == 2


def cost(made: ReplayPlan) -> int:
    total = 0
    for command in made.commands:
        match command:
            case AddMessage(text=text):
                total += 8 + -(-len(text) // 4)
            case AddSpeech(audio=audio):
                total += 8 + -(-len(audio) // 800)
            case AddToolCall():
                total += 8 + -(-len(command.call_id + command.name + command.arguments) // 4)
            case AddToolOutput():
                total += 8 + -(-len(command.call_id + command.output) // 4)
    return total


WORDS = st.text(alphabet="ab \n", max_size=300)
ENTRY = st.one_of(
    st.builds(SaidByCaller, st.sampled_from(["c1", "c2", "c3"]), WORDS),
    st.builds(SaidByAgent, st.sampled_from(["a1", "a2", "a3"]), WORDS, st.booleans(), st.booleans()),
    st.builds(
        UsedTool,
        st.sampled_from(["call_1", "call_2"]),
        st.just("book"),
        WORDS,
        st.one_of(st.none(), WORDS),
        st.sampled_from(["ok", "error", "unknown", ""]),
    ),
)


@settings(max_examples=300, deadline=None)
@given(st.lists(ENTRY, max_size=20), st.integers(0, 800), st.sets(st.sampled_from(["a1", "a2", "a9"])))
def test_whatever_the_history_the_plan_is_one_a_model_accepts(
    history: list[HistoryItem], budget: int, expected: set[str]
) -> None:
    made = plan(
        history,
        budget,
        expected={item: f"expected {item}" for item in sorted(expected)},
        speech={"c1": b"\x55" * 8000},
    )
    item_ids = [command.item_id for command in made.commands]  # type: ignore[union-attr]
    assert len(set(item_ids)) == len(item_ids)
    assert all(0 < len(item_id) <= 32 for item_id in item_ids)
    assert all(text.strip() for _, text in said(made))
    for before, command in zip((None, *made.commands), made.commands, strict=False):
        if isinstance(command, AddToolOutput):
            assert isinstance(before, AddToolCall)
            assert before.call_id == command.call_id
        elif before is not None:
            assert not isinstance(before, AddToolCall)
    assert not made.commands or not isinstance(made.commands[-1], AddToolCall)
    assert not (made.owed and made.resume)
    if made.resume:
        assert said(made)[-1] == ("system", RESUME_NOTE)
    callers = [entry for entry in history if isinstance(entry, SaidByCaller)]
    if callers:
        told = [
            c
            for c in made.commands
            if isinstance(c, AddSpeech) or (isinstance(c, AddMessage) and c.role == "user")
        ]
        text = callers[-1].text
        last = told[-1]
        assert (
            isinstance(last, AddMessage) and last.text in (text, SPEECH_NOT_UNDERSTOOD)
        ) or not text.strip()
    if cost(made) > budget:
        # Only what must stay: a summary, the caller's last turn, the last entry, the note.
        assert len(made.commands) <= 6
    assert made.dropped_turns <= len(history) + len(expected)


# -- for a human ---------------------------------------------------------------------------------------


def test_summary_says_who_calls_and_why() -> None:
    text = summary([ASK, ANSWER, FRIDAY, BOOKED], "+15550100001", "front-desk", "model_unavailable")
    assert text == (
        "Call from +15550100001, until now with front-desk. The assistant cannot go on. Done so far: book appointment. "
        "The caller first said: I need an appointment. And last: On Friday."
    )


def test_summary_of_a_call_without_words_says_so() -> None:
    text = summary([SaidByCaller("c1", "")], "", "front-desk", "")
    assert (
        text
        == "Call from an unknown number, until now with front-desk. Nothing the caller said was understood."
    )


@given(st.lists(ENTRY, max_size=10), WORDS, WORDS, st.integers(0, 700))
def test_what_a_human_gets_is_bounded(
    history: list[HistoryItem], caller: str, agent: str, bound: int
) -> None:
    assert len(summary(history, caller, agent, "asked", max_chars=bound)) <= bound
    assert len(transcript_text(history, max_chars=max(bound, 1))) <= max(bound, 1)
    assert len(transcript_text(history * 10)) <= 1600


def test_long_words_are_shortened_on_both_sides() -> None:
    text = summary(
        [SaidByCaller("c1", "first " * 200), SaidByCaller("c2", "last " * 200)], "+1", "desk", "asked"
    )
    assert len(text) <= 600
    assert "first first" in text
    assert "last last" in text


def test_transcript_reads_line_by_line() -> None:
    history = [ASK, SaidByAgent("a1", "On which", interrupted=True), BOOKED, SaidByAgent("a2", ""), FRIDAY]
    assert transcript_text(history) == (
        "Caller: I need an appointment.\nAgent: On which (interrupted)\nCaller: On Friday."
    )


def test_transcript_loses_its_oldest_lines_first() -> None:
    history = [SaidByCaller(f"c{n}", f"line {n} " + "x" * 60) for n in range(50)]
    text = transcript_text(history)
    assert text.startswith("…\nCaller: line ")
    assert text.endswith("line 49 " + "x" * 60)
    assert "line 0 " not in text


RUNNING = UsedTool("call_2", "look_up", '{"day":"Friday"}', None, "")


def test_running_tool_is_told_without_an_output_and_owes_the_reply_itself() -> None:
    for before in ([FRIDAY], [FRIDAY, ANSWER], [FRIDAY, CUT], [FRIDAY, BOOKED]):
        made = plan([*before, RUNNING], running={"call_2"})
        assert isinstance(made.commands[-1], AddToolCall)
        assert made.commands[-1].call_id == "call_2"
        assert (made.owed, made.resume) == (False, False)
    made = plan([FRIDAY, RUNNING, BOOKED], running={"call_2"})
    assert not made.owed, "the last output of a turn brings its reply"
    assert plan([FRIDAY, RUNNING, ASK], running={"call_2"}).owed, "what the caller said since wants an answer"
