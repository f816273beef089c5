"""A tool that ends "the process" ends only itself."""

from __future__ import annotations

import os
import posix
import signal
import subprocess
import sys
import threading
from collections.abc import Callable
from typing import Any

import pytest
import trio
from actors_scenes import BOOK, BOOKED, play, saying

from callrt.actors.tool_exit import guarded, install
from callrt.agents import tool

NOWHERE = "/nowhere/at/all"

HARMLESS = signal.SIGURG
"""Ends nobody, should it arrive."""

ENDS: dict[str, Callable[[], object]] = {
    "_exit": lambda: os._exit(3),
    "posix._exit": lambda: posix._exit(3),
    "abort": lambda: os.abort(),
    "execv": lambda: os.execv(NOWHERE, [NOWHERE]),
    "execlp": lambda: os.execlp(NOWHERE, NOWHERE),
    "kill": lambda: os.kill(os.getpid(), HARMLESS),
    "posix.kill": lambda: posix.kill(os.getpid(), HARMLESS),
    "kill our group": lambda: os.kill(0, HARMLESS),
    "kill our parent": lambda: os.kill(os.getppid(), HARMLESS),
    "killpg": lambda: os.killpg(os.getpgrp(), HARMLESS),
    "raise_signal": lambda: signal.raise_signal(HARMLESS),
    "pthread_kill": lambda: signal.pthread_kill(threading.main_thread().ident or 0, HARMLESS),
}


def what_a_tool_raises(work: Callable[[], object]) -> list[type[BaseException]]:
    """By ``work`` in a thread that runs a tool."""
    install()
    seen: list[type[BaseException]] = []

    def tool_thread() -> None:
        with guarded():
            seen.extend(raised_by(work))

    run_in_a_thread(tool_thread)
    return seen


def raised_by(work: Callable[[], object]) -> list[type[BaseException]]:
    try:
        work()
    except BaseException as error:
        return [type(error)]
    return []


def run_in_a_thread(work: Callable[[], object]) -> None:
    thread = threading.Thread(target=work)
    thread.start()
    thread.join()


@pytest.mark.parametrize("end", ENDS.values(), ids=ENDS)
def test_tool_thread_cannot_end_the_process(end: Callable[[], None]) -> None:
    assert what_a_tool_raises(end) == [SystemExit]


def test_thread_that_a_tool_starts_cannot_end_the_process() -> None:
    seen: list[type[BaseException]] = []
    end = ENDS["kill"]

    def grandchild() -> None:
        run_in_a_thread(lambda: seen.extend(raised_by(end)))

    assert what_a_tool_raises(lambda: run_in_a_thread(grandchild)) == []
    assert seen == [SystemExit]


def test_worker_thread_that_is_older_than_the_tool_cannot_end_the_process_for_it() -> None:
    async def borrow() -> None:
        await trio.to_thread.run_sync(ENDS["kill"])

    trio.run(trio.to_thread.run_sync, lambda: None)  # leaves a thread behind, for whoever needs one next
    assert what_a_tool_raises(lambda: trio.run(borrow)) == [SystemExit]


@pytest.mark.filterwarnings("ignore:.*fork:DeprecationWarning")
def test_fork_of_a_tool_may_end_itself_and_be_ended() -> None:
    status: list[int] = []

    def work() -> None:
        started = subprocess.Popen([sys.executable, "-c", "import time; time.sleep(60)"])
        os.kill(started.pid, signal.SIGKILL)
        status.append(started.wait())
        forked = os.fork()
        if not forked:
            os._exit(7)
        status.append(os.waitstatus_to_exitcode(os.waitpid(forked, 0)[1]))

    assert what_a_tool_raises(work) == []
    assert status == [-signal.SIGKILL, 7]


def test_after_a_tool_its_thread_may_end_the_process_again() -> None:
    install()

    def work() -> None:
        with guarded():
            pass
        ENDS["kill"]()

    seen: list[type[BaseException]] = []
    run_in_a_thread(lambda: seen.extend(raised_by(work)))
    assert seen == []


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
