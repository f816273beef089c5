"""``callrt demo`` for real: the server in a process, a call that is broken, what is written and printed."""

from __future__ import annotations

import json
import subprocess
import sys
import wave
from pathlib import Path

import pytest

from callrt.cli import main as cli


def command(*arguments: str) -> list[str]:
    return [sys.executable, "-m", "callrt.cli.main", *arguments]


def test_demo_survives_the_death_of_the_model_and_leaves_what_it_promises(tmp_path: Path) -> None:
    out = tmp_path / "heard"
    done = subprocess.run(
        command("demo", "--break", "model", "--out", str(out), "--seed", "1"),
        capture_output=True,
        text=True,
        timeout=110,
        check=False,
    )
    assert done.returncode == 0, done.stdout + done.stderr
    assert "\x1b" not in done.stdout, "colours are for terminals"
    assert "One moment please." in done.stdout
    assert "PASS  G1" in done.stdout
    assert "FAIL" not in done.stdout
    assert "Traceback" not in done.stderr
    with wave.open(str(out / "call.wav")) as recording:
        assert (recording.getnchannels(), recording.getframerate()) == (2, 8000)
        assert 8 < recording.getnframes() / 8000 < 60
    call = json.loads((out / "call.json").read_text())
    assert call["outcome"] == "completed"
    assert [restart["actor"] for restart in call["restarts"]].count("model") >= 1
    shown = subprocess.run(
        command("calls", "show", call["call_sid"], "--json", "--config", str(out / "server/callrt.toml")),
        capture_output=True,
        text=True,
        check=True,
    )
    assert json.loads(shown.stdout) == call
    page = (out / "timeline.html").read_text()
    assert call["call_sid"] in page
    assert "src=" not in page.replace('src="data:', ""), "the page stands alone"


def test_a_folder_that_cannot_be_made_is_one_sentence(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "file").write_text("")
    assert cli.main(["demo", "--out", str(tmp_path / "file" / "out")]) == 2
    captured = capsys.readouterr()
    assert captured.err.count("\n") == 1
    assert "--out" in captured.err


def test_an_unknown_fault_is_a_usage_error(capsys: pytest.CaptureFixture[str]) -> None:
    assert cli.main(["demo", "--break", "everything"]) == 2
    assert "process" in capsys.readouterr().err


def test_a_missing_synthesiser_is_one_sentence(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    from callrt.testing import speech

    monkeypatch.setitem(sys.modules, "espeakng_loader", None)
    speech.synthesize.cache_clear()
    speech.synthesize_timed.cache_clear()
    assert cli.main(["demo", "--out", str(tmp_path / "out")]) == 2
    error = capsys.readouterr().err
    assert error.count("\n") == 1
    assert "callrt[demo]" in error
