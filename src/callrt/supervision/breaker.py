"""Circuit breaker: stop calling what keeps failing, and try again carefully.

    closed ──max_failures in a row──▶ open ──reset time passed──▶ half-open
      ▲                                ▲                              │ exactly one trial
      └────────── success ─────────────┼──────────────────────────────┤
                                       └── failure: reset time grows ─┘

Shared by name, it keeps a thousand calls from hammering an account that has no quota.
"""

from __future__ import annotations

import math
from collections.abc import Awaitable, Callable
from typing import Any, Literal, TypeVar

import attrs
import trio

from .backoff import _number
from .errors import SpecError, SupervisionError
from .reports import Hook, Reports

T = TypeVar("T")
BreakerState = Literal["closed", "open", "half_open"]


class BreakerOpen(SupervisionError):
    """Refused without running. ``retry_at``: when a trial may be let through, on Trio's clock."""

    def __init__(self, name: str, retry_at: float) -> None:
        super().__init__(f"circuit breaker {name} is open")
        self.name = name
        self.retry_at = retry_at


@attrs.frozen(kw_only=True)
class BreakerChanged:
    """Report: the breaker went into another state."""

    name: str
    state: BreakerState
    at: float
    failures: int
    reset_after: float
    """Seconds until a trial, as of now."""


class Ticket:
    """Leave to make one attempt. Settle it exactly once; later settlements have no effect."""

    __slots__ = ("_breaker", "_era", "settled")

    def __init__(self, breaker: CircuitBreaker, era: int) -> None:
        self._breaker = breaker
        self._era = era
        self.settled = False

    def succeeded(self) -> None:
        self._settle("success")

    def failed(self) -> None:
        self._settle("failure")

    def abandoned(self) -> None:
        """Neither: the attempt was cancelled. A trial may be made again at once."""
        self._settle("neither")

    def _settle(self, how: str) -> None:
        if not self.settled:
            self.settled = True
            self._breaker._settled(how, self._era)


class CircuitBreaker:
    """Counts failures in a row. All methods but :meth:`call` are synchronous and never block."""

    def __init__(
        self,
        name: str = "breaker",
        *,
        max_failures: int = 5,
        call_timeout: float = math.inf,
        reset_after: float = 30.0,
        factor: float = 1.0,
        cap: float = 300.0,
        reports: Hook | tuple[Hook, ...] = (),
    ) -> None:
        """``call_timeout``, ``reset_after``, ``cap`` in seconds; each failed trial multiplies the reset time by
        ``factor``, up to ``cap``."""
        if isinstance(max_failures, bool) or not isinstance(max_failures, int) or max_failures < 1:
            raise SpecError("breaker.max_failures", f"must be an integer >= 1, not {max_failures!r}")
        _number("breaker.call_timeout", call_timeout, low=0, finite=False)
        _number("breaker.reset_after", reset_after, low=0)
        _number("breaker.factor", factor, low=1)
        _number("breaker.cap", cap, low=0)
        if cap < reset_after:
            raise SpecError("breaker.cap", f"must not be below reset_after ({reset_after}), not {cap}")
        self.name = name
        self.settings = (max_failures, call_timeout, reset_after, factor, cap)
        self.max_failures = max_failures
        self.call_timeout = call_timeout
        self._base = reset_after
        self._factor = factor
        self._cap = cap
        self._reset_after = reset_after
        self._reports = Reports(reports)
        self._state: BreakerState = "closed"
        self._opened_at = -math.inf
        self._era = 0
        """Grows with each change of state: results from before count no more."""
        self.failures = 0
        """In a row, while closed."""
        self.refused = 0
        """Attempts that were not let through, in all."""

    @property
    def state(self) -> BreakerState:
        return self._state

    @property
    def retry_at(self) -> float:
        """When a trial may be let through, on Trio's clock; -inf while closed."""
        return -math.inf if self._state == "closed" else self._opened_at + self._reset_after

    def admit(self) -> Ticket:
        """Leave for one attempt, or :class:`BreakerOpen`. No checkpoint."""
        if self._state == "closed":
            return Ticket(self, self._era)
        if self._state == "open" and trio.current_time() >= self.retry_at:
            self._become("half_open")
            return Ticket(self, self._era)
        self.refused += 1
        raise BreakerOpen(self.name, self.retry_at)

    async def call(self, fn: Callable[..., Awaitable[T]], *args: Any) -> T:
        """Run ``fn(*args)`` if the breaker lets it. An exception or ``call_timeout`` is a failure and is raised
        (the latter as :class:`trio.TooSlowError`). Raises :class:`BreakerOpen` without running anything.
        If cancelled: ``fn`` was cancelled; counts neither as a failure nor as a success.
        """
        await trio.lowlevel.checkpoint()
        ticket = self.admit()
        try:
            with trio.fail_after(self.call_timeout):
                result = await fn(*args)
        except Exception:
            ticket.failed()
            raise
        else:
            ticket.succeeded()
            return result
        finally:
            ticket.abandoned()  # only a cancellation gets here unsettled

    def _settled(self, how: str, era: int) -> None:
        if era != self._era:
            return
        if self._state == "half_open":
            if how == "success":
                self._reset_after = self._base
                self._become("closed")
            elif how == "failure":
                self._reset_after = min(self._reset_after * self._factor, self._cap)
                self._open()
            else:
                self._state = "open"  # the reset time has passed already: the next attempt is the trial
        elif how == "success":
            self.failures = 0
        elif how == "failure":
            self.failures += 1
            if self.failures >= self.max_failures:
                self._open()

    def _open(self) -> None:
        self._opened_at = trio.current_time()
        self._become("open")

    def _become(self, state: BreakerState) -> None:
        self._state = state
        self._era += 1
        if state == "closed":
            self.failures = 0
        self._reports.emit(
            BreakerChanged(
                name=self.name,
                state=state,
                at=trio.current_time(),
                failures=self.failures,
                reset_after=self._reset_after,
            )
        )


class Breakers:
    """Breakers by name: everyone who asks for a name shares one breaker, and so one opinion."""

    def __init__(self, reports: Hook | tuple[Hook, ...] = ()) -> None:
        self._reports = reports
        self._breakers: dict[str, CircuitBreaker] = {}

    def named(self, name: str, **settings: Any) -> CircuitBreaker:
        """The breaker of this name, made on first use. :class:`SpecError` when asked for with other settings."""
        fresh = CircuitBreaker(name, **settings, reports=self._reports)
        known = self._breakers.setdefault(name, fresh)
        if known.settings != fresh.settings:
            raise SpecError(f"breaker {name!r}", f"exists with other settings: {known.settings}")
        return known

    def all(self) -> tuple[CircuitBreaker, ...]:
        return tuple(self._breakers.values())
