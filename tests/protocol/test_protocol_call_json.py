"""The object that ``calls show --json`` prints: its keys and forms are a contract."""

from __future__ import annotations

import json
from datetime import datetime

from call_records import ENTRIES, numbered
from hypothesis import given
from hypothesis import strategies as st

from callrt.protocol.call import fold, to_json
from callrt.protocol.call_json import rfc3339
from callrt.protocol.records import (
    ActorRestarted,
    AgentSaid,
    CallAccepted,
    CallEnded,
    CallerSaid,
    Entry,
    ModelSessionOpened,
    StreamAttached,
    ToolIntended,
)


def subset(whole: dict[str, object], *keys: str) -> dict[str, object]:
    return {key: whole[key] for key in keys}


def test_json_of_a_whole_call_has_the_contracts_form() -> None:
    state = fold(
        numbered(
            [
                CallAccepted(carrier="twilio", agent="front-desk", caller="+1", called="+2"),
                StreamAttached(stream_sid="MZ1", generation=1, lease_epoch=1),
                ModelSessionOpened(number=1),
                AgentSaid(item_id="i1", text="Hello", heard_ms=300, interrupted=True),
                CallerSaid(item_id="i2", text="Hi"),
                ActorRestarted(actor="model", reason="closed"),
                ToolIntended(call_id="t1", name="book", arguments="{}", idempotency_key="k"),
                CallEnded(outcome="completed"),
            ]
        )
    )
    told = to_json(state)
    assert subset(told, "call_sid", "agent", "carrier", "state", "outcome", "started_at", "ended_at") == {
        "call_sid": "CA1",
        "agent": "front-desk",
        "carrier": "twilio",
        "state": "ended",
        "outcome": "completed",
        "started_at": "1970-01-01T00:16:41.000Z",
        "ended_at": "1970-01-01T00:16:48.000Z",
    }
    assert [subset(line, "role", "text", "interrupted", "at") for line in told["transcript"]] == [
        {"role": "agent", "text": "Hello", "interrupted": True, "at": "1970-01-01T00:16:44.000Z"},
        {"role": "caller", "text": "Hi", "interrupted": False, "at": "1970-01-01T00:16:45.000Z"},
    ]
    assert subset(told["streams"][0], "stream_sid", "generation", "attached_at", "detached_at", "reason") == {
        "stream_sid": "MZ1",
        "generation": 1,
        "attached_at": "1970-01-01T00:16:42.000Z",
        "detached_at": "1970-01-01T00:16:48.000Z",
        "reason": "ended",
    }
    assert told["model_sessions"] == [
        {
            "number": 1,
            "opened_at": "1970-01-01T00:16:43.000Z",
            "ended_at": "1970-01-01T00:16:48.000Z",
            "reason": "ended",
        }
    ]
    assert told["restarts"] == [{"actor": "model", "reason": "closed", "at": "1970-01-01T00:16:46.000Z"}]
    assert subset(told["tools"][0], "call_id", "name", "status", "started_at", "ended_at") == {
        "call_id": "t1",
        "name": "book",
        "status": "unknown",
        "started_at": "1970-01-01T00:16:47.000Z",
        "ended_at": None,
    }


def test_json_of_a_live_call_has_no_outcome() -> None:
    told = to_json(fold(numbered([CallAccepted(carrier="twilio", agent="a", caller="", called="")])))
    assert subset(told, "state", "outcome", "ended_at") == {
        "state": "live",
        "outcome": None,
        "ended_at": None,
    }


def test_json_leaves_out_what_was_not_heard_or_has_no_words() -> None:
    state = fold(
        numbered(
            [
                AgentSaid(item_id="i1", text="never heard", heard_ms=0),
                AgentSaid(item_id="i2", text="", heard_ms=40),
                CallerSaid(item_id="i3", text=""),
                CallerSaid(item_id="i4", text=" "),
                CallerSaid(item_id="i5", text="Yes"),
            ]
        )
    )
    assert [line["text"] for line in to_json(state)["transcript"]] == ["Yes"]


@given(ENTRIES)
def test_json_is_json_whatever_was_recorded(entries: list[Entry]) -> None:
    told = to_json(fold(entries))
    assert json.loads(json.dumps(told)) == told


@given(st.floats(0, 4e9))
def test_rfc3339_reads_back_to_the_millisecond(at: float) -> None:
    written = rfc3339(at)
    assert written is not None
    assert written.endswith("Z")
    assert abs(datetime.fromisoformat(written).timestamp() - at) < 0.001_01


@given(st.floats())
def test_rfc3339_survives_any_clock(at: float) -> None:
    written = rfc3339(at)
    assert written is None or len(written) == len("1970-01-01T00:00:00.000Z")
