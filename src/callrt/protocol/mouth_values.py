"""What the mouth tells: limits, positions and outcomes as values. All positions in integer milliseconds."""

from __future__ import annotations

from typing import Final, Literal

import msgspec

from callrt.protocol.carriers.events import CarrierCommand

ITEMS_MAX: Final = 64
"""Agent's items, wherever something is remembered of each: as many as may wait to be heard. A reply is one."""


class MouthLimits(msgspec.Struct, frozen=True, gc=False):
    chunk_ms: int = 200
    """Audio between two marks, at most: five marks a second, and the coarseness of what marks can prove."""
    lead_ms: int = 400
    """A chunk is sent when less than this lies ahead of the ear: longer than a retransmission or a busy loop,
    short enough that little is lost with a stream."""
    lead_max_ms: int = 2000
    """Never more than this is in flight, whatever the estimate says, on a stream that echoes marks."""
    queue_max_ms: int = 240_000
    """Unheard audio, sent or not: four minutes are 1.9 MB."""
    items_max: int = ITEMS_MAX
    """Voices at once, and items remembered."""
    safety_ms: int = 100
    """Taken off the heard position on a barge-in: the leg behind the carrier is not instant."""
    delay_ms: int = 120
    """From sending into an empty buffer to being heard, as long as no echo has told better: a round trip of
    100 ms and a frame."""
    delay_max_ms: int = 180
    """The most that late echoes are believed: more could be a stall, and a frame comes on top: 200 ms may be
    said twice."""
    patience_ms: int = 5000
    """How long a mark may be overdue before the stream is treated as one without marks."""
    presume_ms: int = 10_000
    """Overdue this long, a chunk counts as heard without its mark: twice the slowest detection of a dead
    stream."""

    def __post_init__(self) -> None:
        if self.chunk_ms <= 0 or self.chunk_ms % 20:
            raise ValueError(f"chunk_ms must be a multiple of 20, not {self.chunk_ms}")
        if self.lead_ms <= 0 or self.lead_max_ms < self.lead_ms + self.chunk_ms:
            raise ValueError("lead_max_ms must be at least lead_ms + chunk_ms, and lead_ms positive")
        if self.presume_ms < self.patience_ms:
            raise ValueError("presume_ms must not be below patience_ms")


class ItemProgress(msgspec.Struct, frozen=True, gc=False):
    item_id: str
    content_index: int
    received_ms: int
    """Of the model, as far as accepted."""
    sent_ms: int
    heard_ms: int
    """The estimate: late rather than early, not monotone (an echo may correct it downwards)."""
    ended: bool
    complete: bool
    """Ended and heard to its end, by the carrier's word."""
    cut: bool
    """By a barge-in; ``heard_ms`` is final."""


class ItemHeard(msgspec.Struct, frozen=True, gc=False):
    """What has been heard of an item, its parts (``content_index``) together."""

    item_id: str
    heard_ms: int
    complete: bool
    """All of it has been heard."""
    cut: bool
    """By a barge-in."""


class ItemCut(msgspec.Struct, frozen=True, gc=False):
    """A part of an item that the caller did not hear to its end."""

    item_id: str
    content_index: int
    heard_ms: int
    """Never more than was heard: fit for truncation."""
    received_ms: int
    ended: bool
    before_ms: int = 0
    """Of the item's earlier parts; heard, too."""


class Flush(msgspec.Struct, frozen=True, gc=False):
    """A barge-in. Write ``commands`` first, then tell the model about ``items``."""

    epoch: int
    commands: tuple[CarrierCommand, ...] = ()
    items: tuple[ItemCut, ...] = ()
    """In playback order: the one at the playhead, then those not begun."""
    lines: tuple[str, ...] = ()
    """Our own lines that were dropped."""
    completed: tuple[str, ...] = ()
    """Items whose end was heard although its mark was still under way."""


class Lost(msgspec.Struct, frozen=True, gc=False):
    """A stream went away. ``items`` have their positions frozen: the rest of each will be said again."""

    items: tuple[ItemProgress, ...] = ()
    lines: tuple[str, ...] = ()
    """Our own lines that were dropped, heard or half heard: they are not said again."""
    unheard_ms: int = 0
    """Sent and not heard."""
    completed: tuple[str, ...] = ()


class MarkOutcome(msgspec.Struct, frozen=True, gc=False):
    kind: Literal["played", "flushed", "stale", "unknown"]
    """flushed: of an epoch that a barge-in ended. stale: of another stream, or again. unknown: not ours."""
    completed: tuple[str, ...] = ()
    """Items that became complete by it."""
    lines: tuple[str, ...] = ()
    """Lines that were heard to their end by it."""
