"""What a worker and its parent say to each other: MessagePack, one tagged value per frame."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Final, Literal

import msgspec

from callrt.policy.settings import Settings

Sample = tuple[str, tuple[tuple[str, str], ...], float]
"""Name, labels in order, value."""


class Family(msgspec.Struct, frozen=True, array_like=True):
    """One metric with all that was counted under it."""

    name: str
    kind: str
    text: str
    samples: tuple[Sample, ...]


class _Message(msgspec.Struct, array_like=True, tag=lambda name: name.lower()):
    """A value: nobody changes one."""


# -- the worker speaks --------------------------------------------------------------------------------------


class Ready(_Message):
    """It takes calls."""


class Beat(_Message):
    """Its event loop turns. ``families``: what it has counted, now and then; else nothing."""

    families: tuple[Family, ...] = ()


class Carries(_Message):
    """It has taken up this call."""

    call_sid: str


class Dropped(_Message):
    """It has this call no longer, or never had it. ``ended``: it has ended there, and may still be asked about."""

    call_sid: str
    ended: bool


class Whose(_Message):
    """Who answers for this call? Answered with :class:`Yours` or :class:`Theirs`."""

    id: int
    call_sid: str


class Knock(_Message):
    """A media socket for another worker's call: its descriptor comes along. ``head``: what was read from it."""

    call_sid: str
    head: bytes


class Leaving(_Message):
    """Somebody told this one worker to end. It waits for :class:`Drain`."""


class SteppedBack(_Message):
    """Others know that it takes no more calls."""


class Declining(_Message):
    """It drains, and has begun to decline new calls."""


class Told(_Message):
    """The answer to :class:`Tell`."""

    id: int
    families: tuple[Family, ...] = ()
    calls: tuple[Mapping[str, Any], ...] = ()
    not_ready: str | None = None


# -- either speaks ------------------------------------------------------------------------------------------


class Question(_Message):
    """A signed webhook, for the worker that has the call. Answered with :class:`Answer`; by the parent also with
    :class:`Yours`: whoever had the call is gone."""

    id: int
    call_sid: str
    path: str
    fields: tuple[tuple[str, str], ...]


class Answer(_Message):
    id: int
    status: int
    body: bytes
    content_type: str


# -- the parent speaks --------------------------------------------------------------------------------------


class Yours(_Message):
    id: int


class Theirs(_Message):
    id: int


class Tell(_Message):
    """Say what you know: ``what`` is metrics, calls or readiness."""

    id: int
    what: Literal["metrics", "calls", "readiness"]


class StepBack(_Message):
    """All workers are about to drain: say so to everybody else first."""


class Drain(_Message):
    """Decline new calls, let the live ones end, then end. ``make_way``: others accept on the same socket."""

    make_way: bool


FromWorker = (
    Ready
    | Beat
    | Carries
    | Dropped
    | Whose
    | Knock
    | Leaving
    | SteppedBack
    | Declining
    | Told
    | Question
    | Answer
)
FromParent = Yours | Theirs | Tell | StepBack | Drain | Question | Answer | Knock
Message = FromWorker | FromParent

_decoder: Final = msgspec.msgpack.Decoder(Message)
_encoder: Final = msgspec.msgpack.Encoder()


def encode(message: Message) -> bytes:
    return _encoder.encode(message)


def decode(data: bytes) -> Message:
    """Raises ``msgspec.MsgspecError``."""
    message: Message = _decoder.decode(data)
    return message


class Order(msgspec.Struct, frozen=True):
    """What a worker is told on its standard input, before anything else."""

    number: int
    settings: Settings
    log_json: bool
    log_level: int


def _plain(value: object) -> object:
    return str(value)


def encode_order(order: Order) -> bytes:
    return msgspec.json.encode(order, enc_hook=_plain)


def decode_order(data: bytes) -> Order:
    return msgspec.json.decode(data, type=Order, dec_hook=lambda kind, value: kind(value))
