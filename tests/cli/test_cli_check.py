"""``callrt check``: one line per finding, exit 0 or 2, and nothing left behind."""

from __future__ import annotations

import os
import wave
from pathlib import Path

import pytest

from callrt.cli.main import main
from callrt.service.config import load_settings
from callrt.service.wiring import route

SID = "AC" + "0123456789abcdef" * 2
TOKEN = "fedcba9876543210" * 2
KEY = "sk-proj-0123456789abcdefgh"

GOOD = """
[server]
public_url = "https://calls.example.org"
[agents.front-desk]
instructions = "You answer."
tools = ["clinic_tools:book"]
"""

TOOLS = '''
from callrt.agents.declare import tool


@tool
def book(name: str) -> str:
    """Book an appointment."""
    return name
'''


@pytest.fixture
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("TWILIO_ACCOUNT_SID", SID)
    monkeypatch.setenv("TWILIO_AUTH_TOKEN", TOKEN)
    monkeypatch.setenv("OPENAI_API_KEY", KEY)
    (tmp_path / "clinic_tools.py").write_text(TOOLS)
    (tmp_path / "callrt.toml").write_text(GOOD)
    return tmp_path


def check(capsys: pytest.CaptureFixture[str], text: str | None = None) -> tuple[int, list[str]]:
    if text is not None:
        Path("callrt.toml").write_text(text)
    status = main(["check"])
    captured = capsys.readouterr()
    assert captured.err == ""
    for secret in (TOKEN, KEY):
        assert secret not in captured.out
    return status, captured.out.splitlines()


def test_good_configuration_is_one_line_and_leaves_no_file(
    folder: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert check(capsys) == (0, ["ok: callrt.toml: 1 agent, 1 model, 1 tool"])
    assert sorted(path.name for path in folder.iterdir() if path.is_file()) == [
        "callrt.toml",
        "clinic_tools.py",
    ]


def test_wrong_configuration_is_exit_2(folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
    status, lines = check(capsys, GOOD.replace("public_url", "public_uri"))
    assert (status, lines) == (
        2,
        ['error: callrt.toml: [server] public_uri: unknown key; did you mean "public_url"?'],
    )


@pytest.mark.parametrize("tool", ["clinic_tools:bok", "clinic_tols:book", "clinic_tools:tool"])
def test_tool_that_cannot_be_loaded_is_an_error_with_its_key(
    tool: str, folder: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    status, lines = check(capsys, GOOD.replace("clinic_tools:book", tool))
    assert status == 2
    assert len(lines) == 1
    assert lines[0].startswith("error: callrt.toml: [agents.front-desk] tools: ")


def test_tool_module_that_exits_is_an_error(folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (folder / "exiting_tools.py").write_text("import sys\nsys.exit(3)\n")
    status, lines = check(capsys, GOOD.replace("clinic_tools:book", "exiting_tools:book"))
    assert (status, len(lines)) == (2, 1)


@pytest.mark.parametrize("url", ["sqlite:///nowhere/callrt.db", "sqlite:///folder.db", "sqlite:///text.db"])
def test_journal_that_cannot_be_used_is_an_error(
    url: str, folder: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (folder / "folder.db").mkdir()
    (folder / "text.db").write_text("no database\n" * 1000)
    status, lines = check(capsys, GOOD + f'[journal]\nurl = "{url}"\n')
    assert status == 2
    assert len(lines) == 1
    assert lines[0].startswith("error: callrt.toml: [journal] url: ")


def test_every_mistake_in_the_file_is_a_line_beside_those_of_what_it_names(
    folder: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.delenv("TWILIO_AUTH_TOKEN")
    status, lines = check(
        capsys,
        """
[server]
port = "x"
public_uri = "https://calls.example.org"
admin_port = 70000
[models.main]
provider = "openai"
[agents.front-desk]
instrutions = "You answer."
tools = ["nothing_here:book"]
[agents.sales]
model = "mian"
[routes]
default = "front-dsk"
[resilience]
model_retries = 1.5
max_call_seconds = 0
[telemetry]
""",
    )
    assert status == 2
    assert lines == [
        "error: callrt.toml: " + finding
        for finding in (
            "[telemetry]: unknown key; did you mean [server]?",
            '[server] public_uri: unknown key; did you mean "public_url"?',
            "[server] port: must be a whole number, without quotes; write port = 1",
            "[server] admin_port: must be between 0 and 65535",
            "[carriers.twilio] auth_token: the environment variable TWILIO_AUTH_TOKEN is not set; "
            "set it, or write the value here",
            '[models.main] provider: there is no provider "openai"; did you mean "openai-realtime"?',
            '[agents.front-desk] instrutions: unknown key; did you mean "instructions"?',
            '[agents.sales] model: there is no model "mian"; did you mean "main"?',
            '[agents.sales] instructions: is missing; write instructions = "…"',
            '[routes] default: there is no agent "front-dsk"; did you mean "front-desk"?',
            "[resilience] model_retries: must be a whole number, without quotes; write model_retries = 1",
            "[resilience] max_call_seconds: must be between 1 and 86400",
            f"[agents.front-desk] tools: Tool 'nothing_here:book': there is no module 'nothing_here' in {folder}.",
        )
    ]


@pytest.mark.parametrize(
    ("text", "finding"),
    [
        ("[agent.front-desk]\ninstructions = 'x'", "[agent]: unknown key; did you mean [agents]?"),
        ("agents = 3", "agents: must be a table; begin it with a line [agents]"),
        ("", "[agents]: there is no agent; write a table [agents.front-desk] with instructions"),
        ("[agents]\na = 1", "agents.a: must be a table; begin it with a line [agents.a]"),
        ("[agents.a]\ninstructions = ''", "[agents.a] instructions: is empty; write a value"),
        ("[agents.a]\ninstructions = 'x'\nmodel = ''", "[agents.a] model: is empty; write a value"),
        (
            GOOD + "[journal]\nurl = 'mysql://x'",
            '[journal] url: must name a file; write url = "sqlite:///callrt.db"',
        ),
        (
            GOOD.replace("https://", "nowhere://"),
            '[server] public_url: must be an address; write "https://…"',
        ),
    ],
)
def test_what_follows_from_a_mistake_is_no_finding(
    text: str, finding: str, folder: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    status, lines = check(capsys, text)
    assert status == 2
    assert [line for line in lines if line.startswith("error")] == [f"error: callrt.toml: {finding}"]


def test_every_finding_is_a_line_of_its_own(folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
    text = GOOD.replace("clinic_tools:book", "none:x") + '[journal]\nurl = "sqlite:///nowhere/x.db"\n'
    status, lines = check(capsys, text)
    assert status == 2
    assert [line.split(": ")[0] for line in lines] == ["error", "error"]


WARNINGS = [
    ("https://calls.example.org", "http://127.0.0.1:8080", "[server] public_url"),
    ("https://calls.example.org", "http://calls.example.org", "unencrypted"),
    ("[agents", "admin_host = '0.0.0.0'\n[agents", "[server] admin_host"),
    ("[agents", "[carriers.twilio]\nverify_signatures = false\n[agents", "verify_signatures"),
    ("[agents", "[carriers.twilio]\naccount_sid = 'AC1'\n[agents", "account_sid"),
    ("[agents", "[carriers.twilio]\nauth_token = 'short'\n[agents", "auth_token"),
    ("[agents", "[models.main]\napi_key = 'wrong'\n[agents", "api_key"),
    ("[agents", "[resilience]\ncomfort_text = 'Just a second.'\n[agents", "comfort_text"),
    ("[agents", "[routes]\n'+15550100002' = 'front-desk'\n[agents", 'reach the first agent, "front-desk"'),
]


@pytest.mark.parametrize(("old", "new", "named"), WARNINGS)
def test_what_is_probably_not_meant_is_a_warning(
    old: str, new: str, named: str, folder: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    status, lines = check(capsys, GOOD.replace(old, new))
    assert status == 0
    warnings = [line for line in lines if line.startswith("warning: callrt.toml: ")]
    assert len(warnings) == 1
    assert named in warnings[0]
    assert lines[-1].startswith("ok: ")


@pytest.mark.parametrize(
    ("language", "words", "recording"),
    [
        ("de", "One moment please.", None),
        ("de-AT", "Einen Moment bitte.", None),
        ("en", "Just a second.", "one_moment.wav"),
        ("de", "Sekunde.", "de/one_moment.wav"),
    ],
)
def test_comfort_text_that_a_recording_says_or_that_nobody_chose_is_no_finding(
    language: str, words: str, recording: str | None, folder: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    text = f"{GOOD}language = '{language}'\n[resilience]\ncomfort_text = '{words}'\n"
    if recording is not None:
        path = folder / "lines" / recording
        path.parent.mkdir(parents=True)
        with wave.open(str(path), "wb") as file:
            file.setnchannels(1)
            file.setsampwidth(2)
            file.setframerate(8000)
            file.writeframes(b"\x00\x10" * 800)
        text += "[comfort]\nfolder = 'lines'\n"
    assert check(capsys, text) == (0, ["ok: callrt.toml: 1 agent, 1 model, 1 tool"])


def test_call_to_a_number_without_a_route_goes_where_check_says(
    folder: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    text = "[agents.sales]\ninstructions = 'x'\n" + GOOD + "[routes]\n'+15550100002' = 'front-desk'\n"
    _, lines = check(capsys, text)
    settings = load_settings(Path("callrt.toml"), os.environ)
    assert lines[0].endswith(f'calls to other numbers reach the first agent, "{route(settings, "+1")}"')
    assert (route(settings, "+1"), route(settings, "+15550100002")) == ("sales", "front-desk")


def test_credentials_of_emulators_have_no_shape(folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
    text = (
        GOOD
        + """
[carriers.twilio]
api_url = "http://127.0.0.1:8090"
account_sid = "x"
auth_token = "x"
[models.main]
url = "ws://127.0.0.1:9000/v1/realtime"
api_key = "x"
"""
    )
    assert check(capsys, text) == (0, ["ok: callrt.toml: 1 agent, 1 model, 1 tool"])


def test_missing_file_is_exit_2(folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (folder / "callrt.toml").unlink()
    status, lines = check(capsys)
    assert (status, len(lines)) == (2, 1)
    assert "there is no such file" in lines[0]
