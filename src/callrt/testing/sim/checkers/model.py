"""G1: what the caller hears while the model fails, what the next session is told, and when it is given up."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

from callrt.testing.carrier import Drop
from callrt.testing.model_brain import item_text, words_of
from callrt.testing.model_faults import Fault
from callrt.testing.sim import case as sim
from callrt.testing.sim.checkers.speech import interrupted_by_the_model, sound_arrived
from callrt.testing.sim.checkers.verdicts import (
    PROCESS,
    SERIOUS,
    Checked,
    Finding,
    Violation,
    ends_session,
    is_permanent,
)
from callrt.testing.sim.history import LINES, History, placed

COMFORT_AFTER = 0.3
TICKS = 0.06
"""A frame is begun at one tick and heard at the next; three of them are this checker's blur."""
TURN_SECONDS = 1.6
"""From the caller's last word to the first of a healthy reply: turn detection, thinking, the way."""


def comfort_is_in_time(history: History) -> Iterator[Finding]:
    """A session is lost while a reply is owed: the next sound comes within ``comfort_after_ms`` of the loss, or of
    the end of what had arrived."""
    latency = history.case.latency
    for struck in history.faults(Fault):
        fault = struck.fault
        if not isinstance(fault, Fault) or not ends_session(fault) or fault.kind == "error_then_close":
            continue
        known = struck.at + latency
        window = _owed_window(history, struck.at)
        if window is None or not history.streaming(known - 1.0, known + 3.0) or _disturbed(history, known):
            continue
        silent_from, silent_to = history.silence_after(known)
        if silent_from > window - 0.5 or silent_to >= history.over_at:
            continue
        limit = COMFORT_AFTER + 2 * latency + TICKS
        if silent_to - silent_from <= limit or _all_said(history, silent_from):
            yield Checked("G1")
        else:
            yield Violation(
                "G1",
                "comfort_is_in_time",
                f"{silent_to - silent_from:.2f} s of silence after the loss at {struck.at - history.placed_at:.2f} s",
            )


def _owed_window(history: History, at: float) -> float | None:
    """The end of the exchange in which a reply was owed at this moment and not all of it had been made."""
    committed = [
        said.at + 2 * history.case.latency
        for session in history.sessions
        for said in session.said
        if said.event["type"] == "input_audio_buffer.committed"
    ]
    for index, asked in enumerate(history.asked):
        start, end = history.window(index)
        if not start <= at < end or not any(start <= known <= at for known in committed):
            continue
        if interrupted_by_the_model(history, start, at):
            return None
        made = _made_until(history, asked.line, at)
        return None if made else end
    return None


def _made_until(history: History, line: str, at: float) -> bool:
    """Had a session made this line's end by then?"""
    for session in history.sessions:
        for said in session.said:
            if said.at > at:
                break
            if said.event["type"] != "response.output_audio.done":
                continue
            item = next((each for each in session.spoken if each.id == said.event["item_id"]), None)
            if item is None:
                continue
            name, offset = placed(tuple(words_of(" ".join(word.text for word in item.words))))
            if name == line and offset + len(item.words) == len(LINES[line]):
                return True
    return False


def _all_said(history: History, at: float) -> bool:
    """The silence is the one after an answer's end, or after a farewell."""
    before = [word for word in history.words if word.ended <= at + 0.1]
    if before and before[-1].line in LINES and before[-1].index == len(LINES[before[-1].line]) - 1:
        return True
    return any(
        line.at <= at and line.name in ("sorry_goodbye", "connecting", "goodbye") for line in history.bundled
    )


def _disturbed(history: History, at: float) -> bool:
    """Something else struck at about the same time, for which other rules hold."""
    others = history.faults(Drop, sim.Pause, sim.Repeat, *PROCESS)
    return any(at - 8.0 <= struck.at <= at + 3.0 for struck in others)


def wait_is_bridged(history: History) -> Iterator[Finding]:
    """Whatever fails, a caller who has spoken hears something at the latest when a stall is known."""
    limit = history.case.stall_seconds + COMFORT_AFTER + TURN_SECONDS + 6 * history.case.latency
    for index, asked in enumerate(history.asked):
        _, end = history.window(index)
        if asked.line in ("look", "book") and history.faults(sim.ToolTrouble):
            continue  # a tool takes its time, at most its timeout; that is not the model's silence
        if not sound_arrived(history, asked.began, asked.ended):
            continue
        if not history.streaming(asked.ended, min(end, asked.ended + limit)) or _disturbed(
            history, asked.ended
        ):
            continue
        silent_from, silent_to = history.silence_after(asked.ended)
        if silent_from > asked.ended + 0.5:
            continue  # the agent was speaking
        if silent_to - asked.ended <= limit:
            yield Checked("G1")
        elif end - asked.ended > limit:
            yield Violation(
                "G1", "wait_is_bridged", f'{silent_to - asked.ended:.1f} s of silence after "{asked.line}"'
            )


def told_is_heard(history: History) -> Iterator[Finding]:
    """What a new session is told that the agent said is what the caller has heard of it, or will have."""
    for session in history.sessions:
        for told in session.told:
            item: dict[str, Any] = told.event.get("item", {})
            if told.event["type"] != "conversation.item.create" or item.get("role") != "assistant":
                continue
            words = tuple(words_of(item_text(item)))
            line, offset = placed(words)
            if line == "other" or len(words) < 2:  # a word alone may be of any line
                continue
            deadline = told.at + 15.0
            of_line = [word for word in history.words if word.line == line and word.began <= deadline]
            heard = {word.index for word in of_line if word.part >= 0.3}
            # The line that was being heard may have been cut by something else than the loss.
            present = any(told.at - 6.0 <= word.began <= told.at + 6.0 for word in of_line)
            spoken_over = any(told.at - 3.0 <= asked.began <= deadline for asked in history.asked)
            others = history.faults(Drop, sim.Pause, sim.Repeat, *PROCESS)
            cut = present and (spoken_over or bool(others) or deadline > history.over_at)
            extra = [offset + n for n in range(len(words)) if offset + n not in heard]
            if extra and not cut:
                yield Violation(
                    "G1",
                    "told_is_heard",
                    f'told as heard of "{line}" and never heard: {" ".join(LINES[line][n] for n in extra)}',
                )
            else:
                yield Checked("G1")


def permanent_is_not_retried(history: History) -> Iterator[Finding]:
    """Bad key, no quota: no further connection, by the process that was told so."""
    if len(history.lives) > 1 or history.others or history.faults(sim.Flood):
        return
    for struck in history.faults(Fault):
        fault = struck.fault
        if isinstance(fault, Fault) and is_permanent(fault):
            if any(
                isinstance(s.fault, Fault) and s.at == struck.at and s.fault != fault for s in history.struck
            ):
                continue  # two faults of one connection: which of them was seen is not known
            later = [s for s in history.sessions if s.began > struck.at + 0.1 + 2 * history.case.latency]
            if later:
                yield Violation("G1", "permanent_is_not_retried", f"a session was opened after {fault.kind}")
            else:
                yield Checked("G1")


def hand_over_has_a_reason(history: History) -> Iterator[Finding]:
    """The human or the apology come when the contract says so, and not before."""
    if history.outcome not in ("model_unavailable", "transferred"):
        return
    faults = [struck.fault for struck in history.faults(Fault) if isinstance(struck.fault, Fault)]
    if any(is_permanent(fault) for fault in faults):
        yield Checked("G1")
        return
    serious = sum(fault.kind in SERIOUS for fault in faults)
    transferred = history.case.human and history.outcome == "transferred"
    if (transferred and serious >= 3) or (not history.case.human and _unavailable_seconds(history) >= 15.0):
        yield Checked("G1")
    else:
        yield Violation(
            "G1", "hand_over_has_a_reason", f"{history.outcome} after {serious} failures of the model"
        )


def _unavailable_seconds(history: History) -> float:
    """From the last thing that any session said to the end of the call."""
    last = [session.said[-1].at for session in history.sessions if session.said]
    return history.over_at - max(last, default=history.placed_at)
