"""Whose is the call? One process speaks for it, the one with the newest lease; here is how the others find out.

A lease that is lost is noticed at the next write, and by a look at all leases of this process once a second
(one question, however many calls): so a process that was succeeded says nothing more after that second, even
if it has nothing to write.

A stream that comes while the journal takes no claim is spoken on if the call has been this process's, or if the
process that had it is proven to be gone. Otherwise the line stays silent until one of both is so: a caller who
waits is better served than one who hears two voices, or whose wish is carried out twice.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from typing import TYPE_CHECKING

import attrs
import trio

from callrt.actors.log import JournalPort
from callrt.journal.errors import JournalUnavailable, StreamRefused
from callrt.policy import limits
from callrt.protocol.conduct import End, Verdict

if TYPE_CHECKING:
    from callrt.actors.call import Call
    from callrt.actors.line import Stream

LOOK_SECONDS = 1.0
"""Between two looks at the leases: how long a process that was succeeded may go on, at most."""
CLAIM_AGAIN_SECONDS = 0.5
BACKLOG_SECONDS = 1.0
"""For what the carrier sent while this process slept to be read."""
REST_SECONDS = 3.0
"""For the carrier's word on a call whose stream never came. Nobody listens, so nobody waits for it."""


@attrs.define(eq=False)
class LeaseWatch:
    journal: JournalPort
    calls: Callable[[], Iterable[Call]]

    async def run(self) -> None:
        """Look until cancelled."""
        while True:
            await trio.sleep(LOOK_SECONDS)
            await self.look()

    async def look(self) -> None:
        """Claims that could not be made are made up for; calls whose lease is another's are let go. Where the
        journal does not answer, the next look tells."""
        async with trio.open_nursery() as nursery:
            for call in self.calls():
                if call.log.unleased is not None:
                    nursery.start_soon(call.log.claim_late)
        held = {call.call_sid: (call, call.log.epoch) for call in self.calls() if call.log.claiming is None}
        if not held:
            return
        try:
            newest = await self.journal.leases(tuple(held))
        except JournalUnavailable:
            return
        for call_sid, (call, epoch) in held.items():
            log = call.log
            # One that claims meanwhile finds a newer lease than it had: its own.
            if newest.get(call_sid, 0) > epoch == log.epoch and log.claiming is None and log.unleased is None:
                log.lost_lease()


async def wait_for_lease(call: Call, stream: Stream) -> int | None:
    """The lease for a stream whose claim could not be committed, though another process had the call; None when
    that one is proven to be gone. Silent meanwhile. Raises StreamRefused when the call is over before that.
    If cancelled: it may have been claimed."""
    call.line.report(
        "error", "another process had this call, and the journal cannot say that it is ours: silence"
    )
    while call.live and not call.ending and call.expects(stream):
        if await _is_nobodys(call):
            return None
        await trio.sleep(CLAIM_AGAIN_SECONDS)
        try:
            return await call.log.claim(stream.stream_sid, stream.generation)
        except JournalUnavailable:
            continue
    raise StreamRefused(call.call_sid, stream.generation, call.log.state.attached_generation)


async def _is_nobodys(call: Call) -> bool:
    """Whoever had this call is proven to be gone; where that is not known, everybody else is."""
    journal, streams = call.ports.journal, call.log.state.streams
    if streams:
        return await journal.is_gone(streams[-1].process)
    try:
        others = [peer.name for peer in await journal.peers() if peer.name != journal.process]
    except JournalUnavailable:
        return False
    for name in others:
        if not await journal.is_gone(name):
            return False
    return True


async def ask_for_lease(call: Call) -> None:
    """This process was frozen. Another one may have the call now; until that is known, nothing is said. Where the
    journal cannot be asked, a carrier that goes on sending here has not gone elsewhere."""
    try:
        if not await call.ports.journal.holds(call.call_sid, call.log.epoch):
            call.log.lost_lease()
            return
    except JournalUnavailable:
        call.journal_trouble()
        await _hear_carrier(call)
    call.line.in_doubt = False
    call.line.voice_wake.ring()


async def _hear_carrier(call: Call) -> None:
    """Until the caller's voice arrives that cannot have waited in a buffer while we slept, or the stream is over."""
    await trio.sleep(BACKLOG_SECONDS)
    heard_after = trio.current_time()
    with trio.move_on_after(limits.CARRIER_STALLED_AFTER):  # then the carrier actor gives the stream up
        while (stream := call.line.stream) is not None and stream.last_media_at <= heard_after:
            await trio.sleep(0.02)


async def own(call: Call, verdict: Verdict) -> Verdict | None:
    """The verdict, if it is this process's to give; None: the call is left to the one that carries it.

    A carrier that asked here what comes next, and then brought its stream elsewhere or nowhere, has told this
    process nothing about the call. If the process that had it lives, it is still that one's. If it does not, the
    carrier is asked how the call ended. If cancelled: no effect."""
    if call.log.owned or not (isinstance(verdict, End) and verdict.outcome == "carrier_lost"):
        return verdict
    try:
        state = await call.ports.journal.read(call.call_sid)
    except JournalUnavailable:
        return None
    if state is None or state.outcome is not None:
        return None
    if state.streams and call.others_live(state.streams[-1].process):
        return None
    with trio.move_on_after(REST_SECONDS):
        try:
            told = await call.ports.rest.how_it_ended(call.call_sid)
        except Exception as error:
            call.line.report(
                "warning", f"the carrier could not be asked how it ended ({type(error).__name__})"
            )
            return verdict
        return End(told) if told is not None else verdict
    return verdict
