"""The playback actor: the sense of time of the mouth. What is said, and when, is decided in ``voice.py``."""

from __future__ import annotations

import trio

from callrt.actors.line import Line
from callrt.actors.voice import GRACE_SECONDS
from callrt.protocol.records import FaultSeen
from callrt.supervision import Context


async def run_playback(line: Line, ctx: Context[object], *, task_status: trio.TaskStatus[None]) -> None:
    """Start function of the child ``playback``. If cancelled: nothing is written any more; what was not heard stays
    in the mouth, for the last words or for a successor."""
    if ctx.incarnation > 1:
        # The old mouth may be the reason for the crash. A new one begins where the records say the caller is;
        # the carrier's buffer is emptied, because nobody knows any more what of it would be heard.
        line.log.write(FaultSeen(fault="actor_crashed", turn=line.turn.state.value, detail="playback"))
        line.renew_voice()
    task_status.started()
    while True:
        voice = line.voice
        if voice.crash is not None:
            raise voice.crash
        voice.armed = voice.tick()
        # As long as the caller's frames come they tick in time, and this deadline moves on.
        await line.voice_wake.wait(voice.armed + GRACE_SECONDS)
