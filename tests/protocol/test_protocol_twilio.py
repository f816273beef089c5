"""The Twilio dialect: documented messages are understood, everything else is counted and harms nothing."""

from __future__ import annotations

import base64
import json

import pytest
from hypothesis import given
from hypothesis import strategies as st

from callrt.protocol.carriers.events import (
    AudioReceived,
    BadMessage,
    CarrierEvent,
    ClearAudio,
    DigitPressed,
    MarkEchoed,
    SendAudio,
    SendMark,
    StreamConnected,
    StreamStarted,
    StreamStopped,
)
from callrt.protocol.carriers.twilio import AUDIO_BYTES_MAX, MISSING_MS_MAX, TwilioCodec

FRAME = bytes(range(160))
START = {
    "event": "start",
    "sequenceNumber": "1",
    "streamSid": "MZ9f",
    "start": {
        "accountSid": "AC01",
        "callSid": "CA77",
        "streamSid": "MZ9f",
        "tracks": ["inbound"],
        "mediaFormat": {"encoding": "audio/x-mulaw", "sampleRate": 8000, "channels": 1},
        "customParameters": {"generation": "1"},
    },
}


def media(n: int = 1, **changes: object) -> dict[str, object]:
    """The nth frame of a stream without faults."""
    body: dict[str, object] = {
        "track": "inbound",
        "chunk": str(n),
        "timestamp": str(38 + 20 * (n - 1)),
        "payload": base64.b64encode(FRAME).decode(),
    }
    body.update(changes)
    return {"event": "media", "sequenceNumber": str(n + 1), "streamSid": "MZ9f", "media": body}


def started() -> TwilioCodec:
    codec = TwilioCodec()
    codec.decode(json.dumps(START))
    return codec


def tell(codec: TwilioCodec, message: object) -> CarrierEvent:
    return codec.decode(json.dumps(message))


def test_a_whole_stream_as_documented_is_understood():
    codec = TwilioCodec()
    assert tell(codec, {"event": "connected", "protocol": "Call", "version": "1.0.0"}) == StreamConnected(
        "Call", "1.0.0"
    )
    assert codec.stream_id is None
    assert tell(codec, START) == StreamStarted(
        "MZ9f", "CA77", "AC01", ("inbound",), "audio/x-mulaw", 8000, 1, {"generation": "1"}
    )
    assert codec.stream_id == "MZ9f"
    assert tell(codec, media(1)) == AudioReceived(FRAME, 38)
    assert tell(codec, media(2)) == AudioReceived(FRAME, 58)
    dtmf = {"track": "inbound_track", "digit": "#"}
    assert tell(
        codec, {"event": "dtmf", "sequenceNumber": "4", "streamSid": "MZ9f", "dtmf": dtmf}
    ) == DigitPressed("#")
    mark = {"event": "mark", "sequenceNumber": "5", "streamSid": "MZ9f", "mark": {"name": "g1:item_3:40"}}
    assert tell(codec, mark) == MarkEchoed("g1:item_3:40")
    stop = {
        "event": "stop",
        "sequenceNumber": "6",
        "streamSid": "MZ9f",
        "stop": {"accountSid": "AC01", "callSid": "CA77"},
    }
    assert tell(codec, stop) == StreamStopped("CA77")
    assert tell(codec, media(3)) == BadMessage("after_stop")


def test_look_alikes_are_understood():
    """Numbers for strings, parameters beside ``start``, no parameters, unknown fields, no counters."""
    start = json.loads(json.dumps(START))
    start["sequenceNumber"] = 1
    start["start"]["mediaFormat"] |= {"sampleRate": "8000", "bits": 8}
    start["customParameters"] = start["start"].pop("customParameters") | {"n": 5, "yes": True, "no": None}
    codec = TwilioCodec()
    event = tell(codec, start)
    assert isinstance(event, StreamStarted)
    assert event.parameters == {"generation": "1", "n": "5", "yes": "true", "no": ""}
    assert event.sample_rate == 8000
    assert tell(codec, media(1, chunk=1, timestamp=38, extra=[])) == AudioReceived(FRAME, 38)
    bare = {
        "event": "media",
        "streamSid": "MZ9f",
        "media": {"payload": base64.b64encode(FRAME).decode()},
        "x": {},
    }
    assert tell(codec, bare) == AudioReceived(FRAME, 58)
    assert tell(codec, {"event": "mark", "streamSid": "MZ9f", "mark": {"name": 7}}) == MarkEchoed("7")
    assert tell(codec, {"event": "stop", "streamSid": "MZ9f"}) == StreamStopped("CA77")


def test_start_without_parameters_and_tracks_is_a_start():
    start = json.loads(json.dumps(START))
    del start["start"]["customParameters"], start["start"]["tracks"], start["start"]["accountSid"]
    assert tell(TwilioCodec(), start) == StreamStarted("MZ9f", "CA77", "", (), "audio/x-mulaw", 8000, 1, {})


BAD = {
    "binary": b"\x00\x01",
    "not_json": '{"event":"media"',
    "not_an_object": "[1,2]",
    "unknown_event": '{"event":"surprise","media":5}',
    "missing_field": '{"streamSid":"MZ9f"}',
    "wrong_type": '{"event":"media","streamSid":"MZ9f","media":5}',
    "wrong_stream": json.dumps(media() | {"streamSid": "MZ00"}),
    "bad_base64": json.dumps(media(payload="ab*=")),
    "empty_audio": json.dumps(media(payload="")),
    "second_start": json.dumps(START),
    "after_start": '{"event":"connected"}',
    "outbound_track": json.dumps(media(track="outbound")),
    "bad_digit": '{"event":"dtmf","streamSid":"MZ9f","dtmf":{"digit":"77"}}',
    "too_large": '{"event":"media","x":"' + "a" * 262_144 + '"}',
}


@pytest.mark.parametrize("reason", BAD)
def test_bad_input_is_named_by_a_static_word_and_changes_nothing(reason):
    codec = started()
    tell(codec, media(1))
    assert codec.decode(BAD[reason]) == BadMessage(reason)
    assert tell(codec, media(2)) == AudioReceived(FRAME, 58)


@pytest.mark.parametrize(
    ("message", "reason"),
    [
        ("", "not_json"),
        ("[" * 100_000, "not_json"),
        ('"\ud800"', "not_json"),
        ("null", "not_an_object"),
        ('{"event":5}', "wrong_type"),
        ('{"event":null}', "missing_field"),
        (json.dumps(media(payload=None)), "missing_field"),
        (json.dumps(media(payload="é")), "bad_base64"),
        (json.dumps(media(payload=base64.b64encode(bytes(AUDIO_BYTES_MAX + 1)).decode())), "too_large"),
        (json.dumps(media(chunk=[])), "wrong_type"),
        (json.dumps(media(chunk="-1")), "wrong_type"),
        (json.dumps(media(timestamp="1e3")), "wrong_type"),
        (json.dumps(media(timestamp="9" * 5000)), "wrong_type"),
        (json.dumps(media(timestamp=10**30)), "wrong_type"),
        ('{"event":"media","media":{"payload":"AAAA"}}', "missing_field"),
        ('{"event":"mark","streamSid":"MZ9f"}', "missing_field"),
        ('{"event":"mark","streamSid":"MZ9f","mark":{"name":""}}', "missing_field"),
        (json.dumps({"event": "mark", "streamSid": "MZ9f", "mark": {"name": "x" * 300}}), "too_large"),
    ],
)
def test_crooked_messages_have_a_reason(message, reason):
    assert started().decode(message) == BadMessage(reason)


@pytest.mark.parametrize("event", ["media", "dtmf", "mark", "stop"])
def test_nothing_counts_before_start(event):
    message = media() | {"event": event, event: {"digit": "1", "name": "x", "payload": "AAAA"}}
    assert tell(TwilioCodec(), message) == BadMessage("before_start")


@pytest.mark.parametrize("lost", ["callSid", "mediaFormat"])
def test_a_start_without_identity_or_format_is_none(lost):
    start = json.loads(json.dumps(START))
    del start["start"][lost]
    codec = TwilioCodec()
    assert tell(codec, start) == BadMessage("missing_field")
    assert codec.stream_id is None
    assert isinstance(tell(codec, START), StreamStarted)


def test_a_start_that_names_two_streams_is_refused():
    assert tell(TwilioCodec(), START | {"streamSid": "MZ00"}) == BadMessage("wrong_stream")


# -- gaps ----------------------------------------------------------------------------------------------


def test_dropped_frames_are_reported_as_missing_time_once():
    codec = started()
    tell(codec, media(1))
    assert tell(codec, media(5)) == AudioReceived(FRAME, 118, missing_ms=60)
    assert tell(codec, media(6)) == AudioReceived(FRAME, 138)


def test_without_chunks_the_sequence_number_shows_the_gap():
    codec = started()
    first, later = media(1), media(4)
    for message in (first, later):
        del message["media"]["chunk"]
    tell(codec, first)
    assert tell(codec, later) == AudioReceived(FRAME, 98, missing_ms=40)


def test_a_mark_between_two_frames_is_no_gap():
    codec = started()
    tell(codec, media(1))
    tell(codec, {"event": "mark", "sequenceNumber": "3", "streamSid": "MZ9f", "mark": {"name": "m"}})
    assert tell(codec, media(2) | {"sequenceNumber": "4"}) == AudioReceived(FRAME, 58)


def test_a_frame_that_could_not_be_read_is_missing_time():
    codec = started()
    tell(codec, media(1))
    tell(codec, media(2, payload="???"))
    assert tell(codec, media(3)) == AudioReceived(FRAME, 78, missing_ms=20)


@pytest.mark.parametrize("timestamp", ["0", "38", "900000000"])
def test_a_jumping_clock_without_a_gap_is_no_missing_time(timestamp):
    codec = started()
    tell(codec, media(1))
    assert tell(codec, media(2, timestamp=timestamp)) == AudioReceived(FRAME, int(timestamp))


@given(st.lists(st.tuples(st.integers(0, 10**6), st.integers(0, 10**12)), max_size=20))
def test_missing_time_is_bounded_whatever_counters_and_clocks_say(frames):
    codec = started()
    for chunk, timestamp in frames:
        event = tell(codec, media(1, chunk=str(chunk), timestamp=str(timestamp)))
        assert isinstance(event, AudioReceived)
        assert 0 <= event.missing_ms <= MISSING_MS_MAX


# -- any input at all ----------------------------------------------------------------------------------

json_values = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False) | st.text(),
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(st.text(), inner, max_size=4),
    max_leaves=8,
)


@given(st.text() | st.binary())
def test_no_text_and_no_bytes_make_it_raise(message):
    assert isinstance(started().decode(message), BadMessage)


@given(
    st.sampled_from(["connected", "start", "media", "dtmf", "mark", "stop"]),
    st.dictionaries(st.sampled_from(["streamSid", "sequenceNumber", "protocol", "version"]), json_values),
    json_values
    | st.dictionaries(
        st.sampled_from(
            ["track", "chunk", "timestamp", "payload", "name", "digit", "callSid", "mediaFormat"]
        ),
        json_values,
    ),
)
def test_no_object_makes_it_raise_or_forget_its_stream(event, fields, body):
    codec = started()
    result = codec.decode(json.dumps(fields | {"event": event, event: body}))
    assert isinstance(result, CarrierEvent)
    assert codec.stream_id == "MZ9f"
    assert codec.decode(json.dumps(media(1))) in (AudioReceived(FRAME, 38), BadMessage("after_stop"))


# -- out -----------------------------------------------------------------------------------------------


def test_envelopes_have_the_documented_fields_and_no_other():
    codec = started()
    assert json.loads(codec.encode(SendAudio(FRAME))) == {
        "event": "media",
        "streamSid": "MZ9f",
        "media": {"payload": base64.b64encode(FRAME).decode()},
    }
    assert json.loads(codec.encode(SendMark('g1:"ü":40'))) == {
        "event": "mark",
        "streamSid": "MZ9f",
        "mark": {"name": 'g1:"ü":40'},
    }
    assert json.loads(codec.encode(ClearAudio())) == {"event": "clear", "streamSid": "MZ9f"}


@given(st.text(min_size=1, max_size=40), st.binary(max_size=400))
def test_any_stream_id_and_payload_make_valid_json(stream_id, payload):
    start = json.loads(json.dumps(START))
    start["streamSid"] = start["start"]["streamSid"] = stream_id
    codec = TwilioCodec()
    codec.decode(json.dumps(start))
    message = json.loads(codec.encode(SendAudio(payload)))
    assert message["streamSid"] == stream_id
    assert base64.b64decode(message["media"]["payload"]) == payload


@pytest.mark.parametrize("command", [SendAudio(FRAME), SendMark("m"), ClearAudio()])
def test_speaking_before_start_is_our_own_bug(command):
    with pytest.raises(RuntimeError):
        TwilioCodec().encode(command)
