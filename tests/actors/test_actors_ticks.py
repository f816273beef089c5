"""The caller's frames are the clock of the mouth; the playback actor only sees to it that the clock goes on."""

from __future__ import annotations

from collections import Counter
from typing import Any

import pytest
import trio
from actors_scenes import ANSWER, GREETING, HOURS, play, saying

from callrt.actors.wake import Wake


async def test_speech_is_paced_by_the_callers_frames(
    monkeypatch: pytest.MonkeyPatch, autojump_clock: Any
) -> None:
    beats: Counter[Wake] = Counter()
    waits: Counter[Wake] = Counter()
    expect, wait = Wake.expect, Wake.wait

    def counted_expect(self: Wake, deadline: float) -> None:
        beats[self] += 1
        expect(self, deadline)

    async def counted_wait(self: Wake, deadline: float | None = None) -> None:
        waits[self] += 1
        await wait(self, deadline)

    monkeypatch.setattr(Wake, "expect", counted_expect)
    monkeypatch.setattr(Wake, "wait", counted_wait)
    scene = await play()
    assert scene.agent_words() == f"{GREETING} {ANSWER}"
    assert scene.twice() == scene.unheard() == 0
    # The playback actor itself has woken for beginnings and ends, not for each chunk.
    [(voice_wake, on_frames)] = beats.items()
    assert on_frames > 3 * waits[voice_wake] > 0


async def test_a_crash_in_a_tick_on_a_frame_fells_playback_and_the_call_goes_on(
    monkeypatch: pytest.MonkeyPatch, autojump_clock: Any
) -> None:
    crashed: list[float] = []
    expect = Wake.expect

    def crash(self: Wake, deadline: float) -> None:
        """Called in a tick on a frame only."""
        if not crashed and trio.current_time() > 2.0:
            crashed.append(trio.current_time())
            raise LookupError("a bug of ours")
        expect(self, deadline)

    monkeypatch.setattr(Wake, "expect", crash)
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
