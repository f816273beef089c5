"""The parent with real processes that only speak to it: restarts, giving up, draining, and nothing left behind."""

from __future__ import annotations

import os
import re
import signal
import sys
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import attrs
import pytest
import trio
from service_helpers import KEY, Answer, Client

from callrt.errors import CallrtError
from callrt.policy.settings import Resilience, ServerSettings, Settings, TwilioSettings
from callrt.service.workers import fleet as module
from callrt.service.workers.fleet import Fleet, run_workers
from callrt.supervision import Backoff

STUB = (sys.executable, "-S", str(Path(__file__).with_name("workers_stub.py")))


@pytest.fixture(autouse=True)
def _stubs_tell_nothing(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("callrt.service.workers.switchboard.TELL_SECONDS", 0.05)


def settings(folder: Path, **server: Any) -> Settings:
    return Settings(
        folder=folder,
        server=ServerSettings(port=0, admin_port=0, **server),
        journal_url="sqlite:///callrt.db",
        twilio=TwilioSettings(account_sid="AC1", auth_token=KEY),
        models={},
        agents={},
        routes={},
        resilience=Resilience(),
    )


def make(folder: Path, behaviour: str, workers: int = 2) -> Fleet:
    environ = {**os.environ, "STUB": behaviour}
    return Fleet(settings(folder), workers, environ=environ, command=STUB)


@asynccontextmanager
async def running(fleet: Fleet) -> AsyncIterator[tuple[int, int]]:
    with trio.fail_after(30):
        async with trio.open_nursery() as nursery:
            where = await nursery.start(fleet.run)
            public, admin = (int(port) for port in re.findall(r":(\d+) ", where))
            yield public, admin
            nursery.start_soon(fleet.drain)
    assert fleet._processes == {}


async def get(port: int, path: str) -> Answer:
    async with await trio.open_tcp_stream("127.0.0.1", port) as stream:
        return await Client(stream).request("GET", path)


def pids(fleet: Fleet) -> list[int]:
    return [each["pid"] for each in fleet._shown()]


async def test_all_workers_are_ready_before_the_fleet_is_and_gone_after_it(tmp_path: Path) -> None:
    fleet = make(tmp_path, "good", 3)
    async with running(fleet) as (_, admin):
        assert [each["state"] for each in fleet._shown()] == ["ready"] * 3
        assert (await get(admin, "/healthz")).status == 200
        assert re.findall(r'"worker":(\d)', (await get(admin, "/workers")).text) == ["1", "2", "3"]
        known = pids(fleet)
    assert not fleet.failed
    for pid in known:
        with pytest.raises(ProcessLookupError):
            os.kill(pid, 0)


async def test_worker_that_dies_is_started_again_and_counted(tmp_path: Path) -> None:
    fleet = make(tmp_path, "good")
    async with running(fleet) as (_, admin):
        [first, second] = pids(fleet)
        os.kill(second, signal.SIGKILL)
        await fleet._until(lambda: second not in pids(fleet))
        await fleet._until(lambda: len(fleet.switchboard.ready) == 2)
        assert pids(fleet)[0] == first
        text = (await get(admin, "/metrics")).text
        assert 'callrt_actor_restarts_total{actor="worker",reason="WorkerDied"} 1.0' in text


async def test_worker_that_cannot_start_ends_the_service_in_one_sentence(tmp_path: Path) -> None:
    fleet = make(tmp_path, "unborn")
    with trio.fail_after(30), pytest.raises(CallrtError, match=r"did not start \(status 3\)"):
        await fleet.run()
    assert fleet._processes == {}


async def test_workers_that_keep_dying_end_the_service_and_the_others_are_seen_out(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(module, "RESTARTS_EACH", 1)
    monkeypatch.setattr(module, "BACKOFF", Backoff(min=0.01, cap=0.01))
    fleet = make(tmp_path, "good")

    async def kill_one_after_the_other() -> None:
        await nursery.start(fleet.run)
        for _ in range(3):
            victim = pids(fleet)[0]
            os.kill(victim, signal.SIGKILL)
            await fleet._until(lambda victim=victim: victim not in pids(fleet))
            await fleet._until(lambda: len(fleet.switchboard.ready) == 2)

    with trio.fail_after(30):
        try:
            async with trio.open_nursery() as nursery:
                nursery.start_soon(kill_one_after_the_other)
        except* CallrtError as group:
            messages = [str(error) for error in group.exceptions]
    assert messages == ["the workers cannot be kept alive: worker 1 ended with status -9"]
    assert fleet._processes == {}


async def test_drain_ends_all_in_order_and_is_unready_meanwhile(tmp_path: Path) -> None:
    fleet = make(tmp_path, "good")
    async with running(fleet) as (_, admin):
        answer = await get(admin, "/readyz")
        assert (answer.status, answer.text) == (503, "no worker answers\n"), "stubs do not"
        assert fleet.refusing is None
    assert fleet.refusing == "draining"
    assert not fleet.failed


async def test_drain_before_the_first_call_is_possible(tmp_path: Path) -> None:
    fleet = make(tmp_path, "good")
    where: list[str] = []

    async def run(task_status: trio.TaskStatus[None]) -> None:
        task_status.started()
        async with trio.open_nursery() as nursery:
            where.append(await nursery.start(fleet.run))

    with trio.fail_after(30):
        async with trio.open_nursery() as nursery:
            await nursery.start(run)
            await fleet._until(lambda: len(fleet._processes) == 2)
            await fleet.drain()
    assert where == [""]
    assert not fleet.failed


async def test_worker_that_obeys_nothing_does_not_outlive_a_cancelled_fleet(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(module, "longest_drain", lambda settings: 0.2)
    monkeypatch.setattr(module, "MARGIN_SECONDS", 0.1)
    fleet = make(tmp_path, "deaf")
    with trio.fail_after(30):
        async with trio.open_nursery() as nursery:
            await nursery.start(fleet.run)
            known = pids(fleet)
            nursery.cancel_scope.cancel()
    for pid in known:
        with pytest.raises(ProcessLookupError):
            os.kill(pid, 0)


async def test_silent_worker_is_killed_and_replaced(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("callrt.service.workers.switchboard.HOPELESS_TICKS", 3)
    monkeypatch.setattr(module, "TICK_SECONDS", 0.05)
    fleet = make(tmp_path, "good")
    with trio.fail_after(30):
        async with trio.open_nursery() as nursery:
            await nursery.start(fleet.run)
            known = set(pids(fleet))
            await fleet._until(lambda: bool(set(pids(fleet)) - known))
            killed = known - set(pids(fleet))
            nursery.cancel_scope.cancel()
    assert killed
    for pid in killed:
        with pytest.raises(ProcessLookupError):
            os.kill(pid, 0)


async def test_taken_port_is_one_sentence_and_starts_nobody(tmp_path: Path) -> None:
    [taken] = await trio.open_tcp_listeners(0, host="127.0.0.1")
    number = taken.socket.getsockname()[1]
    async with taken:
        for which in ("port", "admin_port"):
            config = settings(tmp_path)
            config = attrs.evolve(config, server=attrs.evolve(config.server, **{which: number}))
            with pytest.raises(CallrtError, match="taken by another process"):
                await run_workers(
                    config,
                    2,
                    announce=lambda line: pytest.fail(line),
                    end_process=lambda status: None,
                    command=("false",),
                )
