"""What simulation has found stays found: each case once failed. See docs/found-by-chaos.md."""

from __future__ import annotations

import pytest

from callrt.testing.carrier import Drop
from callrt.testing.model_faults import Fault, Trigger
from callrt.testing.sim.case import Ask, Caller, Case, DiskTrouble, ToolTrouble
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
