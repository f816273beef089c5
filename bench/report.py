"""Results as a table and as a picture, without any library."""

from __future__ import annotations

import math
import os
import statistics
from collections.abc import Mapping, Sequence
from typing import Any

Rows = Sequence[Mapping[str, Any]]

COLUMNS = (
    ("program", "program"),
    ("calls", "calls"),
    ("cpu_ms_per_call_second", "CPU ms per call-s"),
    ("up_p99_ms", "up p99 ms"),
    ("down_p99_ms", "down p99 ms"),
    ("barge_in_p99_ms", "barge-in p99 ms"),
    ("startup_p50_ms", "start p50 ms"),
    ("starved_ms", "starved ms"),
    ("lost_up_frames", "lost frames"),
    ("memory_kb_per_call", "kB per call"),
    ("generator_cpu_percent", "generator CPU %"),
    ("missing", "missing"),
)
FULL_CORE_PERCENT = 93.0
COLOURS = ("#0b6e4f", "#c0392b", "#2c5f9e", "#8e6bbf", "#b7791f", "#555555")


def medians(rows: Rows) -> list[dict[str, Any]]:
    """One row per program, number of calls and rate of kills: the median of each figure over the rounds."""
    groups: dict[tuple[str, int, float], list[Mapping[str, Any]]] = {}
    for row in rows:
        if row.get("searching"):
            continue  # their numbers of calls are the search's own, and no other program has them
        groups.setdefault((row["program"], row["calls"], row["kills_per_second"]), []).append(row)
    out = []
    for (program, calls, kills), group in sorted(groups.items(), key=lambda item: item[0][1:]):
        middle: dict[str, Any] = {"program": program, "calls": calls, "kills_per_second": kills}
        middle["rounds"] = len(group)
        for key, value in group[0].items():
            if key in middle or key == "round":
                continue
            values = [row[key] for row in group if row[key] is not None]
            if isinstance(value, list):
                middle[key] = sorted({word for row in group for word in row[key] if isinstance(word, str)})
            elif isinstance(value, bool):
                middle[key] = any(values)
            else:
                middle[key] = round(statistics.median(values), 3) if values else None
        out.append(middle)
    order = list(dict.fromkeys(row["program"] for row in rows))
    return sorted(out, key=lambda row: order.index(row["program"]))


def cautions(rows: Rows) -> list[str]:
    """When not to believe a figure."""
    lines = []
    for row in medians(rows):
        if row["generator_limit"]:
            lines.append(
                f"{row['program']} at {row['calls']} calls: the generator was the limit "
                f"(its core {row['generator_cpu_percent']:.0f} % busy, "
                f"frames sent {row['generator_late_p99_ms']} ms late)"
            )
    load = os.getloadavg()[0]
    if load > len(os.sched_getaffinity(0)) + 1:
        lines.append(f"the machine was busy with other things (load {load:.1f}): compare ratios only")
    return lines


def table(rows: Rows) -> str:
    """GitHub's Markdown."""
    lines = ["| " + " | ".join(title for _, title in COLUMNS) + " |", "|" + "---|" * len(COLUMNS)]
    for row in rows:
        cells = [_cell(row, key) for key, _ in COLUMNS]
        lines.append("| " + " | ".join(cells) + " |")
    return "\n".join(lines) + "\n"


def relative(rows: Rows, carried: Mapping[str, int], to: str) -> str:
    """Processor time, memory and calls of every program in units of one program's: what may be compared.

    Within each round, of which the median is taken: what disturbs the machine disturbs both.
    """
    rows = [row for row in rows if not row.get("kills_per_second") and not row.get("searching")]
    steps = sorted({row["calls"] for row in rows if row["program"] == to})
    titles = [f"CPU at {calls} calls" for calls in steps] + ["memory per call", "calls carried"]
    lines = ["| relative to " + to + " | " + " | ".join(titles) + " |", "|" + "---|" * (len(titles) + 1)]
    for name in dict.fromkeys(row["program"] for row in rows):
        cells = [_share(rows, name, to, calls, "cpu_ms_per_call_second") for calls in steps]
        # The first step also pays for what is loaded once.
        memory = [_share(rows, name, to, calls, "memory_kb_per_call") for calls in steps[1:]]
        cells.append(next((cell for cell in reversed(memory) if cell), ""))
        cells.append(f"{carried[name] / carried[to]:.2f}" if name in carried and carried.get(to) else "")
        lines.append(f"| {name} | " + " | ".join(cells) + " |")
    return "\n".join(lines) + "\n"


def _share(rows: Rows, name: str, to: str, calls: int, key: str) -> str:
    """Nothing, if one of the two did not keep up in any round in which both were measured."""
    ratios = []
    for number in dict.fromkeys(row.get("round", 1) for row in rows):
        at = [row for row in rows if row.get("round", 1) == number and row["calls"] == calls]
        ours = next((row for row in at if row["program"] == name and _keeps_up(row)), None)
        theirs = next((row for row in at if row["program"] == to and _keeps_up(row)), None)
        if ours is not None and theirs is not None and ours[key] and theirs[key]:
            ratios.append(ours[key] / theirs[key])
    return f"{statistics.median(ratios):.2f}" if ratios else ""


def _keeps_up(row: Mapping[str, Any]) -> bool:
    """A program that falls behind works less than it should: its processor time says nothing."""
    failed = {"calls ended", "frames lost", "nothing heard"} & set(row["missing"])
    return not failed and row["cpu_percent"] < FULL_CORE_PERCENT


def _cell(row: Mapping[str, Any], key: str) -> str:
    value = row.get(key)
    if key == "calls" and row.get("kills_per_second"):
        return f"{value} (+{row['kills_per_second']:g} kills/s)"
    if isinstance(value, list):
        return ", ".join(value)
    return "" if value is None else str(value)


def plot(rows: Rows, bound_ms: float) -> str:
    """Two panels as SVG: processor time per call-second, and added latency, both over the number of calls."""
    rows = [row for row in rows if not row.get("kills_per_second")]
    programs = list(dict.fromkeys(row["program"] for row in rows))
    colours = {name: COLOURS[i % len(COLOURS)] for i, name in enumerate(programs)}
    panels = (
        ("CPU per call-second, ms", lambda row: row["cpu_ms_per_call_second"], None),
        ("added latency p99 (the worse way), ms", _latency, bound_ms),
    )
    body = []
    for index, (title, value, bound) in enumerate(panels):
        body.append(_panel(rows, programs, colours, title, value, bound, 60 + index * 460))
    for index, name in enumerate(programs):
        x = 60 + index * 170
        body.append(f'<rect x="{x}" y="368" width="12" height="12" fill="{colours[name]}"/>')
        body.append(f'<text x="{x + 18}" y="379">{name}</text>')
    return (
        '<svg xmlns="http://www.w3.org/2000/svg" width="960" height="400" viewBox="0 0 960 400" '
        'font-family="sans-serif" font-size="12"><rect width="960" height="400" fill="white"/>\n'
        + "\n".join(body)
        + "\n</svg>\n"
    )


def _latency(row: Mapping[str, Any]) -> float | None:
    both = [row[key] for key in ("up_p99_ms", "down_p99_ms") if row[key] is not None]
    return max(both) if both else None


def _panel(
    rows: Rows,
    programs: Sequence[str],
    colours: Mapping[str, str],
    title: str,
    value: Any,
    bound: Any,
    left: int,
) -> str:
    width, top, height = 380, 40, 280
    points = {
        name: [(row["calls"], value(row)) for row in rows if row["program"] == name and value(row)]
        for name in programs
    }
    flat = [point for line in points.values() for point in line]
    if not flat:
        return ""
    xs, ys = [x for x, _ in flat], [y for _, y in flat]
    x0, x1 = math.log(min(xs) * 0.9), math.log(max(xs) * 1.1)
    y0, y1 = math.log(min(ys) * 0.8), math.log(max(*ys, bound or 0) * 1.25)

    def at(x: float, y: float) -> tuple[float, float]:
        return (
            left + (math.log(x) - x0) / (x1 - x0) * width,
            top + height - (math.log(y) - y0) / (y1 - y0) * height,
        )

    out = [f'<text x="{left}" y="26" font-weight="bold">{title}</text>']
    out.append(f'<rect x="{left}" y="{top}" width="{width}" height="{height}" fill="none" stroke="#999"/>')
    for x in sorted(set(xs)):
        px, _ = at(x, ys[0])
        out.append(f'<text x="{px:.0f}" y="{top + height + 16}" text-anchor="middle">{x}</text>')
    for y in _ticks(min(ys) * 0.8, max(*ys, bound or 0) * 1.25):
        _, py = at(xs[0], y)
        out.append(f'<line x1="{left}" x2="{left + width}" y1="{py:.0f}" y2="{py:.0f}" stroke="#eee"/>')
        out.append(f'<text x="{left - 6}" y="{py + 4:.0f}" text-anchor="end">{y:g}</text>')
    if bound:
        _, py = at(xs[0], bound)
        out.append(
            f'<line x1="{left}" x2="{left + width}" y1="{py:.0f}" y2="{py:.0f}" stroke="#c00" stroke-dasharray="5"/>'
        )
    for name, line in points.items():
        path = " ".join(f"{px:.1f},{py:.1f}" for px, py in (at(x, y) for x, y in sorted(line)))
        out.append(f'<polyline points="{path}" fill="none" stroke="{colours[name]}" stroke-width="2"/>')
        for x, y in line:
            px, py = at(x, y)
            out.append(f'<circle cx="{px:.1f}" cy="{py:.1f}" r="3" fill="{colours[name]}"/>')
    return "\n".join(out)


def _ticks(low: float, high: float) -> list[float]:
    steps = [m * 10.0**e for e in range(-2, 5) for m in (1, 2, 5)]
    return [step for step in steps if low <= step <= high]
