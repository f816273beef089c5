"""The HTTP server: bounds, refusals in one sentence, and nothing that one peer can do to another."""

from __future__ import annotations

from collections.abc import AsyncIterator, Awaitable, Callable, Iterator
from contextlib import asynccontextmanager, contextmanager

import pytest
import trio
import trio.testing
from hypothesis import given
from hypothesis import strategies as st
from service_helpers import Client, raw_answer

from callrt.service.http import HttpLimits, HttpRequest, HttpResponse, serve_http

Handler = Callable[[HttpRequest], Awaitable[HttpResponse]]


async def echo(request: HttpRequest) -> HttpResponse:
    return HttpResponse(200, f"{request.method} {request.path} {request.query} ".encode() + request.body)


@asynccontextmanager
async def serving(handler: Handler = echo, *, initial: bytes = b"") -> AsyncIterator[trio.StapledStream]:
    """The client's end of a served connection. The server must end by itself within its time-outs."""
    ours, theirs = trio.testing.memory_stream_pair()
    async with trio.open_nursery() as nursery:
        nursery.start_soon(lambda: serve_http(theirs, handler, initial=initial))
        yield ours
        await ours.aclose()


async def test_requests_are_served_one_after_the_other_on_one_connection(
    autojump_clock: trio.testing.MockClock,
) -> None:
    async with serving() as stream:
        client = Client(stream)
        for number in range(5):
            answer = await client.request("POST", f"/a%20b?n={number}", body=b"x" * number)
            assert (answer.status, answer.text) == (200, f"POST /a b n={number} " + "x" * number)


async def test_request_that_comes_as_its_place_is_taken_is_not_begun(
    autojump_clock: trio.testing.MockClock,
) -> None:
    begun: list[str] = []
    waits: list[bool] = []

    @contextmanager
    def waiting() -> Iterator[None]:
        waits.append(True)
        yield
        waits.append(False)

    async def handler(request: HttpRequest) -> HttpResponse:
        assert waits[-1:] != [True]
        begun.append(request.path)
        return HttpResponse(200)

    ours, theirs = trio.testing.memory_stream_pair()
    async with trio.open_nursery() as nursery:
        nursery.start_soon(lambda: serve_http(theirs, handler, waiting=waiting))
        client = Client(ours)
        assert (await client.request("GET", "/first")).status == 200
        await trio.testing.wait_all_tasks_blocked()
        assert waits == [True, False, True]
        await client.send(b"GET /second HTTP/1.1\r\nhost: h\r\n\r\n")
        nursery.cancel_scope.cancel()
    assert begun == ["/first"]
    assert waits == [True, False] * 2


async def test_head_has_the_length_and_no_body(autojump_clock: trio.testing.MockClock) -> None:
    async with serving() as stream:
        await stream.send_all(b"HEAD / HTTP/1.1\r\nhost: h\r\nconnection: close\r\n\r\n")
        data = await raw_answer(stream)
    head, _, body = data.partition(b"\r\n\r\n")
    assert b"content-length: 8" in head.lower()
    assert body == b""


async def test_bytes_read_before_are_served_first(autojump_clock: trio.testing.MockClock) -> None:
    async with serving(initial=b"GET /first HTTP/1.1\r\nho") as stream:
        await stream.send_all(b"st: h\r\n\r\n")
        assert (await Client(stream).answer()).text == "GET /first  "


async def test_body_over_its_bound_gets_413_and_the_answer_can_be_read(
    autojump_clock: trio.testing.MockClock,
) -> None:
    async with serving() as stream:
        answer = await Client(stream).request("POST", "/", body=b"x" * 65537)
        assert answer.status == 413
        assert answer.text.count("\n") == 1
    async with serving() as stream:
        assert (await Client(stream).request("POST", "/", body=b"x" * 65536)).status == 200


async def test_declared_length_over_the_bound_is_refused_without_reading(
    autojump_clock: trio.testing.MockClock,
) -> None:
    async with serving() as stream:
        await stream.send_all(b"POST / HTTP/1.1\r\nhost: h\r\ncontent-length: 99999999999\r\n\r\n")
        assert b" 413 " in await raw_answer(stream)


async def test_chunked_body_over_the_bound_gets_413(autojump_clock: trio.testing.MockClock) -> None:
    async with serving() as stream:
        await stream.send_all(b"POST / HTTP/1.1\r\nhost: h\r\ntransfer-encoding: chunked\r\n\r\n")
        for _ in range(20):
            await stream.send_all(b"1000\r\n" + b"x" * 4096 + b"\r\n")
        assert b" 413 " in await raw_answer(stream)


async def test_headers_over_their_bound_get_431(autojump_clock: trio.testing.MockClock) -> None:
    async with serving() as stream:
        await stream.send_all(b"GET / HTTP/1.1\r\nhost: h\r\nx: " + b"y" * 40_000)
        assert b" 431 " in await raw_answer(stream)


@pytest.mark.parametrize(
    "garbage",
    [
        b"\x16\x03\x01\x02\x00\x01\x00\r\n\r\n",
        b"GET\r\n\r\n",
        b"GET / HTTP/1.1\r\n\r\n",
        b"POST / HTTP/1.1\r\nhost: h\r\ncontent-length: x\r\n\r\n",
        b"GET /%ff HTTP/1.1\r\nhost: h\r\n\r\n",
    ],
)
async def test_what_is_not_http_gets_400_in_one_sentence(
    garbage: bytes, autojump_clock: trio.testing.MockClock
) -> None:
    async with serving() as stream:
        await stream.send_all(garbage)
        data = await raw_answer(stream)
    head, _, body = data.partition(b"\r\n\r\n")
    assert b" 400 " in head.split(b"\r\n")[0]
    assert body.count(b"\n") == 1
    assert b"Traceback" not in body


@pytest.mark.parametrize(
    ("sent", "seconds", "status"),
    [
        (b"", 10, b""),
        (b"GET / HT", 10, b" 408 "),
        (b"POST / HTTP/1.1\r\nhost: h\r\ncontent-length: 9\r\n\r\nabc", 10, b" 408 "),
    ],
)
async def test_a_slow_peer_is_given_up(
    sent: bytes, seconds: float, status: bytes, autojump_clock: trio.testing.MockClock
) -> None:
    async with serving() as stream:
        started = trio.current_time()
        await stream.send_all(sent)
        data = await raw_answer(stream)
        assert seconds <= trio.current_time() - started < seconds + 3
        assert status in data


async def test_an_idle_connection_is_closed_after_its_time(autojump_clock: trio.testing.MockClock) -> None:
    async with serving() as stream:
        await Client(stream).request("GET", "/")
        started = trio.current_time()
        assert await raw_answer(stream) == b""
        assert 30 <= trio.current_time() - started < 33


async def test_a_peer_that_trickles_its_next_request_is_given_up(
    autojump_clock: trio.testing.MockClock,
) -> None:
    async with serving() as stream:
        await Client(stream).request("GET", "/")
        started = trio.current_time()
        with trio.move_on_after(100):
            while True:
                await stream.send_all(b"G" if trio.current_time() == started else b"E")
                with trio.move_on_after(1):
                    assert b" 408 " in await raw_answer(stream)
                    break
        assert trio.current_time() - started < 15


async def test_a_failing_handler_gives_500_without_details_and_the_connection_lives(
    autojump_clock: trio.testing.MockClock,
) -> None:
    async def fail(request: HttpRequest) -> HttpResponse:
        if request.path == "/fail":
            raise RuntimeError("secret detail")
        return await echo(request)

    async with serving(fail) as stream:
        client = Client(stream)
        answer = await client.request("GET", "/fail")
        assert answer.status == 500
        assert "secret" not in answer.text
        assert (await client.request("GET", "/")).status == 200


async def test_a_hanging_handler_gives_503_in_time(autojump_clock: trio.testing.MockClock) -> None:
    async def hang(_request: HttpRequest) -> HttpResponse:
        await trio.sleep_forever()
        raise AssertionError

    async with serving(hang) as stream:
        started = trio.current_time()
        assert (await Client(stream).request("GET", "/")).status == 503
        assert trio.current_time() - started < 15


async def test_expectation_of_continue_is_met(autojump_clock: trio.testing.MockClock) -> None:
    async with serving() as stream:
        await stream.send_all(
            b"POST / HTTP/1.1\r\nhost: h\r\nexpect: 100-continue\r\ncontent-length: 2\r\n\r\n"
        )
        assert b"100" in bytes(await stream.receive_some(1000))
        await stream.send_all(b"hi")
        assert b"POST /  hi" in bytes(await stream.receive_some(1000))


async def test_a_peer_that_does_not_read_is_given_up(autojump_clock: trio.testing.MockClock) -> None:
    client, server = trio.testing.lockstep_stream_pair()
    async with trio.open_nursery() as nursery:
        nursery.start_soon(serve_http, server, echo)
        await client.send_all(b"GET / HTTP/1.1\r\nhost: h\r\n\r\n")
        started = trio.current_time()
        while nursery.child_tasks:
            await trio.sleep(1)
            if trio.current_time() - started > 60:
                raise AssertionError("still there")
    assert trio.current_time() - started <= 12


async def test_requests_on_one_connection_are_bounded(autojump_clock: trio.testing.MockClock) -> None:
    ours, theirs = trio.testing.memory_stream_pair()
    async with trio.open_nursery() as nursery:
        nursery.start_soon(lambda: serve_http(theirs, echo, limits=HttpLimits(requests_max=2)))
        client = Client(ours)
        await client.request("GET", "/")
        await client.request("GET", "/")
        assert bytes(await ours.receive_some(1)) == b""


@given(st.lists(st.binary(max_size=300), max_size=6))
def test_any_bytes_are_survived(pieces: list[bytes]) -> None:
    async def main() -> None:
        async with serving() as stream:
            for piece in pieces:
                try:
                    await stream.send_all(piece)
                except trio.BrokenResourceError:
                    break

    trio.run(main, clock=trio.testing.MockClock(autojump_threshold=0))
