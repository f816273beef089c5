"""Metrics, alerts, dashboard and runbook speak of the same things."""

from __future__ import annotations

import importlib.util
import json
import re
from pathlib import Path

import pytest

from callrt.protocol.faults import FaultKind
from callrt.service.metrics import Metrics

ROOT = Path(__file__).parent.parent.parent
ALERTS = (ROOT / "ops/alerts/callrt.yml").read_text("utf-8")
DASHBOARD = (ROOT / "ops/dashboard/callrt.json").read_text("utf-8")
RUNBOOK = (ROOT / "ops/runbook.md").read_text("utf-8")

SUFFIXES = ("_bucket", "_count", "_sum")


def metric_names() -> set[str]:
    return set(re.findall(r"^# TYPE (callrt_\w+)", Metrics().exposition().decode(), re.MULTILINE))


def used(text: str) -> set[str]:
    names = set(re.findall(r"callrt_[a-z_]+", text))
    out = set()
    for name in names:
        base = next((name.removesuffix(s) for s in SUFFIXES if name.endswith(s)), name)
        out.add(base if base in metric_names() else name)
    return out


@pytest.mark.parametrize("text", [ALERTS, DASHBOARD], ids=["alerts", "dashboard"])
def test_only_metrics_that_exist_are_asked_for(text: str) -> None:
    assert used(text) - metric_names() == set()


def test_every_fault_has_its_heading_in_the_runbook() -> None:
    headings = re.findall(r"^## (\w+)$", RUNBOOK, re.MULTILINE)
    assert sorted(headings) == sorted(kind.value for kind in FaultKind)


def test_every_alert_leads_to_a_heading_that_exists() -> None:
    headings = re.findall(r"^## (\w+)$", RUNBOOK, re.MULTILINE)
    links = re.findall(r"runbook: ops/runbook\.md#(\w+)", ALERTS)
    assert len(links) == ALERTS.count("- alert:")
    assert set(links) <= set(headings)


def test_every_alert_names_its_guarantee() -> None:
    groups = re.findall(r"name: callrt-g(\d+)-", ALERTS)
    assert [f"G{n}" for n in groups] == list(dict.fromkeys(re.findall(r"guarantee: (G\d+)", ALERTS)))


def test_dashboard_is_what_its_script_writes() -> None:
    spec = importlib.util.spec_from_file_location("dashboard_script", ROOT / "scripts/dashboard.py")
    assert spec is not None and spec.loader is not None  # noqa: PT018
    script = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(script)
    assert script.written() == DASHBOARD, "run: make dashboard"
    assert json.loads(DASHBOARD)["title"] == "callrt"
