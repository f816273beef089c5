"""The service under chaos: one ``callrt serve`` at a time, always on the same ports and disk, and what strikes it."""

from __future__ import annotations

import json
import os
import signal
import sqlite3
import time
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import attrs
import trio

from callrt.errors import CallrtError
from callrt.testing.chaos.disk import SmallDisk
from callrt.testing.chaos.scenario import Blow, Scenario
from callrt.testing.demo.server import ACCOUNT_SID, API_KEY, AUTH_TOKEN, MODEL, STOP_SECONDS, Server
from callrt.testing.sim import cast
from callrt.testing.sim.case import DiskTrouble, Kill, Pause, SimFault
from callrt.testing.sim.history import Life

HUMAN = "+15550100009"
INSIDE = Path(__file__).parent / "inside"
CENSUS_SECONDS = 10.0

HEAD = """\
[server]
port = {port}
admin_port = {admin_port}
public_url = "http://127.0.0.1:{port}"
drain_seconds = {drain:g}
[carriers.twilio]
account_sid = "{account_sid}"
auth_token = "{auth_token}"
api_url = "{api_url}"
[resilience]
model_stall_seconds = {stall}
[routes]
default = "agent0"
{routes}
"""
AGENT = """\
[models.model{n}]
url = "ws://127.0.0.1:{model_port}/v1/realtime"
api_key = "{api_key}"
model = "{model}"
[agents.agent{n}]
model = "model{n}"
instructions = "You answer the phone for a clinic."
greeting = "{greeting}"
{human}
"""

Told = Callable[[float, SimFault | None], None]
"""Of (``perf_counter``, what it is to the checkers)."""


@attrs.define(eq=False)
class Service:
    folder: Path
    scenario: Scenario
    server: Server = attrs.field(init=False)
    disk: SmallDisk | None = None
    lives: list[Life] = attrs.field(factory=list)
    blows: list[str] = attrs.field(factory=list)
    """What was done, in words."""
    bad_ends: list[str] = attrs.field(factory=list)

    def __attrs_post_init__(self) -> None:
        self.server = Server(self.folder)
        if any(blow.do == "disk_full" for blow in self.scenario.blows):
            self.disk = SmallDisk(self.folder)
            self.disk.open()
        if any(blow.do == "clock" for blow in self.scenario.blows):
            self._reach_inside("CALLRT_CHAOS_CLOCK", self._clock)

    @property
    def _clock(self) -> Path:
        return self.folder / "clock"

    @property
    def _census(self) -> Path:
        return self.folder / "census"

    def _reach_inside(self, name: str, path: Path) -> None:
        paths = [str(INSIDE), *filter(None, [os.environ.get("PYTHONPATH")])]
        self.server.environment = {
            **self.server.environment,
            "PYTHONPATH": os.pathsep.join(paths),
            name: str(path),
        }

    def expect_census(self) -> None:
        """Before it starts: :meth:`census` will be asked for."""
        self._reach_inside("CALLRT_CHAOS_CENSUS", self._census)

    async def census(self) -> dict[str, Any]:
        """What lives in the process: ``tasks``, ``objects``, and ``kinds`` of objects with their numbers.

        Raises CallrtError when it does not say.
        """
        assert self.server.process is not None
        self._census.unlink(missing_ok=True)
        self.server.process.send_signal(signal.SIGUSR1)
        with trio.move_on_after(CENSUS_SECONDS):
            while not self._census.exists():
                await trio.sleep(0.02)
            found: dict[str, Any] = json.loads(self._census.read_text())
            return found
        raise CallrtError("the service does not say what lives in it")

    def choose_ports(self) -> None:
        """Raises CallrtError."""
        self.server.prepare("-", "http://127.0.0.1:1", "ws://127.0.0.1:1")
        self._clock.write_text("0")

    def configure(self, api_url: str, model_ports: Mapping[int, int], route: Callable[[int], str]) -> None:
        """``model_ports`` by call; ``route``: the number that a call dials."""
        text = HEAD.format(
            port=self.server.port,
            admin_port=self.server.admin_port,
            account_sid=ACCOUNT_SID,
            auth_token=AUTH_TOKEN,
            api_url=api_url,
            stall=self.scenario.stall_seconds,
            drain=self.scenario.drain_seconds,
            routes="\n".join(f'"{route(n)}" = "agent{n}"' for n in model_ports),
        )
        human = f'transfer_to = "{HUMAN}"' if self.scenario.human else ""
        for n, port in model_ports.items():
            text += AGENT.format(
                n=n, model_port=port, api_key=API_KEY, model=MODEL, greeting=cast.GREETING, human=human
            )
        self.server.config.write_text(text, encoding="utf-8")

    async def start(self) -> None:
        """Raises CallrtError. If cancelled: it is killed."""
        await self.server.start()
        self.lives.append(Life(len(self.lives) + 1, time.perf_counter()))

    async def end(self) -> int:
        """In order; the exit status."""
        return await self.server.stop()

    async def close(self) -> None:
        """Whatever is left is killed."""
        with trio.CancelScope(shield=True):
            await self.server.kill()
            if self.disk is not None:
                self.disk.close()

    # -- blows ----------------------------------------------------------------------------------------------

    async def strike(self, blow: Blow, told: Told) -> None:
        await trio.sleep(blow.at)
        process = self.server.process
        assert process is not None
        told(time.perf_counter(), as_fault(blow))
        match blow.do:
            case "kill":
                self.blows.append("kill -9")
                await self.server.kill()
                await trio.sleep(blow.seconds)
                await self.start()
            case "stop":
                self.blows.append("SIGTERM")
                status = await self.server.stop(self.scenario.drain_seconds + STOP_SECONDS)
                if status:
                    self.bad_ends.append(f"SIGTERM was answered with exit status {status}")
                await self.start()
            case "freeze":
                self.blows.append(f"SIGSTOP for {blow.seconds:g} s")
                process.send_signal(signal.SIGSTOP)
                await trio.sleep(blow.seconds)
                process.send_signal(signal.SIGCONT)
            case "journal_locked":
                self.blows.append(f"journal locked for {blow.seconds:g} s")
                await self._lock_journal(blow.seconds)
            case "disk_full":
                assert self.disk is not None
                self.blows.append(f"disk full ({self.disk.kind}) for {blow.seconds:g} s")
                self.disk.fill(process.pid)
                try:
                    await trio.sleep(blow.seconds)
                finally:
                    self.disk.clear(process.pid)
            case "clock":
                self.blows.append(f"wall clock {blow.by:+g} s")
                # In one step: a reading must never find half a number.
                spare = self._clock.with_name("clock.new")
                spare.write_text(str(blow.by))
                spare.rename(self._clock)

    async def _lock_journal(self, seconds: float) -> None:
        lock = sqlite3.connect(self.folder / "callrt.db", isolation_level=None)
        try:
            lock.execute("BEGIN IMMEDIATE")
            await trio.sleep(seconds)
            lock.execute("ROLLBACK")
        finally:
            lock.close()


def as_fault(blow: Blow) -> SimFault | None:
    """What a blow is to the checkers."""
    match blow.do:
        case "freeze":
            return Pause(blow.at, blow.seconds)
        case "journal_locked":
            return DiskTrouble(blow.at, blow.seconds, "busy")
        case "disk_full":
            return DiskTrouble(blow.at, blow.seconds, "full")
        case "clock":
            return None
        case _:
            return Kill(blow.at, blow.seconds)
