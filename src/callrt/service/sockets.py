"""Listening sockets: opened before anything else, so that a taken port is one sentence and not half a service."""

from __future__ import annotations

import errno
from typing import Any

import trio

from callrt.errors import CallrtError
from callrt.service.listener import Port

START_BACKLOG = 1024
"""Connections that the kernel holds for us in a burst."""


async def open_listeners(host: str, port: int) -> list[trio.SocketListener]:
    """Listeners on one port. Raises :class:`CallrtError` in one sentence."""
    try:
        return await trio.open_tcp_listeners(port, host=host, backlog=START_BACKLOG)
    except OSError as error:
        raise CallrtError(f"cannot listen on {host}:{port}: {_why(error)}") from None


def _why(error: OSError) -> str:
    if error.errno == errno.EADDRINUSE:
        return "the port is taken by another process; stop it, or choose another port"
    if error.errno == errno.EACCES:
        return "the port needs more rights; choose one above 1023"
    if error.errno == errno.EADDRNOTAVAIL:
        return "this machine does not have that address; choose another host"
    return f"{error.strerror or 'the address is not usable'}; choose another host or port"


def address_of(listener: trio.SocketListener) -> tuple[str, int]:
    host, port = listener.socket.getsockname()[:2]
    return str(host), int(port)


class Door:
    """A port as a supervised child: started again, it opens the same address again."""

    def __init__(self, port: Port, listeners: list[trio.SocketListener]) -> None:
        self._port = port
        self._listeners: list[trio.SocketListener] | None = listeners
        self._addresses = [address_of(listener) for listener in listeners]

    async def run(self, ctx: Any = None, *, task_status: trio.TaskStatus[object]) -> None:
        """Start function. If cancelled: listeners and connections are closed."""
        listeners, self._listeners = self._listeners, None
        if listeners is None:
            listeners = []
            for host, number in self._addresses:
                listeners += await open_listeners(host, number)
        await self._port.run(listeners, task_status=task_status)

    async def aclose(self) -> None:
        """Close what was opened and never served."""
        listeners, self._listeners = self._listeners, None
        for listener in listeners or ():
            await listener.aclose()

    @property
    def shown(self) -> str:
        """The first address, as a person would type it."""
        host, number = self._addresses[0]
        return f"http://[{host}]:{number}" if ":" in host else f"http://{host}:{number}"
