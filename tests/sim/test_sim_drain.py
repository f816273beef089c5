"""G11 in simulation: its checkers find what they are there to find, and a process that leaves does so in good order."""

from __future__ import annotations

import copy

import attrs
from sim_planted import altered, found, silenced, sound

from callrt.testing.sim.case import Ask, Caller, Case, Drain
from callrt.testing.sim.checkers import judge
from callrt.testing.sim.history import Drained, History
from callrt.testing.sim.stage import play

ALONE = Drain(4.0, 3.0, alone=True)


def drained(history: History, **changes: object) -> Drained:
    (one,) = history.drained
    return attrs.evolve(one, **changes)


def test_drain_alone_declines_in_words_says_goodbye_and_goes() -> None:
    history = sound(ALONE, asks=("hours", "price"))
    (one,) = history.drained
    (declined,) = one.declined
    assert declined.carrier_said
    assert declined.end_reason in ("app_hung_up", "rejected")
    assert [line.name for line in history.bundled] == ["goodbye"]
    assert history.outcome == "completed"
    assert (one.left, one.over_at is not None) == (0, True)
    assert judge(history).checks["G11"] == 4


def test_drain_with_a_successor_hands_the_call_on() -> None:
    history = sound(Drain(4.0, 20.0), asks=("hours", "price"))
    assert history.outcome == "caller_hung_up"
    assert len(history.call.streams) == 2
    assert history.drained[0].declined == []


def test_drain_is_over_as_soon_as_the_caller_hangs_up() -> None:
    caller = Caller((Ask("parking"),), hangs_up_ms=500)
    history = play(Case(seed=3, caller=caller, faults=(Drain(4.0, 30.0, alone=True),)))
    assert judge(history).ok
    over_at = history.drained[0].over_at
    assert over_at is not None
    assert over_at - history.over_at < 3.0


def test_checker_drain_declines_in_words_finds_an_error_and_silence() -> None:
    history = sound(ALONE, asks=("hours", "price"))
    call = copy.copy(history.drained[0].declined[0])
    call.requests = [attrs.evolve(request, status=503) for request in call.requests]
    assert "drain_declines_in_words" in found(altered(history, drained=[drained(history, declined=[call])]))
    mute = copy.copy(history.drained[0].declined[0])
    mute.carrier_said = []
    assert "drain_declines_in_words" in found(altered(history, drained=[drained(history, declined=[mute])]))
    taken = copy.copy(history.drained[0].declined[0])
    taken.streams = history.call.streams
    assert "drain_declines_in_words" in found(altered(history, drained=[drained(history, declined=[taken])]))


def test_checker_drain_lets_calls_go_on_finds_one_that_was_cut() -> None:
    history = sound(ALONE, asks=("hours", "price"))
    assert "drain_lets_calls_go_on" in found(altered(history, drained=[drained(history, seconds=9.0)]))


def test_checker_drain_ends_politely_finds_no_goodbye_and_no_end() -> None:
    history = sound(ALONE, asks=("hours", "price"))
    (line,) = history.bundled
    wordless = altered(history, tape=silenced(history, line.at, history.over_at))
    assert "drain_ends_politely" in found(wordless)
    assert "drain_ends_politely" in found(altered(history, over_at=history.over_at + 60.0))


def test_checker_drained_process_goes_finds_one_that_stays() -> None:
    history = sound(ALONE, asks=("hours", "price"))
    assert "drained_process_goes" in found(altered(history, drained=[drained(history, over_at=None)]))
    assert "drained_process_goes" in found(altered(history, drained=[drained(history, left=1)]))
