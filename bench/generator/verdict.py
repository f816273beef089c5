"""Is this the quality that is asked for, and if not, whose fault is it?"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

GENERATOR_CPU_PERCENT = 93.0
GENERATOR_LATE_MS = 5.0
"""Frames that leave the generator later than this come in bursts, which no telephone would send."""


def shortfalls(
    row: Mapping[str, Any],
    bound_ms: float,
    *,
    allowance_ms: float = 0.0,
    steady: bool = True,
    tail: str = "p99",
) -> list[str]:
    """What is missing; nothing, if the quality is there.

    ``allowance_ms``: latency that the program has without any load, by its own choice (buffers, filters). ``steady``:
    audio must not run dry in mid-reply; programs that hand audio on in real time cannot promise it.
    """
    found = []
    if row["live"] != row["calls"] or row["ended"] or row["failed_starts"]:
        found.append("calls ended")
    if row["lost_up_frames"]:
        found.append("frames lost")
    if steady and row["starved_ms"] > 0:
        found.append("starved")
    if row["frames"] and not row["frames_heard"]:
        found.append("nothing heard")
    for way in ("up", "down"):
        late = row[f"{way}_{tail}_ms"]
        if late is not None and late > bound_ms + allowance_ms:
            found.append(f"{way} late")
    return found


def generator_was_the_limit(row: Mapping[str, Any]) -> bool:
    """Then the figures say nothing about the program beyond that it carried at least what was carried before."""
    late = row["generator_late_p99_ms"]
    return row["generator_cpu_percent"] > GENERATOR_CPU_PERCENT or (
        late is not None and late > GENERATOR_LATE_MS
    )
