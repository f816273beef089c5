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
        "cpu_percent": 95.0,
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


@pytest.mark.parametrize("limit", [250, 400, 990, 5000])
def test_a_moment_of_a_busy_machine_does_not_end_a_search(limit, monkeypatch):
    lives: list[int] = []

    def run_program(name: str, asked: str, args: object, **_: object) -> list[dict[str, Any]]:
        lives.append(int(asked))
        seen = row(int(asked), limit=limit)
        if len(lives) % 3 == 2 and not seen["missing"]:
            seen |= {"missing": ["up late"], "cpu_percent": 40.0}
        return [seen]

    monkeypatch.setattr(media, "run_program", run_program)
    rows = [row(calls, limit=limit) for calls in (25, 100)]
    rows.append(row(200, limit=limit) | {"missing": ["down late"], "cpu_percent": 30.0})
    found = media.search("callrt", rows, argparse.Namespace(ramp=40.0))
    assert min(limit, media.MOST) / media.FINE <= found["carried"] <= limit
    assert lives[0] == 200
    assert found["at_least"] == (limit > media.MOST)


def test_a_number_that_fails_twice_has_failed(monkeypatch):
    monkeypatch.setattr(
        media,
        "run_program",
        lambda name, asked, args, **_: [row(int(asked), limit=120) | {"cpu_percent": 40.0}],
    )
    rows = [row(calls, limit=120) | {"cpu_percent": 40.0} for calls in (25, 100, 200)]
    found = media.search("callrt", rows, argparse.Namespace(ramp=40.0))
    assert 120 / media.FINE <= found["carried"] <= 120
