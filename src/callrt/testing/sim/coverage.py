"""Which cells of the fault policy (fault × turn state) a run has reached, and at which one each call is aimed."""

from __future__ import annotations

from collections.abc import Iterable, Mapping

from callrt.policy.faults import POLICY
from callrt.protocol.faults import FaultKind
from callrt.protocol.turn import TurnState
from callrt.testing.sim.unreachable import reasons

Cell = tuple[FaultKind, TurnState]

CELLS: tuple[Cell, ...] = tuple((kind, turn) for kind, row in POLICY.items() for turn in row)
REACHABLE: tuple[Cell, ...] = tuple(cell for cell in CELLS if cell not in reasons())


def target(number: int) -> Cell:
    """The cell at which call ``number`` of a run is aimed: each in its turn."""
    return REACHABLE[number % len(REACHABLE)]


def unreached(cells: Mapping[tuple[str, str], int]) -> list[str]:
    """Cells that have to be reached and were not."""
    return [_name(kind, turn) for kind, turn in REACHABLE if not cells.get((kind.value, turn.value))]


def impossible(cells: Iterable[tuple[str, str]]) -> list[str]:
    """Cells that were reached and, it is said, cannot be."""
    found = set(cells)
    return [_name(kind, turn) for kind, turn in reasons() if (kind.value, turn.value) in found]


def _name(kind: FaultKind, turn: TurnState) -> str:
    return f"{kind.value} × {turn.value}"
