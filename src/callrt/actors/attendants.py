"""What a process does beside its calls: it says that it lives, looks after its leases and after calls that nobody
carries, and forgets what is old. Each fails and restarts alone; their failures cost no call."""

from __future__ import annotations

import math
from collections.abc import Awaitable, Callable, Mapping
from functools import partial
from typing import Any

import trio

from callrt.actors.call import Call
from callrt.actors.leases import LeaseWatch
from callrt.actors.peers import Peers
from callrt.actors.ports import CallPorts
from callrt.actors.retention import Retention
from callrt.actors.sweeper import Sweeper
from callrt.policy.settings import Resilience
from callrt.supervision import Backoff, ChildSpec, Supervisor


class Attendants:
    def __init__(
        self,
        ports: CallPorts,
        resilience: Resilience,
        calls: Mapping[str, Call],
        *,
        keep_seconds: float = math.inf,
    ) -> None:
        """``calls``: this process's, as they come and go."""
        self.peers = Peers(ports.journal)
        self._rng = ports.rng("attendants")
        leases = LeaseWatch(ports.journal, lambda: list(calls.values()))
        self.sweeper = Sweeper(
            ports.journal,
            ports.rest,
            self.peers,
            resilience,
            here=calls.__contains__,
            now=ports.now,
            report=ports.report,
            observe=ports.observe,
        )
        retention = Retention(ports.journal, ports.now, keep_seconds)
        self._tasks: dict[str, Callable[[], Awaitable[None]]] = {
            "pulse": ports.pulse.run,
            "peers": self.peers.run,
            "leases": leases.run,
            "sweeper": self.sweeper.run,
            "retention": retention.run,
        }

    async def run(self, ctx: Any) -> None:
        """Until cancelled."""
        again = Backoff(min=1.0, cap=60.0)
        supervisor = Supervisor(
            [ChildSpec(name, partial(_start, run), backoff=again) for name, run in self._tasks.items()],
            strategy="one_for_one",
            max_restarts=60,
            period=60.0,
            name="attendants",
            rng=self._rng,
        )
        await supervisor.run(ctx)


async def _start(run: Callable[[], Awaitable[None]], ctx: Any, *, task_status: trio.TaskStatus[None]) -> None:
    task_status.started()
    await run()
