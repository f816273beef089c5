"""Metrics of all workers together."""

from __future__ import annotations

from callrt import __version__
from callrt.policy import facts
from callrt.service.metrics import Metrics
from callrt.service.workers.totals import Totals, families_of


def counted(calls: int, live: int, turn: float) -> Metrics:
    metrics = Metrics()
    for number in range(calls + live):
        metrics.observe(facts.CallStarted(f"CA{number}"))
    for number in range(calls):
        metrics.observe(facts.CallEnded("completed", f"CA{number}"))
    metrics.observe(facts.TurnLatency(turn))
    return metrics


def lines(exposition: bytes) -> dict[str, float]:
    out = {}
    for line in exposition.decode().splitlines():
        if not line.startswith("#"):
            name, _, value = line.rpartition(" ")
            assert name not in out, "each series once"
            out[name] = float(value)
    return out


def test_one_workers_totals_read_like_its_own_exposition() -> None:
    metrics = counted(3, 2, 0.45)
    totals = Totals()
    totals.told(1, families_of(metrics.registry))
    assert totals.exposition() == metrics.exposition()


def test_counters_histograms_and_gauges_add_up_and_the_build_does_not() -> None:
    totals = Totals()
    totals.told(1, families_of(counted(3, 2, 0.45).registry))
    totals.told(2, families_of(counted(4, 1, 7.0).registry))
    sums = lines(totals.exposition(families_of(Metrics().registry)))
    assert sums['callrt_calls_total{outcome="completed"}'] == 7
    assert sums["callrt_calls_live"] == 3
    assert sums["callrt_turn_latency_seconds_count"] == 2
    assert sums["callrt_turn_latency_seconds_sum"] == 7.45
    assert sums['callrt_turn_latency_seconds_bucket{le="0.5"}'] == 1
    assert sums['callrt_turn_latency_seconds_bucket{le="+Inf"}'] == 2
    assert sums[f'callrt_build_info{{version="{__version__}"}}'] == 1


def test_what_a_dead_worker_had_counted_stays_and_its_calls_do_not() -> None:
    totals = Totals()
    totals.told(1, families_of(counted(3, 2, 0.45).registry))
    totals.told(2, families_of(counted(4, 1, 7.0).registry))
    created = lines(totals.exposition())["callrt_turn_latency_seconds_created"]
    totals.gone(1)
    totals.told(3, families_of(counted(1, 0, 1.0).registry))
    sums = lines(totals.exposition())
    assert sums['callrt_calls_total{outcome="completed"}'] == 8
    assert sums["callrt_calls_live"] == 1
    assert sums["callrt_turn_latency_seconds_count"] == 3
    assert sums["callrt_turn_latency_seconds_created"] == created, "the oldest"
    totals.gone(2)
    totals.gone(3)
    totals.gone(3)
    assert lines(totals.exposition())['callrt_calls_total{outcome="completed"}'] == 8
