"""G9, G10: bounded buffers, other calls unharmed, bad input harmless, and nothing of ours that peers refuse."""

from __future__ import annotations

from collections.abc import Iterator

from callrt.testing.carrier import Drop
from callrt.testing.model_faults import Fault
from callrt.testing.sim import case as sim
from callrt.testing.sim.checkers.speech import answers_are_whole
from callrt.testing.sim.checkers.verdicts import PROCESS, Checked, Finding, Violation
from callrt.testing.sim.history import History

LEAD_SECONDS = 2.0
BYTES_PER_SECOND = 8000

RACES = (
    "response_cancel_not_active",
    "conversation_already_has_active_response",
    "input_audio_buffer_commit_empty",
)
"""Refusals that two ends in good order can run into."""


def lead_is_bounded(history: History) -> Iterator[Finding]:
    """What waits at the carrier to be heard is never more than two seconds."""
    if history.faults(sim.Pause):
        return
    waiting: dict[int, tuple[float, float]] = {}
    for event in history.call.wire:
        if event.sent:
            continue
        bytes_, at = waiting.get(event.stream, (0.0, event.at))
        bytes_ = max(0.0, bytes_ - (event.at - at) * BYTES_PER_SECOND)
        if event.kind == "clear":
            bytes_ = 0.0
        waiting[event.stream] = (bytes_ + event.size * (event.kind == "media"), event.at)
        # A carrier that wakes late takes what has come meanwhile all at once.
        if waiting[event.stream][0] > (LEAD_SECONDS + history.jitter) * BYTES_PER_SECOND:
            yield Violation(
                "G9", "lead_is_bounded", f"{waiting[event.stream][0] / 8000:.2f} s waited at the carrier"
            )
            return
    if waiting:
        yield Checked("G9")


def others_notice_nothing(history: History) -> Iterator[Finding]:
    """Calls beside this one, in the same process, are whole."""
    shared = (*PROCESS, sim.DiskTrouble, Fault, sim.ToolTrouble)
    if any(isinstance(struck.fault, shared) for struck in history.struck):
        return
    for other in history.others:
        found = [each for each in answers_are_whole(other) if isinstance(each, Violation)]
        if other.healed_at is None:
            yield Violation("G9", "others_notice_nothing", "another call got no answer")
        elif found:
            yield Violation("G9", "others_notice_nothing", f"another call: {found[0].what}")
        elif other.outcome != "caller_hung_up":
            yield Violation("G9", "others_notice_nothing", f"another call ended as {other.outcome}")
        else:
            yield Checked("G9")


def peers_understand_us(history: History) -> Iterator[Finding]:
    """Nothing that we send is refused: not by the carrier, not by the model."""
    for alert in history.call.alerts:
        if alert.code in (31950, 31951):
            yield Violation(
                "G10", "peers_understand_us", f"the carrier refused a message of ours: {alert.text}"
            )
            return
    odd = history.faults(Fault)
    for session in history.sessions:
        for _, code, message in session.refused:
            race = code in RACES or (odd and (code or "").startswith(("item_", "invalid_value")))
            if not race:
                yield Violation("G10", "peers_understand_us", f"the model refused {code}: {message[:80]}")
                return
    if history.sessions:
        yield Checked("G10")


def bad_input_is_reported_once(history: History) -> Iterator[Finding]:
    """A flood of nonsense is one line in the log per source, process and call."""
    lines = [level for _, level, sentence in history.reports if "not understood" in sentence]
    lives = len(history.lives)
    if len(lines) > 2 * (lives + len(history.faults(Drop)) * 0):
        yield Violation("G10", "bad_input_is_reported_once", f"{len(lines)} reports in {lives} processes")
    elif history.bad_input:
        yield Checked("G10")
