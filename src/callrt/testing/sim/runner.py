"""Thousands of calls: each alone in its own virtual world, spread over processes, judged, and added up."""

from __future__ import annotations

import gc
import hashlib
import logging
import os
import random
import signal
import time
import traceback
from collections import Counter
from collections.abc import Callable, Generator, Iterator, Sequence
from concurrent.futures import FIRST_COMPLETED, Future, ProcessPoolExecutor, wait
from contextlib import closing, contextmanager
from multiprocessing import get_context

import attrs

from callrt.testing.sim.case import Case, name_of
from callrt.testing.sim.checkers import judge
from callrt.testing.sim.checkers.verdicts import GUARANTEES, Violation
from callrt.testing.sim.coverage import target
from callrt.testing.sim.digest import digest
from callrt.testing.sim.nemesis import draw
from callrt.testing.sim.profiles import Profile, load_profile
from callrt.testing.sim.recipes import bend
from callrt.testing.sim.stage import cells, play

_NOWHERE = logging.NullHandler()
CHUNK = 8
"""Calls given to a worker at a time."""


@attrs.frozen
class CallResult:
    """One call, as small as can be sent between processes."""

    number: int
    digest: str
    seconds: float
    outcome: str
    faults: tuple[str, ...]
    """Those that struck, by name."""
    cells: tuple[tuple[str, str], ...]
    """(fault, turn state) as the journal saw them."""
    checks: dict[str, int]
    violations: tuple[Violation, ...]
    cpu_seconds: float = 0.0
    """What it cost to play and judge it."""


@attrs.define
class Summary:
    """What a run prints."""

    seed: int
    profile: str
    calls: int = 0
    call_seconds: float = 0.0
    wall_seconds: float = 0.0
    cpu_seconds: float = 0.0
    """Of all workers, for calls alone."""
    workers: int = 1
    digest: str = ""
    outcomes: Counter[str] = attrs.field(factory=Counter)
    faults: Counter[str] = attrs.field(factory=Counter)
    cells: Counter[tuple[str, str]] = attrs.field(factory=Counter)
    checks: Counter[str] = attrs.field(factory=Counter)
    failures: list[CallResult] = attrs.field(factory=list)

    @property
    def ok(self) -> bool:
        return not self.failures

    @property
    def call_seconds_per_second(self) -> float:
        """Of virtual time, per second of processor time: on a machine that is not shared, per core and second."""
        return self.call_seconds / max(1e-9, self.cpu_seconds)


def case_of(seed: int, number: int, profile: Profile) -> Case:
    """The case of call ``number`` (from 0) in the run with this seed. Where the profile says so, every other one is
    aimed at a cell of the fault policy."""
    words = hashlib.sha256(f"callrt sim {seed} {number}".encode()).digest()
    case = draw(int.from_bytes(words[:6], "big"), profile)
    if profile.aims and number % 2:
        kind, turn = target(number // 2)
        case = bend(case, kind, turn, random.Random(f"aim/{case.seed}"))
    return case


def run_call(seed: int, number: int, profile: Profile) -> CallResult:
    """Play and judge one call. A crash of the simulation is a violation, not an exception."""
    began = time.process_time()
    result = run_case(case_of(seed, number, profile), number)
    return attrs.evolve(result, cpu_seconds=time.process_time() - began)


def run_case(case: Case, number: int = 0) -> CallResult:
    try:
        history = play(case)
    except Exception as error:
        what = "".join(traceback.format_exception_only(error)).strip()[-300:]
        violation = Violation("G6", "crash", f"an exception reached the top: {what}")
        return CallResult(number, "crash", 0.0, "crash", (), (), {}, (violation,))
    judgement = judge(history)
    return CallResult(
        number,
        digest(history),
        sum(h.over_at - h.placed_at for h in (history, *history.others)),
        str(history.outcome),
        tuple(name_of(struck.fault) for struck in history.struck),
        tuple((kind.value, turn) for kind, turn in cells(history)),
        dict(judgement.checks),
        tuple(judgement.violations),
    )


def run(
    seed: int,
    numbers: Sequence[int],
    profile_name: str,
    *,
    workers: int | None = None,
    progress: Callable[[int], None] = lambda done: None,
) -> Summary:
    """Play calls ``numbers`` of the run ``seed``. What comes out does not depend on ``workers``.
    Interrupted, or if ``progress`` raises: no worker is left."""
    began = time.monotonic()
    workers = min(workers or os.cpu_count() or 1, max(1, len(numbers)))
    summary = Summary(seed, profile_name, workers=workers)
    results: list[CallResult] = []
    with closing(_results(seed, numbers, profile_name, workers)) as played:
        for result in played:
            results.append(result)
            progress(len(results))
    ledger = hashlib.sha256()
    for result in sorted(results, key=lambda each: each.number):
        ledger.update(f"{result.number} {result.digest}\n".encode())
        summary.calls += 1
        summary.call_seconds += result.seconds
        summary.cpu_seconds += result.cpu_seconds
        summary.outcomes[result.outcome] += 1
        summary.faults.update(result.faults)
        summary.cells.update(result.cells)
        summary.checks.update(result.checks)
        if result.violations:
            summary.failures.append(result)
    summary.digest = ledger.hexdigest()
    summary.wall_seconds = time.monotonic() - began
    return summary


def _results(
    seed: int, numbers: Sequence[int], profile_name: str, workers: int
) -> Generator[CallResult, None, None]:
    if workers == 1:
        profile = load_profile(profile_name)
        _prepare()
        for number in numbers:
            yield run_call(seed, number, profile)
        return
    chunks = [numbers[at : at + CHUNK] for at in range(0, len(numbers), CHUNK)]
    # Spawned, not forked: a worker must not inherit what its parent has run.
    with ProcessPoolExecutor(workers, mp_context=get_context("spawn")) as pool:
        waiting: set[Future[list[CallResult]]] = set()
        try:
            for chunk in chunks:
                with _deaf_children():
                    waiting.add(pool.submit(_chunk, seed, chunk, profile_name))
                if len(waiting) >= 4 * workers:
                    done, waiting = wait(waiting, return_when=FIRST_COMPLETED)
                    for future in done:
                        yield from future.result()
            for future in waiting:
                yield from future.result()
        except BaseException:
            pool.shutdown(cancel_futures=True)  # a worker ends after its present chunk
            raise


@contextmanager
def _deaf_children() -> Iterator[None]:
    """Processes started within never hear Ctrl-C, not even while they import: a terminal tells all of them, and the
    parent alone has something to say. What the parent is told meanwhile, it hears afterwards."""
    before = signal.pthread_sigmask(signal.SIG_BLOCK, (signal.SIGINT,))
    try:
        yield
    finally:
        signal.pthread_sigmask(signal.SIG_SETMASK, before)


def _chunk(seed: int, numbers: Sequence[int], profile_name: str) -> list[CallResult]:
    profile = load_profile(profile_name)
    _prepare()
    return [run_call(seed, number, profile) for number in numbers]


def _prepare() -> None:
    """A collection between calls looks only at what calls have left; what is logged of broken tools goes nowhere."""
    logging.getLogger("callrt").addHandler(_NOWHERE)
    gc.collect()
    gc.freeze()


def untouched(summary: Summary) -> list[str]:
    """Guarantees of which nothing was looked at."""
    return [guarantee for guarantee in GUARANTEES if not summary.checks[guarantee]]
