"""The caller's frames are the clock of the mouth; the playback actor only sees to it that the clock goes on."""

from __future__ import annotations

from typing import Any

import pytest
import trio
from actors_scenes import ANSWER, GREETING, HOURS, play, saying

from callrt.actors.voice import Voice
from callrt.actors.wake import Wake


async def test_speech_is_paced_by_the_callers_frames(
    monkeypatch: pytest.MonkeyPatch, autojump_clock: Any
) -> None:
    beats: list[float] = []
    ticks: list[float] = []
    beat, tick = Voice.beat, Voice.tick

    def counted_beat(self: Voice) -> None:
        beats.append(trio.current_time())
        beat(self)

    def counted_tick(self: Voice) -> float:
        ticks.append(trio.current_time())
        return tick(self)

    monkeypatch.setattr(Voice, "beat", counted_beat)
    monkeypatch.setattr(Voice, "tick", counted_tick)
    scene = await play()
    assert scene.agent_words() == f"{GREETING} {ANSWER}"
    assert scene.twice() == scene.unheard() == 0
    # The playback actor itself has woken for beginnings and ends, not for each chunk.
    assert len(beats) > 3 * (len(ticks) - len(beats))


async def test_a_crash_in_a_tick_on_a_frame_fells_playback_and_the_call_goes_on(
    monkeypatch: pytest.MonkeyPatch, autojump_clock: Any
) -> None:
    crashed: list[float] = []
    beating: list[bool] = []
    beat, tick = Voice.beat, Voice.tick

    def in_a_beat(self: Voice) -> None:
        beating.append(True)
        beat(self)
        beating.clear()

    def crash(self: Voice) -> float:
        if beating and not crashed and trio.current_time() > 2.0:
            crashed.append(trio.current_time())
            raise LookupError("a bug of ours")
        return tick(self)

    monkeypatch.setattr(Voice, "beat", in_a_beat)
    monkeypatch.setattr(Voice, "tick", crash)
    scene = await play(caller=saying(HOURS, silence=6.0))
    assert crashed
    assert [restart.actor for restart in scene.state.restarts] == ["playback"]
    assert scene.state.outcome == "caller_hung_up"
    assert ("caller", HOURS) in scene.transcript()


async def test_a_deadline_moves_without_waking_anybody(autojump_clock: Any) -> None:
    wake = Wake()
    woken: list[float] = []

    async def wait(deadline: float) -> None:
        await wake.wait(deadline)
        woken.append(trio.current_time())

    wake.expect(1.0)  # nobody waits: no effect
    async with trio.open_nursery() as nursery:
        nursery.start_soon(wait, 10.0)
        await trio.sleep(1)
        wake.expect_by(20.0)
        wake.expect_by(5.0)
        await trio.sleep(1)
        wake.expect(7.0)
        assert not woken
    assert woken == [7.0]
