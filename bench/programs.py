"""The programs under test: how each is started, pinned to its core, and stopped."""

from __future__ import annotations

import os
import shutil
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

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

[models.main]
provider = "openai-realtime"
url = "{scheme}://localhost:{model_port}/v1/realtime"
api_key = "sk-bench"
model = "bench"
voice = "marin"

[agents.front-desk]
model = "main"
instructions = "You answer the phone."

[routes]
default = "front-desk"
"""

PROGRAMS = {
    "callrt": "callrt as it is installed: supervision, journal, signatures, metrics",
    "callrt-reference": "the same over the reference transport (trio-websocket's message API)",
    "trio-messages": "a bare bridge: trio, trio-websocket's message API on both sides",
    "uvloop-plain": "a bare bridge: uvloop, websockets, orjson",
}


class Unavailable(Exception):
    """This program cannot run here. One sentence."""


class Program:
    """One running program: its processes, and how the load generator finds it."""

    def __init__(self, process: subprocess.Popen[bytes], load_args: list[str]) -> None:
        self.process = process
        self.load_args = load_args

    @property
    def pids(self) -> list[int]:
        """The process and its children."""
        return [self.process.pid, *_children(self.process.pid)]


@contextmanager
def running(name: str, folder: Path, core: int | None, *, tls: bool, workers: int = 1) -> Iterator[Program]:
    """The program, started and listening. Raises :class:`Unavailable`."""
    port, admin, model_port = free_port(), free_port(), free_port()
    environment = dict(os.environ)
    load_args = ["--port", str(port), "--model-port", str(model_port), "--key", KEY, "--account", ACCOUNT]
    scheme = "ws"
    if tls:
        scheme = "wss"
        certificate = make_certificate(folder)
        environment["SSL_CERT_FILE"] = str(certificate)
        load_args += ["--tls", str(certificate)]
    if name.startswith("callrt"):
        config = folder / "callrt.toml"
        fields = {"port": port, "admin": admin, "model_port": model_port, "scheme": scheme}
        config.write_text(CONFIG.format(**fields, key=KEY, account=ACCOUNT))
        command = [sys.executable, "-m", "callrt.cli.main", "serve", "--config", str(config)]
        if workers > 1:
            command += ["--workers", str(workers)]
        if name == "callrt-reference":
            environment["CALLRT_TRANSPORT"] = "reference"
    else:
        command = [sys.executable, str(HERE / "bridges" / f"{name.replace('-', '_')}.py"), str(port)]
        command += [f"{scheme}://localhost:{model_port}/v1/realtime?model=bench"]
        load_args += ["--stream", f"ws://127.0.0.1:{port}/media"]
    with (folder / f"{name}.log").open("wb") as log:
        process = subprocess.Popen(
            command,
            stdout=log,
            stderr=log,
            env=environment,
            preexec_fn=(lambda: os.sched_setaffinity(0, {core})) if core is not None else None,
        )
        try:
            _wait_listening(process, port, folder / f"{name}.log")
            yield Program(process, load_args)
        finally:
            process.send_signal(signal.SIGTERM)
            try:
                process.wait(15)
            except subprocess.TimeoutExpired:
                process.kill()
                process.wait()


def free_port() -> int:
    with socket.socket() as sock:
        sock.bind(("127.0.0.1", 0))
        return int(sock.getsockname()[1])


def make_certificate(folder: Path) -> Path:
    """A self-signed certificate for localhost, with its key in the same file."""
    if shutil.which("openssl") is None:
        raise Unavailable("TLS needs the openssl command to make a certificate")
    path = folder / "model.pem"
    if not path.exists():
        command = "openssl req -x509 -newkey ec -pkeyopt ec_paramgen_curve:prime256v1 -nodes -days 2"
        command += " -subj /CN=localhost"
        extra = [
            "-addext",
            "subjectAltName=DNS:localhost",
            "-keyout",
            str(path),
            "-out",
            str(folder / "cert.pem"),
        ]
        subprocess.run([*command.split(), *extra], check=True, capture_output=True)
        path.write_bytes(path.read_bytes() + (folder / "cert.pem").read_bytes())
    return path


def _wait_listening(process: subprocess.Popen[bytes], port: int, log: Path) -> None:
    deadline = time.monotonic() + 20
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


def _children(pid: int) -> list[int]:
    path = Path(f"/proc/{pid}/task/{pid}/children")
    return [int(word) for word in path.read_text().split()] if path.exists() else []
