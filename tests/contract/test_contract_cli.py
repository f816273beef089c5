"""The command line and the configuration, from outside: exit codes and sentences."""

from __future__ import annotations

import os
import socket
import subprocess
import sys
from pathlib import Path

import pytest

MINIMAL = """
[server]
port = {port}
admin_port = {admin}
[carriers.twilio]
account_sid = "AC1"
auth_token = "0123456789abcdef0123456789abcdef"
[models.main]
provider = "openai-realtime"
api_key = "${{SOME_KEY}}"
[agents.front-desk]
model = "main"
instructions = "You answer."
[routes]
default = "front-desk"
"""
SECRET = "sk-do-not-print-2718281828"


def callrt(*arguments: str, folder: Path, **env: str) -> subprocess.CompletedProcess[str]:
    environment = {k: v for k, v in os.environ.items() if not k.startswith(("TWILIO_", "OPENAI_"))}
    done = subprocess.run(
        [sys.executable, "-m", "callrt", *arguments],
        capture_output=True,
        text=True,
        timeout=60,
        cwd=folder,
        env={**environment, "SOME_KEY": SECRET, "COLUMNS": "100", **env},
    )
    assert "Traceback" not in done.stderr + done.stdout
    assert SECRET not in done.stderr + done.stdout
    assert "\x1b[" not in done.stdout + done.stderr, "colours only on a terminal"
    return done


def config(folder: Path, text: str = MINIMAL, *, port: int = 18_080, admin: int = 18_081) -> Path:
    file = folder / "callrt.toml"
    file.write_text(text.format(port=port, admin=admin))
    return file


VERBS = ["demo", "serve", "check", "calls", "emulate", "sim", "chaos"]


def test_contract_help_is_everywhere(tmp_path: Path) -> None:
    top = callrt("--help", folder=tmp_path)
    assert top.returncode == 0
    for verb in VERBS:
        assert verb in top.stdout, verb
    for arguments in [(verb,) for verb in VERBS] + [
        ("calls", "list"),
        ("calls", "show"),
        ("emulate", "carrier"),
        ("emulate", "model"),
    ]:
        done = callrt(*arguments, "--help", folder=tmp_path)
        assert done.returncode == 0, arguments
        assert len(done.stdout) > 100, arguments


@pytest.mark.parametrize("arguments", [(), ("frobnicate",), ("serve", "--prot", "1"), ("calls", "show")])
def test_contract_wrong_usage_is_2(tmp_path: Path, arguments: tuple[str, ...]) -> None:
    assert callrt(*arguments, folder=tmp_path).returncode == 2


@pytest.mark.parametrize("verb", ["serve", "check"])
def test_contract_no_configuration_is_2_and_names_the_file(tmp_path: Path, verb: str) -> None:
    done = callrt(verb, "--config", "nowhere.toml", folder=tmp_path)
    assert done.returncode == 2
    assert "nowhere.toml" in done.stderr + done.stdout


WRONG = {
    "missing variable": (
        'api_key = "${{SOME_KEY}}"',
        'api_key = "${{NO_SUCH_VARIABLE}}"',
        ("NO_SUCH_VARIABLE",),
    ),
    "misspelt key": ('instructions = "You', 'instructoins = "You', ("instructoins", "instructions")),
    "misspelt section": ("[routes]", "[rotues]", ("rotues", "routes")),
    "misspelt model": ('model = "main"', 'model = "mian"', ("mian", "main")),
    "misspelt agent": ('default = "front-desk"', 'default = "front-dsek"', ("front-dsek", "front-desk")),
    "wrong type": ("port = {port}", 'port = "many"', ("port",)),
    "wrong provider": ('"openai-realtime"', '"openai-realtme"', ("openai-realtme", "openai-realtime")),
    "not TOML": ("[routes]", "[routes", ("callrt.toml",)),
    "no such tool": ('model = "main"', 'model = "main"\ntools = ["no_such_module:f"]', ("no_such_module",)),
    "bad journal": ("[routes]", '[journal]\nurl = "mongo://x"\n[routes]', ("journal",)),
    "negative": ("[routes]", "[resilience]\nmodel_retries = -1\n[routes]", ("model_retries",)),
    "misspelt resilience": ("[routes]", "[resilience]\ncomfort_after = 3\n[routes]", ("comfort_after_ms",)),
}


@pytest.mark.parametrize("name", WRONG)
def test_contract_wrong_configuration_is_2_and_one_sentence(tmp_path: Path, name: str) -> None:
    old, new, words = WRONG[name]
    assert old in MINIMAL
    config(tmp_path, MINIMAL.replace(old, new))
    for verb in ("check", "serve"):
        done = callrt(verb, folder=tmp_path)
        said = done.stdout + done.stderr
        assert done.returncode == 2, (verb, said)
        for word in words:
            assert word in said, (verb, said)
        if verb == "serve":
            assert len(said.strip().splitlines()) <= 2, said


def test_contract_check_of_a_good_file_is_0(tmp_path: Path) -> None:
    config(tmp_path)
    done = callrt("check", folder=tmp_path)
    assert done.returncode == 0, done.stdout + done.stderr


def test_contract_paths_are_relative_to_the_file(tmp_path: Path) -> None:
    inner = tmp_path / "etc"
    inner.mkdir()
    (inner / "my_tools.py").write_text(
        "from callrt import tool\n@tool\ndef hello(name: str) -> str:\n    '''Greets.'''\n    return name\n"
    )
    config(inner, MINIMAL.replace('model = "main"', 'model = "main"\ntools = ["my_tools:hello"]'))
    done = callrt("check", "--config", "etc/callrt.toml", folder=tmp_path)
    assert done.returncode == 0, done.stdout + done.stderr
    done = callrt("calls", "list", "--config", "etc/callrt.toml", folder=tmp_path)
    assert done.returncode == 1, "no call was taken yet, so there is no journal"
    assert str(inner / "callrt.db") in done.stderr
    assert not (tmp_path / "callrt.db").exists()


def test_contract_unknown_call_is_1(tmp_path: Path) -> None:
    config(tmp_path)
    done = callrt("calls", "show", "CAnobody", "--json", folder=tmp_path)
    assert done.returncode == 1, done.stderr
    assert len((done.stderr + done.stdout).strip().splitlines()) == 1


@pytest.mark.parametrize("which", ["port", "admin"])
def test_contract_taken_port_is_1(tmp_path: Path, which: str) -> None:
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        taken.listen()
        number = taken.getsockname()[1]
        config(tmp_path, port=number if which == "port" else 0, admin=number if which == "admin" else 0)
        done = callrt("serve", folder=tmp_path)
    assert done.returncode == 1, done.stdout + done.stderr
    assert str(number) in done.stderr
    assert len(done.stderr.strip().splitlines()) == 1, done.stderr
