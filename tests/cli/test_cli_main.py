"""The command line: mistakes are one sentence, help teaches, nothing is a traceback."""

from __future__ import annotations

import subprocess
import sys
from importlib import import_module

import pytest

from callrt import compiled
from callrt.cli import main as cli
from callrt.errors import CallrtError, ConfigError


def test_every_verb_has_its_module_with_help_and_examples(capsys: pytest.CaptureFixture[str]) -> None:
    for verb, module in cli.VERBS.items():
        assert callable(import_module(module).add_parser)
        assert cli.main([verb, "--help"]) == 0
        text = capsys.readouterr().out
        assert "examples:" in text
        assert f"callrt {verb}" in text


def test_help_lists_every_verb_and_a_way_to_begin(capsys: pytest.CaptureFixture[str]) -> None:
    assert cli.main(["--help"]) == 0
    text = capsys.readouterr().out
    assert all(f"\n    {verb} " in text for verb in cli.VERBS)
    assert "callrt check" in text


def test_version_is_printed(capsys: pytest.CaptureFixture[str]) -> None:
    assert cli.main(["--version"]) == 0
    out = capsys.readouterr().out
    assert out.startswith("callrt 0.")
    assert out.strip().endswith(compiled.REASON + ")" if compiled.REASON else "compiled")


@pytest.mark.parametrize(
    ("typed", "meant"), [("serv", "serve"), ("chek", "check"), ("call", "calls"), ("Serve", "serve")]
)
def test_misspelt_verb_names_the_nearest(typed: str, meant: str, capsys: pytest.CaptureFixture[str]) -> None:
    assert cli.main([typed]) == 2
    error = capsys.readouterr().err
    assert f'did you mean "{meant}"?' in error
    assert error.count("\n") == 1


@pytest.mark.parametrize(
    "arguments", [[], ["--nonsense"], ["serve", "--port", "x"], ["serve", "--port", "65536"]]
)
def test_wrong_usage_is_exit_2(arguments: list[str], capsys: pytest.CaptureFixture[str]) -> None:
    assert cli.main(arguments) == 2
    assert "Traceback" not in capsys.readouterr().err


@pytest.mark.parametrize(
    ("arguments", "named"),
    [
        (["serve", "--host", "h" * 70], "--host: no host can have that name"),
        (["serve", "--port", "9" * 5000], "--port: must be a number from 0 to 65535"),
        (["emulate", "model", "--port", "99999"], "--port: must be a number from 0 to 65535"),
        (["emulate", "model", "--port", "-1"], "--port: must be a number from 0 to 65535"),
        (
            ["emulate", "carrier", "--app", "x", "--rest-port", "99999"],
            "--rest-port: must be a number from 0",
        ),
        (["sim", "--calls", "abc"], "--calls: must be a number from 1 to"),
        (["sim", "--calls", "0"], "--calls: must be a number from 1 to"),
        (["sim", "--workers", "9" * 20], "--workers: must be a number from 1 to"),
        (["chaos", "--soak", "-1"], "--soak: must be a number of minutes above 0"),
        (["chaos", "--soak", "0"], "--soak: must be a number of minutes above 0"),
        (["chaos", "--soak", "nan"], "--soak: must be a number of minutes above 0"),
        (["chaos", "--soak", "inf"], "--soak: must be a number of minutes above 0"),
        (["chaos", "--soak", "ten"], "--soak: must be a number of minutes above 0"),
    ],
)
def test_number_or_name_out_of_bounds_is_exit_2_and_says_what_to_write(
    arguments: list[str], named: str, capsys: pytest.CaptureFixture[str]
) -> None:
    assert cli.main(arguments) == 2
    assert named in capsys.readouterr().err


@pytest.mark.parametrize(("error", "status"), [(CallrtError("it broke"), 1), (ConfigError("write x"), 2)])
def test_errors_for_people_are_one_line_and_their_status(
    error: CallrtError, status: int, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    def run(args: object) -> int:
        raise error

    monkeypatch.setattr("callrt.cli.check.run", run)
    assert cli.main(["check"]) == status
    assert capsys.readouterr().err == f"callrt: {error}\n"


@pytest.mark.parametrize(
    "interrupt",
    [KeyboardInterrupt(), BaseExceptionGroup("", [BaseExceptionGroup("", [KeyboardInterrupt(), OSError()])])],
)
def test_interrupt_is_no_traceback(
    interrupt: BaseException, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    def run(args: object) -> int:
        raise interrupt

    monkeypatch.setattr("callrt.cli.check.run", run)
    assert cli.main(["check"]) == 1
    assert capsys.readouterr().err == ""


def test_reader_that_goes_away_is_no_traceback() -> None:
    code = "import sys; from callrt.cli.main import main; sys.exit(main(['--help']))"
    process = subprocess.Popen([sys.executable, "-c", code], stdout=subprocess.PIPE, stderr=subprocess.PIPE)
    assert process.stdout is not None
    assert process.stderr is not None
    process.stdout.close()
    assert process.stderr.read() == b""
    process.stderr.close()
    process.wait(30)
