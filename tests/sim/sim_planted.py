"""One sound call, and copies of its history in which something is wrong."""

from __future__ import annotations

import copy
import functools
from collections.abc import Callable
from typing import Any

import attrs

from callrt.testing.carrier_stream import SILENT_FRAME
from callrt.testing.carrier_tape import HeardFrame, Tape
from callrt.testing.sim.case import Ask, Caller, Case
from callrt.testing.sim.checkers import judge
from callrt.testing.sim.history import History
from callrt.testing.sim.stage import play


@functools.lru_cache(maxsize=8)
def sound(*faults: Any, asks: tuple[str, ...] = ("hours", "book"), over: int | None = None) -> History:
    """A call in which every guarantee held; cached, so never change it."""
    caller = Caller(tuple(Ask(line, over if n else None) for n, line in enumerate(asks)))
    history = play(Case(seed=5, caller=caller, faults=faults))
    judgement = judge(history)
    assert judgement.ok, judgement.violations
    return history


def altered(history: History, **changes: Any) -> History:
    """A copy with other facts. ``tape`` maps heard frames, ``wire`` the events, ``call`` sets attributes."""
    call = copy.copy(history.call)
    if "tape" in changes:
        change: Callable[[list[HeardFrame]], list[HeardFrame]] = changes.pop("tape")
        tape = Tape()
        tape.started_at = call.tape.started_at
        tape.heard = change(list(call.tape.heard))
        tape.said = call.tape.said
        call.tape = tape
    if "wire" in changes:
        call.wire = changes.pop("wire")(list(call.wire))
    for name, value in changes.pop("call", {}).items():
        setattr(call, name, value)
    return attrs.evolve(history, call=call, **changes)


def silenced(history: History, start: float, end: float) -> Callable[[list[HeardFrame]], list[HeardFrame]]:
    """Frames between two clock times become silence."""

    def change(heard: list[HeardFrame]) -> list[HeardFrame]:
        return [
            attrs.evolve(each, frame=SILENT_FRAME, source="") if start <= each.at < end else each
            for each in heard
        ]

    return change


def found(history: History) -> set[str]:
    """Names of the checkers that object."""
    return {violation.checker for violation in judge(history).violations}
