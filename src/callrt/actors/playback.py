"""The playback actor: the life of the mouth. What is said, and when, is in ``voice.py``; frames and metronome tick."""

from __future__ import annotations

import trio

from callrt.actors.line import Line
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
    line.metronome.add(line)
    try:
        while True:
            voice = line.voice
            if voice.crash is not None:
                raise voice.crash
            voice.arm()
            await line.voice_wake.wait()
    finally:
        line.metronome.remove(line)
