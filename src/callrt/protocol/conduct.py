"""When a call ends, and why: its life cycle as a machine without a clock.

Theory of operation. A call outlives its streams. While it has none it waits, for a time that depends on how
the last one went away:

* ``stopped`` (an ordered stop): the carrier either asks at once what comes next, or the caller has hung up;
* ``lost`` (anything else): the carrier may ask, and a new stream may come, for as long as the operator allows.

A carrier that asks means that the call lives. Everything else that can end a call is here too: its greatest
length, silence, the agent's own wish (which waits until what it is saying has been heard), the end of the
ladder. ``verdict`` is asked after each event and at ``deadline``; the first verdict is final.
"""

from __future__ import annotations

import math
from typing import Literal

import attrs

Absence = Literal["never", "stopped", "lost"]


@attrs.frozen
class End:
    """Say ``line`` if there is somebody to hear it, then end with this outcome."""

    outcome: str
    line: str | None = None


@attrs.frozen
class Transfer:
    """Say ``line``, then hand the caller to the human."""

    reason: str
    line: str | None = "connecting"
    note: str = ""
    """Why, in the agent's words; the human hears it."""


Verdict = End | Transfer


@attrs.frozen
class ConductLimits:
    """Seconds."""

    carrier_return: float
    max_silence: float
    max_call: float
    hangup_grace: float = 3.0
    last_speech: float = 2.0
    """Patience beyond the unheard audio for the agent's last sentence."""


@attrs.define
class Conduct:
    """One call's life cycle; ``started_at`` is the clock time from which its greatest length counts."""

    started_at: float
    limits: ConductLimits
    can_transfer: bool
    streaming: bool = False
    _absence: Absence = "never"
    _absent_since: float = math.nan
    _asked: bool = False
    _active_at: float = math.nan
    _wish: Verdict | None = None
    _wish_deadline: float = math.inf
    _final: Verdict | None = None

    def __attrs_post_init__(self) -> None:
        self._absent_since = self.started_at
        self._active_at = self.started_at

    # -- what happens ----------------------------------------------------------------------------------

    def attached(self, now: float) -> None:
        self.streaming = True
        self._asked = False
        self._active_at = now

    def detached(self, now: float, absence: Absence) -> None:
        if self.streaming:
            self.streaming = False
            # A carrier that has asked already, and offers its new stream while the old one dies, lives on.
            self._absence = absence
            self._absent_since = now

    def asked(self, now: float) -> None:
        """The carrier asked what comes next: the call goes on."""
        self._asked = True
        if not self.streaming:
            self._absent_since = now

    def active(self, now: float) -> None:
        """Somebody speaks, or a reply is on its way."""
        self._active_at = now

    def carrier_over(self) -> None:
        """The carrier says that the call has ended."""
        self._decide(End("caller_hung_up"))

    def gave_up(self, outcome: str = "model_unavailable") -> None:
        """The tree of actors has given up."""
        self._decide(
            Transfer("model_unavailable") if self.can_transfer else End(outcome, line="sorry_goodbye"),
        )

    def finish(self, outcome: str, line: str | None) -> None:
        """End for a reason of the service's own (draining, shutdown)."""
        self._decide(End(outcome, line))

    def wish(self, verdict: Verdict, heard_by: float) -> None:
        """The agent wants to end or to hand over, once what it is saying has been heard (about ``heard_by``)."""
        self._wish = verdict
        self._wish_deadline = heard_by + self.limits.last_speech

    def take_back(self) -> bool:
        """The caller went on speaking before the agent's wish was carried out. True if there was one."""
        had = self._wish is not None
        self._wish = None
        self._wish_deadline = math.inf
        return had

    @property
    def final(self) -> Verdict | None:
        return self._final

    # -- what follows ----------------------------------------------------------------------------------

    @property
    def deadline(self) -> float:
        """Clock time at which time alone brings a verdict."""
        if self._final is not None:
            return math.inf
        due = self.started_at + self.limits.max_call
        if self.streaming:
            due = min(due, self._active_at + self.limits.max_silence, self._wish_deadline)
        else:
            due = min(due, self._absent_since + self._patience())
        return due

    def verdict(self, now: float, *, silent: bool) -> Verdict | None:
        """The verdict, once there is one. ``silent``: nothing of the agent's is left to be heard."""
        if self._final is not None:
            return self._final
        if now >= self.started_at + self.limits.max_call:
            self._decide(End("max_duration", line="goodbye"))
        elif self._wish is not None and (silent or now >= self._wish_deadline):
            self._decide(self._wish)
        elif not self.streaming:
            if now >= self._absent_since + self._patience():
                hung_up = self._absence == "stopped" and not self._asked
                self._decide(End("caller_hung_up" if hung_up else "carrier_lost"))
        elif now >= self._active_at + self.limits.max_silence:
            self._decide(End("silence", line="goodbye"))
        return self._final

    def _patience(self) -> float:
        if self._absence == "stopped" and not self._asked:
            return self.limits.hangup_grace
        return self.limits.carrier_return

    def _decide(self, verdict: Verdict) -> None:
        if self._final is None:
            self._final = verdict
