"""A model that speaks 24 kHz PCM: the same call, transcoded on the way."""

from __future__ import annotations

import attrs
import numpy as np
import pytest
from actors_scenes import ANSWER, BOOKED, GREETING, HOURS, play, voice

from callrt.protocol.audio import BYTES_PER_MS, mulaw_decode, pcm_decode
from callrt.testing import world_process
from callrt.testing.carrier import Line
from callrt.testing.model_brain import ScriptBrain, Turn
from callrt.testing.model_faults import Fault, Trigger

BOOK = "Please book me in on Tuesday."
CONVERSATION = [("agent", GREETING), ("caller", HOURS), ("agent", ANSWER)]
PCM_BYTES_PER_MS = 48


@pytest.fixture(autouse=True)
def _pcm_model(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(world_process, "MODEL", attrs.evolve(world_process.MODEL, audio="pcm24"))


async def test_a_pcm_models_speech_is_heard_whole_and_where_it_was(autojump_clock: object) -> None:
    scene = await play()
    assert scene.transcript() == CONVERSATION
    assert scene.model.sessions[0].session["audio"]["output"]["format"]["type"] == "audio/pcm"
    items = [item for item in scene.model.sessions[0].items.values() if item.role == "assistant"]
    heard = mulaw_decode(scene.call.tape.agent_audio()).astype(float)
    for item in items:
        # Every third sample lies on the telephone's grid.
        spoken = pcm_decode(bytes(item.audio))[::3].astype(float)
        found = np.correlate(heard, spoken, "valid")
        at = int(found.argmax())
        echo = heard[at : at + len(spoken)]
        assert found[at] / (np.linalg.norm(spoken) * np.linalg.norm(echo)) > 0.95


async def interrupting(line: Line) -> None:
    await line.wait_for_agent_silence()
    await line.say(voice(HOURS))
    await line.interrupt(voice(BOOK), after_ms=1500)
    await line.wait_for_agent_silence(2.5)
    line.hang_up()


async def test_a_pcm_model_is_told_where_it_was_cut_in_its_own_time(autojump_clock: object) -> None:
    turns = [Turn(HOURS, voice(HOURS), ANSWER), Turn(BOOK, voice(BOOK), BOOKED)]
    scene = await play(caller=interrupting, brain=ScriptBrain(turns, lines=[GREETING]))
    session = scene.model.sessions[0]
    ((_, item, told_ms),) = session.truncations
    assert 500 <= told_ms <= len(session.items[item].audio) // PCM_BYTES_PER_MS
    assert scene.transcript()[-1] == ("agent", BOOKED)


async def test_a_turn_that_a_lost_pcm_session_heard_is_given_to_the_next(autojump_clock: object) -> None:
    committed = Trigger(connection=1, event="input_audio_buffer.committed", count=1)
    scene = await play(Fault("close", committed))
    assert scene.model.connections == 2
    assert ("agent", ANSWER) in scene.transcript()
    assert len(scene.call.tape.agent_audio()) > 4_000 * BYTES_PER_MS
