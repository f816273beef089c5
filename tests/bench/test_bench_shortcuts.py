"""The generator's short ways mean the same as the long ones."""

from __future__ import annotations

import json
import socket
from array import array
from binascii import a2b_base64, b2a_base64
from collections import deque
from collections.abc import Callable, Iterable
from types import SimpleNamespace
from typing import Any

import pytest
from generator import audio
from generator.books import quantile
from generator.model import Model
from generator.shortcuts import (
    AUDIO_DELTA,
    TEXT_DELTA,
    StampedFrames,
    StampPlace,
    TextPlace,
    media_message,
)
from generator.sockets import header, xor
from generator.world import Window, World
from hypothesis import given
from hypothesis import strategies as st

MASKS = st.binary(min_size=4, max_size=4)
TIMES = st.floats(0, 1e9)
APPEND = '{"type":"input_audio_buffer.append","audio":"'
SID = b"MZ" + b"0" * 32


def frame_of(payload: bytes, mask: bytes) -> bytes:
    return header(1, len(payload), 128) + mask + xor(payload, mask)


# -- the caller's frames -------------------------------------------------------------------------------------


@given(
    st.integers(1, 65_535),
    MASKS,
    st.lists(st.tuples(st.integers(0, 2_000_000), TIMES), min_size=1).map(sorted),
    st.text("MZ0123456789abcdef", min_size=1, max_size=40).map(str.encode),
)
def test_a_frame_from_the_template_is_the_frame_built_anew(call, mask, frames, sid):
    template = StampedFrames(call, sid, mask)
    for number, at in frames:
        sound = audio.stamp(call, 0, number + 1, at).ljust(audio.FRAME_BYTES, b"\x71")
        message = media_message(number, b2a_base64(sound, newline=False), sid)
        assert template.frame(number, at) == frame_of(message, mask)


@pytest.mark.parametrize("edge", [5, 8, 9, 50, 98, 99, 500, 998, 999, 5_000, 9_998, 9_999, 50_000])
def test_the_template_grows_with_the_numbers(edge):
    template = StampedFrames(7, SID, b"abcd")
    for number in range(edge - 2, edge + 3):
        message = json.loads(xor(template.frame(number, 1.5)[8:], b"abcd"))
        media = message["media"]
        assert (message["sequenceNumber"], media["chunk"]) == (str(number + 2), str(number + 1))
        assert media["timestamp"] == str(number * 20)
        assert message["streamSid"].encode() == SID
        assert audio.stamps_in(a2b_base64(media["payload"])) == [(7, 0, number + 1, 1.5)]
        assert len(a2b_base64(media["payload"])) == audio.FRAME_BYTES


# -- the model's ear -----------------------------------------------------------------------------------------


class Books:
    """What a model needs of its world: nothing moves here."""

    def __init__(self) -> None:
        self.plan = SimpleNamespace(beacon=False)
        self.tls = None
        self.window = Window()
        self.out_of_room = 0

    def watch(self, sock: socket.socket, handler: Callable[[], None]) -> None:
        pass

    def forget(self, sock: socket.socket) -> None:
        pass

    def at(self, when: float, what: Callable[[], None]) -> None:
        pass


def ear(heard: Iterable[bytes], *, short: bool) -> tuple[int, int, int, int, int]:
    """Frames lost and heard and what the model remembers, after each frame has come in a read of its own."""
    world = Books()
    with socket.socket() as sock:
        live = {call: SimpleNamespace(number=call, live=True, model=None) for call in (1, 2)}
        model = Model(world, SimpleNamespace(live=live), sock)  # type: ignore[arg-type]
        model.upgraded = True
        taken = 0
        for data in heard:
            if short and len(data) == model.usual and model.short(data):
                taken += 1
            else:
                model.frames(data)
        return taken, len(world.window.up), world.window.lost_up, model.expected, model.appended_ms


def append(call: int, number: int, mask: bytes, *, spaces: bool = False) -> bytes:
    sound = audio.stamp(call, 0, number, 1.0).ljust(audio.FRAME_BYTES, b"\x71")
    message = {"type": "input_audio_buffer.append", "audio": b2a_base64(sound).decode().strip()}
    separators = (", ", ": ") if spaces else (",", ":")
    return frame_of(json.dumps(message, separators=separators).encode(), mask)


FRAMES = st.builds(append, st.sampled_from([1, 1, 1, 2, 3]), st.integers(1, 200), MASKS, spaces=st.booleans())


def mutilated(frame: bytes, place: int, byte: int) -> bytes:
    """Its audio is hurt somewhere; what is no longer a frame of JSON is not the model's business."""
    place = 8 + len(APPEND) + place % 200
    return frame[:place] + bytes((frame[place] ^ byte,)) + frame[place + 1 :]


@given(st.lists(FRAMES, max_size=12))
def test_the_short_way_hears_what_the_long_one_hears(frames):
    taken, *heard = ear(frames, short=True)
    none, *expected = ear(frames, short=False)
    assert heard == expected
    assert none == 0
    assert taken < max(1, len(frames))


@given(FRAMES, st.lists(st.tuples(FRAMES, st.integers(32, 199), st.integers(0, 255)), max_size=5))
def test_the_short_way_looks_at_the_stamp_and_not_at_the_rest(first, hurt):
    frames = [first] + [mutilated(frame, place, byte) for frame, place, byte in hurt]
    assert ear(frames, short=True)[1:] == ear(frames, short=False)[1:]


def test_the_short_way_is_taken_for_the_usual_frames():
    frames = [append(1, number, bytes((number, 7, 9, 200))) for number in range(1, 51)]
    assert ear(frames, short=True) == (49, 50, 0, 51, 1000)


def test_the_short_way_counts_what_is_lost():
    frames = [append(1, number, b"abcd") for number in (1, 2, 5, 6, 9)]
    assert ear(frames, short=True)[1:3] == (5, 4)


@given(MASKS, st.integers(0, 24), st.integers(1, 255))
def test_a_stamp_is_never_found_in_another_message_of_the_same_size(mask, place, byte):
    stamps = StampPlace()
    frame = append(1, 5, b"abcd")
    stamps.learn(APPEND.encode(), len(frame) - 8)
    assert stamps.size == len(frame)
    assert stamps.find(append(1, 5, mask)) == (1, 0, 5, 1.0)
    other = APPEND.replace("append", "listen").encode() + b"x" * (len(frame) - 8 - len(APPEND))
    assert stamps.find(frame_of(other, mask)) is None
    assert stamps.find(b"\x82" + frame[1:]) is None
    # A stamp that was hurt is either none or says something else; it is not made whole.
    hurt = stamps.find(mutilated(frame, place, byte))
    assert hurt is None or hurt != (1, 0, 5, 1.0)


# -- what comes down -----------------------------------------------------------------------------------------


@given(st.text(max_size=40), st.lists(st.text(max_size=40), max_size=5), st.sampled_from(["", " "]))
def test_a_text_is_found_where_the_parser_finds_it(first, others, space):
    def mark(name: str) -> bytes:
        message = {"event": "mark", "streamSid": "MZ1", "mark": {"name": name}}
        return json.dumps(message, ensure_ascii=False, separators=("," + space, ":" + space)).encode()

    place = TextPlace()
    assert place.find(mark(first)) is None
    place.learn(mark(first), json.dumps(first, ensure_ascii=False)[1:-1].encode())
    for name in [first, *others]:
        found = place.find(mark(name))
        assert found is None or found.decode() == name
        if b"\\" not in mark(first + name) and first not in ("event", "mark", "streamSid", "MZ1", "name"):
            assert found == name.encode()


def test_a_message_of_another_shape_is_not_taken_for_the_learned_one():
    place = TextPlace()
    place.learn(b'{"event":"media","media":{"payload":"abcd"}}', b"abcd")
    assert place.find(b'{"event":"media","media":{"payload":"efghij"}}') == b"efghij"
    assert place.find(b'{"event":"media","media":{"payload":"ef","more":"ij"}}') is None
    assert place.find(b'{"event":"media","media":{"payload":"e\\u0066"}}') is None
    assert place.find(b'{"event":"clear","media":{"payload":"efghij"}}') is None
    assert place.find(b'{"event":"media","media":{"payload":"}}') is None


def test_deltas_are_the_messages_that_the_api_documents():
    place: dict[str, Any] = {"response_id": "r3", "item_id": "a3", "output_index": 0, "content_index": 0}
    common = place | {"event_id": "event_9"}
    audio_type = "response.output_audio.delta"
    assert json.loads(AUDIO_DELTA % (b"cXFx", 3, 3, 9)) == {"type": audio_type, "delta": "cXFx"} | common
    text_type = "response.output_audio_transcript.delta"
    assert json.loads(TEXT_DELTA % (b"we are", 3, 3, 9)) == {"type": text_type, "delta": "we are"} | common


# -- phases and figures --------------------------------------------------------------------------------------


class Phone:
    def __init__(self, number: int) -> None:
        self.number = number
        self.due = 0.0
        self.live = True

    def send_frame(self) -> None:
        self.due += audio.FRAME


@given(st.lists(st.tuples(st.integers(1, 5000), st.integers(0, 30)), max_size=60))
def test_the_queue_of_telephones_stays_in_order_of_time(joined):
    world = World.__new__(World)
    world.phases = deque()
    for number, frames in joined:
        world.join(Phone(number))
        for _ in range(frames):
            phone = world.phases.popleft()
            phone.send_frame()
            world.phases.append(phone)
        dues = [phone.due for phone in world.phases]
        assert dues == sorted(dues)
        assert dues[-1] - dues[0] <= audio.FRAME + 1e-9


def test_telephones_that_begin_at_regular_times_have_phases_of_all_kinds():
    world = World.__new__(World)
    world.phases = deque()
    for number in range(1, 401):
        world.join(Phone(number))
    per_ms = [0] * 20
    for phone in world.phases:
        per_ms[int(phone.due % audio.FRAME * 1000) % 20] += 1
    assert max(per_ms) < 40
    assert min(per_ms) > 5


@given(st.lists(st.floats(0, 100), min_size=1), st.sampled_from([0.5, 0.99]))
def test_a_quantile_is_that_of_the_sorted_values(values, q):
    place = min(len(values) - 1, int(q * len(values)))
    assert quantile(array("d", values), q) == round(sorted(values)[place] * 1000, 2)
    assert quantile(array("d"), q) is None
