"""The tool-call table: one output per call, one run per request."""

from __future__ import annotations

import json
from collections import Counter

import hypothesis.strategies as st
import pytest
from hypothesis import given, settings
from hypothesis.stateful import RuleBasedStateMachine, invariant, rule

from callrt.protocol.tools import (
    CUT_NOTICE,
    OUTPUT_BYTES_MAX,
    Answer,
    BadArguments,
    Entry,
    Ignore,
    Join,
    Limits,
    Run,
    ToolTable,
    cut,
    error_output,
    idempotency_key,
    parse_reason,
    reason_of,
)


def parse(raw: str) -> str:
    try:
        value = json.loads(raw)
    except ValueError:
        raise BadArguments("The arguments are not valid JSON.") from None
    return json.dumps(value, sort_keys=True)


def table(limits: Limits | None = None) -> ToolTable:
    return ToolTable("CA1", {"book": Entry(parse, True), "look": Entry(parse)}, limits)


def run_of(decision: object) -> Run:
    assert isinstance(decision, Run), decision
    return decision


def test_request_runs_once_and_answers_once() -> None:
    t = table()
    run = run_of(t.request("c1", "book", '{"day": "monday"}', 1))
    assert t.finish(run.key, "ok", "booked") == ("c1",)
    assert t.finish(run.key, "ok", "booked") == ()
    assert t.counters["late"] == 1


def test_same_call_id_is_ignored_within_a_model_session() -> None:
    t = table()
    run_of(t.request("c1", "look", "{}", 1))
    assert t.request("c1", "look", "{}", 1) == Ignore("c1", "duplicate_call_id")


def test_call_ids_start_anew_with_a_model_session() -> None:
    t = table()
    run = run_of(t.request("call_1", "book", "{}", 1))
    t.finish(run.key, "ok", "booked")
    t.session_changed()
    again = t.request("call_1", "book", "{}", 1)
    assert isinstance(again, Answer)
    assert again.output == "booked"


def test_same_request_under_a_new_call_id_joins_the_run_under_way() -> None:
    t = table()
    run = run_of(t.request("c1", "look", '{"a": 1, "b": 2}', 1))
    t.session_changed()
    assert t.request("c2", "look", '{"b": 2, "a": 1}', 1) == Join("c2", run.key)
    assert t.finish(run.key, "ok", "x") == ("c1", "c2")


def test_side_effect_is_answered_with_its_known_output() -> None:
    t = table()
    run = run_of(t.request("c1", "book", "{}", 1))
    t.finish(run.key, "error", error_output("full"))
    assert t.request("c2", "book", "{}", 1) == Answer("c2", "book", error_output("full"), "error", "known")


def test_side_effect_runs_again_in_another_turn() -> None:
    t = table()
    run = run_of(t.request("c1", "book", "{}", 1))
    t.finish(run.key, "ok", "booked")
    assert run_of(t.request("c2", "book", "{}", 2)).key != run.key


def test_tool_without_side_effects_runs_again_in_the_same_session() -> None:
    t = table()
    run = run_of(t.request("c1", "look", "{}", 1))
    t.finish(run.key, "ok", "free")
    assert isinstance(t.request("c2", "look", "{}", 1), Run)


def test_known_output_is_given_once_more_to_a_new_model_session() -> None:
    t = table()
    run = run_of(t.request("c1", "look", "{}", 1))
    t.finish(run.key, "ok", "free")
    t.session_changed()
    assert t.request("c2", "look", "{}", 1) == Answer("c2", "look", "free", "ok", "known")
    assert isinstance(t.request("c3", "look", "{}", 1), Run)


def test_run_that_never_started_may_run_later() -> None:
    t = table()
    run = run_of(t.request("c1", "book", "{}", 1))
    assert t.finish(run.key, "error", "no journal", remember=False) == ("c1",)
    assert isinstance(t.request("c2", "book", "{}", 1), Run)


def test_unknown_tool_and_bad_arguments_run_nothing() -> None:
    t = table()
    unknown = t.request("c1", "boook", "{}", 1)
    assert isinstance(unknown, Answer)
    assert "book" in json.loads(unknown.output)["error"]
    bad = t.request("c2", "book", '{"day":', 1)
    assert isinstance(bad, Answer)
    assert "not valid JSON" in bad.output
    long = t.request("c3", "book", "[" * 70_000, 1)
    assert isinstance(long, Answer)
    assert long.why == "bad_arguments"
    assert t.running() == ()


def test_runaway_is_broken() -> None:
    t = table()
    for n in range(5):
        t.finish(run_of(t.request(f"c{n}", "look", "{}", 1)).key, "ok", "")
    sixth = t.request("c5", "look", "{}", 1)
    assert isinstance(sixth, Answer)
    assert sixth.why == "runaway"
    assert isinstance(t.request("c6", "look", "{}", 2), Run)


def test_too_many_calls_in_a_turn_are_broken() -> None:
    t = table(Limits(running=100))
    decisions = [t.request(f"c{n}", "look", str(n), 1) for n in range(21)]
    assert all(isinstance(decision, Run) for decision in decisions[:20])
    assert isinstance(decisions[20], Answer)


def test_too_many_runs_at_once_are_refused_and_may_come_back() -> None:
    t = table(Limits(running=2))
    first = run_of(t.request("c1", "look", "1", 1))
    run_of(t.request("c2", "look", "2", 1))
    busy = t.request("c3", "look", "3", 1)
    assert isinstance(busy, Answer)
    assert busy.why == "busy"
    t.finish(first.key, "ok", "")
    assert isinstance(t.request("c4", "look", "3", 1), Run)


def test_old_turns_are_forgotten_and_their_side_effects_refused() -> None:
    t = table(Limits(turns_kept=2))
    run = run_of(t.request("c1", "book", "{}", 1))
    t.finish(run.key, "ok", "booked")
    t.request("c2", "look", "{}", 9)
    late = t.request("c3", "book", "{}", 1)
    assert isinstance(late, Answer)
    assert late.why == "too_old"


def test_restored_side_effect_is_not_repeated() -> None:
    t = table()
    t.restore(idempotency_key("CA1", "book", "{}", 4), "book", True, "ok", "booked")
    assert t.request("c1", "book", "{}", 4) == Answer("c1", "book", "booked", "ok", "known")


def test_adopted_run_is_joined() -> None:
    t = table()
    key = idempotency_key("CA1", "book", "{}", 4)
    t.adopt(key, "old", "book", True)
    assert t.request("new", "book", "{}", 4) == Join("new", key)
    assert t.finish(key, "unknown", "?") == ("old", "new")


def test_restored_runs_are_bounded() -> None:
    t = table(Limits(restored=3))
    for n in range(5):
        t.restore(f"k{n}", "book", True, "ok", "")
    assert t.counters["forgotten"] == 2


def test_nothing_is_answered_after_the_end() -> None:
    t = table()
    run = run_of(t.request("c1", "look", "{}", 1))
    t.end()
    t.end()
    assert t.finish(run.key, "ok", "x") == ()
    assert t.request("c2", "look", "{}", 1) == Ignore("c2", "after_end")
    assert (t.counters["late"], t.counters["unanswered_at_end"]) == (1, 1)


requests = st.tuples(
    st.sampled_from(["CA", "CA1"]), st.text("1ab", max_size=2), st.text("1ab"), st.integers(0, 3)
)


@given(requests, requests)
def test_keys_are_equal_only_for_equal_requests(
    a: tuple[str, str, str, int], b: tuple[str, str, str, int]
) -> None:
    assert (idempotency_key(*a) == idempotency_key(*b)) == (a == b)


@given(st.text(max_size=400), st.integers(len(CUT_NOTICE), 300))
def test_cut_is_utf8_within_the_limit_and_a_prefix(text: str, limit: int) -> None:
    result = cut(text, limit)
    assert len(result.encode()) <= limit
    if result != text:
        assert result.endswith(CUT_NOTICE)
        assert text.startswith(result.removesuffix(CUT_NOTICE))


def test_cut_survives_half_a_surrogate_pair() -> None:
    assert cut("a\ud800b") == "a?b"
    assert len(cut("é" * OUTPUT_BYTES_MAX).encode()) <= OUTPUT_BYTES_MAX


@pytest.mark.parametrize("raw", ["[]", "{", '{"reason": 1}', "\ud800", "[" * 50_000])
def test_builtin_with_bad_arguments_is_refused(raw: str) -> None:
    with pytest.raises(BadArguments):
        parse_reason(raw)


def test_builtin_reason_may_be_missing_and_is_bounded() -> None:
    assert reason_of(parse_reason("")) == ""
    assert reason_of(parse_reason('{"reason": "angry", "mood": 3}')) == "angry"
    assert len(reason_of(parse_reason(json.dumps({"reason": "x" * 999})))) == 300


class Table(RuleBasedStateMachine):
    """Any order of events against what must hold: one output per call, one run per side effect."""

    def __init__(self) -> None:
        super().__init__()
        self.table = table(Limits(running=4, turns_kept=2))
        self.ids = 0
        self.turn = 0
        self.asked: list[str] = []
        self.outputs: Counter[str] = Counter()
        self.effects: Counter[str] = Counter()
        self.under_way: list[Run] = []
        self.ended = False

    @rule(name=st.sampled_from(["book", "look", "nope"]), arguments=st.sampled_from(["1", "2", "{"]))
    def ask(self, name: str, arguments: str) -> None:
        self.ids += 1
        call_id = f"c{self.ids}"
        decision = self.table.request(call_id, name, arguments, self.turn)
        if self.ended:
            assert isinstance(decision, Ignore)
            return
        self.asked.append(call_id)
        match decision:
            case Run():
                self.under_way.append(decision)
                self.effects[decision.key] += decision.side_effects
            case Answer():
                self.outputs[call_id] += 1
            case Join():
                assert any(run.key == decision.key for run in self.under_way)
            case Ignore():
                raise AssertionError("a fresh call id was ignored")

    @rule(which=st.integers(0, 9), started=st.booleans())
    def finish(self, which: int, started: bool) -> None:
        if self.under_way:
            run = self.under_way.pop(which % len(self.under_way))
            if not started:
                self.effects[run.key] -= run.side_effects
            for call_id in self.table.finish(run.key, "ok", "x", remember=started):
                self.outputs[call_id] += 1

    @rule()
    def next_turn(self) -> None:
        self.turn += 1

    @rule()
    def lose_the_model(self) -> None:
        self.table.session_changed()

    @rule(really=st.integers(0, 9))
    def hang_up(self, really: int) -> None:
        if really == 0:
            self.table.end()
            self.ended = True

    @invariant()
    def no_output_twice(self) -> None:
        assert all(count == 1 for count in self.outputs.values())

    @invariant()
    def no_side_effect_twice(self) -> None:
        assert all(count <= 1 for count in self.effects.values())

    @invariant()
    def who_is_not_answered_waits(self) -> None:
        if self.ended:
            return
        waiting = [call_id for key in self.table.running() for call_id in self.table.waiting(key)]
        assert sorted(waiting + list(self.outputs)) == sorted(self.asked)
        assert len(self.table.running()) <= 4


TestTable = Table.TestCase
TestTable.settings = settings(max_examples=150, stateful_step_count=40, deadline=None)
