"""G2, G7: dropped streams leave the model alone; one voice per line; leases only grow."""

from __future__ import annotations

import itertools
from collections.abc import Iterator

from callrt.actors.leases import LOOK_SECONDS
from callrt.protocol.records import StreamAttached
from callrt.testing.carrier import Drop
from callrt.testing.model_faults import Fault
from callrt.testing.sim import case as sim
from callrt.testing.sim.checkers.verdicts import PROCESS, Checked, Finding, Violation
from callrt.testing.sim.history import History


def session_stays(history: History) -> Iterator[Finding]:
    """A dropped stream costs no model session."""
    if history.faults(Fault, sim.Flood, *PROCESS) or not history.faults(Drop, sim.Repeat):
        return
    if history.connections > 1:
        yield Violation(
            "G2", "session_stays", f"{history.connections} model sessions, though only the stream dropped"
        )
    else:
        yield Checked("G2")


TAKEOVER_SECONDS = LOOK_SECONDS + 0.2
"""A process looks at its leases so often; what it has sent by then is on its way."""


def one_voice(history: History) -> Iterator[Finding]:
    """Once a newer stream of the call is spoken on, nothing more is said on an older one."""
    if history.faults(sim.Pause):
        return  # what arrives late was sent early
    first: dict[int, float] = {}
    for event in history.call.wire:
        if not event.sent and event.kind == "media":
            first.setdefault(event.stream, event.at)
    slack = 2 * history.case.latency + 0.05
    if history.faults(sim.Takeover):
        # The one that was taken over from learns of it when it looks, and the caller does not hear it.
        slack += TAKEOVER_SECONDS
    for event in history.call.wire:
        if event.sent or event.kind != "media":
            continue
        newer = [at for stream, at in first.items() if stream > event.stream]
        if newer and event.at > min(newer) + slack:
            yield Violation("G7", "one_voice", f"stream {event.stream} was spoken on after a newer one")
            return
    if len(first) > 1:
        yield Checked("G7")


def leases_grow(history: History) -> Iterator[Finding]:
    """Each stream has a later lease than the one before; generations never repeat."""
    attached = [
        entry.record for entry in history.of(StreamAttached) if isinstance(entry.record, StreamAttached)
    ]
    disk = history.faults(sim.DiskTrouble)
    for before, after in itertools.pairwise(attached):
        grew = after.lease_epoch > before.lease_epoch or (disk and after.lease_epoch == before.lease_epoch)
        if after.generation <= before.generation or not grew:
            yield Violation(
                "G7",
                "leases_grow",
                f"generation {before.generation} lease {before.lease_epoch} was followed by "
                f"generation {after.generation} lease {after.lease_epoch}",
            )
        else:
            yield Checked("G7")
