"""The digest of a call: what was heard, told, journalled and done, to the bit and to the tick."""

from __future__ import annotations

import hashlib

from callrt.journal.record import encode_record
from callrt.testing.sim.history import History


def digest(history: History) -> str:
    """The same for the same seed: in any process, under any hash seed, with any number of workers."""
    ledger = hashlib.sha256()
    for call in (history.call, *(other.call for other in history.others)):
        for heard in call.tape.heard:
            ledger.update(f"{heard.at!r} {heard.stream} {heard.source}".encode())
            ledger.update(heard.frame)
        for event in call.wire:
            ledger.update(repr(event).encode())
        for request in call.requests:
            ledger.update(f"{request.at!r} {request.kind} {request.status}".encode())
    for session in history.sessions:
        for told in session.told:
            ledger.update(f"{told.at!r} {told.event}".encode())
        for said in session.said:
            ledger.update(f"{said.at!r} {said.event['type']}".encode())
    for entry in history.entries:
        ledger.update(f"{entry.number} {entry.at!r}".encode())
        ledger.update(encode_record(entry.record))
    for effect in history.effects:
        ledger.update(repr(effect).encode())
    ledger.update(f"{history.outcome} {history.over_at!r}".encode())
    return ledger.hexdigest()
