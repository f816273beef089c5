"""Laws of every transport: two real ends, in virtual time."""

from __future__ import annotations

import pytest
import trio
import trio.testing
from wire_helpers import living_tasks, socket_pair

from callrt.wire.limits import SocketLimits
from callrt.wire.transport import TransportClosed


async def test_messages_arrive_whole_in_order_and_of_their_kind(autojump_clock):
    messages = ["a", "ü☎", b"\x00\xff", "x" * 70_000, ""]
    async with socket_pair() as (client, server):
        for ours, theirs in ((client, server), (server, client)):
            for message in messages:
                assert ours.send_nowait(message)
            assert [await theirs.receive() for _ in messages] == messages
            assert ours.statistics().sent_messages == len(messages)
            assert theirs.statistics().received_messages == len(messages)


async def test_the_server_learns_path_and_query(autojump_clock):
    async with socket_pair() as (_, server):
        assert server.path == "/media/k7?x=1"


async def test_receive_nowait_gives_what_has_arrived_and_never_waits(autojump_clock):
    async with socket_pair() as (client, server):
        with pytest.raises(trio.WouldBlock):
            server.receive_nowait()
        client.send_nowait("a")
        client.send_nowait("b")
        await trio.testing.wait_all_tasks_blocked()
        assert [server.receive_nowait(), server.receive_nowait()] == ["a", "b"]
        with pytest.raises(trio.WouldBlock):
            server.receive_nowait()


async def test_a_ping_comes_back_and_counts_for_nothing(autojump_clock):
    async with socket_pair() as (client, server):
        await client.ping()
        await server.ping()
        assert server.statistics().received_messages == 0


@pytest.mark.parametrize("closer", ["client", "server"])
async def test_the_peer_learns_code_and_reason_after_all_that_was_said(autojump_clock, closer):
    async with socket_pair() as (client, server):
        ours, theirs = (client, server) if closer == "client" else (server, client)
        ours.send_nowait("last words")
        async with trio.open_nursery() as nursery:
            nursery.start_soon(ours.aclose, 4000, "enough")
            assert await theirs.receive() == "last words"
            with pytest.raises(TransportClosed) as caught:
                await theirs.receive()
        assert (caught.value.code, caught.value.reason, caught.value.by_peer) == (4000, "enough", True)
        assert not theirs.send_nowait("too late")
        with pytest.raises(TransportClosed) as caught:
            await ours.receive()
        assert (caught.value.code, caught.value.reason, caught.value.by_peer) == (4000, "enough", False)
        with pytest.raises(TransportClosed):
            ours.receive_nowait()
        with pytest.raises(TransportClosed):
            theirs.receive_nowait()
        with pytest.raises(TransportClosed):
            await ours.ping()


async def test_messages_that_arrived_before_the_end_can_still_be_read(autojump_clock):
    async with socket_pair() as (client, server):
        client.send_nowait("one")
        client.send_nowait("two")
        await trio.testing.wait_all_tasks_blocked()
        client.abort()
        await trio.testing.wait_all_tasks_blocked()
        assert await server.receive() == "one"
        assert server.receive_nowait() == "two"
        with pytest.raises(TransportClosed) as caught:
            await server.receive()
        assert (caught.value.code, caught.value.by_peer) == (None, True)


async def test_aclose_is_idempotent_and_both_ends_may_close_at_once(autojump_clock):
    async with socket_pair() as (client, server):
        async with trio.open_nursery() as nursery:
            for transport in (client, server, client, server):
                nursery.start_soon(transport.aclose)
        await client.aclose()


async def test_abort_wakes_the_reader_and_the_pinger_and_tells_the_peer(autojump_clock):
    ends: list[TransportClosed] = []

    async def wait(wait_for):
        with pytest.raises(TransportClosed) as caught:
            await wait_for()
        ends.append(caught.value)

    async with socket_pair() as (client, server):
        async with trio.open_nursery() as nursery:
            nursery.start_soon(wait, client.receive)
            nursery.start_soon(wait, server.receive)
            await trio.testing.wait_all_tasks_blocked()
            client.abort()
            client.abort()
        assert sorted((end.code, end.by_peer) for end in ends) == [(None, False), (None, True)]
        assert not client.send_nowait("x")
        await client.aclose()


async def test_backlog_is_bounded_visible_and_flushed_when_the_peer_reads_again(autojump_clock):
    limits = SocketLimits(backlog_bytes=1000, inbox_messages=1, send_timeout=1e6)
    async with socket_pair(limits, limits) as (client, server):
        message = "x" * 300
        accepted = 0
        while client.send_nowait(message):
            accepted += 1
        # The direct transport writes at once: until the kernel takes no more.
        assert accepted - client.statistics().sent_messages == 3
        assert client.statistics().backlog_bytes == 900
        for _ in range(accepted):
            assert await server.receive() == message
        await trio.testing.wait_all_tasks_blocked()
        assert client.statistics().backlog_bytes == 0
        assert client.send_nowait(message)


async def test_backlog_counts_bytes_not_characters(autojump_clock):
    async with socket_pair(SocketLimits(backlog_bytes=10)) as (client, _):
        assert not client.send_nowait("☎☎☎☎")
        assert client.send_nowait("☎☎☎")


async def test_a_cancelled_receive_loses_no_message(autojump_clock):
    async with socket_pair() as (client, server):
        with trio.move_on_after(1) as scope:
            await server.receive()
        assert scope.cancelled_caught
        client.send_nowait("a")
        assert await server.receive() == "a"


async def test_a_cancelled_ping_leaves_the_socket_whole(autojump_clock):
    async with socket_pair() as (client, server):
        for _ in range(10):
            with trio.CancelScope() as scope:
                scope.cancel()
                await client.ping()
        client.send_nowait("a")
        assert await server.receive() == "a"
        await client.ping()


async def test_a_cancelled_aclose_drops_the_socket(autojump_clock):
    async with socket_pair() as (client, server):
        with trio.CancelScope() as scope:
            scope.cancel()
            await client.aclose()
        for transport in (server, client):
            with pytest.raises(TransportClosed):
                await transport.receive()


async def test_cancelling_the_nursery_leaves_no_task_behind(autojump_clock):
    before = living_tasks()
    for _ in range(20):
        async with socket_pair() as (client, server):
            client.send_nowait("a")
            await server.receive()
    await trio.testing.wait_all_tasks_blocked()
    assert living_tasks() == before


async def test_a_cancelled_nursery_is_an_end_of_ours(autojump_clock):
    async with socket_pair() as (client, _):
        pass
    with pytest.raises(TransportClosed) as caught:
        await client.receive()
    assert (caught.value.code, caught.value.by_peer) == (None, False)
    assert not client.send_nowait("x")


async def test_a_closed_socket_has_no_task_although_its_nursery_lives(autojump_clock):
    async with socket_pair() as (client, server):
        with_tasks = living_tasks()
        await client.aclose()
        with pytest.raises(TransportClosed):
            await server.receive()
        await trio.testing.wait_all_tasks_blocked()
        assert living_tasks() < with_tasks


async def test_an_oversize_message_ends_the_socket_with_1009_on_both_ends(autojump_clock):
    async with socket_pair(server_limits=SocketLimits(message_bytes=1000)) as (client, server):
        client.send_nowait("x" * 1000)
        assert len(await server.receive()) == 1000
        client.send_nowait("x" * 1001)
        client.send_nowait("y" * 5000)
        with pytest.raises(TransportClosed) as caught:
            await server.receive()
        assert (caught.value.code, caught.value.by_peer) == (1009, False)
        with pytest.raises(TransportClosed) as caught:
            await client.receive()
        assert (caught.value.code, caught.value.by_peer) == (1009, True)


async def test_abort_after_the_peers_close_hides_neither_its_last_words_nor_its_reason(autojump_clock):
    """A writer finds the socket ended before the reader has read on: aborting must not rewrite history."""
    async with socket_pair() as (client, server), trio.open_nursery() as nursery:
        server.send_nowait("last words")
        nursery.start_soon(server.aclose, 1011, "restart")
        await trio.testing.wait_all_tasks_blocked()
        assert not client.send_nowait("too late")
        client.abort()
        assert await client.receive() == "last words"
        with pytest.raises(TransportClosed) as caught:
            await client.receive()
        assert (caught.value.code, caught.value.reason, caught.value.by_peer) == (1011, "restart", True)
