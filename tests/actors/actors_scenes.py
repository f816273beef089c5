"""Whole calls for tests: one is placed, broken and listened to at the caller's end of the socket."""

from __future__ import annotations

from collections import Counter
from collections.abc import Awaitable, Callable, Mapping, Sequence
from typing import Any

import attrs
import trio

from callrt.comfort.library import ComfortLibrary
from callrt.policy.settings import AgentSettings, Resilience
from callrt.protocol.call_state import CallState
from callrt.testing.carrier import Drop, Habits, Human, Line, PhoneCall, StreamBehaviour
from callrt.testing.carrier_tape import is_audible
from callrt.testing.model_brain import Brain, Calling, ScriptBrain, Turn, item_text
from callrt.testing.model_core import ModelOptions
from callrt.testing.model_faults import Fault, FaultPlan
from callrt.testing.model_server import EmulatedModel
from callrt.testing.speech import beeps
from callrt.testing.world import World, open_world

GREETING = "Hello, this is the clinic. How can I help?"
HOURS = "What are your opening hours?"
ANSWER = "We are open from nine to five on every weekday and from ten to two on Saturdays."
BOOK = "Please book me in on Tuesday."
BOOKED = "You are booked for Tuesday at nine."
THANKS = "Thank you very much, goodbye."
FAREWELL = "You are welcome. Goodbye."

AGENT = AgentSettings("front-desk", "main", "You answer the phone for a clinic.", greeting=GREETING)
HUMAN = attrs.evolve(AGENT, transfer_to="+15550100009")
FRAME = 160
SECONDS_MAX = 300.0


def voice(text: str) -> bytes:
    return beeps(text, 7)


def script() -> ScriptBrain:
    return ScriptBrain(
        [
            Turn(HOURS, voice(HOURS), ANSWER),
            Turn(BOOK, voice(BOOK), BOOKED, tool=Calling("book", '{"day": "Tuesday"}')),
            Turn(THANKS, voice(THANKS), FAREWELL, tool=None),
        ],
        lines=[GREETING],
    )


async def ask(line: Line) -> None:
    """Greeting, one question, its answer, hang up."""
    await line.wait_for_agent_silence()
    await line.say(voice(HOURS))
    await line.wait_for_agent_silence(2.5)
    line.hang_up()


def saying(*texts: str, silence: float = 2.5) -> Callable[[Line], Awaitable[None]]:
    async def talk(line: Line) -> None:
        await line.wait_for_agent_silence()
        for text in texts:
            await line.say(voice(text))
            await line.wait_for_agent_silence(silence)
        line.hang_up()

    return talk


@attrs.frozen
class Scene:
    world: World
    call: PhoneCall
    model: EmulatedModel
    state: CallState
    seconds: float

    # -- what was heard -----------------------------------------------------------------------------------

    def heard(self) -> list[tuple[float, bytes]]:
        """Audible frames of the app's, with the clock time at which each began."""
        return [(h.at, h.frame) for h in self.call.tape.heard if h.source == "stream" and is_audible(h.frame)]

    def model_frames(self) -> Counter[bytes]:
        """Audible frames that the model's sessions have generated."""
        frames: Counter[bytes] = Counter()
        for session in self.model.sessions:
            for item in session.items.values():
                if item.role == "assistant":
                    audio = bytes(item.audio)
                    for at in range(0, len(audio), FRAME):
                        frame = audio[at : at + FRAME].ljust(FRAME, b"\xff")
                        if is_audible(frame):
                            frames[frame] += 1
        return frames

    def twice(self) -> int:
        """Frames of the model's that were heard more often than they were generated."""
        heard = Counter(frame for _, frame in self.heard())
        made = self.model_frames()
        return sum(max(0, heard[frame] - count) for frame, count in made.items())

    def unheard(self) -> int:
        """Frames of the model's that were never heard."""
        heard = Counter(frame for _, frame in self.heard())
        return sum(max(0, count - heard[frame]) for frame, count in self.model_frames().items())

    def line_starts(self, name: str = "one_moment") -> list[float]:
        """When a bundled line began to be heard."""
        audio = ComfortLibrary.load(None, "en")[name]
        first = next(
            audio[at : at + FRAME] for at in range(0, len(audio), FRAME) if is_audible(audio[at : at + FRAME])
        )
        return [at for at, frame in self.heard() if frame == first]

    def silence_before(self, at: float) -> float:
        """Seconds of silence at the caller's ear before this moment."""
        earlier = [when for when, _ in self.heard() if when < at - 1e-6]
        return at - (max(earlier) + 0.02) if earlier else at

    # -- what was told --------------------------------------------------------------------------------------

    def told(self, session: int) -> list[tuple[str, str]]:
        """(role, text) of every message that the n-th session (from 1) was given as history."""
        items = [t.event["item"] for t in self.model.sessions[session - 1].told if "item" in t.event]
        return [(item["role"], item_text(item)) for item in items if item["type"] == "message"]

    def requests(self, session: int) -> int:
        return sum(t.event["type"] == "response.create" for t in self.model.sessions[session - 1].told)

    def transcript(self) -> list[tuple[str, str]]:
        return [(line.role, line.text) for line in self.state.lines if line.told]

    def agent_words(self) -> str:
        return " ".join(text for role, text in self.transcript() if role == "agent")

    def fired_at(self, index: int = 0) -> float:
        return self.model.plan.fired[index].at


async def play(
    *faults: Fault,
    caller: Callable[[Line], Awaitable[None]] = ask,
    drops: Sequence[Drop] = (),
    agent: AgentSettings = AGENT,
    resilience: Resilience | None = None,
    tools: Mapping[str, Any] | None = None,
    habits: Habits | None = None,
    behaviour: StreamBehaviour | None = None,
    humans: Mapping[str, Human] | None = None,
    options: ModelOptions | None = None,
    brain: Brain | None = None,
    latency: float = 0.0,
    during: Callable[[World, PhoneCall], Awaitable[None]] | None = None,
    strict: bool = True,
) -> Scene:
    """One call from the first webhook to its outcome."""
    model = EmulatedModel(brain or script(), options=options or ModelOptions(), plan=FaultPlan(faults))
    with trio.fail_after(SECONDS_MAX):
        async with open_world(
            model, agent=agent, resilience=resilience, tools=tools, latency=latency
        ) as world:
            call = world.carrier.place(
                caller, drops=tuple(drops), habits=habits, behaviour=behaviour, humans=humans
            )
            began = trio.current_time()
            async with trio.open_nursery() as nursery:
                if during is not None:
                    nursery.start_soon(during, world, call)
                await call.run()
                nursery.cancel_scope.cancel()
            seconds = trio.current_time() - began
        state = await world.state(call.call_sid)
    scene = Scene(world, call, model, state, seconds)
    if strict:
        for session in model.sessions:
            assert session.refused == [], "the model refused something of ours"
        assert [alert for alert in call.alerts if alert.code in (31950, 31951)] == []
    return scene
