"""Tools' code off the loop: threads, loops of their own, processes.

Real threads and processes, but no waiting for a clock: what hangs waits for an event that the test sets at
its end."""

from __future__ import annotations

import asyncio
import contextlib
import dataclasses
import datetime
import decimal
import json
import os
import sys
import threading
from collections.abc import Callable
from pathlib import Path
from typing import Any

import msgspec
import pytest
import trio
import trio.lowlevel

from callrt.actors.tool_reaper import Abandoned, Reapable
from callrt.actors.tool_runner import InlineRunner, Job, Outcome, Progress, ThreadedRun, ThreadRunner, render
from callrt.agents import ToolFailed, load_tools, tool
from callrt.protocol.tools import CUT_NOTICE, OUTPUT_BYTES_MAX, CallFacts

FACTS = CallFacts("CA1", "+15550100001", "front-desk")


def job(function: Callable[..., Any], arguments: str = "{}", **options: Any) -> Job:
    made = tool(**options)(function)
    return Job.of(made, made.parse(arguments), FACTS, "key")


async def outcome_of(function: Callable[..., Any], **options: Any) -> Outcome:
    return await ThreadRunner().run(job(function, **options), Progress())


# -- what becomes of results ------------------------------------------------------------------------------


@dataclasses.dataclass
class Slot:
    day: datetime.date
    price: decimal.Decimal


class Struct(msgspec.Struct):
    a: int


@pytest.mark.parametrize(
    ("value", "output"),
    [
        (None, "done"),
        ("plain words", "plain words"),
        ({"a": [1, 2.5, True, None]}, '{"a": [1, 2.5, true, null]}'),
        (
            Slot(datetime.date(2026, 11, 20), decimal.Decimal("9.50")),
            '{"day": "2026-11-20", "price": "9.50"}',
        ),
        (Struct(3), '{"a": 3}'),
        ({3}, "[3]"),
        ("half \ud800", "half ?"),
        ("", ""),
    ],
)
def test_values_become_text(value: object, output: str) -> None:
    assert render(value) == output


@pytest.mark.parametrize("value", [object(), b"raw", float("nan"), {(1, 2): 3}, [[object()]], iter([])])
def test_junk_has_no_text(value: object) -> None:
    with pytest.raises((TypeError, ValueError)):
        render(value)


def test_value_that_contains_itself_has_no_text() -> None:
    circle: list[Any] = []
    circle.append(circle)
    with pytest.raises(ValueError):
        render(circle)


@pytest.mark.parametrize("value", ["é" * 10**6, ["x" * 10**6] * 5, list(range(10**6)), {"k" * 10**6: 1}])
def test_flood_is_cut_with_a_notice(value: object) -> None:
    text = render(value)
    assert len(text.encode()) <= OUTPUT_BYTES_MAX
    assert text.endswith(CUT_NOTICE)


# -- threads ----------------------------------------------------------------------------------------------


async def test_sync_tool_runs_in_another_thread() -> None:
    outcome = await outcome_of(lambda: threading.get_ident(), name="ident")
    assert int(outcome.output) != threading.get_ident()


async def test_async_tool_runs_on_a_loop_of_its_own() -> None:
    async def nap() -> list[int]:
        await trio.lowlevel.checkpoint()
        return [threading.get_ident()]

    outcome = await outcome_of(nap)
    assert json.loads(outcome.output) != [threading.get_ident()]


async def test_asyncio_tool_runs_where_it_says_so() -> None:
    async def nap() -> str:
        await asyncio.sleep(0)
        return "slept"

    assert (await outcome_of(nap, loop="asyncio")).output == "slept"
    assert (await outcome_of(nap)).error


class Odd(BaseException):
    pass


@pytest.mark.parametrize(
    ("error", "name"),
    [
        (ValueError("secret"), "ValueError"),
        (SystemExit(3), "SystemExit"),
        (KeyboardInterrupt(), "KeyboardInterrupt"),
        (GeneratorExit(), "GeneratorExit"),
        (StopIteration(), "StopIteration"),
        (Odd("secret"), "Odd"),
        (BaseExceptionGroup("secret", [SystemExit(1), ValueError("secret")]), "BaseExceptionGroup"),
        (RecursionError(), "RecursionError"),
        (MemoryError(), "MemoryError"),
    ],
)
@pytest.mark.parametrize("asynchronous", [False, True])
async def test_whatever_a_tool_raises_is_an_error(
    error: BaseException, name: str, asynchronous: bool
) -> None:
    def fails() -> str:
        raise error

    async def fails_later() -> str:
        await trio.lowlevel.checkpoint()
        raise error

    outcome = await outcome_of(fails_later if asynchronous else fails)
    assert outcome.error in (name, "RuntimeError")  # a coroutine cannot raise StopIteration
    assert "secret" not in outcome.output
    assert "secret" not in outcome.where
    assert "error" in json.loads(outcome.output)


async def test_message_meant_for_the_model_reaches_it() -> None:
    def full() -> str:
        raise ToolFailed("That day is full.")

    assert json.loads((await outcome_of(full)).output) == {"error": "That day is full."}


async def test_hanging_sync_tool_is_abandoned_at_once() -> None:
    release = threading.Event()
    runner = ThreadRunner()
    progress = Progress()
    with trio.move_on_after(0.05) as scope:
        await runner.run(job(lambda: release.wait(60), name="hang"), progress)
    assert scope.cancelled_caught
    assert progress.started
    assert runner.counters["abandoned"] == 1
    assert runner.busy() == {"hang": 1}
    release.set()


async def test_async_tool_that_blocks_its_thread_does_not_block_the_loop() -> None:
    release = threading.Event()

    async def blocks() -> bool:
        return release.wait(60)

    ticks = 0
    with trio.move_on_after(0.05):
        async with trio.open_nursery() as nursery:
            nursery.start_soon(ThreadRunner().run, job(blocks), Progress())
            while True:
                await trio.lowlevel.checkpoint()
                ticks += 1
    release.set()
    assert ticks > 10


@pytest.mark.parametrize("loop", ["trio", "asyncio"])
async def test_abandoned_async_tool_is_cancelled(loop: str) -> None:
    cleaned = threading.Event()
    begun = threading.Event()

    async def sleeps() -> None:
        begun.set()
        try:
            if loop == "trio":
                await trio.sleep_forever()
            else:
                await asyncio.Event().wait()
        finally:
            cleaned.set()

    async with trio.open_nursery() as nursery:
        nursery.start_soon(ThreadRunner().run, job(sleeps, loop=loop), Progress())
        assert await trio.to_thread.run_sync(begun.wait, 30)
        nursery.cancel_scope.cancel()
    assert await trio.to_thread.run_sync(cleaned.wait, 30)


async def test_tool_that_hangs_starves_only_itself() -> None:
    release = threading.Event()
    runner = ThreadRunner(threads_per_tool=2)
    hang = job(lambda: release.wait(60), name="hang")
    for _ in range(2):
        with trio.move_on_after(0.02):
            await runner.run(hang, Progress())
    progress = Progress()
    with trio.move_on_after(0.02):
        await runner.run(hang, progress)
    assert not progress.started
    assert runner.counters["never_started"] == 1
    assert (await runner.run(job(lambda: "fine", name="other"), Progress())).output == "fine"
    release.set()


async def until_idle(runner: ThreadRunner) -> None:
    with trio.fail_after(30):
        while any(runner.busy().values()):
            await trio.lowlevel.checkpoint()


def spins() -> None:
    while True:
        pass


async def spins_on_its_loop() -> None:
    while True:
        pass


def spins_stubbornly() -> None:
    for _ in range(3):
        with contextlib.suppress(BaseException):
            spins()


@pytest.mark.parametrize("function", [spins, spins_on_its_loop, spins_stubbornly])
async def test_abandoned_tool_that_spins_is_ended(function: Callable[..., Any]) -> None:
    runner = ThreadRunner()
    with trio.move_on_after(0.02):
        await runner.run(job(function), Progress())
    await until_idle(runner)
    assert runner.counters["interrupted"] >= 1
    # The thread is fit for the next tool, and nothing hits that one.
    for _ in range(20):
        assert (
            await runner.run(job(lambda: sum(range(10_000)), name="other"), Progress())
        ).output == "49995000"


async def test_abandoned_tool_that_waits_comes_to_its_own_end() -> None:
    release, ended = threading.Event(), threading.Event()

    def waits() -> None:
        release.wait(60)
        ended.set()

    runner = ThreadRunner()
    with trio.move_on_after(0.02):
        await runner.run(job(waits), Progress())
    with trio.move_on_after(0.02):
        await runner.run(job(spins), Progress())
    with trio.fail_after(30):
        while runner.busy()["spins"]:
            await trio.lowlevel.checkpoint()
    assert runner.busy()["waits"] == 1
    release.set()
    assert await trio.to_thread.run_sync(ended.wait, 30)


async def test_run_given_up_before_it_began_never_begins() -> None:
    begun: list[int] = []
    progress = Progress()
    run = ThreadedRun(job(lambda: begun.append(1), name="begins"), progress)
    run.give_up()
    outcome = await trio.to_thread.run_sync(run.in_thread)
    assert (outcome.started, progress.started, begun) == (False, False, [])


@pytest.mark.parametrize("loop", ["trio", "asyncio"])
async def test_run_given_up_before_its_loop_stood_is_cancelled_all_the_same(loop: str) -> None:
    def begins() -> Any:
        run.give_up()
        return trio_forever() if loop == "trio" else asyncio.Event().wait()

    run = ThreadedRun(job(begins, loop=loop), Progress())
    with trio.fail_after(30):
        await trio.to_thread.run_sync(run.in_thread, abandon_on_cancel=True)


def test_interrupt_hits_its_run_and_nothing_after_it() -> None:
    escaped: list[int] = []
    forced: list[int] = []
    current: list[Reapable] = []
    done = threading.Event()

    def work_on() -> None:
        n = 0
        # On a busy machine the interrupter seldom gets its turn: until it has had one.
        while n < 400 or not (forced or escaped):
            n += 1
            run = Reapable()
            current[:] = [run]
            try:
                run.guard(lambda: sum(range(3000)), lambda: forced.append(1))
                sum(range(3000))
            except Abandoned:
                escaped.append(n)
        done.set()

    thread = threading.Thread(target=work_on)
    thread.start()
    last = None
    while not done.is_set():
        if current and current[0] is not last:
            last = current[0]
            last.interrupt()
    thread.join()
    assert escaped == []
    assert forced


async def test_inline_runner_keeps_virtual_time(autojump_clock: trio.testing.MockClock) -> None:
    async def slow() -> str:
        await trio.sleep(3600)
        return "done at last"

    assert (await InlineRunner().run(job(slow), Progress())).output == "done at last"
    assert trio.current_time() >= 3600


async def test_inline_runner_turns_errors_into_outcomes_and_honours_cancellation() -> None:
    async def fails() -> None:
        raise SystemExit

    assert (await InlineRunner().run(job(fails), Progress())).error == "SystemExit"
    with trio.CancelScope() as scope:
        scope.cancel()
        await InlineRunner().run(job(trio_forever), Progress())
    assert scope.cancelled_caught


async def trio_forever() -> None:
    await trio.sleep_forever()


# -- processes --------------------------------------------------------------------------------------------

KILLABLE = """
import os, sys
from callrt import tool, CallContext, ToolFailed

@tool(killable=True)
def add(a: int, b: int, ctx: CallContext) -> dict:
    print("noise on stdout")
    return {"sum": a + b, "key": ctx.idempotency_key, "pid": os.getpid(), "who": [ctx.call_sid, ctx.caller, ctx.agent]}

@tool(killable=True)
def leaves() -> str:
    os._exit(7)

@tool(killable=True)
def fails() -> str:
    raise ToolFailed("Not today.")

@tool(killable=True)
def floods() -> str:
    return "\\u0001" * 1_000_000

@tool(killable=True)
def hangs(pid_file: str) -> str:
    with open(pid_file, "w") as f:
        f.write(str(os.getpid()))
    while True:
        pass
"""


@pytest.fixture(scope="module")
def killable(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Any]:
    folder = tmp_path_factory.mktemp("killable")
    (folder / "killable_tools.py").write_text(KILLABLE)
    before = list(sys.path)
    tools = load_tools(
        [f"killable_tools:{name}" for name in ("add", "leaves", "fails", "floods", "hangs")], folder
    )
    sys.path[:] = before
    return {made.name: made for made in tools}


async def in_process(made: Any, arguments: str = "{}") -> Outcome:
    return await ThreadRunner().run(Job.of(made, made.parse(arguments), FACTS, "key"), Progress())


async def test_killable_tool_runs_in_a_process_of_its_own(killable: dict[str, Any]) -> None:
    result = json.loads((await in_process(killable["add"], '{"a": 2, "b": 3}')).output)
    assert (result["sum"], result["key"]) == (5, "key")
    assert result["who"] == ["CA1", "+15550100001", "front-desk"]
    assert result["pid"] != os.getpid()


async def test_tool_that_ends_its_process_is_an_error(killable: dict[str, Any]) -> None:
    outcome = await in_process(killable["leaves"])
    assert outcome.error == "process ended"
    assert "without an answer" in outcome.output


async def test_killable_tool_fails_and_floods_like_any_other(killable: dict[str, Any]) -> None:
    assert json.loads((await in_process(killable["fails"])).output) == {"error": "Not today."}
    flood = await in_process(killable["floods"])
    assert flood.output.endswith(CUT_NOTICE)
    assert len(flood.output.encode()) <= OUTPUT_BYTES_MAX


async def test_hanging_killable_tool_is_killed(killable: dict[str, Any], tmp_path: Path) -> None:
    pid_file = tmp_path / "pid"
    os.mkfifo(pid_file)
    async with trio.open_nursery() as nursery:
        nursery.start_soon(in_process, killable["hangs"], json.dumps({"pid_file": str(pid_file)}))
        pid = int(await trio.to_thread.run_sync(pid_file.read_text))
        nursery.cancel_scope.cancel()
    with pytest.raises(ProcessLookupError):
        os.kill(pid, 0)


async def test_killable_tool_without_a_configuration_cannot_start() -> None:
    progress = Progress()
    outcome = await ThreadRunner().run(job(lambda: "x", name="x", killable=True), progress)
    assert not outcome.started
    assert not progress.started
