"""What came of a run of chaos, for the terminal and as chaos/REPORT.md."""

from __future__ import annotations

import os
import platform
from collections import Counter
from collections.abc import Sequence
from pathlib import Path

from callrt.testing.chaos.recovery import percentile
from callrt.testing.chaos.stage import ChaosReport

HEAD = """\
# Chaos report

Written by `callrt chaos` (`make chaos`): the last run, on {machine}. Each scenario is a storm and then a calm: whole
calls over loopback sockets against `callrt serve` in a process of its own, with the emulated carrier and models in
theirs. *Recovery* is the longest silence between two words of one answer after a fault, at the caller's ear, over all
faults. *Checked* counts, per guarantee, what was looked at. *Late* is how late the emulators' own clocks were, 99 times
of 100 and at the worst: that is the machine's doing, not callrt's, and the checkers grant it. *disk*: the
longest that a write took meanwhile.

{verdict}

| scenario | injected | heard | recovery p50 | p99 | checked | late | verdict |
|---|---|---|---|---|---|---|---|
"""


SHOWN = 8
"""Violations of one scenario that are told in full."""


def machine() -> str:
    return f"{os.cpu_count()} cores, {platform.system()} {platform.machine()}, Python {platform.python_version()}"


def injected(report: ChaosReport) -> str:
    counts = Counter(name for call in report.calls for name in call.struck)
    counts.update(report.blows)
    shown = [name if count == 1 else f"{name} × {count}" for name, count in counts.most_common()]
    return ", ".join(shown) or "nothing"


def heard(report: ChaosReport) -> str:
    counts = Counter(call.outcome for call in report.calls)
    words = sum(call.words for call in report.calls)
    comforts = sum(call.comforts for call in report.calls)
    ends = ", ".join(f"{count} {name}" for name, count in counts.most_common())
    lines = f", {comforts} bundled lines" if comforts else ""
    return f"{len(report.calls)} calls ({ends}), {words} words{lines}"


def recovery(report: ChaosReport) -> str:
    values = report.recoveries
    if not values:
        return "nothing to recover from"
    return f"p50 {percentile(values, 0.5):.2f} s, p99 {percentile(values, 0.99):.2f} s"


def checked(report: ChaosReport) -> str:
    checks: Counter[str] = Counter()
    for call in report.calls:
        checks.update(call.judgement.checks)
    return ", ".join(
        f"{name} {count}" for name, count in sorted(checks.items(), key=lambda p: int(p[0][1:])) if count
    )


def troubles(report: ChaosReport) -> list[str]:
    found = [
        f"{violation.guarantee} in call {call.number}: {violation.what} ({violation.checker})"
        for call in report.calls
        for violation in call.judgement.violations
    ]
    return [*found, *report.trouble]


def late(report: ChaosReport) -> str:
    again = "" if report.attempts == 1 else f", attempt {report.attempts}"
    lag = report.late
    return f"{lag.p99 * 1000:.0f} ms, at the worst {lag.worst * 1000:.0f} ms, disk {lag.disk * 1000:.0f} ms{again}"


def told(report: ChaosReport) -> list[str]:
    """For the terminal."""
    lines = [
        f"  injected   {injected(report)}",
        f"  heard      {heard(report)}, in {report.seconds:.0f} s",
        f"  recovery   {recovery(report)}",
        f"  checked    {checked(report)}",
        f"  late       {late(report)}",
    ]
    found = troubles(report)
    if not report.fit:
        lines.append(
            f"  UNFIT      this machine was too busy for a verdict ({len(found)} findings are not told)"
        )
        return lines
    lines += [f"  VIOLATED   {sentence}" for sentence in found[:SHOWN]]
    if len(found) > SHOWN:
        lines.append(f"  VIOLATED   {len(found) - SHOWN} times more")
    return lines


def write_traces(folder: Path, report: ChaosReport) -> list[Path]:
    """What happened in each broken call; those of an earlier run of this scenario are forgotten."""
    name = report.scenario.name
    for path in folder.glob(f"{name}-*.txt"):
        path.unlink()
    written = []
    for call in report.calls:
        if call.trace and report.fit:
            folder.mkdir(exist_ok=True)
            written.append(folder / f"{name}-{call.number}.txt")
            written[-1].write_text(call.trace, encoding="utf-8")
    return written


def verdict(report: ChaosReport) -> str:
    if not report.fit:
        return "no verdict: the machine was too busy"
    if report.ok:
        return "held"
    found = troubles(report)
    more = f"; {len(found) - SHOWN} more" if len(found) > SHOWN else ""
    return "violated: " + "; ".join(found[:SHOWN]).replace("|", "/") + more


def summary(reports: Sequence[ChaosReport]) -> str:
    """One sentence about all of them."""
    broken = [report.scenario.name for report in reports if report.fit and not report.ok]
    unfit = [report.scenario.name for report in reports if not report.fit]
    if broken:
        return f"violated in: {', '.join(broken)}"
    if unfit:
        return f"no verdict on this machine in: {', '.join(unfit)}"
    calls = sum(len(report.calls) for report in reports)
    faults = sum(len(call.struck) for report in reports for call in report.calls)
    faults += sum(len(report.blows) for report in reports)
    return f"all held in {len(reports)} scenarios, {calls} calls, {faults} faults"


def write_report(path: Path, reports: Sequence[ChaosReport]) -> None:
    rows = []
    for report in reports:
        values = report.recoveries
        p50, p99 = (f"{percentile(values, part):.2f} s" if values else "" for part in (0.5, 0.99))
        rows.append(
            f"| {report.scenario.name} | {injected(report)} | {heard(report)} | {p50} | {p99} "
            f"| {checked(report)} | {late(report)} | {verdict(report)} |"
        )
    head = HEAD.format(machine=machine(), verdict=f"**{summary(reports)}**")
    path.write_text(head + "\n".join(rows) + "\n", encoding="utf-8")
