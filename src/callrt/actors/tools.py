"""The tools of one call: the desk takes the model's requests, a dynamic supervisor has one child per run.

Theory of operation. :meth:`ToolDesk.request` decides at once (``protocol/tools.py``) and never waits. What is
to run is queued; :meth:`ToolDesk.run`, the actor, starts a temporary child for it. A run passes through

    queued -> intending -> running -> finishing -> settled

``intending``: a tool with side effects waits for the commit of its intent; if the journal cannot take it,
nothing runs. ``finishing``: its result waits for its commit, for a short while. Whatever happens in between,
the desk outlives its tasks: when the actor is restarted, runs that were left behind are settled by where they
stood. So each request gets its one output, and no side effect runs twice.
"""

from __future__ import annotations

import logging
from collections import Counter
from collections.abc import Awaitable, Callable, Iterable, Mapping, Sequence
from functools import partial
from typing import Any, Literal, Protocol

import attrs
import trio

from callrt.actors.tool_runner import Job, Outcome, Progress, ThreadRunner, ToolPort, ToolRunner
from callrt.policy.facts import Fact, ToolRan
from callrt.policy.settings import Resilience
from callrt.protocol.call_state import ToolUse
from callrt.protocol.history import UsedTool
from callrt.protocol.models.events import ToolSpec
from callrt.protocol.records import AnyRecord, ToolFinished, ToolIntended
from callrt.protocol.tools import (
    Answer,
    CallFacts,
    Entry,
    Limits,
    Run,
    Status,
    ToolTable,
    error_output,
    parse_reason,
    reason_of,
)
from callrt.supervision import ChildSpec, Context, DynamicSupervisor
from callrt.supervision.waiting import Bell, Flag

log = logging.getLogger("callrt.tools")

FILLER_AFTER_SECONDS = 1.0
"""A second of silence is where callers begin to ask whether anybody is there."""

FINISH_COMMIT_SECONDS_MAX = 2.0
"""How long a result waits for its commit before the model gets it all the same: it has happened."""

SHUTDOWN_SECONDS = 1.0
"""A run has nothing to clean up but a killed process."""

NAME_CHARS_MAX = 64
ARGUMENTS_CHARS_MAX = 4_096
"""Of a request that was refused, this much is kept in the journal."""

NOT_DONE = error_output("The tool could not be started. Nothing was done.")
NO_JOURNAL = error_output("This cannot be done right now: it could not be written down. Nothing was done.")
BUSY = error_output("The tool is busy. Nothing was done; it may be tried later.")
TIMEOUT = error_output("The tool did not answer in time.")
TIMEOUT_EFFECT = error_output(
    "The tool did not answer in time. It is not known whether it was carried out. Do not try it again now."
)
INTERRUPTED = error_output("The tool was interrupted. It may be called again.")
UNKNOWN = error_output(
    "The tool was interrupted. It is not known whether it was carried out: say so, and do not try it again."
)
NOT_HAPPENED = error_output("The tool was interrupted before it was carried out. It may be called again.")


class CallLog(Protocol):
    """This call's journal."""

    def write(self, record: AnyRecord) -> object:
        """Write-behind; never blocks."""
        ...

    def commit(self, record: AnyRecord) -> Awaitable[object]:
        """Returns when it is on disk; raises when the journal cannot take it."""
        ...


@attrs.define(eq=False)
class _Active:
    """A run that is not settled."""

    run: Run
    phase: Literal["queued", "intending", "running", "finishing"] = "queued"
    resolving: bool = False
    """Ask the tool's resolve instead of running it."""
    progress: Progress = attrs.field(factory=Progress)
    scope: trio.CancelScope | None = None
    finished: tuple[Status, str, bool] | None = None
    """Status, output, remember: known, and being committed."""


class ToolDesk:
    """One call's tools. Owned by the call, survives restarts of its tasks; not for other threads.

    ``on_output(call_id, output)`` is called exactly once for each request while the call lives, perhaps
    within :meth:`request`. ``on_builtin(name, reason)`` carries out ``transfer_to_human`` or ``end_call``
    and returns the output; those in ``builtins`` are offered to the model. Callbacks must not wait or raise.
    """

    def __init__(
        self,
        tools: Mapping[str, ToolPort],
        *,
        call: CallFacts,
        journal: CallLog,
        settings: Resilience,
        on_output: Callable[[str, str], object],
        on_filler: Callable[[str], object] = lambda text: None,
        builtins: Sequence[ToolSpec] = (),
        on_builtin: Callable[[str, str], str] = lambda name, reason: NOT_DONE,
        facts: Callable[[Fact], object] = lambda fact: None,
        runner: ToolRunner | None = None,
        limits: Limits | None = None,
    ) -> None:
        self._tools = dict(tools)
        self._builtins = tuple(builtins)
        self._call = call
        self._journal = journal
        self._settings = settings
        self._on_output = on_output
        self._on_filler = on_filler
        self._on_builtin = on_builtin
        self._facts = facts
        self._runner: ToolRunner = runner if runner is not None else ThreadRunner()
        entries = {name: Entry(tool.parse, tool.side_effects) for name, tool in self._tools.items()}
        for spec in self._builtins:
            entries[spec.name] = Entry(parse_reason, side_effects=True)
        self._table = ToolTable(call.call_sid, entries, limits)
        self._active: dict[str, _Active] = {}
        self._queue: list[str] = []
        self._wake = Bell()
        self._changed = Flag()
        self._starts = 0
        self.counters: Counter[str] = Counter()
        """Of the desk itself; the table's own are in :attr:`decisions`."""

    @property
    def decisions(self) -> Counter[str]:
        return self._table.counters

    def specs(self) -> list[ToolSpec]:
        """What the model is told: the user's tools, then the built-in ones."""
        return [tool.spec for tool in self._tools.values()] + list(self._builtins)

    def pending(self) -> int:
        """Runs that have not been settled."""
        return len(self._active)

    def running(self) -> tuple[UsedTool, ...]:
        """Requests whose outputs are still to come, oldest first; a lost session's are the next one's too."""
        return tuple(
            UsedTool(a.run.call_id, a.run.name, a.run.arguments, None, "") for a in self._active.values()
        )

    async def wait_settled(self) -> None:
        """Until no run is pending. If cancelled: no effect."""
        await trio.lowlevel.checkpoint()
        while self._active:
            await self._changed.wait()

    # -- requests -------------------------------------------------------------------------------------

    def request(self, call_id: str, name: str, arguments: str, turn: int) -> None:
        """A completed tool call of the model's. Never blocks, never raises; the result comes through
        ``on_output`` exactly once, unless this model session used the call id before or the call is over.
        """
        decision = self._table.request(call_id, name, arguments, turn)
        match decision:
            case Run() if decision.name not in self._tools:
                self._use_builtin(decision)
            case Run():
                self._active[decision.key] = _Active(decision)
                self._queue.append(decision.key)
                self._wake.ring()
            case Answer():
                if decision.why in ("unknown_tool", "bad_arguments"):
                    self._note_refused(decision, arguments)
                self._on_output(call_id, decision.output)
            case _:  # Join: answered with the run. Ignore: counted.
                pass

    def model_session_changed(self) -> None:
        """The model has a new session: requests that it makes again are recognised."""
        self._table.session_changed()

    def end(self) -> None:
        """The phone call is over: runs are cancelled, late results dropped and counted. Idempotent.

        Not for a process that merely hands the call on: what it leaves open, the next one settles.
        """
        if self._table.ended:
            return
        self._table.end()
        for active in self._active.values():
            if active.finished is not None:
                self._journal.write(_finished(active.run, active.finished))
            elif active.phase == "running" and active.run.side_effects:
                self._journal.write(_finished(active.run, ("unknown", UNKNOWN, True)))
            elif active.phase != "queued":
                self._journal.write(_finished(active.run, ("error", INTERRUPTED, False)))
            if active.scope is not None:
                active.scope.cancel()
        self.counters["cut_off_at_end"] += len(self._active)
        self._active.clear()
        self._queue.clear()
        self._note_change()

    def let_go(self) -> None:
        """Nothing of the call runs any more: nobody is told of anything, nor kept in memory for that."""
        self._on_output = self._on_builtin = lambda call_id, output: ""
        self._on_filler = lambda text: None
        self._facts = lambda fact: None

    def recover(self, uses: Iterable[ToolUse]) -> tuple[str, ...]:
        """Take over from a process that died: once, before the first request, with the fold's ``tools``.

        Side effects with a known end will not be repeated. Those without one are asked about, if the tool
        has a resolve: their call ids are returned, and their outputs come through ``on_output``. All others
        are settled in the journal at once (``unknown`` with side effects, ``error`` without) and reach the
        model by the replay of the conversation.
        """
        asked: list[str] = []
        for use in uses:
            tool = self._tools.get(use.name)
            if use.status is not None:
                status: Status = use.status if use.status in ("ok", "error", "timeout") else "unknown"  # type: ignore[assignment]
                self._table.restore(use.idempotency_key, use.name, use.side_effects, status, use.output or "")
                continue
            self.counters["recovered"] += 1
            if use.side_effects and tool is not None and tool.resolver is not None:
                run = Run(use.idempotency_key, use.call_id, use.name, use.arguments, True)
                self._table.adopt(run.key, run.call_id, run.name, True)
                self._active[run.key] = _Active(run, resolving=True)
                self._queue.append(run.key)
                self._wake.ring()
                asked.append(use.call_id)
            elif use.side_effects:
                self._table.restore(use.idempotency_key, use.name, True, "unknown", UNKNOWN)
                self._journal.write(ToolFinished(call_id=use.call_id, status="unknown", output=UNKNOWN))
            else:
                self._journal.write(ToolFinished(call_id=use.call_id, status="error", output=INTERRUPTED))
        return tuple(asked)

    def _use_builtin(self, run: Run) -> None:
        # No side effect in the journal's sense: after a crash the model may ask for it again.
        self._journal.write(_intended(attrs.evolve(run, side_effects=False)))
        output = self._on_builtin(run.name, reason_of(run.arguments))
        self._journal.write(ToolFinished(call_id=run.call_id, status="ok", output=output))
        self._facts(ToolRan(run.name, "ok", 0.0))
        for call_id in self._table.finish(run.key, "ok", output):
            self._on_output(call_id, output)

    def _note_refused(self, answer: Answer, arguments: str) -> None:
        name = answer.name[:NAME_CHARS_MAX]
        self._journal.write(
            ToolIntended(
                call_id=answer.call_id,
                name=name,
                arguments=arguments[:ARGUMENTS_CHARS_MAX],
                idempotency_key="",
            )
        )
        self._journal.write(ToolFinished(call_id=answer.call_id, status="error", output=answer.output))
        # The model's own invention must not become a metric's label.
        self._facts(ToolRan(name if answer.name in self._tools else "unknown", "error", 0.0))

    # -- the actor ------------------------------------------------------------------------------------

    async def run(self, ctx: Context[Any], *, task_status: trio.TaskStatus[ToolDesk]) -> None:
        """Start function of the child ``tools``: until cancelled. If cancelled: its runs are abandoned;
        started anew, the actor settles them."""
        if not ctx.resumed:
            self._take_up_left_behind()
            task_status.started(self)
        if not self._queue:  # most calls use no tool: until one does there is no supervisor, and no task
            ctx.rest(self._wake)
            return
        runs = DynamicSupervisor(name="tools")  # chance and reports come from above
        async with trio.open_nursery() as nursery:
            await nursery.start(partial(runs.run, ctx))
            while True:
                while self._queue:
                    active = self._active.get(self._queue.pop(0))
                    if active is not None:
                        await runs.start_child(self._child(active))
                await self._wake.wait()

    def _child(self, active: _Active) -> ChildSpec:
        self._starts += 1

        async def start(ctx: Context[Any], *, task_status: trio.TaskStatus[None]) -> None:
            with trio.CancelScope() as active.scope:
                task_status.started()
                await self._perform(active)

        return ChildSpec(
            id=f"{active.run.name}-{self._starts}",
            start=start,
            restart="temporary",
            shutdown=SHUTDOWN_SECONDS,
        )

    def _take_up_left_behind(self) -> None:
        """Runs whose task died with an earlier incarnation of the actor."""
        self._queue.clear()
        for key, active in list(self._active.items()):
            active.scope = None
            tool = self._tools[active.run.name]
            if active.finished is not None:
                self._journal.write(_finished(active.run, active.finished))
                self._settle(active, active.finished)
            elif active.phase == "queued" or active.resolving:
                self._requeue(key, active)
            elif active.phase == "intending":
                self._settle_and_write(active, ("error", NOT_DONE, False))
            elif not active.run.side_effects:
                self._settle_and_write(active, ("error", INTERRUPTED, False))
            elif tool.resolver is not None:
                active.resolving = True
                self._requeue(key, active)
            else:
                self._settle_and_write(active, ("unknown", UNKNOWN, True))

    def _requeue(self, key: str, active: _Active) -> None:
        active.phase = "queued"
        active.progress = Progress()
        self._queue.append(key)
        self._wake.ring()

    # -- one run --------------------------------------------------------------------------------------

    async def _perform(self, active: _Active) -> None:
        run, tool = active.run, self._tools[active.run.name]
        began = trio.current_time()
        if not active.resolving and not await self._intend(active):
            return
        active.phase = "running"
        timeout = tool.timeout if tool.timeout is not None else self._settings.tool_timeout_seconds
        outcome: Outcome | None = None
        with trio.move_on_after(timeout):
            outcome = await self._execute(active, tool)
        if self._active.get(run.key) is not active:
            self.counters["late"] += 1  # the call ended while the code ran
            return
        active.finished = finished = _judge(active, outcome)
        active.phase = "finishing"
        if run.side_effects:
            await self._commit_result(active, finished)
        else:
            self._journal.write(_finished(run, finished))
        if outcome is not None and outcome.error:
            log.warning("tool failed", extra={"tool": run.name, "error": outcome.error, "at": outcome.where})
        self._facts(ToolRan(run.name, finished[0], trio.current_time() - began))
        self._settle(active, finished)

    async def _intend(self, active: _Active) -> bool:
        """False: nothing may run, and the run is settled."""
        record = _intended(active.run)
        active.phase = "intending"
        if not active.run.side_effects:
            self._journal.write(record)
            return True
        try:
            await self._journal.commit(record)
        except Exception:
            # It may be on disk all the same: then its end must be known too.
            self.counters["refused_without_journal"] += 1
            self._facts(ToolRan(active.run.name, "error", 0.0))
            self._settle_and_write(active, ("error", NO_JOURNAL, False))
            return False
        return self._active.get(active.run.key) is active

    async def _execute(self, active: _Active, tool: ToolPort) -> Outcome:
        if active.resolving:
            return await self._runner.run(Job.resolving(tool, active.run.key), active.progress)
        job = Job.of(tool, active.run.arguments, self._call, active.run.key)
        if tool.filler is None:
            return await self._runner.run(job, active.progress)
        async with trio.open_nursery() as nursery:
            nursery.start_soon(self._fill, tool.filler)
            outcome = await self._runner.run(job, active.progress)
            nursery.cancel_scope.cancel()
        return outcome

    async def _fill(self, text: str) -> None:
        await trio.sleep(FILLER_AFTER_SECONDS)
        self._on_filler(text)

    async def _commit_result(self, active: _Active, finished: tuple[Status, str, bool]) -> None:
        record = _finished(active.run, finished)
        with trio.move_on_after(FINISH_COMMIT_SECONDS_MAX) as scope:
            try:
                await self._journal.commit(record)
                return
            except Exception:
                self.counters["result_not_committed"] += 1
        if scope.cancelled_caught:
            self.counters["result_not_committed"] += 1
        self._journal.write(record)

    def _note_change(self) -> None:
        self._changed.set()
        self._changed = Flag()

    def _settle_and_write(self, active: _Active, finished: tuple[Status, str, bool]) -> None:
        if self._active.get(active.run.key) is active:
            self._journal.write(_finished(active.run, finished))
        self._settle(active, finished)

    def _settle(self, active: _Active, finished: tuple[Status, str, bool]) -> None:
        if self._active.pop(active.run.key, None) is not active:
            self.counters["late"] += 1
            return
        self._note_change()
        status, output, remember = finished
        for call_id in self._table.finish(active.run.key, status, output, remember=remember):
            self._on_output(call_id, output)


def _judge(active: _Active, outcome: Outcome | None) -> tuple[Status, str, bool]:
    """Status, output, and whether the same request is answered with it from now on."""
    effects = active.run.side_effects
    if outcome is None and active.resolving:
        return ("unknown", UNKNOWN, True)
    if outcome is None and not active.progress.started:
        return ("error", BUSY, False)
    if outcome is None:
        return ("timeout", TIMEOUT_EFFECT if effects else TIMEOUT, effects)
    if active.resolving:
        if outcome.absent:
            return ("error", NOT_HAPPENED, False)
        if outcome.error or outcome.nothing:
            return ("unknown", UNKNOWN, True)
        return ("ok", outcome.output, True)
    if not outcome.started:
        return ("error", outcome.output or NOT_DONE, False)
    if outcome.error:
        return ("error", outcome.output, effects)
    return ("ok", outcome.output, True)


def _intended(run: Run) -> ToolIntended:
    return ToolIntended(
        call_id=run.call_id,
        name=run.name,
        arguments=run.arguments,
        idempotency_key=run.key,
        side_effects=run.side_effects,
    )


def _finished(run: Run, finished: tuple[Status, str, bool]) -> ToolFinished:
    return ToolFinished(call_id=run.call_id, status=finished[0], output=finished[1])
