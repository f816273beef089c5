"""The service over real sockets: two ports, health, draining, and parts that fail alone."""

from __future__ import annotations

import re
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import attrs
import pytest
import trio
import trio.testing
from service_helpers import CALL, KEY, VOICE, Answer, Client, FakeDesk

from callrt.errors import CallrtError
from callrt.journal import MemoryStore, StoreFailed
from callrt.journal.store import Outcome, Write
from callrt.policy.settings import Resilience, ServerSettings, Settings, TwilioSettings
from callrt.service.running import run_service
from callrt.service.service import Parts, Service

BASE = "http://calls.test"


def settings(folder: Path, **server: Any) -> Settings:
    return Settings(
        folder=folder,
        server=ServerSettings(port=0, admin_port=0, public_url=BASE, **server),
        journal_url="sqlite:///callrt.db",
        twilio=TwilioSettings(account_sid="AC1", auth_token=KEY),
        models={},
        agents={},
        routes={},
        resilience=Resilience(),
    )


class Broken(MemoryStore):
    """A disk that takes nothing."""

    def commit(self, writes: Sequence[Write]) -> list[Outcome]:
        raise StoreFailed("disk full")


@attrs.define
class Running:
    service: Service
    desk: FakeDesk
    parts: Parts
    public: int
    admin: int

    async def get(self, port: int, path: str) -> Answer:
        async with await trio.open_tcp_stream("127.0.0.1", port) as stream:
            return await Client(stream).request("GET", path)


@asynccontextmanager
async def running(folder: Path, store: MemoryStore | None = None) -> AsyncIterator[Running]:
    desk = FakeDesk()
    made: list[Parts] = []

    def make(parts: Parts) -> FakeDesk:
        made.append(parts)
        return desk

    service = Service(settings(folder), make, store=store or MemoryStore(), seed=1)
    async with trio.open_nursery() as nursery:
        with trio.fail_after(20):
            where = await nursery.start(service.run)
            public, admin = (int(port) for port in re.findall(r":(\d+) ", where))
            yield Running(service, desk, made[0], public, admin)
            service.stop()


async def test_health_is_on_both_ports_and_the_rest_on_its_own(tmp_path: Path) -> None:
    async with running(tmp_path) as up:
        for port in (up.public, up.admin):
            assert (await up.get(port, "/healthz")).status == 200
            assert (await up.get(port, "/readyz")).text == "ready\n"
        metrics = await up.get(up.admin, "/metrics")
        assert "callrt_calls_live 0.0" in metrics.text
        assert metrics.headers["content-type"].startswith("text/plain; version=0.0.4")
        assert CALL in (await up.get(up.admin, "/calls")).text
        assert [(await up.get(up.public, path)).status for path in ("/metrics", "/calls", "/")] == [404] * 3
        assert (await up.get(up.admin, "/twilio/voice")).status == 404


async def test_signed_webhook_reaches_the_desk_and_is_counted(tmp_path: Path) -> None:
    async with running(tmp_path) as up:
        async with await trio.open_tcp_stream("127.0.0.1", up.public) as stream:
            client = Client(stream)
            answer = await client.post("/twilio/voice", VOICE, signed_for=f"{BASE}/twilio/voice")
            assert b"ws://calls.test/twilio/media/" in answer.body
            assert (await client.post("/twilio/voice", VOICE)).status == 403
        text = (await up.get(up.admin, "/metrics")).text
        assert 'callrt_http_requests_total{route="/twilio/voice",status="200"} 1.0' in text
        assert 'callrt_bad_input_total{reason="signature",source="webhook"} 1.0' in text


async def test_unready_while_the_journal_takes_nothing(tmp_path: Path) -> None:
    async with running(tmp_path, Broken()) as up:
        answer = await up.get(up.public, "/readyz")
        assert (answer.status, answer.text) == (503, "journal unreachable: disk full\n")
        assert (await up.get(up.public, "/healthz")).status == 200


async def test_draining_is_unready_declines_and_ends_with_the_last_call(tmp_path: Path) -> None:
    async with running(tmp_path) as up, trio.open_nursery() as nursery:
        nursery.start_soon(up.service.drain)
        await trio.testing.wait_all_tasks_blocked()
        answer = await up.get(up.public, "/readyz")
        assert (answer.status, answer.text) == (503, "draining\n")
        assert (await up.get(up.public, "/healthz")).status == 200
        assert up.desk.asked == [("refuse", "draining"), ("drain", 30)]
        up.desk.drained.set()
    with pytest.raises(OSError, match="127"):
        await trio.open_tcp_stream("127.0.0.1", up.public)


async def test_desk_that_crashes_is_restarted_and_the_ports_stay(tmp_path: Path) -> None:
    async with running(tmp_path) as up:
        async with await trio.open_tcp_stream("127.0.0.1", up.public) as stream:
            client = Client(stream)
            assert (await client.request("GET", "/healthz")).status == 200
            up.desk.crash.set()
            await trio.testing.wait_all_tasks_blocked()
            assert up.desk.runs == 2
            assert (await client.request("GET", "/healthz")).status == 200
        text = (await up.get(up.admin, "/metrics")).text
        assert 'callrt_actor_restarts_total{actor="desk",reason="RuntimeError"} 1.0' in text


async def test_desk_that_cannot_be_kept_alive_ends_the_service_in_one_sentence(tmp_path: Path) -> None:
    class Hopeless(FakeDesk):
        async def run(self, ctx: Any = None, *, task_status: trio.TaskStatus[Any]) -> None:
            task_status.started(self)
            raise RuntimeError("private detail")

    service = Service(settings(tmp_path), lambda parts: Hopeless(), store=MemoryStore())
    with trio.fail_after(20), pytest.raises(CallrtError, match="'desk'") as caught:
        await service.run()
    assert "private" not in str(caught.value)


@pytest.mark.parametrize("which", ["port", "admin_port"])
async def test_taken_port_is_one_sentence_and_leaves_nothing_open(which: str, tmp_path: Path) -> None:
    [taken] = await trio.open_tcp_listeners(0, host="127.0.0.1")
    number = taken.socket.getsockname()[1]
    async with taken:
        config = settings(tmp_path)
        config = attrs.evolve(config, server=attrs.evolve(config.server, **{which: number}))
        announced: list[str] = []
        with pytest.raises(CallrtError, match="taken by another process") as caught:
            await run_service(
                config,
                lambda parts: FakeDesk(),
                announce=announced.append,
                end_process=lambda status: None,
                store=MemoryStore(),
            )
    assert str(number) in str(caught.value)
    assert caught.value.exit_status == 1
    assert announced == []


async def test_address_of_another_machine_is_one_sentence(tmp_path: Path) -> None:
    config = settings(tmp_path, host="192.0.2.1")
    service = Service(config, lambda parts: FakeDesk(), store=MemoryStore())
    with pytest.raises(CallrtError, match="does not have that address"):
        await service.run()


async def test_after_the_end_no_task_is_left(tmp_path: Path) -> None:
    before = trio.lowlevel.current_statistics().tasks_living
    async with running(tmp_path) as up:
        await up.get(up.public, "/readyz")
    assert trio.lowlevel.current_statistics().tasks_living == before


async def test_desk_gets_repeatable_chance_and_hears_of_lost_leases(tmp_path: Path) -> None:
    async with running(tmp_path) as up:
        heard: list[tuple[str, int]] = []
        up.parts.lease_lost.append(lambda call_sid, epoch: heard.append((call_sid, epoch)))
        assert up.parts.rng("calls").random() == up.parts.rng("calls").random()
        assert up.parts.rng("calls").random() != up.parts.rng("rest").random()
