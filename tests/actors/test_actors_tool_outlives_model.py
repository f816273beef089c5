"""A tool that still runs when the model's session is lost: its output reaches the next session."""

from __future__ import annotations

from typing import Any

import pytest
import trio
from actors_scenes import ANSWER, BOOK, BOOKED, GREETING, HOURS, Scene, play, saying, voice

from callrt.agents import tool
from callrt.testing.model_brain import Calling, ScriptBrain, Turn
from callrt.testing.model_faults import Fault, Trigger

LEAD_IN = "One moment, let me look."
AFTER_THE_REQUEST = Trigger(connection=1, event="response.done", count=2)


def booking(before_tool: str) -> ScriptBrain:
    book = Calling("book", '{"day": "Tuesday"}')
    turns = [
        Turn(BOOK, voice(BOOK), BOOKED, tool=book, before_tool=before_tool),
        Turn(HOURS, voice(HOURS), ANSWER),
    ]
    return ScriptBrain(turns, lines=[GREETING, LEAD_IN])


def tool_items(scene: Scene, session: int) -> list[tuple[str, str]]:
    items = [t.event["item"] for t in scene.model.sessions[session - 1].told if "item" in t.event]
    return [(i["type"], i["call_id"]) for i in items if i["type"].startswith("function_call")]


@pytest.mark.parametrize("seconds", [0.01, 0.2, 4.0])
@pytest.mark.parametrize("side_effects", [False, True])
@pytest.mark.parametrize("before_tool", ["", LEAD_IN])
async def test_tool_that_outlives_its_model_session_is_told_to_the_next(
    before_tool: str, side_effects: bool, seconds: float, autojump_clock: Any
) -> None:
    runs = []

    @tool(side_effects=side_effects)
    async def book(day: str) -> str:
        """Book."""
        runs.append(day)
        await trio.sleep(seconds)
        return "booked"

    scene = await play(
        Fault("close", AFTER_THE_REQUEST),
        caller=saying(BOOK, silence=6.0),
        tools={"book": book},
        brain=booking(before_tool),
    )
    assert runs == ["Tuesday"]
    assert [(use.name, use.status) for use in scene.state.tools] == [("book", "ok")]
    call_id = scene.state.tools[0].call_id
    assert tool_items(scene, 2) == [("function_call", call_id), ("function_call_output", call_id)]
    assert scene.requests(2) == 1
    assert scene.transcript()[-1] == ("agent", BOOKED)
    assert scene.agent_words() == " ".join(filter(None, (GREETING, before_tool, BOOKED)))


async def test_caller_who_speaks_while_a_tool_of_a_lost_session_runs_is_answered(autojump_clock: Any) -> None:
    @tool
    async def book(day: str) -> str:
        """Book."""
        await trio.sleep(9.0)
        return "booked"

    scene = await play(
        Fault("close", AFTER_THE_REQUEST),
        caller=saying(BOOK, HOURS, silence=4.0),
        tools={"book": book},
        brain=booking(LEAD_IN),
    )
    assert [(use.name, use.status) for use in scene.state.tools] == [("book", "ok")]
    call_id = scene.state.tools[0].call_id
    assert tool_items(scene, 2) == [("function_call", call_id), ("function_call_output", call_id)]
    assert ("agent", ANSWER) in scene.transcript()
