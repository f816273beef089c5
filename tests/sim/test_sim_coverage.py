"""The table of the unreachable and the policy agree; aims and recipes lead where they say."""

from __future__ import annotations

import random
from collections.abc import Iterator

import pytest
import trio

from callrt.policy.faults import POLICY
from callrt.protocol.faults import FaultKind
from callrt.protocol.turn import TurnState
from callrt.testing.model_faults import Fault
from callrt.testing.sim.aim import Sight
from callrt.testing.sim.case import Aimed, Ask, Caller, Case, Crash, Kill
from callrt.testing.sim.coverage import CELLS, REACHABLE, impossible, target, unreached
from callrt.testing.sim.nemesis import draw
from callrt.testing.sim.profiles import load_profile
from callrt.testing.sim.recipes import bend
from callrt.testing.sim.runner import case_of, run_case
from callrt.testing.sim.unreachable import UNREACHABLE, reasons

EVERYTHING = load_profile("everything")


def test_cells_are_the_whole_product_of_the_policy() -> None:
    assert set(CELLS) == {(kind, turn) for kind in FaultKind for turn in TurnState}
    assert len(CELLS) == sum(len(row) for row in POLICY.values()) == len(set(CELLS))


def test_unreachable_cells_are_cells_of_the_policy_each_named_once_with_a_reason() -> None:
    named = [(entry.kind, turn) for entry in UNREACHABLE for turn in entry.turns]
    assert len(named) == len(set(named)) == len(reasons())
    assert set(named) <= set(CELLS)
    for entry in UNREACHABLE:
        assert entry.why.endswith(".")
        assert len(entry.why.split()) > 5


def test_no_fault_is_unreachable_in_every_turn() -> None:
    for kind in FaultKind:
        assert any(cell[0] is kind for cell in REACHABLE), kind


def test_coverage_tells_what_is_missing_and_what_cannot_be() -> None:
    (gone, why), *_ = reasons().items()
    assert why
    reached = {(kind.value, turn.value): 1 for kind, turn in REACHABLE}
    assert unreached(reached) == []
    assert impossible(reached) == []
    first = REACHABLE[0]
    del reached[first[0].value, first[1].value]
    assert unreached(reached) == [f"{first[0].value} × {first[1].value}"]
    assert impossible([(gone[0].value, gone[1].value)]) == [f"{gone[0].value} × {gone[1].value}"]


def test_calls_are_aimed_at_each_reachable_cell_in_turn() -> None:
    assert {target(number) for number in range(len(REACHABLE))} == set(REACHABLE)


def test_every_cell_has_a_recipe_that_adds_a_fault_and_is_pure() -> None:
    for kind, turn in REACHABLE:
        case = draw(7, EVERYTHING)
        bent = bend(case, kind, turn, random.Random(1))
        assert bent == bend(case, kind, turn, random.Random(1))
        assert any(fault not in case.faults for fault in bent.faults), (kind, turn)


def test_every_other_call_of_everything_is_aimed_and_no_call_of_another_profile() -> None:
    assert case_of(1, 0, EVERYTHING) == draw(case_of(1, 0, EVERYTHING).seed, EVERYTHING)
    aimed = case_of(1, 1, EVERYTHING)
    assert aimed == bend(draw(aimed.seed, EVERYTHING), *target(0), random.Random(f"aim/{aimed.seed}"))
    model = load_profile("model")
    assert case_of(1, 1, model) == draw(case_of(1, 1, model).seed, model)


def tries(kind: FaultKind, turn: TurnState) -> Iterator[Case]:
    for number in range(6):
        rng = random.Random(f"try/{number}")
        yield bend(draw(rng.getrandbits(40), EVERYTHING), kind, turn, rng)


@pytest.mark.parametrize(
    ("kind", "turn"),
    [
        (FaultKind.MODEL_LOST, TurnState.CALLER_SPEAKING),
        (FaultKind.MODEL_STALLED, TurnState.TOOL_RUNNING),
        (FaultKind.CARRIER_STALLED, TurnState.AGENT_SPEAKING),
        (FaultKind.ACTOR_CRASHED, TurnState.AGENT_FINISHING),
        (FaultKind.JOURNAL_UNAVAILABLE, TurnState.IDLE),
        (FaultKind.TOOL_TIMED_OUT, TurnState.AGENT_SPEAKING),
        (FaultKind.REPLY_FAILED, TurnState.TOOL_RUNNING),
    ],
)
def test_rare_cell_is_reached_by_its_recipe(kind: FaultKind, turn: TurnState) -> None:
    assert any((kind.value, turn.value) in run_case(case).cells for case in tries(kind, turn))


async def test_sight_waits_for_its_turn_state_its_time_and_its_occurrence() -> None:
    aim = Aimed(Kill(0.0), "idle", nth=2, after=0.04)
    states = iter([None, TurnState.IDLE, TurnState.IDLE, TurnState.IDLE, TurnState.REPLY_OWED])
    sight = Sight((aim,), lambda: next(states, TurnState.IDLE))
    looks = []
    for number in range(9):
        left = sight.look(number * 0.02)
        looks.append((left, sight.reached[aim].is_set()))
        await trio.lowlevel.checkpoint()
    assert looks == [(True, False)] * 7 + [(False, True)] * 2


@pytest.mark.parametrize("fault", [Fault("close", code=1011), Crash(0.0, "playback")])
def test_aimed_fault_strikes_once_in_its_turn_state(fault: Fault | Crash) -> None:
    case = Case(seed=2, caller=Caller((Ask("price"),)), faults=(Aimed(fault, "agent_finishing", nth=2),))
    result = run_case(case)
    assert result.violations == ()
    assert len(result.faults) == 1
    assert [turn for kind, turn in result.cells if kind in ("model_lost", "actor_crashed")] == [
        "agent_finishing"
    ]
