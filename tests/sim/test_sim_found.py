"""What simulation has found stays found: each case once failed. See docs/found-by-chaos.md."""

from __future__ import annotations

import pytest

from callrt.protocol.records import StreamAttached
from callrt.testing.carrier import Drop
from callrt.testing.model_faults import Fault, Trigger
from callrt.testing.sim.case import Aimed, Ask, Caller, Case, DiskTrouble, Drain, Repeat, ToolTrouble
from callrt.testing.sim.checkers import judge
from callrt.testing.sim.runner import run_case
from callrt.testing.sim.stage import cells, play


@pytest.mark.parametrize("kind", ["stall", "freeze"])
@pytest.mark.parametrize("seconds", [1.2, 3.5, 6.0, 7.73])
def test_found_session_gone_deaf(kind: str, seconds: float) -> None:
    """callrt sim --faults model: a session that had stopped listening owed nothing, and nobody noticed."""
    fault = Fault(kind, Trigger(connection=1, seconds=seconds))  # type: ignore[arg-type]
    case = Case(faults=(fault,), stall_seconds=2.0)
    assert run_case(case).violations == ()


def test_found_written_reply_stands_in_the_conversation() -> None:
    """callrt sim --faults model: the model went on after words that it had only written."""
    case = Case(faults=(Fault("text", Trigger(reply=2)),))
    assert run_case(case).violations == ()


def test_found_lease_lost_to_a_second_question() -> None:
    """callrt sim --faults everything: a stream's claim raced the record of a further offer, and the call was
    released as if another process had it."""
    case = Case(
        seed=177277263912895,
        caller=Caller(asks=(Ask("hours"), Ask("look"))),
        faults=(Drop("half_open", seconds=1.7, notice_seconds=8.0), DiskTrouble(0.29, 4.0, "busy")),
        latency=0.01,
        duplicate_webhooks=True,
    )
    assert run_case(case).violations == ()


@pytest.mark.parametrize(("how", "fault"), [("raise", "tool_failed"), ("hang", "tool_timed_out")])
def test_found_tool_faults_are_recorded(how: str, fault: str) -> None:
    """Coverage: two rows of the fault policy were never seen, because nobody wrote them down."""
    case = Case(caller=Caller(asks=(Ask("look"),)), faults=(ToolTrouble(0.0, how),))  # type: ignore[arg-type]
    assert fault in [kind.value for kind, _ in cells(play(case))]


@pytest.mark.parametrize("ms", [20, 200])
def test_found_greeting_that_failed_in_its_first_word_is_given_anew(ms: int) -> None:
    """callrt sim --seed 2 --call 57: asked for again without its words, the model said something else."""
    case = Case(faults=(Fault("fail", Trigger(reply=1, audio_ms=ms)),))
    assert run_case(case).violations == ()


def test_found_greeting_that_failed_before_its_first_word_is_given_anew() -> None:
    case = Case(faults=(Fault("fail", Trigger(reply=1), stage="created"),))
    assert run_case(case).violations == ()


@pytest.mark.parametrize("reply", [2, 3])
def test_found_poisoned_session_is_replaced_though_each_reply_begins(reply: int) -> None:
    """callrt sim --seed 2 --call 40: the first sound of each failing reply forgave the failure before it."""
    case = Case(faults=(Fault("poison", Trigger(connection=1, reply=reply), stage="audio"),))
    assert run_case(case).violations == ()


def test_found_claim_that_was_answered_with_an_error_is_ours_all_the_same() -> None:
    """callrt sim --seed 5 --call 42: fenced by its own lease, the call was dropped and taken up from the journal."""
    case = Case(
        seed=92626049623097,
        caller=Caller(asks=(Ask("book"),)),
        faults=(DiskTrouble(3.94, 4.0, "unsure"), Drop("stop", seconds=5.44, stream=1)),
        transcription="before",
        echo_delay=0.05,
    )
    assert run_case(case).violations == ()


@pytest.mark.parametrize("reply", [1, 2])
def test_found_reply_that_was_withheld_is_asked_for_again(reply: int) -> None:
    """Coverage, reply_failed × idle: incomplete without a sound (a content filter) was taken for an answer."""
    case = Case(faults=(Fault("incomplete", Trigger(reply=reply), reason="content_filter"),))
    assert run_case(case).violations == ()


@pytest.mark.parametrize("line", ["book", "look"])
def test_found_reply_with_a_tool_whose_end_never_comes_is_a_stall(line: str) -> None:
    """Coverage, model_stalled × tool_running: the model fell silent behind its tool call, and was waited for."""
    fault = Fault("stall", Trigger(event="response.output_item.done", count=2 if line == "book" else 3))
    case = Case(caller=Caller(asks=(Ask(line),)), faults=(fault,), stall_seconds=2.0)
    assert run_case(case).violations == ()


def test_found_stream_that_was_claimed_late_is_recorded_once() -> None:
    """Coverage, journal_unavailable × idle: a stream that came while the disk was full was recorded under its late
    claim, and then again under the lease of before."""
    full = Aimed(DiskTrouble(0.0, 3.0, "full"), "idle")
    dropped = Aimed(Drop("rst"), "idle", after=0.04)
    history = play(Case(seed=4, caller=Caller(asks=(Ask("price"),)), faults=(full, dropped)))
    attached = [entry.record for entry in history.of(StreamAttached)]
    assert [(record.generation, record.lease_epoch) for record in attached] == [(1, 1), (2, 2)]  # type: ignore[attr-defined]
    assert judge(history).violations == []


def test_found_stream_without_a_lease_is_not_recorded_behind_the_next_one() -> None:
    """callrt sim --seed 1 --call 187: the carrier asked again before the first of two streams had been claimed."""
    full = Aimed(DiskTrouble(0.0, 1.0, "full"), "idle")
    dropped = Aimed(Drop("rst"), "idle", after=0.04)
    again = Aimed(Repeat(0.0), "idle", after=0.5)
    history = play(Case(seed=4, caller=Caller(asks=(Ask("price"),)), faults=(full, dropped, again)))
    attached = [entry.record for entry in history.of(StreamAttached)]
    assert [(record.generation, record.lease_epoch) for record in attached] == [(1, 1), (3, 2)]  # type: ignore[attr-defined]
    assert judge(history).violations == []


def test_found_comfort_ends_when_the_next_session_owes_nothing() -> None:
    """callrt sim --seed 1 --call 330: replies that had been said to their end failed until the session was replaced;
    the next one owed nothing, and the caller heard "one moment please" every seven seconds."""
    poison = Fault("poison", Trigger(reply=2), stage="done", error_code="rate_limit_exceeded")
    history = play(Case(caller=Caller(asks=(Ask("price"),)), faults=(poison,)))
    assert judge(history).violations == []
    assert len(history.bundled) <= 3


def test_found_call_that_a_leaving_process_could_not_write_down_gets_its_end_from_the_next() -> None:
    """callrt sim --seed 1 --call 378: the disk was held by another process until after the drain."""
    drain, busy = Drain(1.85, 5.0, alone=True), DiskTrouble(6.29, 4.0, "busy")
    history = play(Case(caller=Caller(asks=(Ask("book"),)), faults=(drain, busy)))
    assert judge(history).violations == []
    assert history.outcome is not None
