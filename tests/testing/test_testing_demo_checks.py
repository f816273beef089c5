"""Each checker of the demo lets a good call pass and catches the violation that is planted in it."""

from __future__ import annotations

from collections.abc import Sequence

import attrs
import pytest

from callrt.testing.carrier_tape import HeardFrame, frames_of
from callrt.testing.demo import checks
from callrt.testing.demo.hearing import Spoken, listen
from callrt.testing.demo.plot import BREAKS, EXCHANGES, make_plot
from callrt.testing.demo.waits import Waits
from callrt.testing.model_voice import BeepVoice

SILENCE = b"\xff" * 160
VOICE = BeepVoice(3)
LINE = "we are open from nine until five"
COMFORT = BeepVoice(4)("one moment please")


def say(text: str, **facts: object) -> Spoken:
    audio, ends = VOICE.timed(text)
    return attrs.evolve(Spoken(audio, text, ends), **facts)


def tape(*parts: bytes | int, start: float = 0.0) -> list[HeardFrame]:
    """Audio, or so many milliseconds of a dry buffer, one after the other."""
    frames: list[tuple[bytes, int]] = []
    for part in parts:
        if isinstance(part, int):
            frames += [(SILENCE, 0)] * (part // 20)
        else:
            frames += [(frame, 160) for frame in frames_of(part)]
    return [
        HeardFrame(start + n * 0.02, frame, 1, "stream" if size else "", size)
        for n, (frame, size) in enumerate(frames)
    ]


SPOKEN = [say(LINE)]
AUDIO = SPOKEN[0].audio
HALF = 160 * 40


def twice(heard: Sequence[HeardFrame]) -> checks.Guarantee:
    return checks.heard_once("G2", "", listen(heard, SPOKEN), [0])


def lost(heard: Sequence[HeardFrame], cut: Sequence[int] = ()) -> checks.Guarantee:
    return checks.none_lost("G2", "", listen(heard, SPOKEN), SPOKEN, [0], cut)


def test_a_line_heard_with_a_pause_in_its_middle_is_heard_once_and_whole() -> None:
    heard = tape(100, AUDIO[:HALF], 600, AUDIO[HALF:])
    assert twice(heard).held
    assert lost(heard).held


def test_a_frame_heard_twice_is_counted() -> None:
    verdict = twice(tape(AUDIO[:HALF], AUDIO[HALF - 480 : HALF], AUDIO[HALF:]))
    assert not verdict.held
    assert verdict.figure.startswith("3 frames")


def test_frames_out_of_order_are_noticed_though_each_is_heard_once() -> None:
    assert not twice(tape(AUDIO[HALF:], AUDIO[:HALF])).held


def test_a_frame_never_heard_is_counted() -> None:
    verdict = lost(tape(AUDIO[:HALF], AUDIO[HALF + 320 :]))
    assert not verdict.held
    assert verdict.figure.startswith("2 of ")


def test_a_cut_item_owes_nothing_behind_the_cut_and_everything_before_it() -> None:
    assert lost(tape(AUDIO[:HALF]), cut=[0]).held
    assert not lost(tape(AUDIO[:HALF])).held
    assert not lost(tape(AUDIO[: HALF - 800], AUDIO[HALF - 480 : HALF]), cut=[0]).held


def test_an_answer_of_which_nothing_was_made_proves_nothing() -> None:
    assert not checks.none_lost("G2", "", listen([], []), [], [], ()).held


@pytest.mark.parametrize(("silence", "held"), [(0, True), (300, True), (320, False), (2000, False)])
def test_silence_before_the_comfort_line_is_measured_from_the_last_sound(silence: int, held: bool) -> None:
    heard = tape(AUDIO[:HALF], silence, COMFORT)
    verdict, span = checks.comfort_in_time(heard, 0.1, COMFORT, 300)
    assert verdict.held is held
    assert verdict.figure == f"{silence} ms"
    assert span is not None


def test_what_the_machine_had_no_processor_for_is_told_apart_and_excuses_no_more_than_itself() -> None:
    heard = tape(AUDIO[:HALF], 500, COMFORT)
    waits = Waits()
    for n in range(500):
        waits.note(n * 0.01, min(max(0.0, n * 0.01 - 0.85), 0.25))
    verdict, _ = checks.comfort_in_time(heard, 0.1, COMFORT, 300, waits)
    assert verdict.held
    assert verdict.figure == "500 ms, 250 of it waiting for a processor"
    assert not checks.comfort_in_time(heard, 0.1, COMFORT, 200, waits)[0].held
    assert checks.clear_in_time([0.9], [0.95], waited=waits).held
    assert not checks.clear_in_time([2.0], [2.05], waited=waits).held
    assert waits.between(0.9, 0.95) == pytest.approx(0.05)
    assert Waits().between(0.0, 9.0) == 0.0


def test_a_comfort_line_that_nobody_heard_is_a_failure() -> None:
    verdict, span = checks.comfort_in_time(tape(AUDIO), 0.1, COMFORT, 300)
    assert (verdict.held, span) == (False, None)


def test_a_model_that_does_not_speak_again_has_not_recovered() -> None:
    assert checks.model_recovered([1.0, 4.5], 2.0, 20).held
    assert not checks.model_recovered([1.0, 24.5], 2.0, 20).held
    assert not checks.model_recovered([1.0], 2.0, 20).held


@pytest.mark.parametrize(
    ("pieces", "held"),
    [
        (["we are open from", "nine until five"], True),
        (["we are open from", "open from nine until five"], True),
        (["we are open from", "we are open from nine until five"], False),
        (["we are open", "nine until five"], False),
        (["we are open from", "nine until"], False),
        (["we are open from", "nothing of the kind"], False),
        ([], False),
    ],
)
def test_words_repeated_or_missing_at_a_seam_are_noticed(pieces: list[str], held: bool) -> None:
    assert checks.words_once("G1", "", LINE, [piece.split() for piece in pieces]).held is held


@pytest.mark.parametrize(
    ("started", "clears", "held"),
    [
        ([1.0], [1.02], True),
        ([1.0], [1.021], False),
        ([1.0, 5.0], [1.01, 5.03], False),
        ([1.0], [], False),
        ([2.0], [1.0], False),
    ],
)
def test_a_late_or_missing_or_groundless_clear_is_noticed(
    started: list[float], clears: list[float], held: bool
) -> None:
    assert checks.clear_in_time(started, clears).held is held


@pytest.mark.parametrize(
    ("told", "held"), [(1000, True), (1020, True), (1040, False), (400, True), (380, False)]
)
def test_a_model_told_more_than_was_heard_or_far_less_is_noticed(told: int, held: bool) -> None:
    assert checks.told_is_heard([say(LINE, truncated_ms=told)], {0: 1000}).held is held


def test_a_model_told_nothing_of_an_interruption_is_noticed() -> None:
    assert not checks.told_is_heard(SPOKEN, {0: 1000}).held


@pytest.mark.parametrize(
    ("effects", "held"),
    [(["a", "b"], True), (["a", "b", "a"], False), (["a"], False), (["a", "b", "c"], False)],
)
def test_side_effects_that_are_doubled_missing_or_unasked_are_noticed(effects: list[str], held: bool) -> None:
    assert checks.effects_once(effects, ["a", "b"]).held is held


@pytest.mark.parametrize(
    ("live", "before", "after", "held"),
    [
        (0.0, 13, 13, True),
        (0.0, None, None, True),
        (1.0, 13, 13, False),
        (0.0, 13, 14, False),
        (None, 1, 1, False),
    ],
)
def test_what_is_left_behind_is_noticed(
    live: float | None, before: int | None, after: int | None, held: bool
) -> None:
    assert checks.nothing_left(live, before, after).held is held


@pytest.mark.parametrize(
    ("log", "held"),
    [
        ("level=info message=draining calls=0", True),
        ("authorization: Bearer sk-secret", False),
        ("the caller said: We are OPEN, from nine!", False),
        ("the gate is open from nine", True),
    ],
)
def test_a_key_or_words_in_the_log_are_noticed(log: str, held: bool) -> None:
    assert checks.secrets_kept(log, {"the key": "sk-secret"}, ["We are open. Yes."]).held is held


@pytest.mark.parametrize(
    ("state", "outcome", "held"),
    [("ended", "completed", True), ("live", None, False), ("ended", "failed", False), ("ended", None, False)],
)
def test_a_call_without_its_outcome_is_noticed(state: str, outcome: str | None, held: bool) -> None:
    assert checks.ended_with_outcome({"state": state, "outcome": outcome}).held is held


def test_a_server_that_does_not_end_in_order_is_noticed() -> None:
    assert checks.drained(0).held
    assert not checks.drained(-9).held


def test_a_message_that_an_emulator_refused_is_noticed() -> None:
    assert checks.nothing_refused([], []).held
    assert not checks.nothing_refused(["wrong_stream"], []).held
    assert not checks.nothing_refused([], ["invalid_value"]).held


def test_a_turn_forgotten_by_the_next_process_is_noticed() -> None:
    show = {"transcript": [{"role": "caller", "text": "Book me in."}, {"role": "agent", "text": "Good day."}]}
    assert checks.revived(show, 1, 2.0, ["book me in"]).held
    assert not checks.revived(show, 1, 2.0, ["book me in", "good day"]).held
    assert not checks.revived(show, 1, None, []).held


def test_a_tool_that_failed_unnoticed_is_noticed() -> None:
    sorry = "I am sorry."
    hung = [{"name": "text_address", "status": "timeout"}]
    assert checks.tool_failed_softly(hung, "text_address", sorry.split(), sorry).held
    assert not checks.tool_failed_softly(hung, "text_address", ["I"], sorry).held
    assert not checks.tool_failed_softly(hung * 2, "text_address", sorry.split(), sorry).held
    ok = [{"name": "text_address", "status": "ok"}]
    assert not checks.tool_failed_softly(ok, "text_address", sorry.split(), sorry).held


def test_a_stream_that_stays_away_and_a_second_reply_are_noticed() -> None:
    assert checks.stream_returned(2.0, [0.0, 2.5], 15).held
    assert not checks.stream_returned(2.0, [0.0], 15).held
    assert not checks.stream_returned(2.0, [18.0], 15).held
    assert checks.session_stayed([2]).held
    assert not checks.session_stayed([2, 3]).held
    assert not checks.session_stayed([]).held


def test_a_plot_is_its_seed_and_breaks_what_it_is_told() -> None:
    for what in BREAKS:
        plot = make_plot(what, 5)
        assert plot == make_plot(what, 5)
        struck = {exchange.strikes for exchange in plot.exchanges if plot.broken(exchange)}
        assert struck == {"none": set(), "all": {"model", "carrier", "tool", "process"}}.get(what, {what})
    assert {e.at_ms for s in range(9) for e in make_plot("all", s).exchanges[:1]} != {EXCHANGES[0].at_ms}
