"""Tells at the end how many instants were struck, and how many of them again because the machine was starved."""

from __future__ import annotations

from collections import Counter
from typing import Any


def pytest_terminal_summary(terminalreporter: Any) -> None:
    told: Counter[str] = Counter()
    for reports in terminalreporter.stats.values():
        for report in reports:
            if getattr(report, "when", "") == "call":
                for name, value in report.user_properties:
                    told[name] += int(value)
    for what, again in (("instants", "struck_again"), ("deploys", "deployed_again")):
        if told[what]:
            terminalreporter.write_line(
                f"crash: {told[what]} {what}; {told[again]} of them gone through again, because the machine had "
                "kept callers or service from running"
            )
