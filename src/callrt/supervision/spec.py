"""Child specs: what a supervisor needs to know of a child, checked before anything starts."""

from __future__ import annotations

import math
import warnings
from collections.abc import Awaitable, Callable, Hashable, Iterable
from typing import Any, Literal, get_args

import attrs

from .backoff import Backoff
from .errors import SpecError

Restart = Literal["permanent", "transient", "temporary"]
Kind = Literal["worker", "supervisor"]
Strategy = Literal["one_for_one", "one_for_all", "rest_for_one"]
AutoShutdown = Literal["never", "any_significant", "all_significant"]
Start = Callable[..., Awaitable[object]]
"""``async def start(ctx, *, task_status)``: prepares, calls ``task_status.started(value)``, then works."""

DEFAULT_SHUTDOWN_SECONDS = 5.0
"""OTP's default for workers; supervisors wait for their children without limit."""
DEFAULT_MAILBOX_CAPACITY = 256
"""Five seconds of 20 ms frames: more is not a queue but a delay."""


class BackoffDefeatsWindow(UserWarning):
    """The delays are so long that the restart window can never fill: a crash loop would go on for ever."""


@attrs.frozen
class MailboxPolicy:
    """What a mailbox holds and what happens to it while its actor is down."""

    on_restart: Literal["keep", "drop"] = "keep"
    """``keep``: the next incarnation handles what waits. ``drop``: it starts with an empty mailbox."""
    capacity: int = DEFAULT_MAILBOX_CAPACITY
    """Messages of the control lane; further ones are refused."""
    media_capacity: int = DEFAULT_MAILBOX_CAPACITY
    """Messages of the media lane."""
    media_full: Literal["shed_oldest", "refuse"] = "shed_oldest"
    """Old media is worth less than new media: by default the oldest makes room."""

    def __attrs_post_init__(self) -> None:
        _one_of("mailbox.on_restart", self.on_restart, ("keep", "drop"))
        _one_of("mailbox.media_full", self.media_full, ("shed_oldest", "refuse"))
        for field in ("capacity", "media_capacity"):
            value = getattr(self, field)
            if isinstance(value, bool) or not isinstance(value, int) or value < 1:
                raise SpecError(f"mailbox.{field}", f"must be an integer >= 1, not {value!r}")

    @classmethod
    def keep(cls, capacity: int = DEFAULT_MAILBOX_CAPACITY) -> MailboxPolicy:
        return cls("keep", capacity, capacity)

    @classmethod
    def drop(cls, capacity: int = DEFAULT_MAILBOX_CAPACITY) -> MailboxPolicy:
        return cls("drop", capacity, capacity)


def _one_of(field: str, value: object, allowed: tuple[str, ...]) -> None:
    if value not in allowed:
        raise SpecError(field, f"must be one of {', '.join(allowed)}, not {value!r}")


_USUAL = MailboxPolicy()
"""One for all who say nothing."""


def seconds(field: str, value: Any, *, zero: bool, infinite: bool) -> None:
    """Raise :class:`SpecError` unless ``value`` is a span of time."""
    if isinstance(value, bool) or not isinstance(value, int | float) or math.isnan(value):
        raise SpecError(field, f"must be a number of seconds, not {value!r}")
    if value < 0 or (value == 0 and not zero) or (math.isinf(value) and not infinite):
        rule = f"must be {'>=' if zero else '>'} 0{'' if infinite else ' and finite'}"
        raise SpecError(field, f"{rule}, not {value!r}")


def _default_shutdown(spec: ChildSpec) -> float:
    return math.inf if spec.kind == "supervisor" else DEFAULT_SHUTDOWN_SECONDS


@attrs.frozen(eq=False)
class ChildSpec:
    """How one child starts, restarts and stops. Checked at construction; errors name the field."""

    id: Hashable
    start: Start
    restart: Restart = "permanent"
    kind: Kind = attrs.field(default="worker", kw_only=True)
    shutdown: float = attrs.field(default=attrs.Factory(_default_shutdown, takes_self=True), kw_only=True)
    """Seconds between the order to end and being declared unresponsive. 0: no grace; inf: as long as it takes."""
    significant: bool = attrs.field(default=False, kw_only=True)
    backoff: Backoff = attrs.field(factory=Backoff.none, kw_only=True)
    start_timeout: float = attrs.field(default=math.inf, kw_only=True)
    """Seconds until the ack; a late child is cancelled and counts as a failed start."""
    mailbox: MailboxPolicy = attrs.field(default=_USUAL, kw_only=True)
    on_unresponsive: Literal["escalate", "abandon"] = attrs.field(default="escalate", kw_only=True)
    """``escalate``: the group cannot be rebuilt while the old task may still act. ``abandon``: for workers that
    hold nothing exclusive: the supervisor goes on without this id."""
    give_up_on: tuple[type[BaseException], ...] = attrs.field(default=(), kw_only=True, converter=tuple)
    """Exception types that count as :class:`GiveUp`; matched against the leaves of groups."""

    def __attrs_post_init__(self) -> None:
        where = f"child {self.id!r}: "
        try:
            hash(self.id)
        except TypeError:
            raise SpecError(f"{where}id", "must be hashable") from None
        if self.id is None:
            raise SpecError("id", "must not be None")
        if not callable(self.start):
            raise SpecError(f"{where}start", f"must be an async function, not {self.start!r}")
        _one_of(f"{where}restart", self.restart, get_args(Restart))
        _one_of(f"{where}kind", self.kind, get_args(Kind))
        _one_of(f"{where}on_unresponsive", self.on_unresponsive, ("escalate", "abandon"))
        seconds(f"{where}shutdown", self.shutdown, zero=True, infinite=True)
        seconds(f"{where}start_timeout", self.start_timeout, zero=False, infinite=True)
        if not isinstance(self.significant, bool):
            raise SpecError(f"{where}significant", f"must be True or False, not {self.significant!r}")
        if self.significant and self.restart == "permanent":
            raise SpecError(f"{where}significant", "a permanent child cannot be significant: it never ends")
        if not callable(getattr(self.backoff, "delay", None)):
            raise SpecError(f"{where}backoff", f"must be a Backoff, not {self.backoff!r}")
        if not isinstance(self.mailbox, MailboxPolicy):
            raise SpecError(f"{where}mailbox", f"must be a MailboxPolicy, not {self.mailbox!r}")
        for kind in self.give_up_on:
            if not (isinstance(kind, type) and issubclass(kind, BaseException)):
                raise SpecError(f"{where}give_up_on", f"must hold exception types, not {kind!r}")


def check_settings(
    *, strategy: str, max_restarts: object, period: object, auto_shutdown: str, dynamic: bool = False
) -> None:
    """Raise :class:`SpecError` unless these are settings of a supervisor."""
    if not dynamic:
        _one_of("strategy", strategy, get_args(Strategy))
    if isinstance(max_restarts, bool) or not isinstance(max_restarts, int) or max_restarts < 0:
        raise SpecError("max_restarts", f"must be an integer >= 0, not {max_restarts!r}")
    seconds("period", period, zero=False, infinite=False)
    _one_of("auto_shutdown", auto_shutdown, get_args(AutoShutdown))
    if dynamic and auto_shutdown != "never":
        raise SpecError("auto_shutdown", "a dynamic supervisor cannot shut down by itself: only 'never'")


def check_child(spec: object, *, auto_shutdown: str, dynamic: bool = False) -> ChildSpec:
    """Raise :class:`SpecError` unless ``spec`` fits a supervisor with these settings."""
    if not isinstance(spec, ChildSpec):
        raise SpecError("spec", f"must be a ChildSpec, not {spec!r}")
    if spec.significant and dynamic:
        raise SpecError(f"child {spec.id!r}: significant", "not under a dynamic supervisor")
    if spec.significant and auto_shutdown == "never":
        raise SpecError(f"child {spec.id!r}: significant", "needs auto_shutdown other than 'never'")
    return spec


def check_specs(specs: Iterable[object], *, auto_shutdown: str) -> tuple[ChildSpec, ...]:
    """The specs as a tuple; :class:`SpecError` if one is wrong or two share an id."""
    checked: dict[Hashable, ChildSpec] = {}
    for item in specs:
        spec = check_child(item, auto_shutdown=auto_shutdown)
        if spec.id in checked:
            raise SpecError(f"child {spec.id!r}: id", "given twice")
        checked[spec.id] = spec
    return tuple(checked.values())


def warn_of_backoff(spec: ChildSpec, max_restarts: int, period: float) -> None:
    """Warn when only the delays decide how often a child crashes, and nothing ever ends the loop."""
    backoff = spec.backoff
    if not isinstance(backoff, Backoff) or backoff.max_consecutive is not None or spec.restart == "temporary":
        return
    if backoff.min * max_restarts > period:
        warnings.warn(
            f"child {spec.id!r}: delays of {backoff.min} s or more let at most {period / backoff.min:.1f} restarts "
            f"happen within period={period} s, so max_restarts={max_restarts} is never exceeded; "
            "set backoff.max_consecutive",
            BackoffDefeatsWindow,
            stacklevel=4,
        )
