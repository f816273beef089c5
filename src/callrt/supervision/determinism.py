"""Runs that are a function of their seed. The one place that touches Trio's private names.

Trio takes all runnable tasks as one batch per round. With its deterministic mode on, the batch is sorted by the
order in which tasks were made and shuffled by one generator; seed that generator and the schedule is fixed. Both
are private (``trio._core._run``): :func:`guard` says what is missing when Trio changes, and
``tests/supervision/test_supervision_determinism.py`` shows in two processes that it still works.

Trace steps with :class:`StepTrace` (``before_task_step``): the order of ``task_scheduled`` varies with addresses.
Threads of a process share the generator: one simulation per process at a time.
"""

from __future__ import annotations

import hashlib
import math
import random
from collections.abc import Awaitable, Callable, Iterator, Sequence
from contextlib import contextmanager
from typing import Any, TypeVar

import trio
import trio._core._run as _run
from trio.testing import MockClock

T = TypeVar("T")

_FLAG = "_ALLOW_DETERMINISTIC_SCHEDULING"
_GENERATOR = "_r"


class DeterminismBroken(RuntimeError):
    """Trio has changed: seeded runs are not repeatable any more."""


def next_step() -> float:
    """Clock time at which Trio has something to do, -inf when a task can run. For clocks that are asked between two
    rounds."""
    runner = _run.GLOBAL_RUN_CONTEXT.runner
    return -math.inf if runner.runq else runner.deadlines.next_deadline()


def guard() -> None:
    """Raise :class:`DeterminismBroken`, naming what is missing, unless Trio has what seeded runs need."""
    if not isinstance(getattr(_run, _FLAG, None), bool):
        raise DeterminismBroken(
            f"trio {trio.__version__}: trio._core._run.{_FLAG} is gone; it made the scheduler sort each batch of "
            "runnable tasks before shuffling it. Look for its successor in trio/_core/_run.py, near 'batch'"
        )
    if not isinstance(getattr(_run, _GENERATOR, None), random.Random):
        raise DeterminismBroken(
            f"trio {trio.__version__}: trio._core._run.{_GENERATOR} is no random.Random any more; it shuffled each "
            "batch of runnable tasks. Look for its successor in trio/_core/_run.py, near 'batch'"
        )


@contextmanager
def seeded(seed: int) -> Iterator[None]:
    """While inside, Trio runs that start are scheduled by ``seed`` alone; afterwards everything is as before."""
    guard()
    generator: random.Random = getattr(_run, _GENERATOR)
    flag, state = getattr(_run, _FLAG), generator.getstate()
    setattr(_run, _FLAG, True)
    generator.seed(seed)
    try:
        yield
    finally:
        setattr(_run, _FLAG, flag)
        generator.setstate(state)


def simulate(
    main: Callable[..., Awaitable[T]],
    *args: Any,
    seed: int,
    instruments: Sequence[trio.abc.Instrument] = (),
) -> T:
    """Run ``main(*args)`` in virtual time that jumps when all tasks sleep, scheduled by ``seed``."""
    with seeded(seed):
        clock = MockClock(autojump_threshold=0)
        return trio.run(main, *args, clock=clock, instruments=instruments)


class StepTrace(trio.abc.Instrument):
    """Digest and count of the schedule: (task name, virtual time) of each step."""

    def __init__(self) -> None:
        self._hash = hashlib.sha256()
        self.steps = 0

    def before_task_step(self, task: trio.lowlevel.Task) -> None:
        self.steps += 1
        self._hash.update(f"{task.name}@{trio.current_time()!r}\n".encode())

    def digest(self) -> str:
        return self._hash.hexdigest()
