"""``callrt serve`` as a process: announces, answers, drains on a signal, ends at once on the second."""

from __future__ import annotations

import contextlib
import os
import re
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import httpx
import pytest

from callrt.cli.serve import listening_on
from callrt.errors import ConfigError
from callrt.policy.settings import ServerSettings
from callrt.telephony.signatures import sign

TOKEN = "fedcba9876543210" * 2
BASE = "http://calls.test"

CONFIG = f"""
[server]
port = 0
admin_port = 0
public_url = "{BASE}"
drain_seconds = 20
[carriers.twilio]
account_sid = "AC1"
auth_token = "{TOKEN}"
api_url = "http://127.0.0.1:1"
[models.main]
api_key = "sk-none"
url = "ws://127.0.0.1:1"
[agents.front-desk]
instructions = "You answer."
"""

VOICE = {"CallSid": "CA7", "AccountSid": "AC1", "From": "+15550100001", "To": "+15550100002"}


def command(folder: Path, *arguments: str) -> list[str]:
    return [
        sys.executable,
        "-m",
        "callrt.cli.main",
        "serve",
        "--config",
        str(folder / "callrt.toml"),
        *arguments,
    ]


class Served:
    def __init__(self, folder: Path, *arguments: str, text: str = CONFIG, unread: bool = False) -> None:
        """``unread``: nobody reads what it prints and logs after it listens, and its pipe is full."""
        (folder / "callrt.toml").write_text(text)
        self.log = folder / "log.txt"
        with self.log.open("wb") as log:
            self.process = subprocess.Popen(
                command(folder, *arguments),
                stdout=subprocess.PIPE,
                stderr=subprocess.STDOUT if unread else log,
            )
        assert self.process.stdout is not None
        lines = iter(self.process.stdout.readline, b"")
        # Where both go to one pipe, workers have logged before that.
        self.line = next((line.decode() for line in lines if not (unread and line.startswith(b"at="))), "")
        assert self.line.startswith("listening on "), self.log.read_text()
        if unread:
            fill(self.process)
        self.public, self.admin = (int(port) for port in re.findall(r":(\d+) ", self.line))

    def get(self, port: int, path: str) -> httpx.Response:
        return httpx.get(f"http://127.0.0.1:{port}{path}", trust_env=False)

    def place_call(self, base: str = BASE) -> httpx.Response:
        return httpx.post(
            f"http://127.0.0.1:{self.public}/twilio/voice",
            data=VOICE,
            headers={"X-Twilio-Signature": sign(TOKEN, f"{base}/twilio/voice", VOICE.items())},
            trust_env=False,
        )

    def signal(self, number: int) -> None:
        self.process.send_signal(number)

    def end(self) -> int:
        return self.process.wait(30)


def fill(process: subprocess.Popen[bytes]) -> None:
    """Its output, through the same door by which it comes out."""
    assert process.stdout is not None
    number = os.open(f"/proc/self/fd/{process.stdout.fileno()}", os.O_WRONLY | os.O_NONBLOCK)
    with contextlib.suppress(BlockingIOError):
        while True:
            os.write(number, bytes(4096))
    os.close(number)


@pytest.fixture
def served(tmp_path: Path) -> Iterator[Served]:
    up = Served(tmp_path)
    yield up
    with contextlib.suppress(ProcessLookupError):
        up.process.kill()
    up.process.wait()
    assert up.process.stdout is not None
    up.process.stdout.close()


def wait_until_draining(served: Served) -> None:
    deadline = time.monotonic() + 10
    while served.get(served.admin, "/readyz").status_code != 503:
        assert time.monotonic() < deadline


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
def test_signal_without_calls_ends_the_process_with_0(number: int, served: Served) -> None:
    assert served.get(served.public, "/healthz").status_code == 200
    served.signal(number)
    assert served.end() == 0


def test_draining_declines_new_calls_and_the_second_signal_ends_at_once(served: Served) -> None:
    assert "<Stream" in served.place_call().text
    assert "callrt_calls_live 1.0" in served.get(served.admin, "/metrics").text
    served.signal(signal.SIGTERM)
    wait_until_draining(served)
    assert served.get(served.public, "/readyz").text == "draining\n"
    VOICE_2 = {**VOICE, "CallSid": "CA8"}
    answer = httpx.post(
        f"http://127.0.0.1:{served.public}/twilio/voice",
        data=VOICE_2,
        headers={"X-Twilio-Signature": sign(TOKEN, f"{BASE}/twilio/voice", VOICE_2.items())},
        trust_env=False,
    )
    assert answer.status_code == 200
    assert "<Say" in answer.text
    assert "<Stream" not in answer.text
    begun = time.monotonic()
    served.signal(signal.SIGTERM)
    assert served.end() == 1
    assert time.monotonic() - begun < 2


@pytest.mark.parametrize("workers", ["1", "2"])
def test_comfort_text_that_nobody_will_hear_is_logged_once(workers: str, tmp_path: Path) -> None:
    up = Served(
        tmp_path, "--workers", workers, text=CONFIG + "[resilience]\ncomfort_text = 'Just a second.'\n"
    )
    up.signal(signal.SIGTERM)
    assert up.end() == 0
    assert up.process.stdout is not None
    up.process.stdout.close()
    assert up.log.read_text().count("[resilience] comfort_text: callers hear") == 1


@pytest.mark.parametrize("workers", ["1", "2"])
def test_taken_port_is_exit_1_in_one_sentence(workers: str, served: Served, tmp_path: Path) -> None:
    ended = subprocess.run(
        command(tmp_path, "--port", str(served.public), "--workers", workers),
        capture_output=True,
        text=True,
        timeout=30,
        check=False,
    )
    assert ended.returncode == 1
    assert ended.stderr.count("\n") == 1
    assert str(served.public) in ended.stderr
    assert ended.stdout == ""


def test_log_holds_no_secret_and_no_number(served: Served) -> None:
    served.place_call()
    served.signal(signal.SIGTERM)
    wait_until_draining(served)
    served.signal(signal.SIGTERM)
    served.end()
    log = served.log.read_text()
    assert "draining" in log
    for hidden in (TOKEN, "sk-none", "5550100001", "Traceback"):
        assert hidden not in log


def test_workers_serve_one_port_and_the_second_signal_ends_them_all_at_once(tmp_path: Path) -> None:
    served = Served(tmp_path, "--workers", "2")
    try:
        assert served.line.endswith(", 2 workers\n")
        workers = [each["pid"] for each in served.get(served.admin, "/workers").json()["workers"]]
        assert len(workers) == 2
        assert "<Stream" in served.place_call().text
        assert "callrt_calls_live 1.0" in served.get(served.admin, "/metrics").text
        assert [call["call_sid"] for call in served.get(served.admin, "/calls").json()["calls"]] == ["CA7"]
        assert [served.get(port, "/readyz").status_code for port in (served.public, served.admin)] == [
            200,
            200,
        ]
        assert served.get(served.public, "/metrics").status_code == 404
        # A process manager may tell all of them: that is still a drain of all, not each making way for the others.
        for pid in (*workers, served.process.pid):
            os.kill(pid, signal.SIGTERM)
        wait_until_draining(served)
        assert "callrt_calls_live 1.0" in served.get(served.admin, "/metrics").text
        begun = time.monotonic()
        served.signal(signal.SIGTERM)
        assert served.end() == 1
        assert time.monotonic() - begun < 2
        assert not [pid for pid in workers if Path(f"/proc/{pid}").exists() and not is_dead(pid)]
        log = served.log.read_text()
        assert "worker=1" in log
        assert "worker=2" in log
        assert "a worker leaves" not in log
        assert "takes over" not in log
        for hidden in (TOKEN, "sk-none", "5550100001", "Traceback"):
            assert hidden not in log
    finally:
        served.process.kill()
        served.process.wait()
        assert served.process.stdout is not None
        served.process.stdout.close()


def is_dead(pid: int) -> bool:
    """Killed, though nobody may have asked yet how."""
    deadline = time.monotonic() + 5
    while Path(f"/proc/{pid}/stat").exists() and ") Z " not in Path(f"/proc/{pid}/stat").read_text():
        if time.monotonic() > deadline:
            return False
    return True


@pytest.mark.parametrize("workers", ["1", "2"])
@pytest.mark.parametrize("calls", [0, 1])
def test_unread_output_holds_up_neither_the_calls_nor_the_end(
    calls: int, workers: str, tmp_path: Path
) -> None:
    served = Served(tmp_path, "--workers", workers, unread=True)
    try:
        if calls:
            assert "<Stream" in served.place_call().text
        served.signal(signal.SIGTERM)
        if calls:
            wait_until_draining(served)
            assert served.get(served.public, "/healthz").status_code == 200
            served.signal(signal.SIGTERM)
        assert served.end() == (1 if calls else 0)
    finally:
        served.process.kill()
        served.process.wait()
        assert served.process.stdout is not None
        served.process.stdout.close()


@pytest.mark.parametrize("workers", ["0", "-1", "two", "1000"])
def test_wrong_number_of_workers_is_exit_2(workers: str, tmp_path: Path) -> None:
    (tmp_path / "callrt.toml").write_text(CONFIG)
    ended = subprocess.run(
        command(tmp_path, f"--workers={workers}"), capture_output=True, text=True, timeout=30, check=False
    )
    assert ended.returncode == 2
    assert "--workers: must be a number from 1 to 128" in ended.stderr


@pytest.mark.parametrize(
    ("old", "new", "named"),
    [
        ("instructions", "instruction", "instructions"),
        (TOKEN, "${CALLRT_TEST_UNSET}", "CALLRT_TEST_UNSET"),
        ("[models.main]", "[journal]\nurl = 'sqlite:///nowhere/x.db'\n[models.main]", "[journal] url"),
        ("instructions", "tools = ['none:x']\ninstructions", "[agents.front-desk] tools"),
    ],
)
def test_wrong_configuration_is_exit_2_in_one_sentence(
    old: str, new: str, named: str, tmp_path: Path
) -> None:
    (tmp_path / "callrt.toml").write_text(CONFIG.replace(old, new))
    ended = subprocess.run(
        command(tmp_path), capture_output=True, text=True, timeout=30, check=False, env=dict(os.environ)
    )
    assert ended.returncode == 2
    assert ended.stderr.count("\n") == 1
    assert "callrt.toml" in ended.stderr
    assert named in ended.stderr


def test_public_address_is_the_files_or_else_where_we_listen() -> None:
    moved = listening_on(ServerSettings(), "0.0.0.0", 9000)
    assert (moved.reached_on(9000), moved.reached_on(9001)) == (
        "http://127.0.0.1:9000",
        "http://127.0.0.1:9001",
    )
    assert listening_on(moved, "::", None).reached_on(80) == "http://[::1]:80"
    for told in ("https://calls.example.org", "http://127.0.0.1:8080"):
        given = listening_on(ServerSettings(public_url=told), "0.0.0.0", 9000)
        assert given.reached_on(9000) == told


@pytest.mark.parametrize(("host", "port"), [(None, 8081), ("localhost", 8081), ("0.0.0.0", 8081)])
def test_admin_port_is_no_public_port(host: str | None, port: int) -> None:
    with pytest.raises(ConfigError, match=r"\[server\] admin_port: is 8081 too"):
        listening_on(ServerSettings(), host, port)


@pytest.mark.parametrize("workers", ["1", "2"])
def test_free_port_is_in_the_signed_addresses_and_in_the_streams(workers: str, tmp_path: Path) -> None:
    served = Served(tmp_path, "--workers", workers, text=CONFIG.replace(f'public_url = "{BASE}"', ""))
    try:
        base = f"http://127.0.0.1:{served.public}"
        answer = served.place_call(base)
        assert answer.status_code == 200
        assert f"ws://127.0.0.1:{served.public}/twilio/media/" in answer.text
        assert served.place_call("http://127.0.0.1:0").status_code == 403
    finally:
        served.process.kill()
        served.process.wait()
        assert served.process.stdout is not None
        served.process.stdout.close()
