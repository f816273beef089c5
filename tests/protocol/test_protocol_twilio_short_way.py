"""The short way of a media message: whatever takes it means what the long way would have made of it."""

from __future__ import annotations

import base64
import json

from hypothesis import given
from hypothesis import strategies as st

from callrt.protocol.carriers.events import AudioReceived, CarrierEvent, StreamStopped
from callrt.protocol.carriers.twilio import TwilioCodec

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


_ODD = st.sampled_from(
    [
        "",
        "1e2",
        "5.0",
        "007",
        "-1",
        "٣",
        " 7",
        "9" * 18,
        "9" * 19,
        "inbound",
        "outbound",
        "MZ9f",
        "media",
        "stop",
    ]
)
_VALUE = (
    _ODD | st.none() | st.booleans() | st.integers(-2, 12) | st.builds(list) | st.builds(dict) | st.just(1.5)
)
_WHERE = [
    "event",
    "streamSid",
    "sequenceNumber",
    "start",
    "mark",
    "more",
    "media",
    "media.track",
    "media.chunk",
    "media.timestamp",
    "media.payload",
    "media.more",
]
_BASE64 = ["AA==", "AB==", "AAA", "AAAA=", "AA AA", "_-_-", "AAAA" * 600]
_CHANGE = st.tuples(st.sampled_from(_WHERE), _VALUE | st.sampled_from(_BASE64))


def changed(n: int, changes: list[tuple[str, object]], *, drop: str | None) -> str:
    message = media(n)
    for where, value in changes:
        head, _, field = where.partition(".")
        inner = message.get(head)
        if field and isinstance(inner, dict):
            inner[field] = value
        elif not field:
            message[head] = value
    if drop is not None:
        message.pop(drop, None)
    return json.dumps(message, separators=(",", ":"))


def by_the_short_way(codec: TwilioCodec, message: str) -> CarrierEvent | bytes:
    audio = codec.next_audio(message.encode())
    return codec.decode(message) if audio is None else audio


@given(
    st.lists(
        st.tuples(
            st.integers(0, 4), st.lists(_CHANGE, max_size=2), st.sampled_from([None, "media", "streamSid"])
        ),
        max_size=8,
    )
)
def test_the_short_way_says_what_the_long_one_says(messages):
    short, long = started(), started()
    n = 1
    for step, changes, drop in messages:
        n = max(1, n + step - 1)
        message = changed(n, changes, drop=drop if changes else None)
        said, expected = by_the_short_way(short, message), long.decode(message)
        if isinstance(said, bytes):
            assert isinstance(expected, AudioReceived)
            assert (said, 0) == (expected.payload, expected.missing_ms)
        else:
            assert said == expected
    # Both know the same about what is missing next.
    for after in (n + 1, n + 3, n + 4):
        assert short.decode(json.dumps(media(after))) == long.decode(json.dumps(media(after)))


@given(st.data())
def test_a_mutilated_message_never_gets_through_on_the_short_way_alone(data):
    short, long = started(), started()
    for n in (1, 2):
        by_the_short_way(short, changed(n, [], drop=None))
        long.decode(changed(n, [], drop=None))
    message = changed(3, [], drop=None)
    at = data.draw(st.integers(0, len(message) - 1))
    other = data.draw(st.text(max_size=3))
    mutilated = message[:at] + other + message[at + data.draw(st.integers(0, 4)) :]
    said, expected = by_the_short_way(short, mutilated), long.decode(mutilated)
    if isinstance(said, bytes):
        assert isinstance(expected, AudioReceived)
        assert (said, 0) == (expected.payload, expected.missing_ms)
    else:
        assert said == expected


def test_a_stream_as_twilio_sends_it_goes_the_short_way():
    codec = started()
    assert codec.next_audio(changed(1, [], drop=None).encode()) is None  # nothing to follow yet
    codec.decode(changed(1, [], drop=None))
    assert [codec.next_audio(changed(n, [], drop=None).encode()) for n in (2, 3, 4)] == [FRAME] * 3


def test_a_key_that_comes_twice_counts_as_the_long_way_counts_it():
    short, long = started(), started()
    for codec in (short, long):
        codec.decode(changed(1, [], drop=None))
    message = changed(2, [], drop=None)[:-1] + ',"event":"stop"}'
    assert short.next_audio(message.encode()) is None
    assert short.decode(message) == long.decode(message) == StreamStopped("CA77")
