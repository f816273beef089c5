"""Ends abandoned tools that spin: code in ``while True`` shares the interpreter with the audio, for ever.

A thread that was given up and *waits* (for a socket, a lock) costs nothing and is left alone: what it began may
yet come to a good end. One that still burns processor time gets :class:`Abandoned` raised in it, again and
again if it catches that. Only Python code can be ended so; a tool that may hang in C belongs into a process.
"""

from __future__ import annotations

import ctypes
import threading
import time
from collections import Counter
from collections.abc import Callable
from typing import TypeVar

T = TypeVar("T")

SAMPLE_SECONDS = 0.25
"""Between two looks at a thread's processor time."""

SPINNING_SHARE = 0.005
"""Of that time. A waiting thread uses none; of 100 spinning ones each still gets a hundredth."""

INTERRUPTS_MAX = 20
"""A tool that catches it so often has been counted and is left to spin."""


class Abandoned(BaseException):
    """Raised inside a tool's thread after its run was given up."""


class Reapable:
    """Runs a function in the current thread such that another thread can end it, and only it."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._ident: int | None = None
        self._interrupts = 0

    def guard(self, work: Callable[[], T], instead: Callable[[], T]) -> T:
        """``work()``; or ``instead()`` when the end of it was forced."""
        try:
            with self._lock:
                self._ident = threading.get_ident()
            value = work()
            self._leave()
            return value
        except Abandoned:  # it may also arrive after the work, or within _leave
            self._leave()
            return instead()

    def _leave(self) -> None:
        with self._lock:
            if self._ident is not None and self._interrupts:
                # One that was sent and has not arrived must not hit whatever this thread does next.
                ctypes.pythonapi.PyThreadState_SetAsyncExc(ctypes.c_ulong(self._ident), None)
            self._ident = None

    def processor_seconds(self) -> float | None:
        """Used by the thread so far; None when the work is over."""
        with self._lock:
            if self._ident is None:
                return None
            return time.clock_gettime(time.pthread_getcpuclockid(self._ident))

    def interrupt(self) -> bool:
        """Raise :class:`Abandoned` in the work, at its next step of Python. False: over, or tried enough."""
        with self._lock:
            if self._ident is None or self._interrupts >= INTERRUPTS_MAX:
                return False
            self._interrupts += 1
            ctypes.pythonapi.PyThreadState_SetAsyncExc(
                ctypes.c_ulong(self._ident), ctypes.py_object(Abandoned)
            )
            return True


class Reaper:
    """Watches abandoned runs from one thread that exists only while there are any."""

    def __init__(self, counters: Counter[str]) -> None:
        self._counters = counters
        self._lock = threading.Lock()
        self._watched: list[tuple[Reapable, float]] = []
        self._thread: threading.Thread | None = None

    def watch(self, run: Reapable) -> None:
        """From any thread; never blocks."""
        if not hasattr(time, "pthread_getcpuclockid"):  # not on every system: there, threads are left alone
            return
        used = run.processor_seconds()
        if used is None:
            return
        with self._lock:
            self._watched.append((run, used))
            if self._thread is None:
                self._thread = threading.Thread(target=self._look, name="callrt tool reaper", daemon=True)
                self._thread.start()

    def _look(self) -> None:
        pause = threading.Event()
        while True:
            pause.wait(SAMPLE_SECONDS)
            with self._lock:
                watched, self._watched = self._watched, []
            kept = [(run, used) for run, before in watched if (used := self._judge(run, before)) is not None]
            with self._lock:
                self._watched += kept
                if not self._watched:
                    self._thread = None
                    return

    def _judge(self, run: Reapable, before: float) -> float | None:
        used = run.processor_seconds()
        if used is None:
            return None
        if used - before > SPINNING_SHARE * SAMPLE_SECONDS:
            if not run.interrupt():
                self._counters["unstoppable"] += 1
                return None
            self._counters["interrupted"] += 1
        return used
