"""Opening a WebSocket, from both ends: what is refused, what is too slow, and that nothing stays behind."""

from __future__ import annotations

import base64
import errno
import hashlib
from functools import partial

import pytest
import trio
import trio.lowlevel
import trio.testing
from wire_helpers import CLOSE, TEXT, RawPeer, accept_all, frame_bytes, living_tasks, stream_pair

from callrt.wire.limits import CLIENT_LIMITS, SocketLimits
from callrt.wire.transport import TransportClosed
from callrt.wire.websocket import ConnectFailed, UpgradeRefused, accept, connect, connect_over, open_client

UPGRADE = (
    b"GET /media/tok HTTP/1.1\r\nHost: h\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n"
    b"Sec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\nSec-WebSocket-Version: 13\r\nX-Twilio-Signature: sig\r\n\r\n"
)


async def answer_with(response: bytes | None, *, close: bool = True) -> Exception:
    """What connecting raises when the server answers so."""
    left, right = stream_pair()
    peer = RawPeer(right)

    async def serve() -> None:
        await peer.until(b"\r\n\r\n")
        if response is not None:
            await right.send_all(response)
        if close:
            await right.aclose()

    async with trio.open_nursery() as nursery:
        nursery.start_soon(serve)
        with pytest.raises((ConnectFailed, UpgradeRefused)) as caught:
            await connect_over(nursery, left, "there")
    return caught.value


@pytest.mark.parametrize(
    ("response", "status", "retry_after"),
    [
        (b"HTTP/1.1 401 Unauthorized\r\nContent-Length: 2\r\n\r\nno", 401, None),
        (b"HTTP/1.1 403 Forbidden\r\nContent-Length: 0\r\n\r\n", 403, None),
        (b"HTTP/1.1 429 Slow\r\nRetry-After: 3\r\nContent-Length: 0\r\n\r\n", 429, 3.0),
        (b"HTTP/1.1 503 Busy\r\nRetry-After: Fri, 20 Nov 2026 00:00:00 GMT\r\n\r\nbusy", 503, None),
        (
            b"HTTP/1.1 503 Busy\r\nRetry-After: 7\r\nConnection: close\r\n\r\nno length, ends with the socket",
            503,
            7.0,
        ),
        (b"HTTP/1.1 502 Bad\r\nTransfer-Encoding: chunked\r\n\r\n2\r\nno\r\n0\r\n\r\n", 502, None),
        (b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nhi", 200, None),
        (b"HTTP/1.1 302 Found\r\nLocation: /x\r\nContent-Length: 0\r\n\r\n", 302, None),
    ],
)
async def test_a_refused_upgrade_tells_its_status(autojump_clock, response, status, retry_after):
    error = await answer_with(response)
    assert isinstance(error, UpgradeRefused)
    assert (error.status, error.retry_after) == (status, retry_after)


async def test_a_refusal_that_never_ends_tells_its_status_all_the_same(autojump_clock):
    error = await answer_with(b"HTTP/1.1 500 Oh\r\nContent-Length: 99\r\n\r\nno", close=False)
    assert isinstance(error, UpgradeRefused)
    assert error.status == 500


@pytest.mark.parametrize(
    "response",
    [
        b"",
        b"SSH-2.0-OpenSSH\r\n",
        b"HTTP/1.1 101 Switching Protocols\r\n\r\n",
        b"HTTP/1.1 101 Switching Protocols\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n"
        b"Sec-WebSocket-Accept: wrong\r\n\r\n",
        b"\x00" * 40_000,
    ],
    ids=["nothing", "ssh", "bare-101", "wrong-accept", "zeros"],
)
async def test_what_is_no_websocket_is_a_failed_connection(autojump_clock, response):
    error = await answer_with(response)
    assert isinstance(error, ConnectFailed)
    assert error.reason == "not_websocket"


async def test_a_silent_server_costs_the_open_timeout(autojump_clock):
    began = trio.current_time()
    error = await answer_with(None, close=False)
    assert isinstance(error, ConnectFailed)
    assert error.reason == "timeout"
    assert trio.current_time() - began == pytest.approx(SocketLimits().open_timeout)


async def test_a_failed_opening_leaves_no_task_and_no_open_stream(autojump_clock):
    before = living_tasks()
    for _ in range(5):
        await answer_with(b"HTTP/1.1 503 Busy\r\nContent-Length: 0\r\n\r\n")
        await answer_with(b"")
    assert living_tasks() == before


async def test_a_cancelled_opening_leaves_no_task_and_closes_the_stream(autojump_clock):
    left, right = stream_pair()
    before = living_tasks()
    async with trio.open_nursery() as nursery:
        with trio.move_on_after(1) as scope:
            await connect_over(nursery, left, "there")
        assert scope.cancelled_caught
        assert await RawPeer(right).drain() != b""
    assert living_tasks() == before


@pytest.mark.parametrize("url", ["http://x/", "ws://", "x"])
async def test_a_bad_address_is_a_mistake_of_ours(url):
    async with trio.open_nursery() as nursery:
        with pytest.raises(ValueError, match="address"):
            await connect(nursery, url)


class NoNetwork(trio.abc.HostnameResolver, trio.abc.SocketFactory):
    async def getaddrinfo(self, host, port, family=0, type=0, proto=0, flags=0):
        raise OSError(errno.ENETUNREACH, "no network")

    async def getnameinfo(self, sockaddr, flags):
        raise NotImplementedError

    def socket(self, *args, **kwargs):
        raise NotImplementedError


async def test_no_network_is_a_failed_connection():
    trio.socket.set_custom_hostname_resolver(NoNetwork())
    async with trio.open_nursery() as nursery:
        with pytest.raises(ConnectFailed) as caught:
            await connect(nursery, "ws://nowhere.example/")
    assert caught.value.reason == "network"


@pytest.mark.parametrize("host", ["a..b", "x" * 70], ids=["empty part", "long part"])
async def test_a_name_that_no_host_can_have_is_a_failed_connection(host):
    async with trio.open_nursery() as nursery:
        with pytest.raises(ConnectFailed) as caught:
            await connect(nursery, f"ws://{host}:8765/")
    assert caught.value.reason == "network"


# -- the server ----------------------------------------------------------------------------------------


async def serve_bytes(request: bytes | None, check=accept_all, *, pre_read: int = 0, close: bool = False):
    """(what accept returned, what the client got) for a client that sends these bytes."""
    left, right = stream_pair()
    async with trio.open_nursery() as nursery:
        if request is not None:
            await left.send_all(request[pre_read:])
        if close:
            await left.send_eof()
        transport = await accept(nursery, right, check, pre_read=(request or b"")[:pre_read])
        await trio.testing.wait_all_tasks_blocked()
        if transport is not None:
            transport.abort()
        answer = await RawPeer(left).drain()
    return transport, answer


@pytest.mark.parametrize("pre_read", [0, 1, 100, len(UPGRADE)])
async def test_bytes_that_were_read_before_count(autojump_clock, pre_read):
    seen = []

    async def check(path, headers):
        seen.append((path, headers))

    transport, answer = await serve_bytes(UPGRADE, check, pre_read=pre_read)
    assert transport is not None
    assert answer.startswith(b"HTTP/1.1 101 ")
    assert b"permessage-deflate" not in answer
    ((path, headers),) = seen
    assert path == "/media/tok"
    assert (b"x-twilio-signature", b"sig") in headers


async def test_a_refused_upgrade_gets_its_status_and_body(autojump_clock):
    async def check(path, headers):
        return 403, b"no such stream"

    transport, answer = await serve_bytes(UPGRADE, check)
    assert transport is None
    assert answer.startswith(b"HTTP/1.1 403 ")
    assert answer.endswith(b"no such stream")


@pytest.mark.parametrize(
    "request_bytes",
    [
        b"GET / HTTP/1.1\r\nHost: h\r\n\r\n",
        b"POST / HTTP/1.1\r\nHost: h\r\nContent-Length: 0\r\n\r\n",
        b"\x16\x03\x01 hello\r\n\r\n",
        b"GET / HTTP/1.1\r\n" + b"x: y\r\n" * 20_000 + b"\r\n",
    ],
    ids=["plain-get", "post", "tls", "endless-head"],
)
async def test_what_asks_for_no_websocket_gets_none_and_no_other_harm(autojump_clock, request_bytes):
    transport, _ = await serve_bytes(request_bytes, close=True)
    assert transport is None


async def test_a_client_that_never_finishes_its_request_costs_the_open_timeout(autojump_clock):
    left, right = stream_pair()
    before = living_tasks()
    async with trio.open_nursery() as nursery:
        await left.send_all(UPGRADE[:50])
        began = trio.current_time()
        assert await accept(nursery, right, accept_all) is None
        assert trio.current_time() - began == pytest.approx(SocketLimits().open_timeout)
        assert await RawPeer(left).drain() == b""
        await trio.testing.wait_all_tasks_blocked()
    assert living_tasks() == before


async def test_a_check_that_fails_is_heard_of_here_and_there(autojump_clock):
    async def check(path, headers):
        raise OSError("a bug of ours")

    left, right = stream_pair()
    async with trio.open_nursery() as nursery:
        await left.send_all(UPGRADE)
        with pytest.raises(OSError, match="a bug of ours"):
            await accept(nursery, right, check)
    assert (await RawPeer(left).drain()).startswith(b"HTTP/1.1 500 ")


# -- over real sockets ---------------------------------------------------------------------------------


async def echo_server(port_known, ended: list[TransportClosed]) -> None:
    async def serve(stream: trio.SocketStream) -> None:
        async with trio.open_nursery() as nursery:
            transport = await accept(nursery, stream, accept_all)
            assert transport is not None
            try:
                while True:
                    assert transport.send_nowait(await transport.receive())
            except TransportClosed as end:
                ended.append(end)
            nursery.cancel_scope.cancel()

    async with trio.open_nursery() as nursery:
        listeners = await nursery.start(trio.serve_tcp, serve, 0)
        port_known(listeners[0].socket.getsockname()[1])
        await trio.sleep_forever()


async def test_real_sockets_carry_messages_and_ends():
    ended: list[TransportClosed] = []
    ports: list[int] = []
    async with trio.open_nursery() as nursery:
        nursery.start_soon(echo_server, ports.append, ended)
        while not ports:
            await trio.lowlevel.checkpoint()
        with trio.fail_after(20):
            async with open_client(
                f"ws://127.0.0.1:{ports[0]}/x?y=1", [(b"authorization", b"Bearer k")]
            ) as client:
                messages = [f"{n}:" + "x" * (n * 997 % 5000) for n in range(300)]
                for message in messages:
                    assert client.send_nowait(message)
                assert [await client.receive() for _ in messages] == messages
                await client.ping()
            while not ended:
                await trio.lowlevel.checkpoint()
            assert (ended[0].code, ended[0].by_peer) == (1000, True)

            async with open_client(f"ws://127.0.0.1:{ports[0]}/") as client:
                client.abort()
            while len(ended) < 2:
                await trio.lowlevel.checkpoint()
            assert (ended[1].code, ended[1].by_peer) == (None, True)
        nursery.cancel_scope.cancel()


async def test_what_a_block_raises_comes_out_in_no_group():
    ports: list[int] = []
    async with trio.open_nursery() as nursery:
        nursery.start_soon(echo_server, ports.append, [])
        while not ports:
            await trio.lowlevel.checkpoint()
        url = f"ws://127.0.0.1:{ports[0]}/"
        with pytest.raises(KeyError, match="mine"):
            async with open_client(url):
                raise KeyError("mine")
        with trio.CancelScope() as scope:
            async with open_client(url):
                scope.cancel()
                await trio.sleep_forever()
        assert scope.cancelled_caught
        nursery.cancel_scope.cancel()


async def test_an_error_is_not_held_up_by_a_peer_that_does_not_answer_the_close():
    async def never_read(stream: trio.SocketStream) -> None:
        head = b""
        while b"\r\n\r\n" not in head:
            head += await stream.receive_some()
        key = next(
            line[19:] for line in head.split(b"\r\n") if line.lower().startswith(b"sec-websocket-key:")
        )
        accepted = base64.b64encode(hashlib.sha1(key + b"258EAFA5-E914-47DA-95CA-C5AB0DC85B11").digest())
        await stream.send_all(
            b"HTTP/1.1 101 Switching Protocols\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n"
            b"Sec-WebSocket-Accept: " + accepted + b"\r\n\r\n"
        )
        await trio.sleep_forever()

    async with trio.open_nursery() as nursery:
        listeners = await nursery.start(partial(trio.serve_tcp, never_read, 0, host="127.0.0.1"))
        port = listeners[0].socket.getsockname()[1]
        began = trio.current_time()
        with pytest.raises(KeyError, match="mine"):
            async with open_client(f"ws://127.0.0.1:{port}/"):
                raise KeyError("mine")
        assert trio.current_time() - began < CLIENT_LIMITS.close_timeout / 2
        nursery.cancel_scope.cancel()


async def test_a_port_where_nobody_listens_is_a_failed_connection():
    (listener,) = await trio.open_tcp_listeners(0, host="127.0.0.1")
    port = listener.socket.getsockname()[1]
    await listener.aclose()
    with pytest.raises(ConnectFailed) as caught:
        async with open_client(f"ws://127.0.0.1:{port}/"):
            raise AssertionError("connected to nobody")
    assert caught.value.reason == "network"


async def test_a_server_without_tls_is_a_failed_connection_of_wss():
    async def hang_up(stream: trio.SocketStream) -> None:
        await stream.receive_some()
        await stream.send_all(b"HTTP/1.1 400 what?\r\n\r\n")
        await stream.aclose()

    async with trio.open_nursery() as nursery:
        listeners = await nursery.start(trio.serve_tcp, hang_up, 0)
        port = listeners[0].socket.getsockname()[1]
        with pytest.raises(ConnectFailed) as caught:
            async with open_client(f"wss://127.0.0.1:{port}/"):
                raise AssertionError("no TLS here")
        assert caught.value.reason == "tls"
        nursery.cancel_scope.cancel()


# -- peers in a hurry ------------------------------------------------------------------------------------


def masked(opcode: int, payload: bytes) -> bytes:
    """As :func:`frame_bytes`, from a client: with a mask of zeros."""
    return bytes([opcode | 0x80, len(payload) | 0x80]) + bytes(4) + payload


@pytest.mark.parametrize("closes", [True, False])
async def test_a_client_that_says_all_and_goes_at_once_is_heard(autojump_clock, transport_kind, closes):
    """Found in mid-call: a caller who hung up while the stream was being opened counted as a lost carrier."""
    left, right = stream_pair()
    words = masked(TEXT, b"start") + masked(TEXT, b"stop") + (masked(CLOSE, b"\x03\xe8") if closes else b"")

    async def call() -> None:
        if transport_kind == "reference":
            # The library insists on manners: nothing before its answer.
            await left.send_all(UPGRADE)
            await RawPeer(left).until(b"\r\n\r\n")
            await left.send_all(words)
        else:
            await left.send_all(UPGRADE + words)
        await left.send_eof()

    async with trio.open_nursery() as nursery:
        nursery.start_soon(call)
        transport = await accept(nursery, right, accept_all)
        assert transport is not None
        assert [await transport.receive(), await transport.receive()] == ["start", "stop"]
        with pytest.raises(TransportClosed) as caught:
            await transport.receive()
        assert (caught.value.code, caught.value.by_peer) == (1000 if closes else None, True)
        await trio.aclose_forcefully(left)


async def test_a_server_that_says_why_and_goes_at_once_is_heard(autojump_clock):
    left, right = stream_pair()
    peer = RawPeer(right)
    said = frame_bytes(TEXT, b"error") + frame_bytes(CLOSE, b"\x0f\xa0no quota")

    async def serve() -> None:
        await peer.upgrade(said)
        await right.aclose()

    async with trio.open_nursery() as nursery:
        nursery.start_soon(serve)
        client = await connect_over(nursery, left, "there")
        assert await client.receive() == "error"
        with pytest.raises(TransportClosed) as caught:
            await client.receive()
        assert (caught.value.code, caught.value.reason) == (4000, "no quota")
