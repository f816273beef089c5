"""G12: no key, token, number or word of the call in logs, metrics or reasons."""

from __future__ import annotations

from collections.abc import Iterator

from callrt.protocol.records import ActorRestarted, FaultSeen, ModelSessionEnded
from callrt.testing.sim import cast
from callrt.testing.sim.checkers.verdicts import Checked, Finding, Violation
from callrt.testing.sim.history import History
from callrt.testing.world import MODEL, TOKEN

SECRETS = (
    MODEL.api_key,
    TOKEN,
    "+15550100001",
    "+15550100009",
    "words in it",
    *(each.say for each in cast.EXCHANGES.values()),
    *(each.answer for each in cast.EXCHANGES.values()),
)


def secrets_stay_in(history: History) -> Iterator[Finding]:
    places = {
        "the log": " ".join(sentence for _, _, sentence in history.reports),
        "the metrics": history.metrics,
        "a recorded reason": " ".join(
            getattr(entry.record, "reason", "") + getattr(entry.record, "detail", "")
            for entry in history.entries
            if isinstance(entry.record, (ActorRestarted, FaultSeen, ModelSessionEnded))
        ),
    }
    for where, text in places.items():
        for secret in SECRETS:
            if secret in text:
                yield Violation("G12", "secrets_stay_in", f"{where} holds {secret[:4]}…")
                return
    yield Checked("G12")
