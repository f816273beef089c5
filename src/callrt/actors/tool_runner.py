"""Where a tool's code runs: never on the loop that carries the audio.

Every tool, sync or async, runs in a worker thread; an async one gets a loop of its own there, so that even
``time.sleep`` inside ``async def`` delays nobody's speech. A killable tool runs in a process of its own.
Simulations use :class:`InlineRunner`: no threads, virtual time.

A thread cannot be killed. A run that is cancelled is *abandoned*: its result is thrown away, an async one is
cancelled from outside, one that spins is interrupted (``tool_reaper.py``), and if it had not begun it never
will. Each tool has its own bound of threads, so one that hangs for ever starves only itself.
"""

from __future__ import annotations

import asyncio
import contextlib
import inspect
import json
import threading
import traceback
from collections import Counter
from collections.abc import Callable, Coroutine
from functools import partial
from pathlib import Path
from typing import Any, Literal, Protocol, TypeVar

import attrs
import msgspec
import trio

from callrt.actors.tool_exit import guarded
from callrt.actors.tool_reaper import Reapable, Reaper
from callrt.protocol.models.events import ToolSpec
from callrt.protocol.tools import OUTPUT_BYTES_MAX, CallFacts, ToolFailed, cut, error_output

THREADS_PER_TOOL = 16
"""A tool that hangs in 16 calls at once is broken: the 17th is told that it is busy."""

T = TypeVar("T")


class ToolPort(Protocol):
    """A tool as the call's tree sees it; ``callrt.agents.Tool`` is one."""

    @property
    def name(self) -> str: ...
    @property
    def spec(self) -> ToolSpec: ...
    @property
    def timeout(self) -> float | None: ...
    @property
    def side_effects(self) -> bool: ...
    @property
    def filler(self) -> str | None: ...
    @property
    def killable(self) -> bool: ...
    @property
    def loop(self) -> Literal["trio", "asyncio"]: ...
    @property
    def origin(self) -> tuple[Path, str] | None: ...
    @property
    def resolver(self) -> Callable[[str], object] | None: ...
    def parse(self, raw: str) -> str: ...
    def invoke(self, arguments: str, call: CallFacts, key: str) -> object: ...


@attrs.frozen
class Outcome:
    """How a tool's code ended, already bounded."""

    output: str
    error: str = ""
    """"" when it returned; else the exception's type, or a short word of ours. Never its text."""
    nothing: bool = False
    """It returned None."""
    absent: bool = False
    """It raised LookupError."""
    where: str = ""
    """File and line of the failure, for the operator."""
    started: bool = True
    """False: no code of the tool's has run, nor will."""


@attrs.frozen
class Job:
    """Code to run. ``work`` may return a coroutine, which is then driven to its end."""

    tool: ToolPort
    work: Callable[[], object]
    arguments: str = ""
    call: CallFacts | None = None
    key: str = ""

    @classmethod
    def of(cls, tool: ToolPort, arguments: str, call: CallFacts, key: str) -> Job:
        return cls(tool, partial(tool.invoke, arguments, call, key), arguments, call, key)

    @classmethod
    def resolving(cls, tool: ToolPort, key: str) -> Job:
        assert tool.resolver is not None, "only a tool with a resolve can be asked"
        return cls(tool, partial(tool.resolver, key))


@attrs.define
class Progress:
    """Set by the runner while it works; the one who gives up on a job reads it."""

    started: bool = False
    """Code of the tool's may have run."""


class ToolRunner(Protocol):
    async def run(self, job: Job, progress: Progress) -> Outcome:
        """Run to the end; whatever the code does becomes an :class:`Outcome`.

        If cancelled: it may have happened when ``progress.started``; its result is thrown away.
        """
        ...


# -- results ------------------------------------------------------------------------------------------


def render(value: object) -> str:
    """A tool's value as text for the model, at most 16 kB. Raises TypeError or ValueError for what has no
    form in JSON. A flood is cut while it is encoded: nothing much larger than the limit is ever built."""
    if value is None:
        return "done"
    if isinstance(value, str):
        return cut(value)
    encoder = json.JSONEncoder(ensure_ascii=False, allow_nan=False, default=_to_builtins)
    parts: list[str] = []
    length = 0
    for part in encoder.iterencode(value):
        parts.append(part[: OUTPUT_BYTES_MAX + 1])
        length += len(parts[-1])
        if length > OUTPUT_BYTES_MAX:
            break
    return cut("".join(parts))


def _to_builtins(value: object) -> object:
    if isinstance(value, (bytes, bytearray, memoryview)):
        raise TypeError("bytes are no text")
    return msgspec.to_builtins(value, str_keys=True)


def conclude(work: Callable[[], object]) -> Outcome:
    """Run and render; whatever is raised, even SystemExit, becomes an outcome."""
    try:
        value = work()
        return Outcome(render(value), nothing=value is None)
    except BaseException as error:
        return failure(error)


def failure(error: BaseException) -> Outcome:
    text = str(error) if isinstance(error, ToolFailed) else f"The tool failed ({type(error).__name__})."
    frames = traceback.extract_tb(error.__traceback__)
    where = f"{frames[-1].filename}:{frames[-1].lineno}" if frames else ""
    return Outcome(
        error_output(text), type(error).__name__, absent=isinstance(error, LookupError), where=where
    )


# -- threads ------------------------------------------------------------------------------------------


class ThreadedRun:
    """One job in a thread: begins at most once, and not after it was given up."""

    def __init__(self, job: Job, progress: Progress) -> None:
        self.reapable = Reapable()
        self._job = job
        self._progress = progress
        self._lock = threading.Lock()
        self._given_up = False
        self._stop: Callable[[], object] | None = None

    def in_thread(self) -> Outcome:
        with self._lock:
            if self._given_up:
                return Outcome("", "abandoned", started=False)
            self._progress.started = True
        return self.reapable.guard(lambda: conclude(self._work), lambda: Outcome("", "abandoned"))

    def in_our_process(self) -> Outcome:
        """As ``in_thread``, where the process is not the tool's own to end."""
        with guarded():
            return self.in_thread()

    def _work(self) -> object:
        value = self._job.work()
        if not inspect.iscoroutine(value):
            return value
        if self._job.tool.loop == "asyncio":
            return asyncio.run(self._drive_asyncio(value))
        return trio.run(self._drive_trio, value)

    async def _drive_trio(self, coroutine: Coroutine[Any, Any, T]) -> T | None:
        scope = trio.CancelScope()
        self._arm(partial(trio.lowlevel.current_trio_token().run_sync_soon, scope.cancel))
        with scope:
            return await coroutine
        return None

    async def _drive_asyncio(self, coroutine: Coroutine[Any, Any, T]) -> T:
        task = asyncio.current_task()
        assert task is not None, "asyncio.run makes a task"
        self._arm(partial(asyncio.get_running_loop().call_soon_threadsafe, task.cancel))
        return await coroutine

    def _arm(self, stop: Callable[[], object]) -> None:
        with self._lock:
            self._stop = stop
            if not self._given_up:
                return
        stop()

    def give_up(self) -> None:
        with self._lock:
            self._given_up = True
            stop = self._stop
        if stop is not None:
            # The loop may have ended in the meantime: then there is nothing to stop.
            with contextlib.suppress(trio.RunFinishedError, RuntimeError):
                stop()


def in_this_thread(job: Job, progress: Progress) -> Outcome:
    """Run to the end here; there must be no loop in this thread."""
    return ThreadedRun(job, progress).in_thread()


class ThreadRunner:
    """The production runner; one for the whole process, so that its bounds hold for all calls together."""

    def __init__(self, threads_per_tool: int = THREADS_PER_TOOL) -> None:
        self._threads_per_tool = threads_per_tool
        self._limiters: dict[str, trio.CapacityLimiter] = {}
        self.counters: Counter[str] = Counter()
        self._reaper = Reaper(self.counters)

    async def run(self, job: Job, progress: Progress) -> Outcome:
        limiter = self._limiters.get(job.tool.name)
        if limiter is None:
            limiter = self._limiters[job.tool.name] = trio.CapacityLimiter(self._threads_per_tool)
        if job.tool.killable and job.call is not None:
            from callrt.actors.tool_process import run_in_process

            async with limiter:
                return await run_in_process(job, progress)
        run = ThreadedRun(job, progress)
        try:
            return await trio.to_thread.run_sync(run.in_our_process, limiter=limiter, abandon_on_cancel=True)
        except trio.Cancelled:
            run.give_up()
            self._reaper.watch(run.reapable)
            self.counters["abandoned" if progress.started else "never_started"] += 1
            raise

    def busy(self) -> dict[str, int]:
        """Threads in use by tool, abandoned ones included until they end."""
        return {name: int(limiter.borrowed_tokens) for name, limiter in self._limiters.items()}


class InlineRunner:
    """Runs tools on the loop itself, in virtual time: for simulations, whose tools do not block."""

    async def run(self, job: Job, progress: Progress) -> Outcome:
        progress.started = True
        try:
            value = job.work()
            if inspect.iscoroutine(value):
                value = await value
            else:
                await trio.lowlevel.checkpoint()
            return Outcome(render(value), nothing=value is None)
        except BaseException as error:
            if trio.current_effective_deadline() == -float("inf"):
                raise
            return failure(error)
