"""``callrt emulate carrier``: a call from a terminal, and one sentence for each mistake."""

from __future__ import annotations

import argparse
import threading
import wave
from collections.abc import Iterator
from pathlib import Path

import pytest
import trio
from carrier_helpers import TOKEN
from carrier_server import AUDIO, Server, media

from callrt.cli import emulate
from callrt.cli.main import main
from callrt.wire.connection import WebSocketTransport


async def answer_speech(server: Server, transport: WebSocketTransport) -> None:
    """Greets, and speaks again whenever the caller has spoken."""
    transport.send_nowait(media(server.stream_sid, AUDIO))
    loud = answered = 0
    while True:
        before = loud
        await trio.sleep(0.3)
        loud = sum("/" * 40 not in text for _, text in server.received)
        if loud == before and loud - answered > 20:
            answered = loud
            transport.send_nowait(media(server.stream_sid, AUDIO))


@pytest.fixture
def app_url() -> Iterator[str]:
    """An app in a thread of its own: the command under test has the main one."""
    ready = threading.Event()
    stop: list[tuple[trio.lowlevel.TrioToken, trio.CancelScope]] = []
    urls: list[str] = []

    async def serve() -> None:
        async with trio.open_nursery() as nursery:
            server = Server(nursery, answer_speech)
            await server.start()
            urls.append(server.url)
            stop.append((trio.lowlevel.current_trio_token(), nursery.cancel_scope))
            ready.set()

    thread = threading.Thread(target=trio.run, args=(serve,))
    thread.start()
    assert ready.wait(10)
    yield f"{urls[0]}/voice"
    token, scope = stop[0]
    token.run_sync_soon(scope.cancel)
    thread.join(10)


def test_call_is_placed_told_and_recorded(
    app_url: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    status = main(
        [
            *("emulate", "carrier", "--app", app_url, "--auth-token", TOKEN),
            *("--say", "Hello there, are you open?", "--press", "1", "--out", str(tmp_path / "heard")),
        ]
    )
    told = capsys.readouterr().out
    assert status == 0, told
    for line in (
        "rings at",
        "voice webhook: 200",
        "stream 1: start",
        "the caller hears a voice",
        "caller: Hello there, are you open?",
        "caller presses 1",
        "stream 1: dtmf 1",
        "caller hangs up",
        "over: caller hung up",
    ):
        assert line in told
    assert TOKEN not in told
    with wave.open(str(tmp_path / "heard" / "call.wav")) as file:
        assert file.getnchannels() == 2
        assert file.getnframes() > len(AUDIO)


def test_calls_at_once_are_told_apart(
    app_url: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    status = main(
        [
            "emulate",
            "carrier",
            "--app",
            app_url,
            "--auth-token",
            TOKEN,
            "--calls",
            "2",
            "--out",
            str(tmp_path),
        ]
    )
    told = capsys.readouterr().out
    assert status == 0, told
    assert "call 1:" in told
    assert "call 2:" in told
    assert (tmp_path / "call-1.wav").exists()
    assert (tmp_path / "call-2.wav").exists()


def test_app_that_is_not_there_is_exit_status_1(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setenv("TWILIO_AUTH_TOKEN", TOKEN)
    assert main(["emulate", "carrier", "--app", "http://127.0.0.1:9"]) == 1
    assert "warning 11200" in capsys.readouterr().out


@pytest.mark.parametrize(
    ("arguments", "says"),
    [
        ([], "--auth-token"),
        (["--auth-token", "x", "--app", "localhost:8080"], "is not an address"),
        *(
            (["--auth-token", "x", "--app", app], "is not an address")
            for app in ("http://[::1", "http://127.0.0.1:abc", "http://127.0.0.1:0", "http://a..b:80")
        ),
        (["--auth-token", "x", "--calls", "0"], "--calls"),
        (["--auth-token", "x", "--press", "1a"], "keys that no telephone has"),
        (["--auth-token", "x", "--wav", "/nowhere.wav"], "/nowhere.wav cannot be read"),
        (["--auth-token", "x", "--drop", "boom"], "write rst@3000"),
        (["--auth-token", "x", "--drop", "rst@²"], "write rst@3000"),
        (["--auth-token", "x", "--drop", "rst@" + "9" * 5000], "write rst@3000"),
        (["--auth-token", "x", "--say", "hello", "--voice", "atlantean"], "no voice 'atlantean'"),
        (["--auth-token", "x", "--out", "/dev/null/x"], "cannot be made"),
    ],
)
def test_mistake_is_one_sentence_and_exit_status_2(
    arguments: list[str], says: str, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.delenv("TWILIO_AUTH_TOKEN", raising=False)
    app = [] if "--app" in arguments else ["--app", "http://127.0.0.1:9"]
    assert main(["emulate", "carrier", *app, *arguments]) == 2
    error = capsys.readouterr().err
    assert says in error
    assert error.count("\n") == 1


def test_help_teaches(capsys: pytest.CaptureFixture[str]) -> None:
    for arguments in (
        ["emulate", "--help"],
        ["emulate", "carrier", "--help"],
        ["emulate", "model", "--help"],
    ):
        assert main(arguments) == 0
        assert "emulate" in capsys.readouterr().out


def test_acts_keep_the_order_of_the_command_line() -> None:
    parser = argparse.ArgumentParser()
    emulate.add_parser(parser.add_subparsers())
    args = parser.parse_args(
        ["emulate", "carrier", "--app", "x", "--say", "a", "--press", "1", "--wav", "f", "--say", "b"]
    )
    assert args.acts == [("say", "a"), ("press", "1"), ("wav", "f"), ("say", "b")]
