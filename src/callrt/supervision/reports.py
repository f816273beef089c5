"""Reports: frozen facts about supervision, given to hooks. Reporting never changes supervision.

Hooks are called synchronously in the order given. What a hook raises is contained and counted. A report that
is caused inside a hook (a hook may tell an actor whose mailbox is full) is delivered after the one at hand,
and at most ``NESTED_REPORTS_MAX`` of them, or a hook could feed itself for ever.
"""

from __future__ import annotations

from collections.abc import Callable, Hashable, Iterable

import attrs

from .exits import SHUTDOWN, Reason

NESTED_REPORTS_MAX = 100


@attrs.frozen(kw_only=True)
class Report:
    """Base of all reports."""

    path: tuple[str, ...]
    """Names from the root supervisor to the one that reports."""
    id: Hashable
    """The child concerned."""
    incarnation: int
    at: float
    """Trio's clock, seconds."""
    strategy: str

    @property
    def where(self) -> str:
        """The child's own path, as text."""
        return "/".join((*self.path, str(self.id)))


@attrs.frozen(kw_only=True)
class Started(Report):
    """The child has acked."""


@attrs.frozen(kw_only=True)
class StartFailure(Report):
    """The child did not get as far as its ack."""

    reason: Reason
    kind: str
    """``error``, ``timeout``, ``no_ack`` or ``stopped``."""


@attrs.frozen(kw_only=True)
class Declined(Report):
    """The child said that it is not needed."""


@attrs.frozen(kw_only=True)
class Exited(Report):
    """An incarnation that had acked has ended."""

    reason: Reason
    ordered: bool
    """The supervisor had told it to end."""


@attrs.frozen(kw_only=True)
class Restarting(Report):
    """A restart was decided and counted."""

    reason: Reason
    group: tuple[Hashable, ...]
    """Ids that belong to this restart, in start order."""
    delay: float
    count: int
    """Restarts in the window, this one included."""


@attrs.frozen(kw_only=True)
class ShutdownError(Report):
    """The child raised while it was being stopped. The stop succeeded all the same."""

    reason: Reason


@attrs.frozen(kw_only=True)
class Unresponsive(Report):
    """The child did not end within its shutdown time. It is fenced off and its task is still alive."""

    stack: str
    reason: Reason


@attrs.frozen(kw_only=True)
class AutoShutdown(Report):
    """A significant child ended, so the supervisor stops."""

    reason: Reason = SHUTDOWN


@attrs.frozen(kw_only=True)
class Escalated(Report):
    """The supervisor gives up because of this child."""

    why: str
    """``intensity``, ``max_consecutive``, ``give_up``, ``unresponsive`` or ``fault``."""
    reason: Reason


@attrs.frozen(kw_only=True)
class DeadLetter(Report):
    """A message that nobody will handle."""

    why: str
    """``stopped``, ``down``, ``full``, ``shed``, ``fenced`` or ``late_reply``."""
    lane: str


Hook = Callable[[object], None]


class Reports:
    """Gives each report to the hooks of this level, then to those of the levels above."""

    def __init__(self, hooks: Hook | Iterable[Hook] = (), above: Reports | None = None) -> None:
        self._hooks: tuple[Hook, ...] = (hooks,) if callable(hooks) else tuple(hooks)
        self._above = above
        self._waiting: tuple[object, ...] = ()
        self._busy = False
        self.hook_faults = 0
        """Exceptions that hooks raised."""
        self.nested_dropped = 0
        """Reports caused inside hooks beyond the bound."""

    def emit(self, report: object) -> None:
        """Give a report to every hook. Never raises. No checkpoint."""
        if self._busy:
            if len(self._waiting) < NESTED_REPORTS_MAX:
                self._waiting += (report,)
            else:
                self.nested_dropped += 1
            return
        self._busy = True
        try:
            self._give(report)
            budget = NESTED_REPORTS_MAX
            while self._waiting and budget:
                budget -= 1
                report, self._waiting = self._waiting[0], self._waiting[1:]
                self._give(report)
            self.nested_dropped += len(self._waiting)
            self._waiting = ()
        finally:
            self._busy = False

    def _give(self, report: object) -> None:
        for hook in self._hooks:
            try:
                hook(report)
            except BaseException:
                # even a SystemExit raised by a hook may not decide over the tree: it is counted, not obeyed
                self.hook_faults += 1
        if self._above is not None:
            self._above.emit(report)
