"""G11 with real processes: the successor starts, the old one gets SIGTERM, calls are placed all the while."""

from __future__ import annotations

import fcntl
import signal
import socket
from collections.abc import Awaitable, Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

import attrs
import pytest
import trio
from crash_proxy import Proxy
from crash_rig import Rig, open_rig
from test_crash_process import ATTEMPTS, effects_wrong, heard_wrong, tools_undone, transcript_wrong

from callrt.testing.ports import free_ports

CALLS = 10
EVERY_SECONDS = 0.7
FINDS_SUCCESSOR_SECONDS = 2.0

Start = Callable[[], Awaitable[trio.Process]]


@attrs.define
class Deployed:
    """``broken``: whatever the machine does. ``conversation``: what a starved one may spoil."""

    broken: list[str] = attrs.field(factory=list)
    conversation: list[str] = attrs.field(factory=list)
    starved: bool = False


@contextmanager
def listening(*ports: int) -> Iterator[tuple[int, ...]]:
    """What a process manager keeps open over any number of processes."""
    sockets = []
    for port in ports:
        sockets.append(socket.create_server(("127.0.0.1", port), backlog=128))
    high = [fcntl.fcntl(each.fileno(), fcntl.F_DUPFD, 100) for each in sockets]
    try:
        yield tuple(high)
    finally:
        for each, number in zip(sockets, high, strict=True):
            each.close()
            socket.close(number)


async def on_shared_sockets(folder: Path) -> Deployed:
    async with open_rig(folder, CALLS, drain_seconds=30) as rig:
        with listening(rig.server.port, rig.admin_port) as (public, admin):
            rig.server.shared = (public, admin)
            return await deploy(rig, rig.server.start, rig.server.start)


async def behind_a_proxy(folder: Path) -> Deployed:
    """Each process has ports of its own; what they share is the journal, and the address that carriers know."""
    async with open_rig(folder, CALLS, drain_seconds=30) as rig, trio.open_nursery() as nursery:
        ports = free_ports(4)
        known = (folder / "callrt.toml").read_text()
        for name, port, admin_port in (("old", *ports[:2]), ("new", *ports[2:])):
            own = known.replace(f"\nport = {rig.server.port}\n", f"\nport = {port}\n")
            own = own.replace(f"\nadmin_port = {rig.admin_port}\n", f"\nadmin_port = {admin_port}\n")
            assert own != known
            (folder / f"{name}.toml").write_text(own)
        proxy = Proxy(rig.server.port, (ports[0], ports[2]))
        await nursery.start(proxy.run)

        async def start(name: str, port: int) -> trio.Process:
            process = await rig.server.start(config=f"{name}.toml")
            while port not in proxy.ready:
                await trio.sleep(0.05)
            return process

        deployed = await deploy(rig, lambda: start("old", ports[0]), lambda: start("new", ports[2]))
        if proxy.refused:
            deployed.broken.append(f"{proxy.refused} connections found nobody")
        nursery.cancel_scope.cancel()
    return deployed


async def deploy(rig: Rig, start_old: Start, start_new: Start) -> Deployed:
    """Calls come one after the other; the deploy falls in their midst."""
    old = await start_old()
    deployed = Deployed()

    async def place(number: int) -> None:
        await trio.sleep(number * EVERY_SECONDS)
        await rig.place(number, attempts=1).call.run()

    async def go() -> None:
        await trio.sleep(2 * EVERY_SECONDS)
        await start_new()
        await trio.sleep(FINDS_SUCCESSOR_SECONDS)
        old.send_signal(signal.SIGTERM)
        if (status := await old.wait()) != 0:
            deployed.broken.append(f"the old process ended with {status}")

    with trio.fail_after(120):
        async with trio.open_nursery() as nursery:
            nursery.start_soon(go)
            for number in range(CALLS):
                nursery.start_soon(place, number)
    await rig.wait_outcomes()
    reasons = []
    for number, visit in sorted(rig.visits.items()):
        state = rig.state(visit.call.call_sid)
        reasons += [stream.reason for stream in state.streams]
        failed = [(r.kind, r.status) for r in visit.call.requests if r.status != 200]
        broken = [f"webhooks failed: {failed}"] if failed else []
        broken += effects_wrong(visit, state, rig.effects(visit.call.call_sid))
        spoilt = [*heard_wrong(visit), *transcript_wrong(state), *tools_undone(state)]
        if visit.call.end_reason != "caller_hung_up" or state.outcome != "caller_hung_up":
            spoilt.append(f"ended with {visit.call.end_reason}, {state.outcome}")
        if any(use.status != "ok" for use in state.tools):
            spoilt.append(f"tools {[use.status for use in state.tools]}")
        deployed.broken += [f"call {number}: {why}" for why in broken]
        deployed.conversation += [f"call {number}: {why}" for why in spoilt]
    if "moved" not in reasons:
        deployed.broken.append("no call was moved")
    if deployed.broken or deployed.conversation:
        deployed.conversation += [f"lag {rig.lag:.2f} s", rig.server.log()]
    deployed.starved = rig.starved
    return deployed


@pytest.mark.parametrize("way", [on_shared_sockets, behind_a_proxy])
async def test_deploy_refuses_no_webhook_and_cuts_off_no_call(
    way: Callable[[Path], Awaitable[Deployed]],
    tmp_path: Path,
    record_property: Callable[[str, object], None],
) -> None:
    record_property("deploys", 1)
    for attempt in range(1, ATTEMPTS + 1):
        (folder := tmp_path / str(attempt)).mkdir()
        deployed = await way(folder)
        told = "\n".join([*deployed.broken, *deployed.conversation])
        assert not deployed.broken, told
        if not deployed.conversation:
            return
        again = deployed.starved and attempt < ATTEMPTS
        assert again, told
        record_property("deployed_again", 1)
