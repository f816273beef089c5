"""The sweeper: gives an end to calls that nobody carries any more.

A process that dies leaves its calls live in the journal. The carrier brings most of them back within seconds;
a caller who hung up meanwhile never comes, and nobody would write the outcome down. So each process looks, now
and then, for calls of which nothing was written for longer than a carrier takes to return and whose process is
gone, and asks the carrier: is it over, its end is recorded; does it live, it is asked back to us.

However long that takes, a call is over soon after ``max_call_seconds``: then nobody is waited for any more, and the
carrier has a second to say how it ended. Each call is seen to by a task of its own, so that a carrier
that does not answer for one holds up no other.

Several processes may sweep one journal. What they do to a call they do under a condition ("if nothing was
written since I looked"), so one of them wins and the others look again.
"""

from __future__ import annotations

import math
from collections.abc import Awaitable, Callable

import attrs
import trio

from callrt.actors.log import JournalPort
from callrt.actors.peers import Peers
from callrt.actors.ports import CarrierRest
from callrt.journal.errors import JournalUnavailable, Overtaken
from callrt.policy import facts
from callrt.policy.settings import Resilience
from callrt.protocol.call_state import CallState
from callrt.protocol.faults import FaultKind
from callrt.protocol.records import CallEnded, FaultSeen

SWEEP_SECONDS = 5.0
TICK_SECONDS = 0.5
"""Between looks at which calls are due, at least: the journal is not asked for that."""
AGAIN_SECONDS = 1.0
"""Before the same call is seen to once more."""
MARGIN_SECONDS = 5.0
"""Beyond ``carrier_return_seconds``: a call's own process ends it first."""
LIMIT_MARGIN_SECONDS = 3.0
"""Beyond ``max_call_seconds``, for the same reason."""
PROMISED_SECONDS = 5.0
"""Beyond ``max_call_seconds``: by then there is an end in the journal."""
ANSWER_SECONDS = 1.0
"""For the carrier to say how a call ended that is over its limit: the end does not wait for longer."""
STILL_SECONDS = 2.0
"""Without a beat of its process, a call over its limit is nobody's: of one that lives it would be over by now."""
ASKS_MAX = 3
"""Times that a living call is asked back before it is hung up: nobody here can reach its caller."""
AT_ONCE_MAX = 50
"""Calls that are seen to at the same time; the others wait. Each costs a request to the carrier."""
LATE_AT_ONCE_MAX = 200
"""The same, for those over their limit: what hangs for the others must not hold them up."""
REST_SECONDS = 20.0


@attrs.define
class _Watched:
    number: int
    """Of its last entry."""
    since: float
    limit: float
    """When ``max_call_seconds`` are over, on Trio's clock: wall time is looked at once, and may jump afterwards."""
    asks: int = 0
    again: float = -math.inf
    """It was seen to: not before then once more."""

    @property
    def late(self) -> bool:
        return trio.current_time() >= self.limit + LIMIT_MARGIN_SECONDS

    def answer_by(self) -> float:
        """As long as the carrier is waited for."""
        now = trio.current_time()
        return min(now + REST_SECONDS, max(now, self.limit + LIMIT_MARGIN_SECONDS) + ANSWER_SECONDS)


@attrs.define(eq=False)
class Sweeper:
    journal: JournalPort
    rest: CarrierRest
    peers: Peers
    resilience: Resilience
    here: Callable[[str], bool]
    """Whether this process has the call."""
    now: Callable[[], float]
    """Wall time: for a call's age."""
    report: Callable[[str, str, str], None]
    observe: Callable[[facts.Fact], None]
    _watched: dict[str, _Watched] = attrs.field(factory=dict)
    _at_work: set[str] = attrs.field(factory=set)
    """Calls that are being seen to."""

    async def run(self) -> None:
        """Sweep until cancelled. If cancelled: an end that was found may have been recorded."""
        async with trio.open_nursery() as nursery:
            while True:
                await self._look()
                next_look = trio.current_time() + SWEEP_SECONDS
                while trio.current_time() < next_look:
                    soonest = self._begin(nursery)
                    earliest = trio.current_time() + TICK_SECONDS
                    await trio.sleep_until(max(earliest, min(soonest, next_look)))

    async def _look(self) -> None:
        """Look once at every live call. Without a journal nothing can be said."""
        try:
            heads = await self.journal.live_heads()
        except JournalUnavailable:
            return
        now, wall = trio.current_time(), self.now()
        before, self._watched = self._watched, {}
        for call_sid, number, first_at in heads:
            if self.here(call_sid):
                continue
            watched = before.get(call_sid)
            if watched is None:
                limit = now + first_at + self.resilience.max_call_seconds - wall
                watched = _Watched(number, now, limit)
            elif watched.number != number:
                watched.number, watched.since = number, now
            self._watched[call_sid] = watched

    def _begin(self, nursery: trio.Nursery) -> float:
        """See to what is due; returns when to look again."""
        now, soonest = trio.current_time(), math.inf
        patience = self.resilience.carrier_return_seconds + MARGIN_SECONDS
        for call_sid, watched in self._watched.items():
            if call_sid in self._at_work or self.here(call_sid):
                continue
            due = max(watched.again, min(watched.since + patience, watched.limit + LIMIT_MARGIN_SECONDS))
            soonest = min(soonest, due)
            if due <= now and len(self._at_work) < (LATE_AT_ONCE_MAX if watched.late else AT_ONCE_MAX):
                self._at_work.add(call_sid)
                nursery.start_soon(self._see_to, call_sid, watched)
        return now if self._at_work else soonest

    async def _see_to(self, call_sid: str, watched: _Watched) -> None:
        try:
            await self._settle(call_sid, watched)
        except (JournalUnavailable, Overtaken):
            pass  # somebody else was quicker, or nobody can be: soon it is seen to again
        finally:
            self._at_work.discard(call_sid)
            now = trio.current_time()
            watched.again = now + (AGAIN_SECONDS if now < watched.limit + PROMISED_SECONDS else SWEEP_SECONDS)

    async def _settle(self, call_sid: str, watched: _Watched) -> None:
        state = await self.journal.read(call_sid)
        if state is None or state.outcome is not None:
            self._watched.pop(call_sid, None)
        elif self.here(call_sid):
            pass  # it has come while we read
        elif await self._is_carried(state, late=watched.late):
            watched.since = trio.current_time()
        elif state.last_number != watched.number and not watched.late:
            watched.number, watched.since = state.last_number, trio.current_time()
        else:
            await self._judge(state, watched)

    async def _is_carried(self, state: CallState, *, late: bool) -> bool:
        """Its stream is open in a process that lives: it is only quiet."""
        if not state.streams or state.streams[-1].detached_at is not None:
            return False
        process = state.streams[-1].process
        if not late:
            return self.peers.lives(process)
        return self.peers.lives(process, STILL_SECONDS) and not await self.journal.is_gone(process)

    async def _judge(self, state: CallState, watched: _Watched) -> None:
        over: str | None = None
        answered = False
        try:
            with trio.fail_at(watched.answer_by()):
                over = await self.rest.how_it_ended(state.call_sid)
                answered = True
        except Exception as error:
            if not watched.late:
                self.report(
                    state.call_sid,
                    "warning",
                    f"the carrier could not be asked about a call that nobody carries ({type(error).__name__})",
                )
                watched.since = trio.current_time()
                return
            over = "carrier_lost"
        if over is not None:
            await self._end(state, "transferred" if state.transfer is not None else over)
            if not answered and state.transfer is None:  # perhaps it lives
                await self._try(state, self.rest.hang_up, trio.current_time() + REST_SECONDS)
        elif watched.late or watched.asks >= ASKS_MAX:
            await self._end(state, "max_duration" if watched.late else "carrier_lost")
            await self._try(state, self.rest.hang_up, trio.current_time() + REST_SECONDS)
        else:
            watched.asks += 1
            asked = FaultSeen(fault=FaultKind.PROCESS_DIED.value, turn="", detail="asked back")
            await self.journal.seize(state.call_sid, asked, after=state.last_number)
            watched.number, watched.since = state.last_number + 1, trio.current_time()
            self.report(state.call_sid, "warning", "nobody carries this call; the carrier is asked for it")
            await self._try(state, self.rest.ask_again, watched.answer_by())

    async def _end(self, state: CallState, outcome: str) -> None:
        await self.journal.seize(state.call_sid, CallEnded(outcome=outcome), after=state.last_number)
        self._watched.pop(state.call_sid, None)
        self.observe(facts.CallSettled(outcome))
        self.report(state.call_sid, "warning", f"a call that nobody carried has got its end ({outcome})")

    async def _try(self, state: CallState, ask: Callable[[str], Awaitable[object]], deadline: float) -> None:
        try:
            with trio.fail_at(deadline):
                await ask(state.call_sid)
        except Exception as error:
            self.report(
                state.call_sid,
                "warning",
                f"the carrier's REST interface did not help ({type(error).__name__})",
            )
