"""Tells at the end how many instants were struck, and how many of them again because the machine was starved."""

from __future__ import annotations

from typing import Any


def pytest_terminal_summary(terminalreporter: Any) -> None:
    told = {"instants": 0, "struck_again": 0}
    for reports in terminalreporter.stats.values():
        for report in reports:
            if getattr(report, "when", "") == "call":
                for name, value in report.user_properties:
                    if name in told:
                        told[name] += int(value)
    if told["instants"]:
        terminalreporter.write_line(
            f"kill -9 at {told['instants']} instants; {told['struck_again']} of them were struck again, "
            "because this machine had kept their callers from running"
        )
