"""G11 with real processes: the successor starts, the old one gets SIGTERM, calls are placed all the while."""

from __future__ import annotations

import fcntl
import signal
import socket
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import trio
from crash_rig import Rig, open_rig
from test_crash_process import effects_wrong, heard_wrong, tools_undone, transcript_wrong

CALLS = 10
EVERY_SECONDS = 0.7


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


async def test_deploy_refuses_no_webhook_and_cuts_off_no_call(tmp_path: Path) -> None:
    async with open_rig(tmp_path, CALLS, drain_seconds=30) as rig:
        with listening(rig.server.port, rig.admin_port) as (public, admin):
            rig.server.shared = (public, admin)
            old = await rig.server.start()
            statuses: list[int] = []

            async def place(number: int) -> None:
                await trio.sleep(number * EVERY_SECONDS)
                await rig.place(number, attempts=1).call.run()

            async def deploy() -> None:
                await trio.sleep(2 * EVERY_SECONDS)
                await rig.server.start()
                await trio.sleep(2)
                old.send_signal(signal.SIGTERM)
                statuses.append(await old.wait())

            with trio.fail_after(120):
                async with trio.open_nursery() as nursery:
                    nursery.start_soon(deploy)
                    for number in range(CALLS):
                        nursery.start_soon(place, number)
            await rig.wait_outcomes()
            told = [f"call {n}: {why}" for n in range(CALLS) for why in judge(rig, n)]
            moves = sum(
                stream.reason == "moved"
                for visit in rig.visits.values()
                for stream in rig.state(visit.call.call_sid).streams
            )
            log = rig.server.log()
    assert not told, "\n".join([*told, log])
    assert statuses == [0]
    assert moves, "calls were under way, and moved"


def judge(rig: Rig, number: int) -> list[str]:
    visit = rig.visits[number]
    state = rig.state(visit.call.call_sid)
    wrong = [
        *heard_wrong(visit),
        *transcript_wrong(state),
        *effects_wrong(visit, state, rig.effects(visit.call.call_sid)),
        *tools_undone(state),
    ]
    failed = [(r.kind, r.status) for r in visit.call.requests if r.status != 200]
    if failed:
        wrong.append(f"webhooks failed: {failed}")
    if visit.call.end_reason != "caller_hung_up" or state.outcome != "caller_hung_up":
        wrong.append(f"ended with {visit.call.end_reason}, {state.outcome}")
    if any(use.status != "ok" for use in state.tools):
        wrong.append(f"tools {[use.status for use in state.tools]}")
    return wrong
