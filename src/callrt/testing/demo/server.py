"""The real server as a process of its own: started, killed, started again, looked at from outside."""

from __future__ import annotations

import contextlib
import os
import re
import signal
import subprocess
import sys
from collections.abc import Mapping
from importlib import resources
from pathlib import Path

import attrs
import httpx
import trio

from callrt.errors import CallrtError
from callrt.testing.demo.plot import GREETING
from callrt.testing.ports import free_ports

START_SECONDS = 30.0
"""A cold interpreter on a loaded machine."""
STOP_SECONDS = 20.0

AUTH_TOKEN = "5f0d1c2b3a495867768594a3b2c1d0ef"
ACCOUNT_SID = "AC" + "0" * 31 + "1"
API_KEY = "sk-demo-3b8f1d60c5a24e97"
MODEL = "gpt-realtime-2.1"

CONFIG = """\
# Written by callrt demo. The journal of the call is here, too:
#   callrt calls show {call_sid} --config {folder}/callrt.toml
[server]
port = {port}
admin_port = {admin_port}
public_url = "http://127.0.0.1:{port}"
drain_seconds = 5

[carriers.twilio]
account_sid = "{account_sid}"
auth_token = "{auth_token}"
api_url = "{api_url}"

[models.main]
url = "{model_url}"
api_key = "{api_key}"
model = "{model}"

[agents.front-desk]
instructions = "You answer the phone for a clinic. Be short and friendly."
greeting = "{greeting}"
tools = ["clinic:book_appointment", "clinic:text_address"]
"""

LEFT_BY_AN_EARLIER_RUN = ("callrt.db", "callrt.db-wal", "callrt.db-shm", "effects.txt", "log.txt")


@attrs.define(eq=False)
class Server:
    """``callrt serve`` in ``folder``, one process at a time, always on the same ports and journal."""

    folder: Path
    hung_tool: bool = False
    port: int = 0
    admin_port: int = 0
    process: trio.Process | None = None
    environment: Mapping[str, str] = {}
    """For its processes, beside our own."""
    processes: int = 0
    """How many have been started."""
    idle_files: int | None = None
    """File descriptors of the first process before it had anything to do; None where they cannot be counted."""

    def prepare(self, call_sid: str, api_url: str, model_url: str) -> None:
        """Write configuration and tools; forget an earlier run. Raises CallrtError."""
        try:
            self.folder.mkdir(parents=True, exist_ok=True)
            for name in LEFT_BY_AN_EARLIER_RUN:
                (self.folder / name).unlink(missing_ok=True)
            self.port, self.admin_port = free_ports(2)
            config = CONFIG.format(
                call_sid=call_sid,
                folder=self.folder,
                port=self.port,
                admin_port=self.admin_port,
                account_sid=ACCOUNT_SID,
                auth_token=AUTH_TOKEN,
                api_url=api_url,
                model_url=model_url,
                api_key=API_KEY,
                model=MODEL,
                greeting=GREETING,
            )
            self.config.write_text(config, encoding="utf-8")
            tools = resources.files("callrt.testing.demo").joinpath("clinic_tools.py").read_text("utf-8")
            (self.folder / "clinic.py").write_text(tools, encoding="utf-8")
        except OSError as error:
            raise CallrtError(
                f"{error.filename or self.folder} cannot be written: {error.strerror}"
            ) from error

    @property
    def config(self) -> Path:
        return self.folder / "callrt.toml"

    @property
    def log(self) -> str:
        """All that its processes have written to stderr."""
        path = self.folder / "log.txt"
        return path.read_text("utf-8", "replace") if path.exists() else ""

    @property
    def effects(self) -> list[str]:
        """What the tools have done to the world."""
        path = self.folder / "effects.txt"
        return path.read_text("utf-8").splitlines() if path.exists() else []

    async def start(self) -> None:
        """Returns when it listens. Raises CallrtError with its own last words. If cancelled: it is killed."""
        command = [sys.executable, "-m", "callrt", "serve", "--config", str(self.config)]
        env = {**os.environ, **self.environment, "DEMO_TEXT_MESSAGES": "hang" if self.hung_tool else "send"}
        with (self.folder / "log.txt").open("ab") as log:
            process = await trio.lowlevel.open_process(
                command, stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, stderr=log, env=env
            )
        self.process = process
        self.processes += 1
        with trio.move_on_after(START_SECONDS):
            if await _first_line(process):
                if self.idle_files is None:
                    self.idle_files = open_files(process.pid)
                return
        await self.kill()
        lines = [line for line in self.log.splitlines() if line.startswith("callrt: ")]
        why = lines[-1].removeprefix("callrt: ") if lines else f"see {self.folder / 'log.txt'}"
        raise CallrtError(f"The server did not start: {why}")

    async def kill(self) -> None:
        """SIGKILL: no last words, no flush."""
        if self.process is not None:
            self.process.kill()
            await self._reap()

    async def stop(self, patience: float = STOP_SECONDS) -> int:
        """An orderly drain; the exit status. If cancelled, or after so many seconds: it is killed."""
        if self.process is None:
            return 0
        self.process.send_signal(signal.SIGTERM)
        with trio.move_on_after(patience):
            return await self._reap()
        await self.kill()
        return -signal.SIGKILL

    async def _reap(self) -> int:
        process = self.process
        assert process is not None
        status = await process.wait()
        if process.stdout is not None:
            await process.stdout.aclose()
        self.process = None
        return status

    def pids(self) -> list[int]:
        """Ours and the server's."""
        return [os.getpid(), *([] if self.process is None else [self.process.pid])]

    def files(self) -> int | None:
        """File descriptors now."""
        return None if self.process is None else open_files(self.process.pid)

    async def ask(self, path: str, client: httpx.AsyncClient) -> httpx.Response | None:
        """The admin port's answer; None when there is nobody."""
        try:
            return await client.get(
                f"http://127.0.0.1:{self.admin_port}{path}", headers={"connection": "close"}
            )
        except httpx.TransportError:
            return None

    async def live_calls(self, client: httpx.AsyncClient) -> float | None:
        """The gauge ``callrt_calls_live``."""
        answer = await self.ask("/metrics", client)
        found = answer and re.search(r"^callrt_calls_live (\S+)$", answer.text, re.MULTILINE)
        return float(found.group(1)) if found else None

    async def show_call(self, call_sid: str) -> str:
        """What ``callrt calls show --json`` prints. Raises CallrtError."""
        command = [sys.executable, "-m", "callrt", "calls", "show", call_sid, "--json"]
        done = await trio.run_process(
            [*command, "--config", str(self.config)], capture_stdout=True, capture_stderr=True, check=False
        )
        if done.returncode:
            raise CallrtError(done.stderr.decode("utf-8", "replace").strip().removeprefix("callrt: "))
        return done.stdout.decode("utf-8")


async def _first_line(process: trio.Process) -> bool:
    assert process.stdout is not None
    text = b""
    while b"\n" not in text:
        data = await process.stdout.receive_some()
        if not data:
            return False
        text += data
    return True


def open_files(pid: int) -> int | None:
    """Descriptors of a process, without those of the journal: it opens its files when it first needs them and
    keeps them. None where the system does not tell."""
    count = 0
    try:
        for name in os.listdir(f"/proc/{pid}/fd"):
            with contextlib.suppress(FileNotFoundError):  # closed since
                count += "/callrt.db" not in os.readlink(f"/proc/{pid}/fd/{name}")
    except OSError:
        return None
    return count
