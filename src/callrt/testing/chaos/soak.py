"""A soak: wave after wave of broken calls through one process, and what lives in it when none is left."""

from __future__ import annotations

import os
import tempfile
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path

import attrs
import httpx
import trio

from callrt.errors import CallrtError
from callrt.testing.chaos import messages as msg
from callrt.testing.chaos.scenario import Scenario
from callrt.testing.chaos.service import Service
from callrt.testing.chaos.slopes import Trend, trend
from callrt.testing.chaos.stage import Stage, is_fit, lateness

WARM_UP_CALLS = 120
"""Until caches are full (a hundred ended calls are remembered) and the allocator has found its size."""
MEASURED_MIN = 3
"""Samples: fewer have no slope."""
QUIET_SECONDS = 20.0
"""Within these the last call's remains are gone."""
BREATH_SECONDS = 1.5

MEMORY_PER_CALL = 8_000
"""Bytes: a second of audio. Smaller leaks than that are seen in the number of objects."""
OBJECTS_PER_CALL = 2.0
"""A call that leaked at all would leave a hundred."""


@attrs.frozen
class Sample:
    calls: int
    """So many have been served by then."""
    memory: int
    """Bytes resident."""
    files: int
    tasks: int
    objects: int
    kinds: Mapping[str, int] = attrs.field(factory=dict, repr=False)
    """Objects by type."""


@attrs.frozen
class SoakReport:
    calls: tuple[msg.CallReport, ...]
    samples: tuple[Sample, ...]
    trends: tuple[Trend, ...]
    unfit: int
    """Waves that the machine was too busy to judge: what is left after them counts all the same."""
    trouble: tuple[str, ...]

    @property
    def ok(self) -> bool:
        return not self.trouble and all(each.flat for each in self.trends)


async def soak(scenario: Scenario, seconds: float, tell: Callable[[str], None]) -> SoakReport:
    """Play ``scenario`` again and again for so long. Raises CallrtError. If cancelled: all processes are killed."""
    with tempfile.TemporaryDirectory(prefix="callrt-soak-") as folder:
        service = Service(Path(folder), scenario)
        service.expect_census()
        try:
            async with trio.open_nursery() as nursery:
                report = await _Soak(scenario, service, Stage(scenario, service, nursery), tell).run(seconds)
                nursery.cancel_scope.cancel()
        finally:
            await service.close()
        return report


@attrs.define(eq=False)
class _Soak:
    scenario: Scenario
    service: Service
    stage: Stage
    tell: Callable[[str], None]
    samples: list[Sample] = attrs.field(factory=list)
    calls: list[msg.CallReport] = attrs.field(factory=list)
    unfit: int = 0
    trouble: list[str] = attrs.field(factory=list)

    async def run(self, seconds: float) -> SoakReport:
        until = trio.current_time() + seconds
        async with self.stage.assembled():
            while trio.current_time() < until or len(measured(self.samples)) < MEASURED_MIN:
                await self._wave()
            status = await self.service.end()
        if status:
            self.trouble.append(f"the service ended with status {status}")
        return SoakReport(
            tuple(self.calls),
            tuple(self.samples),
            trends(measured(self.samples)),
            self.unfit,
            tuple(self.trouble),
        )

    async def _wave(self) -> None:
        overs = await self.stage.storm()
        late = lateness(overs)
        reports = await self.stage.judge(late)
        self.calls += reports
        if is_fit(late):
            self._note_trouble(reports)
        else:
            self.unfit += 1
        sample = await self._sample()
        self.samples.append(sample)
        self.tell(
            f"{sample.calls:6} calls   {sample.memory / 1e6:7.1f} MB   {sample.files:3} files   "
            f"{sample.tasks:4} tasks   {sample.objects:7} objects   late {late.p99 * 1000:.0f} ms"
        )

    def _note_trouble(self, reports: Sequence[msg.CallReport]) -> None:
        self.trouble += [
            f"{found.guarantee} in call {call.number} of wave {len(self.samples) + 1}: {found.what} ({found.checker})"
            for call in reports
            for found in call.judgement.violations
        ]
        self.trouble += [
            f"call {call.number} of wave {len(self.samples) + 1} ended as {call.outcome}"
            for call in reports
            if call.outcome != self.scenario.outcome
        ]

    async def _sample(self) -> Sample:
        async with httpx.AsyncClient(trust_env=False) as client:
            with trio.move_on_after(QUIET_SECONDS) as patience:
                while await self.service.server.live_calls(client) != 0.0:
                    await trio.sleep(0.2)
        if patience.cancelled_caught:
            self.trouble.append(f"calls are left {QUIET_SECONDS:.0f} s after wave {len(self.samples) + 1}")
        await trio.sleep(BREATH_SECONDS)
        census = await self.service.census()
        process = self.service.server.process
        if process is None:
            raise CallrtError("the service has ended")
        files = self.service.server.files()
        return Sample(
            len(self.calls),
            resident_bytes(process.pid),
            -1 if files is None else files,
            census["tasks"],
            census["objects"],
            census["kinds"],
        )


def measured(samples: Sequence[Sample]) -> list[Sample]:
    """Those after the warm-up."""
    return [sample for sample in samples if sample.calls >= WARM_UP_CALLS]


def trends(samples: Sequence[Sample]) -> tuple[Trend, ...]:
    """Of the samples after the warm-up, at least two."""
    calls = [sample.calls for sample in samples]
    return (
        trend("memory", "bytes", calls, [sample.memory for sample in samples], MEMORY_PER_CALL),
        trend("files", "descriptors", calls, [sample.files for sample in samples], 0.0),
        trend("tasks", "tasks", calls, [sample.tasks for sample in samples], 0.0),
        trend("objects", "objects", calls, [sample.objects for sample in samples], OBJECTS_PER_CALL),
    )


def grown(samples: Sequence[Sample], count: int = 6) -> list[str]:
    """The kinds of objects that have become most, for whoever looks for a leak."""
    before, after = samples[0].kinds, samples[-1].kinds
    more = sorted(((after[kind] - before.get(kind, 0), kind) for kind in after), reverse=True)
    return [f"{kind} {difference:+}" for difference, kind in more[:count] if difference > 0]


def resident_bytes(pid: int) -> int:
    """Of a process on Linux; raises OSError elsewhere."""
    pages = int(Path(f"/proc/{pid}/statm").read_text("ascii").split()[1])
    return pages * os.sysconf("SC_PAGE_SIZE")
