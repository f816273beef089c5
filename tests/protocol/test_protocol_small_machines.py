"""Turn table, ladder, uplink ring, comfort plan, conduct: the small machines of a call."""

from __future__ import annotations

import math
import random
from itertools import pairwise

import pytest
from hypothesis import given
from hypothesis import strategies as st

from callrt.protocol import faults
from callrt.protocol.comfort import ComfortPlan
from callrt.protocol.conduct import Conduct, ConductLimits, End, Transfer
from callrt.protocol.ear import Ear, first_speech
from callrt.protocol.faults import FaultKind
from callrt.protocol.ladder import HandOver, Ladder, Reconnect
from callrt.protocol.turn import OWES_REPLY, TRANSITIONS, Turn, TurnInput, TurnState, step
from callrt.protocol.uplink import Uplink

LOUD, QUIET = b"\x10" * 160, b"\xff" * 160


# -- turn -------------------------------------------------------------------------------------------------


@given(st.lists(st.sampled_from(list(TurnInput)), max_size=60))
def test_turn_never_leaves_its_table(inputs: list[TurnInput]) -> None:
    turn = Turn()
    for event in inputs:
        before = turn.state
        after = turn.feed(event)
        assert after is TRANSITIONS[before].get(event, before)
    assert turn.number == inputs.count(TurnInput.TURN_COMMITTED)


def test_turn_owes_nothing_once_the_whole_reply_has_arrived() -> None:
    turn = Turn()
    for event in (TurnInput.TURN_COMMITTED, TurnInput.REPLY_AUDIO):
        turn.feed(event)
        assert turn.owed
    turn.feed(TurnInput.REPLY_ENDED)
    assert turn.state is TurnState.AGENT_FINISHING
    assert not turn.owed


@pytest.mark.parametrize("state", [s for s in TurnState if s is not TurnState.CALLER_SPEAKING])
def test_turn_caller_may_interrupt_in_every_state(state: TurnState) -> None:
    assert step(state, TurnInput.SPEECH_STARTED) is TurnState.CALLER_SPEAKING


# -- ladder -----------------------------------------------------------------------------------------------


def ladder(*, human: bool, retries: int = 1, give_up: float = 20.0) -> Ladder:
    return Ladder(retries=retries, give_up_seconds=give_up, human=human, rng=random.Random(1))


def test_ladder_reconnects_at_once_then_retries_then_hands_over() -> None:
    rungs = ladder(human=True)
    assert rungs.lost(0.0) == Reconnect(0.0)
    second = rungs.lost(0.1)
    assert isinstance(second, Reconnect)
    assert 0.375 <= second.delay <= 0.5
    assert rungs.lost(1.0) == HandOver("retries")


def test_ladder_starts_anew_after_something_useful() -> None:
    rungs = ladder(human=True)
    rungs.lost(0.0)
    rungs.lost(0.1)
    rungs.useful()
    assert rungs.lost(5.0) == Reconnect(0.0)


def test_ladder_never_retries_a_permanent_error() -> None:
    assert ladder(human=True).lost(0.0, permanent=True) == HandOver("permanent")
    assert ladder(human=False).lost(0.0, permanent=True) == HandOver("permanent")


@given(st.integers(0, 1000), st.floats(0.01, 2.0), st.one_of(st.none(), st.floats(0, 100)))
def test_ladder_without_a_human_ends_after_its_time(
    seed: int, took: float, retry_after: float | None
) -> None:
    rungs = Ladder(retries=1, give_up_seconds=20.0, human=False, rng=random.Random(seed))
    now, attempts = 0.0, 0
    while True:
        rung = rungs.lost(now, retry_after=retry_after)
        if isinstance(rung, HandOver):
            break
        attempts += 1
        assert rung.delay <= 20.0
        now += rung.delay + took
        assert attempts < 2100
    assert 20.0 <= now <= 20.0 + took + 1e-9
    assert attempts >= 1


def test_ladder_with_a_human_is_bounded_in_time_too() -> None:
    rungs = ladder(human=True, retries=100, give_up=20.0)
    rungs.lost(0.0)
    assert rungs.lost(21.0) == HandOver("time")


# -- uplink -----------------------------------------------------------------------------------------------


@given(st.lists(st.tuples(st.integers(1, 400), st.integers(0, 40)), max_size=80), st.integers(0, 20_000))
def test_uplink_positions_are_true_and_what_is_needed_is_held(
    chunks: list[tuple[int, int]], needed: int
) -> None:
    uplink = Uplink(keep_ms=100_000, tail_ms=50)
    uplink.need_from(needed)
    whole = bytearray()
    for index, (size, missing) in enumerate(chunks):
        payload = bytes([index % 256]) * size
        whole += b"\xff" * (missing * 8) + payload
        uplink.hear(payload, missing)
        assert uplink.end == len(whole)
    assert uplink.read(needed) == bytes(whole[needed:])
    assert uplink.read(uplink.start) == bytes(whole[uplink.start :])
    assert uplink.end - uplink.start >= min(len(whole), 50 * 8)
    assert uplink.lost_bytes == 0


def test_uplink_bound_drops_the_oldest_and_counts_it() -> None:
    uplink = Uplink(keep_ms=1000, tail_ms=100)
    uplink.need_from(0)
    for _ in range(100):
        uplink.hear(bytes(160))
    assert uplink.end - uplink.start == 8000
    assert uplink.lost_bytes == 100 * 160 - 8000


def test_uplink_counts_as_lost_only_what_somebody_needed() -> None:
    uplink = Uplink(keep_ms=1000, tail_ms=100)
    for _ in range(50):
        uplink.hear(bytes(160))
    uplink.need_from(0)  # long let go of, when nobody wanted it
    assert uplink.lost_bytes == 0
    start = uplink.start
    for _ in range(100):
        uplink.hear(bytes(160))
    assert uplink.lost_bytes == uplink.start - start > 0


def test_uplink_keeps_only_a_tail_when_nobody_needs_it() -> None:
    uplink = Uplink(keep_ms=30_000, tail_ms=2_000)
    for _ in range(3000):
        uplink.hear(bytes(160))
    assert 2_000 * 8 <= uplink.end - uplink.start <= 2_520 * 8
    assert uplink.lost_bytes == 0


# -- ear --------------------------------------------------------------------------------------------------


def test_ear_reports_an_utterance_once_when_it_has_ended() -> None:
    ear = Ear()
    heard = [ear.hear(LOUD) for _ in range(15)] + [ear.hear(QUIET) for _ in range(100)]
    assert heard.count(True) == 1
    assert heard.index(True) == 15 + 34


def test_ear_takes_no_click_for_an_utterance() -> None:
    ear = Ear()
    assert not any(ear.hear(LOUD if i % 10 == 0 else QUIET) for i in range(90))


def test_first_speech_is_found_at_its_frame() -> None:
    assert first_speech(QUIET * 20 + LOUD * 12 + QUIET * 5) == 20 * 160
    assert first_speech(QUIET * 20 + LOUD * 5) is None
    assert first_speech(b"") is None


# -- comfort ----------------------------------------------------------------------------------------------


def test_comfort_is_due_after_the_failure_or_after_the_audio_whichever_is_later() -> None:
    plan = ComfortPlan(after=0.3, margin=0.05)
    assert plan.due(0.0) == math.inf
    plan.trouble(10.0)
    assert plan.due(9.0) == pytest.approx(10.25)
    assert plan.due(12.0) == pytest.approx(12.25)
    plan.trouble(11.0)
    assert plan.due(9.0) == pytest.approx(10.25), "the first failure counts"


def test_comfort_is_repeated_seldom_and_not_for_ever() -> None:
    plan = ComfortPlan(after=0.3)
    plan.trouble(0.0)
    end = 0.0
    times = []
    while (due := plan.due(end)) != math.inf:
        times.append(due)
        plan.spoke()
        end = due + 1.0
    assert len(times) == plan.most
    assert all(later - earlier >= 7.0 for earlier, later in pairwise(times))


def test_comfort_is_forgotten_when_the_reply_comes() -> None:
    plan = ComfortPlan(after=0.3)
    plan.trouble(0.0)
    plan.eased()
    assert plan.due(0.0) == math.inf


# -- conduct ----------------------------------------------------------------------------------------------

LIMITS = ConductLimits(carrier_return=15, max_silence=60, max_call=1800, hangup_grace=3)


def conduct(*, transfer: bool = False) -> Conduct:
    return Conduct(started_at=0.0, limits=LIMITS, can_transfer=transfer)


def test_call_whose_stream_never_comes_is_carrier_lost() -> None:
    call = conduct()
    assert call.deadline == 15.0
    assert call.verdict(15.0, silent=True) == End("carrier_lost")


def test_stop_and_nothing_more_is_a_hang_up() -> None:
    call = conduct()
    call.attached(1.0)
    call.detached(10.0, "stopped")
    assert call.verdict(12.9, silent=True) is None
    assert call.verdict(13.0, silent=True) == End("caller_hung_up")


def test_stop_with_an_action_request_is_a_call_that_goes_on() -> None:
    call = conduct()
    call.attached(1.0)
    call.detached(10.0, "stopped")
    call.asked(10.1)
    assert call.verdict(20.0, silent=True) is None
    call.attached(24.0)
    assert call.verdict(26.0, silent=True) is None


def test_reset_and_nothing_more_is_carrier_lost_after_the_patience() -> None:
    call = conduct()
    call.attached(1.0)
    call.detached(10.0, "lost")
    assert call.verdict(24.9, silent=True) is None
    assert call.verdict(25.0, silent=True) == End("carrier_lost")


def test_silence_ends_a_call_and_speech_puts_it_off() -> None:
    call = conduct()
    call.attached(0.0)
    call.active(50.0)
    assert call.verdict(109.0, silent=True) is None
    assert call.verdict(110.0, silent=True) == End("silence", "goodbye")


def test_no_call_is_longer_than_its_limit_whatever_happens() -> None:
    call = conduct()
    call.attached(0.0)
    call.active(1799.0)
    assert call.verdict(1800.0, silent=False) == End("max_duration", "goodbye")


def test_wish_waits_until_the_agent_has_been_heard() -> None:
    call = conduct()
    call.attached(0.0)
    call.wish(End("completed"), heard_by=5.0)
    assert call.verdict(4.0, silent=False) is None
    assert call.deadline == 7.0
    assert call.verdict(5.0, silent=True) == End("completed")


def test_wish_is_void_when_the_caller_goes_on_speaking() -> None:
    call = conduct()
    call.attached(0.0)
    call.wish(End("completed"), heard_by=5.0)
    assert call.take_back()
    assert not call.take_back()
    assert call.verdict(6.0, silent=True) is None


def test_ladder_end_is_a_transfer_where_there_is_a_human() -> None:
    with_human, without = conduct(transfer=True), conduct()
    with_human.gave_up()
    without.gave_up()
    assert with_human.verdict(1.0, silent=False) == Transfer("model_unavailable")
    assert without.verdict(1.0, silent=False) == End("model_unavailable", "sorry_goodbye")


@given(st.lists(st.sampled_from(["attached", "stopped", "lost", "asked", "over", "gave_up", "wish", "tick"])))
def test_conduct_first_verdict_is_final_and_the_deadline_brings_one(events: list[str]) -> None:
    call, now, final = conduct(), 0.0, None
    for event in events:
        now += 0.5
        match event:
            case "attached":
                call.attached(now)
            case "stopped" | "lost":
                call.detached(now, event)
            case "asked":
                call.asked(now)
            case "over":
                call.carrier_over()
            case "gave_up":
                call.gave_up()
            case "wish":
                call.wish(End("completed"), now)
        verdict = call.verdict(now, silent=False)
        assert final is None or verdict == final
        final = verdict
    if final is None:
        assert call.deadline <= 1800.0
        assert call.verdict(call.deadline, silent=False) is not None


# -- fault names ------------------------------------------------------------------------------------------


@pytest.mark.parametrize("code", [1001, 1005, 1006, 1011, 1012, 1013, 1015, None])
def test_transient_closes_are_transient(code: int | None) -> None:
    assert faults.of_close(code) is FaultKind.MODEL_LOST


@pytest.mark.parametrize(
    ("code", "reason", "kind"),
    [
        (3000, "invalid_request_error.invalid_api_key", FaultKind.MODEL_ACCOUNT),
        (4000, "invalid_request_error.beta_api_shape_disabled", FaultKind.MODEL_REFUSED),
        (1001, "Your session hit the maximum duration of 60 minutes.", FaultKind.MODEL_EXPIRED),
        (1007, "", FaultKind.MODEL_REJECTS_HISTORY),
    ],
)
def test_closes_with_a_meaning_get_their_name(code: int, reason: str, kind: FaultKind) -> None:
    assert faults.of_close(code, reason) is kind


@pytest.mark.parametrize(
    ("status", "kind"),
    [
        (401, FaultKind.MODEL_REFUSED),
        (403, FaultKind.MODEL_REFUSED),
        (404, FaultKind.MODEL_REFUSED),
        (400, FaultKind.MODEL_REFUSED),
        (429, FaultKind.MODEL_OVERLOADED),
        (500, FaultKind.MODEL_OVERLOADED),
        (503, FaultKind.MODEL_OVERLOADED),
    ],
)
def test_refused_upgrades_get_their_name(status: int, kind: FaultKind) -> None:
    assert faults.of_upgrade(status) is kind


@pytest.mark.parametrize("word", sorted(faults.ACCOUNT_CODES))
def test_account_words_count_in_either_field(word: str) -> None:
    assert faults.of_error(word, "") is FaultKind.MODEL_ACCOUNT
    assert faults.of_error("invalid_request_error", word) is FaultKind.MODEL_ACCOUNT
    assert faults.of_failed_reply("", word) is FaultKind.MODEL_ACCOUNT


def test_owed_states_are_those_in_which_a_caller_waits() -> None:
    assert set(OWES_REPLY) == {TurnState.REPLY_OWED, TurnState.AGENT_SPEAKING, TurnState.TOOL_RUNNING}
