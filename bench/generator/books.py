"""The operating system's books on the program under test, and the figures of one window."""

from __future__ import annotations

import os
import re
import time
from array import array
from typing import Any

import numpy as np

from generator.phone import Calls
from generator.world import Window, World, now

Row = dict[str, Any]


def cpu_seconds(pid: int) -> float:
    """User and system time."""
    with open(f"/proc/{pid}/stat") as file:
        fields = file.read().rpartition(")")[2].split()
    return (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")


def memory_kb(pids: list[int]) -> int:
    total = 0
    for pid in pids:
        with open(f"/proc/{pid}/status") as file:
            found = re.search(r"VmRSS:\s+(\d+)", file.read())
        total += int(found[1]) if found else 0
    return total


def quantile(values: array[float], q: float) -> float | None:
    """In milliseconds."""
    if not values:
        return None
    place = min(len(values) - 1, int(q * len(values)))
    # Sorting a million floats of Python's would stop all calls for a second.
    return round(float(np.partition(np.frombuffer(values), place)[place]) * 1000, 2)


def measure(world: World, calls: Calls, pids: list[int], seconds: float) -> Row:
    """What one window of so many seconds shows."""
    started, failed = world.window.startup, world.failed_starts
    world.window = window = Window()
    window.startup = started
    before = [cpu_seconds(pid) for pid in pids]
    wall, own = now(), time.process_time()
    world.run(seconds)
    wall, own = now() - wall, time.process_time() - own
    spent = [cpu_seconds(pid) - was for pid, was in zip(pids, before, strict=True)]
    cpu, live = sum(spent), len(calls.live)
    world.failed_starts = 0
    return {
        "live": live,
        "cpu_ms_per_call_second": round(cpu * 1000 / wall / max(1, live), 3),
        "cpu_percent": round(100 * cpu / wall, 1),
        "cpu_percent_each": [round(100 * each / wall, 1) for each in spent],
        "up_p50_ms": quantile(window.up, 0.5),
        "up_p95_ms": quantile(window.up, 0.95),
        "up_p99_ms": quantile(window.up, 0.99),
        "down_p50_ms": quantile(window.down, 0.5),
        "down_p95_ms": quantile(window.down, 0.95),
        "down_p99_ms": quantile(window.down, 0.99),
        "barge_in_p99_ms": quantile(window.barge_in, 0.99),
        "barge_ins": len(window.barge_in),
        "startup_p50_ms": quantile(window.startup, 0.5),
        "startup_p99_ms": quantile(window.startup, 0.99),
        "starts": len(window.startup),
        "starved_ms": round(window.starved_ms, 1),
        "lost_up_frames": window.lost_up,
        "lost_down_ms": round(window.lost_down_ms, 1),
        "frames": len(window.late),
        "frames_heard": len(window.up),
        "replies": window.replies,
        "ended": window.ended,
        "killed": window.killed,
        "failed_starts": failed,
        "memory_kb": memory_kb(pids),
        "generator_cpu_percent": round(100 * own / wall, 1),
        "generator_late_p99_ms": quantile(window.late, 0.99),
    }
