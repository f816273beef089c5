"""A tool that ends "the process" ends only itself."""

from __future__ import annotations

import os
import threading
from collections.abc import Callable
from typing import Any

import pytest
import trio
from actors_scenes import BOOK, BOOKED, play, saying

from callrt.actors.tool_exit import guarded, install
from callrt.agents import tool


@pytest.mark.parametrize("end", [lambda: os._exit(3), lambda: os.abort()], ids=["_exit", "abort"])
def test_tool_thread_cannot_end_the_process(end: Callable[[], None]) -> None:
    install()
    seen: list[BaseException] = []

    def work() -> None:
        try:
            with guarded():
                end()
        except BaseException as error:
            seen.append(error)

    thread = threading.Thread(target=work)
    thread.start()
    thread.join()
    assert [type(error) for error in seen] == [SystemExit]


async def test_tool_that_exits_is_an_error_the_agent_can_speak_about(autojump_clock: Any) -> None:
    @tool
    def book(day: str) -> str:
        """Book."""
        raise SystemExit(3)

    scene = await play(caller=saying(BOOK), tools={"book": book})
    assert [(use.name, use.status) for use in scene.state.tools] == [("book", "error")]
    assert scene.transcript()[-1] == ("agent", BOOKED)


async def test_tool_that_takes_long_is_bridged_by_its_filler(autojump_clock: Any) -> None:
    @tool(filler="Let me look that up.", timeout=8)
    async def book(day: str) -> str:
        """Book."""
        await trio.sleep(4)
        return "booked"

    scene = await play(caller=saying(BOOK, silence=4.0), tools={"book": book})
    agent = [text for role, text in scene.transcript() if role == "agent"]
    assert agent[1:] == ["Let me look that up.", BOOKED]
    assert [(use.name, use.status) for use in scene.state.tools] == [("book", "ok")]
