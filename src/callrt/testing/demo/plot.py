"""The play: who says what, and at which exact word something breaks. Data; nothing here runs."""

from __future__ import annotations

import random
from collections.abc import Sequence
from typing import Any, Final, Literal, get_args

import attrs

from callrt.protocol.audio import FRAME_BYTES
from callrt.testing.carrier_tape import is_audible
from callrt.testing.model_brain import Answer, Calling, ScriptBrain, Turn
from callrt.testing.model_faults import Fault, Trigger
from callrt.testing.model_voice import SpokenVoice
from callrt.testing.speech import synthesize

Break = Literal["none", "model", "carrier", "tool", "process", "all"]
BREAKS: Final = get_args(Break)

AGENT_VOICE: Final = SpokenVoice("en-us+f3", 175, 52)
CALLER_VOICE: Final = ("en-gb-x-rp", 178, 42)

GREETING: Final = "Hello and welcome to the clinic, what can I do for you?"

MODEL_RETRIES: Final = 3
"""Upgrades refused after the loss: with their backoffs, longer than the audio in hand lasts. So the comfort
line is needed."""

STEP_MS: Final = 20


@attrs.frozen
class Exchange:
    """The caller asks, the agent answers."""

    name: str
    caller: str
    answer: str
    strikes: Break = "none"
    """What breaks in mid-answer, if it is to break in this play."""
    at_ms: int = 0
    """Where in the answer it strikes, or the next caller interrupts."""
    tool: Calling | None = None
    effect: str = ""
    """What the tool does to the world, in the words of ``clinic_tools.py``."""
    sorry: str = ""
    """The answer when the tool has failed."""
    interrupted: bool = False
    """The next caller's words fall into this answer."""

    @property
    def turn(self) -> Turn:
        audio = say_as_caller(self.caller)
        if self.tool is not None and self.tool.name == "end_call":
            return Turn(self.caller, audio, self.answer, self.tool, before_tool=self.answer)
        return Turn(self.caller, audio, self.answer, self.tool)


EXCHANGES: Final = (
    Exchange(
        "hours",
        "What are your opening hours?",
        "Of course. We are open from eight in the morning until six in the evening on weekdays, and until noon "
        "on Saturdays.",
        strikes="model",
        at_ms=1700,
    ),
    Exchange(
        "way",
        "And where do I find you?",
        "We are at twelve Harbour Street, right behind the old post office, opposite the market.",
        strikes="carrier",
        at_ms=1800,
    ),
    Exchange(
        "papers",
        "Do I have to bring anything?",
        "Yes, please bring your insurance card, a list of all the medicines that you take, letters from other "
        "doctors, and if you have any, the pictures of earlier examinations.",
        at_ms=1700,
        interrupted=True,
    ),
    Exchange(
        "book",
        "All right. Please book me in on Tuesday at ten.",
        "Very well. You are booked for Tuesday at ten with Doctor Lang. Please come five minutes early.",
        strikes="process",
        at_ms=1500,
        tool=Calling("book_appointment", '{"day": "Tuesday", "hour": 10}'),
        effect="booked Tuesday 10",
    ),
    Exchange(
        "text",
        "Could you text me the address?",
        "Done, you have it on your telephone now.",
        strikes="tool",
        tool=Calling("text_address"),
        effect="text message handed over",
        sorry="I am sorry, I cannot tell whether the message went out. Your appointment stands.",
    ),
    Exchange(
        "bye",
        "Thank you. Goodbye.",
        "You are welcome. Goodbye.",
        tool=Calling("end_call", '{"reason": "the caller said goodbye"}'),
    ),
)

_CAST: Final[dict[Break, tuple[str, ...]]] = {
    "none": ("hours", "papers", "book", "bye"),
    "model": ("hours", "bye"),
    "carrier": ("way", "bye"),
    "tool": ("text", "bye"),
    "process": ("book", "bye"),
    "all": tuple(exchange.name for exchange in EXCHANGES),
}


@attrs.frozen
class Plot:
    """One performance, decided to the last 20 ms."""

    what: Break
    seed: int
    exchanges: tuple[Exchange, ...]
    model_faults: tuple[Fault, ...]

    def broken(self, exchange: Exchange) -> bool:
        """Whether something strikes in this exchange."""
        return exchange.strikes != "none" and self.what in ("all", exchange.strikes)

    def expected(self, exchange: Exchange) -> str:
        """What the agent will say in the end."""
        return exchange.sorry if exchange.sorry and self.broken(exchange) else exchange.answer

    @property
    def hung_tool(self) -> bool:
        return any(self.broken(exchange) and exchange.strikes == "tool" for exchange in self.exchanges)

    def brain(self) -> ClinicBrain:
        return ClinicBrain(
            [exchange.turn for exchange in self.exchanges],
            lines=[GREETING, *(exchange.sorry for exchange in self.exchanges if exchange.sorry)],
            sorry={e.tool.name: e.sorry for e in self.exchanges if e.tool is not None and e.sorry},
        )


def make_plot(what: Break, seed: int) -> Plot:
    """Points of failure come from ``seed``. Raises ``SpeechUnavailable``."""
    rng = random.Random(f"demo/{seed}")
    exchanges = []
    faults: list[Fault] = []
    for number, exchange in enumerate(each for each in EXCHANGES if each.name in _CAST[what]):
        at_ms = exchange.at_ms + STEP_MS * rng.randrange(15) if exchange.at_ms else 0
        if at_ms:
            # In the middle of a sound: who listens can tell to the frame when it ends.
            at_ms = loud_ms(AGENT_VOICE(exchange.answer), at_ms)
        exchange = attrs.evolve(exchange, at_ms=at_ms)
        exchanges.append(exchange)
        if exchange.strikes == "model" and what in ("all", "model"):
            # The greeting is the session's first reply.
            faults.append(Fault("close", Trigger(connection=1, reply=number + 2, audio_ms=at_ms), code=1011))
            faults += [Fault("refuse", Trigger(connection=n)) for n in range(2, 2 + MODEL_RETRIES)]
    return Plot(what, seed, tuple(exchanges), tuple(faults))


def say_as_caller(text: str) -> bytes:
    voice, rate, pitch = CALLER_VOICE
    return synthesize(text, voice, rate, pitch)


def loud_ms(audio: bytes, at_ms: int) -> int:
    """The first frame's edge at or after ``at_ms`` with 100 ms of sound before it."""
    for end in range(at_ms, len(audio) // 8, STEP_MS):
        frames = range(end - 5 * STEP_MS, end, STEP_MS)
        if all(is_audible(audio[ms * 8 : ms * 8 + FRAME_BYTES]) for ms in frames):
            return end
    return at_ms


@attrs.define(eq=False)
class ClinicBrain(ScriptBrain):
    """A script, and an apology for each tool that may fail."""

    sorry: dict[str, str] = attrs.field(factory=dict)

    def answer(
        self, history: Sequence[dict[str, Any]], instructions: str, speak_exactly: str | None
    ) -> Answer:
        last = history[-1] if history else {}
        if speak_exactly is None and last.get("type") == "function_call_output" and _is_error(last["output"]):
            called = {item["call_id"]: item["name"] for item in history if item["type"] == "function_call"}
            apology = self.sorry.get(called.get(last["call_id"], ""))
            if apology:
                return Answer.say(apology)
        return super().answer(history, instructions, speak_exactly)


def _is_error(output: str) -> bool:
    return output.lstrip().startswith('{"error"')
