"""The desk: all calls of this process. It answers the carrier's questions and starts, finds and revives calls.

Above it: the service (who asks, is it signed). Below it: one :class:`Call` per live call, each a temporary child
of one dynamic supervisor. What a document says is a function of the call's folded state; this process knows
it from memory, any other one from the journal.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from functools import partial
from typing import Any

import attrs
import trio

from callrt.actors.answers import after_dial, after_end, pause_before
from callrt.actors.attendants import Attendants
from callrt.actors.call import Call
from callrt.actors.line import Stream
from callrt.actors.peers import BEAT_SECONDS
from callrt.actors.ports import CallPlan, CallPorts, CarrierCodec
from callrt.actors.tool_runner import ToolPort
from callrt.comfort.sentences import sentence
from callrt.journal.errors import JournalUnavailable, StreamRefused
from callrt.policy import facts, limits
from callrt.protocol.call import apply
from callrt.protocol.call_state import CallState
from callrt.protocol.carriers.calls import TERMINAL, IncomingCall
from callrt.protocol.carriers.documents import (
    AskAgain,
    ConnectStream,
    Document,
    Nothing,
    SayAndHangUp,
    Whisper,
)
from callrt.protocol.carriers.events import StreamStarted
from callrt.protocol.records import CallAccepted, Entry, StreamOffered, TransferFailed
from callrt.supervision import ChildSpec, DynamicSupervisor
from callrt.wire.transport import Transport

ANSWERED = frozenset(("completed", "answered"))
ENDED_KEPT = 100
"""Ended calls remembered, so that the carrier's last questions need no disk: they come within seconds."""
STRANGE_KEPT = 100
"""Calls remembered that are not carried here, and whose bad input has been reported."""
UNREAD_KEPT = 1_000
"""Calls remembered that the journal could not be asked about."""
EXPECTED_SECONDS = 1.0
"""For the journal to say whether a stream is expected, while a carrier waits for the answer to its upgrade."""
SETTLED_SECONDS = 0.1
"""Between looks at whether a call may be handed on."""
HAND_ON_SECONDS = 5.0
END_PATIENCE = 8.0
"""For a call that is ending to say how: under the carrier's 15 s for an answer."""


@attrs.frozen
class AgentDesk:
    """What the desk needs to know of one agent."""

    plan: CallPlan
    tools: Mapping[str, ToolPort]


class Attached:
    """A stream that is its call's."""

    __slots__ = ("_call", "_stream")

    def __init__(self, call: Call, stream: Stream) -> None:
        self._call = call
        self._stream = stream

    async def wait_over(self) -> None:
        """Until the call needs it no more. If cancelled: the stream is dead, the call is not."""
        try:
            await self._stream.over.wait()
        except trio.Cancelled:
            self.drop()
            raise

    def call_over(self, then: Callable[[], None]) -> bool:
        """Instead of :meth:`wait_over`: ``then`` is called when it would return. False: that is now. No checkpoint."""
        return self._stream.over.call(then)

    def drop(self) -> None:
        """What a cancellation does: the stream is dead, the call is not. No checkpoint."""
        self._call.drop(self._stream, "cancelled")


class Desk:
    """Implements ``service.desk.CallDesk``. ``agent_for`` maps a called number to an agent."""

    def __init__(
        self,
        ports: CallPorts,
        agents: Mapping[str, AgentDesk],
        agent_for: Callable[[str], str],
        *,
        keep_seconds: float = math.inf,
    ) -> None:
        """``keep_seconds``: how long the journal keeps ended calls."""
        self._ports = ports
        self._agents = dict(agents)
        self._agent_for = agent_for
        self._calls: dict[str, Call] = {}
        self._ended: dict[str, CallState] = {}
        self._strange: dict[str, None] = {}
        self._unread: dict[str, float] = {}
        """Calls that were asked about while the journal did not answer, and since when."""
        self._locks: dict[str, trio.Lock] = {}
        self._refusing: str | None = None
        self._empty = trio.Event()
        self._supervisor = DynamicSupervisor(
            max_restarts=10, period=1.0, name="calls", rng=ports.rng("calls")
        )
        resilience = next(iter(self._agents.values())).plan.resilience
        self._patience = resilience.carrier_return_seconds
        self._attendants = Attendants(ports, resilience, self._calls, keep_seconds=keep_seconds)
        self.peers = self._attendants.peers

    # -- running ------------------------------------------------------------------------------------------

    async def run(self, ctx: Any = None, *, task_status: trio.TaskStatus[Desk]) -> None:
        """Start function: the supervisor of all calls. If cancelled: each call is released, not ended."""
        async with trio.open_nursery() as nursery:
            nursery.start_soon(self._attendants.run, ctx)
            async with trio.open_nursery() as calls:
                await calls.start(partial(self._supervisor.run, ctx))
                task_status.started(self)
            nursery.cancel_scope.cancel()

    def lease_lost(self, call_sid: str, epoch: int) -> None:
        """Another process has taken a call over: here it falls silent."""
        call = self._calls.get(call_sid)
        if call is not None and call.log.epoch == epoch:
            call.log.lost_lease()

    def refuse(self, why: str) -> None:
        """New calls are declined from now on."""
        self._refusing = why

    async def drain(self, seconds: float) -> None:
        """Decline new calls and let the live ones end by themselves for so long. A process that takes calls on the
        same journal gets them, each at a moment when nobody speaks; without one they are ended politely."""
        self.refuse("draining")
        self.peers.serving = False
        with trio.move_on_after(seconds):
            async with trio.open_nursery() as nursery:
                nursery.start_soon(self._hand_on)
                await self._wait_empty()
                nursery.cancel_scope.cancel()
        if self.handing_over:
            for call in list(self._calls.values()):
                call.leave()
            with trio.move_on_after(HAND_ON_SECONDS):
                await self._wait_empty()
        for call in list(self._calls.values()):
            call.finish("completed", "goodbye")
        with trio.move_on_after(limits.LAST_WORDS_SECONDS + 6):
            await self._wait_empty()

    async def _hand_on(self) -> None:
        await self.peers.turn()
        await trio.sleep(2 * BEAT_SECONDS)  # others that leave, too, have said so by then
        while True:
            if self.handing_over:
                for call in list(self._calls.values()):
                    if call.settled:
                        call.leave()
            await trio.sleep(SETTLED_SECONDS)

    async def step_back(self) -> None:
        """Say to all who share the journal that this process takes no more calls, and look who else does. If
        cancelled: it may have been said."""
        self.peers.serving = False
        await self.peers.turn()

    @property
    def handing_over(self) -> bool:
        """This process leaves, and another one is there to go on."""
        return self._refusing is not None and not self.peers.serving and self.peers.successor

    @property
    def live_calls(self) -> int:
        return len(self._calls)

    async def _wait_empty(self) -> None:
        while self._calls:
            self._empty = trio.Event()
            await self._empty.wait()

    # -- the carrier's questions ------------------------------------------------------------------------------

    async def incoming(self, call: IncomingCall) -> Document:
        """A voice webhook. Repeated for a live call: a document with a new stream. If cancelled: it may have
        happened; asked again, the answer fits."""
        async with self._lock(call.call_sid):
            live = await self._find(call.call_sid)
            if live is not None:
                return await self._offer(live)
            if call.call_sid in self._ended:
                return after_end(self._ended[call.call_sid])
            agent = self._agents[self._agent_for(call.called)]
            if (self._refusing is not None and not self.handing_over) or len(self._calls) >= limits.CALLS_MAX:
                return SayAndHangUp(*sentence(agent.plan.agent.language, "busy"))
            accepted = CallAccepted(
                carrier="twilio",
                agent=agent.plan.agent.name,
                caller=call.caller,
                called=call.called,
                direction=call.direction,
                account=call.account,
            )
            state = apply(
                CallState(call_sid=call.call_sid), Entry(call.call_sid, 1, self._ports.now(), accepted)
            )
            new = Call(state, agent.plan, self._ports, agent.tools)
            try:
                await self._ports.journal.append(call.call_sid, accepted)
            except JournalUnavailable:
                # The caller is on the line now: the call is taken, and its records follow when they can.
                self._ports.journal.append_nowait(call.call_sid, accepted)
                new.log.on_trouble()
            if self.handing_over:
                return await self._offer_elsewhere(state)
            await self._start(new)
            return await self._offer(new)

    async def stream_ended(self, call_sid: str) -> Document:
        """The carrier asks what comes next. For a call that lives: a new stream."""
        async with self._lock(call_sid):
            call = await self._find(call_sid)
            if call is not None and call.ending:
                with trio.move_on_after(END_PATIENCE):
                    await call.ended.wait()
                call.asked_after_end()
                return after_end(call.log.state)
            if call is not None:
                return await self._offer(call)
            state = await self._state(call_sid)
            if state is not None and state.outcome is None and self.handing_over:
                return await self._offer_elsewhere(state)
            if state is None and self._may_still_be_read(call_sid):
                return AskAgain()
            finished = self._calls.get(call_sid)
            if finished is not None:
                finished.asked_after_end()
            return after_end(state)

    async def dial_ended(self, call_sid: str, status: str) -> Document:
        """The attempt to reach the human is over."""
        state = await self._state(call_sid)
        if state is None or status in ANSWERED or state.transfer is None:
            return after_dial(state, answered=True)
        record = TransferFailed(status=status[:32])
        try:
            await self._ports.journal.append(call_sid, record)
        except JournalUnavailable:
            self._ports.journal.append_nowait(call_sid, record)
        if call_sid in self._ended:
            entry = Entry(call_sid, state.last_number + 1, self._ports.now(), record)
            self._ended[call_sid] = apply(state, entry)
        return after_dial(state, answered=False, language=self._language(state))

    async def whisper(self, call_sid: str) -> Document:
        """The human has answered: who is calling, and why."""
        state = await self._state(call_sid)
        if state is None or state.transfer is None:
            return Nothing()
        return Whisper(state.transfer.summary, self._language(state))

    async def call_status(self, call_sid: str, status: str) -> None:
        """Terminal statuses end the call whatever its socket says."""
        call = self._calls.get(call_sid)
        if call is not None and status in TERMINAL:
            call.carrier_over()

    async def stream_status(self, call_sid: str, stream_sid: str, event: str, error: str) -> None:
        """Only told; the socket and the action request decide."""
        if event == "stream-error":
            self._ports.report(call_sid, "warning", "the carrier reports an error of the media stream")

    # -- streams --------------------------------------------------------------------------------------------

    def may_attach(self, call_sid: str, generation: int) -> bool:
        """A stream that another process offered is unknown here and may come: the journal decides in attach."""
        call = self._calls.get(call_sid)
        if call is not None and call.live:
            return call.may_attach(generation)
        return call_sid not in self._ended

    async def expects(self, call_sid: str, generation: int) -> bool:
        """Of a call that is not known here the journal is asked. If that does not answer in time the stream may come:
        the claim decides in attach. If cancelled: no effect."""
        if call_sid in self._calls or call_sid in self._ended:
            return self.may_attach(call_sid, generation)
        with trio.move_on_after(EXPECTED_SECONDS):
            try:
                state = await self._ports.journal.read(call_sid)
            except JournalUnavailable:
                return True
            return state is not None and state.outcome is None and generation > state.attached_generation
        return True

    async def attach(
        self,
        call_sid: str,
        generation: int,
        transport: Transport,
        codec: CarrierCodec,
        started: StreamStarted,
    ) -> Attached | None:
        """None: it was refused. If cancelled: the stream is dead; the call is not."""
        now = trio.current_time()
        stream = Stream(started.stream_id, generation, transport, codec, now)
        try:
            call = self._calls.get(call_sid)
            if call is None or not call.live:
                async with self._lock(call_sid):
                    call = await self._find(call_sid)
            if call is None:
                raise StreamRefused(call_sid, generation, 0)
            await call.attach(stream)
        except StreamRefused:
            self._ports.report(
                call_sid, "warning", "a media stream was refused: its call is over, or has a newer one"
            )
            await transport.aclose(1008, "stream not expected")
            return None
        return Attached(call, stream)

    def bad_input(self, call_sid: str, reason: str) -> None:
        """Count what came on a call's socket before it was attached; the call's first is reported. No checkpoint."""
        sentence = (
            f"a media stream began with what was not understood ({reason}); the call goes on without that"
        )
        call = self._calls.get(call_sid)
        if call is not None and call.live:
            call.line.bad("carrier", reason, sentence)
            return
        self._ports.observe(facts.BadInput("carrier", reason))
        if call_sid not in self._strange:
            self._ports.report(call_sid, "warning", sentence)
            self._strange[call_sid] = None
            while len(self._strange) > STRANGE_KEPT:
                del self._strange[next(iter(self._strange))]

    def snapshot(self) -> Sequence[Mapping[str, Any]]:
        """Live calls and their trees, without numbers and words."""
        return [call.view() for call in self._calls.values()]

    # -- inside -----------------------------------------------------------------------------------------------

    async def _offer(self, call: Call) -> Document:
        if call.log.state.offered_generation >= limits.GENERATIONS_MAX:
            call.finish("carrier_lost", None)
            return after_end(None)
        generation = await call.offer()
        pause = pause_before(call.log.state)
        return ConnectStream(call.call_sid, generation, pause_seconds=pause)

    async def _offer_elsewhere(self, state: CallState) -> Document:
        """Another process takes this call up when its stream comes; the journal tells it all."""
        generation = max(state.offered_generation, state.attached_generation) + 1
        record = StreamOffered(generation=generation)
        try:
            await self._ports.journal.append(state.call_sid, record)
        except JournalUnavailable:
            self._ports.journal.append_nowait(state.call_sid, record)
        return ConnectStream(state.call_sid, generation, pause_seconds=pause_before(state))

    async def _find(self, call_sid: str) -> Call | None:
        """The live call, here or in the journal: one that a dead process left behind is taken up."""
        call = self._calls.get(call_sid)
        if call is not None:
            return call if call.live else None
        if call_sid in self._ended or self._refusing is not None:
            return None
        state = await self._state(call_sid)
        if state is None:
            return None
        if state.outcome is not None:
            self._remember(state)
            return None
        agent = self._agents.get(state.agent) or self._agents[self._agent_for(state.called)]
        revived = Call(
            state, agent.plan, self._ports, agent.tools, recovered=True, others_live=self.peers.lives
        )
        await self._start(revived)
        return revived

    async def _start(self, call: Call) -> None:
        self._calls[call.call_sid] = call

        async def start(ctx: Any, *, task_status: trio.TaskStatus[Call]) -> None:
            try:
                await call.run(ctx, task_status=task_status)
            finally:
                self._gone(call)

        spec = ChildSpec(call.call_sid, start, restart="temporary", shutdown=math.inf)
        try:
            await self._supervisor.start_child(spec)
        except BaseException:
            self._gone(call)
            raise

    def _gone(self, call: Call) -> None:
        if self._calls.get(call.call_sid) is call:
            del self._calls[call.call_sid]
            if call.log.state.outcome is not None:
                self._remember(call.log.state)
            if not self._calls:
                self._empty.set()

    def _remember(self, state: CallState) -> None:
        self._ended[state.call_sid] = state
        while len(self._ended) > ENDED_KEPT:
            del self._ended[next(iter(self._ended))]

    async def _state(self, call_sid: str) -> CallState | None:
        call = self._calls.get(call_sid)
        if call is not None:
            return call.log.state
        if call_sid in self._ended:
            return self._ended[call_sid]
        try:
            state = await self._ports.journal.read(call_sid)
        except JournalUnavailable:
            self._unread.setdefault(call_sid, trio.current_time())
            while len(self._unread) > UNREAD_KEPT:
                del self._unread[next(iter(self._unread))]
            return None
        self._unread.pop(call_sid, None)
        return state if state is not None and state.call_sid else None

    def _may_still_be_read(self, call_sid: str) -> bool:
        """The journal does not answer, and has not for as long as a call may be without its stream."""
        since = self._unread.get(call_sid)
        return since is not None and trio.current_time() - since < self._patience

    def _language(self, state: CallState) -> str:
        agent = self._agents.get(state.agent)
        return agent.plan.agent.language if agent is not None else "en"

    def _lock(self, call_sid: str) -> trio.Lock:
        """One question per call at a time; the dictionary is as bounded as the carrier's calls in flight."""
        for sid in [sid for sid, lock in self._locks.items() if not lock.locked() and sid != call_sid]:
            del self._locks[sid]
        return self._locks.setdefault(call_sid, trio.Lock())
