"""The seam to other workers on the same port, as webhooks and media sockets see it."""

from __future__ import annotations

from typing import Protocol

import trio

from callrt.service.forms import Form
from callrt.service.http import HttpResponse


class Elsewhere(Protocol):
    async def ask(self, call_sid: str, path: str, form: Form) -> HttpResponse | None:
        """The answer of the worker that has the call; None if this one is to answer. If cancelled: the other may
        have acted on it."""
        ...

    async def pass_on(self, call_sid: str, stream: trio.abc.Stream, head: bytes) -> bool:
        """Give a media socket to the worker that has the call; False if that is this one. If True, the other side
        of the socket notices nothing, and closing ``stream`` ends nothing."""
        ...

    def settled(self, call_sid: str) -> None:
        """This worker has done what was asked about a call: if that left no live call here, others may know.
        No checkpoint."""
        ...
