"""Who may speak for a call, and write to its journal.

Whoever accepts a call's media socket claims the lease: epoch + 1, in the transaction that appends
``StreamAttached``. Every later append of that holder names its epoch and is refused once a newer one exists.
So a process that was frozen, cut off, or slow to die can write nothing more, whatever it still believes; the
epoch is a fencing token, and the journal is what it fences. No clock and no timeout take part.
"""

from __future__ import annotations

import msgspec

from callrt.journal.errors import LeaseLost, StreamRefused


class Lease(msgspec.Struct, frozen=True, gc=False):
    """The newest lease of a call. Epoch 0: none was ever claimed."""

    epoch: int = 0
    generation: int = 0
    stream_sid: str = ""


def claim(call_sid: str, lease: Lease, generation: int, stream_sid: str) -> Lease | StreamRefused:
    """The next lease. A stream must be of a newer generation than the one attached last, so that a path
    token works once even when two processes are shown it; the same stream may claim again."""
    if generation < lease.generation or (generation == lease.generation and stream_sid != lease.stream_sid):
        return StreamRefused(call_sid, generation, lease.generation)
    return Lease(lease.epoch + 1, generation, stream_sid)


def check(call_sid: str, lease: Lease, epoch: int | None) -> Lease | LeaseLost:
    """The lease after an append under this epoch; None appends under no lease (webhooks, the sweeper).

    An epoch above the one in the store means that the store lost its past (an older copy was put back): the
    holder speaks on, and its epoch counts again.
    """
    if epoch is None or epoch == lease.epoch:
        return lease
    if epoch < lease.epoch:
        return LeaseLost(call_sid, epoch, lease.epoch)
    return msgspec.structs.replace(lease, epoch=epoch)
