"""A busy tree, run under seeds; prints one digest of steps and one of reports per seed. Run in several processes
with different hash seeds, every line must be equal: ``python supervision_probe.py FIRST COUNT CHILDREN``."""

from __future__ import annotations

import hashlib
import sys
from typing import Any

import trio

from callrt.supervision import AskError, Backoff, ChildSpec, DynamicSupervisor, Supervisor
from callrt.supervision.determinism import StepTrace, simulate


async def tree(children: int, reports: list[str]) -> None:
    def hook(report: Any) -> None:
        reports.append(f"{type(report).__name__} {report.where} {report.incarnation} {report.at!r}")

    async def actor(ctx: Any, *, task_status: trio.TaskStatus[None]) -> None:
        task_status.started()
        while True:
            try:
                reply_to = await ctx.receive(timeout=ctx.rng.uniform(0.1, 3.0))
                reply_to.reply(ctx.incarnation)
            except trio.TooSlowError:
                if ctx.rng.random() < 0.2:
                    raise ValueError("crash") from None

    backoff = Backoff(min=0.05, cap=1.0, jitter=0.5)
    inner = [
        Supervisor(
            [ChildSpec(f"{name}{n}", actor, backoff=backoff) for n in range(5)],
            strategy=strategy,  # type: ignore[arg-type]
            max_restarts=100,
        )
        for name, strategy in (("o", "one_for_one"), ("a", "one_for_all"), ("r", "rest_for_one"))
    ]
    dynamic = DynamicSupervisor(max_restarts=10**6)
    specs = [ChildSpec(f"in{n}", sup.run, kind="supervisor") for n, sup in enumerate(inner)]
    root = Supervisor([*specs, ChildSpec("many", dynamic.run, kind="supervisor")], reports=hook)

    async def client(n: int) -> None:
        for _ in range(5):
            try:
                await dynamic.ref(n).ask(lambda reply_to: reply_to, 0.5)
            except AskError:
                await trio.sleep(0.1)

    async with trio.open_nursery() as nursery:
        await nursery.start(root.run)
        for n in range(children):
            await dynamic.start_child(ChildSpec(n, actor, backoff=backoff))
        async with trio.open_nursery() as clients:
            for n in range(0, children, 3):
                clients.start_soon(client, n, name=f"client {n}")
        await trio.sleep(4)
        root.stop()


def digest(seed: int, children: int) -> str:
    reports: list[str] = []
    trace = StepTrace()
    simulate(tree, children, reports, seed=seed, instruments=[trace])
    facts = hashlib.sha256("\n".join(reports).encode()).hexdigest()
    return f"{seed} {trace.steps} {trace.digest()} {len(reports)} {facts}"


if __name__ == "__main__":
    first, count, children = (int(argument) for argument in sys.argv[1:])
    for seed in range(first, first + count):
        print(digest(seed, children))
