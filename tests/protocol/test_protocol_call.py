"""Laws of the fold: total, incremental, idempotent; and what each record means."""

from __future__ import annotations

import msgspec
import pytest
from call_records import ENTRIES, KINDS, numbered
from hypothesis import given
from hypothesis import strategies as st

from callrt.protocol import call as call_module
from callrt.protocol.call import CallState, apply, fold
from callrt.protocol.records import (
    ActorRestarted,
    AgentSaid,
    CallAccepted,
    CallEnded,
    CallerSaid,
    DigitReceived,
    Entry,
    FaultSeen,
    LinePlayed,
    ModelSessionEnded,
    ModelSessionOpened,
    Record,
    StreamAttached,
    StreamDetached,
    StreamOffered,
    ToolFinished,
    ToolIntended,
    TransferFailed,
    TransferRequested,
    UnknownRecord,
)
from callrt.protocol.replay import SaidByAgent, SaidByCaller, UsedTool

ACCEPTED = CallAccepted(carrier="twilio", agent="front-desk", caller="+15550100001", called="+15550100002")


def folded(*records: Record) -> CallState:
    return fold(numbered(list(records)))


def attached(generation: int, stream_sid: str = "") -> StreamAttached:
    return StreamAttached(
        stream_sid=stream_sid or f"MZ{generation}", generation=generation, lease_epoch=generation
    )


def intended(call_id: str, key: str = "k") -> ToolIntended:
    return ToolIntended(call_id=call_id, name="book", arguments="{}", idempotency_key=key, side_effects=True)


# ---- the fold as such


@given(ENTRIES)
def test_fold_is_apply_one_by_one(entries: list[Entry]) -> None:
    state = CallState()
    for entry in entries:
        state = apply(state, entry)
    assert state == fold(entries)


@given(ENTRIES, st.integers(0, 30))
def test_fold_of_a_prefix_goes_on_with_the_rest(entries: list[Entry], cut: int) -> None:
    state = fold(entries[:cut])
    for entry in entries[cut:]:
        state = apply(state, entry)
    assert state == fold(entries)


@given(ENTRIES, st.data())
def test_fold_ignores_numbers_it_has_seen(entries: list[Entry], data: st.DataObject) -> None:
    whole = fold(entries)
    if entries:
        again = data.draw(st.lists(st.sampled_from(entries)))
        assert fold([*entries, *again]) == whole
        twice = [entry for entry in entries for _ in range(2)]
        assert fold(twice) == whole


@given(ENTRIES)
def test_fold_keeps_its_invariants_whatever_the_order(entries: list[Entry]) -> None:
    state = CallState()
    for entry in entries:
        before, state = state, apply(state, entry)
        assert state.last_number == entry.number
        assert state.attached_generation >= before.attached_generation
        assert state.offered_generation >= state.attached_generation
        assert state.lease_epoch >= before.lease_epoch
        assert (state.outcome is None) == (state.ended_at is None)
        if before.outcome is not None:
            assert state.state == "ended"
            assert state.ended_at == before.ended_at
            assert state.outcome == before.outcome or before.outcome == "transferred"
        keys = [(line.role, line.item_id) for line in state.lines]
        assert len(keys) == len(set(keys))
        assert len(state.history) == len(state.lines) + len(state.tools)
        assert all(part.detached_at is not None for part in state.streams[:-1])
    assert state.missing == 0


@given(ENTRIES, st.sets(st.integers(1, 30)))
def test_fold_counts_what_is_missing(entries: list[Entry], lost: set[int]) -> None:
    left = [entry for entry in entries if entry.number not in lost]
    state = fold(left)
    assert state.missing == state.last_number - len(left)


def test_fold_without_entries_has_no_call() -> None:
    assert fold([]) == CallState()
    assert fold([]).call_sid == ""


def test_fold_skips_and_counts_records_of_the_future() -> None:
    with_future = folded(ACCEPTED, UnknownRecord(tag_seen="moon_phase"), CallEnded(outcome="completed"))
    assert with_future.unknown == 1
    assert with_future.outcome == "completed"


@pytest.mark.parametrize("kind", KINDS, ids=lambda kind: kind.__name__)
def test_fold_knows_every_kind(kind: type[Record]) -> None:
    """A record kind that ``apply`` forgets would count as one of the future."""
    values = {str: "a", int: 1, bool: False}
    fields = msgspec.structs.fields(kind)
    record = kind(**{field.name: values[field.type] for field in fields})
    assert folded(record).unknown == 0


def test_fold_refuses_entries_of_another_call() -> None:
    with pytest.raises(AssertionError):
        fold([Entry("CA1", 1, 0.0, ACCEPTED), Entry("CA2", 2, 0.0, ACCEPTED)])


# ---- the call's life


def test_call_is_accepted_once() -> None:
    state = folded(ACCEPTED, CallAccepted(carrier="x", agent="y", caller="z", called="z"))
    assert (state.carrier, state.agent, state.ignored) == ("twilio", "front-desk", 1)
    assert state.started_at == 1_001.0
    assert state.state == "live"


def test_call_ends_once() -> None:
    state = folded(ACCEPTED, CallEnded(outcome="silence"), CallEnded(outcome="completed"))
    assert (state.outcome, state.ended_at, state.state) == ("silence", 1_002.0, "ended")


@pytest.mark.parametrize(
    ("reason", "outcome"), [("model_unavailable", "model_unavailable"), ("asked", "failed")]
)
@pytest.mark.parametrize("order", ["failed_last", "ended_last"])
def test_transfer_that_fails_changes_the_outcome(reason: str, outcome: str, order: str) -> None:
    last: list[Record] = [CallEnded(outcome="transferred"), TransferFailed(status="busy")]
    if order == "ended_last":
        last.reverse()
    state = folded(ACCEPTED, TransferRequested(to="+1", reason=reason, summary="s"), *last)
    assert (state.outcome, state.transfer_failed) == (outcome, "busy")


def test_transfer_that_fails_leaves_other_outcomes() -> None:
    request = TransferRequested(to="+1", reason="asked", summary="s")
    state = folded(ACCEPTED, request, CallEnded(outcome="caller_hung_up"), TransferFailed(status="busy"))
    assert state.outcome == "caller_hung_up"


def test_transfer_asked_for_again_is_not_failed_yet() -> None:
    request = TransferRequested(to="+1", reason="asked", summary="s")
    state = folded(ACCEPTED, request, TransferFailed(status="busy"), request)
    assert state.transfer == request
    assert state.transfer_failed is None


def test_transfer_nobody_asked_for_cannot_fail() -> None:
    state = folded(ACCEPTED, TransferFailed(status="busy"))
    assert (state.transfer_failed, state.ignored) == (None, 1)


# ---- what was said


def test_line_keeps_its_place_and_takes_the_last_words() -> None:
    state = folded(
        CallerSaid(item_id="i1", text="", final=False),
        AgentSaid(item_id="i2", text="Hel", heard_ms=200),
        CallerSaid(item_id="i1", text="Good morning"),
        AgentSaid(item_id="i2", text="Hello", heard_ms=400, complete=True),
    )
    assert [(line.text, line.heard_ms, line.complete, line.at) for line in state.lines] == [
        ("Good morning", 0, True, 1_001.0),
        ("Hello", 400, True, 1_002.0),
    ]


def test_line_of_the_caller_does_not_lose_its_words() -> None:
    state = folded(CallerSaid(item_id="i1", text="yes"), CallerSaid(item_id="i1", text=""))
    assert state.lines[0].text == "yes"


def test_line_of_the_agent_may_shrink_to_what_was_heard() -> None:
    state = folded(
        AgentSaid(item_id="i1", text="Hello there", heard_ms=900),
        AgentSaid(item_id="i1", text="Hello", heard_ms=400, interrupted=True),
    )
    assert (state.lines[0].text, state.lines[0].interrupted) == ("Hello", True)


def test_line_items_of_caller_and_agent_do_not_mix() -> None:
    state = folded(CallerSaid(item_id="i1", text="a"), AgentSaid(item_id="i1", text="b", heard_ms=20))
    assert [line.text for line in state.lines] == ["a", "b"]


def test_history_is_in_the_order_of_beginnings() -> None:
    state = folded(
        ACCEPTED,
        AgentSaid(item_id="g", text="Hello", heard_ms=500),
        CallerSaid(item_id="c", text=""),
        intended("t1"),
        AgentSaid(item_id="g", text="Hello.", heard_ms=600, complete=True),
        ToolFinished(call_id="t1", status="ok", output="42"),
        CallerSaid(item_id="c", text="Book it"),
        intended("t2", "k2"),
    )
    assert state.history == (
        SaidByAgent("g", "Hello.", complete=True),
        SaidByCaller("c", "Book it"),
        UsedTool("t1", "book", "{}", "42", "ok"),
        UsedTool("t2", "book", "{}", None, ""),
    )


# ---- streams and sessions


def test_stream_is_detached_by_its_record() -> None:
    state = folded(
        StreamOffered(generation=1),
        attached(1),
        StreamDetached(stream_sid="MZ1", generation=1, reason="stopped"),
    )
    assert state.stream is None
    assert (state.streams[0].detached_at, state.streams[0].reason) == (1_003.0, "stopped")


def test_stream_of_a_killed_process_is_over_when_the_next_attaches() -> None:
    state = folded(attached(1), attached(2))
    assert [(part.reason, part.detached_at) for part in state.streams] == [("lost", 1_002.0), (None, None)]
    assert state.stream is not None
    assert (state.attached_generation, state.lease_epoch) == (2, 2)


def test_stream_end_on_record_beats_the_one_inferred() -> None:
    state = folded(attached(1), attached(2), StreamDetached(stream_sid="MZ1", generation=1, reason="retired"))
    assert (state.streams[0].reason, state.streams[0].detached_at) == ("retired", 1_003.0)


def test_stream_attached_twice_is_one_stream() -> None:
    again = StreamAttached(stream_sid="MZ1", generation=1, lease_epoch=2)
    state = folded(attached(1), again)
    assert len(state.streams) == 1
    assert state.lease_epoch == 2


def test_stream_unknown_is_not_detached() -> None:
    state = folded(attached(1), StreamDetached(stream_sid="MZ9", generation=1, reason="closed"))
    assert state.ignored == 1
    assert state.stream is not None


def test_session_of_a_rotation_ends_by_its_own_record() -> None:
    state = folded(
        ModelSessionOpened(number=1),
        ModelSessionOpened(number=2),
        ModelSessionEnded(number=1, reason="rotated"),
    )
    assert [(session.ended_at, session.reason) for session in state.model_sessions] == [
        (1_003.0, "rotated"),
        (None, None),
    ]


def test_end_of_the_call_ends_what_is_open() -> None:
    state = folded(attached(1), ModelSessionOpened(number=1), CallEnded(outcome="completed"))
    assert state.streams[0].reason == "ended"
    assert state.model_sessions[0].ended_at == state.ended_at == 1_003.0


# ---- tools and the rest


def test_tool_has_one_end() -> None:
    state = folded(
        intended("t"),
        ToolFinished(call_id="t", status="timeout", output="late"),
        ToolFinished(call_id="t", status="ok", output="42"),
    )
    assert (state.tools[0].status, state.ignored) == ("timeout", 1)


def test_tool_end_that_was_unknown_may_become_known() -> None:
    state = folded(
        intended("t"),
        ToolFinished(call_id="t", status="unknown", output=""),
        ToolFinished(call_id="t", status="ok", output="42"),
    )
    assert (state.tools[0].status, state.tools[0].output) == ("ok", "42")


def test_tool_intended_twice_is_one_use() -> None:
    assert len(folded(intended("t"), intended("t")).tools) == 1


def test_tool_call_id_used_again_for_something_else_is_another_use() -> None:
    state = folded(
        intended("t", "k1"), ToolFinished(call_id="t", status="ok", output="1"), intended("t", "k2")
    )
    assert [tool.status for tool in state.tools] == ["ok", None]


def test_facts_are_kept_in_order() -> None:
    state = folded(
        ActorRestarted(actor="model", reason="closed"),
        FaultSeen(fault="model_closed", turn="speaking", detail="1006"),
        LinePlayed(line="one_moment"),
        DigitReceived(count=2),
        DigitReceived(),
    )
    assert (state.restarts[0].actor, state.faults[0].detail, state.lines_played[0].line, state.digits) == (
        "model",
        "1006",
        "one_moment",
        3,
    )


def test_facts_are_bounded_and_the_oldest_are_left_out() -> None:
    flood = [FaultSeen(fault=f"f{number}", turn="idle") for number in range(call_module.FACTS_MAX + 3)]
    state = folded(*flood)
    assert len(state.faults) == call_module.FACTS_MAX
    assert state.faults[0].fault == "f3"
    assert state.left_out == 3


def test_state_is_a_value() -> None:
    state = folded(ACCEPTED)
    with pytest.raises(AttributeError):
        state.agent = "other"  # type: ignore[misc]
