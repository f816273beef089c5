"""The ground under an emulated session: what goes out and when, what is recorded, where faults strike.

Sans-IO: time is an argument, randomness a stream, output a list of values for a driver to carry out.
"""

from __future__ import annotations

import abc
import heapq
import math
import random
from collections import Counter, deque
from collections.abc import Callable, Iterable
from typing import Any, Literal

import attrs
import msgspec

from callrt.testing.model_brain import Brain
from callrt.testing.model_faults import Fault, FaultPlan
from callrt.testing.model_items import Voice
from callrt.testing.model_reply import Pace

RECORD_LIMIT = 500_000
"""Events kept for checkers, each way: over two hours of 20 ms appends, then the oldest go."""


@attrs.frozen
class Send:
    message: str | bytes


@attrs.frozen
class Close:
    code: int
    reason: str = ""


@attrs.frozen
class Abort:
    """Reset the socket."""


@attrs.frozen
class Freeze:
    """Leave the socket half-open."""


@attrs.frozen
class DelayPongs:
    seconds: float


Out = Send | Close | Abort | Freeze | DelayPongs


@attrs.frozen
class Told:
    """A client event, when it came. ``audio`` is replaced by its length in bytes."""

    at: float
    event: dict[str, Any]


@attrs.frozen
class Said:
    """A server event, when it was made. ``delta`` of audio is replaced by its length in bytes."""

    at: float
    event: dict[str, Any]


@attrs.frozen
class ModelOptions:
    """How the emulated service behaves when nothing is broken. Seconds."""

    pace: Pace = attrs.field(factory=Pace)
    session_seconds: float = 3600.0
    expiry_error: bool = False
    """An error session_expired before the close; both have been seen."""
    transcription: Literal["before", "during", "after", "never", "failed"] = "during"
    """When a caller's transcript comes: before the reply, a moment into it, after it, never, or as a
    failure."""
    transcription_seconds: float = 0.4
    reply_delay: float = 0.05
    """From ``committed`` to ``response.created``."""
    unix_start: float | None = None
    """Unix time when the driver's clock reads 0, only for ``expires_at``; None: 0, or on a port the real
    one."""
    strict_call_ids: bool = True
    """Refuse outputs of calls that this session has never seen."""


@attrs.define(eq=False)
class SessionCore(abc.ABC):
    brain: Brain
    voice: Voice
    options: ModelOptions
    plan: FaultPlan
    rng: random.Random
    connection: int = 1
    model: str = "gpt-realtime-2.1"

    now: float = 0.0
    began: float = 0.0
    told: deque[Told] = attrs.field(factory=lambda: deque(maxlen=RECORD_LIMIT))
    said: deque[Said] = attrs.field(factory=lambda: deque(maxlen=RECORD_LIMIT))
    counts: Counter[str] = attrs.field(factory=Counter)
    """Events by type, both ways."""
    ended: Close | Abort | None = None
    """How this end ended it."""
    lost: tuple[int | None, str] | None = None
    """How the client ended it: close code and reason."""
    replies_begun: int = 0
    wake: Callable[[], None] = lambda: None
    """Set by the driver: it looks at :meth:`next_due` again."""

    _out: list[Out] = attrs.field(factory=list)
    _timers: list[tuple[float, int, Callable[[], None]]] = attrs.field(factory=list)
    _timer_count: int = 0
    _armed: list[Fault] = attrs.field(factory=list)
    _stalled_until: float = -math.inf
    _held_in: deque[str | bytes] = attrs.field(factory=lambda: deque(maxlen=100_000))
    _held_out: list[Out] = attrs.field(factory=list)
    _extra_keys: bool = False
    _poison: Fault | None = None

    # -- driven from outside --------------------------------------------------------------------------

    def next_due(self) -> float:
        """When :meth:`advance` must be called next; infinity if only input can change anything."""
        if self.is_over:
            return math.inf
        if self.is_stalled:
            return self._stalled_until
        return self._timers[0][0] if self._timers else math.inf

    def receive(self, message: str | bytes, now: float) -> list[Out]:
        """One message from the client."""
        self._advance_to(now)
        if not self.is_over:
            if self.is_stalled:
                self._held_in.append(message)
            else:
                self._handle(message)
        return self._taken()

    def advance(self, now: float) -> list[Out]:
        """Let time pass until ``now``."""
        self._advance_to(now)
        return self._taken()

    def strike(self, fault: Fault) -> None:
        """This fault happens now, whatever its own moment is: what comes of it goes out at the driver's next step."""
        self.plan.note(fault, self.connection, self.now)
        self._later(self.now, lambda: self._apply(fault))
        self.wake()

    def hang_up(self, code: int | None, reason: str, now: float) -> None:
        """The client has closed, or is gone (code None)."""
        self.now = max(self.now, now)
        self.lost = (code, reason)

    @property
    def is_over(self) -> bool:
        return self.ended is not None or self.lost is not None

    @property
    def is_stalled(self) -> bool:
        return self.now < self._stalled_until

    # -- for the session ------------------------------------------------------------------------------

    @abc.abstractmethod
    def _handle(self, message: str | bytes) -> None: ...

    def _later(self, due: float, action: Callable[[], None]) -> None:
        self._timer_count += 1
        heapq.heappush(self._timers, (due, self._timer_count, action))

    def _id(self, prefix: str) -> str:
        return f"{prefix}_{self.rng.getrandbits(80):020x}"

    def _emit(self, kind: str, **body: Any) -> None:
        event = {"type": kind, "event_id": self._id("event"), **body}
        if self.is_over or (self.is_stalled and self._stalled_until == math.inf):
            return
        if self._take("drop", lambda fault: fault.event == kind):
            return
        if self._extra_keys:
            event["x_unheard_of"] = {"nested": [1, None]}
        self._put(Send(msgspec.json.encode(event).decode()))
        if self._take("duplicate", lambda fault: fault.event == kind):
            self._put(Send(msgspec.json.encode(event).decode()))
        if kind == "response.output_audio.delta":
            event = {**event, "delta": len(body["delta"])}
        self.said.append(Said(self.now, event))
        self._count(kind)

    def _error(
        self, code: str | None, message: str, *, kind: str = "invalid_request_error", **more: Any
    ) -> None:
        self._emit(
            "error",
            error={
                "type": kind,
                "code": code,
                "message": message,
                "param": more.get("param"),
                "event_id": more.get("event_id"),
            },
        )

    def _close(self, code: int, reason: str) -> None:
        if not self.is_over:
            self.ended = Close(code, reason)
            self._out.append(self.ended)

    # -- faults ---------------------------------------------------------------------------------------

    def _count(self, kind: str) -> None:
        self.counts[kind] += 1
        self._strike("event", event=kind, count=self.counts[kind])

    def _strike(self, moment: str, **situation: Any) -> None:
        for fault in self.plan.due(moment, self.connection, self.now, reply=self.replies_begun, **situation):
            self._apply(fault)

    def _take(self, kind: str, fits: Callable[[Fault], bool] = lambda _: True) -> Fault | None:
        for index, fault in enumerate(self._armed):
            if fault.kind == kind and fits(fault):
                return self._armed.pop(index)
        return None

    def _apply(self, fault: Fault) -> None:
        match fault.kind:
            case "close":
                self._close(fault.code, fault.reason)
            case "abort":
                if not self.is_over:
                    self.ended = Abort()
                    self._out.append(self.ended)
            case "freeze":
                self._out.append(Freeze())
                self._stalled_until = math.inf
            case "stall":
                self._stalled_until = math.inf if fault.seconds is None else self.now + fault.seconds
            case "expire":
                self._expire(with_error=fault.with_error)
            case "error":
                self._error(
                    fault.error_code,
                    fault.reason or "The emulated service reports an error.",
                    kind=fault.error_type,
                )
            case "poison":
                self._poison = fault
                self._fail_now(fault)
            case "fail" if fault.at.moment in ("event", "audio", "time"):
                self._fail_now(fault)
            case "unknown_event":
                self._emit("response.premonition.delta", premonition={"certainty": 0.5})
            case "garbage":
                self._put(Send(_GARBAGE[fault.form]))
            case "extra_keys":
                self._extra_keys = True
            case "phantom_speech":
                self._hear_phantom()
            case "slow_pongs":
                self._out.append(DelayPongs(fault.seconds or 0.0))
            case _:
                self._armed.append(fault)

    def _expire(self, *, with_error: bool) -> None:
        minutes = round(self.options.session_seconds / 60)
        reason = f"Your session hit the maximum duration of {minutes} minutes."
        if with_error:
            self._error("session_expired", reason)
        self._close(1001, reason)

    @abc.abstractmethod
    def _fail_now(self, fault: Fault) -> None: ...

    @abc.abstractmethod
    def _hear_phantom(self) -> None: ...

    # -- inside ---------------------------------------------------------------------------------------

    def _put(self, out: Send) -> None:
        if self.is_over:
            return
        if self.is_stalled:
            if self._stalled_until < math.inf:
                self._held_out.append(out)
            return
        self._out.append(out)

    def _advance_to(self, now: float) -> None:
        while not self.is_over:
            if self.is_stalled:
                if now < self._stalled_until:
                    break
                self.now = self._stalled_until
                self._out += self._held_out
                self._held_out = []
                while self._held_in and self.now >= self._stalled_until and not self.is_over:
                    self._handle(self._held_in.popleft())
                continue
            if not self._timers or self._timers[0][0] > now:
                break
            due, _, action = heapq.heappop(self._timers)
            self.now = max(self.now, due)
            action()
        self.now = max(self.now, now)

    def _taken(self) -> list[Out]:
        out, self._out = self._out, []
        return out

    def _watch_times(self, seconds: Iterable[float]) -> None:
        for after in seconds:
            self._later(self.began + after, lambda after=after: self._strike("time", seconds=after))  # type: ignore[misc]


_GARBAGE: dict[str, str | bytes] = {
    "binary": b"\x00\xff\x00\xff",
    "not_json": "response.done",
    "not_object": '["response.done"]',
    "huge": '{"type":"response.premonition.delta","event_id":"event_huge","delta":"' + "x" * 2_000_000 + '"}',
}
