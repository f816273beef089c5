"""Metrics: each one moves when its fact comes, and labels stay bounded and wordless."""

from __future__ import annotations

import pytest
import trio
import trio.testing
from hypothesis import given
from hypothesis import strategies as st

from callrt import __version__
from callrt.policy import facts
from callrt.service.metrics import LABEL_VALUES_MAX, Metrics, sample_loop_lag

MOVES: list[tuple[facts.Fact, str, dict[str, str], float]] = [
    (facts.CallStarted(), "callrt_calls_live", {}, 1),
    (facts.CallEnded("completed"), "callrt_calls_total", {"outcome": "completed"}, 1),
    (facts.CallEnded("completed"), "callrt_calls_live", {}, -1),
    (facts.CallReleased(), "callrt_calls_live", {}, -1),
    (facts.CallSettled("carrier_lost"), "callrt_calls_total", {"outcome": "carrier_lost"}, 1),
    (
        facts.ActorRestarted("model", "stall"),
        "callrt_actor_restarts_total",
        {"actor": "model", "reason": "stall"},
        1,
    ),
    (facts.ActorEscalated("talk"), "callrt_actor_escalations_total", {"actor": "talk"}, 1),
    (facts.ModelRecovered(0.7), "callrt_model_recovery_seconds_sum", {}, 0.7),
    (facts.CarrierRecovered(0.7), "callrt_carrier_recovery_seconds_sum", {}, 0.7),
    (facts.TurnLatency(0.7), "callrt_turn_latency_seconds_sum", {}, 0.7),
    (facts.BargeIn(0.007), "callrt_barge_in_seconds_sum", {}, 0.007),
    (facts.UplinkDelay(0.007), "callrt_uplink_delay_seconds_sum", {}, 0.007),
    (facts.DownlinkDelay(0.007), "callrt_downlink_delay_seconds_sum", {}, 0.007),
    (facts.DeadAir(0.7), "callrt_dead_air_seconds_sum", {}, 0.7),
    (
        facts.FramesDropped("uplink", "backlog", 3),
        "callrt_frames_dropped_total",
        {"direction": "uplink", "reason": "backlog"},
        3,
    ),
    (facts.ToolRan("book", "ok", 0.7), "callrt_tool_seconds_sum", {"tool": "book", "status": "ok"}, 0.7),
    (facts.JournalCommitted(0.7, 5), "callrt_journal_commit_seconds_sum", {}, 0.7),
    (facts.JournalCommitted(0.7, 5), "callrt_journal_entries_total", {}, 5),
    (facts.JournalDropped(5), "callrt_journal_entries_dropped_total", {}, 5),
    (facts.LoopLag(0.7), "callrt_event_loop_lag_seconds_sum", {}, 0.7),
    (
        facts.BadInput("carrier", "not_json"),
        "callrt_bad_input_total",
        {"source": "carrier", "reason": "not_json"},
        1,
    ),
    (facts.ComfortPlayed("one_moment"), "callrt_comfort_played_total", {"line": "one_moment"}, 1),
    (facts.TransferTried("asked"), "callrt_transfers_total", {"reason": "asked"}, 1),
    (
        facts.RequestServed("/twilio/voice", 403, 0.1),
        "callrt_http_requests_total",
        {"route": "/twilio/voice", "status": "403"},
        1,
    ),
    (facts.ConnectionRefused("public"), "callrt_connections_refused_total", {"port": "public"}, 1),
]


@pytest.mark.parametrize(("fact", "name", "labels", "by"), MOVES)
def test_fact_moves_its_metric(fact: facts.Fact, name: str, labels: dict[str, str], by: float) -> None:
    metrics = Metrics()
    before = metrics.registry.get_sample_value(name, labels) or 0.0
    metrics.observe(fact)
    after = metrics.registry.get_sample_value(name, labels)
    assert after is not None
    assert after - before == pytest.approx(by)


def test_every_fact_moves_some_metric() -> None:
    assert {type(fact) for fact, *_ in MOVES} == set(facts.Fact.__args__)


def test_build_information_is_exposed() -> None:
    text = Metrics().exposition().decode()
    assert f'callrt_build_info{{version="{__version__}"}} 1.0' in text


def test_contracts_names_are_exposed_before_anything_has_happened() -> None:
    text = Metrics().exposition().decode()
    for name in {name.removesuffix("_sum") for _, name, _, _ in MOVES}:
        assert f"# TYPE {name.removesuffix('_total')}" in text


@given(st.lists(st.text(max_size=80), max_size=200))
def test_invented_labels_neither_grow_the_exposition_nor_get_into_it(reasons: list[str]) -> None:
    metrics = Metrics()
    for reason in reasons:
        metrics.observe(facts.ActorRestarted("model", reason))
    for number in range(2 * LABEL_VALUES_MAX):
        metrics.observe(facts.ToolRan(f"tool{number}", "ok", 0.1))
    text = metrics.exposition().decode()
    lines = [line for line in text.splitlines() if line.startswith("callrt_tool_seconds_count{")]
    assert len(lines) == LABEL_VALUES_MAX + 1
    restarts = [line for line in text.splitlines() if line.startswith("callrt_actor_restarts_total{")]
    assert len(restarts) <= LABEL_VALUES_MAX + 1


@pytest.mark.parametrize("words", ["+15550100001", "I want to book", "ärger", "", "a\nb", "x" * 65])
def test_words_and_numbers_are_other(words: str) -> None:
    metrics = Metrics()
    metrics.observe(facts.BadInput("model", words))
    labels = {"source": "model", "reason": "other"}
    assert metrics.registry.get_sample_value("callrt_bad_input_total", labels) == 1


def test_two_services_in_one_process_do_not_share_their_numbers() -> None:
    first, second = Metrics(), Metrics()
    first.observe(facts.CallStarted())
    assert second.registry.get_sample_value("callrt_calls_live") == 0


async def test_loop_lag_is_sampled(autojump_clock: trio.testing.MockClock) -> None:
    metrics = Metrics()
    async with trio.open_nursery() as nursery:
        await nursery.start(sample_loop_lag, metrics)
        await trio.sleep(10.05)
        nursery.cancel_scope.cancel()
    assert metrics.registry.get_sample_value("callrt_event_loop_lag_seconds_count") == 100
