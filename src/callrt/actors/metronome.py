"""One metronome for all lines of a process: what is due to be said is said, though no frame of the caller's comes.

Each mouth has something to do five times a second, and mostly does it when the caller's next frame is there
(``Voice.beat``). A deadline for each would be moved on five times a second and hardly ever be reached; this looks at
all of them in turn, about fifty times a second with 400 calls, and sleeps while nobody speaks. It also notices when a
caller's frames stop coming, and wakes the directors whose time has come: a deadline of its own would take as much room
as what waits for it.
"""

from __future__ import annotations

import math
from typing import TYPE_CHECKING

import trio
import trio.lowlevel

from callrt.actors.voice import GRACE_SECONDS, beat_overdue

if TYPE_CHECKING:
    from callrt.actors.line import Line

REST_SECONDS = 0.001
"""Between two looks, at least: whatever a mouth says of its next tick, others get a turn."""


class Metronome:
    """Use :func:`current_metronome`. Its task lives as long as there is a line to look after."""

    __slots__ = ("_lines", "_look_at", "_runs", "_scope")

    def __init__(self) -> None:
        self._lines: dict[Line, None] = {}
        self._look_at = math.inf
        self._scope: trio.CancelScope | None = None
        self._runs = False

    def add(self, line: Line) -> None:
        """From now on its time is kept: its voice's, its stream's, its director's."""
        self._lines[line] = None
        if not self._runs:
            self._runs = True
            trio.lowlevel.spawn_system_task(self._run, name="callrt metronome")
        self.expect(-math.inf)

    def remove(self, line: Line) -> None:
        del self._lines[line]
        if not self._lines:
            self.expect(-math.inf)

    def ticked(self, due: float) -> None:
        """A voice has done what was due; the next tick is due then."""
        self.expect(due + GRACE_SECONDS)

    def expect(self, due: float) -> None:
        """There is something to do at that clock time."""
        if due < self._look_at:
            self._look_at = due
            if self._scope is not None:
                self._scope.deadline = self._look_at

    async def _run(self) -> None:
        while self._lines:
            now = trio.current_time()
            self._look_at = max(beat_overdue(list(self._lines), now), now + REST_SECONDS)
            with trio.CancelScope(deadline=self._look_at) as self._scope:
                await trio.sleep_forever()
        self._look_at = math.inf
        self._scope = None
        self._runs = False


_metronome: trio.lowlevel.RunVar[Metronome | None] = trio.lowlevel.RunVar("callrt metronome", None)


def current_metronome() -> Metronome:
    """The metronome of this Trio run."""
    metronome = _metronome.get()
    if metronome is None:
        metronome = Metronome()
        _metronome.set(metronome)
    return metronome
