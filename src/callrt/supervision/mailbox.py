"""The address: what callers hold while incarnations come and go.

It owns the queue (an incarnation only borrows it), so nothing is lost when one dies, and it keeps the books:
``sent = handled + queued + dead letters`` after every step, for messages and for replies alike.

Control goes before media. A message leaves the queue before it is handled: at most once, and no message can
crash one incarnation after another.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Hashable
from contextvars import ContextVar
from typing import TYPE_CHECKING, Any, Generic, Literal, Protocol, TypeVar

import attrs
import trio

from .errors import Fenced, TargetDown
from .exits import Reason
from .spec import MailboxPolicy

if TYPE_CHECKING:
    from .context import Context

M = TypeVar("M")
Lane = Literal["control", "media"]

_EMPTY: deque[Any] = deque(maxlen=0)
"""Stands for a lane that nothing has been put into yet; holds nothing."""
_NONE: dict[Any, Any] = {}
"""Stands for books that have no entry yet; nothing is ever put into it."""

current_context: ContextVar[Context[Any] | None] = ContextVar("callrt.supervision.context", default=None)


class Pending(Protocol):
    """An ask that waits for its reply."""

    def fail(self, error: Exception) -> None: ...


class DeadLetters(Protocol):
    """Whoever is told of them: a supervisor's run."""

    def dead_letter(self, address: Address[Any], why: str, lane: str) -> None: ...


class Name(Protocol):
    """Something to give back when the incarnation ends."""

    def release(self) -> None: ...


@attrs.frozen(kw_only=True)
class MailboxStatistics:
    """The books of one mailbox; replies count where the question was sent."""

    sent: int
    handled: int
    queued: int
    dead: int
    dead_by_reason: tuple[tuple[str, int], ...]
    asks_pending: int

    @property
    def adds_up(self) -> bool:
        return self.sent == self.handled + self.queued + self.dead


@attrs.frozen(kw_only=True)
class Down:
    """An incarnation has ended, as told to its monitors. ``reason`` is None for a target that was not there."""

    target: str
    incarnation: int
    reason: Reason | None


class Address(Generic[M]):
    """One mailbox. All methods are synchronous and never block."""

    __slots__ = (
        "_asks",
        "_control",
        "_dead",
        "_lot",
        "_media",
        "_monitors",
        "_names",
        "handled",
        "holder",
        "id",
        "incarnation",
        "label",
        "last",
        "open",
        "policy",
        "report",
        "sent",
    )

    def __init__(self, id: Hashable, label: str, policy: MailboxPolicy) -> None:
        self.id = id
        """The child's."""
        self.label = label
        self.policy = policy
        self.open = False
        """Somebody will handle what is sent: running, or a start or restart is to come."""
        self.holder: Context[Any] | None = None
        """The living incarnation's context."""
        self.incarnation = 0
        self.last: Reason | None = None
        self.report: DeadLetters | None = None
        self.sent = 0
        self.handled = 0
        # Most mailboxes never get a message: what a message needs is made when the first one comes.
        self._control: deque[tuple[M, Pending | None]] = _EMPTY
        self._media: deque[tuple[M, Pending | None]] = _EMPTY
        self._dead: dict[str, int] = _NONE
        self._lot: trio.lowlevel.ParkingLot | None = None
        self._asks: dict[Pending, bool] = _NONE
        """Unresolved asks; True once an incarnation has taken the message."""
        self._monitors: dict[object, Callable[[Down], None]] = _NONE
        self._names: tuple[Name, ...] = ()

    # -- senders ---------------------------------------------------------------------------------------------

    def put(self, message: M, lane: Lane = "control", ask: Pending | None = None) -> str | None:
        """Accept a message, or say why it is a dead letter."""
        self.sent += 1
        sender = current_context.get()
        if sender is not None and sender.fenced:
            return self._bury("fenced", lane, ask)
        if not self.open:
            return self._bury("stopped", lane, ask)
        if self.holder is None and self.policy.on_restart == "drop":
            return self._bury("down", lane, ask)
        if lane == "control":
            if len(self._control) >= self.policy.capacity:
                return self._bury("full", lane, ask)
            if self._control is _EMPTY:
                self._control = deque()
            self._control.append((message, ask))
        else:
            if len(self._media) >= self.policy.media_capacity:
                if self.policy.media_full == "refuse":
                    return self._bury("full", lane, ask)
                self._bury("shed", lane, self._media.popleft()[1])
            if self._media is _EMPTY:
                self._media = deque()
            self._media.append((message, ask))
        if ask is not None:
            if self._asks is _NONE:
                self._asks = {}
            self._asks[ask] = False
        if self._lot is not None:
            self._lot.unpark()
        return None

    def _bury(self, why: str, lane: str, ask: Pending | None = None) -> str:
        if self._dead is _NONE:
            self._dead = {}
        self._dead[why] = self._dead.get(why, 0) + 1
        if ask is not None and self._asks.pop(ask, None) is not None:
            ask.fail(TargetDown(self.label, self.last))
        if self.report is not None:
            self.report.dead_letter(self, why, lane)
        return why

    def count_reply(self, delivered: bool) -> None:
        """A reply is a message too: counted where the question was sent."""
        self.sent += 1
        if delivered:
            self.handled += 1
        else:
            self._bury("late_reply", "reply")

    def resolved(self, ask: Pending) -> None:
        self._asks.pop(ask, None)

    # -- the incarnation -------------------------------------------------------------------------------------

    def take_nowait(self, holder: Context[Any]) -> M:
        """The next message; :class:`trio.WouldBlock` if none, :class:`Fenced` for anyone but the holder."""
        if self.holder is not holder:
            raise Fenced(f"{self.label}: incarnation {holder.incarnation} may not receive any more")
        if self._control:
            message, ask = self._control.popleft()
        elif self._media:
            message, ask = self._media.popleft()
        else:
            raise trio.WouldBlock
        self.handled += 1
        if ask is not None and ask in self._asks:
            self._asks[ask] = True
        return message

    async def wait_message(self) -> None:
        """Until something may have arrived. If cancelled: no effect."""
        if self._lot is None:
            self._lot = trio.lowlevel.ParkingLot()
        await self._lot.park()

    def add_name(self, name: Name) -> None:
        self._names += (name,)

    def drop_name(self, name: Name) -> None:
        self._names = tuple(each for each in self._names if each is not name)

    # -- monitors --------------------------------------------------------------------------------------------

    def add_monitor(self, key: object, notify: Callable[[Down], None]) -> None:
        if self.holder is None:
            notify(Down(target=self.label, incarnation=self.incarnation, reason=self.last))
        else:
            if self._monitors is _NONE:
                self._monitors = {}
            self._monitors[key] = notify

    def drop_monitor(self, key: object) -> None:
        self._monitors.pop(key, None)

    # -- the supervisor --------------------------------------------------------------------------------------

    def reopen(self, report: DeadLetters) -> None:
        self.open = True
        self.report = report

    def bind(self, holder: Context[Any]) -> None:
        """A new incarnation borrows the queue."""
        assert self.holder is None, f"{self.label}: two incarnations"
        assert holder.incarnation > self.incarnation
        self.holder = holder
        self.incarnation = holder.incarnation

    def release(self, holder: Context[Any], reason: Reason) -> None:
        """The incarnation has ended or is fenced off. Names go first, so that nobody who is told of the end can
        still find the dead one; then asks fail, then monitors fire. Later calls for the same holder: no effect."""
        if self.holder is not holder:
            return
        self.holder = None
        self.last = reason
        names, self._names = self._names, ()
        for name in names:
            name.release()
        for ask in [ask for ask, taken in self._asks.items() if taken]:
            del self._asks[ask]
            ask.fail(TargetDown(self.label, reason))
        monitors, self._monitors = self._monitors, _NONE
        for notify in monitors.values():
            notify(Down(target=self.label, incarnation=holder.incarnation, reason=reason))
        if self.policy.on_restart == "drop":
            self._discard("down")
        if self._lot is not None:
            self._lot.unpark_all()

    def close(self) -> None:
        """Nobody will handle what is sent: what waits becomes dead letters, later messages too."""
        self.open = False
        self._discard("stopped")

    def _discard(self, why: str) -> None:
        while self._control:
            self._bury(why, "control", self._control.popleft()[1])
        while self._media:
            self._bury(why, "media", self._media.popleft()[1])

    # -- books -----------------------------------------------------------------------------------------------

    def statistics(self) -> MailboxStatistics:
        return MailboxStatistics(
            sent=self.sent,
            handled=self.handled,
            queued=len(self._control) + len(self._media),
            dead=sum(self._dead.values()),
            dead_by_reason=tuple(self._dead.items()),
            asks_pending=len(self._asks),
        )
