"""Who speaks in a simulated call: the lines, the model's brain, the tools that break, and what they did."""

from __future__ import annotations

import functools
from collections import deque
from collections.abc import Callable
from typing import Annotated, Any

import attrs
import trio

from callrt.agents import CallContext, Tool
from callrt.protocol.tools import ToolFailed
from callrt.testing.model_brain import Calling, Listener, ScriptBrain, Turn
from callrt.testing.sim.case import ToolTrouble
from callrt.testing.speech import beeps

GREETING = "Hello, this is the clinic. How can I help?"
FILLER = "One second, let me look."

CALLER_VOICE = 7


@attrs.frozen
class Exchange:
    """What the caller may say, and what the agent answers."""

    say: str
    answer: str
    tool: str = ""
    arguments: str = "{}"
    before_tool: str = ""


EXCHANGES: dict[str, Exchange] = {
    "hours": Exchange(
        "What are your opening hours?",
        "We are open from nine to five on every weekday and from ten to two on Saturdays.",
    ),
    "price": Exchange(
        "How much is a first visit?", "A first visit costs eighty euros with every test included."
    ),
    "parking": Exchange("Where could I leave my car?", "There is free parking behind our building."),
    "look": Exchange(
        "Is doctor Miller there today?",
        "Doctor Miller is here until noon.",
        tool="find_doctor",
        arguments='{"name": "Miller"}',
        before_tool=FILLER,
    ),
    "book": Exchange(
        "Please book me in on Tuesday.",
        "You are booked for Tuesday at nine.",
        tool="book",
        arguments='{"day": "Tuesday"}',
    ),
    "thanks": Exchange("Thank you very much indeed.", "You are welcome. Have a lovely afternoon."),
}
FAREWELL = "thanks"
"""The last question of every call: asked in the calm after the storm, and its answer must be heard."""

UNKNOWN = "Sorry, I did not understand that."
NUDGE = "Are you still there?"


@functools.lru_cache(maxsize=64)
def caller_says(text: str) -> bytes:
    return beeps(text, CALLER_VOICE)


@functools.lru_cache(maxsize=1)
def _turns() -> tuple[Turn, ...]:
    return tuple(
        Turn(
            each.say,
            caller_says(each.say),
            each.answer,
            Calling(each.tool, each.arguments) if each.tool else None,
            each.before_tool,
        )
        for each in EXCHANGES.values()
    )


@functools.lru_cache(maxsize=1)
def _listener() -> Listener:
    return Listener([(turn.caller, turn.audio) for turn in _turns()])


_UNDERSTOOD: dict[bytes, str] = {}
"""The listener is a pure function of the sound: calls may share what it found."""


def make_brain() -> ScriptBrain:
    """A brain for one call. What it was told to say is its own; what it recognises it shares with all others."""
    brain = ScriptBrain(_turns(), lines=[GREETING], unknown=UNKNOWN, nudge=NUDGE)
    brain._listener = _listener()
    brain._heard = _UNDERSTOOD
    return brain


# -- tools --------------------------------------------------------------------------------------------------


@attrs.frozen
class Effect:
    """A side effect: it was done, whatever became of those who asked for it."""

    at: float
    key: str
    process: int


@attrs.define(eq=False)
class Workshop:
    """The tools of one call, and the trouble they are in."""

    timeout: float = 3.0
    effects: list[Effect] = attrs.field(factory=list)
    runs: list[tuple[float, str]] = attrs.field(factory=list)
    """(time, tool) of each run that began."""
    process: Callable[[], int] = lambda: 1
    trouble: deque[ToolTrouble] = attrs.field(factory=deque)
    struck: list[tuple[float, ToolTrouble]] = attrs.field(factory=list)

    def tools(self) -> dict[str, Tool[..., Any]]:
        async def find_doctor(name: Annotated[str, "Surname"]) -> object:
            """When a doctor is in the house."""
            self.runs.append((trio.current_time(), "find_doctor"))
            await trio.sleep(0.3)
            return await self._misbehave({"doctor": name, "until": "noon"})

        async def book(day: Annotated[str, "Day of the week"], ctx: CallContext) -> object:
            """Book an appointment."""
            self.runs.append((trio.current_time(), "book"))
            await trio.sleep(0.2)
            self.effects.append(Effect(trio.current_time(), ctx.idempotency_key, self.process()))
            return await self._misbehave({"booked": day})

        return {
            "find_doctor": Tool(find_doctor, timeout=self.timeout),
            "book": Tool(book, side_effects=True, timeout=self.timeout),
        }

    async def _misbehave(self, result: object) -> object:
        if not self.trouble:
            return result
        trouble = self.trouble.popleft()
        self.struck.append((trio.current_time(), trouble))
        match trouble.how:
            case "hang":
                await trio.sleep_forever()
            case "slow":
                await trio.sleep(trouble.seconds)
            case "late" | "raise":
                await trio.sleep(trouble.seconds if trouble.how == "late" else 0.0)
                raise RuntimeError("the caller's number is +15550100001, said the tool")
            case "refuse":
                raise ToolFailed("That day is full.")
            case "flood":
                return "x" * 2_000_000
            case "lie":
                return {"no form in JSON": object()}
        return result
