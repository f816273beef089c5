"""G6, G8: every call ends in time, with an outcome that fits what happened, and leaves nothing behind."""

from __future__ import annotations

from collections.abc import Iterator

from callrt.protocol.records import CallAccepted
from callrt.testing.carrier import Drop
from callrt.testing.model_faults import Fault
from callrt.testing.sim import case as sim
from callrt.testing.sim.checkers.verdicts import PROCESS, Checked, Finding, Violation
from callrt.testing.sim.history import History

FITTING = {
    "caller_hung_up": ("caller_hung_up",),
    "too_long": ("caller_hung_up", "carrier_lost", "max_duration"),
    "rejected": (None,),
}
"""What the carrier saw, to the outcomes that say so."""
FAREWELLS = ("sorry_goodbye", "connecting", "goodbye")
"""Whoever hangs up while he hears one of these ends a call that had its outcome."""


def ends_with_outcome(history: History) -> Iterator[Finding]:
    """There is an outcome in the journal, in time, and it says what happened."""
    if not history.of(CallAccepted):
        return
    limit = history.case.max_call_seconds + 5.0
    lasted = history.over_at - history.placed_at
    disk = history.faults(sim.DiskTrouble)
    if lasted > limit + 2.0:
        yield Violation("G8", "ends_with_outcome", f"the call lasted {lasted:.0f} s of {limit:.0f}")
    if history.outcome is None:
        yield Violation("G8", "ends_with_outcome", f"no outcome in the journal ({history.call.end_reason})")
        return
    wanted = FITTING.get(history.call.end_reason)
    if wanted is not None and any(line.name in FAREWELLS for line in history.bundled):
        wanted = (*wanted, "model_unavailable", "transferred", "completed", "silence", "max_duration")
    lenient = history.faults(Drop, sim.Pause, sim.RestDown, *PROCESS) or disk
    if wanted is not None and history.outcome not in wanted and not lenient:
        yield Violation(
            "G8", "ends_with_outcome", f"{history.call.end_reason} was recorded as {history.outcome}"
        )
    elif history.outcome == "failed" and not history.faults(sim.Crash):
        yield Violation("G8", "ends_with_outcome", "the call failed, though no actor had a bug")
    elif history.outcome == "silence":
        yield Violation("G8", "ends_with_outcome", "a caller who spoke was taken for silent")
    elif history.outcome == "carrier_lost" and not history.faults(Drop, sim.Pause, sim.Repeat, *PROCESS):
        yield Violation(
            "G8", "ends_with_outcome", "the carrier was given up, though its stream was never touched"
        )
    elif history.outcome == "model_unavailable" and not history.faults(Fault, *PROCESS):
        yield Violation("G8", "ends_with_outcome", "the model was given up, though it never failed")
    else:
        yield Checked("G8")


def nothing_is_left(history: History) -> Iterator[Finding]:
    """Tasks, calls and sockets are back where they were."""
    left = history.leftovers
    if left.calls or left.model_sockets:
        yield Violation(
            "G6", "nothing_is_left", f"{left.calls} calls and {left.model_sockets} model sockets are left"
        )
    elif left.tasks > 0 and not history.faults(sim.Takeover, sim.Drain):
        yield Violation("G6", "nothing_is_left", f"{left.tasks} tasks are left")
    else:
        yield Checked("G6")
