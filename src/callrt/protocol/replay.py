"""What a fresh model session must be told, so that the conversation goes on as if nothing had happened.

Theory of operation. The input is the history *as heard*: what the caller said, what of the agent's words
reached the caller, which tools ran. Each entry becomes a unit of commands that is never split; units are
grouped into turns, a turn being what the caller said and all that followed. If the whole costs more than the
token budget, the oldest turns give way to one system message that sums them up; the last turn stays, whatever
it costs. The last entry decides how it goes on: a caller's turn or a tool's result is owed a reply; an
agent's line cut by a loss is to be taken up where the caller stopped hearing it.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Collection, Mapping, Sequence

import attrs

from callrt.protocol.handover import summary, transcript_text
from callrt.protocol.history import HistoryItem, SaidByAgent, SaidByCaller, UsedTool, line_of
from callrt.protocol.models.events import (
    AddMessage,
    AddSpeech,
    AddToolCall,
    AddToolOutput,
    ModelCommand,
)

__all__ = [
    "HistoryItem",
    "ReplayPlan",
    "SaidByAgent",
    "SaidByCaller",
    "UsedTool",
    "replay_plan",
    "summary",
    "transcript_text",
]

SPEECH_NOT_UNDERSTOOD = "(the caller said something that was not understood)"

RESUME_NOTE = (
    "The line was cut while you were speaking. The caller has heard exactly the text of your last message "
    "above, and nothing after it. Go on from there, in the middle of the sentence if need be. Do not repeat "
    "any of it, do not greet, do not apologise and do not mention the interruption."
)

UNITS_PER_TOKEN = 4
"""Characters: the usual rule for English; other scripts cost more, which the model's own bound absorbs."""

ITEM_TOKENS = 8
"""What an item costs beyond its words: role, ids, separators; generous."""

SPEECH_BYTES_PER_TOKEN = 800
"""Caller audio is billed as one token per 100 ms, mu-law 800 bytes."""

ITEM_ID_MAX = 32
"""Longer ids are refused by some providers."""

DIGEST_LINES = 6
DIGEST_LINE_MAX = 120


@attrs.frozen
class ReplayPlan:
    commands: tuple[ModelCommand, ...]
    """Oldest first; each call of a tool is followed by its output, unless it still runs."""
    owed: bool
    """The caller waits for a reply."""
    resume: bool
    """The agent was cut off by a loss and is to speak on unasked; the last command tells it so."""
    dropped_turns: int
    """Entries of the history that gave way to a summary."""


@attrs.frozen
class _Unit:
    """One entry of the history as commands that belong together."""

    entry: HistoryItem
    commands: tuple[ModelCommand, ...]

    @property
    def tokens(self) -> int:
        return sum(_tokens(command) for command in self.commands)


def replay_plan(
    history: Sequence[HistoryItem],
    *,
    token_budget: int,
    expected: Mapping[str, str],
    speech: Mapping[str, bytes],
    next_id: Callable[[], str],
    ended: Collection[str] = (),
    running: Collection[str] = (),
) -> ReplayPlan:
    """Plan what a fresh session is told. ``token_budget`` is for the items alone, without instructions.

    ``expected`` has, by item id, what will have been heard of an agent's line when the audio in hand has been
    played; it replaces the line's own text unless that was interrupted, and a line that the history does not
    know yet comes last. ``ended`` names those that were generated to their end: nothing of them is to be
    taken up again. ``speech`` has, by item id, the caller's audio where the words are not known. ``running``
    are the call ids of tools that still run: they are told without an output, which will follow and bring
    the reply. ``next_id`` gives fresh item ids of at most 32 characters.
    """
    entries = _as_expected(history, expected, ended)
    owed, resume = _what_next(entries, running)
    units = [
        _Unit(entry, _commands(entry, speech, next_id, running))
        for entry in entries
        if not _is_unheard(entry)
    ]
    note = (AddMessage("system", RESUME_NOTE, _checked(next_id())),) if resume else ()
    dropped, kept = _within(
        units, token_budget - sum(_tokens(command) for command in note), token_budget // 4
    )
    commands: list[ModelCommand] = []
    if dropped:
        commands.append(AddMessage("system", _digest(dropped, token_budget // 4), _checked(next_id())))
    for unit in kept:
        commands += unit.commands
    return ReplayPlan((*commands, *note), owed, resume, len(dropped))


def _as_expected(
    history: Sequence[HistoryItem], expected: Mapping[str, str], ended: Collection[str]
) -> list[HistoryItem]:
    entries: list[HistoryItem] = []
    known: set[str] = set()
    for entry in history:
        if isinstance(entry, SaidByAgent):
            known.add(entry.item_id)
            if not entry.interrupted and entry.item_id in expected:
                complete = entry.complete or entry.item_id in ended
                entry = attrs.evolve(entry, text=expected[entry.item_id], complete=complete)
        entries.append(entry)
    entries += [
        SaidByAgent(item_id, text, complete=item_id in ended)
        for item_id, text in expected.items()
        if item_id not in known
    ]
    return entries


def _is_unheard(entry: HistoryItem) -> bool:
    return isinstance(entry, SaidByAgent) and not entry.text.strip()


def _what_next(entries: Sequence[HistoryItem], running: Collection[str]) -> tuple[bool, bool]:
    """(a reply is owed, the agent is to resume). A line of which nothing was heard counts as not begun."""
    for entry in reversed(entries):
        if isinstance(entry, SaidByCaller):
            break
        if isinstance(entry, UsedTool) and entry.call_id in running:
            return False, False  # the last output of the turn brings the reply
    lost = False
    for entry in reversed(entries):
        if not isinstance(entry, SaidByAgent):
            return True, False
        if entry.interrupted:
            return lost, False
        if entry.complete:
            return False, lost
        if entry.text.strip():
            return False, True
        lost = True
    return lost, False


def _commands(
    entry: HistoryItem, speech: Mapping[str, bytes], next_id: Callable[[], str], running: Collection[str]
) -> tuple[ModelCommand, ...]:
    match entry:
        case SaidByAgent(text=text):
            return (AddMessage("assistant", text, _checked(next_id())),)
        case SaidByCaller(item_id=item_id, text=text):
            if text.strip():
                return (AddMessage("user", text, _checked(next_id())),)
            if audio := speech.get(item_id):
                return (AddSpeech(audio, _checked(next_id())),)
            return (AddMessage("user", SPEECH_NOT_UNDERSTOOD, _checked(next_id())),)
        case UsedTool(call_id=call_id) if call_id in running:
            return (AddToolCall(call_id, entry.name, entry.arguments or "{}", _checked(next_id())),)
        case UsedTool():
            output = entry.output if entry.output is not None else _no_output(entry.status)
            return (
                AddToolCall(entry.call_id, entry.name, entry.arguments or "{}", _checked(next_id())),
                AddToolOutput(entry.call_id, output, _checked(next_id())),
            )


def _no_output(status: str) -> str:
    """Without an output the model would wait, or call again."""
    if status == "unknown":
        error = "The outcome is not known: it may or may not have happened. Do not run it again unasked."
    elif status == "timeout":
        error = "It took too long and was given up."
    else:
        error = "It was interrupted before there was a result; it may or may not have happened."
    return json.dumps({"error": error})


def _tokens(command: ModelCommand) -> int:
    match command:
        case AddMessage(text=text):
            size = len(text)
        case AddSpeech(audio=audio):
            return ITEM_TOKENS + -(-len(audio) // SPEECH_BYTES_PER_TOKEN)
        case AddToolCall(call_id=call_id, name=name, arguments=arguments):
            size = len(call_id) + len(name) + len(arguments)
        case AddToolOutput(call_id=call_id, output=output):
            size = len(call_id) + len(output)
        case _:
            raise TypeError(f"not an item of history: {type(command).__name__}")
    return ITEM_TOKENS + -(-size // UNITS_PER_TOKEN)


def _within(units: list[_Unit], budget: int, digest_budget: int) -> tuple[list[_Unit], list[_Unit]]:
    """Units to drop and to keep, each oldest first: whole turns go, then what lies inside the last turn."""
    turns: list[list[_Unit]] = []
    for unit in units:
        if not turns or isinstance(unit.entry, SaidByCaller):
            turns.append([])
        turns[-1].append(unit)
    last = turns[-1] if turns else []
    pinned = [last[0]] if last and isinstance(last[0].entry, SaidByCaller) else []
    pinned += last[-1:] if last[-1:] != pinned else []
    inner = [unit for unit in last if not any(unit is pin for pin in pinned)]
    going = [*turns[:-1], *([unit] for unit in inner)]
    total = sum(unit.tokens for unit in units)
    dropped: list[_Unit] = []
    for turn in going:
        digest = ITEM_TOKENS + -(-len(_digest(dropped, digest_budget)) // UNITS_PER_TOKEN) if dropped else 0
        if total + digest <= budget:
            break
        dropped += turn
        total -= sum(unit.tokens for unit in turn)
    gone = len(dropped)
    outer = sum(len(turn) for turn in turns[:-1])
    if gone <= outer:
        return units[:gone], units[gone:]
    rest = inner[gone - outer :]
    return dropped, [unit for unit in last if any(unit is k for k in (*pinned, *rest))]


def _digest(dropped: Sequence[_Unit], budget: int) -> str:
    """What was dropped, in few words: how much, and the last lines shortened as far as the budget goes."""
    head = f"Earlier in this call, {len(dropped)} entries are left out here."
    lines = [line for unit in dropped[-DIGEST_LINES:] if (line := line_of(unit.entry, DIGEST_LINE_MAX))]
    while lines:
        text = head + " The last of them, shortened:\n" + "\n".join(lines)
        if ITEM_TOKENS + -(-len(text) // UNITS_PER_TOKEN) <= budget:
            return text
        del lines[0]
    return head


def _checked(item_id: str) -> str:
    assert 0 < len(item_id) <= ITEM_ID_MAX
    return item_id
