"""The caller, the nemesis and the one who takes notes: everybody who listens to the call as it goes.

All of them act at the caller's ear: a strike at 1 800 ms of an answer comes when so much of that answer has
been heard, on whatever machine.
"""

from __future__ import annotations

from collections.abc import Callable

import attrs
import trio

from callrt.testing.carrier import Drop, PhoneCall
from callrt.testing.carrier_caller import Line
from callrt.testing.carrier_stream import TICK_SECONDS
from callrt.testing.demo.hearing import Hearing, Spoken
from callrt.testing.demo.plot import GREETING, Exchange, Plot, say_as_caller
from callrt.testing.demo.server import Server
from callrt.testing.model_items import Item
from callrt.testing.model_server import EmulatedModel

PATIENCE_SECONDS = 20.0
"""The caller goes on after that; the figures will tell what was missing."""
PAUSE_SECONDS = 0.4
"""Between the agent's last word and the caller's first."""

Tell = Callable[[str, str], None]
"""Of (kind, text): what just happened."""


@attrs.frozen
class Said:
    """The caller's words on the Trio clock."""

    start: float
    end: float
    text: str


@attrs.define(eq=False)
class Cast:
    plot: Plot
    model: EmulatedModel
    server: Server
    tell: Tell
    comfort: bytes = b""
    """The first audible frame of the comfort line."""
    call: PhoneCall | None = None
    hearing: Hearing = attrs.field(factory=Hearing)
    said: list[Said] = attrs.field(factory=list)
    kills: list[float] = attrs.field(factory=list)
    revivals: list[float] = attrs.field(factory=list)
    """When the next process listened."""
    before_words: Callable[[], None] = lambda: None
    """Called before the caller speaks or the process dies: what was told of the agent's words is complete then."""
    missed: list[str] = attrs.field(factory=list)
    """Lines for which the caller waited in vain."""
    speaking: str = ""
    """What the caller is saying."""
    _items: list[tuple[int, Item]] = attrs.field(factory=list)
    _frames: int = 0

    # -- what is known by now ----------------------------------------------------------------------------

    def catch_up(self) -> None:
        """Learn what the model has made and the caller has heard since the last time."""
        known = {id(item) for _, item in self._items}
        for number, session in enumerate(self.model.sessions, 1):
            self._items += [(number, item) for item in session.spoken if id(item) not in known]
        for index, (number, item) in enumerate(self._items):
            done = item.status != "in_progress" or self.model.sessions[number - 1].is_over
            self.hearing.learn(index, bytes(item.audio), whole=done)
        assert self.call is not None
        heard = self.call.tape.heard
        for frame in heard[self._frames :]:
            self.hearing.hear(frame)
            if frame.frame == self.comfort:
                self.tell("comfort", "One moment please.")
        self._frames = len(heard)

    def spoken(self) -> list[Spoken]:
        """Every item that any model session has generated, in order."""
        return [
            Spoken(
                bytes(item.audio),
                " ".join(word.text for word in item.words),
                tuple(word.end_ms for word in item.words),
                session,
                item.id,
                item.status == "completed",
                item.truncated_ms,
            )
            for session, item in self._items
        ]

    def caption(self) -> tuple[int, str]:
        """(item, words heard of it) where the ear is; (-1, "") before the first word."""
        place = self.hearing.latest
        if place is None:
            return -1, ""
        item = self._items[place.item][1]
        heard_ms = self.hearing.heard_ms(place.item)
        # As a person follows: a word is there when it begins.
        return place.item, " ".join(word.text for word in item.words if word.start_ms < heard_ms)

    def _text(self, number: int) -> str:
        return " ".join(word.text for word in self._items[number][1].words)

    def _is_over(self, line: str) -> bool:
        """Has the caller heard the end of ``line``, or of what was left of it?"""
        place = self.hearing.latest
        if place is None:
            return False
        item = self._items[place.item][1]
        if item.status != "completed" or not line.endswith(self._text(place.item)):
            return False
        audible = self.hearing.audible(place.item)
        return bool(audible) and audible[-1] in self.hearing.times

    def _has_reached(self, line: str, ms: int) -> bool:
        place = self.hearing.latest
        return (
            place is not None and self._text(place.item) == line and self.hearing.heard_ms(place.item) >= ms
        )

    # -- the caller ----------------------------------------------------------------------------------------

    async def play(self, line: Line) -> None:
        """The script. Ends with the call."""
        await self._until(line, GREETING, lambda: self._is_over(GREETING))
        await line.wait(PAUSE_SECONDS)
        for exchange, following in zip(self.plot.exchanges, [*self.plot.exchanges[1:], None], strict=True):
            await self._say(line, exchange.caller)
            await self._strike(line, exchange)
            answer = self.plot.expected(exchange)
            if exchange.interrupted and following is not None:
                await self._until(line, answer, lambda: self._has_reached(answer, exchange.at_ms))  # noqa: B023
                self.tell("barge_in", "the caller interrupts")
                continue
            await self._until(line, answer, lambda: self._is_over(answer))  # noqa: B023
            if following is not None:
                await line.wait(PAUSE_SECONDS)
        await line.wait(PATIENCE_SECONDS)
        line.hang_up()  # the agent has not: every call ends, but nobody needs to wait for it here

    async def _say(self, line: Line, text: str) -> None:
        self.before_words()
        start = trio.current_time()
        self.speaking = text
        self.tell("caller", text)
        await line.say(say_as_caller(text))
        self.speaking = ""
        self.said.append(Said(start, trio.current_time(), text))

    async def _until(self, line: Line, what: str, condition: Callable[[], bool]) -> None:
        deadline = trio.current_time() + PATIENCE_SECONDS
        while True:
            self.catch_up()
            if condition():
                return
            if trio.current_time() > deadline:
                self.missed.append(what)
                return
            await line.wait(TICK_SECONDS / 2)

    # -- the nemesis ---------------------------------------------------------------------------------------

    async def _strike(self, line: Line, exchange: Exchange) -> None:
        if not self.plot.broken(exchange) or exchange.strikes not in ("carrier", "process"):
            return  # the model's end and the tool's are in their own plans
        if exchange.strikes == "carrier":
            await self._until(
                line, exchange.answer, lambda: self._has_reached(exchange.answer, STRIKE_FROM_MS)
            )
            assert self.call is not None
            heard_ms = line.heard_ms + exchange.at_ms - STRIKE_FROM_MS
            self.call.plan_drop(Drop("rst", heard_ms=heard_ms, after_mark=True))
            return
        await self._until(line, exchange.answer, lambda: self._has_reached(exchange.answer, exchange.at_ms))
        self.kills.append(trio.current_time())
        await self.server.kill()
        self.before_words()
        self.tell("fault", "kill -9: the server's process is gone")
        await self.server.start()
        self.revivals.append(trio.current_time())
        self.tell("note", f"process {self.server.processes} has the journal and listens")


STRIKE_FROM_MS = 200
"""A drop is planned so early in the answer."""
