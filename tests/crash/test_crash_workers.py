"""G3 with several workers: kill -9 of one of them; its calls go on in another, and the others' are not touched."""

from __future__ import annotations

import os
import random
import signal
from collections.abc import Callable
from pathlib import Path

import httpx
import pytest
from crash_rig import Rig, environment_number, open_rig, run_calls
from test_crash_process import (
    ATTEMPTS,
    CALL_SECONDS,
    PER_PROCESS,
    SEED,
    Struck,
    broken_conversation,
    broken_promises,
)

INSTANTS = environment_number("CALLRT_CRASH_INSTANTS", 4) // 5 or 4
"""A fifth of those at which a whole service is killed: what differs is who takes the calls up."""


def batches() -> list[tuple[float, ...]]:
    rng = random.Random(f"workers/{SEED}")
    ages = [(n + rng.random()) * CALL_SECONDS / INSTANTS for n in range(INSTANTS)]
    count = max(1, INSTANTS // PER_PROCESS)
    return [tuple(ages[n::count]) for n in range(count)]


@pytest.mark.parametrize("ages", batches(), ids=lambda ages: f"{ages[0]:.2f}s")
async def test_worker_killed_at_any_instant_loses_nothing_that_matters(
    ages: tuple[float, ...], tmp_path: Path, record_property: Callable[[str, object], None]
) -> None:
    record_property("instants", len(ages))
    for attempt in range(1, ATTEMPTS + 1):
        (folder := tmp_path / str(attempt)).mkdir()
        struck = await strike_one_worker(ages, folder)
        assert not struck.promises, struck.told()
        if not struck.conversation:
            return
        assert struck.starved, struck.told()
        assert attempt < ATTEMPTS, struck.told()
        record_property("struck_again", len(ages))


async def strike_one_worker(ages: tuple[float, ...], folder: Path) -> Struck:
    async with open_rig(folder, len(ages), seed=SEED) as rig:
        rig.server.arguments = ("--workers", "2")
        await rig.server.start()
        hit: set[str] = set()

        async def strike() -> None:
            async with httpx.AsyncClient(
                base_url=f"http://127.0.0.1:{rig.admin_port}", trust_env=False
            ) as client:
                [first, _] = (await client.get("/workers")).json()["workers"]
                calls = (await client.get("/calls")).json()["calls"]
            hit.update(call["call_sid"] for call in calls if call["worker"] == first["worker"])
            os.kill(first["pid"], signal.SIGKILL)

        await run_calls(rig, ages, strike)
        by_age = {age: rig.visits[number] for number, age in enumerate(ages)}
        promises = {
            age: broken_promises(rig, visit) + touched(rig, visit.call.call_sid, hit)
            for age, visit in by_age.items()
        }
        conversation = {age: broken_conversation(rig, visit) for age, visit in by_age.items()}
        assert hit, "half of the calls were the killed worker's"
        assert len(hit) < len(ages)
    return Struck(
        {age: found for age, found in promises.items() if found},
        {age: found for age, found in conversation.items() if found},
        rig.lag,
        rig.starved,
    )


def touched(rig: Rig, call_sid: str, hit: set[str]) -> list[str]:
    """What a call of the other worker's noticed."""
    streams = len(rig.state(call_sid).streams)
    return (
        [f"{streams} streams, and its worker was not killed"] if call_sid not in hit and streams > 1 else []
    )
