"""What the caller heard of each answer: all of it, in order, once; and the calm after the storm."""

from __future__ import annotations

import itertools
from collections.abc import Iterator

from callrt.testing.carrier import Drop
from callrt.testing.model_faults import Fault
from callrt.testing.sim import case as sim
from callrt.testing.sim.cast import EXCHANGES, FAREWELL
from callrt.testing.sim.checkers.verdicts import (
    PROCESS,
    SERIOUS,
    Checked,
    Finding,
    Violation,
    family,
    is_permanent,
)
from callrt.testing.sim.history import LINES, History, WordHeard

HEARD = 0.5
"""A word of which half was heard counts as heard: the model is told words, not milliseconds."""
WHOLE = 0.9
LATE_SECONDS = 9.0
"""A session that is found deaf is replaced by then, and the next one has been given the caller's words."""


def answers_are_whole(history: History) -> Iterator[Finding]:
    """Every answer that began to be heard, and that the caller let finish, is heard to its end, in order, once."""
    for line, start, end in exchanges(history):
        if (
            interrupted_by_the_model(history, start, end)
            or late_tool(history, start)
            or forgotten_with_a_process(history, start, end)
        ):
            continue
        words = [word for word in history.words if word.line == line and start <= word.began < end]
        if not words:
            continue
        yield from _judge_line(history, line, words, start, end)


def exchanges(history: History) -> Iterator[tuple[str, float, float]]:
    """(line of the agent's, from, to): answers that nobody cut short."""
    first = history.asked[0].began if history.asked else history.over_at
    if history.asked and not history.asked[0].over_agent:
        yield "greeting", history.placed_at, first
    for index, asked in enumerate(history.asked):
        start, end = history.window(index)
        following = history.asked[index + 1] if index + 1 < len(history.asked) else None
        if following is None:
            if history.hung_up_in_mid_answer or history.healed_at is None:
                continue
        elif following.over_agent:
            continue
        yield asked.line, start, end


def _judge_line(
    history: History, line: str, words: list[WordHeard], start: float, end: float
) -> Iterator[Finding]:
    guarantee = family(history)
    lost_words, twice_ms = allowances(history, start, end)
    parts: dict[int, float] = {}
    twice = 0.0
    whole: dict[int, int] = {}
    order: list[int] = []
    for word in words:
        before = parts.get(word.index, 0.0)
        parts[word.index] = before + word.part
        twice += max(0.0, min(word.part, before + word.part - 1.0)) * word.ms
        whole[word.index] = whole.get(word.index, 0) + (word.part >= WHOLE)
        if before == 0.0:
            order.append(word.index)
    missing = [index for index in range(len(LINES[line])) if parts.get(index, 0.0) < HEARD]
    # Each model that was lost may have left one word half said, and where in the sound it was is an estimate.
    halves = min(sum(parts.get(index, 0.0) > 0.0 for index in missing), model_losses(history, start, end))
    if len(missing) - halves > lost_words:
        said = " ".join(LINES[line][index] for index in missing)
        yield Violation(guarantee, "answers_are_whole", f'of "{line}" the caller never heard: {said}')
    elif any(after < before for before, after in itertools.pairwise(order)):
        yield Violation(guarantee, "answers_are_whole", f'"{line}" was heard out of order')
    elif any(count > 1 for count in whole.values()) and twice > twice_ms:
        again = " ".join(LINES[line][index] for index, count in whole.items() if count > 1)
        yield Violation(
            guarantee,
            "answers_are_whole",
            f'of "{line}" the caller heard twice: {again} ({twice:.0f} ms, {twice_ms:.0f} allowed)',
        )
    else:
        yield Checked(guarantee)


def allowances(history: History, start: float, end: float) -> tuple[int, float]:
    """(words that may be lost, milliseconds that may be heard twice) for what struck around this exchange."""
    words, ms = 0, 0.0
    for struck in history.struck:
        if not start - 10.0 <= struck.at <= end:
            continue
        match struck.fault:
            case Drop(how="half_open"):
                ms += 1000.0
            case Drop() | sim.Repeat():
                ms += 200.0
            case sim.Pause():
                ms += 1000.0
            case Fault() as fault if fault.kind in SERIOUS:
                # Where exactly a word ends in the sound is an estimate: the last one may come again.
                ms += 700.0
            case sim.Kill() | sim.Takeover() | sim.Crash() | sim.Drain():
                # A quarter of a second of records may be lost to it, and where in a word it was.
                words += 1
                ms += 1300.0
    return words, ms


def model_losses(history: History, start: float, end: float) -> int:
    """How often a session was lost, or may have been, around this exchange."""
    return sum(
        isinstance(struck.fault, Fault) and struck.fault.kind in SERIOUS and start - 10.0 <= struck.at <= end
        for struck in history.struck
    )


def interrupted_by_the_model(history: History, start: float, end: float) -> bool:
    """The service heard speech where none was, had enough, or refused its history: it cut its own answer."""
    return any(
        isinstance(struck.fault, Fault) and _cuts_itself(struck.fault) and start <= struck.at <= end
        for struck in history.struck
    )


def _cuts_itself(fault: Fault) -> bool:
    if fault.kind == "incomplete":
        return (
            fault.reason != "content_filter"
        )  # then there was nothing to hear, and that is a failure like any
    # Close 1007: the next session is given a summary, and how it goes on from that is the model's affair.
    return fault.kind == "phantom_speech" or (fault.kind == "close" and fault.code == 1007)


def late_tool(history: History, start: float) -> bool:
    """The caller spoke over an answer that waited for a tool: its result comes later and is worth words of its own,
    and which words those are is the model's affair."""
    for before, asked in zip(history.asked, history.asked[1:], strict=False):
        if asked.over_agent and asked.ended == start and before.line in ("look", "book"):
            return True
    return False


def forgotten_with_a_process(history: History, start: float, end: float) -> bool:
    """The process died before the caller's words were known or written, and the agent has asked again; or the disk
    had taken nothing since."""
    for struck in history.faults(sim.Kill):
        if start - 10.0 <= struck.at <= end and _unwritten(history, struck.at):
            return True
    killed = any(start - 2.0 <= struck.at <= end for struck in history.faults(*PROCESS))
    return killed and any(
        word.line in ("unknown", "nudge") and start <= word.began < end for word in history.words
    )


def _unwritten(history: History, at: float) -> bool:
    return any(
        isinstance(struck.fault, sim.DiskTrouble)
        and struck.fault.how != "unsure"
        and struck.at <= at <= struck.at + struck.fault.seconds
        for struck in history.struck
    )


def turns_are_not_lost(history: History) -> Iterator[Finding]:
    """What the caller said in full, on a line that worked, the model understood."""
    if history.call.line.heard_bytes == 0:
        return
    understood = [item.understood for session in history.sessions for item in session.caller_turns]
    for asked in history.asked:
        if history.over_at - asked.ended < LATE_SECONDS or ended_without_us(history):
            continue
        if not sound_arrived(history, asked.began, asked.ended):
            continue
        wanted = EXCHANGES[asked.line].say
        if any(wanted in text for text in understood):
            yield Checked("G1")
        else:
            yield Violation(family(history), "turns_are_not_lost", f'the model never heard "{asked.line}"')


def sound_arrived(history: History, start: float, end: float) -> bool:
    """Did the caller's words reach this process: one stream, no network that stood still, no process that died?"""
    if not history.streaming(start - 0.5, end + 1.0):
        return False
    for struck in history.faults(sim.Kill, sim.Takeover, sim.Pause, sim.Drain, sim.Crash):
        if start - 6.0 <= struck.at <= end + 6.0:
            return False
    return True


def ended_without_us(history: History) -> bool:
    """The call was handed over or given up; whether that was right is another checker's question."""
    return history.outcome not in ("caller_hung_up", None)


def storm_is_survived(history: History) -> Iterator[Finding]:
    """After the last fault the call heals: what is asked in the calm is answered to its end."""
    if history.calm_at is None or ended_without_us(history):
        return
    guarantee = family(history)
    asked = [each for each in history.asked if each.line == FAREWELL]
    if history.healed_at is not None:
        yield Checked(guarantee)
    elif asked and any(is_permanent(s.fault) for s in history.faults(Fault)):  # type: ignore[arg-type]
        yield Violation(
            guarantee, "storm_is_survived", "a permanent failure, and the call neither ended nor healed"
        )
    else:
        yield Violation(guarantee, "storm_is_survived", "the storm was over, and the caller got no answer")
