"""Which worker answers for which call. Values only: no sockets, no clock.

A new call goes to the worker with the fewest. From then on every question about it goes to the same worker, also
after its end, for as long as that worker is there: what it remembers of the call (and has not written yet) counts.
When it is gone, the next question finds the call another home, and the journal tells it the rest.
"""

from __future__ import annotations

from collections.abc import Sequence

import attrs

PAST_MAX = 10_000
"""Calls whose worker is remembered although it has them no more. Of older ones any worker reads the journal."""


@attrs.define(eq=False)
class Homes:
    """Workers are numbers that are never used twice: one that is started again is another one."""

    past_max: int = PAST_MAX
    _live: dict[str, int] = attrs.field(factory=dict)
    _past: dict[str, tuple[int, bool]] = attrs.field(factory=dict)
    _load: dict[int, int] = attrs.field(factory=dict)

    def load(self, worker: int) -> int:
        """Calls that it has, or was just given."""
        return self._load.get(worker, 0)

    def place(self, call_sid: str, workers: Sequence[int], *, leaving: Sequence[int] = (), asker: int) -> int:
        """Who answers: the call's home if that is one of ``workers``, or of ``leaving`` unless it has let the call
        go; else the one with the fewest calls, of equals the ``asker``. Nobody there: the asker itself."""
        home = self._live.get(call_sid)
        if home is not None and (home in workers or home in leaving):
            return home
        before, ended = self._past.get(call_sid, (None, False))
        if home is None and before is not None and (before in workers or (ended and before in leaving)):
            return before
        chosen = min(workers, key=lambda worker: (self.load(worker), worker != asker), default=asker)
        self.carries(chosen, call_sid)
        return chosen

    def carries(self, worker: int, call_sid: str) -> None:
        """This worker has the call now, whoever had it before."""
        self._release(call_sid)
        self._past.pop(call_sid, None)
        self._live[call_sid] = worker
        self._load[worker] = self.load(worker) + 1

    def dropped(self, worker: int, call_sid: str, *, ended: bool) -> None:
        """The call has ended there; or it never began, or is let go. Of a call that is another's by now this says
        nothing."""
        if self._live.get(call_sid) != worker:
            return
        self._release(call_sid)
        self._past[call_sid] = (worker, ended)
        while len(self._past) > self.past_max:
            del self._past[next(iter(self._past))]

    def gone(self, worker: int) -> None:
        """The worker is dead, and so is what it remembered."""
        for call_sid in [sid for sid, home in self._live.items() if home == worker]:
            del self._live[call_sid]
        for call_sid in [sid for sid, (home, _) in self._past.items() if home == worker]:
            del self._past[call_sid]
        self._load.pop(worker, None)

    def _release(self, call_sid: str) -> None:
        home = self._live.pop(call_sid, None)
        if home is not None:
            self._load[home] = self.load(home) - 1
