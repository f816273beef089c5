"""Medians over rounds, tables, and the regression check."""

from __future__ import annotations

from typing import Any

import pytest
from check import ratios, regressions
from environments import Unavailable, interpreter_of, names
from media import conclusions
from programs import PROGRAMS
from report import medians, plot, relative, table


def row(program: str, calls: int, cpu: float, **more: Any) -> dict[str, Any]:
    return {
        "program": program,
        "calls": calls,
        "kills_per_second": 0,
        "cpu_ms_per_call_second": cpu,
        "cpu_percent": cpu * calls / 10,
        "memory_kb_per_call": 100.0,
        "up_p99_ms": 2.0,
        "down_p99_ms": None,
        "missing": [],
        "generator_limit": False,
        "generator_cpu_percent": 50.0,
        "generator_late_p99_ms": 0.2,
    } | more


def test_a_round_that_was_disturbed_does_not_move_the_median():
    rows = [row("callrt", 100, cpu) for cpu in (2.0, 9.0, 2.2)]
    (middle,) = medians(rows)
    assert middle["cpu_ms_per_call_second"] == 2.2
    assert middle["rounds"] == 3
    assert middle["down_p99_ms"] is None


def test_what_was_missing_in_any_round_is_told():
    rows = [row("callrt", 100, 2.0), row("callrt", 100, 2.0, missing=["up late"], generator_limit=True)]
    (middle,) = medians(rows)
    assert middle["missing"] == ["up late"]
    assert middle["generator_limit"]
    assert "up late" in table([middle])


def test_rows_with_kills_stand_beside_those_without():
    rows = medians([row("callrt", 100, 2.0), row("callrt", 100, 2.4, kills_per_second=10)])
    assert [r["kills_per_second"] for r in rows] == [0, 10]
    assert "100 (+10 kills/s)" in table(rows)


def test_programs_stay_in_the_order_in_which_they_ran():
    rows = medians([row("uvloop-plain", 100, 4.0), row("callrt", 25, 2.0), row("callrt", 100, 2.0)])
    assert [(r["program"], r["calls"]) for r in rows] == [
        ("uvloop-plain", 100),
        ("callrt", 25),
        ("callrt", 100),
    ]


def test_what_is_relative_leaves_out_who_fell_behind():
    rows = [
        row("callrt", 5, 3.0),
        row("callrt", 25, 2.0),
        row("callrt", 400, 1.5),
        row("pipecat", 5, 30.0, memory_kb_per_call=9000.0),
        row("pipecat", 25, 20.0, memory_kb_per_call=250.0),
        row("pipecat", 400, 2.5),
    ]
    lines = relative(rows, {"callrt": 600, "pipecat": 60}, "callrt").splitlines()
    assert lines[2] == "| callrt | 1.00 | 1.00 | 1.00 | 1.00 | 1.00 |"
    assert lines[3] == "| pipecat | 10.00 | 10.00 |  | 2.50 | 0.10 |"


def test_only_what_was_measured_in_the_same_round_is_compared():
    rows = [
        row("callrt", 100, 4.0, round=1),
        row("uvloop-plain", 100, 6.0, round=1),
        row("callrt", 100, 2.0, round=2),
        row("callrt", 100, 2.0, round=3),
    ]
    assert relative(rows, {}, "callrt").splitlines()[3].startswith("| uvloop-plain | 1.50 |")


def test_a_plot_shows_every_program():
    svg = plot(medians([row("callrt", 25, 2.0), row("pipecat", 25, 20.0)]), 20.0)
    assert svg.count("<polyline") == 4
    assert "pipecat" in svg


def test_a_search_that_the_generator_ended_says_at_least():
    found = [{"carried": 700, "at_least": True, "why": "the generator was the limit"}]
    result = {"carried": {"callrt": found}, "left_out": {"pipecat": "no network"}, "rows": []}
    first, second = conclusions(result)[:2]
    assert first == "callrt: at least 700 calls on one core within the bound (the generator was the limit)"
    assert second == "pipecat: left out: no network"


@pytest.mark.parametrize(
    ("found", "worse"),
    [({"cpu": 0.59}, 0), ({"cpu": 0.61}, 1), ({}, 1), ({"cpu": 0.2}, 0)],
)
def test_a_ratio_is_worse_beyond_the_tolerance_or_when_it_is_not_there(found, worse):
    assert len(regressions(found, {"cpu": 0.5}, 0.2)) == worse


def test_ratios_are_those_of_the_asked_number_of_calls():
    rows = [row("callrt", 25, 9.0), row("callrt", 100, 2.0), row("uvloop-plain", 100, 4.0)]
    assert ratios(rows, 100) == {"cpu": 0.5, "memory": 1.0}


def test_every_other_project_has_its_script_and_its_requirements():
    wanted = {setup.environment for setup in PROGRAMS.values() if setup.environment}
    assert wanted == set(names())


def test_an_environment_that_was_not_made_is_unavailable():
    with pytest.raises(Unavailable, match="make bench-peers"):
        interpreter_of("no-such-project")
