"""A socket that has ended is freed at once: nothing of it waits for a garbage collection, which stops all calls."""

from __future__ import annotations

import gc
from collections import Counter

import pytest
import trio
from wire_helpers import socket_pair

SOCKETS = 10


pytestmark = pytest.mark.usefixtures("no_collector")


def parts() -> Counter[str]:
    return Counter(
        kind.__qualname__
        for kind in map(type, gc.get_objects())
        if kind.__module__.startswith("callrt.wire.")
    )


async def use(how: str) -> None:
    async with socket_pair() as (client, server):
        assert client.send_nowait("there")
        assert await server.receive() == "there"
        await client.ping()
        assert server.send_nowait("and back")
        assert await client.receive() == "and back"
        if how == "close":
            async with trio.open_nursery() as nursery:
                nursery.start_soon(server.aclose)
                nursery.start_soon(client.aclose)
        elif how == "abort":
            server.abort()
            with pytest.raises(Exception, match="socket closed"):
                await client.receive()


@pytest.mark.parametrize("how", ["close", "abort", "leave"])
async def test_ended_socket_is_in_no_cycle(how: str) -> None:
    for _ in range(2):
        await use(how)
    await trio.testing.wait_all_tasks_blocked()
    before = parts()
    for _ in range(SOCKETS):
        await use(how)
    await trio.testing.wait_all_tasks_blocked()
    more = parts() - before
    assert {name: count for name, count in more.items() if count >= SOCKETS} == {}
