"""How the next model session of a call begins: decided from the records and the audio that nobody has heard."""

from __future__ import annotations

import attrs
import trio

from callrt.actors.line import Line
from callrt.policy import limits
from callrt.protocol.ear import FRAME, first_speech
from callrt.protocol.handover import summary
from callrt.protocol.history import SaidByAgent, UsedTool
from callrt.protocol.models import events as ev
from callrt.protocol.models.opening import Opening, greeting_request
from callrt.protocol.replay import replay_plan
from callrt.protocol.turn import TurnState
from callrt.protocol.uplink import BYTES_PER_MS

LEAD_IN = 300 * BYTES_PER_MS
"""Audio before a word: detectors want to hear it begin."""


@attrs.frozen
class Begin:
    opening: Opening
    audio_from: int
    """Uplink position from which the session is given the caller's audio."""


def begin_session(line: Line) -> Begin:
    """Replay as heard, then one of: go on speaking, answer, greet, or listen."""
    agent, state = line.plan.agent, line.log.state
    configure = ev.Configure(
        instructions=agent.instructions,
        voice=line.plan.model.voice,
        audio_format=line.plan.model.audio,
        tools=tuple(line.tools.specs()),
        answer_by_itself=True,
    )
    line.note_expected()
    state = line.log.state
    # A tool that still runs is told without its output, which follows when it is there.
    running = line.tools.running()
    ids = frozenset(use.call_id for use in running)
    arrived = _arrived_whole(line)
    history = tuple(
        attrs.evolve(item, complete=True)
        if isinstance(item, SaidByAgent) and item.item_id in arrived
        else item
        for item in state.history
        if not (isinstance(item, UsedTool) and item.output is None and item.call_id not in ids)
    )
    known = frozenset(item.call_id for item in history if isinstance(item, UsedTool))
    history += tuple(use for use in running if use.call_id not in known)
    speech = {
        item: line.uplink.read(begin, end) for item, (begin, end) in line.turn_audio.items() if end > begin
    }
    plan = replay_plan(
        history,
        token_budget=limits.REPLAY_TOKENS,
        expected=line.expected(),
        speech=speech,
        next_id=lambda: f"r{line.sessions}_{next(line.replay_ids)}",
        running=ids,
    )
    replay = plan.commands
    if line.afresh and replay:
        text = summary(history, state.caller, agent.name, "")
        replay = (ev.AddMessage("system", f"Earlier in this call: {text}", f"r{line.sessions}_s"),)
    # What the budget or a fresh start left out of them: an output needs its call.
    told = {command.call_id for command in replay if isinstance(command, ev.AddToolCall)}
    replay += tuple(
        ev.AddToolCall(use.call_id, use.name, use.arguments, f"r{line.sessions}_{next(line.replay_ids)}")
        for use in running
        if use.call_id not in told
    )
    held = line.uplink.read(line.heard_until)
    spoken_at = first_speech(held)
    if spoken_at is not None:
        audio_from = max(line.heard_until, line.uplink.start) + max(0, spoken_at - LEAD_IN) // FRAME * FRAME
    else:
        audio_from = max(line.heard_until, line.uplink.end - LEAD_IN)
    # A greeting of which no word was heard is given anew, not continued.
    begun = any(not isinstance(item, SaidByAgent) or _heard_text(line, item) for item in history)
    greet = agent.greeting if not begun else None
    owed = plan.owed or plan.resume or greet is not None or line.ear.speaking
    first: ev.RequestReply | None = None
    if spoken_at is None or not begun:
        if greet is not None:
            first = greeting_request(agent.instructions, greet)
        elif plan.resume:
            first = ev.RequestReply(metadata={"purpose": "resume"})
        elif plan.owed:
            first = ev.RequestReply(metadata={"purpose": "answer"})
    if first is not None or owed:
        line.turn.state = TurnState.REPLY_OWED
    elif running:
        line.turn.state = TurnState.TOOL_RUNNING
    else:
        line.turn.state = TurnState.IDLE if line.voice.silent else TurnState.AGENT_FINISHING
    opening = Opening(
        configure,
        replay,
        first,
        owed=owed or spoken_at is not None,
        running=tuple(use.call_id for use in running),
    )
    return Begin(opening, audio_from)


def _heard_text(line: Line, item: SaidByAgent) -> str:
    """What of it will have been heard."""
    return line.expected().get(item.item_id, item.text)


def _arrived_whole(line: Line) -> frozenset[str]:
    """Items that are still being heard and of which nothing is missing: they need no continuation."""
    items = line.voice.mouth.items(trio.current_time())
    return frozenset(i.item_id for i in items if i.ended and not i.cut and not line.is_partial(i.item_id))
