"""The public port: who gets a media socket, and that one connection's trouble stays with it."""

from __future__ import annotations

import json
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any

import pytest
import trio
import trio.testing
from hypothesis import given
from hypothesis import strategies as st
from service_helpers import CALL, KEY, Client, Facts, FakeDesk, raw_answer

from callrt.policy.facts import BadInput, ConnectionRefused
from callrt.service.http import HttpRequest, HttpResponse
from callrt.service.listener import Port, PortLimits
from callrt.service.media import MediaDoor
from callrt.service.tokens import PathTokens
from callrt.telephony.signatures import sign
from callrt.telephony.urls import Urls
from callrt.wire.connection import WebSocketTransport
from callrt.wire.transport import TransportClosed
from callrt.wire.websocket import UpgradeRefused, connect_over

URLS = Urls("https://calls.example.org")
TOKENS = PathTokens(KEY)
BUSY_SECONDS = 5
TOKEN = TOKENS.issue(CALL, 1)


def start(call_sid: str = CALL, encoding: str = "audio/x-mulaw", rate: int = 8000) -> str:
    body = {
        "accountSid": "AC1",
        "callSid": call_sid,
        "streamSid": "MZ1",
        "tracks": ["inbound"],
        "mediaFormat": {"encoding": encoding, "sampleRate": rate, "channels": 1},
        "customParameters": {"generation": "1"},
    }
    return json.dumps({"event": "start", "sequenceNumber": "1", "streamSid": "MZ1", "start": body})


CONNECTED = json.dumps({"event": "connected", "protocol": "Call", "version": "1.0.0"})


class Served:
    """A public port in memory; ``dial`` opens a connection to it."""

    def __init__(
        self, nursery: trio.Nursery, *, verify: bool = True, limits: PortLimits | None = None
    ) -> None:
        self.nursery = nursery
        self.desk = FakeDesk()
        self.facts = Facts()
        door = MediaDoor(
            desk=self.desk, urls=URLS, tokens=TOKENS, keys=[KEY], verify=verify, observe=self.facts.observe
        )
        self.port = Port("public", self._http, observe=self.facts.observe, media=door.serve, limits=limits)

    async def _http(self, request: HttpRequest) -> HttpResponse:
        if request.path == "/busy":
            await trio.sleep(BUSY_SECONDS)
        return HttpResponse(200, request.path.encode())

    def dial(self) -> trio.abc.Stream:
        ours, theirs = trio.testing.memory_stream_pair()
        self.nursery.start_soon(self.port.handle, theirs)
        return ours

    async def socket(self, token: str = TOKEN, **headers: str) -> WebSocketTransport:
        fields = {"x-twilio-signature": sign(KEY, URLS.media(token)), **headers}
        encoded = [(name.encode(), value.encode()) for name, value in fields.items() if value]
        return await connect_over(
            self.nursery, self.dial(), "calls.example.org", f"/twilio/media/{token}", encoded
        )


@asynccontextmanager
async def serving(**options: Any) -> AsyncIterator[Served]:
    async with trio.open_nursery() as nursery:
        yield Served(nursery, **options)
        nursery.cancel_scope.cancel()


async def closed_with(socket: WebSocketTransport) -> int | None:
    with trio.fail_after(20):
        try:
            while True:
                await socket.receive()
        except TransportClosed as end:
            return end.code


async def test_started_stream_is_given_to_the_desk_with_what_follows(
    autojump_clock: trio.testing.MockClock,
) -> None:
    async with serving() as served:
        socket = await served.socket()
        socket.send_nowait(CONNECTED)
        socket.send_nowait(start())
        socket.send_nowait('{"event":"dtmf","sequenceNumber":"2","streamSid":"MZ1","dtmf":{"digit":"4"}}')
        await trio.sleep(1)
        assert served.desk.asked[0] == ("attach", CALL, 1, "MZ1")
        assert [what[0] for what in served.desk.asked[1:]] == ["heard"]
        await socket.aclose()
        await trio.sleep(5)
        assert served.desk.living == 0
        assert (served.port.http_connections, served.port.media_connections) == (0, 0)


async def test_signature_header_counts_in_any_case(autojump_clock: trio.testing.MockClock) -> None:
    async with serving() as served:
        signature = sign(KEY, URLS.media(TOKEN))
        await served.socket(**{"x-twilio-signature": "", "X-TWILIO-Signature": signature})


REFUSED = [
    (TOKEN, "", "signature"),
    (TOKEN, sign(KEY, f"https://calls.example.org/twilio/media/{TOKEN}"), "signature"),
    (TOKEN, sign("f" * 32, URLS.media(TOKEN)), "signature"),
    ("nonsense", sign(KEY, URLS.media("nonsense")), "token"),
    ("", sign(KEY, URLS.media("")), "token"),
    (TOKENS.issue(CALL, 2), sign(KEY, URLS.media(TOKENS.issue(CALL, 2))), "used_token"),
    (TOKENS.issue("CAother", 1), sign(KEY, URLS.media(TOKENS.issue("CAother", 1))), "used_token"),
]


@pytest.mark.parametrize(("token", "signature", "reason"), REFUSED)
async def test_upgrade_that_is_not_expected_is_refused_with_403(
    token: str, signature: str, reason: str, autojump_clock: trio.testing.MockClock
) -> None:
    async with serving() as served:
        with pytest.raises(UpgradeRefused) as caught:
            await served.socket(token, **{"x-twilio-signature": signature})
        assert caught.value.status == 403
        assert served.facts == [BadInput("upgrade", reason)]
        assert served.desk.asked == []


async def test_unverified_upgrade_still_needs_its_token(autojump_clock: trio.testing.MockClock) -> None:
    async with serving(verify=False) as served:
        await served.socket(**{"x-twilio-signature": ""})
        with pytest.raises(UpgradeRefused):
            await served.socket("nonsense", **{"x-twilio-signature": ""})


FIRST_WORDS = [
    (start("CAother"), 1008, "foreign_call"),
    (start(encoding="audio/x-alaw"), 1003, "media_format"),
    (start(rate=16000), 1003, "media_format"),
    ('{"event":"stop","sequenceNumber":"1","streamSid":"MZ1","stop":{"callSid":"CA1"}}', 1008, "no_start"),
    ("", 1008, "no_start"),
]


@pytest.mark.parametrize(("words", "code", "reason"), FIRST_WORDS)
async def test_stream_that_begins_wrongly_is_closed_and_counted(
    words: str, code: int, reason: str, autojump_clock: trio.testing.MockClock
) -> None:
    async with serving() as served:
        socket = await served.socket()
        socket.send_nowait(CONNECTED)
        if words:
            socket.send_nowait(words)
        begun = trio.current_time()
        assert await closed_with(socket) == code
        assert trio.current_time() - begun < 8
        assert (CALL, reason) in served.desk.bad
        assert served.desk.asked == []
        assert served.desk.may_attach(CALL, 1)


async def test_bad_messages_before_start_are_told_to_the_desk_and_bounded(
    autojump_clock: trio.testing.MockClock,
) -> None:
    async with serving() as served:
        socket = await served.socket()
        for garbage in ("{", b"\x00", "[]"):
            socket.send_nowait(garbage)
        socket.send_nowait(start())
        await trio.sleep(1)
        assert served.desk.asked[0][0] == "attach"
        assert [call_sid for call_sid, _ in served.desk.bad] == [CALL] * 3
    async with serving() as served:
        socket = await served.socket()
        for _ in range(100):
            socket.send_nowait("{")
        assert await closed_with(socket) == 1008


async def test_of_two_sockets_with_one_token_the_second_to_start_is_closed(
    autojump_clock: trio.testing.MockClock,
) -> None:
    async with serving() as served:
        first, second = await served.socket(), await served.socket()
        second.send_nowait(start())
        await trio.sleep(1)
        first.send_nowait(start())
        assert await closed_with(first) == 1008
        assert [what[0] for what in served.desk.asked] == ["attach"]
        assert served.desk.bad == [(CALL, "used_token")]
        assert served.desk.living == 1


async def test_failing_desk_closes_the_stream_and_not_the_port(
    autojump_clock: trio.testing.MockClock,
) -> None:
    async with serving() as served:
        served.desk.fails = RuntimeError("x")
        socket = await served.socket()
        socket.send_nowait(start())
        assert await closed_with(socket) == 1011
        assert (await Client(served.dial()).request("GET", "/still")).text == "/still"


async def test_upgrade_elsewhere_is_ordinary_http(autojump_clock: trio.testing.MockClock) -> None:
    async with serving() as served:
        headers = {"upgrade": "websocket", "connection": "upgrade"}
        assert (await Client(served.dial()).request("GET", "/x", headers=headers)).text == "/x"


async def test_media_path_without_an_upgrade_is_ordinary_http(
    autojump_clock: trio.testing.MockClock,
) -> None:
    async with serving() as served:
        assert (await Client(served.dial()).request("GET", "/twilio/media/x")).status == 200


async def test_broken_upgrade_is_answered_and_forgotten(autojump_clock: trio.testing.MockClock) -> None:
    async with serving() as served:
        stream = served.dial()
        await stream.send_all(b"GET /twilio/media/x HTTP/1.1\r\nhost: h\r\nupgrade: websocket\r\n\r\n")
        assert b" 400 " in await raw_answer(stream)
        await trio.sleep(20)
        assert served.port.media_connections == 0


@pytest.mark.parametrize(("head", "answer"), [(b"", b""), (b"GET /twilio/media/", b" 408 ")])
async def test_slow_head_is_given_up(
    head: bytes, answer: bytes, autojump_clock: trio.testing.MockClock
) -> None:
    async with serving() as served:
        stream = served.dial()
        await stream.send_all(head)
        assert answer in await raw_answer(stream)
        assert 10 <= trio.current_time() < 12


async def test_huge_head_is_refused(autojump_clock: trio.testing.MockClock) -> None:
    async with serving() as served:
        stream = served.dial()
        await stream.send_all(b"GET /twilio/media/x HTTP/1.1\r\nupgrade: websocket\r\nx: " + b"y" * 100_000)
        assert b" 431 " in await raw_answer(stream)


async def test_connections_over_the_bound_are_turned_away_and_counted_by_kind(
    autojump_clock: trio.testing.MockClock,
) -> None:
    limits = PortLimits(http_connections_max=2, media_connections_max=1)
    async with serving(limits=limits) as served:
        await served.socket()
        with pytest.raises(UpgradeRefused) as caught:
            await served.socket()
        assert caught.value.status == 503
        busy = [served.dial(), served.dial()]
        for stream in busy:
            await Client(stream).send(b"GET /busy HTTP/1.1\r\nhost: h\r\n\r\n")
        await trio.testing.wait_all_tasks_blocked()
        assert (await Client(served.dial()).request("GET", "/")).status == 503
        assert served.facts == [ConnectionRefused("public")] * 2
        await trio.sleep(BUSY_SECONDS)
        assert (await Client(served.dial()).request("GET", "/")).status == 200


HAVE_NOTHING_MORE_TO_SAY = {
    "answered": b"GET / HTTP/1.1\r\nhost: h\r\n\r\n",
    "owes a body": b"POST / HTTP/1.1\r\nhost: h\r\ncontent-length: 9\r\n\r\n",
    "was refused": b"POST / HTTP/1.1\r\nhost: h\r\ncontent-length: 999999999\r\n\r\n",
    "has begun another": b"GET / HTTP/1.1\r\nhost: h\r\n\r\nGET /",
}


@pytest.mark.parametrize("crowd", HAVE_NOTHING_MORE_TO_SAY)
async def test_crowd_that_says_nothing_more_keeps_nobody_out(
    crowd: str, autojump_clock: trio.testing.MockClock
) -> None:
    async with serving(limits=PortLimits(http_connections_max=3)) as served:
        for _ in range(8):
            await served.dial().send_all(HAVE_NOTHING_MORE_TO_SAY[crowd])
            await trio.testing.wait_all_tasks_blocked()
        assert served.port.http_connections == 3
        assert (await Client(served.dial()).request("GET", "/")).status == 200
        assert trio.current_time() == 0
        assert served.facts == [ConnectionRefused("public")] * 6
        await trio.sleep(60)
        assert served.port.http_connections == 0


async def test_who_has_waited_longest_for_its_peer_makes_room_and_who_works_does_not(
    autojump_clock: trio.testing.MockClock,
) -> None:
    async with serving(limits=PortLimits(http_connections_max=3)) as served:
        busy, first, second = (Client(served.dial()) for _ in range(3))
        await busy.send(b"GET /busy HTTP/1.1\r\nhost: h\r\nconnection: close\r\n\r\n")
        for client in (first, second, first):
            assert (await client.request("GET", "/")).status == 200
        assert (await Client(served.dial()).request("GET", "/")).status == 200
        assert await second.stream.receive_some() == b""
        assert (await first.request("GET", "/")).status == 200
        assert b"/busy" in await raw_answer(busy.stream)


async def test_crowd_that_says_nothing_keeps_nobody_out(autojump_clock: trio.testing.MockClock) -> None:
    limits = PortLimits(unknown_connections_max=3, http_connections_max=1, media_connections_max=1)
    async with serving(limits=limits) as served:
        for _ in range(8):
            served.dial()
            await trio.testing.wait_all_tasks_blocked()
        socket = await served.socket()
        socket.send_nowait(start())
        assert (await Client(served.dial()).request("GET", "/")).status == 200
        await trio.testing.wait_all_tasks_blocked()
        assert trio.current_time() == 0
        assert served.desk.living == 1
        assert served.facts == [ConnectionRefused("public")] * 6  # five for each other, one for the socket


async def test_of_those_who_do_not_say_what_they_are_the_oldest_has_to_go(
    autojump_clock: trio.testing.MockClock,
) -> None:
    async with serving(limits=PortLimits(unknown_connections_max=2)) as served:
        first = served.dial()
        await trio.testing.wait_all_tasks_blocked()
        second = served.dial()
        await trio.testing.wait_all_tasks_blocked()
        await first.send_all(b"GET / HTTP/1.1\r\n")  # a word now and then keeps no place
        await second.send_all(b"GET /second HTTP/1.1\r\n")
        third = served.dial()
        assert b" 503 " in await raw_answer(first)
        await second.send_all(b"host: h\r\nconnection: close\r\n\r\n")
        assert b"/second" in await raw_answer(second)
        assert (await Client(third).request("GET", "/third")).text == "/third"
        assert served.facts == [ConnectionRefused("public")]


async def test_crowd_that_says_nothing_is_bounded_without_a_media_handler(
    autojump_clock: trio.testing.MockClock,
) -> None:
    async def answer(request: HttpRequest) -> HttpResponse:
        return HttpResponse(200)

    facts = Facts()
    limits = PortLimits(unknown_connections_max=3, http_connections_max=1)
    port = Port("admin", answer, observe=facts.observe, limits=limits)
    async with trio.open_nursery() as nursery:
        before = trio.lowlevel.current_statistics().tasks_living
        for _ in range(20):
            nursery.start_soon(port.handle, trio.testing.memory_stream_pair()[1])
        await trio.testing.wait_all_tasks_blocked()
        assert port.unknown_connections == trio.lowlevel.current_statistics().tasks_living - before == 3
        ours, theirs = trio.testing.memory_stream_pair()
        nursery.start_soon(port.handle, theirs)
        assert (await Client(ours).request("GET", "/")).status == 200
        assert facts == [ConnectionRefused("admin")] * 18
        nursery.cancel_scope.cancel()
    assert (port.unknown_connections, port.http_connections) == (0, 0)


async def test_head_that_comes_byte_by_byte_is_given_up(autojump_clock: trio.testing.MockClock) -> None:
    async with serving() as served:
        stream = served.dial()

        async def dribble() -> None:
            for _ in range(19):
                await stream.send_all(b"G")
                await trio.sleep(0.5)

        served.nursery.start_soon(dribble)
        assert b" 408 " in await raw_answer(stream)
        assert 10 <= trio.current_time() < 12


HEAD_PIECES = [b"GET /twilio/media/", b"x HTTP/1.1", b"\r\n", b"upgrade: websocket", b"\x00"]


@given(st.lists(st.sampled_from(HEAD_PIECES)))
def test_any_head_leaves_nothing_behind(pieces: list[bytes]) -> None:
    async def main() -> None:
        async with serving() as served:
            stream = served.dial()
            for piece in pieces:
                try:
                    await stream.send_all(piece)
                except trio.BrokenResourceError:
                    break
            await stream.aclose()
            await trio.sleep(60)
            port = served.port
            assert (port.unknown_connections, port.http_connections, port.media_connections) == (0, 0, 0)

    trio.run(main, clock=trio.testing.MockClock(autojump_threshold=0))


async def test_port_over_real_sockets_serves_both_kinds() -> None:
    async with trio.open_nursery() as nursery:
        served = Served(nursery)
        [listener] = await trio.open_tcp_listeners(0, host="127.0.0.1")
        await nursery.start(served.port.run, [listener])
        address = listener.socket.getsockname()
        client = Client(await trio.open_tcp_stream(*address))
        assert (await client.request("GET", "/a")).text == "/a"
        socket = await connect_over(
            nursery,
            await trio.open_tcp_stream(*address),
            "calls.example.org",
            f"/twilio/media/{TOKEN}",
            [(b"X-Twilio-Signature", sign(KEY, URLS.media(TOKEN)).encode())],
        )
        socket.send_nowait(CONNECTED)
        socket.send_nowait(start())
        with trio.fail_after(5):
            await served.desk.attached.wait()
        nursery.cancel_scope.cancel()
