"""The loop that serves all sockets and sends every frame when it is due, and what is counted meanwhile."""

from __future__ import annotations

import heapq
import itertools
import random
import select
import socket
import ssl
import time
from array import array
from collections import deque
from collections.abc import Callable
from typing import Protocol

import attrs

from generator.audio import FRAME

now = time.perf_counter

NAP = 0.0002
"""Seconds that the loop sleeps when it has nothing to do, whatever comes or falls due meanwhile.

Being woken for each frame would cost five times the frame, here and, in the ``send``, the program under test. The
kernel wakes up to 0.1 ms late. Latencies contain the nap: they are a little too long, never too short.
"""
AT_ONCE = 16
"""Frames sent, or sockets read, before the loop turns to the other: a fifth of a millisecond."""


@attrs.frozen
class Plan:
    """How the program under test is reached, and what is said to it."""

    host: str
    port: int
    webhook: str
    stream: str | None
    """Stream address, for programs without a webhook."""
    account: str
    key: str
    beacon: bool
    """The program resamples: see ``audio.py``."""


class Window:
    """What is counted between two instants."""

    def __init__(self) -> None:
        self.up = array("d")
        self.down = array("d")
        self.barge_in = array("d")
        self.late = array("d")
        """Of each frame of the callers: how long after its time it was sent."""
        self.startup = array("d")
        self.starved_ms = 0.0
        self.lost_up = 0
        self.lost_down_ms = 0.0
        self.replies = 0
        self.ended = 0
        self.killed = 0


class Phone(Protocol):
    """What the loop knows of a telephone."""

    number: int
    due: float
    live: bool

    def send_frame(self) -> None: ...


class World:
    def __init__(self, plan: Plan, model_port: int, certificate: str | None) -> None:
        self.plan = plan
        self.poll = select.epoll()
        self.handlers: dict[int, Callable[[], None]] = {}
        self.timers: list[tuple[float, int, Callable[[], None]]] = []
        self.serial = itertools.count()
        self.phases: deque[Phone] = deque()
        self.window = Window()
        self.failed_starts = 0
        self.out_of_room = 0
        self.tls: ssl.SSLContext | None = None
        if certificate:
            self.tls = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
            self.tls.load_cert_chain(certificate)
        self.answer: Callable[[socket.socket], object] = socket.socket.close
        """What becomes of a connection to the model's port."""
        self.listener = socket.create_server(("127.0.0.1", model_port), backlog=1024)
        self.listener.setblocking(False)
        self.watch(self.listener, self._accept)

    def watch(self, sock: socket.socket, handler: Callable[[], None]) -> None:
        self.handlers[sock.fileno()] = handler
        self.poll.register(sock.fileno(), select.EPOLLIN)

    def forget(self, sock: socket.socket) -> None:
        number = sock.fileno()
        if number >= 0 and self.handlers.pop(number, None) is not None:
            self.poll.unregister(number)
        sock.close()

    def at(self, when: float, what: Callable[[], None]) -> None:
        heapq.heappush(self.timers, (when, next(self.serial), what))

    def _accept(self) -> None:
        try:
            sock, _ = self.listener.accept()
        except BlockingIOError:
            return
        sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        sock.setblocking(False)
        if self.tls is not None:
            sock = self.tls.wrap_socket(sock, server_side=True, do_handshake_on_connect=False)
        self.answer(sock)

    def join(self, phone: Phone) -> None:
        """From now on the telephone's frames are sent, at a phase that has nothing to do with other telephones'."""
        phases = self.phases
        phase = random.Random(phone.number).random() * FRAME
        first = phases[0].due if phases else now()
        phone.due = first + (phase - first) % FRAME
        place = len(phases)
        while place and phases[place - 1].due > phone.due:
            place -= 1
        phases.insert(place, phone)

    def run(self, seconds: float) -> None:
        """Send what is due, run what is late, read what has come; for so long."""
        end = now() + seconds
        poll, handlers, timers, phases = self.poll.poll, self.handlers, self.timers, self.phases
        while True:
            t = now()
            if t >= end:
                return
            for _ in range(AT_ONCE):
                if not phases or phases[0].due > t:
                    break
                phone = phases.popleft()
                if phone.live:
                    phone.send_frame()
                    # All have the same period, so the queue stays in order of time.
                    phases.append(phone)
            while timers and timers[0][0] <= t:
                heapq.heappop(timers)[2]()
            ready = poll(0, AT_ONCE)
            for fd, _ in ready:
                handler = handlers.get(fd)
                if handler is not None:
                    handler()
            if not ready and (not phases or phases[0].due > now()):
                time.sleep(NAP)
