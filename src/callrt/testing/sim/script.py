"""The caller of a simulated call: asks through the storm, then, in the calm, once more."""

from __future__ import annotations

from collections.abc import Callable
from typing import Literal

import attrs
import trio

from callrt.testing.carrier import Line, PhoneCall
from callrt.testing.carrier_tape import is_audible
from callrt.testing.model_brain import words_of
from callrt.testing.model_server import EmulatedModel
from callrt.testing.sim import cast
from callrt.testing.sim.case import Caller
from callrt.testing.sim.history import LINES, Asked, placed

CALM_PATIENCE = 30.0
"""Seconds in which the agent must have answered in the calm: the provider's patience of 20 s, and the answer."""

Heard = Literal["answered", "misunderstood", "nothing"]


@attrs.define(eq=False)
class Person:
    """Knows what he is waiting for, as a person does: he recognises the end of an answer."""

    caller: Caller
    model: EmulatedModel
    quieten: Callable[[], None]
    """The storm is over: nothing more strikes."""
    lull: Callable[[], float] = lambda: 2.0
    """Seconds after the storm in which he says nothing."""
    call: PhoneCall | None = None
    asked: list[Asked] = attrs.field(factory=list)
    calm_at: float | None = None
    healed_at: float | None = None
    hung_up_in_mid_answer: bool = False

    async def talk(self, line: Line) -> None:
        await self._hear_out(line, "greeting", self.caller.patience)
        if self.caller.digits:
            line.press(self.caller.digits)
            await line.wait(1.5)
        asks = self.caller.asks
        for index, ask in enumerate(asks):
            await self._ask(line, ask.line, over_agent=ask.after_ms is not None and index > 0)
            following = asks[index + 1] if index + 1 < len(asks) else None
            if following is not None and following.after_ms is not None:
                await self._wait_for_speech(line, following.after_ms)
            elif following is None and self.caller.hangs_up_ms is not None:
                await self._wait_for_speech(line, self.caller.hangs_up_ms)
                self.hung_up_in_mid_answer = True
                line.hang_up()
                return
            elif await self._hear_out(line, ask.line, self.caller.patience) != "answered":
                await self._again(line, ask.line, self.caller.patience)
        await self._part(line)

    async def _part(self, line: Line) -> None:
        self.quieten()
        self.calm_at = trio.current_time()
        await line.wait(self.lull())
        with trio.move_on_after(15.0):
            while trio.current_time() - line.agent_ended_at < 1.5:
                await line.wait(0.2)
        await self._ask(line, cast.FAREWELL)
        heard = await self._hear_out(line, cast.FAREWELL, CALM_PATIENCE)
        if heard == "misunderstood":
            heard = await self._again(line, cast.FAREWELL, CALM_PATIENCE)
        if heard == "answered":
            self.healed_at = trio.current_time()
        line.hang_up()

    async def _again(self, line: Line, name: str, patience: float) -> Heard:
        await self._ask(line, name)
        return await self._hear_out(line, name, patience)

    async def _ask(self, line: Line, name: str, *, over_agent: bool = False) -> None:
        began = trio.current_time()
        await line.say(cast.caller_says(cast.EXCHANGES[name].say))
        self.asked.append(Asked(name, began, line.spoke_until, over_agent))

    async def _wait_for_speech(self, line: Line, ms: int) -> None:
        with trio.move_on_after(self.caller.patience):
            await line.wait_for_agent()
            await line.wait_heard_ms(line.heard_ms + ms)

    async def _hear_out(self, line: Line, name: str, patience: float) -> Heard:
        """Until the end of this answer has been heard; "misunderstood" when it was another one."""
        began = trio.current_time()
        while trio.current_time() - began < patience:
            await line.wait(0.2)
            if line.agent_ended_at <= line.spoke_until:
                continue
            quiet = trio.current_time() - line.agent_ended_at
            if quiet < 0.8:
                continue
            last = self._last_words()
            if last == (name, len(LINES[name]) - 1):
                return "answered"
            if last is not None and quiet >= 1.5 and last[0] in ("unknown", "nudge"):
                return "misunderstood"
        return "nothing"

    def _last_words(self) -> tuple[str, int] | None:
        """The line and the word that were heard last."""
        assert self.call is not None
        tape = self.call.tape.heard
        for heard in reversed(tape[-400:]):
            if heard.source != "stream" or not is_audible(heard.frame):
                continue
            for session in reversed(self.model.sessions[-4:]):
                for item in reversed(session.spoken[-6:]):
                    at = bytes(item.audio).find(heard.frame)
                    if at < 0:
                        continue
                    line, offset = placed(tuple(words_of(" ".join(word.text for word in item.words))))
                    index, word = next(
                        (i, word) for i, word in enumerate(item.words) if at // 8 < word.end_ms
                    )
                    # A word of which the end is missing is not the end of an answer.
                    finished = at // 8 + 20 >= word.end_ms - 80
                    return line, offset + index - (not finished)
            return None
        return None
