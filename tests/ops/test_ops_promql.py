"""Every question that alerts and dashboard ask of Prometheus can be parsed and answered by what callrt exposes."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import promql_parser as promql
import pytest
import yaml
from prometheus_client import Counter, Gauge, Histogram

from callrt.service.metrics import Metrics

ROOT = Path(__file__).parent.parent.parent
RULES: dict[str, Any] = yaml.safe_load((ROOT / "ops/alerts/callrt.yml").read_text("utf-8"))
CASES: dict[str, Any] = yaml.safe_load((ROOT / "ops/alerts/callrt.test.yml").read_text("utf-8"))
DASHBOARD: dict[str, Any] = json.loads((ROOT / "ops/dashboard/callrt.json").read_text("utf-8"))

ALERTS = [rule for group in RULES["groups"] for rule in group["rules"]]
QUESTIONS = [
    *(rule["expr"] for rule in ALERTS),
    *(target["expr"] for panel in DASHBOARD["panels"] for target in panel["targets"]),
]
SUFFIXES = {Counter: ("_total",), Gauge: ("",), Histogram: ("_bucket", "_count", "_sum")}


def parsed(question: str) -> promql.Expr:
    return promql.parse(question.replace("$__rate_interval", "5m"))


def exposed() -> dict[str, set[str]]:
    """Sample name to its labels."""
    found: dict[str, set[str]] = {}
    for metric in Metrics().registry._names_to_collectors.values():
        for suffix in SUFFIXES.get(type(metric), ()):
            labels = set(metric._labelnames) | ({"le"} if suffix == "_bucket" else set())
            found[metric._name + suffix] = labels
    return found


def parts(expression: Any) -> Iterator[Any]:
    """The expression and everything in it."""
    yield expression
    for name in ("lhs", "rhs", "expr"):
        part = getattr(expression, name, None)
        if part is not None:
            yield from parts(part)
    for part in getattr(expression, "args", ()):
        yield from parts(part)


def selectors(expression: Any) -> Iterator[promql.VectorSelector]:
    for part in parts(expression):
        if isinstance(part, promql.MatrixSelector):
            yield part.vector_selector
        elif isinstance(part, promql.VectorSelector):
            yield part


@pytest.mark.parametrize("question", QUESTIONS)
def test_every_question_can_be_parsed_and_asks_for_what_there_is(question: str) -> None:
    names = exposed()
    expression = parsed(question)
    asked = list(selectors(expression))
    assert asked
    for selector in asked:
        assert selector.name in names, selector.name
        matched = {matcher.name for matcher in selector.matchers.matchers}
        assert matched <= names[selector.name], f"{selector.name} has no label {matched}"
    for part in parts(expression):
        if isinstance(part, promql.AggregateExpr) and part.modifier is not None:
            for selector in selectors(part):
                assert set(part.modifier.labels) <= names[selector.name]


@pytest.mark.parametrize("question", QUESTIONS)
def test_quantiles_are_taken_of_buckets_and_rates_of_what_only_grows(question: str) -> None:
    for part in parts(parsed(question)):
        if not isinstance(part, promql.Call):
            continue
        if part.func.name == "histogram_quantile":
            assert all(selector.name.endswith("_bucket") for selector in selectors(part))
        if part.func.name in ("rate", "increase"):
            assert all(
                selector.name.endswith(("_total", "_bucket", "_count", "_sum"))
                for selector in selectors(part)
            )


def test_a_question_with_a_slip_is_noticed() -> None:
    with pytest.raises(ValueError, match="unclosed"):
        parsed("sum(rate(callrt_calls_total[5m])")
    assert "callrt_dead_air" not in exposed()


@pytest.mark.parametrize("rule", ALERTS, ids=[rule["alert"] for rule in ALERTS])
def test_every_alert_says_how_grave_it_is_and_what_to_do(rule: dict[str, Any]) -> None:
    assert rule["labels"]["severity"] in ("page", "ticket")
    assert rule["annotations"]["summary"].endswith(".")
    assert rule["annotations"]["runbook"].startswith("ops/runbook.md#")
    assert promql.parse_duration(rule["for"]).total_seconds() > 0


def test_every_alert_is_seen_to_fire() -> None:
    fired = {
        case["alertname"]
        for test in CASES["tests"]
        for case in test["alert_rule_test"]
        if case.get("exp_alerts")
    }
    assert fired == {rule["alert"] for rule in ALERTS}
