"""Whatever a client sends, in whatever order: the emulated session answers in valid events and stays whole."""

from __future__ import annotations

import base64
import random
from typing import Any

import msgspec
from hypothesis import given, settings
from hypothesis import strategies as st
from testing_model_helpers import GREETING, SILENCE, check_server_event, script, utterance

from callrt.testing.model_core import ModelOptions, Out, Send
from callrt.testing.model_faults import FaultPlan
from callrt.testing.model_session import ModelSession
from callrt.testing.model_voice import BeepVoice

IDS = st.sampled_from(["spoken", "root", "item_a", "spoken", "root", "item_b", "i" * 40])
TEXT = st.one_of(st.sampled_from(["I need an appointment", "", GREETING]), st.text(max_size=10))
JUNK: st.SearchStrategy[Any] = st.recursive(
    st.one_of(st.none(), st.booleans(), st.integers(-5, 5), st.text(max_size=4)),
    lambda inner: st.one_of(
        st.lists(inner, max_size=2), st.dictionaries(st.text(max_size=4), inner, max_size=2)
    ),
    max_leaves=4,
)
SOUND = st.sampled_from(
    [
        utterance("I need an appointment") + SILENCE * 40,
        utterance("Tell me a lot")[:4000],
        SILENCE * 60,
        b"",
        b"\x00" * 333,
    ]
).map(lambda audio: base64.b64encode(audio).decode())


def event(kind: str, **fields: st.SearchStrategy[Any]) -> st.SearchStrategy[dict[str, Any]]:
    return st.fixed_dictionaries({"type": st.just(kind), **fields})


CONTENT = st.lists(
    st.one_of(
        event("input_text", text=TEXT),
        event("output_text", text=TEXT),
        event("input_audio", audio=SOUND),
        event("text", text=TEXT),
    ),
    max_size=2,
)
ITEM = st.one_of(
    event("message", id=IDS, role=st.sampled_from(["user", "assistant", "system"]), content=CONTENT),
    event("function_call", name=st.just("book"), arguments=st.just("{}"), call_id=IDS),
    event("function_call_output", call_id=IDS, output=TEXT),
    event("premonition"),
)
TURN = st.one_of(
    st.none(),
    st.fixed_dictionaries(
        {"type": st.sampled_from(["server_vad", "semantic_vad"])},
        optional={
            "create_response": st.booleans(),
            "interrupt_response": st.booleans(),
            "threshold": st.just(0.5),
        },
    ),
)
FORMAT = st.sampled_from(
    [{"type": "audio/pcmu"}, {"type": "audio/pcma"}, {"type": "audio/pcm", "rate": 24000}, {"type": "mp3"}]
)
SESSION = st.fixed_dictionaries(
    {"type": st.sampled_from(["realtime", "realtime", "transcription"])},
    optional={
        "instructions": TEXT,
        "output_modalities": st.sampled_from([["audio"], ["text"], []]),
        "audio": st.fixed_dictionaries(
            {},
            optional={
                "input": st.fixed_dictionaries(
                    {},
                    optional={
                        "format": FORMAT,
                        "turn_detection": TURN,
                        "transcription": st.sampled_from([None, {"model": "gpt-transcribe"}]),
                    },
                ),
                "output": st.fixed_dictionaries({}, optional={"format": FORMAT, "voice": st.just("cedar")}),
            },
        ),
        "tracing": st.sampled_from([None, "auto"]),
        "colour": st.just("blue"),
    },
)
RESPONSE = st.fixed_dictionaries(
    {},
    optional={
        "instructions": st.sampled_from([f'say exactly: "{GREETING}"', "x"]),
        "conversation": st.sampled_from(["auto", "none", "some"]),
        "metadata": st.one_of(
            st.none(), st.dictionaries(st.text(max_size=70), st.text(max_size=3), max_size=2)
        ),
        "input": st.lists(st.one_of(ITEM, event("item_reference", id=IDS)), max_size=2),
        "max_output_tokens": st.sampled_from([1, 30, "inf", 0]),
        "output_modalities": st.sampled_from([["audio"], ["text"]]),
    },
)
EVENTS = st.one_of(
    event("session.update", session=SESSION),
    event("input_audio_buffer.append", audio=SOUND),
    event("input_audio_buffer.commit"),
    event("input_audio_buffer.clear"),
    event("conversation.item.create", item=ITEM, previous_item_id=st.one_of(st.none(), IDS)),
    event(
        "conversation.item.truncate",
        item_id=IDS,
        content_index=st.integers(0, 1),
        audio_end_ms=st.integers(-1, 3000),
    ),
    event("conversation.item.delete", item_id=IDS),
    event("conversation.item.retrieve", item_id=IDS),
    event("response.create", response=RESPONSE),
    event("response.create"),
    event("response.cancel"),
    st.dictionaries(st.sampled_from(["type", "event_id", "audio", "item"]), JUNK, max_size=3),
    JUNK,
)


class Judge:
    """Reads all that goes out, and holds the session to what it said."""

    def __init__(self, session: ModelSession) -> None:
        self.session = session
        self.begun: set[str] = set()
        self.done: set[str] = set()

    def read(self, outs: list[Out]) -> None:
        for out in outs:
            assert isinstance(out, Send), "without faults nothing but text goes out"
            told = msgspec.json.decode(out.message)
            check_server_event(told)
            if told["type"] == "response.created":
                self.begun.add(told["response"]["id"])
            elif told["type"] == "response.done":
                assert told["response"]["id"] in self.begun - self.done
                self.done.add(told["response"]["id"])
            elif "response_id" in told:
                assert told["response_id"] in self.begun - self.done, "nothing of a reply lies outside it"
        ids = [item.id for item in self.session.conversation.items]
        assert len(ids) == len(set(ids))
        open_replies = [reply for reply in self.session.replies if reply.status == "in_progress"]
        assert len([reply for reply in open_replies if not reply.aside]) <= 1
        assert {reply.id for reply in open_replies} == self.begun - self.done


@settings(max_examples=150, deadline=None)
@given(steps=st.lists(st.tuples(EVENTS, st.sampled_from([0.0, 0.02, 0.5, 5.0])), min_size=4, max_size=25))
def test_any_client_gets_valid_events_and_every_reply_ends(steps: list[tuple[Any, float]]) -> None:
    session = ModelSession(script(), BeepVoice(), ModelOptions(), FaultPlan(), random.Random(1))
    judge = Judge(session)
    now = 0.0
    judge.read(session.start(now))
    for told, wait in steps:
        if isinstance(told, dict) and told.get("item_id") == "spoken" and session.spoken:
            told["item_id"] = session.spoken[-1].id
        elif isinstance(told, dict) and told.get("item_id") == "root" and session.items:
            told["item_id"] = session.conversation.items[0].id
        judge.read(session.receive(msgspec.json.encode(told).decode(), now))
        now += wait
        judge.read(session.advance(now))
    judge.read(
        session.receive(
            '{"type":"session.update","session":{"type":"realtime","audio":{"input":'
            '{"turn_detection":null}}}}',
            now,
        )
    )
    judge.read(session.advance(now + 300))
    assert judge.begun == judge.done
    for item in session.spoken:
        assert item.sent_ms <= item.words[-1].end_ms


@settings(max_examples=100, deadline=None)
@given(st.one_of(st.binary(max_size=60), st.text(max_size=60)))
def test_any_frame_is_answered_by_at_most_one_error(frame: bytes | str) -> None:
    session = ModelSession(script(), BeepVoice(), ModelOptions(), FaultPlan(), random.Random(1))
    session.start(0.0)
    outs = session.receive(frame, 0.0)
    assert [type(out) for out in outs] == [Send]
    (out,) = outs
    assert isinstance(out, Send)
    assert msgspec.json.decode(out.message)["type"] == "error"
