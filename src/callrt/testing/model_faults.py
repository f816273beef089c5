"""Faults of a model service as data: what happens, and at which exact point.

A :class:`Fault` names a kind and a :class:`Trigger`. Kinds come in three sorts:

- *at the door*: the connection never becomes a session (:data:`DOOR`);
- *sudden*: something happens at the point itself (:data:`SUDDEN`);
- *armed*: from the point on, the next fitting occasion goes wrong (everything else).

The plan belongs to one emulated model and counts across its sessions: a fault fires ``times`` times in all.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, Literal

import attrs

Kind = Literal[
    # at the door
    "refuse",
    "error_then_close",
    # sudden
    "close",
    "abort",
    "freeze",
    "stall",
    "expire",
    "error",
    "poison",
    "fail",
    "unknown_event",
    "garbage",
    "extra_keys",
    "phantom_speech",
    "slow_pongs",
    # armed
    "drop",
    "duplicate",
    "no_reply",
    "late_deltas",
    "split",
    "rate",
    "text",
    "incomplete",
    "transcription",
]

DOOR = frozenset({"refuse", "error_then_close"})
SUDDEN = frozenset(
    {
        "close",
        "abort",
        "freeze",
        "stall",
        "expire",
        "error",
        "poison",
        "fail",
        "unknown_event",
        "garbage",
        "extra_keys",
        "phantom_speech",
        "slow_pongs",
    }
)

Stage = Literal["created", "item", "audio", "done"]

ACCOUNT_WIDE = (
    "insufficient_quota",
    "credit_balance_exhausted",
    "billing_hard_limit_reached",
    "account_deactivated",
    "invalid_api_key",
)
"""Codes after which no session of this account will work."""


@attrs.frozen
class Trigger:
    """The point: filters (``connection``, ``reply``) and at most one moment (``event``, ``audio_ms``,
    ``seconds``).

    Without a moment the point is the start of the reply if ``reply`` is given, else the start of the session.
    """

    connection: int | None = None
    """Only in the n-th connection to the model, from 1; None: in any."""
    reply: int | None = None
    """Only in the n-th reply of the session, from 1; None: in any."""
    event: str = ""
    """After the ``count``-th event of this type in the session, sent or received."""
    count: int = 1
    audio_ms: int | None = None
    """When exactly so much audio of a reply has been sent, over all its items."""
    seconds: float | None = None
    """So long after the session began."""

    def __attrs_post_init__(self) -> None:
        if sum((bool(self.event), self.audio_ms is not None, self.seconds is not None)) > 1:
            raise ValueError("a trigger has at most one of event, audio_ms and seconds")
        if self.count < 1:
            raise ValueError("count starts at 1")

    @property
    def moment(self) -> Literal["connect", "reply", "event", "audio", "time"]:
        if self.event:
            return "event"
        if self.audio_ms is not None:
            return "audio"
        if self.seconds is not None:
            return "time"
        return "connect" if self.reply is None else "reply"


@attrs.frozen
class Fault:
    """One fault. Which fields matter depends on ``kind``:

    - ``refuse``: the upgrade is answered with ``status`` and, if given, ``retry_after`` seconds.
    - ``error_then_close``: 101, then an error with ``error_code``, then a close with ``code``.
    - ``close``: close with ``code`` and ``reason``; ``abort``: the socket is reset; ``freeze``: half-open.
    - ``stall``: nothing more is sent and everything received is swallowed; with ``seconds``, it all happens
      later.
    - ``expire``: the end of the session's time; ``with_error``: an error session_expired comes first.
    - ``error``: an error event with ``error_type`` and ``error_code``.
    - ``fail``: the reply ends as failed at ``stage``, or at the trigger's moment if it has one.
    - ``poison``: this and all later replies of the session fail.
    - ``incomplete``: the reply ends half way (``reason`` max_output_tokens) or is withheld (content_filter).
    - ``drop``, ``duplicate``: the next event of type ``event``.
    - ``no_reply``: the next committed turn is not answered; ``text``: the reply is written, not spoken.
    - ``late_deltas``: after a cancel, ``ms`` more audio of the dead reply; ``after_done``: behind its
      response.done.
    - ``split``: the reply's first line comes as two items; ``rate``: audio at ``rate`` times real time.
    - ``garbage``: a frame that is ``form`` binary, not_json, not_object, or huge.
    - ``unknown_event``: a type nobody knows; ``extra_keys``: from now on every event carries one key more.
    - ``phantom_speech``: the service hears speech where none is, and commits it.
    - ``transcription``: for the next turn ``mode`` before, after, never or failed.
    - ``slow_pongs``: pongs are late by ``seconds`` (memory links only).
    """

    kind: Kind
    at: Trigger = Trigger()
    times: int | None = 1
    """How often in all; None: whenever the point is reached."""

    status: int = 503
    retry_after: float | None = None
    code: int = 1011
    reason: str = ""
    error_type: str = "server_error"
    error_code: str | None = None
    seconds: float | None = None
    with_error: bool = False
    stage: Stage = "created"
    event: str = ""
    ms: int = 400
    after_done: bool = False
    rate: float = 1.0
    form: Literal["binary", "not_json", "not_object", "huge"] = "not_json"
    mode: Literal["before", "after", "never", "failed"] = "never"

    @property
    def moment(self) -> str:
        """Where it is looked for: ``door``, or its trigger's moment."""
        return "door" if self.kind in DOOR else self.at.moment


@attrs.frozen
class Fired:
    """A fault that happened, for checkers."""

    fault: Fault
    connection: int
    at: float


@attrs.define(eq=False)
class FaultPlan:
    """The faults of one emulated model, and what became of them."""

    faults: Sequence[Fault] = ()
    fired: list[Fired] = attrs.field(factory=list)
    _times: dict[int, int] = attrs.field(factory=dict)

    def add(self, fault: Fault) -> None:
        self.faults = (*self.faults, fault)

    def note(self, fault: Fault, connection: int, at: float) -> None:
        """It happened."""
        self.fired.append(Fired(fault, connection, at))

    def due(self, moment: str, connection: int, at: float, **situation: Any) -> list[Fault]:
        """The faults whose point this is, marked as fired. ``situation``: reply, event, count, audio_ms,
        seconds, as the moment needs them."""
        found: list[Fault] = []
        if not self.faults:
            return found
        for index, fault in enumerate(self.faults):
            if moment == "event" and fault.at.event != situation["event"]:
                continue  # the common case, asked for every frame
            if not self._is_open(index, moment, connection, situation.get("reply")):
                continue
            trigger = fault.at
            if moment == "event" and (trigger.event, trigger.count) != (
                situation["event"],
                situation["count"],
            ):
                continue
            if moment == "audio" and trigger.audio_ms != situation["audio_ms"]:
                continue
            if moment == "time" and trigger.seconds != situation["seconds"]:
                continue
            self._times[index] = self._times.get(index, 0) + 1
            self.note(fault, connection, at)
            found.append(fault)
        return found

    def next_audio_ms(self, connection: int, reply: int, sent_ms: int) -> int | None:
        """The nearest audio moment after ``sent_ms`` in this reply: its audio is cut there."""
        points = [
            fault.at.audio_ms
            for index, fault in enumerate(self.faults)
            if self._is_open(index, "audio", connection, reply)
            and fault.at.audio_ms is not None
            and fault.at.audio_ms > sent_ms
        ]
        return min(points, default=None)

    def times_due(self, connection: int) -> list[float]:
        """Seconds after the start of the session at which something is due, each once."""
        return sorted(
            {
                fault.at.seconds
                for index, fault in enumerate(self.faults)
                if fault.at.seconds is not None and self._is_open(index, "time", connection, fault.at.reply)
            }
        )

    def _is_open(self, index: int, moment: str, connection: int, reply: int | None) -> bool:
        fault = self.faults[index]
        trigger = fault.at
        return (
            fault.moment == moment
            and trigger.connection in (None, connection)
            and trigger.reply in (None, reply)
            and (fault.times is None or self._times.get(index, 0) < fault.times)
        )
