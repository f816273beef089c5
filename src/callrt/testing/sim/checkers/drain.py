"""G11: a process that is told to leave declines new calls in words, lets the live ones go on, ends them politely or
hands them on, and goes."""

from __future__ import annotations

from collections.abc import Iterator

from callrt.protocol.records import CallAccepted
from callrt.testing.carrier import Drop
from callrt.testing.model_faults import Fault
from callrt.testing.sim import case as sim
from callrt.testing.sim.checkers.verdicts import Checked, Finding, Violation
from callrt.testing.sim.history import Drained, History

LAST_WORDS_SECONDS = 16.0
"""What a drain grants beyond its seconds: goodbye, the carrier's questions, the end."""
EMPTY_SECONDS = 6.0
"""After its last call has ended: for the last socket to close and the outcome to be on the disk."""
EARLY_SECONDS = 0.1


def drain_declines_in_words(history: History) -> Iterator[Finding]:
    """Who calls while the only process leaves is told so, in a document: no error, no stream, no call here."""
    for drained in history.drained:
        if _succeeded(history, drained):
            continue
        for call in drained.declined:
            first = next((request for request in call.requests if request.kind == "voice"), None)
            if first is None or first.status != 200:
                answer = "nothing" if first is None else str(first.status)
                yield Violation("G11", "drain_declines_in_words", f"a new call was answered with {answer}")
            elif call.streams or not call.carrier_said:
                got = "a stream" if call.streams else "no word"
                yield Violation(
                    "G11", "drain_declines_in_words", f"a new call got {got} from a leaving process"
                )
            else:
                yield Checked("G11")


def drain_lets_calls_go_on(history: History) -> Iterator[Finding]:
    """A live call is not ended before the time that it was given, unless somebody else ends it."""
    if not history.of(CallAccepted) or history.faults(Fault, Drop, sim.DiskTrouble):
        return
    for drained in history.drained:
        if not drained.alone or _succeeded(history, drained) or history.over_at <= drained.at:
            continue
        early = drained.at + drained.seconds - history.over_at
        if (
            history.call.end_reason == "app_hung_up"
            and history.outcome == "completed"
            and early > EARLY_SECONDS
        ):
            yield Violation("G11", "drain_lets_calls_go_on", f"the call was ended {early:.1f} s too early")
        else:
            yield Checked("G11")


def drain_ends_politely(history: History) -> Iterator[Finding]:
    """What is left when the time is over ends with a goodbye and an outcome, in time; or it has moved on."""
    for drained in history.drained:
        limit = drained.at + drained.seconds + LAST_WORDS_SECONDS
        if any(stream.started_at > drained.at for stream in history.call.streams):
            yield Checked("G11")  # what becomes of it elsewhere is another checker's question
        elif history.over_at > limit:
            late = history.over_at - limit
            yield Violation("G11", "drain_ends_politely", f"the call outlived the drain by {late:.0f} s")
        elif history.outcome == "completed" and _was_heard(history) and not _said_goodbye(history):
            yield Violation("G11", "drain_ends_politely", "the call was ended without a goodbye")
        else:
            yield Checked("G11")


def drained_process_goes(history: History) -> Iterator[Finding]:
    """It ends as soon as it has no call left, and leaves none behind."""
    for drained in history.drained:
        if drained.left:
            yield Violation("G11", "drained_process_goes", f"it went with {drained.left} calls")
        elif drained.over_at is None and not _gone(history, drained):
            yield Violation("G11", "drained_process_goes", "it has no call left, and stays")
        else:
            yield Checked("G11")


def _succeeded(history: History, drained: Drained) -> bool:
    """Another process took the carrier's questions meanwhile."""
    return any(life.booted > drained.at for life in history.lives) or not drained.alone


def _gone(history: History, drained: Drained) -> bool:
    """It was killed while it was leaving."""
    return any(life.died is not None and life.died >= drained.at for life in history.lives)


def _was_heard(history: History) -> bool:
    """There was a line to say goodbye on."""
    return history.streaming(history.over_at - 3.0, history.over_at - 0.5)


def _said_goodbye(history: History) -> bool:
    return any(line.name == "goodbye" for line in history.bundled)
