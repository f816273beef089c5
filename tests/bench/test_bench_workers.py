"""Two workers beside one: how a share of a core is asked for, and what is made of the figures."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import workers
from quota import Quota


def row(name: str, calls: int, cost: float, each: list[float], *, held: bool = True) -> dict[str, Any]:
    tails = {f"{way}_{tail}_ms": 5.0 for way in ("up", "down") for tail in ("p95", "p99")}
    missing = [] if held else ["up late"]
    figures = {"cpu_ms_per_call_second": cost, "cpu_percent_each": each}
    return {"program": name, "calls": calls, "missing": missing} | figures | tails


def result(*carried: tuple[int, int]) -> dict[str, Any]:
    one, two = workers.NAMES
    rows = [
        row(one, 140, 2.0, [28.0]),
        row(one, 160, 2.1, [33.6]),
        row(two, 280, 2.2, [0.28, 30.0, 31.0]),
        row(two, 320, 9.9, [0.3, 40.0, 40.0], held=False),
    ]
    numbers = [
        {
            name: {"carried": number, "at_least": False}
            for name, number in zip(workers.NAMES, pair, strict=True)
        }
        for pair in carried
    ]
    return {"bound_ms": 20.0, "rows": rows, "carried": numbers}


def test_the_ratio_is_the_median_of_the_rounds_ratios():
    text = workers.report(result((100, 180), (160, 300), (120, 240)), Quota(0.4, 0))
    assert "**Two workers carried 1.88 times what one did** (1.80, 1.88, 2.00)." in text


def test_a_ratio_that_cannot_be_is_called_that():
    assert "busy" in workers.report(result((100, 190), (100, 250)), Quota(0.4, 0))
    assert "busy" not in workers.report(result((100, 190), (100, 205)), Quota(0.4, 0))


def test_a_round_in_which_one_worker_carried_nobody_has_no_ratio():
    assert "(2.00)" in workers.report(result((0, 100), (100, 200)), Quota(0.4, 0))
    assert "times what one did" not in workers.report(result((0, 100)), Quota(0.4, 0))


def test_cost_is_compared_at_the_same_number_of_calls_per_worker_and_only_where_both_held():
    assert workers.pairs(result()["rows"]) == [(140, 2.0, 2.2)]


def test_the_parent_is_the_first_process_and_a_single_worker_has_none():
    assert workers.parent_ms(row("callrt", 100, 2.0, [20.0])) == 0.0
    assert workers.parent_ms(row("callrt-two-workers", 200, 2.0, [2.0, 20.0, 20.0])) == pytest.approx(0.1)


# -- quotas --------------------------------------------------------------------------------------------------


def test_the_first_version_of_cgroups_is_told_period_and_quota(tmp_path: Path):
    (tmp_path / "cpu").mkdir()
    (tmp_path / "cpu" / "cpu.shares").write_text("1024")
    group = Quota(0.4, 0, root=tmp_path).make("bench")
    assert group == tmp_path / "cpu" / "bench"
    assert (group / "cpu.cfs_period_us").read_text() == "5000"
    assert (group / "cpu.cfs_quota_us").read_text() == "2000"


def test_the_second_version_is_told_both_at_once_and_to_control_the_processor(tmp_path: Path):
    (tmp_path / "cgroup.controllers").write_text("cpuset cpu io")
    (tmp_path / "cgroup.subtree_control").write_text("io")
    group = Quota(0.25, 0, root=tmp_path).make("bench")
    assert (group / "cpu.max").read_text() == "1250 5000"
    assert (tmp_path / "cgroup.subtree_control").read_text() == "+cpu"


def test_where_there_is_no_such_controller_the_reason_is_said(tmp_path: Path):
    assert "no cgroup" in Quota(0.4, 0, root=tmp_path).obstacle()
    (tmp_path / "cgroup.controllers").write_text("memory pids")
    assert "no cgroup" in Quota(0.4, 0, root=tmp_path).obstacle()


def test_the_longest_wait_of_the_quota_is_the_rest_of_a_period():
    assert Quota(0.4, 0).pause_ms == pytest.approx(3.0)
