"""The fault policy covers everything that can go wrong in every turn state, and says what is heard."""

from __future__ import annotations

import itertools

import pytest

from callrt.policy.faults import POLICY, Audible, Then, respond
from callrt.policy.settings import Resilience
from callrt.protocol.faults import PERMANENT, FaultKind
from callrt.protocol.turn import OWES_REPLY, TurnState

PRODUCT = list(itertools.product(FaultKind, TurnState))


def test_policy_is_total() -> None:
    assert {(kind, state) for kind, row in POLICY.items() for state in row} == set(PRODUCT)


@pytest.mark.parametrize(("kind", "state"), PRODUCT)
def test_policy_says_by_when_what_must_be_heard(kind: FaultKind, state: TurnState) -> None:
    response = respond(kind, state)
    within = response.within_ms(Resilience(comfort_after_ms=300))
    must_be_heard = response.audible in (Audible.COMFORT, Audible.LAST_WORDS)
    assert within == (300 if must_be_heard else None)


@pytest.mark.parametrize(("kind", "state"), [p for p in PRODUCT if p[0].value.startswith("model")])
def test_failing_model_is_heard_only_where_a_reply_is_owed(kind: FaultKind, state: TurnState) -> None:
    response = respond(kind, state)
    if kind in PERMANENT:
        assert response.then is Then.HAND_OVER
        assert response.audible is Audible.LAST_WORDS
    else:
        assert response.then in (Then.CLIMB, Then.CLIMB_AFRESH)
        assert response.audible is (Audible.COMFORT if state in OWES_REPLY else Audible.NOTHING)


@pytest.mark.parametrize("state", TurnState)
def test_lost_stream_never_ends_a_call_by_itself(state: TurnState) -> None:
    for kind in (FaultKind.CARRIER_LOST, FaultKind.CARRIER_STOPPED, FaultKind.CARRIER_STALLED):
        assert respond(kind, state).then in (Then.AWAIT_CARRIER, Then.REDIRECT_CARRIER)


@pytest.mark.parametrize("state", TurnState)
def test_tools_and_journal_and_bad_input_are_not_heard(state: TurnState) -> None:
    for kind in (
        FaultKind.TOOL_FAILED,
        FaultKind.TOOL_TIMED_OUT,
        FaultKind.JOURNAL_UNAVAILABLE,
        FaultKind.BAD_INPUT,
        FaultKind.REQUEST_REJECTED,
    ):
        assert respond(kind, state).audible is Audible.NOTHING
