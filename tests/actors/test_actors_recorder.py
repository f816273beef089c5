"""A recorded call: both voices, in step, and only where the operator wants it."""

from __future__ import annotations

import wave
from pathlib import Path
from typing import Any

import attrs
import numpy as np
from actors_scenes import AGENT, script, voice
from hypothesis import given
from hypothesis import strategies as st

from callrt.policy.settings import Resilience
from callrt.protocol.audio import mulaw_decode
from callrt.protocol.tracks import Tracks
from callrt.testing.carrier import Line
from callrt.testing.model_server import EmulatedModel
from callrt.testing.world import open_world


async def greeted(line: Line) -> None:
    await line.say(voice("Hello."))
    await line.wait_heard_ms(1200)
    line.hang_up()


async def record(folder: Path, *, wanted: bool) -> Any:
    agent = attrs.evolve(AGENT, record=wanted)
    patience = Resilience(carrier_return_seconds=0.5)
    async with open_world(
        EmulatedModel(script()), agent=agent, resilience=patience, recordings=folder
    ) as world:
        call = world.carrier.place(greeted)
        await call.run()
    return call


async def test_recording_holds_what_was_said_and_what_was_heard(tmp_path: Path) -> None:
    call = await record(tmp_path / "recordings", wanted=True)
    (path,) = (tmp_path / "recordings").iterdir()
    assert path.name == f"{call.call_sid}.wav"
    assert path.stat().st_mode & 0o077 == 0, "nobody else's business"
    with wave.open(str(path)) as file:
        assert (file.getnchannels(), file.getsampwidth(), file.getframerate()) == (2, 2, 8000)
        sound = np.frombuffer(file.readframes(file.getnframes()), dtype="<i2").reshape(-1, 2)
    assert abs(len(sound) / 8000 - call.tape.seconds) < 4.0, "and the time in which a hang-up becomes certain"
    for channel, tape in ((0, call.tape.said_audio()), (1, call.tape.heard_audio())):
        loud = int((np.abs(sound[:, channel].astype(np.int32)) > 300).sum())
        expected = int((np.abs(mulaw_decode(tape).astype(np.int32)) > 300).sum())
        assert 0.8 * expected < loud < 1.2 * expected, "hung up in mid-word, and two clocks"


async def test_nothing_is_recorded_unless_wanted(tmp_path: Path) -> None:
    await record(tmp_path / "recordings", wanted=False)
    assert not (tmp_path / "recordings").exists()


async def test_recording_that_cannot_be_written_is_not_heard(tmp_path: Path) -> None:
    (tmp_path / "recordings").write_text("in the way")
    call = await record(tmp_path / "recordings", wanted=True)
    assert call.end_reason == "caller_hung_up"


@given(
    st.lists(st.tuples(st.sampled_from(["say", "play", "cut", "take"]), st.integers(1, 2000)), max_size=60)
)
def test_tracks_hand_out_each_moment_once_and_in_step(steps: list[tuple[str, int]]) -> None:
    tracks, now, total = Tracks(0.0), 0.0, 0
    for what, amount in steps:
        now += amount / 8000
        match what:
            case "say":
                tracks.say(b"\x01" * amount, now)
            case "play":
                tracks.play(b"\x02" * amount, now)
            case "cut":
                tracks.cut(now)
            case "take":
                said, heard = tracks.take(now)
                assert len(said) == len(heard)
                total += len(said)
                assert abs(total - int(now * 8000)) <= 1


def test_tracks_take_back_what_was_not_heard() -> None:
    tracks = Tracks(0.0)
    tracks.play(b"\x02" * 8000, 0.0)
    tracks.cut(0.5)
    _, heard = tracks.take(1.0)
    assert heard == b"\x02" * 4000 + b"\xff" * 4000


def test_tracks_are_bounded_when_nobody_takes() -> None:
    tracks = Tracks(0.0, hold_seconds=1.0)
    for n in range(500):
        tracks.say(b"\x01" * 160, n * 0.02)
    assert tracks.dropped_bytes == 500 * 160 - 8000
    assert len(tracks.take(10.0)[0]) == 80_000
