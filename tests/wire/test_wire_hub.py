"""The hub: who is served when."""

from __future__ import annotations

import socket
from collections.abc import Callable

from callrt.wire.direct_hub import SOCKETS_BETWEEN, Hub


class Owner:
    """Notes that it was served, and takes what has come."""

    def __init__(self, name: str, served: list[str], then: Callable[[], None] = lambda: None) -> None:
        self.name = name
        self.served = served
        self.then = then
        self.ours, self.theirs = socket.socketpair()
        self.ours.setblocking(False)

    def on_ready(self, events: int) -> None:
        self.served.append(self.name)
        self.ours.recv(100)
        self.then()

    def on_again(self) -> None:
        raise AssertionError("nobody has asked for another turn")

    def close(self) -> None:
        self.ours.close()
        self.theirs.close()


def test_an_urgent_socket_that_becomes_ready_in_a_turn_does_not_wait_for_its_end():
    hub, served = Hub(), []
    urgent = Owner("urgent", served)
    others = [Owner(f"{n}", served) for n in range(SOCKETS_BETWEEN + 20)]
    others[0].then = lambda: urgent.theirs.send(b"x") and None
    hub.add(urgent.ours.fileno(), urgent, urgent=True)
    for other in others:
        hub.add(other.ours.fileno(), other)
        other.theirs.send(b"x")
    assert hub._turn() >= len(others) + 1
    assert sorted(served) == sorted(["urgent", *(other.name for other in others)])
    assert served.index("urgent") == SOCKETS_BETWEEN
    for owner in (urgent, *others):
        owner.close()


def test_an_urgent_socket_that_is_ready_comes_first_and_a_removed_one_not_at_all():
    hub, served = Hub(), []
    urgent, gone, other = (Owner(name, served) for name in ("urgent", "gone", "other"))
    for owner in (other, gone, urgent):
        hub.add(owner.ours.fileno(), owner, urgent=owner is not other)
        owner.theirs.send(b"x")
    hub.remove(gone.ours.fileno(), gone)
    hub._turn()
    assert served == ["urgent", "other"]
    for owner in (urgent, gone, other):
        owner.close()
