"""What one model session is made of: its phases, its limits, the reply under way."""

from __future__ import annotations

import enum
from collections.abc import Collection, Sequence

import attrs

from callrt.protocol.faults import FaultKind
from callrt.protocol.models import events as ev
from callrt.protocol.models.effects import Send
from callrt.protocol.mouth_values import ITEMS_MAX

BARELY_BYTES = 400 * 8
"""Of G.711: a reply that failed within its first word is begun again, not continued."""


class Phase(enum.Enum):
    OPENING = "opening"
    CONFIGURING = "configuring"
    REPLAYING = "replaying"
    LIVE = "live"
    OVER = "over"


@attrs.frozen
class SessionLimits:
    """Seconds. The stall limit comes from the operator; the others are ours."""

    open_seconds: float = 5.0
    """From the upgrade to ``session.created``, and again to ``session.updated``."""
    replay_seconds: float = 2.0
    """For the echo of the last replayed item; then the call goes on without waiting for it."""
    stall_seconds: float = 5.0
    nudge_fraction: float = 0.6
    """After this part of the stall limit without a reply for a committed turn, ask for one."""
    rate_retries: int = 3
    rate_pause: float = 1.5
    rate_growth: float = 1.5
    digit_pause: float = 1.0
    """Quiet after a key press before the model is asked to react."""


class Arrived:
    """How many bytes of audio have come of each item that may yet be cut. Bounded, the oldest forgotten first."""

    def __init__(self, items_max: int = ITEMS_MAX) -> None:
        self._items_max = items_max
        self._items: dict[str, int] = {}
        self._heard: tuple[str, ...] = ()
        """Were reckoned to have been heard the last time; a word of the carrier's may have been missing."""

    def add(self, item_id: str, size: int) -> None:
        items = self._items
        items[item_id] = items.get(item_id, 0) + size
        if len(items) > self._items_max:
            del items[next(iter(items))]

    def of(self, item_id: str) -> int | None:
        """None: nothing, or it is long over."""
        return self._items.get(item_id)

    def forget(self, item_id: str) -> None:
        self._items.pop(item_id, None)

    def heard(self, going_on: Collection[str]) -> None:
        """All has been heard, as far as can be reckoned; of those that are ``going_on`` more will come."""
        for item_id in self._heard:
            if item_id not in going_on:
                self._items.pop(item_id, None)
        self._heard = tuple(item_id for item_id in self._items if item_id not in going_on)


class Reply:
    """One reply under way."""

    def __init__(self, reply_id: str) -> None:
        self.reply_id = reply_id
        self.items: dict[str, bool] = {}
        """Message items, in order; True when the model has finished the item."""
        self.muted = False
        self.spoke = False

    def unfinished(self) -> list[str]:
        return [item for item, done in self.items.items() if not done]

    def barely_spoke(self, arrived: Arrived) -> bool:
        """Failed within its first word."""
        return 0 < sum(arrived.of(item) or 0 for item in self.items) < BARELY_BYTES


class Failures:
    """Failed replies in a row: how long to wait before the next try, or why there is none."""

    def __init__(self, limits: SessionLimits) -> None:
        self.limits = limits
        self._rate = 0
        self._other = 0

    def add(self, kind: FaultKind) -> float | FaultKind:
        """One more: the pause before the same reply is asked for again, or the fault that ends the session."""
        if kind is FaultKind.REPLY_RATE_LIMITED:
            self._rate += 1
            if self._rate > self.limits.rate_retries:
                return FaultKind.MODEL_OVERLOADED
            return self.limits.rate_pause * self.limits.rate_growth ** (self._rate - 1)
        self._other += 1
        return 0.0 if self._other <= 1 else FaultKind.MODEL_POISONED

    def forgive(self) -> None:
        """A reply came."""
        self._rate = self._other = 0


Asked = ev.RequestReply | ev.Configure | str
"""A request that was sent, as far as an error about it needs it: of what added an item, the item's id."""


class Requests:
    """What was sent, under which event id: nothing but an error ever names it again. Bounded."""

    def __init__(self, number: int, most: int = 64) -> None:
        self.number = number
        self.most = most
        self._sent = 0
        self._open: dict[str, Asked] = {}

    def send(self, command: ev.ModelCommand) -> Send:
        self._sent += 1
        event_id = f"c{self.number}_{self._sent}"
        if isinstance(command, ev.RequestReply | ev.Configure):
            self._open[event_id] = command
        else:  # not whole: an output of a tool has up to 16 kB, a caller's unheard speech more
            self._open[event_id] = getattr(command, "item_id", "")
        while len(self._open) > self.most:
            del self._open[next(iter(self._open))]
        return Send(command, event_id)

    def take(self, event_id: str) -> Asked | None:
        """The request that an error is about."""
        return self._open.pop(event_id, None)

    def next_id(self) -> str:
        """An id for an item of ours, unique in this session."""
        return f"i{self.number}_{self._sent + 1}"


def wrong_format(event: ev.SessionUpdated, wanted: str) -> str:
    """The provider's output encoding if it says one and it is not ours."""
    node: object = event.session
    for key in ("audio", "output", "format", "type"):
        node = node.get(key) if hasattr(node, "get") else None
        if node is None:
            return ""
    expected: Sequence[str] = {"pcmu": ("audio/pcmu",), "pcma": ("audio/pcma",), "pcm24": ("audio/pcm",)}[
        wanted
    ]
    return "" if node in expected else str(node)[:32]
