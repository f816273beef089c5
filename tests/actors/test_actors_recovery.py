"""G3 and G5 together: the process dies at each stage of a tool. No side effect runs twice, and the model is told
what is known, once."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import attrs
import pytest
import trio
import trio.lowlevel
from actors_scenes import AGENT, BOOK, BOOKED, GREETING, Scene, saying, voice

from callrt.agents import CallContext, tool
from callrt.journal import MemoryStore
from callrt.journal.store import Append, Outcome, Write
from callrt.testing.carrier import Habits
from callrt.testing.model_brain import Answer, Calling, ScriptBrain, Turn, item_text
from callrt.testing.model_core import ModelOptions
from callrt.testing.model_server import EmulatedModel
from callrt.testing.world import World, open_world

AGAIN = "may be called again"
CALLING = Calling("book", '{"day": "Tuesday"}')
HABITS = Habits(webhook_attempts=60, webhook_retry_seconds=0.1)
DOWN_SECONDS = 0.4


class Clinic(ScriptBrain):
    """Calls the tool again when it is told that it may."""

    def answer(
        self, history: Sequence[dict[str, Any]], instructions: str, speak_exactly: str | None
    ) -> Answer:
        last = history[-1] if history else {}
        if last.get("type") == "function_call_output" and AGAIN in last["output"]:
            return Answer((CALLING,))
        return super().answer(history, instructions, speak_exactly)


def brain(times: int = 1) -> Clinic:
    return Clinic([Turn(BOOK, voice(BOOK), BOOKED, tool=CALLING)] * times, lines=[GREETING])


@attrs.define(eq=False)
class DeadlyDisk(MemoryStore):
    """Kills the process that writes the first record of a kind, before or after it is written."""

    kind: str = ""
    before: bool = False
    kill: Callable[[], None] = lambda: None

    def __attrs_post_init__(self) -> None:
        MemoryStore.__init__(self)

    def commit(self, writes: Sequence[Write]) -> list[Outcome]:
        struck = [w for w in writes if isinstance(w, Append) and w.kind == self.kind]
        if not struck or not self.kind:
            return super().commit(writes)
        self.kind = ""
        if self.before:
            self.kill()
            return []  # nobody is there to read it
        done = super().commit(writes)
        self.kill()
        return done


@attrs.define(eq=False)
class Bookings:
    """The world that the tool changes."""

    done: list[str] = attrs.field(factory=list)
    resolved: list[str] = attrs.field(factory=list)
    during: Callable[[], None] = lambda: None
    """At ``strike``: before or after the effect."""
    strike: str = ""

    def tool(self, *, resolve: bool) -> Any:
        async def asked(key: str) -> str:
            await trio.sleep(0.2)
            self.resolved.append(key)
            if key not in self.done:
                raise LookupError(key)
            return "booked"

        @tool(side_effects=True, resolve=asked if resolve else None)
        async def book(day: str, call: CallContext) -> str:
            """Book."""
            await trio.sleep(0.3)
            self._struck("before")
            await trio.lowlevel.checkpoint()
            self.done.append(call.idempotency_key)
            self._struck("after")
            await trio.sleep(0.3)
            return "booked"

        return book

    def _struck(self, where: str) -> None:
        if self.strike == where:
            self.strike = ""
            self.during()


STAGES = ["before intent", "after intent", "before effect", "after effect", "before result", "after result"]


async def call_struck_at(stage: str, *, resolve: bool, times: int = 1) -> tuple[Scene, Bookings]:
    disk, bookings = DeadlyDisk(), Bookings()
    when, what = stage.split()
    # Words first: what is struck here is the tool, not the quarter of a second of words before it.
    model = EmulatedModel(brain(times), options=ModelOptions(transcription="before"))
    with trio.fail_after(300):
        async with open_world(
            model, agent=AGENT, disk=disk, tools={"book": bookings.tool(resolve=resolve)}
        ) as world:

            def kill() -> None:
                world.process.kill()
                world.nursery.start_soon(_succeed, world)

            if what == "effect":
                bookings.strike, bookings.during = when, kill
            else:
                disk.kind = "tool_intended" if what == "intent" else "tool_finished"
                disk.before, disk.kill = when == "before", kill
            call = world.carrier.place(saying(*[BOOK] * times, silence=4.0), habits=HABITS)
            await call.run()
        state = await world.state(call.call_sid)
    assert len(world.processes) == 2, "it was struck"
    return Scene(world, call, model, state, 0.0), bookings


async def _succeed(world: World) -> None:
    await trio.sleep(DOWN_SECONDS)
    await world.boot()


def outputs_told(scene: Scene) -> list[str]:
    """What every session after the first was told of the tool's outcome, in order."""
    return [
        told.event["item"]["output"]
        for session in scene.model.sessions[1:]
        for told in session.told
        if told.event.get("item", {}).get("type") == "function_call_output"
    ]


@pytest.mark.parametrize("resolve", [False, True])
@pytest.mark.parametrize("stage", STAGES)
async def test_tool_of_a_killed_process_runs_at_most_once_and_has_one_end(
    stage: str, resolve: bool, autojump_clock: Any
) -> None:
    scene, bookings = await call_struck_at(stage, resolve=resolve)
    assert scene.state.outcome == "caller_hung_up"
    assert len(bookings.done) <= 1
    assert all(use.status is not None for use in scene.state.tools)
    assert BOOKED in scene.agent_words()
    statuses = [use.status for use in scene.state.tools]
    if resolve or stage in ("before intent", "after result"):
        assert "ok" in statuses
        assert len(bookings.done) == 1, "it is known what happened, so it has happened once"
    else:
        assert statuses == ["unknown"]
        told = outputs_told(scene)
        assert len(told) == 1
        assert "not known" in told[0]


@pytest.mark.parametrize("stage", STAGES)
async def test_model_is_told_each_outcome_once_after_a_kill(stage: str, autojump_clock: Any) -> None:
    scene, _ = await call_struck_at(stage, resolve=True)
    calls = [
        told.event["item"]["call_id"]
        for session in scene.model.sessions[1:]
        for told in session.told
        if told.event.get("item", {}).get("type") == "function_call_output"
    ]
    assert len(calls) == len(set(calls))
    said = [item_text(item.as_known()) for session in scene.model.sessions for item in session.spoken]
    assert sum(BOOKED in line for line in said) <= 1 + (stage == "after result")


@pytest.mark.parametrize("stage", ["after effect", "after result"])
async def test_same_wish_in_a_later_turn_of_a_resumed_call_is_a_new_one(
    stage: str, autojump_clock: Any
) -> None:
    scene, bookings = await call_struck_at(stage, resolve=True, times=2)
    assert len(bookings.done) == 2
    assert len(set(bookings.done)) == 2, "each request has its own key"
    assert [use.status for use in scene.state.tools if use.status == "ok"] == ["ok", "ok"]
