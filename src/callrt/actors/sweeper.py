"""The sweeper: gives an end to calls that nobody carries any more.

A process that dies leaves its calls live in the journal. The carrier brings most of them back within seconds;
a caller who hung up meanwhile never comes, and nobody would write the outcome down. So each process looks, now
and then, for calls of which nothing was written for longer than a carrier takes to return and whose process is
gone, and asks the carrier: is it over, its end is recorded; does it live, it is asked back to us.

Several processes may sweep one journal. What they do to a call they do under a condition ("if nothing was
written since I looked"), so one of them wins and the others look again.
"""

from __future__ import annotations

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
MARGIN_SECONDS = 5.0
"""Beyond ``carrier_return_seconds``: a call's own process ends it first."""
ASKS_MAX = 3
"""Times that a living call is asked back before it is hung up: nobody here can reach its caller."""
AT_ONCE_MAX = 50
"""Calls per sweep; the others wait for the next one. Each costs a request to the carrier."""
REST_SECONDS = 20.0


@attrs.define
class _Watched:
    number: int
    """Of its last entry."""
    since: float
    asks: int = 0


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

    async def run(self) -> None:
        """Sweep until cancelled. If cancelled: an end that was found may have been recorded."""
        while True:
            await self.sweep()
            await trio.sleep(SWEEP_SECONDS)

    async def sweep(self) -> None:
        """Look once at every live call. Without a journal nothing can be said."""
        try:
            heads = dict(await self.journal.live_heads())
        except JournalUnavailable:
            return
        now = trio.current_time()
        for call_sid in [sid for sid in self._watched if sid not in heads or self.here(sid)]:
            del self._watched[call_sid]
        due = []
        for call_sid, number in heads.items():
            if self.here(call_sid):
                continue
            watched = self._watched.setdefault(call_sid, _Watched(number, now))
            if watched.number != number:
                watched.number, watched.since = number, now
            elif now - watched.since >= self.resilience.carrier_return_seconds + MARGIN_SECONDS:
                due.append(call_sid)
        for call_sid in due[:AT_ONCE_MAX]:
            await self._settle(call_sid, self._watched[call_sid])

    async def _settle(self, call_sid: str, watched: _Watched) -> None:
        try:
            state = await self.journal.read(call_sid)
            if state is None or state.outcome is not None or state.last_number != watched.number:
                return
            if self._is_carried(state):
                watched.since = trio.current_time()
                return
            await self._judge(state, watched)
        except (JournalUnavailable, Overtaken):
            return  # somebody else was quicker, or nobody can be: the next sweep sees

    def _is_carried(self, state: CallState) -> bool:
        """Its stream is open in a process that lives: it is only quiet."""
        if not state.streams or state.streams[-1].detached_at is not None:
            return False
        return self.peers.lives(state.streams[-1].process)

    async def _judge(self, state: CallState, watched: _Watched) -> None:
        over: str | None = None
        try:
            with trio.fail_after(REST_SECONDS):
                over = await self.rest.how_it_ended(state.call_sid)
        except Exception as error:
            if not self._too_old(state):
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
        elif self._too_old(state) or watched.asks >= ASKS_MAX:
            await self._end(state, "max_duration" if self._too_old(state) else "carrier_lost")
            await self._try(state, self.rest.hang_up)
        else:
            watched.asks += 1
            asked = FaultSeen(fault=FaultKind.PROCESS_DIED.value, turn="", detail="asked back")
            await self.journal.seize(state.call_sid, asked, after=state.last_number)
            watched.number, watched.since = state.last_number + 1, trio.current_time()
            self.report(state.call_sid, "warning", "nobody carries this call; the carrier is asked for it")
            await self._try(state, self.rest.ask_again)

    async def _end(self, state: CallState, outcome: str) -> None:
        await self.journal.seize(state.call_sid, CallEnded(outcome=outcome), after=state.last_number)
        self._watched.pop(state.call_sid, None)
        self.observe(facts.CallSettled(outcome))
        self.report(state.call_sid, "warning", f"a call that nobody carried has got its end ({outcome})")

    async def _try(self, state: CallState, ask: Callable[[str], Awaitable[object]]) -> None:
        try:
            with trio.fail_after(REST_SECONDS):
                await ask(state.call_sid)
        except Exception as error:
            self.report(
                state.call_sid,
                "warning",
                f"the carrier's REST interface did not help ({type(error).__name__})",
            )

    def _too_old(self, state: CallState) -> bool:
        return (
            state.started_at is None
            or self.now() - state.started_at > self.resilience.max_call_seconds + MARGIN_SECONDS
        )
