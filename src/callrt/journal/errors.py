"""What can go wrong, one class per reaction."""

from __future__ import annotations


class JournalUnavailable(Exception):
    """Nothing can be committed now: the disk is full, locked, broken, or too slow. Speech goes on without it,
    side effects do not. The message names the cause and nothing of the call."""

    def __init__(self, reason: str, *, may_have_happened: bool = False) -> None:
        super().__init__(reason)
        self.reason = reason
        self.may_have_happened = may_have_happened
        """The record may be in the journal all the same: ask it before doing what must not be twice."""


class LeaseLost(Exception):
    """Another stream, perhaps in another process, holds the call now: write and say nothing more."""

    def __init__(self, call_sid: str, epoch: int, newer: int) -> None:
        super().__init__(f"lease {epoch} of {call_sid} is lost to lease {newer}")
        self.call_sid = call_sid
        self.epoch = epoch
        self.newer = newer


class StreamRefused(Exception):
    """A stream of this generation, or of a newer one, was attached already: close this one."""

    def __init__(self, call_sid: str, generation: int, attached: int) -> None:
        super().__init__(f"generation {generation} of {call_sid} comes after {attached} was attached")
        self.call_sid = call_sid
        self.generation = generation
        self.attached = attached


class Overtaken(Exception):
    """Something was written of this call since it was looked at: look again."""

    def __init__(self, call_sid: str, expected: int, last: int) -> None:
        super().__init__(f"{call_sid} is at entry {last}, not {expected}")
        self.call_sid = call_sid
        self.expected = expected
        self.last = last


class CorruptRecord(Exception):
    """One entry cannot be read. Others can: a reader skips it and says so."""

    def __init__(self, call_sid: str, number: int, why: str) -> None:
        super().__init__(f"entry {number} of {call_sid}: {why}")
        self.call_sid = call_sid
        self.number = number
        self.why = why


class StoreFailed(Exception):
    """A store could not commit or read. ``busy``: another process holds it, trying again helps."""

    def __init__(self, reason: str, *, busy: bool = False, may_have_happened: bool = False) -> None:
        super().__init__(reason)
        self.reason = reason
        self.busy = busy
        self.may_have_happened = may_have_happened
