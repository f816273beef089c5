"""What one model session is made of: its phases, its limits, the reply under way."""

from __future__ import annotations

import enum
from collections.abc import Sequence

import attrs

from callrt.protocol.models import events as ev


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


@attrs.define
class Reply:
    """One reply under way."""

    reply_id: str
    items: dict[str, bool] = attrs.field(factory=dict)
    """Message items, in order; True when the model has finished the item."""
    muted: bool = False
    spoke: bool = False


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
