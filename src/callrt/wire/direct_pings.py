"""Pings in flight and whoever waits for their pongs."""

from __future__ import annotations

from collections.abc import Callable

import trio

PINGS_MAX = 4
"""Pings in flight; a further one waits for the youngest."""


class _Ping:
    __slots__ = ("answered", "over", "payload")

    def __init__(self, payload: bytes) -> None:
        self.payload = payload
        self.over = trio.Event()
        self.answered = False


class Pings:
    """Those of one socket."""

    def __init__(self) -> None:
        self._flying: tuple[_Ping, ...] = ()
        self._sent = 0

    async def ping(self, send: Callable[[bytes], None]) -> bool:
        """Write a ping with ``send`` and wait for its answer; False: there will be none. If cancelled: it may have
        been sent."""
        if len(self._flying) < PINGS_MAX:
            self._sent += 1
            ping = _Ping(self._sent.to_bytes(4, "big"))
            self._flying += (ping,)
            send(ping.payload)
        else:
            ping = self._flying[-1]
        await ping.over.wait()
        if not ping.answered:
            await trio.lowlevel.checkpoint()  # the reader is to learn of the end first
        return ping.answered

    def ponged(self, payload: bytes) -> None:
        """A pong answers its ping and all before it."""
        if not any(ping.payload == payload for ping in self._flying):
            return
        while True:
            ping, self._flying = self._flying[0], self._flying[1:]
            ping.answered = True
            ping.over.set()
            if ping.payload == payload:
                return

    def end(self) -> None:
        """The socket is gone."""
        for ping in self._flying:
            ping.over.set()
