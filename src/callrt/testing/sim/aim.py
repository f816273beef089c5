"""Aiming: a fault strikes when the call is in a turn state, not at a time that happens to be right."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable

import attrs
import trio

from callrt.protocol.turn import TurnState
from callrt.testing.sim.case import Aimed


@attrs.define(eq=False)
class Sight:
    """Looks at the turn state and says when an aim is reached. ``turn`` gives None while there is no call."""

    aims: tuple[Aimed, ...]
    turn: Callable[[], TurnState | None]
    reached: dict[Aimed, trio.Event] = attrs.field(factory=dict)
    _state: TurnState | None = None
    _since: float = 0.0
    _entered: Counter[TurnState] = attrs.field(factory=Counter)

    def __attrs_post_init__(self) -> None:
        self.reached = {aim: trio.Event() for aim in self.aims}

    def look(self, at: float) -> bool:
        """Once per tick; False when there is nothing left to aim at. No checkpoint."""
        state = self.turn()
        if state is not None and state is not self._state:
            self._state, self._since = state, at
            self._entered[state] += 1
        left = False
        for aim, event in self.reached.items():
            if event.is_set():
                continue
            here = state is not None and state.value == aim.turn and self._entered[state] >= aim.nth
            if here and at - self._since >= aim.after - 1e-9:
                event.set()
            else:
                left = True
        return left
