"""The tree as nested frozen values, for a command line or a page to show."""

from __future__ import annotations

from collections.abc import Iterator
from typing import TYPE_CHECKING

import attrs
import trio

from .child import Child, State
from .spec import Kind, Restart

if TYPE_CHECKING:
    from .engine import Run
    from .supervisor import SupervisorBase


@attrs.frozen(kw_only=True)
class ChildSnapshot:
    """One child at one moment."""

    id: str
    state: State
    kind: Kind
    restart: Restart
    incarnation: int
    failures: int
    """In a row, without a healthy run between."""
    up_seconds: float | None
    """Since its ack; None when it is not running."""
    due_seconds: float | None
    """Until its restart; None when none is pending."""
    last_exit: str | None
    """How the latest incarnation ended; messages of exceptions are left out: they may hold a caller's words."""
    queued: int
    dead_letters: int
    below: SupervisorSnapshot | None = None
    """What it supervises, if it is a supervisor."""


@attrs.frozen(kw_only=True)
class SupervisorSnapshot:
    """One supervisor and everything below it at one moment."""

    name: str
    strategy: str
    phase: str
    """``starting``, ``up``, ``stopping`` or ``down``."""
    restarts_in_window: int
    max_restarts: int
    period: float
    children: tuple[ChildSnapshot, ...] = ()

    def walk(self, path: tuple[str, ...] = ()) -> Iterator[tuple[tuple[str, ...], ChildSnapshot]]:
        """Every child of the tree with its path, parents before their children, in start order."""
        here = (*path, self.name)
        for child in self.children:
            yield (*here, child.id), child
            if child.below is not None:
                yield from child.below.walk(here)


def snapshot(sup: SupervisorBase) -> SupervisorSnapshot:
    """The whole tree below ``sup`` as it is now. No checkpoint, no effect on anything."""
    if sup.current is None:
        return SupervisorSnapshot(
            name=sup.name,
            strategy=sup.strategy,
            phase="down",
            restarts_in_window=0,
            max_restarts=sup.max_restarts,
            period=sup.period,
        )
    return _run(sup.current)


def _run(run: Run) -> SupervisorSnapshot:
    return SupervisorSnapshot(
        name=run.path[-1],
        strategy=run.strategy,
        phase=run.phase,
        restarts_in_window=run.window.count(trio.current_time()),
        max_restarts=run.window.max_restarts,
        period=run.window.period,
        children=tuple(_child(child) for child in run.children.values()),
    )


def _child(child: Child) -> ChildSnapshot:
    now = trio.current_time()
    inc, books = child.inc, child.address.statistics()
    acked_at = inc.acked_at if inc is not None and child.state == "running" else None
    sub = inc.ctx.sub if inc is not None else None
    last = child.last
    return ChildSnapshot(
        id=str(child.id),
        state=child.state,
        kind=child.spec.kind,
        restart=child.spec.restart,
        incarnation=child.address.incarnation,
        failures=child.failures,
        up_seconds=now - acked_at if acked_at is not None else None,
        due_seconds=max(0.0, child.due - now) if child.state == "restarting" else None,
        last_exit=None if last is None else f"{last.kind}: {last.type}" if last.type else last.kind,
        queued=books.queued,
        dead_letters=books.dead,
        below=_run(sub) if sub is not None and sub.phase != "ended" else None,
    )
