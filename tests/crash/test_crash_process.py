"""G3 with real processes: kill -9 at instants spread over a whole call; the successor goes on with it.

``make crash`` runs 200 instants (``CALLRT_CRASH_INSTANTS``), ``make test`` a sample of them.
"""

from __future__ import annotations

import random
from pathlib import Path

import pytest
from crash_rig import WHOLE, Rig, Visit, environment_number, lacking, open_rig, run_calls

from callrt.protocol.call_state import CallState
from callrt.testing.model_brain import words_of

INSTANTS = environment_number("CALLRT_CRASH_INSTANTS", 5)
SEED = environment_number("CALLRT_CRASH_SEED", 1)
PER_PROCESS = 8
CALL_SECONDS = 12.5
"""An undisturbed call: no instant lies beyond it."""
LAG_MAX = 0.3
"""Seconds. On a machine that starves everybody for longer, callers talk to a service that is seconds behind, and
what is heard says nothing about it; the laws of the journal and of the tools hold all the same."""
REPEATED_WORDS_MAX = 4
"""250 ms of records and 200 ms at the ear may be said again, and a cut word is said from its start."""


def batches() -> list[tuple[float, ...]]:
    """Ages at which calls are struck; each batch is one process and spreads over the whole call."""
    rng = random.Random(f"crash/{SEED}")
    ages = [(n + rng.random()) * CALL_SECONDS / INSTANTS for n in range(INSTANTS)]
    count = max(1, INSTANTS // PER_PROCESS)
    return [tuple(ages[n::count]) for n in range(count)]


@pytest.mark.parametrize("ages", batches(), ids=lambda ages: f"{ages[0]:.2f}s")
async def test_kill_9_at_any_instant_loses_nothing_that_matters(
    ages: tuple[float, ...], tmp_path: Path
) -> None:
    async with open_rig(tmp_path, len(ages), seed=SEED) as rig:
        first = await rig.server.start()

        async def strike() -> None:
            await rig.server.kill(first)
            await rig.server.start()

        await run_calls(rig, ages, strike)
        wrong = {age: found for age, found in zip(ages, findings(rig), strict=True) if found}
    told = [f"{age:.3f} s: {why}" for age, found in wrong.items() for why in found]
    assert not told, "\n".join([f"lag {rig.lag:.2f} s", *told])


def findings(rig: Rig) -> list[list[str]]:
    """Per call, in the order of ages: every law that it breaks."""
    return [judge(rig, rig.visits[number]) for number in range(len(rig.visits))]


def judge(rig: Rig, visit: Visit) -> list[str]:
    state = rig.state(visit.call.call_sid)
    timely = rig.lag <= LAG_MAX
    wrong = tools_wrong(visit, state, rig.effects(visit.call.call_sid), timely=timely)
    if timely:
        wrong += [*heard_wrong(visit), *transcript_wrong(state)]
        if visit.call.end_reason != "caller_hung_up":
            wrong.append(f"the call ended with {visit.call.end_reason}")
        if state.outcome != "caller_hung_up":
            wrong.append(f"the journal says {state.outcome}")
    epochs = [stream.lease_epoch for stream in state.streams]
    if epochs != sorted(set(epochs)):
        wrong.append(f"leases {epochs}")
    if len(state.streams) > 2:
        wrong.append(f"{len(state.streams)} streams")
    return wrong


def heard_wrong(visit: Visit) -> list[str]:
    words = visit.words()
    wrong = [f"the caller never heard {line!r}" for line in visit.missed]
    if missing := lacking(WHOLE, words):
        wrong.append(f"not heard: {missing}")
    if visit.asked == 2 and len(words) > len(WHOLE) + REPEATED_WORDS_MAX:
        wrong.append(f"heard again: {words}")
    return wrong


def transcript_wrong(state: CallState) -> list[str]:
    words = words_of(" ".join(line.text for line in state.lines if line.role == "agent"))
    missing = lacking(WHOLE, words)
    return [f"not in the transcript: {missing} of {words}"] if len(missing) > 1 else []


def tools_wrong(
    visit: Visit, state: CallState, effects: list[tuple[str, str]], *, timely: bool = True
) -> list[str]:
    wrong = []
    if len(set(effects)) < len(effects):
        wrong.append(f"a request was carried out twice: {effects}")
    for name in ("book", "send_address"):
        uses = [use for use in state.tools if use.name == name]
        ran = [key for tool, key in effects if tool == name]
        if len(ran) > 1 and visit.asked == 2:
            wrong.append(f"{name} ran {len(ran)} times for one question")
        if not set(ran) <= {use.idempotency_key for use in uses}:
            wrong.append(f"{name} ran without an intent in the journal")
        if timely and any(use.status is None for use in uses):
            wrong.append(f"{name} has no end")
        if any(use.status == "ok" and use.idempotency_key not in ran for use in uses):
            wrong.append(f"{name} is ok and never ran")
        if timely and not any(use.status in ("ok", "unknown") for use in uses):
            wrong.append(f"{name} was never done: {[use.status for use in uses]}")
    return wrong
