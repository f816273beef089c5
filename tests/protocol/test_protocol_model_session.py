"""One model session as a machine: opening, replay, turns, barge-in, retries, stalls."""

from __future__ import annotations

import sys
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from callrt.protocol.faults import FaultKind
from callrt.protocol.models import effects as fx
from callrt.protocol.models import events as ev
from callrt.protocol.models.opening import Opening
from callrt.protocol.models.session import ModelSession, Phase, SessionLimits
from callrt.protocol.mouth_values import ItemCut
from callrt.protocol.turn import Turn, TurnState

CONFIGURE = ev.Configure("Be kind.", "marin", "pcmu", (), True)


def session(
    *, replay: tuple[ev.ModelCommand, ...] = (), first: ev.RequestReply | None = None, owed: bool = False
) -> ModelSession:
    turn = Turn()
    if first is not None or owed:
        turn.state = TurnState.REPLY_OWED
    return ModelSession(1, Opening(CONFIGURE, replay, first, owed), turn, 0.0, SessionLimits())


def cut(item: str, heard_ms: int, *, ended: bool, part: int = 0, before_ms: int = 0) -> ItemCut:
    return ItemCut(item, part, heard_ms, 1000, ended, before_ms)


def sent(effects: list[Any]) -> list[Any]:
    return [e.command for e in effects if isinstance(e, fx.Send)]


def of(kind: type, effects: list[Any]) -> list[Any]:
    return [e for e in effects if isinstance(e, kind)]


def live(**kwargs: Any) -> ModelSession:
    one = session(**kwargs)
    one.handle(ev.SessionCreated("sess_1", None), 0.0)
    one.handle(ev.SessionUpdated({}), 0.0)
    assert one.live
    return one


def speak(one: ModelSession, reply: str = "r1", item: str = "i1", at: float = 1.0) -> list[Any]:
    out = one.handle(ev.ReplyStarted(reply, {}), at)
    out += one.handle(ev.ReplyItemStarted(reply, item, "message"), at)
    return out + one.handle(ev.ReplyAudio(reply, item, 0, b"\x00" * 800), at)


def committed(one: ModelSession, at: float = 1.0) -> list[Any]:
    out = one.handle(ev.SpeechStarted("u1", 0), at)
    out += one.handle(ev.SpeechStopped("u1", 500), at)
    return out + one.handle(ev.TurnCommitted("u1"), at)


# -- opening ------------------------------------------------------------------------------------------------


def test_session_sends_nothing_before_it_was_created() -> None:
    one = session()
    assert one.handle(ev.SessionUpdated({}), 0.0) == []
    assert sent(one.handle(ev.SessionCreated("s", None), 0.0)) == [CONFIGURE]


def test_session_replays_in_order_before_it_may_answer_by_itself() -> None:
    items = (ev.AddMessage("user", "Hi", "a"), ev.AddMessage("assistant", "Hello", "b"))
    one = session(replay=items, first=ev.RequestReply())
    quiet = sent(one.handle(ev.SessionCreated("s", None), 0.0))
    assert [c.answer_by_itself for c in quiet] == [False]
    assert sent(one.handle(ev.SessionUpdated({}), 0.0)) == list(items)
    assert one.phase is Phase.REPLAYING
    one.handle(ev.ItemAdded("a", "user", "message"), 0.1)
    assert one.phase is Phase.REPLAYING
    out = one.handle(ev.ItemAdded("b", "assistant", "message"), 0.1)
    assert one.live
    assert [type(c) for c in sent(out)] == [ev.Configure, ev.RequestReply]
    assert sent(out)[0].answer_by_itself


def test_session_goes_live_without_the_last_echo_after_a_while() -> None:
    one = session(replay=(ev.AddMessage("user", "Hi", "a"),))
    one.handle(ev.SessionCreated("s", None), 0.0)
    one.handle(ev.SessionUpdated({}), 0.0)
    assert of(fx.WentLive, one.tick(one.deadline))


def test_session_takes_a_duplicate_item_for_present() -> None:
    one = session(replay=(ev.AddMessage("user", "Hi", "a"),))
    one.handle(ev.SessionCreated("s", None), 0.0)
    out = one.handle(ev.SessionUpdated({}), 0.0)
    event_id = of(fx.Send, out)[0].event_id
    error = ev.ModelError("invalid_request_error", "item_create_duplicate_item_id", "", "", event_id)
    assert of(fx.WentLive, one.handle(error, 0.1))


@pytest.mark.parametrize("opened", [False, True])
def test_session_that_never_opens_is_a_stall(opened: bool) -> None:
    one = session()
    if opened:
        one.handle(ev.SessionCreated("s", None), 0.0)
    assert of(fx.SessionFailed, one.tick(one.deadline))[0].kind is FaultKind.MODEL_STALLED


def test_session_refuses_audio_in_another_format() -> None:
    one = session()
    one.handle(ev.SessionCreated("s", None), 0.0)
    out = one.handle(ev.SessionUpdated({"audio": {"output": {"format": {"type": "audio/pcm"}}}}), 0.0)
    assert of(fx.SessionFailed, out)[0].kind is FaultKind.MODEL_REFUSED


def test_session_with_a_rejected_configuration_is_refused() -> None:
    one = session()
    out = one.handle(ev.SessionCreated("s", None), 0.0)
    error = ev.ModelError("invalid_request_error", "unknown_parameter", "", "session.x", out[0].event_id)
    assert of(fx.SessionFailed, one.handle(error, 0.0))[0].kind is FaultKind.MODEL_REFUSED


def test_session_that_is_live_holds_nothing_of_what_it_was_told() -> None:
    """Speech that a lost session never heard, and outputs of tools: with 400 calls, more than all else together."""
    speech, output = bytes(range(256)) * 900, "x" * 16_000
    alone = sys.getrefcount(speech), sys.getrefcount(output)
    one = session(replay=(ev.AddToolOutput("call", output, "a"), ev.AddSpeech(speech, "b")))
    one.handle(ev.SessionCreated("sess_1", None), 0.0)
    one.handle(ev.SessionUpdated({}), 0.0)
    assert one.phase is Phase.REPLAYING
    one.handle(ev.ItemAdded("b", "user", "message"), 0.1)
    assert one.live
    assert (sys.getrefcount(speech), sys.getrefcount(output)) == alone


# -- turns --------------------------------------------------------------------------------------------------


def test_audio_is_named_within_the_call_and_ends_when_its_item_does() -> None:
    one = live()
    committed(one)
    assert of(fx.Speak, speak(one)) == [fx.Speak("m1.i1", 0, b"\x00" * 800)]
    done = one.handle(ev.ReplyItemDone("r1", "i1", "message", "completed"), 1.1)
    assert of(fx.SpeechComplete, done) == [fx.SpeechComplete("m1.i1", whole=True)]
    assert of(fx.SpeechComplete, one.handle(ev.ReplyDone("r1", "completed"), 1.1)) == []
    assert one.turn.state is TurnState.AGENT_FINISHING
    one.played_out()
    assert one.turn.state is TurnState.IDLE


def test_barge_in_mutes_everything_of_the_reply_until_its_end() -> None:
    one = live()
    committed(one)
    speak(one)
    assert of(fx.BargeIn, one.handle(ev.SpeechStarted("u2", 900), 2.0))
    assert one.handle(ev.ReplyAudio("r1", "i1", 0, b"\x00" * 80), 2.0) == []
    assert one.handle(ev.ReplyAudio("r1", "i2", 0, b"\x00" * 80), 2.0) == [], "later items of it too"
    assert of(fx.Words, one.handle(ev.ReplyTranscript("r1", "i1", "late", False), 2.0)) == []
    assert one.dropped_audio_bytes == 160
    one.handle(ev.ReplyDone("r1", "cancelled", "turn_detected"), 2.1)
    committed(one, 2.5)
    assert of(fx.Speak, speak(one, "r2", "i9", 3.0))


def test_barge_in_when_all_was_generated_still_cuts() -> None:
    one = live()
    committed(one)
    speak(one)
    one.handle(ev.ReplyItemDone("r1", "i1", "message", "completed"), 1.1)
    one.handle(ev.ReplyDone("r1", "completed"), 1.1)
    assert of(fx.BargeIn, one.handle(ev.SpeechStarted("u2", 900), 2.0))
    assert sent(one.cut(cut("m1.i1", 60, ended=True))) == [ev.TruncateItem("i1", 0, 60)]


def spoken_and_heard(one: ModelSession, reply: str, item: str, now: float) -> None:
    committed(one, now)
    speak(one, reply, item, now + 0.1)
    one.handle(ev.ReplyItemDone(reply, item, "message", "completed"), now + 0.2)
    one.handle(ev.ReplyDone(reply, "completed"), now + 0.2)
    one.played_out()


def test_barge_in_just_after_the_last_word_still_tells_the_model() -> None:
    """That all has been heard is reckoned: with the interruption it may turn out that a word was not."""
    one = live()
    spoken_and_heard(one, "r1", "i1", 1.0)
    assert sent(one.cut(cut("m1.i1", 60, ended=True))) == [ev.TruncateItem("i1", 0, 60)]
    spoken_and_heard(one, "r2", "i2", 3.0)
    assert one.cut(cut("m1.i1", 60, ended=True)) == [], "heard long ago"
    assert sent(one.cut(cut("m1.i2", 60, ended=True))) == [ev.TruncateItem("i2", 0, 60)]


def test_item_that_goes_on_after_a_silence_can_be_cut() -> None:
    one = live()
    committed(one)
    for _ in range(3):
        speak(one)
        one.played_out()
    assert sent(one.cut(cut("m1.i1", 250, ended=False))) == [ev.TruncateItem("i1", 0, 250)]


def test_items_that_may_be_cut_are_counted_up_to_a_bound() -> None:
    one = live()
    committed(one)
    for number in range(1000):
        speak(one, "r1", f"i{number}")
    known = [number for number in range(1000) if one.cut(cut(f"m1.i{number}", 60, ended=True))]
    assert known == list(range(1000 - len(known), 1000))
    assert len(known) == 64


def test_cut_is_never_beyond_the_items_own_audio_and_never_of_foreign_items() -> None:
    one = live()
    committed(one)
    speak(one)
    assert sent(one.cut(cut("m1.i1", 99_999, ended=False))) == [ev.TruncateItem("i1", 0, 100)]
    assert sent(one.cut(cut("m1.i1", 0, ended=True))) == [ev.DeleteItem("i1")]
    assert one.cut(cut("m0.i1", 50, ended=True)) == []
    assert one.cut(cut("m1.text", 50, ended=True)) == []


def test_item_of_which_one_part_was_heard_stays_in_the_conversation() -> None:
    one = live()
    committed(one)
    speak(one)
    assert sent(one.cut(cut("m1.i1", 60, ended=True))) == [ev.TruncateItem("i1", 0, 60)]
    unheard = cut("m1.i1", 0, ended=True, part=1, before_ms=60)
    assert sent(one.cut(unheard)) == [ev.TruncateItem("i1", 1, 0)]


def test_item_of_which_no_part_was_heard_is_deleted_once() -> None:
    one = live()
    committed(one)
    speak(one)
    assert sent(one.cut(cut("m1.i1", 0, ended=True))) == [ev.DeleteItem("i1")]
    assert one.cut(cut("m1.i1", 0, ended=True, part=1)) == []


def test_reply_that_goes_on_in_writing_says_no_more_of_what_it_has_begun() -> None:
    one = live()
    committed(one)
    speak(one)
    out = one.handle(ev.ReplyText("r1", "i2", "written"), 1.2)
    assert of(fx.SpeechComplete, out) == [fx.SpeechComplete("m1.i1", whole=False)]


def test_reply_to_words_that_the_caller_takes_back_is_cancelled() -> None:
    one = live()
    one.handle(ev.SpeechStarted("u1", 0), 1.0)
    assert sent(one.handle(ev.ReplyStarted("r0", {}), 1.1)) == [ev.CancelReply("r0")]
    assert one.handle(ev.ReplyAudio("r0", "i0", 0, b"\x00" * 80), 1.1) == []


def test_reply_done_without_created_is_taken() -> None:
    one = live()
    committed(one)
    assert of(fx.ReplyOver, one.handle(ev.ReplyDone("never", "cancelled", "turn_detected"), 1.0))


def test_second_request_waits_for_the_end_of_the_first_reply() -> None:
    one = live()
    committed(one)
    speak(one)
    assert sent(one.request(ev.RequestReply(), 1.5)) == []
    one.handle(ev.ReplyItemDone("r1", "i1", "message", "completed"), 1.6)
    assert sent(one.handle(ev.ReplyDone("r1", "completed"), 1.6)) == [ev.RequestReply()]


def test_written_reply_on_an_audio_session_is_asked_for_again_spoken() -> None:
    one = live()
    committed(one)
    one.handle(ev.ReplyStarted("r1", {}), 1.0)
    out = one.handle(ev.ReplyText("r1", "i1", "Hello"), 1.0)
    assert sent(out) == [ev.CancelReply("r1"), ev.DeleteItem("i1")]
    assert sent(one.handle(ev.ReplyDone("r1", "cancelled", "client_cancelled"), 1.1)) == [ev.RequestReply()]


# -- tools --------------------------------------------------------------------------------------------------


def call(one: ModelSession, call_id: str, at: float = 1.0) -> list[Any]:
    return one.handle(ev.ToolCallRequested("r1", f"f{call_id}", call_id, "look_up", "{}"), at)


def test_tools_of_one_reply_get_one_follow_up() -> None:
    one = live()
    committed(one)
    one.handle(ev.ReplyStarted("r1", {}), 1.0)
    assert of(fx.RunTool, call(one, "a"))
    assert of(fx.RunTool, call(one, "b"))
    assert of(fx.RunTool, call(one, "a")) == [], "a repeated call id runs nothing"
    one.handle(ev.ReplyDone("r1", "completed"), 1.1)
    assert one.turn.state is TurnState.TOOL_RUNNING
    assert [type(c) for c in sent(one.tool_output("a", "1", 2.0))] == [ev.AddToolOutput]
    assert [type(c) for c in sent(one.tool_output("b", "2", 2.0))] == [ev.AddToolOutput, ev.RequestReply]
    assert one.tool_output("b", "2", 2.0) == [], "one output per call"


def test_tool_that_is_done_before_its_sibling_begins_brings_no_follow_up_of_its_own() -> None:
    one = live()
    committed(one)
    one.handle(ev.ReplyStarted("r1", {}), 1.0)
    call(one, "a")
    assert [type(c) for c in sent(one.tool_output("a", "1", 1.0))] == [ev.AddToolOutput]
    call(one, "b")
    assert sent(one.handle(ev.ReplyDone("r1", "completed"), 1.1)) == []
    assert [type(c) for c in sent(one.tool_output("b", "2", 6.0))] == [ev.AddToolOutput, ev.RequestReply]


def test_running_tool_is_no_stall_of_the_model() -> None:
    one = live()
    committed(one)
    one.handle(ev.ReplyStarted("r1", {}), 1.0)
    call(one, "a")
    one.handle(ev.ReplyDone("r1", "completed"), 1.1)
    assert one.deadline == float("inf")


def test_output_while_the_reply_is_under_way_asks_when_it_is_done() -> None:
    one = live()
    committed(one)
    speak(one)
    call(one, "a")
    assert [type(c) for c in sent(one.tool_output("a", "1", 1.0))] == [ev.AddToolOutput]
    assert [type(c) for c in sent(one.handle(ev.ReplyDone("r1", "completed"), 1.2))] == [ev.RequestReply]


# -- failures -------------------------------------------------------------------------------------------------


def failed(
    one: ModelSession, code: str, at: float, kind: str = "server_error", reply: str = "r1"
) -> list[Any]:
    one.handle(ev.ReplyStarted(reply, {}), at)
    return one.handle(ev.ReplyDone(reply, "failed", "", kind, code), at)


def test_failed_reply_is_asked_for_once_more_then_the_session_is_replaced() -> None:
    one = live()
    committed(one)
    out = failed(one, "", 1.0)
    assert of(fx.Trouble, out)[0].kind is FaultKind.REPLY_FAILED
    assert sent(out) == [ev.RequestReply()]
    out = failed(one, "", 1.2, reply="r2")
    assert of(fx.SessionFailed, out)[0].kind is FaultKind.MODEL_POISONED


def test_rate_limited_reply_is_tried_three_times_with_growing_pauses() -> None:
    one = live()
    committed(one)
    now, pauses = 1.0, []
    for attempt in range(3):
        out = failed(one, "rate_limit_exceeded", now, reply=f"r{attempt}")
        assert of(fx.Trouble, out)
        assert sent(out) == []
        pauses.append(one.deadline - now)
        now = one.deadline
        assert sent(one.tick(now)) == [ev.RequestReply()]
    assert pauses == sorted(pauses)
    assert pauses[0] == pytest.approx(1.5)
    out = failed(one, "rate_limit_exceeded", now, reply="r9")
    assert of(fx.SessionFailed, out)[0].kind is FaultKind.MODEL_OVERLOADED


def test_account_failure_of_a_reply_ends_the_session_for_good() -> None:
    one = live()
    committed(one)
    out = failed(one, "insufficient_quota", 1.0)
    assert of(fx.SessionFailed, out)[0].kind is FaultKind.MODEL_ACCOUNT


def test_reply_that_failed_half_spoken_goes_on_instead_of_repeating() -> None:
    one = live()
    committed(one)
    speak(one)
    one.handle(ev.ReplyAudio("r1", "i1", 0, b"\x00" * 8000), 1.1)
    out = one.handle(ev.ReplyDone("r1", "failed", "", "server_error", ""), 1.3)
    kinds = [type(c) for c in sent(out)]
    assert kinds == [ev.AddMessage, ev.RequestReply]
    assert "do not repeat" in sent(out)[0].text
    assert of(fx.SpeechComplete, out) == [fx.SpeechComplete("m1.i1", whole=False)]


def test_routine_errors_change_nothing() -> None:
    one = live()
    for code in ("response_cancel_not_active", "input_audio_buffer_commit_empty"):
        assert one.handle(ev.ModelError("invalid_request_error", code, "", "", ""), 1.0) == []
    assert one.live


def test_expired_session_is_named() -> None:
    one = live()
    out = one.handle(ev.ModelError("invalid_request_error", "session_expired", "", "", ""), 1.0)
    assert of(fx.SessionFailed, out)[0].kind is FaultKind.MODEL_EXPIRED


# -- silence ----------------------------------------------------------------------------------------------------


def test_model_that_forgets_to_answer_is_nudged_and_then_stalled() -> None:
    one = live()
    committed(one, 1.0)
    assert one.deadline == pytest.approx(4.0)
    assert sent(one.tick(4.0)) == [ev.RequestReply()]
    assert one.deadline == pytest.approx(6.0)
    assert of(fx.SessionFailed, one.tick(6.0))[0].kind is FaultKind.MODEL_STALLED


def test_stall_counts_from_the_last_sign_of_work() -> None:
    one = live()
    committed(one, 1.0)
    speak(one, at=2.0)
    assert one.deadline == pytest.approx(7.0)
    assert one.tick(6.9) == []
    assert of(fx.SessionFailed, one.tick(7.0))


def test_reply_that_lacks_only_its_last_word_is_no_stall() -> None:
    one = live()
    committed(one, 1.0)
    speak(one, at=1.0)
    one.handle(ev.ReplyItemDone("r1", "i1", "message", "completed"), 1.5)
    out = one.tick(one.deadline)
    assert of(fx.SessionFailed, out) == []
    assert of(fx.ReplyOver, out)
    assert one.deadline == float("inf")


def test_idle_session_has_no_deadline() -> None:
    assert live().deadline == float("inf")


def test_keys_are_told_at_once_and_answered_when_no_more_follow() -> None:
    one = live()
    assert [type(c) for c in sent(one.digit("4", 1.0))] == [ev.AddMessage]
    one.digit("2", 1.5)
    assert one.tick(2.0) == []
    assert sent(one.tick(2.5)) == [ev.RequestReply()]


# -- nothing a peer can send breaks it ---------------------------------------------------------------------------

EVENTS = st.one_of(
    st.builds(ev.SessionCreated, st.just("s"), st.none()),
    st.builds(ev.SessionUpdated, st.just({})),
    st.builds(ev.SpeechStarted, st.sampled_from("ab"), st.integers(0, 100)),
    st.builds(ev.SpeechStopped, st.sampled_from("ab"), st.integers(0, 100)),
    st.builds(ev.TurnCommitted, st.sampled_from("ab")),
    st.builds(ev.ItemAdded, st.sampled_from("ab"), st.just("user"), st.just("message")),
    st.builds(ev.ReplyStarted, st.sampled_from("rs"), st.just({})),
    st.builds(ev.ReplyItemStarted, st.sampled_from("rs"), st.sampled_from("ij"), st.just("message")),
    st.builds(ev.ReplyAudio, st.sampled_from("rs"), st.sampled_from("ij"), st.just(0), st.just(b"x" * 80)),
    st.builds(ev.ReplyTranscript, st.sampled_from("rs"), st.sampled_from("ij"), st.just("t"), st.booleans()),
    st.builds(ev.ReplyText, st.sampled_from("rs"), st.sampled_from("ij"), st.just("t")),
    st.builds(
        ev.ReplyItemDone,
        st.sampled_from("rs"),
        st.sampled_from("ij"),
        st.just("message"),
        st.sampled_from(["completed", "incomplete"]),
    ),
    st.builds(
        ev.ToolCallRequested,
        st.sampled_from("rs"),
        st.just("f"),
        st.sampled_from("cd"),
        st.just("t"),
        st.just("{}"),
    ),
    st.builds(
        ev.ReplyDone,
        st.sampled_from("rs"),
        st.sampled_from(["completed", "cancelled", "failed", "incomplete"]),
        st.just(""),
        st.just(""),
        st.sampled_from(["", "rate_limit_exceeded"]),
    ),
    st.builds(
        ev.ModelError,
        st.just("invalid_request_error"),
        st.sampled_from(["conversation_already_has_active_response", "response_cancel_not_active", "x"]),
        st.just(""),
        st.just(""),
        st.sampled_from(["", "c1_1", "c1_2", "c1_3"]),
    ),
)


@settings(max_examples=300)
@given(st.lists(st.tuples(EVENTS, st.floats(0, 3)), max_size=60))
def test_session_keeps_its_promises_under_any_events(script: list[tuple[Any, float]]) -> None:
    one, now = session(), 0.0
    talking = False
    runs: list[str] = []
    for event, pause in script:
        while one.deadline <= now + pause:
            now = max(now, one.deadline)
            before = one.deadline
            one.tick(now)
            assert one.deadline > before or one.phase is Phase.OVER, "a tick makes progress"
        now += pause
        over, was_live = one.phase is Phase.OVER, one.live
        out = one.handle(event, now)
        if over:
            assert out == []
            continue
        if isinstance(event, ev.SpeechStarted) and was_live:
            talking = True  # before that no audio was sent, so nobody can have been heard
        if isinstance(event, ev.SpeechStopped | ev.TurnCommitted):
            talking = False
        if talking:
            assert of(fx.Speak, out) == [], "nothing is spoken over the caller"
            assert not any(isinstance(c, ev.RequestReply) for c in sent(out))
        runs += [e.call_id for e in of(fx.RunTool, out)]
    assert len(runs) == len(set(runs)), "a call runs once"


def test_reply_that_failed_within_its_first_word_is_begun_again() -> None:
    one = live()
    committed(one)
    speak(one)
    out = one.handle(ev.ReplyDone("r1", "failed", "", "server_error", ""), 1.3)
    assert [type(c) for c in sent(out)] == [ev.DeleteItem, ev.RequestReply]


def test_reply_that_was_asked_for_in_words_is_asked_for_again_in_the_same_words() -> None:
    one = live()
    asked = ev.RequestReply(instructions="Say hello.")
    one.request(asked, 1.0)
    one.handle(ev.ReplyStarted("r1", {}), 1.1)
    out = one.handle(ev.ReplyDone("r1", "failed", "", "server_error", ""), 1.3)
    assert sent(out) == [asked]


def test_tool_of_an_earlier_session_answers_in_the_one_that_took_it_over() -> None:
    told = (ev.AddToolCall("a", "look", "{}", "x"), ev.AddToolCall("b", "look", "{}", "y"))

    def opened() -> ModelSession:
        turn = Turn()
        turn.state = TurnState.TOOL_RUNNING
        opening = Opening(CONFIGURE, told, running=("a", "b"))
        return ModelSession(2, opening, turn, 0.0, SessionLimits())

    def go_live(one: ModelSession) -> list[Any]:
        one.handle(ev.SessionCreated("s", None), 0.0)
        one.handle(ev.SessionUpdated({}), 0.0)
        return sent(one.handle(ev.ItemAdded("y", None, "function_call"), 0.0))

    early = opened()
    assert early.tool_output("a", "1", 0.0) == [], "the session does not know the call yet"
    assert [type(c) for c in go_live(early)] == [ev.Configure, ev.AddToolOutput]
    assert early.deadline == float("inf"), "a running tool is no stall"
    assert [type(c) for c in sent(early.tool_output("b", "2", 1.0))] == [ev.AddToolOutput, ev.RequestReply]

    both = opened()
    both.tool_output("a", "1", 0.0)
    both.tool_output("b", "2", 0.0)
    assert [type(c) for c in go_live(both)] == [
        ev.Configure,
        ev.AddToolOutput,
        ev.AddToolOutput,
        ev.RequestReply,
    ]
