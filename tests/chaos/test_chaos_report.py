"""The report says what happened: held, violated, or that the machine was too busy to tell."""

from __future__ import annotations

from pathlib import Path

import attrs
import pytest

from callrt.testing.chaos.messages import CallReport, Late
from callrt.testing.chaos.recovery import percentile
from callrt.testing.chaos.report import SHOWN, summary, told, write_report, write_traces
from callrt.testing.chaos.scenario import Scenario
from callrt.testing.chaos.slopes import slope, trend
from callrt.testing.chaos.soak import MEMORY_PER_CALL, Sample, SoakReport, trends
from callrt.testing.chaos.stage import ChaosReport
from callrt.testing.sim.checkers import Judgement, Violation

HELD = Judgement({}, (), {"G1": 3, "G10": 1, "G2": 0})
BROKEN = Judgement({}, (Violation("G1", "answers_are_whole", "a | word"),) * (SHOWN + 2), {"G1": 10})
CALL = CallReport(0, "caller_hung_up", ("model close",), (0.5, 1.5), 40, 1, HELD)
REPORT = ChaosReport(
    Scenario("model_dies", "The model dies."), (CALL,), 20.0, Late(0.02, 0.01), ("kill -9",), 9, 9, ()
)


def test_report_of_what_held(tmp_path: Path) -> None:
    text = "\n".join(told(REPORT))
    assert "model close, kill -9" in text
    assert "1 calls (1 caller_hung_up), 40 words, 1 bundled lines" in text
    assert "p50 0.50 s, p99 1.50 s" in text
    assert "G1 3, G10 1" in text
    assert "VIOLATED" not in text
    assert summary([REPORT]) == "all held in 1 scenarios, 1 calls, 2 faults"
    write_report(tmp_path / "REPORT.md", [REPORT])
    assert "| model_dies | model close, kill -9 |" in (tmp_path / "REPORT.md").read_text("utf-8")


def test_report_of_what_was_violated_is_bounded_and_fits_its_table(tmp_path: Path) -> None:
    report = attrs.evolve(REPORT, calls=(attrs.evolve(CALL, judgement=BROKEN),), trouble=("status 1",))
    assert not report.ok
    assert "VIOLATED   3 times more" in told(report)[-1]
    assert summary([REPORT, report]) == "violated in: model_dies"
    write_report(tmp_path / "REPORT.md", [report])
    (row,) = [
        line for line in (tmp_path / "REPORT.md").read_text("utf-8").splitlines() if "model_dies |" in line
    ]
    assert row.count("|") == 9
    assert "violated: G1 in call 0: a / word" in row


def test_report_of_a_machine_that_was_too_busy_is_no_verdict() -> None:
    for report in (REPORT, attrs.evolve(REPORT, calls=(attrs.evolve(CALL, judgement=BROKEN),))):
        busy = attrs.evolve(report, late=Late(2.0, 0.01))
        text = "\n".join(told(busy))
        assert not busy.fit
        assert "too busy" in text
        assert "VIOLATED" not in text
        assert summary([busy]) == "no verdict on this machine in: model_dies"


def test_a_disk_that_stood_still_is_no_verdict() -> None:
    assert not attrs.evolve(REPORT, late=Late(0.02, 0.01, disk=4.0)).fit


def test_traces_of_an_earlier_run_are_forgotten(tmp_path: Path) -> None:
    folder = tmp_path / "traces"
    broken = attrs.evolve(REPORT, calls=(attrs.evolve(CALL, trace="what happened"),))
    (path,) = write_traces(folder, broken)
    assert path.read_text("utf-8") == "what happened"
    assert write_traces(folder, REPORT) == []
    assert not path.exists()


def test_percentile_of_nothing_is_nothing() -> None:
    assert percentile([], 0.99) == 0.0
    assert percentile([1.0, 2.0, 3.0], 0.5) == 2.0
    assert percentile([1.0, 2.0, 3.0], 0.99) == 3.0


def test_slope_is_not_moved_by_a_wild_sample() -> None:
    assert slope([0, 10, 20, 30, 40], [5, 5, 900, 5, 5]) == pytest.approx(0.0)
    assert slope([0, 10, 20, 30, 40], [0, 20, 40, 900, 80]) == pytest.approx(2.0)
    assert slope([3], [1]) == 0.0


def test_what_grows_by_a_little_per_call_is_noticed() -> None:
    calls = [30 * n for n in range(1, 9)]
    leak = [50e6 + 2 * MEMORY_PER_CALL * count for count in calls]
    assert not trend("memory", "bytes", calls, leak, MEMORY_PER_CALL).flat
    assert trend("memory", "bytes", calls, [50e6] * len(calls), MEMORY_PER_CALL).flat


def test_soak_holds_only_when_nothing_grows_and_nothing_was_violated() -> None:
    flat = [Sample(30 * n, 60_000_000, 12, 40, 90_000) for n in range(1, 6)]
    tasks = [attrs.evolve(sample, tasks=40 + n) for n, sample in enumerate(flat)]
    assert SoakReport((), tuple(flat), trends(flat), 0, ()).ok
    assert not SoakReport((), tuple(tasks), trends(tasks), 0, ()).ok
    assert not SoakReport((), tuple(flat), trends(flat), 0, ("call 3 ended as failed",)).ok
