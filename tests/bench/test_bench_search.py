"""The search for the largest number of calls: how it halves, and what it says of itself."""

from __future__ import annotations

import argparse
from typing import Any

import media
import pytest


def row(calls: int, *, limit: int, generator: int = 10_000) -> dict[str, Any]:
    missing = ["up late"] if calls > min(limit, generator) else []
    return {
        "program": "callrt",
        "calls": calls,
        "missing": missing,
        "generator_limit": calls > generator,
        "allowance_ms": 0.0,
    }


def searched(
    monkeypatch: pytest.MonkeyPatch, steps: list[int], **limits: int
) -> tuple[dict[str, Any], list[dict[str, Any]]]:
    def run_program(name: str, asked: str, args: object, **_: object) -> list[dict[str, Any]]:
        return [row(int(asked), **limits)]

    monkeypatch.setattr(media, "run_program", run_program)
    rows = [row(calls, **limits) for calls in steps]
    return media.search("callrt", rows, argparse.Namespace(ramp=40.0)), rows


@pytest.mark.parametrize("limit", [26, 99, 130, 199, 230])
def test_a_search_ends_within_six_percent_below_the_limit(limit, monkeypatch):
    found, rows = searched(monkeypatch, [25, 100, 200, 231], limit=limit)
    assert limit / media.FINE <= found["carried"] <= limit
    assert not found["at_least"]
    assert all(new["searching"] for new in rows[4:])


def test_a_search_that_never_failed_says_at_least(monkeypatch):
    found, _ = searched(monkeypatch, [25, 100], limit=1000)
    assert found == {"carried": 100, "at_least": True, "why": "no more were tried"}


def test_a_search_that_the_generator_ended_says_so(monkeypatch):
    found, _ = searched(monkeypatch, [25, 100, 200], limit=1000, generator=150)
    assert found["at_least"]
    assert found["why"] == "the generator was the limit"


def test_a_program_that_carries_nobody_carries_none(monkeypatch):
    found, rows = searched(monkeypatch, [25], limit=1)
    assert found["carried"] == 0
    assert len(rows) == 1
