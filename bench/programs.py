"""The programs under test: how each is started, pinned to its core, and stopped."""

from __future__ import annotations

import os
import shutil
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path

import attrs
from environments import Unavailable, interpreter_of

from callrt.testing.ports import free_ports

HERE = Path(__file__).parent
KEY = "bench-auth-token"
ACCOUNT = "AC" + "0" * 32

CONFIG = """\
[server]
host = "127.0.0.1"
port = {port}
public_url = "http://127.0.0.1:{port}"
admin_port = {admin}
drain_seconds = 1

[journal]
url = "sqlite:///callrt.db"

[carriers.twilio]
account_sid = "{account}"
auth_token = "{key}"
api_url = "http://127.0.0.1:{rest_port}"

[models.main]
provider = "openai-realtime"
url = "{scheme}://localhost:{model_port}/v1/realtime"
api_key = "sk-bench"
model = "bench"
voice = "marin"
{audio}
[agents.front-desk]
model = "main"
instructions = "You answer the phone."

[routes]
default = "front-desk"
"""


@attrs.frozen
class Setup:
    """One way to run one program."""

    about: str
    script: str = ""
    """Below this folder; nothing: callrt itself."""
    environment: str = ""
    """Name of its own virtual environment, see ``environments.py``."""
    tls: bool = False
    workers: int = 1
    reference: bool = False
    """callrt over the reference transport."""
    plain: bool = False
    """callrt with nothing of it compiled."""
    pcm: bool = False
    """The model speaks 24 kHz PCM: everything is resampled."""
    own_delay: bool = False
    """It delays audio by its own choice, also without load; that is allowed for in the bound."""


PROGRAMS: Mapping[str, Setup] = {
    "callrt": Setup("callrt as it is installed: supervision, journal, signatures, metrics"),
    "callrt-tls": Setup("the same, the model behind wss", tls=True),
    "callrt-plain": Setup("the same as plain Python, with nothing compiled", plain=True),
    "callrt-pcm24": Setup("the same, the model speaks 24 kHz PCM", pcm=True),
    "callrt-two-workers": Setup("the same, two worker processes on both cores", workers=2),
    "callrt-reference": Setup(
        "the same over the reference transport (trio-websocket's message API)", reference=True
    ),
    "trio-messages": Setup(
        "a bare bridge: trio, trio-websocket's message API on both sides", "bridges/trio_messages.py"
    ),
    "uvloop-plain": Setup("a bare bridge: uvloop, websockets, orjson", "bridges/uvloop_plain.py"),
    "openai-agents": Setup(
        "openai-agents in its documented Twilio set-up",
        "peers/openai_agents_bot.py",
        environment="openai-agents",
        own_delay=True,
    ),
    "pipecat": Setup(
        "pipecat in its documented Twilio and OpenAI Realtime set-up",
        "peers/pipecat_bot.py",
        environment="pipecat",
        pcm=True,
        own_delay=True,
    ),
}


class Program:
    """One running program: its processes, and how the load generator finds it."""

    def __init__(self, process: subprocess.Popen[bytes], load_args: list[str], workers: int = 1) -> None:
        self.process = process
        self.load_args = load_args
        self._has_parent = workers > 1

    @property
    def pids(self) -> list[int]:
        """The process and its children."""
        return [self.process.pid, *_children(self.process.pid)]

    @property
    def workers(self) -> list[int]:
        """The processes that carry calls."""
        return _children(self.process.pid) if self._has_parent else [self.process.pid]


@contextmanager
def running(name: str, folder: Path, core: int | None) -> Iterator[Program]:
    """The program, started and listening. Raises :class:`Unavailable`."""
    setup = PROGRAMS[name]
    port, admin, model_port = free_port(), free_port(), free_port()
    environment = dict(os.environ)
    load_args = ["--port", str(port), "--model-port", str(model_port), "--key", KEY, "--account", ACCOUNT]
    if setup.tls:
        certificate = make_certificate(folder)
        environment["SSL_CERT_FILE"] = str(certificate)
        load_args += ["--tls", str(certificate)]
    if setup.pcm:
        load_args.append("--beacon")
    if setup.own_delay:
        load_args.append("--own-delay")
    if setup.reference:
        environment["CALLRT_TRANSPORT"] = "reference"
    if setup.plain:
        environment["CALLRT_COMPILED"] = "0"
    scheme = "wss" if setup.tls else "ws"
    if setup.script:
        python = interpreter_of(setup.environment) if setup.environment else Path(sys.executable)
        command = [str(python), str(HERE / setup.script), str(port)]
        command += [f"{scheme}://localhost:{model_port}/v1/realtime?model=bench"]
        load_args += ["--stream", f"ws://127.0.0.1:{port}/media"]
    else:
        fields = {"port": port, "admin": admin, "model_port": model_port, "scheme": scheme}
        # The generator plays the carrier's REST interface too, but does not speak TLS there.
        fields["rest_port"] = free_port() if setup.tls else model_port
        fields["audio"] = 'audio = "pcm24"\n' if setup.pcm else ""
        (folder / "callrt.toml").write_text(CONFIG.format(**fields, key=KEY, account=ACCOUNT))
        command = [sys.executable, "-m", "callrt.cli.main", "serve", "--config", str(folder / "callrt.toml")]
        if setup.workers > 1:
            command += ["--workers", str(setup.workers)]
    pinned = None if core is None or setup.workers > 1 else core
    log = folder / f"{name}.log"
    with log.open("wb") as out:
        process = subprocess.Popen(
            command,
            stdout=out,
            stderr=out,
            env=environment,
            cwd=folder,
            preexec_fn=None if pinned is None else (lambda: os.sched_setaffinity(0, {pinned})),
        )
        try:
            _wait_listening(process, port, log)
            if setup.workers > 1:
                # The parent listens at once, and says so when all workers take calls.
                _wait_announced(process, log)
            yield Program(process, load_args, setup.workers)
        finally:
            process.send_signal(signal.SIGTERM)
            try:
                process.wait(15)
            except subprocess.TimeoutExpired:
                process.kill()
                process.wait()


def free_port() -> int:
    [port] = free_ports(1)
    return port


def make_certificate(folder: Path) -> Path:
    """A self-signed certificate for localhost, with its key in the same file."""
    if shutil.which("openssl") is None:
        raise Unavailable("TLS needs the openssl command to make a certificate")
    path, certificate = folder / "model.pem", folder / "cert.pem"
    if not path.exists():
        command = "openssl req -x509 -newkey ec -pkeyopt ec_paramgen_curve:prime256v1 -nodes -days 2"
        command += " -subj /CN=localhost -addext subjectAltName=DNS:localhost"
        files = ["-keyout", str(path), "-out", str(certificate)]
        subprocess.run([*command.split(), *files], check=True, capture_output=True)
        path.write_bytes(path.read_bytes() + certificate.read_bytes())
    return path


def _wait_listening(process: subprocess.Popen[bytes], port: int, log: Path) -> None:
    deadline = time.monotonic() + 60
    while time.monotonic() < deadline:
        if process.poll() is not None:
            lines = log.read_text(errors="replace").strip().splitlines() or ["it said nothing"]
            raise Unavailable(lines[-1])
        try:
            socket.create_connection(("127.0.0.1", port), timeout=1).close()
        except OSError:
            time.sleep(0.05)
        else:
            return
    raise Unavailable("it does not listen")


def _wait_announced(process: subprocess.Popen[bytes], log: Path) -> None:
    deadline = time.monotonic() + 60
    while "listening on" not in log.read_text(errors="replace"):
        if process.poll() is not None or time.monotonic() > deadline:
            raise Unavailable("its workers did not start")
        time.sleep(0.05)


def _children(pid: int) -> list[int]:
    """A child belongs to the thread that started it."""
    lists = Path(f"/proc/{pid}/task").glob("*/children")
    return [int(word) for path in lists for word in path.read_text().split()]
