"""What of the agent's words is recorded as heard, where the model's items are not as usual."""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from typing import Any

import numpy as np
import trio
from actors_scenes import GREETING, Scene, play

from callrt.actors.line import Line
from callrt.protocol.attention import is_loud
from callrt.protocol.audio import mulaw_encode
from callrt.testing import carrier
from callrt.testing.carrier_call import PhoneCall
from callrt.testing.world import World

TONE = bytes(mulaw_encode(np.tile(np.array([8000, -8000] * 80, dtype=np.int16), 50)))
"""A second."""
SOFT = bytes(mulaw_encode(np.array([560, -560] * 80, dtype=np.int16)))
"""20 ms of a voice in the room: heard here, and taken for noise by the model."""


async def listen(line: carrier.Line) -> None:
    await line.wait_for_agent_silence()
    await trio.sleep(40)
    line.hang_up()


async def scene(talk: Callable[[Line], Awaitable[None]]) -> Scene:
    """A call in which, after the greeting, this happens on the service's side of it."""

    async def during(world: World, call: PhoneCall) -> None:
        await trio.sleep(8)
        await talk(world.desk._calls[call.call_sid].line)

    return await play(caller=listen, during=during)


def words(seen: Scene) -> list[tuple[str, str, bool]]:
    return [(line.item_id, line.text, line.interrupted) for line in seen.state.lines if line.text != GREETING]


def say(line: Line, item: str, text: str, *parts: bytes) -> None:
    line.transcript.agent_words(item, text, True)
    for index, audio in enumerate(parts):
        line.voice.speak(item, index, audio)
    line.transcript.agent_ended(item)
    line.voice.complete(item)


async def test_words_behind_an_item_that_never_ends_are_recorded_once(autojump_clock: Any) -> None:
    numbers: list[int] = []

    async def talk(line: Line) -> None:
        line.voice.speak("m1.open", 0, TONE[:1600])
        for number in range(70):
            say(line, f"m1.i{number}", f"words of {number}", TONE[:1600])
            await trio.sleep(0.4)
        numbers.append(line.log.state.last_number)
        await trio.sleep(4)
        numbers.append(line.log.state.last_number)

    seen = await scene(talk)
    spoken = [line for line in words(seen) if line[0] != "m1.open"]
    assert spoken == [(f"m1.i{number}", f"words of {number}", False) for number in range(70)]
    assert numbers[0] == numbers[1], "in silence there is nothing to record"


async def test_barge_in_in_the_second_part_of_an_item_leaves_the_words_heard_of_both(
    autojump_clock: Any,
) -> None:
    text = "one two three four five six seven eight nine ten"

    async def talk(line: Line) -> None:
        say(line, "m1.a", text, TONE, TONE * 4)
        await trio.sleep(3)
        line.voice.barge_in(trio.current_time())

    [(item, heard, interrupted)] = words(await scene(talk))
    assert (item, interrupted) == ("m1.a", True)
    assert text.startswith(heard)
    assert 4 <= len(heard.split()) <= 7, heard


async def test_item_of_two_parts_is_recorded_whole_when_both_have_been_heard(autojump_clock: Any) -> None:
    async def talk(line: Line) -> None:
        say(line, "m1.a", "one two three four", TONE, TONE)
        await trio.sleep(1.6)
        assert line.log.state.lines[-1].text in ("one two", "one two three")
        await trio.sleep(2)

    assert words(await scene(talk)) == [("m1.a", "one two three four", False)]


async def test_voice_that_the_model_takes_for_noise_is_not_held_for_ever(autojump_clock: Any) -> None:
    """The model answers the probe: it lives, has heard the sound, and made nothing of it."""
    held: list[int] = []

    async def talk(line: carrier.Line) -> None:
        await line.wait_for_agent_silence()
        await line.say(SOFT * 20)
        await trio.sleep(25)
        line.hang_up()

    async def during(world: World, call: PhoneCall) -> None:
        while True:
            await trio.sleep(0.1)
            if call.call_sid in world.desk._calls:
                uplink = world.desk._calls[call.call_sid].line.uplink
                held.append(uplink.end - uplink.start)

    assert is_loud(SOFT)
    await play(caller=talk, during=during)
    assert max(held) > 8_000, "while it was in doubt"
    assert max(held[-100:]) < 8_000
