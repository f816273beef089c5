"""Which fault × turn state cells of the fault policy a run has reached, and which can never be."""

from __future__ import annotations

from collections.abc import Mapping

from callrt.protocol.faults import FaultKind
from callrt.protocol.turn import OWES_REPLY, TurnState

_NOT_OWED = tuple(state for state in TurnState if state not in OWES_REPLY)

UNREACHABLE: dict[FaultKind, tuple[tuple[TurnState, ...], str]] = {}
"""Cells that cannot be, with the reason. Everything else must be reached by a long run."""


def unreached(cells: Mapping[tuple[str, str], int]) -> list[str]:
    """Cells of the whole product that were neither reached nor explained."""
    missing = []
    for kind in FaultKind:
        excused = UNREACHABLE.get(kind, ((), ""))[0]
        for state in TurnState:
            if state not in excused and not cells.get((kind.value, state.value)):
                missing.append(f"{kind.value} × {state.value}")
    return missing
