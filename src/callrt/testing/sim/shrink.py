"""From a failing case to the smallest one that still fails in the same way, and a test to keep it."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Any

import attrs

from callrt.testing.sim.case import Case

Fails = Callable[[Case], bool]


def shrink(case: Case, fails: Fails, *, tries: int = 60) -> Case:
    """The smallest case found in so many tries. ``fails(case)`` must be true; each try plays a whole call."""
    left = tries
    progress = True
    while progress:
        progress = False
        for smaller in _smaller(case):
            if left <= 0:
                return case
            left -= 1
            if fails(smaller):
                case, progress = smaller, True
                break
    return case


def _smaller(case: Case) -> Iterator[Case]:
    """Cases with one thing less, the biggest steps first."""
    faults = case.faults
    half = len(faults) // 2
    if half > 1:
        yield attrs.evolve(case, faults=faults[:half])
        yield attrs.evolve(case, faults=faults[half:])
    for index in range(len(faults)):
        yield attrs.evolve(case, faults=faults[:index] + faults[index + 1 :])
    asks = case.caller.asks
    for index in range(len(asks)):
        if len(asks) > 1:
            fewer = asks[:index] + asks[index + 1 :]
            yield attrs.evolve(case, caller=attrs.evolve(case.caller, asks=fewer))
    plain = Case()
    for name in ("human", "latency", "transcription", "echo_delay", "duplicate_webhooks", "stall_seconds"):
        if getattr(case, name) != getattr(plain, name):
            yield attrs.evolve(case, **{name: getattr(plain, name)})
    if case.caller.digits:
        yield attrs.evolve(case, caller=attrs.evolve(case.caller, digits=""))
    for index, fault in enumerate(faults):
        for field in attrs.fields(type(fault)):
            value = getattr(fault, field.name)
            if field.default is attrs.NOTHING or value == field.default or field.name in ("kind", "how"):
                continue
            simpler = attrs.evolve(fault, **{field.name: field.default})
            yield attrs.evolve(case, faults=(*faults[:index], simpler, *faults[index + 1 :]))


def source(value: Any) -> str:
    """Python that makes this value, without what is default anyway."""
    if attrs.has(type(value)):
        parts = []
        for field in attrs.fields(type(value)):
            mine = getattr(value, field.name)
            if field.default is not attrs.NOTHING and mine == field.default:
                continue
            parts.append(f"{field.name}={source(mine)}")
        return f"{type(value).__name__}({', '.join(parts)})"
    if isinstance(value, tuple):
        return f"({', '.join(source(each) for each in value)}{',' if len(value) == 1 else ''})"
    return repr(value)


def as_test(case: Case, checker: str, origin: str) -> str:
    """A test that fails as long as the bug is there; for tests/sim/test_sim_found.py."""
    name = f"test_found_{checker}_{case.seed}"
    return (
        f"def {name}() -> None:\n"
        f'    """Found by {origin}."""\n'
        f"    case = {source(case)}\n"
        f"    assert run_case(case).violations == ()\n"
    )
