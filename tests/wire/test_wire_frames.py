"""Frames: what one side writes the other reads, however it is cut; and the same verdict as an independent reader."""

from __future__ import annotations

import itertools
import struct

import pytest
from hypothesis import given
from hypothesis import strategies as st
from wire_helpers import message_of
from wsproto.frame_protocol import FrameProtocol, Opcode, ParseFailed

from callrt.wire.direct_frames import (
    BINARY,
    CLOSE,
    CONTINUED,
    PING,
    TEXT,
    FrameReader,
    FrameWriter,
    ProtocolViolation,
    close_payload,
    mask,
    parse_close,
)

LIMIT = 70_000


def read_all(reader: FrameReader, pieces: list[bytes]) -> list[str | bytes | tuple[int, bytes]]:
    out: list[str | bytes | tuple[int, bytes]] = []
    for piece in pieces:
        reader.feed(piece)
        while (found := reader.next()) is not None:
            out.append(message_of(found))
    return out


def cut(data: bytes, points: list[int]) -> list[bytes]:
    marks = sorted({0, len(data), *(p % (len(data) + 1) for p in points)})
    return [data[a:b] for a, b in itertools.pairwise(marks)]


messages = st.lists(
    st.text(max_size=200)
    | st.binary(max_size=200)
    | st.sampled_from(["x" * 126, b"y" * 65_536, "z" * 66_000, ""]),
    max_size=8,
)


@given(messages, st.lists(st.integers(0, 10**6), max_size=20), st.booleans())
def test_what_is_written_is_read_in_any_pieces(said, points, masked):
    writer, reader = FrameWriter(masked=masked), FrameReader(masked=masked, message_bytes=LIMIT)
    data = b"".join(
        writer.frame(TEXT, m.encode()) if isinstance(m, str) else writer.frame(BINARY, m) for m in said
    )
    assert read_all(reader, cut(data, points)) == said


@given(st.binary(max_size=1000), st.binary(min_size=4, max_size=4))
def test_masking_twice_is_nothing_and_once_is_what_the_standard_says(data, key):
    assert mask(mask(data, key), key) == data
    assert mask(data, key) == bytes(byte ^ key[i % 4] for i, byte in enumerate(data))


def test_no_two_frames_have_the_same_mask_in_a_row():
    writer = FrameWriter(masked=True)
    keys = [writer.frame(TEXT, b"")[2:6] for _ in range(3000)]
    assert len(set(keys)) > 2990


def raw(opcode: int, payload: bytes, final: bool, reserved: int) -> bytes:
    head = bytes([opcode | reserved << 4 | (0x80 if final else 0)])
    if len(payload) < 126:
        return head + bytes([len(payload)]) + payload
    return head + b"\x7e" + struct.pack("!H", len(payload)) + payload


wild = st.lists(
    st.builds(
        raw,
        st.sampled_from([0, 0, 1, 1, 2, 3, 8, 9, 10, 11]),
        st.binary(max_size=130) | st.text(max_size=40).map(str.encode),
        st.booleans(),
        st.sampled_from([0, 0, 0, 0, 0, 0, 1, 4]),
    ),
    max_size=8,
)


def independent_verdict(data: bytes) -> tuple[list[object], bool]:
    """What wsproto reads of it: whole messages and controls, and whether it refuses the rest."""
    protocol = FrameProtocol(client=True, extensions=[])
    protocol.receive_bytes(data)
    out: list[object] = []
    pieces: list[str | bytes] = []
    try:
        for frame in protocol.received_frames():
            if frame.opcode in (Opcode.TEXT, Opcode.BINARY, Opcode.CONTINUATION):
                pieces.append(frame.payload)
                if frame.message_finished:
                    first = pieces[0]
                    empty = "" if isinstance(first, str) else b""
                    out.append(empty.join(bytes(p) if isinstance(p, bytearray) else p for p in pieces))
                    pieces.clear()
            else:
                out.append(int(frame.opcode))
                if frame.opcode is Opcode.CLOSE:
                    break
    except ParseFailed:
        return out, True
    return out, False


def our_verdict(pieces: list[bytes]) -> tuple[list[object], bool]:
    reader = FrameReader(masked=False, message_bytes=LIMIT)
    out: list[object] = []
    try:
        for piece in pieces:
            reader.feed(piece)
            while (found := reader.next()) is not None:
                message = message_of(found)
                if not isinstance(message, tuple):
                    out.append(message)
                    continue
                if message[0] == CLOSE:
                    parse_close(message[1])
                out.append(message[0])
                if message[0] == CLOSE:
                    return out, False
    except ProtocolViolation:
        return out, True
    return out, False


@given(wild, st.lists(st.integers(0, 10**6), max_size=6))
def test_an_independent_reader_reads_the_same(frames, points):
    data = b"".join(frames)
    expected, refused = independent_verdict(data)
    out, failed = our_verdict(cut(data, points))
    if refused:
        # It looks at text while it comes, ours when it is whole: controls in between may still be read.
        both = min(len(out), len(expected))
        assert out[:both] == expected[:both]
    else:
        assert (out, failed) == (expected, False)


@pytest.mark.parametrize(
    ("data", "code"),
    [
        (b"\x81\x85", 1002),  # masked, from a server
        (b"\x81\x7e\x00\x05", 1002),  # a length in too many bytes
        (b"\x81\x7f\x00\x00\x00\x00\x00\x00\xff\xff", 1002),
        (b"\x81\x7f\x80\x00\x00\x00\x00\x00\x00\x00", 1002),
        (b"\x81\x7f\x00\x00\x00\x00\x00\x01\x11\x71", 1009),  # one over, known from the head alone
        (b"\x01\x01a\x81\x01b", 1002),
        (b"\x80\x00", 1002),
        (b"\x09\x00", 1002),
        (b"\x89\x7e\x00\x80", 1002),
        (b"\xc1\x00", 1002),
        (b"\x83\x00", 1002),
        (b"\x81\x02\xc3\x28", 1007),
    ],
)
def test_a_violation_is_named_as_early_as_it_is_known(data, code):
    reader = FrameReader(masked=False, message_bytes=70_000)
    reader.feed(data)
    with pytest.raises(ProtocolViolation) as caught:
        [message_of(found) for found in iter(reader.next, None)]
    assert caught.value.code == code


def test_a_client_that_does_not_mask_is_refused():
    reader = FrameReader(masked=True, message_bytes=LIMIT)
    reader.feed(b"\x81\x00")
    with pytest.raises(ProtocolViolation):
        reader.next()


def test_empty_fragments_without_end_cost_no_memory():
    reader = FrameReader(masked=False, message_bytes=LIMIT)
    for frame in (b"\x01\x01a", *[b"\x00\x00"] * 10_000):
        reader.feed(frame)
        assert reader.next() is None
    reader.feed(b"\x80\x01b")
    assert reader.next() == (TEXT, b"ab")
    assert CONTINUED == 0
    assert PING == 9


@given(st.integers(3000, 4999), st.text(max_size=200))
def test_a_close_says_what_was_meant_and_fits_its_frame(code, reason):
    payload = close_payload(code, reason)
    assert len(payload) <= 125
    told, why = parse_close(payload)
    assert told == code
    assert reason.startswith(why)


@pytest.mark.parametrize("code", [0, 999, 1004, 1005, 1006, 1015, 1016, 2999, 5000, 65535])
def test_codes_that_nobody_may_send_are_violations(code):
    with pytest.raises(ProtocolViolation):
        parse_close(struct.pack("!H", code))
    assert parse_close(b"") == (1005, "")
    assert close_payload(None, "") == b""
