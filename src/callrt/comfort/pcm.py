"""Whole clips of sound as numpy arrays: read, resampled, trimmed, levelled. Never on the audio path.

Streams are converted by :mod:`callrt.protocol.audio`; what is here sees a clip from its first to its last
sample at once, which allows exact resampling in the frequency domain.
"""

from __future__ import annotations

import wave
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from callrt.protocol.audio import mulaw_encode

RATE = 8000
"""Of everything that is said on a telephone line here, in Hz."""

FRAME = 160
"""Samples, and mu-law bytes, of one 20 ms frame."""

SILENCE = 0xFF
"""mu-law zero."""

Clip = NDArray[np.float64]
"""Mono samples, full scale is 1.0."""


class ClipError(ValueError):
    """A sound file cannot be used. One sentence that names the file and what to do."""


def resample(samples: Clip, from_rate: int, to_rate: int) -> Clip:
    """The same sound at another rate, band-limited; its length is rounded up to a whole sample."""
    if from_rate <= 0 or to_rate <= 0:
        raise ValueError("rates are positive numbers of samples per second")
    if from_rate == to_rate or len(samples) == 0:
        return samples.astype(np.float64)
    divisor = int(np.gcd(from_rate, to_rate))
    up, down = to_rate // divisor, from_rate // divisor
    # Silence around the clip keeps the wrap-around of the transform out of it.
    guard = down * -(-from_rate // (10 * down))
    length = guard + len(samples) + guard
    length += -length % down
    padded = np.zeros(length)
    padded[guard : guard + len(samples)] = samples
    spectrum = np.fft.rfft(padded)
    out_length = length // down * up
    edge = min(from_rate, to_rate) / 2
    frequency = np.fft.rfftfreq(length, 1 / from_rate)
    # A raised-cosine shoulder over the last tenth of the band: a brick wall would ring.
    shoulder = np.clip((edge - frequency) / (edge * 0.1), 0.0, 1.0)
    spectrum *= 0.5 - 0.5 * np.cos(np.pi * shoulder)
    wanted = out_length // 2 + 1
    fitted = np.zeros(wanted, dtype=np.complex128)
    kept = min(wanted, len(spectrum))
    fitted[:kept] = spectrum[:kept]
    out = np.fft.irfft(fitted, out_length) * (out_length / length)
    start = guard // down * up
    return np.asarray(out[start : start + -(-len(samples) * up // down)], dtype=np.float64)


def trim(samples: Clip, *, threshold_dbfs: float = -50.0, margin_ms: int = 20) -> Clip:
    """Without the silence before and after; all silence gives an empty clip."""
    frames = _frame_rms(samples)
    loud = np.flatnonzero(frames > 10 ** (threshold_dbfs / 20))
    if len(loud) == 0:
        return samples[:0]
    margin = RATE * margin_ms // 1000
    first = max(0, int(loud[0]) * FRAME - margin)
    last = min(len(samples), (int(loud[-1]) + 1) * FRAME + margin)
    return samples[first:last]


def level(samples: Clip, *, target_dbfs: float = -20.0) -> Clip:
    """With the root mean square of its audible frames at ``target_dbfs``; peaks are kept below full
    scale."""
    frames = _frame_rms(samples)
    audible = frames[frames > 10 ** (-50 / 20)]
    if len(audible) == 0:
        return samples
    gain = 10 ** (target_dbfs / 20) / float(np.sqrt(np.mean(audible**2)))
    peak = float(np.max(np.abs(samples)))
    return samples * min(gain, 0.98 / peak)


def loudness_dbfs(samples: Clip) -> float:
    """Root mean square of the audible frames in dB of full scale; minus infinity for silence."""
    frames = _frame_rms(samples)
    audible = frames[frames > 10 ** (-50 / 20)]
    return float(10 * np.log10(np.mean(audible**2))) if len(audible) else float("-inf")


def to_int16(samples: Clip) -> NDArray[np.int16]:
    return np.clip(np.round(samples * 32767), -32768, 32767).astype(np.int16)


def to_mulaw(samples: NDArray[np.int16]) -> bytes:
    """mu-law in whole 20 ms frames, padded with silence."""
    encoded = mulaw_encode(samples)
    return encoded + bytes([SILENCE]) * (-len(encoded) % FRAME)


def read_wav(path: Path, *, seconds_max: float = 30.0) -> Clip:
    """A PCM WAV of any rate, width and number of channels, mixed to mono at 8 kHz.

    :raises ClipError: not readable, not PCM, empty, or longer than ``seconds_max``.
    """
    try:
        with wave.open(str(path), "rb") as file:
            rate, width, channels = file.getframerate(), file.getsampwidth(), file.getnchannels()
            count = file.getnframes()
            if rate <= 0 or count > seconds_max * rate:
                raise ClipError(f"{path} is longer than {seconds_max:g} seconds; shorten it")
            raw = file.readframes(count)
    except (wave.Error, EOFError) as error:
        raise ClipError(f"{path} is not a PCM WAV file ({error}); save it as 16-bit PCM WAV") from error
    except OSError as error:
        raise ClipError(f"{path} cannot be read: {error.strerror or error}") from error
    whole = len(raw) - len(raw) % (width * channels)
    if whole == 0:
        raise ClipError(f"{path} holds no sound; record the line again or remove the file")
    mono = _samples(raw[:whole], width).reshape(-1, channels).mean(axis=1)
    return resample(mono, rate, RATE)


def _samples(raw: bytes, width: int) -> Clip:
    if width == 1:  # the one unsigned width of the format
        return (np.frombuffer(raw, dtype=np.uint8).astype(np.float64) - 128) / 128
    if width == 3:
        packed = np.frombuffer(raw, dtype=np.uint8).reshape(-1, 3)
        widened = np.zeros((len(packed), 4), dtype=np.uint8)
        widened[:, 1:] = packed
        return np.asarray(widened.view(np.dtype("<i4")).reshape(-1), dtype=np.float64) / 2**31
    signed = np.frombuffer(raw, dtype=np.dtype(f"<i{width}"))
    return np.asarray(signed, dtype=np.float64) / float(1 << (8 * width - 1))


def _frame_rms(samples: Clip) -> Clip:
    padded = np.concatenate([samples, np.zeros(-len(samples) % FRAME)])
    return np.asarray(np.sqrt(np.mean(padded.reshape(-1, FRAME) ** 2, axis=1)), dtype=np.float64)
