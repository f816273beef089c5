"""The playback actor: the life of the mouth. What is said, and when, is in ``voice.py``; frames and metronome tick."""

from __future__ import annotations

from functools import partial

import trio

from callrt.actors.line import Line
from callrt.protocol.records import FaultSeen
from callrt.supervision import Context


async def run_playback(line: Line, ctx: Context[object], *, task_status: trio.TaskStatus[None]) -> None:
    """Start function of the child ``playback``. If cancelled: nothing is written any more; what was not heard stays
    in the mouth, for the last words or for a successor."""
    if not ctx.resumed:
        if ctx.incarnation > 1:
            # The old mouth may be the reason for the crash. A new one begins where the records say the caller is;
            # the carrier's buffer is emptied, because nobody knows any more what of it would be heard.
            line.log.write(FaultSeen(fault="actor_crashed", turn=line.turn.state.value, detail="playback"))
            line.renew_voice()
        task_status.started()
        line.speaks = True
    try:
        voice = line.voice
        if voice.crash is not None:
            raise voice.crash
        voice.arm()
    except BaseException:
        line.speaks = False
        raise
    ctx.rest(line.voice_wake, partial(_fall_silent, line))


def _fall_silent(line: Line) -> None:
    line.speaks = False
