"""The journal actor of one call: hands on, in order, the records that the journal could not be given at once."""

from __future__ import annotations

import trio

from callrt.actors.log import CallLog
from callrt.supervision import Context


async def run_journal(log: CallLog, ctx: Context[object], *, task_status: trio.TaskStatus[None]) -> None:
    """Start function of the child ``journal``. If cancelled: records stay queued in the log, for a successor."""
    if not ctx.resumed:
        task_status.started()
    log.flush()
    ctx.rest(log.wake)
