"""A connection whose socket has found its call takes no task, until there is something to do for it."""

from __future__ import annotations

from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from typing import Any

import pytest
import trio
import trio.testing

from callrt.policy.facts import ConnectionRefused, Fact
from callrt.service.http import HttpRequest, HttpResponse
from callrt.service.listener import Port, PortLimits, Visit
from callrt.supervision.waiting import Flag

HEAD = (
    b"GET /twilio/media/x HTTP/1.1\r\nhost: h\r\nupgrade: websocket\r\nconnection: Upgrade\r\n"
    b"sec-websocket-version: 13\r\nsec-websocket-key: AAAAAAAAAAAAAAAAAAAAAA==\r\n\r\n"
)


class FakeVisit:
    """Over when its flag is set; ``closing`` is how long its end takes."""

    def __init__(self, closing: float = 0.0, fails: Exception | None = None) -> None:
        self.over = Flag()
        self.closing = closing
        self.fails = fails
        self.told: list[str] = []

    async def wait(self) -> None:
        try:
            await self.over.wait()
            await trio.sleep(self.closing)
            if self.fails is not None:
                raise self.fails
            self.told.append("closed")
        except trio.Cancelled:
            self.told.append("cancelled")
            raise

    def rest(self, wake: Callable[[], None]) -> bool:
        return self.over.call(wake)

    def drop(self) -> None:
        self.told.append("dropped")
        self.over.set()


class Guests:
    """A port on real sockets, whose media connections become these visits, in turn."""

    def __init__(self, *visits: FakeVisit, limits: PortLimits | None = None) -> None:
        self.waiting = list(visits)
        self.facts: list[Fact] = []
        self.port = Port("public", self._http, observe=self.facts.append, media=self._media, limits=limits)
        self.address: Any = None

    async def _http(self, request: HttpRequest) -> HttpResponse:
        return HttpResponse(200)

    async def _media(self, stream: trio.abc.Stream, head: bytes) -> Visit | None:
        return self.waiting.pop(0)

    async def arrive(self) -> trio.SocketStream:
        before = len(self.waiting)
        stream = await trio.open_tcp_stream(*self.address)
        await stream.send_all(HEAD)
        with trio.fail_after(5):
            while len(self.waiting) == before:
                await trio.testing.wait_all_tasks_blocked()
        await trio.testing.wait_all_tasks_blocked()
        return stream


@asynccontextmanager
async def receiving(*visits: FakeVisit, limits: PortLimits | None = None) -> AsyncIterator[Guests]:
    guests = Guests(*visits, limits=limits)
    async with trio.open_nursery() as nursery:
        [listener] = await trio.open_tcp_listeners(0, host="127.0.0.1")
        guests.address = listener.socket.getsockname()
        await nursery.start(guests.port.run, [listener])
        yield guests
        nursery.cancel_scope.cancel()


def tasks() -> int:
    return trio.lowlevel.current_statistics().tasks_living


async def test_visit_takes_no_task_until_it_is_over() -> None:
    visit = FakeVisit()
    async with receiving(visit) as guests:
        await trio.testing.wait_all_tasks_blocked()
        before = tasks()
        await guests.arrive()
        assert (tasks(), guests.port.media_connections) == (before, 1)
        visit.over.set()
        await trio.testing.wait_all_tasks_blocked()
        assert visit.told == ["closed"]
        assert (tasks(), guests.port.media_connections) == (before, 0)


async def test_visit_that_is_over_already_is_seen_out_at_once() -> None:
    visit = FakeVisit()
    visit.over.set()
    async with receiving(visit) as guests:
        await guests.arrive()
        assert visit.told == ["closed"]
        assert guests.port.media_connections == 0


async def test_visit_counts_while_its_socket_closes(autojump_clock: trio.testing.MockClock) -> None:
    visit = FakeVisit(closing=3.0)
    async with receiving(visit, limits=PortLimits(media_connections_max=1)) as guests:
        enter = guests.port.handle_media(guests._media)
        await enter(trio.testing.memory_stream_pair()[0], HEAD)
        visit.over.set()
        await trio.sleep(2.9)
        ours, theirs = trio.testing.memory_stream_pair()
        await enter(theirs, HEAD)
        assert (await ours.receive_some()).startswith(b"HTTP/1.1 503")
        assert guests.facts == [ConnectionRefused("public")]
        await trio.sleep(0.2)
        assert (visit.told, guests.port.media_connections) == (["closed"], 0)


class Broken(FakeVisit):
    def drop(self) -> None:
        raise LookupError("a crash has left it inconsistent")


async def test_visit_that_cannot_be_dropped_does_not_keep_the_others(
    caplog: pytest.LogCaptureFixture,
) -> None:
    broken, sound = Broken(), FakeVisit()
    async with receiving(broken, sound) as guests:
        await guests.arrive()
        await guests.arrive()
    assert sound.told == ["dropped"]
    assert guests.port.media_connections == 0
    assert [record.message for record in caplog.records] == ["connection failed"]


async def test_visits_are_dropped_with_their_port() -> None:
    resting, closing = FakeVisit(), FakeVisit(closing=60.0)
    async with receiving(resting, closing) as guests:
        await guests.arrive()
        await guests.arrive()
        closing.over.set()
        await trio.testing.wait_all_tasks_blocked()
        assert guests.port.media_connections == 2
    assert (resting.told, closing.told) == (["dropped"], ["cancelled"])
    assert guests.port.media_connections == 0


async def test_visit_that_fails_at_its_end_harms_nobody(caplog: pytest.LogCaptureFixture) -> None:
    bad, good = FakeVisit(fails=RuntimeError("no")), FakeVisit()
    async with receiving(bad, good) as guests:
        await guests.arrive()
        await guests.arrive()
        bad.over.set()
        await trio.testing.wait_all_tasks_blocked()
        assert "connection failed" in caplog.text
        assert (good.told, guests.port.media_connections) == ([], 1)


async def test_without_its_port_a_visit_is_waited_for_where_it_came_in(
    autojump_clock: trio.testing.MockClock,
) -> None:
    visit = FakeVisit()
    guests = Guests(visit)
    stream, _ = trio.testing.memory_stream_pair()
    async with trio.open_nursery() as nursery:
        nursery.start_soon(guests.port.handle_media(guests._media), stream, HEAD)
        await trio.sleep(1)
        assert guests.port.media_connections == 1
        visit.over.set()
    assert (visit.told, guests.port.media_connections) == (["closed"], 0)
