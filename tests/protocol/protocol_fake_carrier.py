"""A small carrier in virtual milliseconds: drains a frame each 20 ms, echoes marks, knows what was heard."""

from __future__ import annotations

import math
import struct
from collections import deque
from collections.abc import Callable, Sequence

from callrt.protocol.carriers.events import CarrierCommand, ClearAudio, SendAudio, SendMark
from callrt.protocol.playback import MarkOutcome, Mouth, MouthLimits

FRAME = 160
NEVER = 1 << 60


def speech(item: int, frames: int) -> bytes:
    """Audio in which each frame says which item and which frame it is."""
    return b"".join(struct.pack(">II", item, n) + b"\x55" * (FRAME - 8) for n in range(frames))


def read_frame(frame: bytes) -> tuple[int, int]:
    item, number = struct.unpack(">II", frame[:8])
    return item, number


class FakeCarrier:
    """One stream. ``down`` and ``up`` give the latency of each message in ms; each direction in order."""

    def __init__(
        self,
        now: int = 0,
        *,
        down: Callable[[], int] = lambda: 0,
        up: Callable[[], int] = lambda: 0,
        phase: int = 0,
        echoes: bool = True,
        clear_echoes: bool = True,
    ) -> None:
        self.down, self.up, self.echoes, self.clear_echoes = down, up, echoes, clear_echoes
        self.tick_at = now + phase
        self.wire_down: deque[tuple[int, CarrierCommand]] = deque()
        self.wire_up: deque[tuple[int, str]] = deque()
        self.buffer: deque[bytes | str] = deque()
        self.heard: list[tuple[int, bytes]] = []
        self.dry_at: list[int] = []
        self.most_buffered_ms = 0
        self.playing = False
        self.dead_at: int | None = None
        self.clears = 0

    @property
    def buffered_ms(self) -> int:
        return sum(20 for entry in self.buffer if isinstance(entry, bytes))

    def write(self, commands: Sequence[CarrierCommand], now: int) -> None:
        for command in commands:
            earliest = self.wire_down[-1][0] if self.wire_down else 0
            self.wire_down.append((max(now + self.down(), earliest), command))

    def next_event(self) -> int:
        if self.dead_at is not None:
            return NEVER
        arrivals = [wire[0][0] for wire in (self.wire_down, self.wire_up) if wire]
        return min([self.tick_at, *arrivals])

    def advance(self, now: int) -> list[str]:
        """Let time come to ``now``; the echoes that reach us by then."""
        while self.dead_at is None and (at := min(self.tick_at, self._arrival())) <= now:
            while self.wire_down and self.wire_down[0][0] <= at:
                self._take(self.wire_down.popleft()[1], at)
            if at == self.tick_at:
                self._tick(at)
        arrived = []
        while self.wire_up and self.wire_up[0][0] <= now:
            arrived.append(self.wire_up.popleft()[1])
        return arrived

    def die(self, now: int) -> None:
        """The stream is gone: nothing more is played, nothing under way arrives."""
        self.advance(now)
        self.dead_at = now
        self.wire_down.clear()
        self.wire_up.clear()
        self.buffer.clear()

    def heard_ms(self, item: int, now: int) -> int:
        """The truth, up to the millisecond within the frame that plays."""
        until = now if self.dead_at is None else min(now, self.dead_at)
        return sum(
            min(20, until - at) for at, frame in self.heard if read_frame(frame)[0] == item and at < until
        )

    def frames(self) -> list[tuple[int, int]]:
        """Those of which anything was heard."""
        until = NEVER if self.dead_at is None else self.dead_at
        return [read_frame(frame) for at, frame in self.heard if at < until]

    def _arrival(self) -> int:
        return self.wire_down[0][0] if self.wire_down else NEVER

    def _take(self, command: CarrierCommand, now: int) -> None:
        if isinstance(command, SendAudio):
            assert len(command.payload) % FRAME == 0, "whole frames only"
            for n in range(0, len(command.payload), FRAME):
                self.buffer.append(command.payload[n : n + FRAME])
            self.most_buffered_ms = max(self.most_buffered_ms, self.buffered_ms)
        elif isinstance(command, SendMark):
            if self.buffer or self.playing:
                self.buffer.append(command.name)
            else:
                self._echo(command.name, now)
        else:
            assert isinstance(command, ClearAudio)
            self.clears += 1
            pending = [entry for entry in self.buffer if isinstance(entry, str)]
            self.buffer.clear()
            if self.clear_echoes:
                for name in pending:
                    self._echo(name, now)

    def _tick(self, now: int) -> None:
        self.tick_at = now + 20
        while self.buffer and isinstance(self.buffer[0], str):
            self._echo(str(self.buffer.popleft()), now)
        self.playing = bool(self.buffer)
        if self.buffer:
            frame = self.buffer.popleft()
            assert isinstance(frame, bytes)
            self.heard.append((now, frame))
        else:
            self.dry_at.append(now)

    def _echo(self, name: str, now: int) -> None:
        if self.echoes:
            earliest = self.wire_up[-1][0] if self.wire_up else 0
            self.wire_up.append((max(now + self.up(), earliest), name))


class Room:
    """A mouth, its carrier, and time."""

    def __init__(self, limits: MouthLimits | None = None, *, start: int = 0) -> None:
        self.mouth = Mouth(limits)
        self.now = start
        self.carrier = FakeCarrier(start)
        self.streams: list[FakeCarrier] = []
        self.outcomes: list[MarkOutcome] = []
        self.pumps = 0

    @property
    def clock(self) -> float:
        return self.now / 1000

    def attach(self, carrier: FakeCarrier) -> None:
        self.carrier = carrier
        self.streams.append(carrier)
        self.mouth.attach(len(self.streams), self.clock)
        self.pump()

    def pump(self) -> None:
        self.pumps += 1
        commands = self.mouth.pump(self.clock)
        self.carrier.write(commands, self.now)
        for name in self.carrier.advance(self.now):
            self.outcomes.append(self.mouth.on_mark(name, self.clock))
        if commands:
            assert self.mouth.next_wakeup(self.clock) > self.clock, "busy loop"

    def run(self, ms: int) -> None:
        """Let ``ms`` pass: pump at each wakeup and after each mark."""
        end = self.now + ms
        while self.now < end:
            wakeup = self.mouth.next_wakeup(self.clock)
            wake = NEVER if wakeup == math.inf else max(self.now + 1, math.ceil(wakeup * 1000 - 1e-6))
            self.now = min(end, wake, max(self.now + 1, self.carrier.next_event()))
            for name in self.carrier.advance(self.now):
                self.outcomes.append(self.mouth.on_mark(name, self.clock))
            self.pump()

    def say(self, item: int, frames: int, *, end: bool = True) -> None:
        self.mouth.push(f"item_{item}", 0, speech(item, frames))
        if end:
            self.mouth.end_item(f"item_{item}")
        self.pump()

    def drop(self, notice_ms: int = 0) -> None:
        """The stream is reset now; we learn of it ``notice_ms`` later."""
        self.carrier.die(self.now)
        self.now += notice_ms
        self.mouth.detach(self.clock)

    def progress(self, item: int) -> int:
        return next((p.heard_ms for p in self.mouth.items(self.clock) if p.item_id == f"item_{item}"), 0)

    def frames(self) -> list[tuple[int, int]]:
        return [frame for stream in self.streams for frame in stream.frames()]


def twice_and_lost(frames: Sequence[tuple[int, int]], length: int) -> tuple[int, int]:
    """Of one item of ``length`` frames: how many were heard again, how many never."""
    return len(frames) - len(set(frames)), length - len(set(frames))
