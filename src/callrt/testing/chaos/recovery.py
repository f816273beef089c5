"""What faults cost the caller, told from the sound."""

from __future__ import annotations

from collections.abc import Sequence

from callrt.testing.sim.history import History

AFTERMATH_SECONDS = 12.0


def recoveries(history: History) -> list[float]:
    """Per fault the longest silence between two words of one answer after it struck."""
    found = []
    for struck in history.struck:
        gaps = [
            later.began - earlier.ended
            for earlier, later in zip(history.words, history.words[1:], strict=False)
            if earlier.line == later.line
            and struck.at - 0.5 <= earlier.ended <= struck.at + AFTERMATH_SECONDS
            and later.began >= struck.at
        ]
        if gaps:
            found.append(max(0.0, max(gaps)))
    return found


def percentile(values: Sequence[float], part: float) -> float:
    """Of sorted values; 0 when there are none."""
    return values[min(len(values) - 1, round(part * (len(values) - 1)))] if values else 0.0
