"""``callrt serve`` as a process on free ports, and scenes that run at the same time against it.

Each scene has its own called number, agent and model address in one configuration, so that one process serves
them all; a scene's failure is its own.
"""

from __future__ import annotations

import contextlib
import json
import os
import re
import signal
import subprocess
import sys
import time
import traceback
from collections.abc import Awaitable, Callable
from pathlib import Path
from typing import Any

import attrs
import httpx
import trio
from contract_carrier import ACCOUNT, TOKEN, Phone, RestServer
from contract_model import Brain, ModelServer

from callrt.testing.ports import free_ports

KEY = "sk-contract-Secret-3141592653589793"
PYTHON = [sys.executable, "-m", "callrt.cli.main"]


def free_port() -> int:
    [port] = free_ports(1)
    return port


@attrs.define
class Scene:
    name: str
    act: Callable[[Stage], Awaitable[None]]
    agent: dict[str, Any]
    number: str = ""


class Scenes:
    """A decorator that collects scenes."""

    def __init__(self) -> None:
        self.all: list[Scene] = []

    def __call__(self, **agent: Any) -> Callable[[Callable[[Stage], Awaitable[None]]], Any]:
        def note(act: Callable[[Stage], Awaitable[None]]) -> Any:
            self.all.append(Scene(act.__name__, act, agent, f"+1555{abs(hash_of(act.__name__)) % 10**7:07d}"))
            return act

        return note

    @property
    def names(self) -> list[str]:
        return [scene.name for scene in self.all]


def hash_of(text: str) -> int:
    value = 7
    for letter in text:
        value = (value * 131 + ord(letter)) % 1_000_000_007
    return value


class Callrt:
    """The process."""

    def __init__(self, folder: Path, config: str, port: int, admin: int, *arguments: str) -> None:
        self.folder, self.port, self.admin, self.arguments = folder, port, admin, arguments
        self.file = folder / "callrt.toml"
        self.file.write_text(config)
        self.base = f"http://127.0.0.1:{port}"
        self.log = folder / "log.txt"
        self.process: subprocess.Popen[bytes] | None = None

    def start(self) -> Callrt:
        env = {**os.environ, "PYTHONUNBUFFERED": "1", "CONTRACT_KEY": KEY}
        with self.log.open("ab") as log:
            self.process = subprocess.Popen(
                [*PYTHON, "serve", "--config", str(self.file), *self.arguments],
                stdout=log,
                stderr=log,
                env=env,
            )
        until = time.monotonic() + 20
        while time.monotonic() < until:
            if self.process.poll() is not None:
                raise AssertionError(self.log.read_text())
            try:
                if httpx.get(self.base + "/readyz", trust_env=False).status_code == 200:
                    return self
            except httpx.TransportError:
                pass
            time.sleep(0.05)
        raise AssertionError("not ready")

    @property
    def pid(self) -> int:
        assert self.process is not None
        return self.process.pid

    def kill(self, number: int = signal.SIGKILL) -> None:
        assert self.process is not None
        self.process.send_signal(number)
        if number == signal.SIGKILL:
            self.process.wait(10)

    def stop(self) -> None:
        if self.process is not None and self.process.poll() is None:
            self.process.kill()
            self.process.wait(10)

    def metrics(self) -> dict[str, float]:
        text = httpx.get(f"http://127.0.0.1:{self.admin}/metrics", trust_env=False).text
        out = {}
        for line in text.splitlines():
            if line and not line.startswith("#"):
                name, _, value = line.rpartition(" ")
                out[name] = float(value)
        return out

    def show(self, sid: str) -> dict[str, Any]:
        """``callrt calls show --json``."""
        done = self.callrt("calls", "show", sid, "--json", "--config", str(self.file))
        assert done.returncode == 0, done.stderr
        shown: dict[str, Any] = json.loads(done.stdout)
        return shown

    async def shown(self, sid: str) -> dict[str, Any]:
        return await trio.to_thread.run_sync(self.show, sid)

    def callrt(self, *arguments: str) -> subprocess.CompletedProcess[str]:
        env = {**os.environ, "CONTRACT_KEY": KEY}
        return subprocess.run(
            [*PYTHON, *arguments], capture_output=True, text=True, timeout=60, cwd=self.folder, env=env
        )

    def files(self) -> list[str]:
        return sorted(os.listdir(f"/proc/{self.pid}/fd"))

    def links(self) -> list[str]:
        """What the open files are."""
        links = []
        for name in self.files():
            with contextlib.suppress(FileNotFoundError):  # closed since we looked
                links.append(os.readlink(f"/proc/{self.pid}/fd/{name}"))
        return sorted(links)

    def memory(self) -> float:
        """Resident megabytes."""
        match = re.search(r"VmRSS:\s+(\d+)", Path(f"/proc/{self.pid}/status").read_text())
        assert match
        return int(match[1]) / 1024


class Lag:
    """How late the machine runs: an allowance that is measured, not guessed."""

    def __init__(self) -> None:
        self.late: list[tuple[float, float]] = []

    async def watch(self) -> None:
        while True:
            due = trio.current_time() + 0.02
            await trio.sleep_until(due)
            late = trio.current_time() - due
            if late > 0.01:
                self.late.append((due, late))

    def since(self, begin: float) -> float:
        """The worst since then, in seconds."""
        return max((late for at, late in self.late if at >= begin - 0.5), default=0.0)


class Stage:
    """What a scene sees."""

    lag: Lag

    def __init__(
        self, scene: Scene, callrt: Callrt, models: ModelServer, rest: RestServer, nursery: trio.Nursery
    ) -> None:
        self.scene, self.callrt, self.models, self.rest, self.nursery = scene, callrt, models, rest, nursery
        self.brain = models.brains[scene.name]
        self.phones: list[Phone] = []

    def phone(self, called: str | None = None) -> Phone:
        number = len(self.phones) + 1
        sid = f"CA{hash_of(self.scene.name):010x}{number:022x}"
        phone = Phone(self.callrt.base, sid, called or self.scene.number, self.nursery)
        self.phones.append(phone)
        return phone

    async def shown(self, number: int = 1) -> dict[str, Any]:
        return await self.callrt.shown(self.phones[number - 1].sid)

    async def ended(self, number: int = 1, seconds: float = 15) -> dict[str, Any]:
        """The call's object, once it has ended in the journal."""
        until = trio.current_time() + seconds
        while True:
            shown = await self.shown(number)
            if shown["state"] == "ended":
                return shown
            if trio.current_time() > until:
                raise AssertionError(f"still live: {shown}")
            await trio.sleep(0.3)

    def clean(self) -> None:
        """Nobody was told anything that the real peers would refuse."""
        assert self.brain.violations == []
        for phone in self.phones:
            for stream in phone.streams:
                assert stream.violations == []


TOOLS = Path(__file__).with_name("contract_tools.txt")


def config_text(
    scenes: Scenes,
    port: int,
    admin: int,
    model_port: int,
    rest_port: int,
    resilience: dict[str, Any],
    server: str = "",
) -> str:
    out = [
        "[server]",
        f"port = {port}",
        f"admin_port = {admin}",
        f'public_url = "http://127.0.0.1:{port}"',
        server,
        "[carriers.twilio]",
        f'account_sid = "{ACCOUNT}"',
        f'auth_token = "{TOKEN}"',
        f'api_url = "http://127.0.0.1:{rest_port}"',
        "[resilience]",
        *(f"{key} = {json.dumps(value)}" for key, value in resilience.items()),
    ]
    routes = ["[routes]"]
    for scene in scenes.all:
        out += [
            f'[models."{scene.name}"]',
            'provider = "openai-realtime"',
            f'url = "ws://127.0.0.1:{model_port}/{scene.name}/v1/realtime"',
            'api_key = "${CONTRACT_KEY}"',
            'model = "m-1"',
            f'[agents."{scene.name}"]',
            f'model = "{scene.name}"',
            f'instructions = "You are in {scene.name}."',
            *(f"{key} = {json.dumps(value)}" for key, value in scene.agent.items()),
        ]
        routes.append(f'"{scene.number}" = "{scene.name}"')
    routes.append(f'default = "{scenes.all[0].name}"')
    return "\n".join(out + routes) + "\n"


@attrs.define
class Results:
    failures: dict[str, str]
    callrt: Callrt
    metrics: dict[str, float]
    log: str
    models: ModelServer

    def check(self, name: str) -> None:
        if name in self.failures:
            raise AssertionError(self.failures[name])


def play(
    folder: Path,
    scenes: Scenes,
    resilience: dict[str, Any],
    *,
    at_once: int = 16,
    server: str = "",
    seconds: float = 80,
) -> Results:
    """Run every scene, several at a time, against one process; failures are kept by scene."""
    port, admin = free_port(), free_port()
    if TOOLS.exists():
        (folder / "contract_tools.py").write_text(TOOLS.read_text())
    failures: dict[str, str] = {}
    only = os.environ.get("CONTRACT_ONLY")

    async def main() -> Results:
        models, rest = ModelServer(), RestServer()
        for scene in scenes.all:
            models.brains[scene.name] = Brain()
        async with trio.open_nursery() as nursery:
            await nursery.start(models.run)
            await nursery.start(rest.run)
            for scene in scenes.all:
                for key, value in scene.agent.items():
                    if isinstance(value, str):
                        scene.agent[key] = value.replace("REST_PORT", str(rest.port))
            text = config_text(scenes, port, admin, models.port, rest.port, resilience, server)
            callrt = Callrt(folder, text, port, admin)
            await trio.to_thread.run_sync(callrt.start)
            limit = trio.CapacityLimiter(at_once)
            Stage.lag = Lag()
            nursery.start_soon(Stage.lag.watch)
            try:
                async with trio.open_nursery() as acting:
                    for scene in scenes.all:
                        if only and only not in scene.name:
                            continue
                        acting.start_soon(_act, scene, callrt, models, rest, limit, failures, seconds)
                metrics = await trio.to_thread.run_sync(callrt.metrics)
            finally:
                callrt.stop()
            print("worst lag", Stage.lag.since(0))
            nursery.cancel_scope.cancel()
        return Results(failures, callrt, metrics, callrt.log.read_text(), models)

    return trio.run(main)


async def _act(
    scene: Scene,
    callrt: Callrt,
    models: ModelServer,
    rest: RestServer,
    limit: trio.CapacityLimiter,
    failures: dict[str, str],
    seconds: float,
) -> None:
    async with limit:
        try:
            with trio.fail_after(seconds):
                async with trio.open_nursery() as nursery:
                    stage = Stage(scene, callrt, models, rest, nursery)
                    await scene.act(stage)
                    nursery.cancel_scope.cancel()
        except BaseException as error:
            if isinstance(error, (KeyboardInterrupt, trio.Cancelled)):
                raise
            failures[scene.name] = "".join(traceback.format_exception(error))[-4000:]
