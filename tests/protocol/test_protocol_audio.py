"""Telephone audio: exact G.711, whole frames, and a resampler that no chunking can disturb."""

from __future__ import annotations

import itertools

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from callrt.protocol.audio import (
    _LOUDEST,
    FLOOR_DBFS,
    FRAME_BYTES,
    Framer,
    Resampler,
    Widener,
    _polyphase,
    alaw_decode,
    alaw_encode,
    is_voiced,
    mulaw_decode,
    mulaw_encode,
    pcm_decode,
    pcm_encode,
    rms_dbfs,
    silence,
)

EVERY_SAMPLE = np.arange(-32_768, 32_768).astype(np.int16)
EVERY_CODE = bytes(range(256))


# -- G.711: the recommendation's formulas, one sample at a time ------------------------------------------


def reference_mulaw_decode(code: int) -> int:
    inverted = code ^ 0xFF
    exponent, step = (inverted >> 4) & 7, inverted & 15
    magnitude = ((2 * step + 33) << exponent) - 33
    return 4 * (-magnitude if inverted & 0x80 else magnitude)


def reference_mulaw_encode(sample: int) -> int:
    value = sample >> 2
    sign, magnitude = (0x80, -value) if value < 0 else (0, value)
    biased = min(magnitude, 8158) + 33
    exponent = biased.bit_length() - 6
    step = (biased >> (exponent + 1)) & 15
    return (sign | exponent << 4 | step) ^ 0xFF


def reference_alaw_decode(code: int) -> int:
    plain = code ^ 0x55
    exponent, step = (plain >> 4) & 7, plain & 15
    magnitude = 2 * step + 1 if exponent == 0 else (2 * step + 33) << (exponent - 1)
    return 8 * (magnitude if plain & 0x80 else -magnitude)


def reference_alaw_encode(sample: int) -> int:
    value = sample >> 3
    sign, magnitude = (0, -value - 1) if value < 0 else (0x80, value)
    exponent = max(magnitude.bit_length() - 5, 0)
    step = (magnitude >> max(exponent, 1)) & 15
    return (sign | exponent << 4 | step) ^ 0x55


def test_mulaw_is_exact_for_every_code_and_every_sample():
    assert mulaw_decode(EVERY_CODE).tolist() == [reference_mulaw_decode(code) for code in range(256)]
    assert list(mulaw_encode(EVERY_SAMPLE)) == [reference_mulaw_encode(int(s)) for s in EVERY_SAMPLE]


def test_alaw_is_exact_for_every_code_and_every_sample():
    assert alaw_decode(EVERY_CODE).tolist() == [reference_alaw_decode(code) for code in range(256)]
    assert list(alaw_encode(EVERY_SAMPLE)) == [reference_alaw_encode(int(s)) for s in EVERY_SAMPLE]


@pytest.mark.parametrize(
    ("encode", "decode"), [(mulaw_encode, mulaw_decode), (alaw_encode, alaw_decode)], ids=["mulaw", "alaw"]
)
def test_decoding_and_encoding_again_changes_no_value(encode, decode):
    assert decode(encode(decode(EVERY_CODE))).tolist() == decode(EVERY_CODE).tolist()


def test_silence_is_silent_and_as_long_as_asked():
    assert len(silence(20)) == FRAME_BYTES
    assert not mulaw_decode(silence(5)).any()
    assert np.abs(alaw_decode(silence(5, "alaw"))).max() <= 8
    assert silence(0) == b""


# -- loudness ------------------------------------------------------------------------------------------


def tone(hertz: float, rate: int, amplitude: float = 20_000, seconds: float = 0.5) -> np.ndarray:
    return (amplitude * np.sin(2 * np.pi * hertz * np.arange(int(rate * seconds)) / rate)).astype(np.int16)


@pytest.mark.parametrize(("amplitude", "dbfs"), [(32_767, -3.0), (3_277, -23.0), (328, -43.0)])
def test_loudness_of_a_tone_is_its_level(amplitude, dbfs):
    assert rms_dbfs(mulaw_encode(tone(440, 8000, amplitude))) == pytest.approx(dbfs, abs=0.3)


def test_silence_and_nothing_are_at_the_floor_and_nobody_speaks():
    assert rms_dbfs(silence(20)) == rms_dbfs(b"") == FLOOR_DBFS
    assert not is_voiced(silence(20))
    assert is_voiced(mulaw_encode(tone(200, 8000, 3000)))
    assert not is_voiced(mulaw_encode(tone(200, 8000, 60)))


# -- frames --------------------------------------------------------------------------------------------


@given(st.lists(st.binary(max_size=500), max_size=20))
def test_framer_gives_whole_frames_and_loses_nothing(chunks):
    framer = Framer()
    out = b""
    for chunk in chunks:
        whole = framer.push(chunk)
        assert len(whole) % FRAME_BYTES == 0
        assert framer.pending < FRAME_BYTES
        out += whole
    end = framer.flush()
    everything = b"".join(chunks)
    assert len(end) in (0, FRAME_BYTES)
    assert (out + end)[: len(everything)] == everything
    assert set((out + end)[len(everything) :]) <= {0xFF}
    assert framer.pending == 0
    assert framer.flush() == b""


def test_a_cleared_framer_says_nothing_of_what_waited():
    framer = Framer()
    framer.push(b"a" * 159)
    framer.clear()
    assert framer.push(b"b" * 160) == b"b" * 160


# -- sample rates --------------------------------------------------------------------------------------

RATES = [(8_000, 24_000), (24_000, 8_000), (22_050, 8_000), (16_000, 8_000), (8_000, 8_000)]


def level(samples: np.ndarray) -> float:
    return float(np.sqrt(np.mean(samples.astype(float) ** 2)))


@pytest.mark.parametrize(("source", "target"), RATES)
@pytest.mark.parametrize("hertz", [100, 440, 1000, 3000, 3400])
def test_a_tone_stays_pure_and_is_late_as_stated(source, target, hertz):
    resampler = Resampler(source, target)
    out = pcm_decode(resampler.push(pcm_encode(tone(hertz, source)))).astype(float)
    at = np.arange(len(out)) - resampler.delay_samples
    ideal = 20_000 * np.sin(2 * np.pi * hertz * at / target)
    middle = slice(int(2 * resampler.delay_samples) + 1, None)
    error = 20 * np.log10(level((out - ideal)[middle]) / level(ideal[middle]))
    assert error < -65


@pytest.mark.parametrize("hertz", [4600, 5000, 7000, 8000, 11_000])
def test_nothing_above_the_band_folds_back_into_it(hertz):
    out = pcm_decode(Resampler(24_000, 8_000).push(pcm_encode(tone(hertz, 24_000))))
    assert 20 * np.log10(max(level(out[100:]), 1e-3) / level(tone(hertz, 24_000))) < -65


@pytest.mark.parametrize(("source", "target"), [(8_000, 24_000), (24_000, 8_000)])
def test_delay_is_two_milliseconds(source, target):
    resampler = Resampler(source, target)
    assert resampler.delay_samples * 1000 / target == 2.0
    impulse = np.zeros(600, np.int16)
    impulse[300] = 30_000
    out = pcm_decode(resampler.push(pcm_encode(impulse)))
    assert np.abs(out.astype(int)).argmax() == 300 * target // source + resampler.delay_samples


@pytest.mark.parametrize(("source", "target"), RATES)
def test_a_constant_comes_out_as_it_is(source, target):
    out = pcm_decode(Resampler(source, target).push(pcm_encode(np.full(2000, 12_345, np.int16))))
    assert set(out[200:].tolist()) == {12_345}


@pytest.mark.parametrize("sample", [32_767, -32_768])
def test_full_scale_is_clipped_and_never_wraps(sample):
    square = np.where(np.arange(2000) // 40 % 2, sample, -sample - 1).astype(np.int16)
    out = pcm_decode(Resampler(8_000, 24_000).push(pcm_encode(square)))
    for begin in range(600, 5400, 120):
        half = out[begin + 48 + 30 : begin + 48 + 90].astype(int)
        assert abs(half.mean()) > 30_000


@given(
    st.binary(max_size=3000),
    st.lists(st.integers(0, 3000), max_size=12),
    st.sampled_from(RATES),
)
def test_no_chunking_changes_a_byte(pcm, cuts, rates):
    whole = Resampler(*rates)
    expected = whole.push(pcm) + whole.flush()
    pieces = Resampler(*rates)
    edges = [0, *sorted(min(cut, len(pcm)) for cut in cuts), len(pcm)]
    out = b"".join(pieces.push(pcm[a:b]) for a, b in itertools.pairwise(edges)) + pieces.flush()
    assert out == expected


@given(st.integers(0, 4000), st.sampled_from(RATES))
def test_as_much_time_comes_out_as_went_in_plus_the_delay(samples, rates):
    source, target = rates
    resampler = Resampler(*rates)
    out = resampler.push(bytes(2 * samples)) + resampler.flush()
    assert abs(len(out) // 2 - samples * target / source - resampler.delay_samples) <= 2


def test_a_flushed_resampler_is_as_new():
    resampler = Resampler(8_000, 24_000)
    speech = pcm_encode(tone(300, 8000))
    first = resampler.push(speech + b"\x01") + resampler.flush()
    assert resampler.push(speech) + resampler.flush() == first


def test_only_the_loudest_codes_can_be_clipped_when_widened():
    softer = np.delete(mulaw_decode(EVERY_CODE), list(_LOUDEST)).astype(int)
    assert np.abs(softer).max() * np.abs(_polyphase(3, 1)).sum(axis=1).max() < 32_767


@given(
    pieces=st.lists(st.sampled_from([160, 160, 160, 0, 1, 80, 161, 480]), max_size=12),
    codes=st.sampled_from([(0, 128), (0, 1, 127, 128, 200, 255), (19, 147), (120, 250)]),
    seed=st.integers(0, 99),
)
def test_widened_frames_are_to_the_bit_what_the_resampler_makes(pieces, codes, seed):
    loud = np.random.default_rng(seed).choice(np.array(codes, np.uint8), sum(pieces))
    mulaw = loud.tobytes()
    one, other = Widener(), Widener()
    out, at = b"", 0
    for size in pieces:
        out += one.push(mulaw[at : at + size])
        other.push(b"\x00" * 160)  # somebody else's call in between
        at += size
    assert out == Resampler(8_000, 24_000).push(pcm_encode(mulaw_decode(mulaw)))


@pytest.mark.parametrize("rates", [(0, 8000), (8000, -1)])
def test_a_rate_that_is_none_is_refused(rates):
    with pytest.raises(ValueError, match="positive"):
        Resampler(*rates)
