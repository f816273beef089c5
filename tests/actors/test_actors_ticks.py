"""The caller's frames are the clock of the mouth; the playback actor only sees to it that the clock goes on."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable
from itertools import pairwise
from typing import Any

import pytest
import trio
from actors_scenes import ANSWER, GREETING, HOURS, play, saying

from callrt.actors.line import Line
from callrt.actors.metronome import Metronome, current_metronome
from callrt.actors.voice import beat_overdue
from callrt.supervision.waiting import Bell
from callrt.testing.carrier_media import LiveStream


async def test_speech_is_paced_by_the_callers_frames(
    monkeypatch: pytest.MonkeyPatch, autojump_clock: Any
) -> None:
    ticks: list[float] = []
    waits: Counter[Bell] = Counter()
    ticked, wait, rest = Metronome.ticked, Bell.wait, Bell.call

    def counted_tick(self: Metronome, due: float) -> None:
        ticks.append(trio.current_time())
        ticked(self, due)

    async def counted_wait(self: Bell) -> None:
        waits[self] += 1
        await wait(self)

    def counted_rest(self: Bell, then: Callable[[], None]) -> bool:
        waits[self] += 1
        return rest(self, then)

    monkeypatch.setattr(Metronome, "ticked", counted_tick)
    monkeypatch.setattr(Bell, "wait", counted_wait)
    monkeypatch.setattr(Bell, "call", counted_rest)
    scene = await play()
    assert scene.agent_words() == f"{GREETING} {ANSWER}"
    assert scene.twice() == scene.unheard() == 0
    # Hardly any task has woken for it: neither the playback actor nor another.
    assert len(ticks) > 3 * max(waits.values()) > 0


async def test_actors_that_only_wait_have_no_task_while_the_agent_speaks(
    monkeypatch: pytest.MonkeyPatch,
    autojump_clock: Any,
    all_tasks: Callable[[], list[trio.lowlevel.Task]],
) -> None:
    seen: list[set[str]] = []
    ticked = Metronome.ticked

    def look(self: Metronome, due: float) -> None:
        seen.append({task.name.rpartition("/")[2] for task in all_tasks() if "/CA" in task.name})
        ticked(self, due)

    monkeypatch.setattr(Metronome, "ticked", look)
    await play()
    assert len(seen) > 20
    usual = Counter(frozenset(names) for names in seen).most_common(1)[0][0]
    assert {"talk", "model", "carrier"} < usual
    assert not usual & {"journal", "tools", "playback"}


async def test_a_crash_in_a_tick_on_a_frame_fells_playback_and_the_call_goes_on(
    monkeypatch: pytest.MonkeyPatch, autojump_clock: Any
) -> None:
    crashed: list[float] = []
    ticked = Metronome.ticked

    def crash(self: Metronome, due: float) -> None:
        """Called in a tick only."""
        if not crashed and trio.current_time() > 2.0:
            crashed.append(trio.current_time())
            raise LookupError("a bug of ours")
        ticked(self, due)

    monkeypatch.setattr(Metronome, "ticked", crash)
    scene = await play(caller=saying(HOURS, silence=6.0))
    assert crashed
    assert [restart.actor for restart in scene.state.restarts] == ["playback"]
    assert scene.state.outcome == "caller_hung_up"
    assert ("caller", HOURS) in scene.transcript()


async def test_speech_goes_on_while_no_frame_comes(
    monkeypatch: pytest.MonkeyPatch, autojump_clock: Any
) -> None:
    undisturbed = await play()
    began = trio.current_time()
    send_audio = LiveStream.send_audio
    kept_back: list[float] = []
    beats: list[float] = []

    def kept(self: LiveStream, frame: bytes, *, discard: bool) -> bool:
        at = trio.current_time() - began
        if 0.5 < at < 4.0:
            kept_back.append(at)
            return True
        return send_audio(self, frame, discard=discard)

    ticked = Metronome.ticked

    def counted_tick(self: Metronome, due: float) -> None:
        beats.append(trio.current_time() - began)
        ticked(self, due)

    monkeypatch.setattr(LiveStream, "send_audio", kept)
    monkeypatch.setattr(Metronome, "ticked", counted_tick)
    scene = await play()
    assert len(kept_back) > 100
    early = [(at, frame) for at, frame in undisturbed.heard() if at < 4.0]
    assert len(early) > 100, "the greeting is spoken in that time"
    assert [frame for _, frame in scene.heard()[: len(early)]] == [frame for _, frame in early]
    for (at, _), (before, _) in zip(scene.heard(), early, strict=False):
        assert at - began == pytest.approx(before, abs=0.03)
    assert sum(0.6 < at < 4.0 for at in beats) > 10
    assert scene.twice() == scene.unheard() == 0


async def test_metronome_sleeps_while_nothing_is_due_and_ends_with_the_last_line(
    monkeypatch: pytest.MonkeyPatch, autojump_clock: Any
) -> None:
    looks: list[float] = []

    def counted(lines: list[Line], now: float) -> float:
        assert lines
        looks.append(now)
        return beat_overdue(lines, now)

    monkeypatch.setattr("callrt.actors.metronome.beat_overdue", counted)
    before = trio.lowlevel.current_statistics().tasks_living
    await play(caller=saying(HOURS, silence=5.0))
    # In the silence at the end it has hardly looked at all.
    assert max(later - earlier for earlier, later in pairwise(looks)) > 2
    metronome = current_metronome()
    assert metronome is current_metronome()
    seen = len(looks)
    metronome.expect(trio.current_time())
    await trio.sleep(100)
    assert len(looks) == seen
    assert trio.lowlevel.current_statistics().tasks_living == before
