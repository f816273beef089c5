"""Telephone audio: G.711 and its frames, loudness, and the way to 24 kHz and back.

PCM is signed 16 bit, little-endian, mono. G.711 at 8 kHz has one byte per sample: 8 bytes are 1 ms and one
frame of 20 ms is 160 bytes, so positions are counted in bytes, never in seconds. Samples go through integer
arithmetic only: the same input gives the same bytes in every chunking.
"""

from __future__ import annotations

import math
from functools import lru_cache
from typing import Literal

import numpy as np
from numpy.typing import NDArray

SAMPLE_RATE = 8_000
BYTES_PER_MS = 8
FRAME_MS = 20
FRAME_BYTES = FRAME_MS * BYTES_PER_MS
MULAW_SILENCE = 0xFF
ALAW_SILENCE = 0xD5
FLOOR_DBFS = -100.0
"""What digital silence measures; a mu-law line's quietest step is at -78."""
VOICED_DBFS = -40.0
"""Speech on a phone line is around -20, line noise around -55."""

Samples = NDArray[np.int16]
Filter = NDArray[np.float64]


# -- G.711 ---------------------------------------------------------------------------------------------


def _mulaw_to_linear() -> Samples:
    code = ~np.arange(256, dtype=np.uint8)
    magnitude = (((code & 0x0F).astype(np.int32) << 3) + 0x84) << ((code & 0x70) >> 4).astype(np.int32)
    return np.where(code & 0x80, 0x84 - magnitude, magnitude - 0x84).astype(np.int16)


def _alaw_to_linear() -> Samples:
    code = np.arange(256, dtype=np.uint8) ^ 0x55
    segment = ((code & 0x70) >> 4).astype(np.int32)
    step = ((code & 0x0F).astype(np.int32) << 4) + 8
    magnitude = np.where(segment == 0, step, (step + 0x100) << np.maximum(segment - 1, 0))
    return np.where(code & 0x80, magnitude, -magnitude).astype(np.int16)


def _all_samples() -> NDArray[np.int32]:
    """Every 16 bit value, at the index of its unsigned twin."""
    return np.arange(65_536, dtype=np.uint16).view(np.int16).astype(np.int32)


def _linear_to_mulaw() -> NDArray[np.uint8]:
    """Of 14 bits, as the recommendation has it; biased by 33, then segment and step of the magnitude."""
    value = _all_samples() >> 2
    magnitude = np.minimum(np.abs(value), 8159) + 33
    segment = np.searchsorted(0x40 << np.arange(8), magnitude, side="right")
    code = np.where(segment > 7, 0x7F, (segment << 4) | ((magnitude >> (segment + 1)) & 0x0F))
    return (code ^ np.where(value < 0, 0x7F, 0xFF)).astype(np.uint8)


def _linear_to_alaw() -> NDArray[np.uint8]:
    """Of 13 bits; the first two segments share a step, and every second bit goes inverted."""
    value = _all_samples() >> 3
    magnitude = np.where(value < 0, -value - 1, value)
    segment = np.searchsorted(0x20 << np.arange(8), magnitude, side="right")
    code = (segment << 4) | ((magnitude >> np.maximum(segment, 1)) & 0x0F)
    return (code ^ np.where(value < 0, 0x55, 0xD5)).astype(np.uint8)


_FROM_MULAW = _mulaw_to_linear()
_FROM_ALAW = _alaw_to_linear()
_TO_MULAW = _linear_to_mulaw()
_TO_ALAW = _linear_to_alaw()
_ENERGY = _FROM_MULAW.astype(np.int64) ** 2


def mulaw_decode(data: bytes) -> Samples:
    """One sample per byte."""
    return _FROM_MULAW[np.frombuffer(data, np.uint8)]


def mulaw_encode(samples: Samples) -> bytes:
    """One byte per sample."""
    return _TO_MULAW[samples.astype(np.int16, copy=False).view(np.uint16)].tobytes()


def alaw_decode(data: bytes) -> Samples:
    """One sample per byte."""
    return _FROM_ALAW[np.frombuffer(data, np.uint8)]


def alaw_encode(samples: Samples) -> bytes:
    """One byte per sample."""
    return _TO_ALAW[samples.astype(np.int16, copy=False).view(np.uint16)].tobytes()


def pcm_decode(data: bytes) -> Samples:
    """Little-endian 16 bit PCM; an odd last byte is left out."""
    return np.frombuffer(data[: len(data) & ~1], np.dtype("<i2")).astype(np.int16, copy=False)


def pcm_encode(samples: Samples) -> bytes:
    return samples.astype("<i2", copy=False).tobytes()


def silence(ms: int, encoding: Literal["mulaw", "alaw"] = "mulaw") -> bytes:
    """So many milliseconds of digital silence at 8 kHz."""
    return bytes([MULAW_SILENCE if encoding == "mulaw" else ALAW_SILENCE]) * (ms * BYTES_PER_MS)


def rms_dbfs(mulaw: bytes) -> float:
    """Loudness of mu-law audio in dB of full scale: 0 is a full-scale square wave, -3 a full-scale tone."""
    if not mulaw:
        return FLOOR_DBFS
    mean = float(_ENERGY[np.frombuffer(mulaw, np.uint8)].sum()) / len(mulaw)
    return max(10 * math.log10(mean / 32_768**2), FLOOR_DBFS) if mean > 0 else FLOOR_DBFS


def is_voiced(mulaw: bytes, threshold_dbfs: float = VOICED_DBFS) -> bool:
    """Is there somebody speaking, rather than a line? A measure of loudness, not of speech."""
    return rms_dbfs(mulaw) >= threshold_dbfs


# -- frames --------------------------------------------------------------------------------------------


class Framer:
    """Any bytes in, whole frames out; the rest waits for more. Odd chunks would be heard as jitter."""

    def __init__(self, frame_bytes: int = FRAME_BYTES, pad: int = MULAW_SILENCE) -> None:
        self._frame_bytes = frame_bytes
        self._pad = bytes([pad])
        self._rest = b""

    @property
    def pending(self) -> int:
        """Bytes that wait: fewer than a frame."""
        return len(self._rest)

    def push(self, data: bytes) -> bytes:
        """All whole frames that there are now, in one piece; may be b""."""
        data = self._rest + data
        whole = len(data) - len(data) % self._frame_bytes
        self._rest = data[whole:]
        return data[:whole]

    def flush(self) -> bytes:
        """The end of an utterance: what waits, filled up to one frame, or b""."""
        rest, self._rest = self._rest, b""
        return rest + self._pad * (-len(rest) % self._frame_bytes)

    def clear(self) -> None:
        """Forget what waits: it will not be said."""
        self._rest = b""


# -- sample rates --------------------------------------------------------------------------------------

HALF_WIDTH = 16
"""Of the filter, in samples of the lower rate. 2 ms at 8 kHz: flat up to 3.4 kHz, -70 dB from 4.6 kHz on."""
_WIDE_RATE = 24_000
_ATTENUATION_DB = 70.0
_SCALE_BITS = 18
_BLOCK_SAMPLES = 32
"""Of the lower rate: so many come out of one row of a matrix product."""
_PRODUCT_MAX = 1 << 17
"""Multiplications in one matrix product: a larger one would be spread over threads."""


class Resampler:
    """Streaming change of the sample rate by a linear-phase polyphase filter. One per direction and stream.

    The output is late by :attr:`delay_samples`; :meth:`flush` brings out what is still inside. Gain is 1, and
    cutting the input into other chunks changes no bit of the output.
    """

    def __init__(self, source_rate: int, target_rate: int) -> None:
        if source_rate <= 0 or target_rate <= 0:
            raise ValueError("a sample rate is a positive number of Hz")
        common = math.gcd(source_rate, target_rate)
        self._up, self._down = target_rate // common, source_rate // common
        center = HALF_WIDTH * max(self._up, self._down)
        self.delay_samples = center / self._down
        """How late the output is, in samples of the target rate; whole for 8 kHz and 24 kHz."""
        self._tail_samples = -(-center // self._up)
        self._phases = _polyphase(self._up, self._down)
        self._blocks = _block_matrix(self._up, self._down) if 1 in (self._up, self._down) else None
        self.history = np.zeros(self._phases.shape[1] - 1)
        """The last samples that came in: what the next output is also made of."""
        self._next = 0
        self._odd = b""

    def push(self, pcm: bytes) -> bytes:
        """PCM in, PCM out. An odd byte waits for its other half."""
        data = self._odd + pcm
        even = len(data) & ~1
        self._odd = data[even:]
        return pcm_encode(self.filter(pcm_decode(data[:even] if self._odd else data)))

    def flush(self) -> bytes:
        """The end of the input: what the filter still holds. Then it is as new."""
        tail = self.filter(np.zeros(self._tail_samples, np.int16))
        self.history = np.zeros(len(self.history))
        self._next = 0
        self._odd = b""
        return pcm_encode(tail)

    def filter(self, samples: Samples) -> Samples:
        """As :meth:`push`, for who has samples and not bytes."""
        count, up, down = len(samples), self._up, self._down
        line = np.concatenate([self.history, samples])
        # Output m lies at m * down on the grid that has `up` points per input sample.
        first, outputs = self._next, max(0, -(-(count * up - self._next) // down))
        if count:
            self._next = first + outputs * down - count * up
            self.history = line[count:].copy()
        if not outputs:
            return np.zeros(0, np.int16)
        if self._blocks is not None:
            total = _by_blocks(line[first // up :] if first else line, self._blocks, outputs, up, down)
        else:
            grid = np.arange(first, count * up, down)
            windows = np.lib.stride_tricks.sliding_window_view(line, self._phases.shape[1])
            total = np.einsum("ij,ij->i", windows[grid // up], self._phases[grid % up])
        # Sums of whole numbers below 2**53, over a power of two, are exact in whatever order they are added.
        total += 0.5
        np.floor(total, out=total)
        _clip(total)
        return total.astype(np.int16)


_LOUDEST = bytes([*range(0x13), *range(0x80, 0x93)])
"""The codes of mu-law beyond 14,460. What is made of softer ones only is within 16 bits: a test computes it."""


class Widener:
    """Mu-law at 8 kHz to PCM at 24 kHz, as :class:`Resampler` makes it, to the bit; for the frames of 20 ms that come
    fifty times a second. Of what it works in there is one for all: not to be used by several threads."""

    def __init__(self) -> None:
        self._any = Resampler(SAMPLE_RATE, _WIDE_RATE)
        self._loud = False
        """What is in the history."""

    def push(self, mulaw: bytes) -> bytes:
        """A frame, or any other piece."""
        if len(mulaw) != FRAME_BYTES:
            self._loud = True  # it may be
            return pcm_encode(self._any.filter(mulaw_decode(mulaw)))
        bench = _workbench()
        bench.before[:] = self._any.history
        bench.table.take(np.frombuffer(mulaw, np.uint8), 0, bench.frame, "clip")
        self._any.history[:] = bench.after
        product = bench.product
        np.dot(bench.windows, bench.blocks, out=product)
        product += 0.5
        np.floor(product, out=product)
        loud = len(mulaw.translate(None, _LOUDEST)) < FRAME_BYTES
        if loud or self._loud:
            _clip(product)
        self._loud = loud
        bench.samples[:] = product
        return bench.samples.tobytes()


class _Workbench:
    """Where a frame is widened: arrays that are made once, and the views of them that are needed each time."""

    def __init__(self) -> None:
        self.table = _FROM_MULAW.astype(np.float64)
        self.blocks = _block_matrix(_WIDE_RATE // SAMPLE_RATE, 1)
        width, height = self.blocks.shape
        rows = FRAME_BYTES // _BLOCK_SAMPLES
        line = np.zeros((rows - 1) * _BLOCK_SAMPLES + width)
        self.frame = line[-FRAME_BYTES:]
        self.before = line[:-FRAME_BYTES]
        self.after = line[FRAME_BYTES:]
        self.windows = np.ndarray((rows, width), np.float64, line, 0, (8 * _BLOCK_SAMPLES, 8))
        self.product = np.empty((rows, height))
        self.samples = np.empty((rows, height), np.dtype("<i2"))


@lru_cache(maxsize=1)
def _workbench() -> _Workbench:
    return _Workbench()


def _clip(total: Filter) -> None:
    """In place, to what 16 bits hold."""
    np.maximum(total, -32_768, out=total)
    np.minimum(total, 32_767, out=total)


def _by_blocks(line: Filter, blocks: Filter, outputs: int, up: int, down: int) -> Filter:
    """The filter as matrix products: each row of the input makes a block of outputs."""
    width, height = blocks.shape
    step = height * down // up
    rows = -(-outputs // height)
    needed = (rows - 1) * step + width
    if needed > len(line):
        line = np.concatenate([line, np.zeros(needed - len(line))])
    windows = np.ndarray((rows, width), np.float64, line, 0, (8 * step, 8))
    some = max(1, _PRODUCT_MAX // blocks.size)
    product: Filter
    if rows <= some:
        product = np.dot(windows, blocks)
        return product.ravel()[:outputs]
    product = np.empty((rows, height))
    for at in range(0, rows, some):
        np.dot(windows[at : at + some], blocks, out=product[at : at + some])
    return product.ravel()[:outputs]


@lru_cache(maxsize=16)
def _block_matrix(up: int, down: int) -> Filter:
    """Columns are the outputs of one block, rows the inputs from the oldest that any of them needs."""
    phases = _polyphase(up, down)
    height = _BLOCK_SAMPLES * up
    taps = phases.shape[1]
    matrix = np.zeros(((height - 1) * down // up + taps, height))
    for column in range(height):
        begin = column * down // up
        matrix[begin : begin + taps, column] = phases[column * down % up]
    return matrix


@lru_cache(maxsize=16)
def _polyphase(up: int, down: int) -> Filter:
    """Rows are phases, columns go from the oldest sample to the newest; each row sums to exactly 1.

    Every value is a whole multiple of 2**-18.
    """
    width = max(up, down)
    center = HALF_WIDTH * width
    offsets = np.arange(2 * center + 1) - center
    kernel = np.sinc(offsets / width) * np.kaiser(2 * center + 1, 0.1102 * (_ATTENUATION_DB - 8.7))
    taps = -(-len(kernel) // up)
    padded = np.zeros(taps * up)
    padded[: len(kernel)] = kernel
    phases = padded.reshape(taps, up).T[:, ::-1]
    unit = phases / phases.sum(axis=1, keepdims=True)
    scaled: Filter = np.rint(unit * (1 << _SCALE_BITS))
    largest = np.abs(scaled).argmax(axis=1)
    scaled[np.arange(up), largest] += (1 << _SCALE_BITS) - scaled.sum(axis=1)
    return scaled * 2.0**-_SCALE_BITS
