"""The carrier's playback buffer, marks and strictness, without clock or socket."""

from __future__ import annotations

import base64
import json

import pytest
from hypothesis import given
from hypothesis import strategies as st

from callrt.testing.carrier_stream import SILENT_FRAME, MediaStream, StreamBehaviour, WireEvent
from callrt.testing.speech import beeps


class Player:
    """Ticks a stream and keeps what it says and plays."""

    def __init__(self, behaviour: StreamBehaviour | None = None) -> None:
        self.wire: list[WireEvent] = []
        self.warnings: list[tuple[int, str]] = []
        self.stream = MediaStream(
            "MZ1",
            "CA1",
            "AC1",
            {"generation": "1"},
            behaviour=behaviour,
            first_timestamp_ms=38,
            record=self.wire.append,
            warn=lambda code, text: self.warnings.append((code, text)),
        )
        self.now = 0.0
        self.echoes: list[tuple[float, str]] = []
        self.heard = b""

    def send(self, **message: object) -> None:
        self.take(self.stream.receive(json.dumps({"streamSid": "MZ1", **message}), self.now))

    def take(self, messages: list[str]) -> None:
        for message in messages:
            body = json.loads(message)
            assert body["event"] == "mark"
            self.echoes.append((round(self.now, 3), body["mark"]["name"]))

    def play(self, audio: bytes) -> None:
        self.send(event="media", media={"payload": base64.b64encode(audio).decode()})

    def mark(self, name: str) -> None:
        self.send(event="mark", mark={"name": name})

    def tick(self, times: int = 1) -> None:
        for _ in range(times):
            self.take(self.stream.finish_frame(self.now))
            drawn = self.stream.begin_frame()
            assert len(drawn.frame) == 160
            self.heard += drawn.frame[: drawn.agent_bytes]
            self.now += 0.02

    def names(self) -> list[str]:
        return [name for _, name in self.echoes]


AUDIO = beeps("some words to be played in order")


def test_opening_is_connected_then_start_with_string_numbers() -> None:
    connected, start = map(json.loads, Player().stream.opening(0.0))
    assert connected == {"event": "connected", "protocol": "Call", "version": "1.0.0"}
    assert start["sequenceNumber"] == "1"
    assert start["streamSid"] == start["start"]["streamSid"] == "MZ1"
    assert start["start"]["mediaFormat"] == {"encoding": "audio/x-mulaw", "sampleRate": 8000, "channels": 1}
    assert start["start"]["customParameters"] == {"generation": "1"}
    assert start["start"]["tracks"] == ["inbound"]


def test_sequence_counts_every_message_and_chunk_counts_media() -> None:
    stream = Player().stream
    stream.opening(0.0)
    first = json.loads(stream.hear(SILENT_FRAME) or "")
    digit = json.loads(stream.press("4", 0.0))
    second = json.loads(stream.hear(SILENT_FRAME) or "")
    stop = json.loads(stream.stop(0.0))
    assert [m["sequenceNumber"] for m in (first, digit, second, stop)] == ["2", "3", "4", "5"]
    assert [m["media"]["chunk"] for m in (first, second)] == ["1", "2"]
    assert [m["media"]["timestamp"] for m in (first, second)] == ["38", "58"]
    assert first["media"]["track"] == "inbound"
    assert base64.b64decode(first["media"]["payload"]) == SILENT_FRAME
    assert digit["dtmf"] == {"track": "inbound_track", "digit": "4"}
    assert stop["stop"] == {"accountSid": "AC1", "callSid": "CA1"}


def test_discarded_frame_leaves_a_gap_in_the_numbers() -> None:
    stream = Player().stream
    stream.hear(SILENT_FRAME)
    assert stream.hear(SILENT_FRAME, discard=True) is None
    after = json.loads(stream.hear(SILENT_FRAME) or "")
    assert (after["sequenceNumber"], after["media"]["chunk"], after["media"]["timestamp"]) == ("3", "3", "78")
    assert stream.discarded == 1


def test_mark_is_echoed_when_the_audio_before_it_is_finished() -> None:
    player = Player()
    player.play(AUDIO[:320])
    player.mark("a")
    player.play(AUDIO[320:480])
    player.mark("b")
    player.tick(4)
    assert player.echoes == [(0.04, "a"), (0.06, "b")]
    assert player.heard == AUDIO[:480]


def test_mark_on_an_empty_buffer_is_echoed_at_once() -> None:
    player = Player()
    player.mark("now")
    assert player.echoes == [(0.0, "now")]
    player.play(AUDIO[:160])
    player.tick(2)
    player.mark("again")
    assert player.names() == ["now", "again"]


def test_clear_echoes_all_pending_marks_in_order_and_plays_nothing_more() -> None:
    player = Player()
    for n in range(4):
        player.play(AUDIO[n * 320 : (n + 1) * 320])
        player.mark(f"m{n}")
    player.tick(3)
    assert player.names() == ["m0"]
    player.send(event="clear")
    assert player.names() == ["m0", "m1", "m2", "m3"]
    player.tick(3)
    assert player.heard == AUDIO[:480]  # the frame that was being played is heard to its end
    assert player.stream.finished_bytes == 480
    player.send(event="clear")
    assert player.names() == ["m0", "m1", "m2", "m3"]


def test_audio_after_a_clear_is_played_and_its_mark_waits_for_it() -> None:
    player = Player()
    player.play(AUDIO[:1600])
    player.tick(2)
    player.send(event="clear")
    player.play(AUDIO[1600:1920])
    player.mark("new")
    player.tick()
    assert player.names() == []
    player.tick(2)
    assert player.names() == ["new"]
    assert player.heard == AUDIO[:320] + AUDIO[1600:1920]


def test_duplicate_mark_names_are_echoed_each() -> None:
    player = Player()
    player.play(AUDIO[:160])
    player.mark("same")
    player.mark("same")
    player.tick(2)
    assert player.names() == ["same", "same"]


def test_late_echo_comes_by_its_delay_and_may_overtake() -> None:
    player = Player(StreamBehaviour(echo_delay=lambda name: 0.3 if name == "slow" else 0.0))
    player.play(AUDIO[:160])
    player.mark("slow")
    player.play(AUDIO[160:320])
    player.mark("fast")
    player.tick(30)
    assert player.echoes == [(0.04, "fast"), (0.32, "slow")]


def test_carriers_without_echoes_stay_silent() -> None:
    mute = Player(StreamBehaviour(echoes_marks=False))
    lossy = Player(StreamBehaviour(clear_echoes=False))
    for player in (mute, lossy):
        player.play(AUDIO[:1600])
        player.mark("m")
        player.send(event="clear")
        player.tick(3)
        assert player.names() == []
    lossy.mark("later")
    assert lossy.names() == ["later"]


def test_buffer_overflow_is_dropped_and_counted() -> None:
    player = Player(StreamBehaviour(buffer_ms_max=100))
    player.play(AUDIO[:1600])
    player.mark("end")
    player.tick(6)
    assert player.heard == AUDIO[:800]
    assert player.stream.overflow_bytes == 800
    assert player.names() == ["end"]


def test_ragged_media_is_played_with_its_hole_and_counted() -> None:
    player = Player()
    player.play(AUDIO[:100])
    player.tick(2)
    assert player.heard == AUDIO[:100]
    assert (player.stream.ragged, player.stream.underruns) == (1, 1)


BAD = [
    (b"\x00\x01", 31950, "binary"),
    ("{", 31951, "not_json"),
    ("[]", 31951, "not_an_object"),
    ('{"event":"hello","streamSid":"MZ1"}', 31951, "unknown_event"),
    ('{"event":["media"],"streamSid":"MZ1"}', 31951, "unknown_event"),
    ('{"streamSid":"MZ1"}', 31951, "unknown_event"),
    ('{"event":"clear"}', 31951, "missing_field"),
    ('{"event":"clear","streamSid":"MZ0"}', 31951, "wrong_stream"),
    ('{"event":"clear","streamSid":"MZ1","sequenceNumber":"1"}', 31951, "extra_field"),
    ('{"event":"mark","streamSid":"MZ1"}', 31951, "missing_field"),
    ('{"event":"mark","streamSid":"MZ1","mark":{}}', 31951, "missing_field"),
    ('{"event":"mark","streamSid":"MZ1","mark":{"name":7}}', 31951, "missing_field"),
    ('{"event":"mark","streamSid":"MZ1","mark":{"name":"a","x":1}}', 31951, "extra_field"),
    ('{"event":"media","streamSid":"MZ1","media":{"payload":"%%"}}', 31951, "bad_base64"),
    ('{"event":"media","streamSid":"MZ1","media":{"payload":""}}', 31951, "empty_payload"),
    (
        '{"event":"media","streamSid":"MZ1","media":{"payload":"f38=","track":"outbound"}}',
        31951,
        "extra_field",
    ),
]


@pytest.mark.parametrize(("message", "code", "reason"), BAD)
def test_nonconforming_message_is_ignored_and_counted(message: str | bytes, code: int, reason: str) -> None:
    player = Player()
    player.play(AUDIO[:320])
    for _ in range(3):
        assert player.stream.receive(message, player.now) == []
    assert player.stream.refused == {code: 3}
    assert player.stream.reasons == {reason: 3}
    assert player.warnings == [(code, reason)]  # reported once per stream
    player.tick(3)
    assert player.heard == AUDIO[:320]


@given(st.one_of(st.binary(max_size=50), st.text(max_size=50)))
def test_no_message_can_break_the_stream(message: str | bytes) -> None:
    player = Player()
    player.stream.receive(message, 0.0)
    player.tick()


Step = st.one_of(
    st.tuples(st.just("play"), st.integers(1, 900)),
    st.tuples(st.just("mark"), st.just(0)),
    st.tuples(st.just("clear"), st.just(0)),
    st.tuples(st.just("tick"), st.integers(1, 8)),
)


@given(st.lists(Step, max_size=40))
def test_everything_is_heard_in_order_or_cleared_and_every_mark_is_echoed_once(
    steps: list[tuple[str, int]],
) -> None:
    player = Player()
    source = AUDIO * 40
    sent = marks = 0
    expected = b""  # of the audio sent, what has not been cleared
    for what, size in steps:
        match what:
            case "play":
                player.play(source[sent : sent + size])
                expected += source[sent : sent + size]
                sent += size
            case "mark":
                player.mark(str(marks))
                marks += 1
            case "clear":
                player.send(event="clear")
                expected = expected[: len(player.heard)]
            case _:
                player.tick(size)
    player.tick(len(expected) // 100 + 20)
    assert player.heard == expected
    assert player.names() == [str(n) for n in range(marks)]
    assert player.stream.finished_bytes == len(expected)
