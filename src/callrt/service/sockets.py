"""Listening sockets: opened before anything else, so that a taken port is one sentence and not half a service."""

from __future__ import annotations

import errno
import os
import socket
from collections.abc import MutableMapping, Sequence
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


def _copies(shared: Sequence[socket.socket]) -> list[trio.SocketListener]:
    return [trio.SocketListener(trio.socket.from_stdlib_socket(each.dup())) for each in shared]


def address_of(listener: trio.SocketListener) -> tuple[str, int]:
    host, port = listener.socket.getsockname()[:2]
    return str(host), int(port)


def shown(host: str, number: int) -> str:
    """An address as a person would type it."""
    return f"http://[{host}]:{number}" if ":" in host else f"http://{host}:{number}"


NAMES = ("public", "admin")
FIRST_INHERITED = 3


def inherited_sockets(environ: MutableMapping[str, str], pid: int) -> dict[str, list[socket.socket]]:
    """Listening sockets that the process manager opened for us, by port, as systemd passes them: descriptors from
    3 on, ``LISTEN_PID`` and ``LISTEN_FDS``, with the names ``public`` and ``admin`` in ``LISTEN_FDNAMES`` or in
    that order. The variables are removed, so that no child of ours believes in them. Raises
    :class:`CallrtError` in one sentence."""
    for_whom = environ.pop("LISTEN_PID", "")
    count = environ.pop("LISTEN_FDS", "")
    names = environ.pop("LISTEN_FDNAMES", "").split(":")
    if for_whom != str(pid) or not count.isdecimal():
        return {}
    found: dict[str, list[socket.socket]] = {}
    for index in range(int(count)):
        given = names[index] if index < len(names) else ""
        name = given if given in NAMES else NAMES[min(index, 1)]
        try:
            listening = socket.socket(fileno=FIRST_INHERITED + index)
            listening.setblocking(False)
            if not listening.getsockopt(socket.SOL_SOCKET, socket.SO_ACCEPTCONN):
                raise CallrtError(
                    f"descriptor {FIRST_INHERITED + index} from the process manager does not listen"
                )
        except OSError as error:
            raise CallrtError(
                f"descriptor {FIRST_INHERITED + index} from the process manager is not usable: {error.strerror}"
            ) from None
        os.set_inheritable(listening.fileno(), False)
        found.setdefault(name, []).append(listening)
    return found


class Door:
    """A port as a supervised child: started again, it opens the same address again. Sockets that are shared with
    other processes stay open meanwhile, and nobody who knocks is turned away."""

    def __init__(
        self,
        port: Port,
        listeners: list[trio.SocketListener],
        *,
        shared: Sequence[socket.socket] = (),
    ) -> None:
        self._port = port
        self._shared = list(shared)
        self._listeners: list[trio.SocketListener] | None = listeners
        self._addresses = [address_of(listener) for listener in listeners]

    @classmethod
    def of_shared(cls, port: Port, shared: Sequence[socket.socket]) -> Door:
        return cls(port, _copies(shared), shared=shared)

    @property
    def is_shared(self) -> bool:
        return bool(self._shared)

    def stop_accepting(self) -> None:
        """Leave what knocks from now on to those who share the sockets. Connections go on. No checkpoint."""
        for shared in self._shared:
            shared.close()
        self._shared = []
        self._port.stop_accepting()

    async def run(self, ctx: Any = None, *, task_status: trio.TaskStatus[object]) -> None:
        """Start function. If cancelled: listeners and connections are closed."""
        listeners, self._listeners = self._listeners, None
        if listeners is None and self._shared:
            listeners = _copies(self._shared)
        elif listeners is None:
            listeners = []
            for host, number in self._addresses:
                listeners += await open_listeners(host, number)
        await self._port.run(listeners, task_status=task_status)

    async def aclose(self) -> None:
        """Close what was opened and never served."""
        listeners, self._listeners = self._listeners, None
        for listener in listeners or ():
            await listener.aclose()
        for shared in self._shared:
            shared.close()

    @property
    def number(self) -> int:
        """The first address's port."""
        return self._addresses[0][1]

    @property
    def shown(self) -> str:
        """The first address, as a person would type it."""
        return shown(*self._addresses[0])
