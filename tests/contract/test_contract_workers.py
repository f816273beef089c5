"""Several workers on one port: calls are spread, a worker that dies loses none, and nothing is left behind."""

from __future__ import annotations

import os
import signal
from collections import Counter
from collections.abc import Awaitable, Callable
from functools import partial
from pathlib import Path
from typing import Any

import httpx
import trio
from contract_carrier import Phone, RestServer
from contract_model import Brain, ModelServer, Session
from contract_serve import Callrt, Lag, Scenes, Stage, config_text, free_port

TAG = 52_000
RESILIENCE = {"carrier_return_seconds": 12, "model_stall_seconds": 3, "max_silence_seconds": 40}


class House:
    """One configuration; services with workers on it."""

    def __init__(self, folder: Path, models: ModelServer, rest: RestServer, nursery: trio.Nursery) -> None:
        self.folder, self.models, self.rest, self.nursery = folder, models, rest, nursery
        self.scenes = Scenes()
        self.scenes()(play_nothing)
        self.brain = self.models.brains["play_nothing"] = Brain(count)
        self.started: list[Callrt] = []
        self.phones: list[Phone] = []

    async def serve(self, port: int | None = None) -> Callrt:
        port, admin = port or free_port(), free_port()
        text = config_text(
            self.scenes, port, admin, self.models.port, self.rest.port, RESILIENCE, "drain_seconds = 20"
        )
        callrt = Callrt(self.folder, text, port, admin, "--workers", "2")
        self.started.append(callrt)
        await in_thread(callrt.start)
        await until(lambda: os.path.exists(callrt.log), "the log")
        return callrt

    def phone(self, callrt: Callrt) -> Phone:
        number = len(self.phones) + 1
        phone = Phone(callrt.base, f"CA{number:032x}", self.scenes.all[0].number, self.nursery)
        self.phones.append(phone)
        return phone


async def play_nothing(s: Stage) -> None:
    """The scene's name stands for the agent."""


async def count(session: Session, turn: int) -> None:
    await session.say("One, two, three.", 600)


def in_house(folder: Path, act: Callable[[House], Awaitable[None]]) -> None:
    async def main() -> None:
        async with trio.open_nursery() as nursery:
            models, rest = ModelServer(), RestServer()
            await nursery.start(models.run)
            await nursery.start(rest.run)
            Stage.lag = Lag()
            house = House(folder, models, rest, nursery)
            try:
                with trio.fail_after(60):
                    await act(house)
            except BaseException:
                print(house.started[0].log.read_text() if house.started else "")
                raise
            finally:
                for callrt in house.started:
                    for worker in children(callrt.pid):
                        os.kill(worker, signal.SIGKILL)
                    callrt.stop()
            nursery.cancel_scope.cancel()

    trio.run(main)


async def in_thread(step: Callable[..., Any], *arguments: Any) -> Any:
    return await trio.to_thread.run_sync(partial(step, *arguments))


async def until(true: Callable[[], bool], what: str, seconds: float = 15) -> None:
    with trio.move_on_after(seconds):
        while not true():
            await trio.sleep(0.02)
        return
    raise AssertionError(f"not within {seconds} s: {what}")


async def get(callrt: Callrt, path: str, *, admin: bool = True) -> httpx.Response:
    async with httpx.AsyncClient(trust_env=False) as client:
        return await client.get(f"http://127.0.0.1:{callrt.admin if admin else callrt.port}{path}")


async def workers(callrt: Callrt) -> dict[int, dict[str, Any]]:
    return {each["worker"]: each for each in (await get(callrt, "/workers")).json()["workers"]}


async def homes(callrt: Callrt) -> dict[str, int]:
    return {call["call_sid"]: call["worker"] for call in (await get(callrt, "/calls")).json()["calls"]}


def children(pid: int) -> list[int]:
    try:
        return [int(part) for part in Path(f"/proc/{pid}/task/{pid}/children").read_text().split()]
    except FileNotFoundError:
        return []


def alive(pid: int) -> bool:
    try:
        return ") Z " not in Path(f"/proc/{pid}/stat").read_text()
    except FileNotFoundError:
        return False


async def exits(callrt: Callrt, seconds: float) -> int:
    assert callrt.process is not None
    process = callrt.process
    await until(lambda: process.poll() is not None, "exit", seconds)
    assert process.returncode is not None
    return process.returncode


async def hears_more(phone: Phone, tag: int) -> None:
    """It speaks, and hears an answer to it."""
    before = len(phone.heard())
    phone.speak(tag, 400)
    await phone.until(lambda: len(phone.heard()) >= before + 28, 12, "an answer")


def test_contract_killed_worker_loses_no_call_and_comes_back(tmp_path: Path) -> None:
    async def act(h: House) -> None:
        callrt = await h.serve()
        phones = [h.phone(callrt) for _ in range(4)]
        for number, phone in enumerate(phones):
            await phone.dial_in()
            await hears_more(phone, TAG + number)
        where = await homes(callrt)
        assert Counter(where.values()) == {1: 2, 2: 2}, "calls are spread evenly"
        before = await workers(callrt)
        assert [each["calls"] for each in before.values()] == [2, 2]

        os.kill(before[1]["pid"], signal.SIGKILL)
        hit = [phone for phone in phones if where[phone.sid] == 1]
        for number, phone in enumerate(hit):
            await phone.stream(2)
            await hears_more(phone, TAG + 10 + number)
        for number, phone in enumerate(set(phones) - set(hit)):
            await hears_more(phone, TAG + 20 + number)
            assert len(phone.streams) == 1, "the other worker's calls notice nothing"

        while (after := await workers(callrt)).get(1, {}).get("state") != "ready":
            await trio.sleep(0.05)
        assert after[1]["pid"] != before[1]["pid"]
        assert after[2]["pid"] == before[2]["pid"]
        metrics = await in_thread(callrt.metrics)
        assert metrics['callrt_actor_restarts_total{actor="worker",reason="WorkerDied"}'] == 1
        assert metrics["callrt_calls_live"] == 4
        new = h.phone(callrt)
        await new.dial_in()
        assert len(await homes(callrt)) == 5

        for phone in (*phones, new):
            await phone.streams[-1].hang_up()
        for phone in (*phones, new):
            await until(lambda phone=phone: over(callrt, phone), f"the end of {phone.sid}")
            shown = callrt.show(phone.sid)
            assert shown["outcome"] == "caller_hung_up"
            assert len(shown["streams"]) == (2 if phone in hit else 1)
            assert phone.refused == 0
            assert all(stream.violations == [] for stream in phone.streams)
        metrics = await in_thread(callrt.metrics)
        assert metrics['callrt_calls_total{outcome="caller_hung_up"}'] == 5, "all workers together"
        assert metrics["callrt_calls_live"] == 0
        callrt.kill(signal.SIGTERM)
        assert await exits(callrt, 10) == 0

    in_house(tmp_path, act)


def over(callrt: Callrt, phone: Phone) -> bool:
    return bool(callrt.show(phone.sid)["state"] == "ended")
