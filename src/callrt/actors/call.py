"""The call: its tree of actors, and the director that decides when it ends.

The director is the task of the call itself, above the tree. It owns the carrier's socket and the lease, hears
what the actors report (``Line.notify``), asks the pure machine ``protocol/conduct.py`` for a verdict, and
speaks the last words when the tree is gone. Whatever happens below, a call that has begun here ends with an
outcome in the journal, or is another process's.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from functools import partial
from typing import Any

import trio

from callrt.actors import line as at
from callrt.actors.builtins import Builtins
from callrt.actors.carrier import run_carrier
from callrt.actors.ending import carry_out
from callrt.actors.journal import run_journal
from callrt.actors.leases import ask_for_lease, own, wait_for_lease
from callrt.actors.line import Line, Stream, make_ladder
from callrt.actors.log import CallLog
from callrt.actors.model import run_model
from callrt.actors.playback import run_playback
from callrt.actors.ports import CallPlan, CallPorts
from callrt.actors.recorder import run_recorder
from callrt.actors.tool_runner import ToolPort
from callrt.actors.tools import ToolDesk
from callrt.journal.errors import JournalUnavailable, StreamRefused
from callrt.policy import facts, limits, tree
from callrt.protocol.call_state import CallState
from callrt.protocol.conduct import Conduct, ConductLimits, Verdict
from callrt.protocol.faults import FaultKind
from callrt.protocol.history import SaidByAgent
from callrt.protocol.ladder import LateChance
from callrt.protocol.records import ActorRestarted, StreamDetached, StreamOffered
from callrt.protocol.tools import CallFacts
from callrt.protocol.turn import TurnState
from callrt.supervision import (
    ChildSpec,
    Context,
    Escalated,
    Escalation,
    Reason,
    Restarting,
    Supervisor,
)
from callrt.supervision.waiting import Flag

LEAVES = frozenset(("playback", "model", "carrier", "journal", "tools", "recorder"))


TOOL_FAULTS = {"error": FaultKind.TOOL_FAILED, "timeout": FaultKind.TOOL_TIMED_OUT}


class Call:
    """One live call in this process. Made by the desk; ``run`` is its actor."""

    def __init__(
        self,
        state: CallState,
        plan: CallPlan,
        ports: CallPorts,
        tools: Mapping[str, ToolPort],
        *,
        recovered: bool = False,
        others_live: Callable[[str], bool] = lambda process: False,
    ) -> None:
        """``others_live``: whether another process, by name, is there."""
        now = trio.current_time()
        self.call_sid = state.call_sid
        self.plan = plan
        self.ports = ports
        self.recovered = recovered
        self.others_live = others_live
        self.log = CallLog(
            state.call_sid,
            ports.journal,
            ports.now,
            state,
            on_trouble=self.journal_trouble,
            on_fenced=self._fenced,
            epoch=state.lease_epoch,
            owned=not recovered,
        )
        chance = LateChance(partial(ports.rng, f"call/{state.call_sid}"))
        self.line = Line(state.call_sid, plan, ports, self.log, make_ladder(plan, chance))
        self.line.heard_until = 0
        resilience = plan.resilience
        age = max(0.0, ports.now() - state.started_at) if state.started_at is not None else 0.0
        self.conduct = Conduct(
            started_at=now - min(age, resilience.max_call_seconds),
            limits=ConductLimits(
                carrier_return=resilience.carrier_return_seconds,
                max_silence=resilience.max_silence_seconds,
                max_call=resilience.max_call_seconds,
                hangup_grace=min(limits.HANGUP_GRACE, resilience.carrier_return_seconds),
            ),
            can_transfer=plan.agent.transfer_to is not None,
        )
        # Idempotency keys name the turn: it has to mean the same in every process.
        self.line.turn.number = sum(said.role == "caller" for said in state.lines)
        if recovered:
            self.conduct.asked(now)
        if owes_first_word(plan, state):
            # Before the first session is there: a caller who waits for a greeting waits for a reply.
            self.line.turn.state = TurnState.REPLY_OWED
            self.line.voice.owe(None)
        self.builtins = Builtins(self.line, self.conduct)
        self.line.tools = ToolDesk(
            tools,
            call=CallFacts(state.call_sid, state.caller, plan.agent.name),
            journal=self.log,
            settings=resilience,
            on_output=self.builtins.on_output,
            on_filler=self.builtins.on_filler,
            builtins=self.builtins.specs(),
            on_builtin=self.builtins.use,
            facts=self._tool_ran,
            runner=ports.runner,
        )
        self.ended = Flag()
        """The outcome is recorded (or the call is another's), and nothing more is spoken."""
        self.supervisor: Supervisor | None = None
        self._next_generation = max(state.offered_generation, state.attached_generation) + 1
        self._used_generation = state.attached_generation
        self._lost_at: float | None = None
        self._tree_over = False
        self.action_after_end = Flag()
        self._journal_warned = False

    # -- what the desk asks ---------------------------------------------------------------------------------

    @property
    def live(self) -> bool:
        return not self.ended.is_set()

    @property
    def ending(self) -> bool:
        """There is a verdict: the call says its last words, and takes no new stream."""
        return self.conduct.final is not None

    def view(self) -> dict[str, Any]:
        """For operators: no numbers, no words."""
        line, state = self.line, self.log.state
        return {
            "call_sid": self.call_sid,
            "agent": self.plan.agent.name,
            "turn": line.turn.state.value,
            "streaming": line.stream is not None,
            "streams": len(state.streams),
            "model_live": line.link is not None and line.link.live,
            "model_sessions": len(state.model_sessions),
            "restarts": len(state.restarts),
            "tools_running": line.tools.pending(),
        }

    def may_attach(self, generation: int) -> bool:
        return self.live and not self.ending and self._used_generation < generation < self._next_generation

    async def offer(self) -> int:
        """A new stream is about to be offered to the carrier: the call goes on. Returns its generation."""
        self.conduct.asked(trio.current_time())
        self.line.director_wake.ring()
        generation = self._next_generation
        self._next_generation += 1
        await self.log.commit_if_possible(StreamOffered(generation=generation))
        return generation

    async def attach(self, stream: Stream) -> None:
        """The stream is there, and this call's from now on. A newer stream retires an older one. Raises StreamRefused.

        If cancelled: the stream is dead, the call is not."""
        if not self.live or stream.generation <= self._used_generation:
            raise StreamRefused(self.call_sid, stream.generation, self._used_generation)
        self._used_generation = stream.generation
        self._next_generation = max(self._next_generation, stream.generation + 1)
        epoch: int | None
        try:
            epoch = await self.log.claim(stream.stream_sid, stream.generation)
        except JournalUnavailable:
            self.journal_trouble()
            epoch = None if self.log.owned else await wait_for_lease(self, stream)
        if not self.live or stream.generation < self._used_generation:
            raise StreamRefused(self.call_sid, stream.generation, self._used_generation)
        self.log.attached(stream.stream_sid, stream.generation, epoch)
        self._take(stream)

    def expects(self, stream: Stream) -> bool:
        """No newer stream has come since."""
        return stream.generation >= self._used_generation

    def carrier_over(self) -> None:
        """The carrier says that the call has ended."""
        self.conduct.carrier_over()
        self.line.director_wake.ring()

    def asked_after_end(self) -> None:
        self.action_after_end.set()

    def finish(self, outcome: str, spoken: str | None) -> None:
        """End for a reason of the service's own."""
        self.conduct.finish(outcome, spoken)
        self.line.director_wake.ring()

    @property
    def settled(self) -> bool:
        """Nobody speaks, nothing is owed and no tool runs: the call may be handed on unheard."""
        line = self.line
        if self.ending or line.tools.pending():
            return False
        if line.stream is None:
            return True
        return line.turn.state is TurnState.IDLE and line.voice.silent

    def leave(self) -> None:
        """Let another process take the call up: its stream is closed on purpose, the journal keeps it alive."""
        if not self.ending:
            self.line.notify(at.Leave())

    # -- the actor --------------------------------------------------------------------------------------------

    async def run(self, ctx: Context[Any] | None = None, *, task_status: trio.TaskStatus[Call]) -> None:
        """Start function. If cancelled: the tree stops in order, the socket is dropped, the journal keeps the call
        alive: another process may take it up."""
        self.ports.observe(facts.CallStarted(self.call_sid))
        self.line.metronome.add(self.line)
        released = True
        try:
            async with trio.open_nursery() as nursery:
                if self.recovered:
                    self.line.fault(FaultKind.PROCESS_DIED)
                    self.line.tools.recover(self.log.state.tools)
                if self.plan.agent.record:
                    nursery.start_soon(self._run_recording)
                nursery.start_soon(self._run_tree, ctx, name="tree")
                task_status.started(self)
                verdict = await self._direct()
                if verdict is not None:
                    verdict = await own(self, verdict)
                if verdict is not None:
                    released = False
                    await carry_out(self, verdict)
                nursery.cancel_scope.cancel()
        finally:
            self.line.metronome.remove(self.line)
            self.ended.set()
            self.line.over.set()
            if not released:
                self.line.tools.end()
            self.log.flush(last=True)
            if self.line.stream is not None:
                stream = self.line.stream
                self.line.stream = None
                stream.transport.abort()
                stream.over.set()
            if released:
                self.ports.observe(facts.CallReleased(self.call_sid))
            self._part()

    def _part(self) -> None:
        """Nothing of the call runs any more. Its parts forget each other: what is in no cycle is freed at once, and
        not by a full garbage collection, which stops every other call."""
        self.supervisor = self.line.link = None
        self.line.tools.let_go()
        del self.line.voice
        self.log.on_trouble = self.log.on_fenced = _nobody_is_told

    async def _direct(self) -> Verdict | None:
        """Until there is a verdict; None when the call is another process's."""
        line, conduct = self.line, self.conduct
        while True:
            while line.notices:
                if not await self._heed(line.notices.pop(0)):
                    return None
            now = trio.current_time()
            busy = line.turn.owed or not line.voice.silent
            conduct.active(max(line.active_at, now if busy and conduct.streaming else line.active_at))
            verdict = conduct.verdict(now, silent=line.voice.silent)
            if verdict is not None:
                return verdict
            due = conduct.deadline
            if conduct.streaming and not line.voice.silent:
                due = min(due, max(now + 0.02, line.voice.silent_at))
            line.director_due = due
            line.metronome.expect(due)
            await line.director_wake.wait()

    async def _heed(self, notice: at.Notice) -> bool:
        match notice:
            case at.Lost(stream, kind, reason):
                await self._stream_lost(stream, kind, reason)
            case at.Wish(verdict):
                self.conduct.wish(verdict, self.line.voice.silent_at)
            case at.CallerActive():
                self.builtins.taken_back()
            case at.Fenced():
                return False
            case at.Leave():
                await self._leave()
                return False
            case at.Doubt():
                await ask_for_lease(self)
        return True

    # -- streams ----------------------------------------------------------------------------------------------

    def _take(self, stream: Stream) -> None:
        """Whoever spoke before on this line is retired; the new stream goes on where the caller's ear is."""
        old = self.line.stream
        if old is not None:
            self.drop(old, "retired")
        self.line.stream = stream
        self.conduct.attached(trio.current_time())
        self.line.active()
        if self._lost_at is not None:
            self.ports.observe(facts.CarrierRecovered(trio.current_time() - self._lost_at))
            self._lost_at = None
        self.line.voice.attach(stream.generation)
        self.line.stream_ready.ring()
        self.line.director_wake.ring()

    def drop(self, stream: Stream, reason: str) -> None:
        """Nothing more is heard or said on it. No checkpoint."""
        if self.line.stream is stream:
            self.line.voice.detach(stream.last_media_at)
            self.line.stream = None
            self.conduct.detached(trio.current_time(), "lost")
            self.line.director_wake.ring()
        self.log.write(
            StreamDetached(stream_sid=stream.stream_sid, generation=stream.generation, reason=reason)
        )
        stream.transport.abort()
        stream.over.set()

    async def _leave(self) -> None:
        """All that is known is on the disk before the carrier asks who goes on."""
        line, stream = self.line, self.line.stream
        if stream is None:
            self.log.flush()
            return
        line.voice.detach(stream.last_media_at)
        line.stream = None
        await self.log.commit_if_possible(
            StreamDetached(stream_sid=stream.stream_sid, generation=stream.generation, reason="moved")
        )
        with trio.move_on_after(2):
            await stream.transport.aclose(1001, "moved")
        stream.transport.abort()
        stream.over.set()

    async def _stream_lost(self, stream: Stream, kind: FaultKind, reason: str) -> None:
        """A stream has ended; the voice knows already."""
        now = trio.current_time()
        self.log.write(
            StreamDetached(stream_sid=stream.stream_sid, generation=stream.generation, reason=reason)
        )
        if self.line.stream is not None:
            return  # a newer one is there
        if self._lost_at is None:
            self._lost_at = now
        self.line.fault(kind, reason)
        self.conduct.detached(now, "stopped" if kind is FaultKind.CARRIER_STOPPED else "lost")
        if kind is FaultKind.CARRIER_STALLED:
            # The carrier may still believe in the dead stream: only a new document ends that.
            with trio.move_on_after(5):
                await self.try_rest(self.ports.rest.ask_again(self.call_sid))

    # -- the tree -----------------------------------------------------------------------------------------------

    async def _run_tree(self, ctx: Context[Any] | None) -> None:
        self.supervisor = self._tree()
        outcome = "failed"
        try:
            await self.supervisor.run(ctx)
        except* Escalation as group:
            outcome = "model_unavailable" if self.line.ladder.losses else "failed"
            self.line.report("error", f"the call's actors gave up ({type(group.exceptions[0]).__name__})")
        if not self.ended.is_set() and not self.line.over.is_set():
            self._tree_over = True
            # A model that refuses is quicker than the carrier's stream: the caller is told all the same. One who
            # does not come (back) is the director's to notice.
            while self.line.stream is None:
                await self.line.stream_ready.wait()
            self.conduct.gave_up(outcome)
            self.line.director_wake.ring()

    async def _run_recording(self) -> None:
        """Beside the tree, because the last words are recorded too. Its end is nobody else's."""
        start = partial(run_recorder, self.line)
        recording = Supervisor(
            [ChildSpec("recorder", start, shutdown=tree.SHUTDOWN_SECONDS)],
            strategy="one_for_one",
            max_restarts=tree.RECORDING.restarts,
            period=tree.RECORDING.seconds,
            name="recording",
            rng=self.ports.rng(f"recording/{self.call_sid}"),
            reports=self._on_report,
        )
        try:
            await recording.run()
        except* Escalation:
            self.line.report("error", "the call is recorded no longer: the recorder keeps failing")

    def _tree(self) -> Supervisor:
        line = self.line
        talk = Supervisor(
            [
                ChildSpec("playback", partial(run_playback, line), shutdown=tree.SHUTDOWN_SECONDS),
                ChildSpec("model", partial(run_model, line), shutdown=tree.SHUTDOWN_SECONDS),
                ChildSpec(
                    "carrier",
                    partial(run_carrier, line),
                    restart="transient",
                    significant=True,
                    shutdown=tree.SHUTDOWN_SECONDS,
                ),
            ],
            strategy=tree.TALK.strategy,
            max_restarts=tree.TALK.budget.restarts,
            period=tree.TALK.budget.seconds,
            auto_shutdown="any_significant",
            name="talk",
        )
        return Supervisor(
            [
                ChildSpec("journal", partial(run_journal, self.log), shutdown=tree.SHUTDOWN_SECONDS),
                ChildSpec("tools", line.tools.run, shutdown=tree.SHUTDOWN_SECONDS),
                ChildSpec("talk", talk.run, restart="transient", significant=True, kind="supervisor"),
            ],
            strategy=tree.CALL.strategy,
            max_restarts=tree.CALL.budget.restarts,
            period=tree.CALL.budget.seconds,
            auto_shutdown="any_significant",
            name="call",
            reports=self._on_report,
        )

    def _on_report(self, report: object) -> None:
        if isinstance(report, Restarting) and report.id in LEAVES:
            actor, why = str(report.id), _why(report.reason)
            self.log.write(ActorRestarted(actor=actor, reason=why))
            self.ports.observe(facts.ActorRestarted(actor, why.split()[0]))
        elif isinstance(report, Escalated):
            self.ports.observe(facts.ActorEscalated(str(report.id)))

    async def try_rest(self, request: Any) -> None:
        try:
            await request
        except Exception as error:
            self.line.report("warning", f"the carrier's REST interface did not help ({type(error).__name__})")

    # -- the journal ------------------------------------------------------------------------------------------------

    def _tool_ran(self, fact: facts.Fact) -> None:
        if isinstance(fact, facts.ToolRan) and fact.status in TOOL_FAULTS:
            self.line.fault(TOOL_FAULTS[fact.status], fact.tool)
        self.ports.observe(fact)

    def journal_trouble(self) -> None:
        """A record that must be committed was not."""
        self.line.fault(FaultKind.JOURNAL_UNAVAILABLE)
        if not self._journal_warned:
            self._journal_warned = True
            self.line.report("error", "the journal cannot be written; the call goes on without it")

    def _fenced(self) -> None:
        """Another process has the call: this one falls silent at once."""
        stream = self.line.stream
        self.line.stream = None
        if stream is not None:
            stream.transport.abort()
            stream.over.set()
        self.line.notify(at.Fenced())


def owes_first_word(plan: CallPlan, state: CallState) -> bool:
    """Is the agent the one to speak, before any session has begun here?"""
    if not state.history:
        return plan.agent.greeting is not None
    last = state.history[-1]
    return not (isinstance(last, SaidByAgent) and (last.complete or last.interrupted))


def _nobody_is_told() -> None:
    pass


def _why(reason: Reason) -> str:
    """The cause in a word or two. Only our own failure's message is used: any other may quote the caller."""
    name = reason.type.rpartition(".")[2]
    return reason.message[:80] if name == "ModelLost" else (name or reason.kind)
