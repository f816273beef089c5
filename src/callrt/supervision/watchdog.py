"""For what structured concurrency cannot end: a loop that stands still, and tasks that will not go.

A thread looks at the event loop from outside. A round of the scheduler that takes longer than ``stall_seconds``
is reported with the stacks of all threads; one that takes ``kill_seconds`` ends the process, since no code of ours
could run any more. And whoever stops the whole process can set a hard deadline with :meth:`Watchdog.end_by`: if it
passes, the stacks of all tasks are written and the process ends. Reports are written aside and for a bounded time:
perhaps nobody reads them. Real time, real threads: not for simulations.
"""

from __future__ import annotations

import os
import sys
import threading
import time
import traceback
from collections.abc import Callable
from functools import partial
from types import FrameType
from typing import Any, TextIO

import trio

from .errors import SpecError

EXIT_CODE = 70
"""EX_SOFTWARE of sysexits.h: an internal error; a parent that sees it starts the process anew."""
TASK_DUMP_SECONDS = 1.0
"""How long a living loop gets to tell its tasks' stacks before the process ends."""
WORDS_SECONDS = 2.0
"""How long the watch waits for a report to be written. What nobody reads must not keep it from ending the process."""


class Watchdog:
    """Watches the loop it runs in. :meth:`run` is a start function: ``ChildSpec("watchdog", Watchdog().run)``."""

    def __init__(
        self,
        *,
        stall_seconds: float = 1.0,
        kill_seconds: float = 30.0,
        sample_seconds: float | None = None,
        dump: TextIO | None = None,
        on_stall: Callable[[float], None] | None = None,
        exit: Callable[[int], Any] = os._exit,
    ) -> None:
        """``dump``: where stacks go, a real file (default: standard error). ``on_stall(seconds)`` is called from
        a thread of its own, once per stall; it must not touch Trio."""
        if not 0 < stall_seconds <= kill_seconds:
            raise SpecError(
                "watchdog.stall_seconds", f"must be > 0 and <= kill_seconds, not {stall_seconds!r}"
            )
        self.stall_seconds = stall_seconds
        self.kill_seconds = kill_seconds
        self._sample_seconds = sample_seconds if sample_seconds is not None else min(0.1, stall_seconds / 4)
        self._dump = dump if dump is not None else sys.stderr
        self._on_stall = on_stall
        self._exit = exit
        self._pulse = _Pulse()
        self._wake = threading.Event()
        self._lock = threading.Lock()
        self._thread: threading.Thread | None = None
        self._speaker: threading.Thread | None = None
        self._watching = False
        self._end_at: float | None = None
        self._token: trio.lowlevel.TrioToken | None = None
        self.stalls = 0
        """Rounds that took longer than ``stall_seconds``."""
        self.faults = 0
        """Exceptions that ``on_stall`` or the writing of a report raised."""
        self.unsaid = 0
        """Reports left out because an earlier one was still being written."""

    async def run(
        self, ctx: object = None, *, task_status: trio.TaskStatus[None] = trio.TASK_STATUS_IGNORED
    ) -> None:
        """Watch until cancelled. An armed hard deadline survives the end of this task: it is meant for exactly
        the time when the tree is being taken down."""
        self._token = trio.lowlevel.current_trio_token()
        trio.lowlevel.add_instrument(self._pulse)
        self._watching = True
        self._ensure_thread()
        try:
            task_status.started()
            await trio.sleep_forever()
        finally:
            self._watching = False
            trio.lowlevel.remove_instrument(self._pulse)
            self._wake.set()

    def end_by(self, seconds: float) -> None:
        """The process ends ``seconds`` from now, unless it has ended by itself, or :meth:`disarm`. An earlier
        deadline that is already set stays. Callable from any thread."""
        with self._lock:
            end_at = time.monotonic() + seconds
            self._end_at = end_at if self._end_at is None else min(self._end_at, end_at)
        self._ensure_thread()
        self._wake.set()

    def disarm(self) -> None:
        """Take the hard deadline back."""
        with self._lock:
            self._end_at = None

    @property
    def longest_round_seconds(self) -> float:
        """Longest scheduler round since the last look: the event loop's lag."""
        return self._pulse.take_longest()

    # -- the thread ------------------------------------------------------------------------------------------

    def _ensure_thread(self) -> None:
        with self._lock:
            if self._thread is None or not self._thread.is_alive():
                self._thread = threading.Thread(target=self._watch, name="callrt watchdog", daemon=True)
                self._thread.start()

    def _watch(self) -> None:
        stalled_round = -1
        while True:
            self._wake.wait(self._sample_seconds)
            self._wake.clear()
            with self._lock:
                if not self._watching and self._end_at is None:
                    self._thread = None
                    return
                end_at = self._end_at
            if end_at is not None and time.monotonic() >= end_at:
                self._end("the hard deadline of the stop has passed")
                return
            since, number = self._pulse.since, self._pulse.number
            if not self._watching or since is None or number != self._pulse.number:
                continue
            lasting = time.monotonic() - since
            if lasting >= self.kill_seconds:
                self._end(f"the event loop has stood still for {lasting:.1f} s")
                return
            if lasting >= self.stall_seconds and number != stalled_round:
                stalled_round = number
                self._stalled(lasting)

    def _stalled(self, lasting: float) -> None:
        self.stalls += 1
        self._aside(partial(self._report_stall, lasting))

    def _report_stall(self, lasting: float) -> None:
        try:
            if self._on_stall is not None:
                self._on_stall(lasting)
        finally:
            self._write(
                f"callrt watchdog: the event loop has stood still for {lasting:.2f} s; stacks of all threads:\n"
                + thread_stacks()
            )

    def _end(self, why: str) -> None:
        self._aside(partial(self._report_end, why))
        self._exit(EXIT_CODE)

    def _report_end(self, why: str) -> None:
        self._write(f"callrt watchdog: {why}; the process ends with status {EXIT_CODE}\n")
        told: list[str] = []
        looked = threading.Event()

        def look() -> None:
            told.append(task_stacks())
            looked.set()

        if self._token is not None:
            try:
                self._token.run_sync_soon(look)
                looked.wait(TASK_DUMP_SECONDS)
            except trio.RunFinishedError:
                told.append("callrt watchdog: the event loop has ended already\n")
        self._write("".join(told) + thread_stacks())

    def _aside(self, report: Callable[[], None]) -> None:
        """``report()`` in a thread that is waited for ``WORDS_SECONDS`` and then left: it ends with the process."""
        if self._speaker is not None and self._speaker.is_alive():
            self.unsaid += 1
            return

        def speak() -> None:
            try:
                report()
            except Exception:
                self.faults += 1

        self._speaker = threading.Thread(target=speak, name="callrt watchdog's words", daemon=True)
        try:
            self._speaker.start()
        except RuntimeError:  # there is no room for another thread
            self._speaker = None
            self.unsaid += 1
            return
        self._speaker.join(WORDS_SECONDS)

    def _write(self, text: str) -> None:
        # Past the buffer: a thread that is stuck in a write to the same stream has its lock.
        descriptor = self._dump.fileno()
        left = memoryview(text.encode(errors="backslashreplace"))
        while left:
            left = left[os.write(descriptor, left) :]


class _Pulse(trio.abc.Instrument):
    """When the current round of the scheduler began; two clock readings a round, nothing per task."""

    def __init__(self) -> None:
        self.number = 0
        self.since: float | None = None
        self._longest = 0.0

    def after_io_wait(self, timeout: float) -> None:
        self.number += 1
        self.since = time.monotonic()

    def before_io_wait(self, timeout: float) -> None:
        if self.since is not None:
            self._longest = max(self._longest, time.monotonic() - self.since)
            self.since = None

    def take_longest(self) -> float:
        longest, self._longest = self._longest, 0.0
        return longest


def thread_stacks() -> str:
    """The stacks of all threads as text, innermost call first. Not by ``faulthandler``: that writes with the
    interpreter's lock in its hand, and where nobody reads it stops all threads for ever."""
    names = {thread.ident: thread.name for thread in threading.enumerate()}
    lines: list[str] = []
    for ident, frame in sys._current_frames().items():
        lines.append(f"thread {names.get(ident, ident)}\n")
        stack = traceback.StackSummary.extract(traceback.walk_stack(frame), limit=100, lookup_lines=False)
        lines.extend(f"  {entry.filename}:{entry.lineno} in {entry.name}\n" for entry in stack)
    return "".join(lines)


def task_stacks() -> str:
    """The stacks of all Trio tasks as text, parents before children. Call it in Trio's thread."""
    root = trio.lowlevel.current_root_task()
    lines: list[str] = []
    waiting = [(0, root)] if root is not None else []
    while waiting:
        depth, task = waiting.pop()
        frames: list[tuple[FrameType, int]] = list(task.iter_await_frames())
        lines.append(f"{'  ' * depth}task {task.name}\n")
        lines.extend(
            f"{'  ' * depth}  {line}\n"
            for entry in traceback.StackSummary.extract(iter(frames), limit=20)
            for line in (f"{entry.filename}:{entry.lineno} {entry.name}",)
        )
        for nursery in task.child_nurseries:
            children = sorted(nursery.child_tasks, key=lambda child: child.name)
            waiting.extend((depth + 1, child) for child in reversed(children))
    return "".join(lines)
