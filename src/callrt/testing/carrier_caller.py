"""The person on the telephone: a script of what to say and when, written against the caller's end of the
line.

A script is an async function of one :class:`Line`. When it returns, the caller stays on the line in silence
until somebody hangs up. When the call ends first, the helper that was waiting raises :class:`CallOver`,
which ends the script quietly.
"""

from __future__ import annotations

import math
from collections import deque
from collections.abc import Awaitable, Callable

import trio

from callrt.testing.carrier_stream import SILENT_FRAME, TICK_SECONDS
from callrt.testing.carrier_tape import frames_of, is_audible


class CallOver(Exception):
    """The call has ended: there is nobody left to talk to."""


class Line:
    """What a script can do and hear. Times are seconds on the Trio clock, audio is mu-law at 8 kHz."""

    def __init__(self, press: Callable[[str], None], hang_up: Callable[[], None]) -> None:
        self._press = press
        self._hang_up = hang_up
        self._words: deque[bytes] = deque()
        self._waiting: dict[trio.Event, Callable[[], bool]] = {}
        self._over = False
        self.heard_bytes = 0
        """Audio of the app that has been heard to its end."""
        self.agent_began_at: float | None = None
        """Start of the current or last stretch of audible sound at the ear (pauses under 0.2 s do not end
        one)."""
        self.agent_ended_at = -math.inf
        """End of the last audible frame."""
        self.spoke_until = -math.inf
        """When the caller's own last words ended."""

    @property
    def heard_ms(self) -> int:
        """Audio of the app heard so far in this call, silences not counted."""
        return self.heard_bytes // 8

    async def say(self, audio: bytes) -> None:
        """Speak; returns when the last frame has been spoken. If cancelled: the rest is not said."""
        self.say_nowait(audio)
        try:
            await self._wait(lambda: not self._words)
        except trio.Cancelled:
            self._words.clear()
            raise

    def say_nowait(self, audio: bytes) -> None:
        """Begin to speak, behind what is being said."""
        if self._over:
            raise CallOver
        self._words.extend(frames_of(audio))

    def press(self, digits: str) -> None:
        """Press keys: 0 to 9, ``*``, ``#``."""
        if self._over:
            raise CallOver
        for digit in digits:
            if digit not in "0123456789*#":
                raise ValueError("a telephone has the keys 0 to 9, * and #")
            self._press(digit)

    def hang_up(self) -> None:
        """Put the receiver down."""
        self._hang_up()

    async def wait(self, seconds: float) -> None:
        until = trio.current_time() + seconds
        await self._wait(lambda: trio.current_time() >= until - 1e-9)

    async def wait_for_agent(self) -> None:
        """Until something audible is heard that began after the caller's own last words."""
        await self._wait(lambda: self.agent_ended_at > self.spoke_until)

    async def wait_for_agent_silence(self, seconds: float = 0.8) -> None:
        """Until the agent has spoken since the caller's own last words and has then been silent for
        ``seconds``."""
        await self._wait(
            lambda: (
                self.agent_ended_at > self.spoke_until
                and trio.current_time() - self.agent_ended_at >= seconds - 1e-9
            )
        )

    async def wait_heard_ms(self, ms: int) -> None:
        """Until so much of the app's audio has been heard in this call."""
        await self._wait(lambda: self.heard_ms >= ms)

    async def interrupt(self, audio: bytes, *, after_ms: int = 1000) -> None:
        """Let the agent speak for so long since the caller's own last words, then talk over it."""
        await self.wait_for_agent()
        await self.wait_heard_ms(self.heard_ms + after_ms)
        await self.say(audio)

    async def wait_over(self) -> None:
        """Until the call has ended. Does not raise :class:`CallOver`."""
        await self._until(lambda: False)

    async def _wait(self, condition: Callable[[], bool]) -> None:
        await trio.lowlevel.checkpoint()
        await self._until(condition)
        if self._over:
            raise CallOver

    async def _until(self, condition: Callable[[], bool]) -> None:
        """Until it holds or the call is over. Looked at in each tick: fifty times a second nobody is woken for
        nothing."""
        if self._over or condition():
            return
        happened = trio.Event()
        self._waiting[happened] = condition
        try:
            await happened.wait()
        finally:
            del self._waiting[happened]

    # -- the carrier's side of the line ---------------------------------------------------------------

    def take_frame(self, at: float) -> bytes:
        """The next 20 ms that the caller says."""
        if not self._words:
            return SILENT_FRAME
        self.spoke_until = at + TICK_SECONDS
        return self._words.popleft()

    def put_frame(self, frame: bytes, at: float) -> None:
        """The next 20 ms at the caller's ear."""
        if is_audible(frame):
            if at - self.agent_ended_at >= 0.2 or self.agent_began_at is None:
                self.agent_began_at = at
            self.agent_ended_at = at + TICK_SECONDS

    def tick(self) -> None:
        for happened, condition in self._waiting.items():
            if condition():
                happened.set()

    def end(self) -> None:
        self._over = True
        for happened in self._waiting:
            happened.set()


Script = Callable[[Line], Awaitable[None]]


async def say_nothing(line: Line) -> None:
    """The caller listens until the call is over."""
    await line.wait_over()
