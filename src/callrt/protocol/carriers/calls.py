"""A call as the carrier announces it: the value between the voice webhook and whoever answers."""

from __future__ import annotations

import attrs

TERMINAL = frozenset(("completed", "busy", "failed", "no-answer", "canceled"))
"""Statuses of a call that is over."""


@attrs.frozen
class IncomingCall:
    """What the carrier says when it asks what to do with a call. Numbers as the carrier writes them."""

    call_sid: str
    account: str
    caller: str
    called: str
    direction: str = "inbound"
