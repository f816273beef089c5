"""What supervision costs: restarts per second, and a supervised actor beside a bare Trio task.

Prints a table; real clock, one core, no arguments. Figures vary with the machine: compare, do not quote.
"""

from __future__ import annotations

import gc
import platform
import statistics
import time
import tracemalloc
from collections.abc import Awaitable, Callable
from typing import Any

import trio

from callrt.supervision import ChildSpec, DynamicSupervisor, ReplyTo, Supervisor

ACTORS = 2_000
RESTARTS = 3_000
MESSAGES = 20_000
ROUNDS = 3


async def idle(ctx: Any, *, task_status: trio.TaskStatus[None]) -> None:
    task_status.started()
    await trio.sleep_forever()


async def bare(*, task_status: trio.TaskStatus[None]) -> None:
    task_status.started()
    await trio.sleep_forever()


async def restarts_per_second() -> float:
    done = trio.Event()

    async def crash(ctx: Any, *, task_status: trio.TaskStatus[None]) -> None:
        task_status.started()
        if ctx.incarnation > RESTARTS:
            done.set()
            await trio.sleep_forever()
        raise ValueError("crash")

    sup = Supervisor([ChildSpec("a", crash)], max_restarts=10**9)
    async with trio.open_nursery() as nursery:
        began = time.perf_counter()
        await nursery.start(sup.run)
        await done.wait()
        seconds = time.perf_counter() - began
        sup.stop()
    return RESTARTS / seconds


async def supervised(start: Callable[[], None], stop: Callable[[], None]) -> None:
    sup = DynamicSupervisor()
    async with trio.open_nursery() as nursery:
        await nursery.start(sup.run)
        start()
        for n in range(ACTORS):
            await sup.start_child(ChildSpec(n, idle, "temporary"))
        stop()
        sup.stop()


async def unsupervised(start: Callable[[], None], stop: Callable[[], None]) -> None:
    async with trio.open_nursery() as nursery:
        start()
        for _ in range(ACTORS):
            await nursery.start(bare)
        stop()
        nursery.cancel_scope.cancel()


Scenario = Callable[[Callable[[], None], Callable[[], None]], Awaitable[None]]


def microseconds(scenario: Scenario) -> float:
    """Per actor: started with a handshake."""
    marks: list[float] = []
    gc.collect()
    trio.run(scenario, lambda: marks.append(time.perf_counter()), lambda: marks.append(time.perf_counter()))
    return (marks[1] - marks[0]) / ACTORS * 1e6


def kilobytes(scenario: Scenario) -> float:
    """Per actor that lives."""
    marks: list[int] = []

    def mark() -> None:
        gc.collect()
        marks.append(tracemalloc.get_traced_memory()[0])

    tracemalloc.start()
    try:
        trio.run(scenario, mark, mark)
    finally:
        tracemalloc.stop()
    return (marks[1] - marks[0]) / ACTORS / 1024


async def tells_per_second() -> float:
    done = trio.Event()

    async def count(ctx: Any, *, task_status: trio.TaskStatus[None]) -> None:
        task_status.started()
        for _ in range(MESSAGES):
            await ctx.receive()
        done.set()
        await trio.sleep_forever()

    sup = Supervisor([ChildSpec("a", count)])
    async with trio.open_nursery() as nursery:
        await nursery.start(sup.run)
        ref = sup.ref("a")
        began = time.perf_counter()
        for n in range(MESSAGES):
            ref.tell(n)
            if n % 100 == 99:
                while ref.statistics().queued:
                    await trio.lowlevel.checkpoint()
        await done.wait()
        seconds = time.perf_counter() - began
        sup.stop()
    return MESSAGES / seconds


async def asks_per_second() -> float:
    async def answer(ctx: Any, *, task_status: trio.TaskStatus[None]) -> None:
        task_status.started()
        while True:
            reply_to: ReplyTo[int] = await ctx.receive()
            reply_to.reply(1)

    sup = Supervisor([ChildSpec("a", answer)])
    async with trio.open_nursery() as nursery:
        await nursery.start(sup.run)
        ref = sup.ref("a")
        began = time.perf_counter()
        for _ in range(MESSAGES // 10):
            await ref.ask(lambda reply_to: reply_to, 1.0)
        seconds = time.perf_counter() - began
        sup.stop()
    return MESSAGES / 10 / seconds


def best(measure: Callable[[], float], higher: bool) -> float:
    values = [measure() for _ in range(ROUNDS)]
    return max(values) if higher else min(values)


def main() -> None:
    print(f"Python {platform.python_version()}, Trio {trio.__version__}; best of {ROUNDS} rounds\n")
    bare_us, actor_us = (
        best(lambda: microseconds(unsupervised), False),
        best(lambda: microseconds(supervised), False),
    )
    bare_kb, actor_kb = kilobytes(unsupervised), kilobytes(supervised)
    print(f"{'':28}{'bare Trio task':>16}{'supervised actor':>18}{'more':>10}")
    print(f"{'start with ack, µs':28}{bare_us:>16.1f}{actor_us:>18.1f}{actor_us - bare_us:>10.1f}")
    print(f"{'memory while it lives, kB':28}{bare_kb:>16.2f}{actor_kb:>18.2f}{actor_kb - bare_kb:>10.2f}\n")
    print(f"{'restarts per second':28}{best(lambda: trio.run(restarts_per_second), True):>16,.0f}")
    print(f"{'messages told per second':28}{best(lambda: trio.run(tells_per_second), True):>16,.0f}")
    print(f"{'asks answered per second':28}{best(lambda: trio.run(asks_per_second), True):>16,.0f}")
    latency = statistics.median(1e6 / trio.run(asks_per_second) for _ in range(ROUNDS))
    print(f"{'one ask and its reply, µs':28}{latency:>16.1f}")


if __name__ == "__main__":
    main()
