"""One simulated call as a value: who calls, under which settings, and which faults strike when.

A case is all that a run depends on. Its ``repr`` is Python: what the shrinker prints can be pasted into a test.
"""

from __future__ import annotations

from typing import Literal

import attrs

from callrt.testing.carrier_plan import Drop
from callrt.testing.model_faults import Fault

# -- faults, each with the moment at which it strikes (seconds since the call was placed) ---------------------


@attrs.frozen
class Kill:
    """kill -9 of the newest process; another one is there ``down`` seconds later."""

    at: float
    down: float = 0.3


@attrs.frozen
class Takeover:
    """A second process starts, and the carrier's next question reaches that one: the first one still believes
    in its stream."""

    at: float


@attrs.frozen
class Repeat:
    """The carrier asks for the first document once more in mid-call."""

    at: float


@attrs.frozen
class Pause:
    """The network between carrier and callrt stands still for so long; then everything arrives."""

    at: float
    seconds: float


@attrs.frozen
class DiskTrouble:
    """``full``: nothing is written. ``torn``: half of the batch's bytes reach the disk, none counts.
    ``unsure``: all of it is written, but the answer is an error. ``busy``: another process holds it."""

    at: float
    seconds: float
    how: Literal["full", "torn", "unsure", "busy"]


@attrs.frozen
class BadMessages:
    """Messages that no carrier should send, on the media socket."""

    at: float
    count: int
    what: Literal["not_json", "binary", "not_object", "unknown", "no_payload", "wrong_stream", "huge"]


@attrs.frozen
class Crash:
    """A bug of ours: this actor raises."""

    at: float
    actor: Literal["model", "carrier", "playback", "journal"]


@attrs.frozen
class ToolTrouble:
    """The next run of a tool after ``at`` goes wrong. ``late``: it raises after ``seconds``."""

    at: float
    how: Literal["hang", "slow", "late", "raise", "refuse", "flood", "lie"]
    seconds: float = 2.0


@attrs.frozen
class RestDown:
    """The carrier's REST interface fails so many times."""

    at: float
    times: int = 1
    status: int = 503


@attrs.frozen
class Drain:
    """SIGTERM: the process takes no new calls and ends the live ones politely after ``seconds``, or, unless it is
    ``alone``, hands them on to another one."""

    at: float
    seconds: float
    alone: bool = False


@attrs.frozen
class Flood:
    """So many other callers at once, each with a whole call of his own."""

    at: float
    calls: int


Strike = (
    Fault
    | Drop
    | Kill
    | Takeover
    | Repeat
    | Pause
    | DiskTrouble
    | BadMessages
    | Crash
    | ToolTrouble
    | RestDown
    | Drain
    | Flood
)


@attrs.frozen
class Aimed:
    """``fault`` strikes, whatever its own moment is, when the call has been in this turn state for ``after``
    seconds, for the ``nth`` time."""

    fault: Strike
    turn: str
    nth: int = 1
    after: float = 0.0


SimFault = Strike | Aimed


def name_of(fault: SimFault) -> str:
    """For counts: which kind of fault, in a word or two."""
    match fault:
        case Aimed():
            return name_of(fault.fault)
        case Fault():
            return f"model {fault.kind}"
        case Drop():
            return f"carrier {fault.how}"
        case DiskTrouble():
            return f"disk {fault.how}"
        case BadMessages():
            return f"bad {fault.what}"
        case Crash():
            return f"crash {fault.actor}"
        case ToolTrouble():
            return f"tool {fault.how}"
        case _:
            return type(fault).__name__.lower()


# -- the call ---------------------------------------------------------------------------------------------------


@attrs.frozen
class Ask:
    """The caller says this line of the cast. ``after_ms``: over the agent, so long after that began to speak;
    None: when the agent has answered what was asked before."""

    line: str
    after_ms: int | None = None


@attrs.frozen
class Caller:
    asks: tuple[Ask, ...] = (Ask("hours"),)
    patience: float = 20.0
    """Seconds without an answer after which he goes on."""
    digits: str = ""
    """Keys pressed after the greeting."""
    hangs_up_ms: int | None = None
    """So long into the answer to his last question he hangs up: there is no calm then."""


@attrs.frozen
class Case:
    seed: int = 0
    caller: Caller = Caller()
    faults: tuple[SimFault, ...] = ()
    human: bool = False
    """There is a human to hand over to."""
    latency: float = 0.0
    """Seconds, each way, on every link."""
    stall_seconds: float = 5.0
    max_call_seconds: float = 240.0
    transcription: Literal["before", "during", "after", "never"] = "during"
    echo_delay: float = 0.0
    tool_seconds: float = 3.0
    """Timeout of the agent's tools."""
    duplicate_webhooks: bool = False
