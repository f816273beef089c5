"""Facts to Prometheus. The one place that knows both; the core only hands out facts.

Labels are bounded: a value that is not a short word, or one too many, is counted as ``other``. So a peer that
invents reasons cannot make the exposition grow, and nothing said on a call can get into it.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from typing import Any

import trio
from prometheus_client import CollectorRegistry, Counter, Gauge, Histogram, Info, generate_latest
from prometheus_client.core import CounterMetricFamily
from prometheus_client.registry import Collector

from callrt import __version__
from callrt.policy import facts
from callrt.policy.facts import Fact
from callrt.service.log_queue import dropped_lines

CONTENT_TYPE = "text/plain; version=0.0.4; charset=utf-8"

LABEL_VALUES_MAX = 64
"""Distinct values of one label; the next one is ``other``."""

_WORD = re.compile(r"[A-Za-z_/][A-Za-z0-9_./-]{0,63}\Z")
_HTTP_STATUS = re.compile(r"[1-5][0-9]{2}\Z")

# The upper ends are where a person gives up; the lower ends where nobody notices.
_DELAY = (0.0005, 0.001, 0.002, 0.005, 0.01, 0.02, 0.05, 0.1, 0.25, 0.5, 1.0)
_TURN = (0.1, 0.2, 0.3, 0.4, 0.5, 0.6, 0.8, 1.0, 1.25, 1.5, 2.0, 3.0, 5.0, 8.0)
_RECOVERY = (0.1, 0.25, 0.5, 0.75, 1.0, 1.5, 2.0, 3.0, 5.0, 8.0, 13.0, 20.0, 30.0)
_DEAD_AIR = (0.1, 0.2, 0.3, 0.5, 0.75, 1.0, 1.5, 2.0, 3.0, 5.0, 8.0, 13.0)
_TOOL = (0.01, 0.05, 0.1, 0.25, 0.5, 1.0, 2.0, 5.0, 10.0, 20.0, 60.0)

LAG_PERIOD_SECONDS = 0.1


class Metrics:
    """All metrics of one process in a registry of its own."""

    def __init__(self) -> None:
        registry = self.registry = CollectorRegistry()
        self._seen: dict[str, dict[str, None]] = {}

        def counter(name: str, text: str, *labels: str) -> Counter:
            return Counter(name, text, labels, registry=registry)

        def histogram(name: str, text: str, buckets: tuple[float, ...], *labels: str) -> Histogram:
            return Histogram(name, text, labels, buckets=buckets, registry=registry)

        Info("callrt_build", "What runs.", registry=registry).info({"version": __version__})
        self._live = Gauge("callrt_calls_live", "Calls in this process.", registry=registry)
        self._calls = counter("callrt_calls_total", "Calls that have ended.", "outcome")
        self._restarts = counter("callrt_actor_restarts_total", "Actors restarted.", "actor", "reason")
        self._escalations = counter("callrt_actor_escalations_total", "Supervisors that gave up.", "actor")
        self._model_recovery = histogram(
            "callrt_model_recovery_seconds", "Model session lost to first audio of the next.", _RECOVERY
        )
        self._carrier_recovery = histogram(
            "callrt_carrier_recovery_seconds", "Carrier stream lost to the next attached.", _RECOVERY
        )
        self._turn = histogram(
            "callrt_turn_latency_seconds", "Caller stops speaking to first agent audio written.", _TURN
        )
        self._barge_in = histogram("callrt_barge_in_seconds", "Speech started to clear written.", _DELAY)
        self._uplink = histogram("callrt_uplink_delay_seconds", "Caller's audio inside callrt.", _DELAY)
        self._downlink = histogram("callrt_downlink_delay_seconds", "Agent's audio inside callrt.", _DELAY)
        self._dead_air = histogram(
            "callrt_dead_air_seconds", "Silence heard while a reply was owed.", _DEAD_AIR
        )
        self._frames = counter(
            "callrt_frames_dropped_total", "Frames of 20 ms dropped.", "direction", "reason"
        )
        self._tools = histogram("callrt_tool_seconds", "Tool runs.", _TOOL, "tool", "status")
        self._commit = histogram("callrt_journal_commit_seconds", "Group commits.", _DELAY)
        self._entries = counter("callrt_journal_entries_total", "Journal entries committed.")
        self._entries_dropped = counter(
            "callrt_journal_entries_dropped_total", "Write-behind entries given up: the queue was full."
        )
        self._lag = histogram("callrt_event_loop_lag_seconds", "How late the event loop runs.", _DELAY)
        self._bad_input = counter("callrt_bad_input_total", "Input refused.", "source", "reason")
        self._comfort = counter("callrt_comfort_played_total", "Comfort lines played.", "line")
        self._transfers = counter("callrt_transfers_total", "Hand-overs to a human begun.", "reason")
        self._requests = counter("callrt_http_requests_total", "HTTP answers.", "route", "status")
        self._refused = counter(
            "callrt_connections_refused_total", "Connections over the bound turned away.", "port"
        )
        registry.register(_LogLines())

    def observe(self, fact: Fact) -> None:
        """Count one fact. Never raises for odd labels, never blocks."""
        match fact:
            case facts.CallStarted():
                self._live.inc()
            case facts.CallEnded():
                self._live.dec()
                self._calls.labels(self._label("outcome", fact.outcome)).inc()
            case facts.CallReleased():
                self._live.dec()
            case facts.CallSettled():
                self._calls.labels(self._label("outcome", fact.outcome)).inc()
            case facts.ActorRestarted():
                actor, reason = self._label("actor", fact.actor), self._label("restart", fact.reason)
                self._restarts.labels(actor, reason).inc()
            case facts.ActorEscalated():
                self._escalations.labels(self._label("actor", fact.actor)).inc()
            case facts.FramesDropped():
                reason = self._label("drop", fact.reason)
                self._frames.labels(self._label("direction", fact.direction), reason).inc(fact.count)
            case facts.ToolRan():
                tool, status = self._label("tool", fact.tool), self._label("tool_status", fact.status)
                self._tools.labels(tool, status).observe(fact.seconds)
            case facts.JournalCommitted():
                self._commit.observe(fact.seconds)
                self._entries.inc(fact.entries)
            case facts.JournalDropped():
                self._entries_dropped.inc(fact.entries)
            case facts.BadInput():
                reason = self._label("bad_input", fact.reason)
                self._bad_input.labels(self._label("source", fact.source), reason).inc()
            case facts.ComfortPlayed():
                self._comfort.labels(self._label("line", fact.line)).inc()
            case facts.TransferTried():
                self._transfers.labels(self._label("transfer", fact.reason)).inc()
            case facts.RequestServed():
                status = self._label("status", str(fact.status))
                self._requests.labels(self._label("route", fact.route), status).inc()
            case facts.ConnectionRefused():
                self._refused.labels(self._label("port", fact.port)).inc()
            case _:
                self._spans(fact).observe(fact.seconds)

    def exposition(self) -> bytes:
        """The Prometheus text format."""
        return generate_latest(self.registry)

    def _spans(self, fact: Any) -> Histogram:
        match fact:
            case facts.ModelRecovered():
                return self._model_recovery
            case facts.CarrierRecovered():
                return self._carrier_recovery
            case facts.TurnLatency():
                return self._turn
            case facts.BargeIn():
                return self._barge_in
            case facts.UplinkDelay():
                return self._uplink
            case facts.DownlinkDelay():
                return self._downlink
            case facts.DeadAir():
                return self._dead_air
            case facts.LoopLag():
                return self._lag
        raise TypeError(f"not a fact: {type(fact).__name__}")

    def _label(self, kind: str, value: str) -> str:
        seen = self._seen.setdefault(kind, {})
        if value in seen:
            return value
        pattern = _HTTP_STATUS if kind == "status" else _WORD
        if len(seen) >= LABEL_VALUES_MAX or not pattern.match(value):
            return "other"
        seen[value] = None
        return value


class _LogLines(Collector):
    """No fact: the log is the process's, and says itself how much it could not write."""

    def collect(self) -> Iterator[CounterMetricFamily]:
        text = "Log lines dropped: nobody read them."
        yield CounterMetricFamily("callrt_log_lines_dropped", text, value=dropped_lines())


async def sample_loop_lag(
    metrics: Metrics, *, task_status: trio.TaskStatus[None] = trio.TASK_STATUS_IGNORED
) -> None:
    """Sleep in small steps for ever and observe by how much each wake-up is late. If cancelled: no effect."""
    task_status.started()
    while True:
        due = trio.current_time() + LAG_PERIOD_SECONDS
        await trio.sleep_until(due)
        metrics.observe(facts.LoopLag(max(0.0, trio.current_time() - due)))
