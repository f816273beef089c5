"""What is inside the audio, so that it can be recognised at the other end.

Two ways. **Stamps**, for programs that pass mu-law on untouched: every frame carries its number and the time in
its first bytes. **Beacons**, for programs that resample and so change every byte: one loud frame a second, followed
by the call's number in loud and quiet frames; the onset is found again at any sample rate.
"""

from __future__ import annotations

import base64
import math
import struct
from binascii import b2a_base64

import numpy as np
from numpy.typing import NDArray

FRAME = 0.02
FRAME_BYTES = 160
"""Of mu-law."""

MAGIC = b"\xc3\x5a\xa5"
MAGIC_TEXT = base64.b64encode(MAGIC)
STAMP = struct.Struct("<3sHHId")
"""19 bytes: magic, call, number of the reply, number of the frame, time."""
STAMP_CHARS = 28
FILL = b2a_base64(b"\x71" * (FRAME_BYTES - 21), newline=False)

BEACON_FRAMES = 50
"""From one beacon to the next: a second."""
BITS = 10
CALLS_MAX = 2**BITS - 1
NUMBER_SECONDS = (BITS + 1) * FRAME
"""Until the number of a call has been read: the model does not answer before."""
MODEL_RATE = 24_000
FRAME_SAMPLES = MODEL_RATE // 50
LOUD = 5_000
"""Samples beyond this belong to a loud frame: a third of its peak."""


def stamp(call: int, reply: int, frame: int, at: float) -> bytes:
    return STAMP.pack(MAGIC, call & 0xFFFF, reply & 0xFFFF, frame, at)


def stamps_in(audio: bytes) -> list[tuple[int, int, int, float]]:
    """``(call, reply, frame, time)`` of each stamp that lies in it whole."""
    found = []
    at = audio.find(MAGIC)
    while 0 <= at <= len(audio) - STAMP.size:
        _, call, reply, frame, sent_at = STAMP.unpack_from(audio, at)
        found.append((call, reply, frame, sent_at))
        at = audio.find(MAGIC, at + STAMP.size)
    return found


def _mulaw(sample: int) -> int:
    value, sign = (-sample, 0) if sample < 0 else (sample, 0x80)
    biased = min(value >> 2, 8158) + 33
    exponent = biased.bit_length() - 6
    return (sign | exponent << 4 | ((biased >> (exponent + 1)) & 15)) ^ 0x7F


def _tone(rate: int) -> list[int]:
    return [int(15_000 * math.sin(2 * math.pi * 1000 * n / rate)) for n in range(rate // 50)]


LOUD_FRAME = b2a_base64(bytes(_mulaw(sample) for sample in _tone(8_000)), newline=False)
QUIET_FRAME = b2a_base64(b"\xff" * FRAME_BYTES, newline=False)
LOUD_PCM = np.array(_tone(MODEL_RATE), "<i2").tobytes()
QUIET_CODES = bytes(code for code in range(256) if (~code & 0x70) < 0x50)
"""Mu-law codes of samples below about 4,000."""


def beacon_frame(call: int, number: int) -> bytes:
    """The caller's frame of this number, as base64."""
    place = number % BEACON_FRAMES
    loud = place == 0 or (place <= BITS and call >> (place - 1) & 1)
    return LOUD_FRAME if loud else QUIET_FRAME


def is_loud(mulaw: bytes) -> bool:
    return bool(mulaw.translate(None, QUIET_CODES))


class BeaconReader:
    """Finds beacons in a stream of 24 kHz PCM, whatever its pieces."""

    def __init__(self) -> None:
        self._heard = 0
        self._onset = -BEACON_FRAMES * FRAME_SAMPLES
        self._bits: list[NDArray[np.int16]] = []
        self._began = 0.0
        self.call: int | None = None
        """Once its number has been read."""
        self.first_onset = 0.0

    def push(self, pcm: bytes, now: float) -> tuple[bool, int]:
        """Has a beacon begun in this piece, and how many samples too few came since the one before?"""
        at, count = self._heard, len(pcm) // 2
        self._heard += count
        since = self._heard - self._onset
        if self.call is None and self._bits:
            self._read_number(pcm)
            return False, 0
        if since < (BEACON_FRAMES - 5) * FRAME_SAMPLES:
            return False, 0
        samples = np.frombuffer(pcm[: 2 * count], "<i2")
        loud = np.abs(samples.astype(np.int32)) > LOUD
        index = int(loud.argmax()) if count else 0
        if not count or not loud[index]:
            return False, 0
        onset = at + index
        missing = BEACON_FRAMES * FRAME_SAMPLES - (onset - self._onset)
        self._onset = onset
        if self.call is None:
            self.first_onset = now
            self._bits = [samples[index:]]
            return False, 0
        return True, missing

    def _read_number(self, pcm: bytes) -> None:
        self._bits.append(np.frombuffer(pcm[: len(pcm) & ~1], "<i2"))
        if sum(len(piece) for piece in self._bits) < (BITS + 1) * FRAME_SAMPLES:
            return
        line = np.abs(np.concatenate(self._bits).astype(np.int32))
        call = 0
        for bit in range(BITS):
            middle = (bit + 1) * FRAME_SAMPLES + FRAME_SAMPLES // 4
            if line[middle : middle + FRAME_SAMPLES // 2].max() > LOUD:
                call |= 1 << bit
        self.call = call
        self._bits = []
