"""The bench's own instruments: what they find in audio, and what they make of figures."""

from __future__ import annotations

import socket
from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
from generator import audio
from generator.model import CUT_TURN, FIRST_TURN_MIN, WHOLE_TURN, first_turn
from generator.sockets import Socket, header, xor
from generator.verdict import generator_was_the_limit, shortfalls
from hypothesis import given
from hypothesis import strategies as st

from callrt.protocol.audio import Resampler, mulaw_decode, mulaw_encode, pcm_encode

ROW: dict[str, Any] = {
    "calls": 100,
    "live": 100,
    "ended": 0,
    "failed_starts": 0,
    "lost_up_frames": 0,
    "starved_ms": 0.0,
    "frames": 5000,
    "frames_heard": 5000,
    "up_p99_ms": 3.0,
    "down_p99_ms": 4.0,
    "generator_cpu_percent": 50.0,
    "generator_late_p99_ms": 0.4,
}


# -- what is inside the audio --------------------------------------------------------------------------------


@given(st.integers(1, 65_535), st.integers(0, 50), st.binary(max_size=400))
def test_a_stamp_is_found_wherever_it_lies(call, reply, before):
    stamp = audio.stamp(call, reply, 7, 1.5)
    sound = before.replace(audio.MAGIC[:1], b"\x00") + stamp + b"\x71" * 30
    assert audio.stamps_in(sound) == [(call, reply, 7, 1.5)]


def test_a_stamp_that_is_cut_off_is_not_guessed():
    assert audio.stamps_in(audio.stamp(1, 2, 3, 4.0)[:-1]) == []


def beacons(call: int, frames: int) -> bytes:
    """The caller's audio, as 24 kHz PCM behind a resampler."""
    import base64

    up = Resampler(8_000, 24_000)
    line = b"".join(base64.b64decode(audio.beacon_frame(call, number)) for number in range(frames))
    return up.push(pcm_encode(mulaw_decode(line)))


@pytest.mark.parametrize("call", [1, 5, 512, audio.CALLS_MAX])
@pytest.mark.parametrize("piece_ms", [7, 20, 55, 200])
def test_beacons_are_found_behind_a_resampler_in_pieces_of_any_size(call, piece_ms):
    reader, pcm = audio.BeaconReader(), beacons(call, 4 * audio.BEACON_FRAMES)
    size, begun = piece_ms * 48, []
    for at in range(0, len(pcm), size):
        found, missing = reader.push(pcm[at : at + size], at / 48_000)
        if found:
            assert abs(missing) < audio.FRAME_SAMPLES / 4
            begun.append(at / 48_000)
    assert reader.call == call
    assert reader.first_onset == 0.0
    assert len(begun) == 3
    for second, at in enumerate(begun, start=1):
        assert second - piece_ms / 1000 <= at <= second + 0.01


def test_frames_that_are_missing_between_two_beacons_are_counted():
    pcm, reader = beacons(3, 3 * audio.BEACON_FRAMES), audio.BeaconReader()
    frame = audio.FRAME_SAMPLES * 2
    lost = 0
    for number in range(3 * audio.BEACON_FRAMES):
        if number in (70, 71, 80):
            continue
        begun, missing = reader.push(pcm[number * frame : (number + 1) * frame], number * 0.02)
        if begun:
            lost += round(missing / audio.FRAME_SAMPLES)
    assert lost == 3


def test_only_a_loud_frame_is_loud():
    t = np.arange(160) / 8000
    assert audio.is_loud(mulaw_encode((15_000 * np.sin(6283 * t)).astype(np.int16)))
    assert not audio.is_loud(mulaw_encode((2_000 * np.sin(6283 * t)).astype(np.int16)))
    assert not audio.is_loud(b"\xff" * 160 + b"\x7f" * 160)


# -- frames ----------------------------------------------------------------------------------------------------


class Ear(Socket):
    def __init__(self) -> None:
        self.heard: list[bytes] = []
        self.answers: list[tuple[int, bytes]] = []
        super().__init__(self, socket.socket())  # type: ignore[arg-type]

    out_of_room = 0

    def watch(self, sock: socket.socket, handler: Callable[[], None]) -> None:
        pass

    def forget(self, sock: socket.socket) -> None:
        sock.close()

    def message(self, payload: bytes, mask: bytes) -> None:
        self.heard.append(xor(payload, mask) if mask else payload)

    def control(self, opcode: int, payload: bytes) -> None:
        self.answers.append((opcode, payload))


@given(
    st.lists(st.tuples(st.integers(0, 70_000), st.booleans()), max_size=4),
    st.lists(st.integers(1, 5000), min_size=1, max_size=6),
)
def test_messages_come_out_of_any_pieces(sizes, pieces):
    wire, messages = b"", []
    for size, masked in sizes:
        body = bytes(range(256)) * (size // 256) + bytes(range(size % 256))
        messages.append(body)
        mask = b"\x01\x80\xfe\x33" if masked else b""
        wire += header(1, size, 128 if masked else 0) + mask + (xor(body, mask) if masked else body)
    ear, rest, at, turn = Ear(), b"", 0, 0
    while at < len(wire):
        size = pieces[turn % len(pieces)]
        rest = ear.frames(rest + wire[at : at + size])
        at, turn = at + size, turn + 1
    ear.sock.close()
    assert ear.heard == messages
    assert rest == b""


def test_a_ping_is_answered_with_what_it_says():
    ear = Ear()
    ear.frames(header(9, 2, 128) + b"abcd" + xor(b"hi", b"abcd"))
    ear.sock.close()
    assert ear.answers == [(10, b"hi")]


# -- the script ------------------------------------------------------------------------------------------------


def turns(call: int, until: float) -> list[tuple[float, bool]]:
    """When each turn after the first begins, and whether it is a whole one."""
    at, whole = first_turn(call)
    found = []
    while at < until:
        whole = not whole
        found.append((at, whole))
        at += WHOLE_TURN if whole else CUT_TURN
    return found


def test_as_much_is_said_and_cut_off_soon_after_calls_began_as_ever_after():
    calls = 600
    begun = [turn for call in range(1, calls + 1) for turn in turns(call, 30.0)]
    expected = calls * 3 / (WHOLE_TURN + CUT_TURN)  # of each kind, in three seconds
    for second in range(6, 27, 3):
        window = [whole for at, whole in begun if second <= at < second + 3]
        for kind in (True, False):
            assert 0.9 * expected < window.count(kind) < 1.1 * expected


def test_the_first_answer_has_time_to_arrive():
    assert all(first_turn(call)[0] >= FIRST_TURN_MIN for call in range(1, 5000))


# -- figures ---------------------------------------------------------------------------------------------------


def test_what_was_asked_for_is_there():
    assert shortfalls(ROW, 20.0) == []


@pytest.mark.parametrize(
    ("change", "missing"),
    [
        ({"live": 99}, "calls ended"),
        ({"ended": 1}, "calls ended"),
        ({"failed_starts": 1}, "calls ended"),
        ({"lost_up_frames": 1}, "frames lost"),
        ({"starved_ms": 0.1}, "starved"),
        ({"frames_heard": 0}, "nothing heard"),
        ({"up_p99_ms": 20.1}, "up late"),
        ({"down_p99_ms": 20.1}, "down late"),
    ],
)
def test_each_shortfall_has_its_name(change, missing):
    assert shortfalls(ROW | change, 20.0) == [missing]


def test_the_tail_that_is_asked_for_is_bounded():
    row = ROW | {"up_p95_ms": 9.0, "down_p95_ms": 9.0, "up_p99_ms": 60.0}
    assert shortfalls(row, 20.0) == ["up late"]
    assert shortfalls(row, 20.0, tail="p95") == []
    assert shortfalls(row | {"down_p95_ms": 21.0}, 20.0, tail="p95") == ["down late"]


def test_a_delay_by_choice_is_allowed_for_and_no_more():
    late = ROW | {"up_p99_ms": 60.0, "starved_ms": 500.0}
    assert shortfalls(late, 20.0, allowance_ms=45.0, steady=False) == []
    assert shortfalls(late, 20.0, allowance_ms=35.0, steady=False) == ["up late"]


def test_a_busy_or_a_late_generator_was_the_limit():
    assert not generator_was_the_limit(ROW)
    assert generator_was_the_limit(ROW | {"generator_cpu_percent": 97.0})
    assert generator_was_the_limit(ROW | {"generator_late_p99_ms": 9.0})
