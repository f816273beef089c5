"""The bounds of one socket, as a value."""

from __future__ import annotations

import os

import attrs

DIRECT = os.environ.get("CALLRT_TRANSPORT", "direct") != "reference"
"""Whether sockets are taken over after the handshake; CALLRT_TRANSPORT=reference leaves them to the library."""


@attrs.frozen
class SocketLimits:
    """Every queue and every wait of a socket ends somewhere."""

    message_bytes: int = 262_144
    """A longer incoming message ends the socket with close code 1009. 256 kB is a thousand times a frame."""
    inbox_messages: int = 32
    """Read ahead of the reader; beyond it the peer is slowed down by TCP."""
    backlog_bytes: int = 1_000_000
    """Accepted and not yet written; beyond it ``send_nowait`` refuses. Two minutes of mu-law."""
    open_timeout: float = 10.0
    """Seconds from the first byte to a finished upgrade."""
    send_timeout: float = 10.0
    """Seconds that one message may take to be written; then the socket is given up."""
    close_timeout: float = 2.0
    """Seconds for flushing and the closing handshake together."""
    direct: bool = DIRECT
    """Take the socket over after the handshake, where there is one."""


SERVER_LIMITS = SocketLimits()
"""For carriers: their messages are a few hundred bytes."""

CLIENT_LIMITS = SocketLimits(message_bytes=8 * 1024 * 1024)
"""For models: a reply's audio may come in one piece; the field's client libraries settle at 8 MiB too."""
