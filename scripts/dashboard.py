"""Writes ops/dashboard/callrt.json: the Grafana dashboard as code, so that it can be reviewed and kept in step."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

PATH = Path(__file__).parent.parent / "ops" / "dashboard" / "callrt.json"

QUANTILES = "histogram_quantile({q}, sum(rate({metric}_bucket[$__rate_interval])) by (le))"

PANELS: list[tuple[str, str, list[tuple[str, str]]]] = [
    ("Live calls", "short", [("sum(callrt_calls_live)", "calls")]),
    (
        "Calls by outcome",
        "ops",
        [("sum(rate(callrt_calls_total[$__rate_interval])) by (outcome)", "{{outcome}}")],
    ),
    (
        "Restarts by actor",
        "ops",
        [
            (
                "sum(rate(callrt_actor_restarts_total[$__rate_interval])) by (actor, reason)",
                "{{actor}} {{reason}}",
            )
        ],
    ),
    (
        "Escalations",
        "ops",
        [("sum(rate(callrt_actor_escalations_total[$__rate_interval])) by (actor)", "{{actor}}")],
    ),
]
SPREADS = [
    ("Model recovery", "callrt_model_recovery_seconds"),
    ("Carrier recovery", "callrt_carrier_recovery_seconds"),
    ("Dead air", "callrt_dead_air_seconds"),
    ("Turn latency", "callrt_turn_latency_seconds"),
    ("Barge-in", "callrt_barge_in_seconds"),
    ("Caller's audio inside callrt", "callrt_uplink_delay_seconds"),
    ("Agent's audio inside callrt", "callrt_downlink_delay_seconds"),
    ("Journal commits", "callrt_journal_commit_seconds"),
    ("Event loop lag", "callrt_event_loop_lag_seconds"),
]
RATES = [
    ("Frames dropped", "callrt_frames_dropped_total", "direction, reason", "{{direction}} {{reason}}"),
    ("Bad input", "callrt_bad_input_total", "source, reason", "{{source}} {{reason}}"),
    ("Comfort lines", "callrt_comfort_played_total", "line", "{{line}}"),
    ("Hand-overs", "callrt_transfers_total", "reason", "{{reason}}"),
    ("Tools", "callrt_tool_seconds_count", "tool, status", "{{tool}} {{status}}"),
    ("Journal entries given up", "callrt_journal_entries_dropped_total", "", "entries"),
]


def panels() -> list[tuple[str, str, list[tuple[str, str]]]]:
    spreads = [
        (title, "s", [(QUANTILES.format(q=q, metric=metric), f"p{q * 100:g}") for q in (0.5, 0.99)])
        for title, metric in SPREADS
    ]
    rates = [
        (title, "ops", [(f"sum(rate({metric}[$__rate_interval]))" + (f" by ({by})" if by else ""), legend)])
        for title, metric, by, legend in RATES
    ]
    return [*PANELS, *spreads, *rates]


def dashboard() -> dict[str, Any]:
    return {
        "uid": "callrt",
        "title": "callrt",
        "schemaVersion": 39,
        "time": {"from": "now-3h", "to": "now"},
        "refresh": "30s",
        "templating": {"list": [{"name": "source", "type": "datasource", "query": "prometheus"}]},
        "panels": [
            {
                "id": number + 1,
                "type": "timeseries",
                "title": title,
                "datasource": {"type": "prometheus", "uid": "${source}"},
                "gridPos": {"w": 8, "h": 7, "x": number % 3 * 8, "y": number // 3 * 7},
                "fieldConfig": {"defaults": {"unit": unit, "min": 0}, "overrides": []},
                "targets": [
                    {"refId": chr(65 + index), "expr": expression, "legendFormat": legend}
                    for index, (expression, legend) in enumerate(targets)
                ],
            }
            for number, (title, unit, targets) in enumerate(panels())
        ],
    }


def written() -> str:
    return json.dumps(dashboard(), indent=1) + "\n"


if __name__ == "__main__":
    PATH.parent.mkdir(parents=True, exist_ok=True)
    PATH.write_text(written(), encoding="utf-8")
    print(PATH)
