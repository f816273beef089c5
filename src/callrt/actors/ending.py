"""How a call ends: last words, the record, the socket, and the carrier told."""

from __future__ import annotations

from functools import partial
from typing import TYPE_CHECKING

import trio

from callrt.actors.farewell import give_transcript, hand_over, speak_last
from callrt.policy import facts, limits, tree
from callrt.protocol.conduct import End, Transfer, Verdict
from callrt.protocol.records import CallEnded, StreamDetached

if TYPE_CHECKING:
    from callrt.actors.call import Call


async def carry_out(call: Call, verdict: Verdict) -> None:
    """Last words, the record, the socket. Bounded: a call ends soon after its verdict whatever hangs."""
    line = call.line
    line.over.set()
    if call.supervisor is not None:
        call.supervisor.stop()
        with trio.move_on_after(2 * tree.SHUTDOWN_SECONDS):
            await call.supervisor.wait_stopped()
    hurry = isinstance(verdict, End) and verdict.outcome == "max_duration"
    if verdict.line is not None and line.stream is not None:
        await speak_last(line, verdict.line, hurry=hurry)
    line.voice.conclude()
    if isinstance(verdict, Transfer):
        await hand_over(line, verdict.reason, verdict.note)
        outcome = "transferred"
    else:
        outcome = verdict.outcome
    with trio.move_on_after(3):
        await call.log.commit_if_possible(CallEnded(outcome=outcome))
    if call.log.state.outcome is None and not call.log.fenced:
        call.log.write(CallEnded(outcome=outcome))
    if call.log.fenced:
        # The call is another process's: what was decided here is void, and the carrier must not hear of it.
        call.ports.observe(facts.CallReleased(call.call_sid))
        return
    call.ports.observe(facts.CallEnded(outcome, call.call_sid))
    call.ended.set()
    stream = line.stream
    line.stream = None
    if stream is not None:
        call.log.write(
            StreamDetached(stream_sid=stream.stream_sid, generation=stream.generation, reason="ended")
        )
        call.log.flush()
        with trio.move_on_after(2):
            await stream.transport.aclose(1000)
        stream.transport.abort()
        stream.over.set()
    async with trio.open_nursery() as nursery:
        nursery.start_soon(partial(_tell_carrier, call, outcome, closed=stream is not None))
        if isinstance(verdict, Transfer):
            nursery.start_soon(give_transcript, line)


async def _tell_carrier(call: Call, outcome: str, *, closed: bool) -> None:
    """A closed stream makes the carrier ask what comes next. One that does not ask is told over REST."""
    if outcome == "caller_hung_up":
        return
    if closed:
        with trio.move_on_after(limits.END_ACTION_GRACE):
            await call.action_after_end.wait()
            return
    with trio.move_on_after(5):
        if outcome == "transferred":
            await call.try_rest(call.ports.rest.ask_again(call.call_sid))
        else:
            await call.try_rest(call.ports.rest.hang_up(call.call_sid))
