"""The counters of all workers as one exposition. What a dead worker had counted stays in the totals.

Counters and histograms add up, over the living and the dead; gauges add up over the living; what is the same
everywhere (the build) is taken once.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence

import attrs
from prometheus_client import CollectorRegistry, Metric, generate_latest
from prometheus_client.registry import Collector

from callrt.service.workers.messages import Family

_KEPT = ("counter", "histogram", "summary")

Key = tuple[str, tuple[tuple[str, str], ...]]


def families_of(registry: CollectorRegistry) -> tuple[Family, ...]:
    """All that a registry has counted."""
    return tuple(
        Family(
            metric.name,
            metric.type,
            metric.documentation,
            tuple((each.name, tuple(each.labels.items()), float(each.value)) for each in metric.samples),
        )
        for metric in registry.collect()
    )


@attrs.define
class _Sum:
    kind: str
    text: str
    samples: dict[Key, float] = attrs.field(factory=dict)

    def add(self, family: Family) -> None:
        for name, labels, value in family.samples:
            key = (name, labels)
            if key not in self.samples:
                self.samples[key] = value
            elif name.endswith("_created"):
                self.samples[key] = min(self.samples[key], value)
            elif family.kind != "info":
                self.samples[key] += value


def add_up(parts: Iterable[Iterable[Family]]) -> tuple[Family, ...]:
    """One family per name, in the order in which they were first seen."""
    sums: dict[str, _Sum] = {}
    for part in parts:
        for family in part:
            sums.setdefault(family.name, _Sum(family.kind, family.text)).add(family)
    return tuple(
        Family(
            name,
            total.kind,
            total.text,
            tuple((key[0], key[1], value) for key, value in total.samples.items()),
        )
        for name, total in sums.items()
    )


@attrs.define
class Totals:
    """``latest``: what each living worker said last."""

    latest: dict[int, tuple[Family, ...]] = attrs.field(factory=dict)
    _dead: tuple[Family, ...] = ()

    def told(self, worker: int, families: tuple[Family, ...]) -> None:
        self.latest[worker] = families

    def gone(self, worker: int) -> None:
        """Its counts stay as they were last heard; its gauges go."""
        last = self.latest.pop(worker, ())
        self._dead = add_up([self._dead, [family for family in last if family.kind in _KEPT]])

    def exposition(self, ours: Sequence[Family] = ()) -> bytes:
        """The Prometheus text format. ``ours``: what the parent has counted itself."""
        registry = CollectorRegistry()
        registry.register(_Given(add_up([ours, *self.latest.values(), self._dead])))
        return generate_latest(registry)


@attrs.frozen
class _Given(Collector):
    families: tuple[Family, ...]

    def collect(self) -> Iterator[Metric]:
        for family in self.families:
            metric = Metric(family.name, family.text, family.kind)
            for name, labels, value in family.samples:
                metric.add_sample(name, dict(labels), value)
            yield metric
