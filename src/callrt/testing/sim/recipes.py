"""How each cell of the fault policy is reached on purpose: a case, bent so that this fault strikes in this turn state.

A recipe is no promise: the call goes its way, and other faults of the case get in between. A few tries reach each
cell that can be reached; ``unreachable.py`` says of the others why they cannot.
"""

from __future__ import annotations

import random
from collections.abc import Callable

import attrs

from callrt.protocol.faults import FaultKind
from callrt.protocol.turn import TurnState
from callrt.testing.carrier_plan import Drop
from callrt.testing.model_faults import Fault, Trigger
from callrt.testing.sim import case as sim
from callrt.testing.sim.case import Aimed, Ask, Case, SimFault, Strike

Recipe = Callable[[random.Random, Case, TurnState], Case]

_S = TurnState
LINGER: dict[TurnState, float] = {
    _S.IDLE: 0.5,
    _S.CALLER_SPEAKING: 1.0,
    _S.REPLY_OWED: 0.2,
    _S.AGENT_SPEAKING: 0.1,
    _S.AGENT_FINISHING: 0.6,
    _S.TOOL_RUNNING: 0.1,
}
"""Seconds for which each state surely lasts in a healthy call."""


def bend(case: Case, kind: FaultKind, turn: TurnState, rng: random.Random) -> Case:
    """The case, with at most one of its own faults left, and those that lead to the cell."""
    kept = rng.sample(case.faults, min(len(case.faults), rng.choice((0, 0, 1))))
    quick = attrs.evolve(case, faults=tuple(kept), latency=rng.choice((0.0, 0.0, 0.01)))
    return _RECIPES[kind](rng, _asking(quick, turn), turn)


def _asking(case: Case, turn: TurnState) -> Case:
    """Somebody has to ask for a tool for one to run."""
    if turn is not TurnState.TOOL_RUNNING or case.caller.asks[0].line == "book":
        return case
    others = tuple(ask for ask in case.caller.asks if ask.line != "book")
    return attrs.evolve(case, caller=attrs.evolve(case.caller, asks=(Ask("book"), *others)))


def _with(case: Case, *faults: SimFault) -> Case:
    return attrs.evolve(case, faults=(*case.faults, *faults))


def _aim(rng: random.Random, fault: Strike, turn: TurnState) -> Aimed:
    after = round(rng.uniform(0.0, LINGER[turn]), 2)
    return Aimed(fault, turn.value, nth=rng.choice((1, 1, 2)), after=after)


def _strike(*choice: Strike) -> Recipe:
    """One of these, at once."""

    def recipe(rng: random.Random, case: Case, turn: TurnState) -> Case:
        return _with(case, _aim(rng, rng.choice(choice), turn))

    return recipe


def _close(code: int, reason: str = "") -> Fault:
    return Fault("close", code=code, reason=reason)


def _at_the_door(rng: random.Random, case: Case, turn: TurnState) -> Case:
    refused = Fault("refuse", Trigger(connection=2), status=rng.choice((429, 500, 503)))
    return _with(case, _aim(rng, _close(1011), turn), refused)


def _stalled(rng: random.Random, case: Case, turn: TurnState) -> Case:
    if turn in (TurnState.IDLE, TurnState.AGENT_FINISHING):
        # Nothing is owed: only a session that never opens keeps silent for too long.
        impatient = attrs.evolve(case, stall_seconds=2.0)
        aim = Aimed(_close(1011), turn.value, nth=2)
        faults = (aim, Fault("stall", Trigger(connection=2)))
        if turn is TurnState.AGENT_FINISHING:
            # Nobody hears the rest: it stays unheard for as long as that takes.
            return _with(impatient, attrs.evolve(aim, fault=Drop("half_open")), *faults)
        return _with(impatient, *faults)
    if turn is TurnState.CALLER_SPEAKING:
        moment = Trigger(event="input_audio_buffer.speech_stopped", count=rng.choice((1, 2)))
        return _with(case, Fault("stall", moment))
    if turn is TurnState.TOOL_RUNNING:
        return _with(case, Fault("stall", Trigger(event="response.output_item.done", count=2)))
    return _with(case, _aim(rng, Fault("stall"), turn))


def _poisoned(rng: random.Random, case: Case, turn: TurnState) -> Case:
    stage = {TurnState.AGENT_SPEAKING: "audio", TurnState.TOOL_RUNNING: "done"}.get(turn, "created")
    return _with(case, Fault("poison", Trigger(connection=1, reply=2), stage=stage))  # type: ignore[arg-type]


def _failed(code: str | None) -> Recipe:
    def recipe(rng: random.Random, case: Case, turn: TurnState) -> Case:
        if turn in (TurnState.AGENT_FINISHING, TurnState.TOOL_RUNNING):
            reply = 2 if turn is TurnState.TOOL_RUNNING else rng.choice((1, 2))
            return _with(case, Fault("incomplete", Trigger(reply=reply)))
        if turn is TurnState.CALLER_SPEAKING:
            # While he speaks over a reply that is still being made.
            slow = Fault("rate", Trigger(reply=2), rate=0.9)
            started = Trigger(event="input_audio_buffer.speech_started", count=2)
            return _with(_over(case, "hours", 1000), slow, Fault("fail", started, error_code=code))
        stage = rng.choice(("created", "item"))
        return _with(case, Fault("fail", Trigger(reply=rng.choice((1, 2))), error_code=code, stage=stage))  # type: ignore[arg-type]

    return recipe


def _over(case: Case, line: str, after_ms: int) -> Case:
    """He asks this, and speaks over the answer."""
    return attrs.evolve(case, caller=sim.Caller((Ask(line), Ask("parking", after_ms))))


def _unheard(rng: random.Random, case: Case, turn: TurnState) -> Case:
    """Half-open for so long that it is noticed: the state has to last, too."""
    patient = attrs.evolve(case, stall_seconds=5.0)
    gone = Drop("half_open", notice_seconds=None)
    if turn is TurnState.AGENT_SPEAKING:
        asked = attrs.evolve(patient, caller=attrs.evolve(case.caller, asks=(Ask("hours"),)))
        return _with(asked, Fault("rate", Trigger(reply=2), rate=0.5), Aimed(gone, turn.value, nth=2))
    if turn is TurnState.REPLY_OWED:
        return _with(
            patient, Aimed(Fault("stall"), turn.value, nth=2), Aimed(gone, turn.value, nth=2, after=0.1)
        )
    if turn is TurnState.TOOL_RUNNING:
        slow = attrs.evolve(patient, tool_seconds=8.0)
        return _with(slow, sim.ToolTrouble(0.0, "hang"), Aimed(gone, TurnState.REPLY_OWED.value, nth=2))
    if turn is TurnState.AGENT_FINISHING:
        asked = attrs.evolve(patient, caller=attrs.evolve(case.caller, asks=(Ask("hours"),)))
        return _with(asked, Aimed(gone, turn.value, nth=2))
    return _with(patient, _aim(rng, gone, turn))


TOOL_ENDS: dict[TurnState, tuple[float, float]] = {
    _S.CALLER_SPEAKING: (1.3, 2.4),
    _S.REPLY_OWED: (2.5, 3.2),
    _S.AGENT_SPEAKING: (3.0, 3.6),
    _S.AGENT_FINISHING: (4.2, 5.6),
    _S.IDLE: (6.3, 7.5),
    _S.TOOL_RUNNING: (0.2, 0.8),
}
"""Seconds after its beginning at which a tool ends in this state, when the caller has spoken over it."""


def _tool(how: str) -> Recipe:
    def recipe(rng: random.Random, case: Case, turn: TurnState) -> Case:
        seconds = round(rng.uniform(*TOOL_ENDS[turn]), 2)
        spoken = case if turn is TurnState.TOOL_RUNNING else _over(case, "look", 1000)
        if turn in (TurnState.IDLE, TurnState.AGENT_FINISHING):
            # To the session that asked for the tool it runs on until its end; the next one knows nothing of it.
            spoken = _with(spoken, Aimed(_close(1011), TurnState.CALLER_SPEAKING.value, nth=2, after=0.3))
        if how == "hang":
            return _with(attrs.evolve(spoken, tool_seconds=seconds), sim.ToolTrouble(0.0, "hang"))
        return _with(attrs.evolve(spoken, tool_seconds=9.0), sim.ToolTrouble(0.0, "late", seconds))

    return recipe


def _unwritten(rng: random.Random, case: Case, turn: TurnState) -> Case:
    """Only what has to be on the disk before its effect is missed there: a tool's intent, a new stream."""
    trouble = sim.DiskTrouble(0.0, 3.0, rng.choice(("full", "torn")))
    if turn is TurnState.TOOL_RUNNING:
        return _with(case, Aimed(trouble, TurnState.REPLY_OWED.value, nth=2))
    aim = _aim(rng, trouble, turn)
    return _with(case, aim, attrs.evolve(aim, fault=Drop("rst"), after=round(aim.after + 0.04, 2)))


def _died(rng: random.Random, case: Case, turn: TurnState) -> Case:
    when = TurnState.AGENT_SPEAKING if turn is TurnState.REPLY_OWED else TurnState.IDLE
    return _with(case, _aim(rng, sim.Kill(0.0, 0.3), when))


_F = FaultKind
_RECIPES: dict[FaultKind, Recipe] = {
    _F.MODEL_LOST: _strike(_close(1011), Fault("abort")),
    _F.MODEL_OVERLOADED: _at_the_door,
    _F.MODEL_REFUSED: _strike(_close(3000, "invalid_request_error.some_code")),
    _F.MODEL_ACCOUNT: _strike(
        _close(3000, "invalid_request_error.insufficient_quota"),
        Fault("error", error_type="insufficient_quota", error_code="insufficient_quota"),
    ),
    _F.MODEL_EXPIRED: _strike(Fault("expire"), Fault("expire", with_error=True)),
    _F.MODEL_STALLED: _stalled,
    _F.MODEL_POISONED: _poisoned,
    _F.MODEL_REJECTS_HISTORY: _strike(_close(1007)),
    _F.REPLY_FAILED: _failed(None),
    _F.REPLY_RATE_LIMITED: _failed("rate_limit_exceeded"),
    _F.REQUEST_REJECTED: _strike(
        Fault("error", error_type="invalid_request_error", error_code="weird"),
    ),
    _F.CARRIER_LOST: _strike(Drop("rst"), Drop("fin"), Drop("close")),
    _F.CARRIER_STOPPED: _strike(Drop("stop")),
    _F.CARRIER_STALLED: _unheard,
    _F.ACTOR_CRASHED: _strike(sim.Crash(0.0, "model"), sim.Crash(0.0, "playback")),
    _F.TOOL_FAILED: _tool("late"),
    _F.TOOL_TIMED_OUT: _tool("hang"),
    _F.JOURNAL_UNAVAILABLE: _unwritten,
    _F.PROCESS_DIED: _died,
    _F.BAD_INPUT: _strike(sim.BadMessages(0.0, 1, "not_json"), sim.BadMessages(0.0, 1, "unknown")),
}
