"""One worker process as its parent has it: started, ordered, waited for, and never left behind."""

from __future__ import annotations

import socket
import subprocess
import sys
from collections.abc import Iterable, Mapping, Sequence

import attrs
import trio

from callrt.service.workers.channel import Channel
from callrt.service.workers.messages import Order, encode_order

COMMAND = (sys.executable, "-P", "-m", "callrt.service.workers.worker")
"""``-P``: no module is taken from the folder that somebody happened to be in."""

_OURS_ALONE = ("NOTIFY_SOCKET", "WATCHDOG_USEC", "WATCHDOG_PID", "LISTEN_PID", "LISTEN_FDS", "LISTEN_FDNAMES")
"""What a process manager says to the parent."""

REAP_SECONDS = 5.0


class WorkerDied(Exception):
    """It ended by itself, and not in order."""


@attrs.define(eq=False)
class WorkerProcess:
    process: trio.Process
    channel: Channel

    @classmethod
    async def spawn(
        cls, listening: Iterable[int], environ: Mapping[str, str], command: Sequence[str] = COMMAND
    ) -> WorkerProcess:
        """Start a process with a line to us and these sockets. Raises ``OSError``. If cancelled: none was started,
        or it finds its line closed and ends."""
        ours, theirs = socket.socketpair()
        channel = Channel(ours)
        try:
            numbers = [str(number) for number in listening]
            process = await trio.lowlevel.open_process(
                [*command, "--line", str(theirs.fileno()), "--listen", *numbers],
                stdin=subprocess.PIPE,
                pass_fds=(theirs.fileno(), *map(int, numbers)),
                # Signals of a terminal reach the parent, and the parent decides.
                process_group=0,
                env={key: value for key, value in environ.items() if key not in _OURS_ALONE},
            )
        except BaseException:
            channel.close()
            raise
        finally:
            theirs.close()
        return cls(process, channel)

    async def give(self, order: Order) -> None:
        """Tell it what to be."""
        assert self.process.stdin is not None
        try:
            async with self.process.stdin:
                await self.process.stdin.send_all(encode_order(order))
        except trio.BrokenResourceError:
            pass  # it is dead already: whoever waits for it says so

    async def kill(self) -> None:
        """It is gone on return, unless the kernel holds it. Shielded, and short."""
        self.channel.close()
        if self.process.poll() is None:
            self.process.kill()
            with trio.CancelScope(shield=True, deadline=trio.current_time() + REAP_SECONDS):
                await self.process.wait()
