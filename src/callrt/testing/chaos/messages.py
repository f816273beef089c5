"""What the stage and a party's process say to each other: pickled values on its standard input and output.

Both ends are ours and of the same version: a pickle is read only from a process that we have started, or by which we
were. Times are ``time.perf_counter``: one clock for all processes of a machine.
"""

from __future__ import annotations

import pickle
import struct
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, Literal

import attrs
import trio

from callrt.testing.chaos.scenario import Scenario
from callrt.testing.sim.case import SimFault
from callrt.testing.sim.checkers import Judgement
from callrt.testing.sim.history import Life

_LENGTH = struct.Struct("!I")


@attrs.frozen
class Order:
    """The first word to a party: which calls of which scenario are its own."""

    scenario: Scenario
    numbers: tuple[int, ...]


@attrs.frozen
class Ready:
    """Its answer: it can be reached at these ports of 127.0.0.1."""

    model_ports: tuple[int, ...]
    rest_port: int


@attrs.frozen
class Begin:
    """The service is there: place the calls."""

    base_url: str
    media_ports: Mapping[int, int]
    """Calls whose media sockets take another way to it: a relay's port."""
    pause: float = 0.0
    """Seconds between two calls."""


@attrs.frozen
class Strike:
    """Let a socket of this call die."""

    number: int
    which: Literal["carrier", "model"]


@attrs.frozen
class Blown:
    """The service's process was struck, or the network of one call."""

    at: float
    fault: SimFault
    number: int | None = None
    """None: all calls."""


@attrs.frozen
class Late:
    """How late the clocks of parties were, in seconds: the worst tick, and the 99th of a hundred."""

    worst: float
    p99: float
    disk: float = 0.0
    """The longest that a write to the disk has taken meanwhile."""


@attrs.frozen
class Over:
    """All calls of the party have ended, and its models' sockets are gone."""

    cut_off: bool
    """They had to be ended."""
    late: Late


@attrs.frozen
class Judge:
    """Everything has stopped; say what came of your calls."""

    folder: Path
    lives: tuple[Life, ...]
    """With times of ``perf_counter``."""
    jitter: float
    """Seconds by which the emulators' clocks were late at the worst."""


@attrs.frozen
class CallReport:
    number: int
    outcome: str
    struck: tuple[str, ...]
    recoveries: tuple[float, ...]
    """Seconds of silence that each fault cost the caller while words were owed."""
    words: int
    """Of the agent's, that the caller heard."""
    comforts: int
    """Bundled lines that the caller heard."""
    judgement: Judgement
    trace: str = ""
    """What happened, of a call of which a guarantee was violated, or that ended as it should not."""


@attrs.frozen
class Findings:
    calls: tuple[CallReport, ...]


def packed(message: object) -> bytes:
    body = pickle.dumps(message)
    return _LENGTH.pack(len(body)) + body


class Inbox:
    """Whole messages out of a stream of bytes."""

    def __init__(self, stream: trio.abc.ReceiveStream) -> None:
        self._stream = stream
        self._held = bytearray()

    async def next(self) -> Any:
        """Raises EOFError when the other end is gone. If cancelled: nothing is lost."""
        while True:
            if len(self._held) >= _LENGTH.size:
                (length,) = _LENGTH.unpack_from(self._held)
                end = _LENGTH.size + length
                if len(self._held) >= end:
                    body = bytes(self._held[_LENGTH.size : end])
                    del self._held[:end]
                    await trio.lowlevel.checkpoint()
                    return pickle.loads(body)
            data = await self._stream.receive_some(65536)
            if not data:
                raise EOFError
            self._held += data


def shares(calls: int, size: int) -> Sequence[tuple[int, ...]]:
    """The numbers 0 to calls - 1 in parties of at most ``size``, as even as can be."""
    parties = max(1, -(-calls // max(1, size)))
    return [tuple(range(calls))[n::parties] for n in range(parties)]
