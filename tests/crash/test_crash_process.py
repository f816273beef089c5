"""G3 with real processes: kill -9 at instants spread over a whole call; the successor goes on with it.

``make crash`` runs 200 instants (``CALLRT_CRASH_INSTANTS``), ``make test`` a sample of them.
"""

from __future__ import annotations

import random
from collections.abc import Callable
from pathlib import Path

import attrs
import pytest
from crash_rig import WHOLE, Rig, Visit, environment_number, lacking, open_rig, run_calls

from callrt.protocol.call_state import CallState
from callrt.testing.model_brain import words_of
from callrt.testing.model_voice import BeepVoice

INSTANTS = environment_number("CALLRT_CRASH_INSTANTS", 5)
SEED = environment_number("CALLRT_CRASH_SEED", 1)
PER_PROCESS = 8
TOOLS = ("book", "send_address")
CALL_SECONDS = 12.5
"""An undisturbed call: no instant lies beyond it."""
ATTEMPTS = 3
"""An instant whose conversation was spoilt on a starved machine is struck again. What the journal and the tools
promise holds all the same, and what is wrong at the last attempt is wrong."""
FORGOTTEN_MS_MAX = 450
"""Of what was heard just before the kill, and never again: 250 ms of records, 200 ms at the ear. A word counts when
half of it was heard."""
REPEATED_WORDS_MAX = 4
"""250 ms of records and 200 ms at the ear may be said again, and a cut word is said from its start."""


def batches() -> list[tuple[float, ...]]:
    """Ages at which calls are struck; each batch is one process and spreads over the whole call."""
    rng = random.Random(f"crash/{SEED}")
    ages = [(n + rng.random()) * CALL_SECONDS / INSTANTS for n in range(INSTANTS)]
    count = max(1, INSTANTS // PER_PROCESS)
    return [tuple(ages[n::count]) for n in range(count)]


@attrs.frozen
class Struck:
    """What the calls of one process broke, by the instant at which it was killed."""

    promises: dict[float, list[str]]
    """Of the journal, the leases and the tools."""
    conversation: dict[float, list[str]]
    """Of what was said, heard and done about it."""
    lag: float
    starved: bool

    def told(self) -> str:
        found = [f"{age:.3f} s: {why}" for age, all_of in self.promises.items() for why in all_of]
        found += [f"{age:.3f} s: {why}" for age, all_of in self.conversation.items() for why in all_of]
        return "\n".join([f"lag {self.lag:.2f} s", *found])


@pytest.mark.parametrize("ages", batches(), ids=lambda ages: f"{ages[0]:.2f}s")
async def test_kill_9_at_any_instant_loses_nothing_that_matters(
    ages: tuple[float, ...], tmp_path: Path, record_property: Callable[[str, object], None]
) -> None:
    record_property("instants", len(ages))
    for attempt in range(1, ATTEMPTS + 1):
        (folder := tmp_path / str(attempt)).mkdir()
        struck = await strike_at(ages, folder)
        assert not struck.promises, struck.told()
        if not struck.conversation:
            return
        again = struck.starved and attempt < ATTEMPTS
        assert again, struck.told()
        ages = tuple(struck.conversation)
        record_property("struck_again", len(ages))


async def strike_at(ages: tuple[float, ...], folder: Path) -> Struck:
    """One process, as many calls, one kill -9: each call is struck at another instant of its life."""
    async with open_rig(folder, len(ages), seed=SEED) as rig:
        first = await rig.server.start()

        async def strike() -> None:
            await rig.server.kill(first)
            await rig.server.start()

        await run_calls(rig, ages, strike)
        by_age = {age: rig.visits[number] for number, age in enumerate(ages)}
        promises = {age: broken_promises(rig, visit) for age, visit in by_age.items()}
        conversation = {age: broken_conversation(rig, visit) for age, visit in by_age.items()}
    return Struck(
        {age: found for age, found in promises.items() if found},
        {age: found for age, found in conversation.items() if found},
        rig.lag,
        rig.starved,
    )


def broken_promises(rig: Rig, visit: Visit) -> list[str]:
    state = rig.state(visit.call.call_sid)
    wrong = effects_wrong(visit, state, rig.effects(visit.call.call_sid))
    epochs = [stream.lease_epoch for stream in state.streams]
    if epochs != sorted(set(epochs)):
        wrong.append(f"leases {epochs}")
    if len(state.streams) > 2:
        wrong.append(f"{len(state.streams)} streams")
    return wrong


def broken_conversation(rig: Rig, visit: Visit) -> list[str]:
    state = rig.state(visit.call.call_sid)
    wrong = [*heard_wrong(visit), *transcript_wrong(state), *tools_undone(state)]
    if visit.call.end_reason != "caller_hung_up":
        wrong.append(f"the call ended with {visit.call.end_reason}")
    if state.outcome != "caller_hung_up":
        wrong.append(f"the journal says {state.outcome}")
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
    lost_ms = sum(map(spoken_ms, missing)) - sum(map(spoken_ms, [*missing[:1], *missing[-1:]])) / 2
    return [f"not in the transcript: {missing} of {words}"] if lost_ms > FORGOTTEN_MS_MAX else []


def spoken_ms(word: str) -> int:
    return BeepVoice().timed(f"{word} x")[1][0]


def effects_wrong(visit: Visit, state: CallState, effects: list[tuple[str, str]]) -> list[str]:
    wrong = []
    if len(set(effects)) < len(effects):
        wrong.append(f"a request was carried out twice: {effects}")
    for name in TOOLS:
        uses = [use for use in state.tools if use.name == name]
        ran = [key for tool, key in effects if tool == name]
        if len(ran) > 1 and visit.asked == 2:
            wrong.append(f"{name} ran {len(ran)} times for one question")
        if not set(ran) <= {use.idempotency_key for use in uses}:
            wrong.append(f"{name} ran without an intent in the journal")
        if any(use.status == "ok" and use.idempotency_key not in ran for use in uses):
            wrong.append(f"{name} is ok and never ran")
    return wrong


def tools_undone(state: CallState) -> list[str]:
    wrong = []
    for name in TOOLS:
        ends = [use.status for use in state.tools if use.name == name]
        if None in ends:
            wrong.append(f"{name} has no end")
        if not {"ok", "unknown"} & set(ends):
            wrong.append(f"{name} was never done: {ends}")
    return wrong
