"""G4: the caller interrupts."""

from __future__ import annotations

from collections.abc import Iterator

from callrt.testing.carrier import Drop
from callrt.testing.carrier_tape import frames_of
from callrt.testing.sim import case as sim
from callrt.testing.sim.checkers.verdicts import PROCESS, Checked, Finding, Violation
from callrt.testing.sim.history import FRAME_MS, History


def clear_is_at_once(history: History) -> Iterator[Finding]:
    """``clear`` is written within 20 ms of the model's speech-started event, if the agent was being heard."""
    # Memory links take exactly their latency; what real sockets take is only bounded by it.
    latency, grace = history.case.latency, 0.021
    if history.jitter:
        latency, grace = 0.0, grace + 2 * latency
    clears = [event.at for event in history.call.wire if not event.sent and event.kind == "clear"]
    for session in history.sessions:
        for said in session.said:
            if said.event["type"] != "input_audio_buffer.speech_started":
                continue
            known = said.at + latency
            written = known + latency
            if not history.streaming(known - 0.2, written + 0.3) or _disturbed(history, known):
                continue
            speaking = any(word.began < written - 0.02 <= word.ended for word in history.words)
            if not speaking or written + 0.1 > history.over_at:
                continue
            if any(known - 0.001 <= at <= written + grace for at in clears):
                yield Checked("G4")
            else:
                yield Violation(
                    "G4", "clear_is_at_once", f"no clear by {written + grace - history.placed_at:.2f} s"
                )


def truncation_is_true(history: History) -> Iterator[Finding]:
    """The model is told what was heard: at most 20 ms more, at most 600 ms less."""
    if history.faults(Drop, sim.Pause, sim.Repeat, *PROCESS):
        return
    for session in history.sessions:
        for at, item_id, told_ms in session.truncations:
            item = next((each for each in session.spoken if each.id == item_id), None)
            if item is None or not item.audio:
                continue
            heard_ms = _heard_ms(history, bytes(item.audio), at)
            slack = 2 * history.case.latency * 1000
            if heard_ms - 600 - slack <= told_ms <= heard_ms + 20 + FRAME_MS:
                yield Checked("G4")
            elif heard_ms >= 0:
                yield Violation("G4", "truncation_is_true", f"told {told_ms} ms, heard {heard_ms} ms")


def _heard_ms(history: History, audio: bytes, at: float) -> int:
    """How far into this sound the caller has come; the same line may have been said in another session, too."""
    frames = {frame: index for index, frame in enumerate(frames_of(audio))}
    heard = 0
    for each in history.call.tape.heard:
        if each.source == "stream" and at - 30.0 <= each.at <= at + 0.5 and each.frame in frames:
            heard = max(heard, (frames[each.frame] + 1) * FRAME_MS)
    return heard


def _disturbed(history: History, at: float) -> bool:
    return any(
        at - 8.0 <= struck.at <= at + 1.0 for struck in history.faults(Drop, sim.Pause, sim.Repeat, *PROCESS)
    )
