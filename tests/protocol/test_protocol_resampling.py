"""There and back: what a caller's voice is after 8 kHz, 24 kHz and 8 kHz again, on a mu-law line."""

from __future__ import annotations

import math

import numpy as np
import pytest

from callrt.protocol.audio import (
    FRAME_BYTES,
    Resampler,
    mulaw_decode,
    mulaw_encode,
    pcm_decode,
    pcm_encode,
)

NARROW, WIDE = 8_000, 24_000
SECONDS = 2


def tone(hertz: float, rate: int, amplitude: float = 16_000) -> np.ndarray:
    return np.rint(amplitude * np.sin(2 * np.pi * hertz * np.arange(rate * SECONDS) / rate)).astype(np.int16)


def there_and_back(samples: np.ndarray) -> np.ndarray:
    """In frames of 20 ms up, and in pieces of 200 ms down, as on a call."""
    up, down = Resampler(NARROW, WIDE), Resampler(WIDE, NARROW)
    wide = b"".join(
        up.push(pcm_encode(samples[at : at + FRAME_BYTES])) for at in range(0, len(samples), FRAME_BYTES)
    )
    piece = 2 * WIDE // 5
    return pcm_decode(b"".join(down.push(wide[at : at + piece]) for at in range(0, len(wide), piece)))


def spectrum(samples: np.ndarray) -> np.ndarray:
    """Power per bin of 1 Hz, over exactly one second in the middle."""
    middle = samples[NARROW // 2 : NARROW // 2 + NARROW].astype(float)
    return np.abs(np.fft.rfft(middle)) ** 2


def decibels(part: float, whole: float) -> float:
    return 10 * math.log10(max(part, 1e-9) / whole)


@pytest.mark.parametrize("hertz", [300, 1000, 2500, 3300])
def test_a_tone_comes_back_without_harmonics_and_without_noise(hertz):
    power = spectrum(there_and_back(tone(hertz, NARROW)))
    harmonics = sum(power[n] for n in range(2 * hertz, NARROW // 2, hertz))
    noise = power.sum() - power[hertz]
    assert decibels(harmonics, power[hertz]) < -70
    assert decibels(noise, power[hertz]) < -65


def test_a_tone_is_as_loud_as_it_was():
    before, after = spectrum(tone(1000, NARROW)), spectrum(there_and_back(tone(1000, NARROW)))
    assert abs(decibels(after[1000], before[1000])) < 0.01


def test_on_a_mulaw_line_the_filters_are_not_heard_behind_the_line_itself():
    line = mulaw_decode(mulaw_encode(tone(1000, NARROW)))
    back = mulaw_decode(mulaw_encode(there_and_back(line)))
    plain, filtered = spectrum(line), spectrum(back)
    line_noise = decibels(plain.sum() - plain[1000], plain[1000])
    noise = decibels(filtered.sum() - filtered[1000], filtered[1000])
    assert line_noise < -35
    assert noise < line_noise + 4, "it was coded twice, which is 3 dB"


def test_there_and_back_takes_four_milliseconds():
    impulse = np.zeros(NARROW, np.int16)
    impulse[2000] = 30_000
    back = there_and_back(impulse)
    assert int(np.abs(back.astype(int)).argmax()) - 2000 == 4 * NARROW // 1000


def test_delay_is_the_same_for_every_frame_and_grows_never():
    noise = np.random.default_rng(7).integers(-8000, 8000, NARROW * 20).astype(np.int16)
    smooth = np.convolve(noise, np.hanning(16) / 8, "same").astype(np.int16)
    back = there_and_back(smooth).astype(float)
    late = 4 * NARROW // 1000
    for begin in (NARROW, NARROW * 10, NARROW * 18):
        window = smooth[begin : begin + 800].astype(float)
        lags = [float(np.dot(window, back[begin + lag : begin + lag + 800])) for lag in range(3 * late)]
        assert int(np.argmax(lags)) == late
