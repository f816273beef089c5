"""The rules as a small pure model: no tasks, no clock, no awaits. One operation, one new state and some reports.

It knows nothing of the implementation; the conformance rules G3 to G6 are written down here once more, as plainly as
possible, and ``test_supervision_model.py`` plays the same random operations to both.
"""

from __future__ import annotations

import attrs

Fact = tuple[object, ...]


@attrs.define
class Kid:
    id: str
    restart: str
    delays: tuple[float, ...]
    """Delay of the first, second... failure in a row; the last one is the cap."""
    significant: bool = False
    state: str = "stopped"
    incarnation: int = 0
    failures: int = 0
    due: float = 0.0
    acked_at: float = 0.0
    bad_starts: int = 0
    """So many of the next starts will fail."""


@attrs.define
class Model:
    strategy: str
    max_restarts: int
    period: float
    auto_shutdown: str
    reset_after: float
    max_consecutive: int
    now: float = 0.0
    kids: dict[str, Kid] = attrs.field(factory=dict)
    window: list[float] = attrs.field(factory=list)
    facts: list[Fact] = attrs.field(factory=list)
    ended: str | None = None
    """None, ``start failed``, ``escalated`` or ``auto``."""

    def states(self) -> list[tuple[str, str]]:
        return [(kid.id, kid.state) for kid in self.kids.values()]

    # -- operations ------------------------------------------------------------------------------------------

    def start_all(self) -> None:
        for kid in list(self.kids.values()):
            if not self._start(kid):
                self._end("start failed")
                return

    def exit(self, id: str, kind: str) -> None:
        kid = self.kids[id]
        kid.state = "stopped"
        self.facts.append(("Exited", id, kid.incarnation, kind))
        if kid.restart == "permanent" or (kid.restart == "transient" and kind == "error"):
            if self.now - kid.acked_at >= self.reset_after:
                kid.failures = 0
            self._failed(kid)
        else:
            if kid.restart == "temporary" or self.strategy == "dynamic":
                del self.kids[id]
            others = [other for other in self.kids.values() if other.significant and other is not kid]
            done = all(other.state == "stopped" for other in others)
            if kid.significant and (
                self.auto_shutdown == "any_significant" or (self.auto_shutdown == "all_significant" and done)
            ):
                self.facts.append(("AutoShutdown", id))
                self._end("auto")

    def add(self, kid: Kid) -> str:
        present = self.kids.get(kid.id)
        if present is not None:
            return "AlreadyStarted" if present.state == "running" else "AlreadyPresent"
        self.kids[kid.id] = kid
        if self._start(kid):
            return "ok"
        del self.kids[kid.id]
        return "StartFailed"

    def terminate(self, id: str) -> str:
        if id not in self.kids:
            return "NotFound"
        kid = self.kids[id]
        if kid.state == "running":
            self._stop(kid)
        kid.state = "stopped"
        if kid.restart == "temporary" or self.strategy == "dynamic":
            del self.kids[id]
        return "ok"

    def restart(self, id: str) -> str:
        return self._if_stopped(id) or ("ok" if self._start(self.kids[id]) else "StartFailed")

    def delete(self, id: str) -> str:
        refusal = self._if_stopped(id)
        if refusal is None:
            del self.kids[id]
        return refusal or "ok"

    def advance(self, seconds: float) -> None:
        target = self.now + seconds
        while self.ended is None:
            waiting = [
                kid.due for kid in self.kids.values() if kid.state == "restarting" and kid.due <= target
            ]
            if not waiting:
                break
            self.now = max(self.now, min(waiting))
            self._due()
        self.now = target

    # -- rules -----------------------------------------------------------------------------------------------

    def _if_stopped(self, id: str) -> str | None:
        if self.strategy == "dynamic":
            return "InvalidOperation"
        if id not in self.kids:
            return "NotFound"
        return {"running": "ChildRunning", "restarting": "ChildRestarting"}.get(self.kids[id].state)

    def _start(self, kid: Kid) -> bool:
        kid.incarnation += 1
        if kid.bad_starts:
            kid.bad_starts -= 1
            kid.state = "stopped"
            self.facts.append(("StartFailure", kid.id, kid.incarnation))
            return False
        kid.state, kid.acked_at = "running", self.now
        self.facts.append(("Started", kid.id, kid.incarnation))
        return True

    def _stop(self, kid: Kid) -> None:
        kid.state = "stopped"
        self.facts.append(("Exited", kid.id, kid.incarnation, "shutdown"))

    def _group(self, kid: Kid) -> list[Kid]:
        everybody = list(self.kids.values())
        if self.strategy == "one_for_all":
            return everybody
        if self.strategy == "rest_for_one":
            return everybody[everybody.index(kid) :]
        return [kid]

    def _failed(self, kid: Kid) -> None:
        kid.failures += 1
        recent = [at for at in self.window if self.now - at <= self.period]
        if kid.failures > self.max_consecutive or len(recent) >= self.max_restarts:
            self.facts.append(("Escalated", kid.id))
            self._end("escalated")
            return
        self.window = [*recent, self.now]
        group = self._group(kid)
        delay = kid.delays[min(kid.failures, len(kid.delays)) - 1]
        self.facts.append(
            ("Restarting", kid.id, delay, len(self.window), tuple(member.id for member in group))
        )
        due = max([self.now + delay, *(member.due for member in group if member.state == "restarting")])
        for member in reversed(group):
            if member.state == "running":
                self._stop(member)
        for member in group:
            if member.restart == "temporary":
                del self.kids[member.id]
            else:
                member.state, member.due = "restarting", due
        self._due()

    def _due(self) -> None:
        """Start what is due: alone, or the whole group from the first one that waits."""
        for kid in list(self.kids.values()):
            if kid.state != "restarting" or kid.due > self.now or self.ended is not None:
                continue
            group = self._group(kid)
            for member in reversed(group):
                if member.state == "running":  # added while the group was down
                    self._stop(member)
                    if member.restart == "temporary":
                        del self.kids[member.id]
                    else:
                        member.state = "restarting"
            for member in group:
                if member.state == "restarting" and not self._start(member):
                    self._failed(member)
                    return

    def _end(self, how: str) -> None:
        self.ended = how
        running = [kid for kid in self.kids.values() if kid.state == "running"]
        for kid in running if self.strategy == "dynamic" else reversed(running):
            self._stop(kid)
