"""A party's process, seen from the stage."""

from __future__ import annotations

import subprocess
import sys
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any

import trio

from callrt.errors import CallrtError
from callrt.testing.chaos import messages as msg


class PartyProcess:
    """One party: what it is told, and what it answers."""

    def __init__(self, numbers: tuple[int, ...], process: trio.Process) -> None:
        self.numbers = numbers
        self._process = process
        assert process.stdin is not None
        assert process.stdout is not None
        self._stdin = process.stdin
        self._inbox = msg.Inbox(process.stdout)
        self._outbox, self._unsent = trio.open_memory_channel[object](1000)

    async def write(self) -> None:
        """Send what was told, until cancelled."""
        async for message in self._unsent:
            try:
                await self._stdin.send_all(msg.packed(message))
            except trio.BrokenResourceError:
                return  # it has died: whoever waits for its answer finds out

    def tell(self, message: object) -> None:
        self._outbox.send_nowait(message)

    async def answer(self) -> Any:
        """Its next message. Raises CallrtError when it is gone."""
        try:
            return await self._inbox.next()
        except EOFError:
            raise CallrtError("a party of the chaos run has died; its last words are above") from None


@asynccontextmanager
async def open_party(numbers: tuple[int, ...], nursery: trio.Nursery) -> AsyncIterator[PartyProcess]:
    """If cancelled: it is killed."""
    command = [sys.executable, "-m", "callrt.testing.chaos.party"]
    process = await trio.lowlevel.open_process(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE)
    try:
        party = PartyProcess(numbers, process)
        nursery.start_soon(party.write)
        yield party
    finally:
        with trio.CancelScope(shield=True):
            process.kill()
            await process.wait()
