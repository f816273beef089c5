"""The bundled lines: complete, audible, short, and made by the script from the table."""

from __future__ import annotations

import importlib.util
from pathlib import Path
from types import ModuleType

import numpy as np
import pytest

from callrt.comfort import LINE_NAMES, LINES, ComfortLibrary, nearest_language, pcm
from callrt.protocol.audio import mulaw_decode

ROOT = Path(__file__).parents[2]
BUNDLED = [(language, line) for language in LINES for line in LINE_NAMES]


def decoded(audio: bytes) -> np.ndarray:
    return mulaw_decode(audio).astype(np.float64) / 32768


def script() -> ModuleType:
    spec = importlib.util.spec_from_file_location("make_comfort", ROOT / "scripts" / "make_comfort.py")
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def test_every_language_says_every_line() -> None:
    assert len(LINES) >= 10
    for texts in LINES.values():
        assert tuple(texts) == LINE_NAMES
        assert all(texts.values())


@pytest.mark.parametrize(("language", "line"), BUNDLED)
def test_bundled_line_is_audible_short_and_framed(language: str, line: str) -> None:
    audio = ComfortLibrary.load(None, language)[line]
    assert len(audio) % 160 == 0
    assert 0.2 < len(audio) / 8000 <= 4.0
    assert -23 < pcm.loudness_dbfs(decoded(audio)) < -17
    # The caller has been waiting: sound within 60 ms of the line's start.
    assert pcm.loudness_dbfs(decoded(audio[:480])) > -50


def test_script_reproduces_the_bundled_files(tmp_path: Path) -> None:
    total = script().make(tmp_path)
    assert 0 < total < 1_000_000
    for language, line in BUNDLED:
        made = decoded((tmp_path / language / f"{line}.ulaw").read_bytes())
        kept = decoded(ComfortLibrary.load(None, language)[line])
        # Another mathematics library may round a sample differently; it may not say anything else.
        assert len(made) == len(kept)
        assert np.corrcoef(made, kept)[0, 1] > 0.99


def test_nothing_lies_beside_the_lines_of_the_table() -> None:
    data = ROOT / "src" / "callrt" / "comfort" / "data"
    files = sorted(str(path.relative_to(data)) for path in data.rglob("*") if path.is_file())
    assert files == sorted(f"{language}/{line}.ulaw" for language, line in BUNDLED)


@pytest.mark.parametrize(
    ("tag", "chosen"),
    [("de", "de"), ("de-AT", "de"), ("pt_BR", "pt"), ("EN-us", "en"), ("xx", "en"), ("", "en")],
)
def test_language_tag_finds_its_nearest_bundle(tag: str, chosen: str) -> None:
    assert nearest_language(tag) == chosen
    assert ComfortLibrary.load(None, tag).language == chosen


def test_library_is_a_mapping_with_words_and_durations() -> None:
    library = ComfortLibrary.load()
    assert tuple(library) == LINE_NAMES
    assert len(library) == len(LINE_NAMES)
    assert library.text("one_moment") == "One moment please."
    assert library.duration_ms("one_moment") == len(library["one_moment"]) // 8
    assert library.replaced == ()
