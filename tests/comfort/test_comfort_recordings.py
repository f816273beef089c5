"""An operator's WAV replaces a line, whatever its format; one that cannot be used is named in one
sentence."""

from __future__ import annotations

import struct
import wave
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from callrt.comfort import ComfortError, ComfortLibrary, pcm
from callrt.protocol.audio import mulaw_decode


def write_wav(
    path: Path, *, rate: int = 8000, width: int = 2, channels: int = 1, seconds: float = 0.5
) -> None:
    count = int(rate * seconds)
    tone = 0.3 * np.sin(2 * np.pi * 440 * np.arange(count) / rate)
    if width == 1:
        raw = (tone * 127 + 128).astype(np.uint8)[:, None]
    else:
        scaled = np.round(tone * (2 ** (8 * width - 1) - 1)).astype("<i4")
        raw = scaled.view(np.uint8).reshape(-1, 4)[:, :width]
    path.parent.mkdir(parents=True, exist_ok=True)
    with wave.open(str(path), "wb") as file:
        file.setnchannels(channels)
        file.setsampwidth(width)
        file.setframerate(rate)
        file.writeframes(np.tile(raw[:, None, :], (1, channels, 1)).tobytes())


def tone_hz(audio: bytes) -> float:
    samples = mulaw_decode(audio)[160:-320].astype(np.float64)
    return float(np.argmax(np.abs(np.fft.rfft(samples, 80_000))) / 10)


@pytest.mark.parametrize("rate", [8000, 11025, 16000, 22050, 44100, 48000])
@pytest.mark.parametrize("width", [1, 2, 3, 4])
@pytest.mark.parametrize("channels", [1, 2])
def test_recording_of_any_format_sounds_the_same(
    tmp_path: Path, rate: int, width: int, channels: int
) -> None:
    write_wav(tmp_path / "one_moment.wav", rate=rate, width=width, channels=channels)
    library = ComfortLibrary.load(tmp_path, "en")
    assert library.replaced == ("one_moment",)
    audio = library["one_moment"]
    assert len(audio) == 4000
    assert tone_hz(audio) == pytest.approx(440, abs=2)
    assert pcm.loudness_dbfs(mulaw_decode(audio) / 32768) == pytest.approx(-13.5, abs=0.7)
    assert library["goodbye"] == ComfortLibrary.load()["goodbye"]


def test_recording_for_the_language_wins_over_the_general_one(tmp_path: Path) -> None:
    write_wav(tmp_path / "goodbye.wav", seconds=0.2)
    write_wav(tmp_path / "de" / "goodbye.wav", seconds=0.4)
    assert ComfortLibrary.load(tmp_path, "de-AT").duration_ms("goodbye") == 400
    assert ComfortLibrary.load(tmp_path, "fr").duration_ms("goodbye") == 200


def test_recording_serves_a_language_that_is_not_bundled(tmp_path: Path) -> None:
    write_wav(tmp_path / "ja" / "goodbye.wav", seconds=0.4)
    library = ComfortLibrary.load(tmp_path, "ja")
    assert (library.language, library.duration_ms("goodbye")) == ("en", 400)


@pytest.mark.parametrize(
    ("content", "says"),
    [
        (b"", "not a PCM WAV"),
        (b"RIFF\x04\x00\x00\x00WAVE", "not a PCM WAV"),
        (b"hello" * 100, "not a PCM WAV"),
    ],
)
def test_unreadable_recording_is_named_in_one_sentence(tmp_path: Path, content: bytes, says: str) -> None:
    (tmp_path / "goodbye.wav").write_bytes(content)
    with pytest.raises(ComfortError, match=says) as caught:
        ComfortLibrary.load(tmp_path)
    assert "goodbye.wav" in str(caught.value)


def test_mulaw_wav_is_refused_with_advice(tmp_path: Path) -> None:
    layout = struct.pack("<IHHIIHHH", 18, 7, 1, 8000, 8000, 1, 8, 0)
    header = b"RIFF\x00\x00\x00\x00WAVEfmt " + layout
    (tmp_path / "goodbye.wav").write_bytes(header + b"data\x08\x00\x00\x00" + b"\xff" * 8)
    with pytest.raises(ComfortError, match="save it as 16-bit PCM"):
        ComfortLibrary.load(tmp_path)


def test_empty_silent_or_endless_recording_is_refused(tmp_path: Path) -> None:
    path = tmp_path / "goodbye.wav"
    for seconds, says in [(0.0, "holds no sound"), (31.0, "longer than 30 seconds")]:
        write_wav(path, seconds=seconds)
        with pytest.raises(ComfortError, match=says):
            ComfortLibrary.load(tmp_path)
    with wave.open(str(path), "wb") as file:
        file.setnchannels(1)
        file.setsampwidth(2)
        file.setframerate(8000)
        file.writeframes(bytes(8000))
    with pytest.raises(ComfortError, match="is silent"):
        ComfortLibrary.load(tmp_path)


def test_missing_folder_is_a_mistake_and_an_empty_one_is_not(tmp_path: Path) -> None:
    with pytest.raises(ComfortError, match="is not a folder"):
        ComfortLibrary.load(tmp_path / "nowhere")
    assert ComfortLibrary.load(tmp_path).replaced == ()


@given(st.integers(4000, 96_000), st.integers(1, 4000))
def test_resampling_keeps_the_duration(rate: int, count: int) -> None:
    out = pcm.resample(np.ones(count), rate, 8000)
    assert len(out) == -(-count * 8000 // rate)


def test_resampling_is_exact_within_the_band() -> None:
    clock = np.arange(22_050) / 22_050
    out = pcm.resample(np.sin(2 * np.pi * 1000 * clock), 22_050, 8000)
    ideal = np.sin(2 * np.pi * 1000 * np.arange(len(out)) / 8000)
    assert np.abs(out - ideal)[200:-200].max() < 1e-5
    above = pcm.resample(np.sin(2 * np.pi * 5000 * clock), 22_050, 8000)
    assert np.abs(above)[200:-200].max() < 1e-3
