"""Ports for servers that are started in a moment, by another process."""

from __future__ import annotations

import random
import socket

from callrt.errors import CallrtError

LOWEST, HIGHEST = 15_000, 32_000
"""Below those that systems give to outgoing connections (32768 and up on Linux): one of them would be gone again
before the server has it."""

ATTEMPTS = 1_000


def free_ports(count: int) -> list[int]:
    """Loopback ports that nobody has at this moment, all different. Raises CallrtError."""
    chance = random.SystemRandom()
    held: list[socket.socket] = []
    try:
        for _ in range(ATTEMPTS):
            if len(held) == count:
                return [each.getsockname()[1] for each in held]
            candidate = socket.socket()
            try:
                candidate.bind(("127.0.0.1", chance.randrange(LOWEST, HIGHEST)))
            except OSError:
                candidate.close()
            else:
                held.append(candidate)
        raise CallrtError(
            f"There is no free port on 127.0.0.1 between {LOWEST} and {HIGHEST}: end what holds them."
        )
    finally:
        for each in held:
            each.close()
