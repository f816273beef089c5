"""Several workers on one port: calls are spread, a worker that dies loses none, and nothing is left behind."""

from __future__ import annotations

import os
import signal
from collections import Counter
from collections.abc import Awaitable, Callable, Iterable
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
        # The first worker takes calls before the last one does; what is said then is said of all.
        await until(lambda: callrt.log.read_text().count("listening on") == len(self.started), "all workers")
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
    """Of all its threads."""
    found = Path(f"/proc/{pid}/task").glob("*/children")
    return [int(part) for each in found for part in each.read_text().split()]


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


async def talks(phone: Phone, tag: int) -> None:
    """The caller speaks, and hears an answer to it."""
    before = len(phone.heard())
    phone.speak(tag, 400)
    await phone.until(lambda: len(phone.heard()) >= before + 28, 20, "an answer")


async def comes_in(phone: Phone, tag: int) -> None:
    await phone.dial_in()
    await talks(phone, tag)


async def comes_back(phone: Phone, tag: int) -> None:
    """Its stream ends, and the carrier is answered with a new one."""
    streams = len(phone.streams)
    await phone.stream(streams + 1, 25)
    await talks(phone, tag)


async def hangs_up(phone: Phone, tag: int) -> None:
    await phone.streams[-1].hang_up()


async def together(step: Callable[[Phone, int], Awaitable[None]], phones: Iterable[Phone], tag: int) -> None:
    async with trio.open_nursery() as nursery:
        for number, phone in enumerate(phones):
            nursery.start_soon(step, phone, tag + number)


async def counts(callrt: Callrt, name: str, value: float, seconds: float = 15) -> None:
    with trio.move_on_after(seconds):
        while (found := (await in_thread(callrt.metrics)).get(name, 0)) != value:
            await trio.sleep(0.1)
        return
    raise AssertionError(f"{name} is {found}, not {value}")


def test_contract_worker_that_dies_or_leaves_loses_no_call(tmp_path: Path) -> None:
    async def act(h: House) -> None:
        callrt = await h.serve()
        files = len(callrt.files())
        phones = [h.phone(callrt) for _ in range(4)]
        await together(comes_in, phones, TAG)
        where = await homes(callrt)
        assert Counter(where.values()) == {1: 2, 2: 2}, "calls are spread evenly"
        before = await workers(callrt)
        assert [each["calls"] for each in before.values()] == [2, 2]

        hit = [phone for phone in phones if where[phone.sid] == 1]
        spared = [phone for phone in phones if where[phone.sid] == 2]
        async with trio.open_nursery() as nursery:
            nursery.start_soon(together, comes_back, hit, TAG + 10)
            nursery.start_soon(together, talks, spared, TAG + 20)
            os.kill(before[1]["pid"], signal.SIGKILL)
        assert [len(phone.streams) for phone in spared] == [1, 1], "they notice nothing"
        while (after := await workers(callrt)).get(1, {}).get("state") != "ready":
            await trio.sleep(0.05)
        assert after[1]["pid"] != before[1]["pid"]
        assert after[2]["pid"] == before[2]["pid"]
        metrics = await in_thread(callrt.metrics)
        assert metrics['callrt_actor_restarts_total{actor="worker",reason="WorkerDied"}'] == 1
        assert metrics["callrt_calls_live"] == 4

        where = await homes(callrt)
        leaving = [phone for phone in phones if where[phone.sid] == 2]
        assert leaving
        async with trio.open_nursery() as nursery:
            nursery.start_soon(together, comes_back, leaving, TAG + 30)
            os.kill(before[2]["pid"], signal.SIGTERM)
        assert set((await homes(callrt)).values()) == {1}
        await until(lambda: not alive(before[2]["pid"]), "the end of the worker")

        await together(hangs_up, phones, 0)
        await counts(callrt, 'callrt_calls_total{outcome="caller_hung_up"}', 4)
        metrics = await in_thread(callrt.metrics)
        assert metrics["callrt_calls_live"] == 0
        for phone in phones:
            assert phone.refused == 0
            assert all(stream.violations == [] for stream in phone.streams)
        shown = await in_thread(callrt.show, hit[0].sid)
        assert shown["outcome"] == "caller_hung_up"
        await until(lambda: len(callrt.files()) == files, "no open socket stays with the parent")
        reasons = [stream["reason"] for stream in (await in_thread(callrt.show, spared[0].sid))["streams"]]
        assert reasons[0] == "moved", "in a pause between words"

    in_house(tmp_path, act)


def test_contract_parent_that_dies_leaves_nothing_behind(tmp_path: Path) -> None:
    """The workers leave the port at once, hand their calls to the service that comes instead, and end; that one
    drains as a whole: new calls are declined, live ones end by themselves."""

    async def act(h: House) -> None:
        callrt = await h.serve()
        phones = [h.phone(callrt) for _ in range(2)]
        await together(comes_in, phones, TAG)
        left = children(callrt.pid)
        assert len(left) == 2
        callrt.kill(signal.SIGKILL)
        await together(talks, phones, TAG + 10)
        assert [len(phone.streams) for phone in phones] == [1, 1], "the calls go on without a parent"
        again = await h.serve(callrt.port)
        async with trio.open_nursery() as nursery:
            for phone in phones:
                nursery.start_soon(phone.stream, 2, 25)
        await until(lambda: not any(alive(pid) for pid in left), "the end of the old workers")

        again.kill(signal.SIGTERM)
        while (await get(again, "/readyz")).status_code != 503:
            await trio.sleep(0.02)
        assert (await get(again, "/readyz", admin=False)).text == "draining\n"
        late = h.phone(again)
        root = await late.document(again.base + "/twilio/voice")
        assert [verb.tag for verb in root] == ["Say", "Hangup"]
        await together(talks, phones, TAG + 20)
        running = children(again.pid)
        await together(hangs_up, phones, 0)
        assert await exits(again, 10) == 0
        assert not any(alive(pid) for pid in running)
        assert [len(phone.streams) for phone in phones] == [2, 2]

    in_house(tmp_path, act)


def test_contract_frozen_worker_is_passed_over(tmp_path: Path) -> None:
    """The carrier is answered by another one, which takes the call over; the frozen one wakes to find it gone."""

    async def act(h: House) -> None:
        callrt = await h.serve()
        phone = h.phone(callrt)
        await comes_in(phone, TAG)
        before = await workers(callrt)
        home = (await homes(callrt))[phone.sid]
        os.kill(before[home]["pid"], signal.SIGSTOP)
        phone.streams[0].reset()
        await comes_back(phone, TAG + 10)
        assert (await workers(callrt))[home]["state"] == "silent"
        assert len(phone.streams) == 2
        os.kill(before[home]["pid"], signal.SIGCONT)
        await talks(phone, TAG + 20)
        while (after := await workers(callrt))[home]["state"] != "ready":
            await trio.sleep(0.05)
        assert [(each["pid"], each["calls"]) for each in after.values()] == [
            (each["pid"], int(each["worker"] != home)) for each in before.values()
        ]
        await talks(phone, TAG + 30)
        await hangs_up(phone, 0)
        await counts(callrt, 'callrt_calls_total{outcome="caller_hung_up"}', 1)
        assert len(phone.streams) == 2

    in_house(tmp_path, act)
