"""Each checker finds what it is there to find: a violation is planted in the history of a sound call."""

from __future__ import annotations

import copy
from pathlib import Path
from typing import Any

import attrs
from sim_planted import altered, found, silenced, sound

import callrt.testing.sim.checkers as checkers_package
from callrt.policy.settings import Resilience
from callrt.protocol.records import ActorRestarted, CallEnded, Entry, StreamAttached, ToolIntended
from callrt.testing.carrier import Alert, Drop
from callrt.testing.carrier_stream import WireEvent
from callrt.testing.model_core import Told
from callrt.testing.model_faults import Fault, Trigger
from callrt.testing.sim.case import BadMessages, Flood
from callrt.testing.sim.cast import Effect
from callrt.testing.sim.checkers import CHECKERS
from callrt.testing.sim.checkers.verdicts import GUARANTEES
from callrt.testing.sim.history import History, Leftovers, Struck

CLOSED = Fault("close", Trigger(connection=1, reply=2, audio_ms=1000))
REFUSED = [Fault("refuse", Trigger(connection=n), status=503) for n in (2, 3, 4)]


def words_of_line(history: History, line: str) -> list[Any]:
    return [word for word in history.words if word.line == line]


def test_checker_answers_are_whole_finds_a_lost_word() -> None:
    history = sound()
    word = words_of_line(history, "hours")[5]
    assert "answers_are_whole" in found(altered(history, tape=silenced(history, word.began, word.ended)))


def test_checker_answers_are_whole_grants_half_a_word_to_each_lost_model() -> None:
    def with_the_end_cut_off(history: History, *indices: int) -> History:
        for index in indices:
            word = words_of_line(history, "hours")[index]
            history = altered(history, tape=silenced(history, word.began + 0.3 * word.ms / 1000, word.ended))
        return history

    assert "answers_are_whole" in found(with_the_end_cut_off(sound(), 9))
    assert "answers_are_whole" not in found(with_the_end_cut_off(sound(CLOSED), 9))
    assert "answers_are_whole" in found(with_the_end_cut_off(sound(CLOSED), 8, 9))


def test_checker_answers_are_whole_finds_words_heard_twice() -> None:
    history = sound()
    words = words_of_line(history, "hours")
    again = [each for each in history.call.tape.heard if words[2].began <= each.at < words[6].ended]
    shift = words[-1].ended + 0.02 - again[0].at
    spoken = {round(each.at + shift, 2): each for each in again}

    def repeat(heard: list[Any]) -> list[Any]:
        return [
            attrs.evolve(spoken[round(each.at, 2)], at=each.at) if round(each.at, 2) in spoken else each
            for each in heard
        ]

    assert "answers_are_whole" in found(altered(history, tape=repeat))


def test_checker_answers_are_whole_finds_a_wrong_order() -> None:
    history = sound()
    words = words_of_line(history, "hours")
    one, two = words[3], words[8]
    frames = {round(each.at, 2): each for each in history.call.tape.heard}

    def swap(heard: list[Any]) -> list[Any]:
        out = []
        for each in heard:
            for a, b in ((one, two), (two, one)):
                if a.began <= each.at < a.ended:
                    source = frames.get(round(b.began + each.at - a.began, 2))
                    if source is not None and b.began + each.at - a.began < b.ended:
                        each = attrs.evolve(source, at=each.at)
                    break
            out.append(each)
        return out

    assert "answers_are_whole" in found(altered(history, tape=swap))


def test_checker_turns_are_not_lost_finds_an_unheard_caller() -> None:
    history = sound()
    session = copy.copy(history.sessions[0])
    session.caller_turns = [turn for turn in session.caller_turns if "hours" not in turn.understood]
    assert "turns_are_not_lost" in found(altered(history, sessions=[session]))


def test_checker_storm_is_survived_finds_a_call_that_did_not_heal() -> None:
    assert "storm_is_survived" in found(altered(sound(), healed_at=None))


def test_checker_comfort_is_in_time_finds_silence_after_a_loss() -> None:
    history = sound(CLOSED, *REFUSED)
    (line,) = [line for line in history.bundled if line.name == "one_moment"]
    late = silenced(history, line.at, line.at + 0.5)
    assert "comfort_is_in_time" in found(altered(history, tape=late))


def test_checker_wait_is_bridged_finds_a_caller_left_in_silence() -> None:
    history = sound()
    start, end = history.window(0)
    impatient = attrs.evolve(history.case, stall_seconds=2.0)
    assert "wait_is_bridged" in found(altered(history, tape=silenced(history, start, end), case=impatient))


def test_checker_told_is_heard_finds_words_that_nobody_heard() -> None:
    history = sound(CLOSED)
    session = copy.copy(history.sessions[1])
    item = {
        "type": "message",
        "role": "assistant",
        "content": [{"type": "output_text", "text": "There is free parking"}],
    }
    session.told = [
        *session.told,
        Told(session.began + 0.1, {"type": "conversation.item.create", "item": item}),
    ]  # type: ignore[assignment]
    assert "told_is_heard" in found(altered(history, sessions=[history.sessions[0], session]))


def test_checker_permanent_is_not_retried_finds_another_session() -> None:
    history = sound(CLOSED)
    (struck,) = history.faults(Fault)
    permanent = Struck(struck.at, attrs.evolve(CLOSED, code=3000), 1)
    later = copy.copy(history.sessions[1])
    later.began = struck.at + 1.0
    assert "permanent_is_not_retried" in found(
        altered(history, struck=[permanent], sessions=[history.sessions[0], later])
    )


def test_checker_hand_over_has_a_reason_finds_a_transfer_for_nothing() -> None:
    assert "hand_over_has_a_reason" in found(_ended_as(sound(CLOSED), "transferred"))


def _ended_as(history: History, outcome: str) -> History:
    entries = [
        attrs.evolve(entry, record=CallEnded(outcome=outcome))
        if isinstance(entry.record, CallEnded)
        else entry
        for entry in history.entries
    ]
    return altered(history, entries=entries)


def test_checker_session_stays_finds_a_session_lost_with_a_stream() -> None:
    history = sound(Drop("rst", seconds=6.5))
    assert "session_stays" in found(altered(history, connections=2))


def test_checker_one_voice_finds_two() -> None:
    history = sound(Drop("rst", seconds=6.5))
    last = max(event.at for event in history.call.wire if event.stream == 2 and event.kind == "media")
    late = WireEvent(last, 1, False, "media", size=800)
    assert "one_voice" in found(altered(history, wire=lambda wire: [*wire, late]))


def test_checker_leases_grow_finds_one_that_does_not() -> None:
    history = sound(Drop("rst", seconds=6.5))
    entries = [
        attrs.evolve(entry, record=StreamAttached(stream_sid="MZ", generation=2, lease_epoch=1))
        if isinstance(entry.record, StreamAttached) and entry.record.generation == 2
        else entry
        for entry in history.entries
    ]
    assert "leases_grow" in found(altered(history, entries=entries))


def test_checker_clear_is_at_once_finds_a_late_clear() -> None:
    history = sound(asks=("hours", "price"), over=1500)
    late = [
        attrs.evolve(event, at=event.at + 0.05) if event.kind == "clear" else event
        for event in history.call.wire
    ]
    assert "clear_is_at_once" in found(altered(history, wire=lambda wire: late))


def test_checker_truncation_is_true_finds_a_lie() -> None:
    history = sound(asks=("hours", "price"), over=1500)
    session = copy.copy(history.sessions[0])
    session.truncations = [(at, item, ms + 400) for at, item, ms in session.truncations]
    assert "truncation_is_true" in found(altered(history, sessions=[session]))


def test_checker_effects_once_finds_two() -> None:
    history = sound()
    assert "effects_once" in found(altered(history, effects=[*history.effects, *history.effects]))


def test_checker_intent_before_effect_finds_an_unknown_effect() -> None:
    history = sound()
    early = [attrs.evolve(effect, at=0.1) for effect in history.effects]
    assert "intent_before_effect" in found(altered(history, effects=early))
    unknown = [*history.effects, Effect(5.0, "nobody's key", 1)]
    assert "intent_before_effect" in found(altered(history, effects=unknown))
    forgotten = [entry for entry in history.entries if not isinstance(entry.record, ToolIntended)]
    assert "intent_before_effect" in found(altered(history, entries=forgotten))


def test_checker_one_output_finds_none_and_two() -> None:
    history = sound()
    session = copy.copy(history.sessions[0])
    outputs = [
        told for told in session.told if told.event.get("item", {}).get("type") == "function_call_output"
    ]
    session.told = [*session.told, *outputs]  # type: ignore[assignment]
    assert "one_output" in found(altered(history, sessions=[session]))
    session.told = [told for told in history.sessions[0].told if told not in outputs]  # type: ignore[assignment]
    assert "one_output" in found(altered(history, sessions=[session]))


def test_checker_results_are_told_finds_a_forgotten_result() -> None:
    lost = Fault("close", Trigger(connection=1, event="input_audio_buffer.speech_started", count=3))
    history = sound(lost, asks=("hours", "book", "price"))
    session = copy.copy(history.sessions[1])
    session.told = [  # type: ignore[assignment]
        told for told in session.told if told.event.get("item", {}).get("type") != "function_call_output"
    ]
    assert "results_are_told" in found(altered(history, sessions=[history.sessions[0], session]))


def test_checker_ends_with_outcome_finds_none_and_a_wrong_one() -> None:
    history = sound()
    endless = [entry for entry in history.entries if not isinstance(entry.record, CallEnded)]
    assert "ends_with_outcome" in found(altered(history, entries=endless))
    for outcome in ("failed", "silence", "carrier_lost", "model_unavailable"):
        assert "ends_with_outcome" in found(_ended_as(history, outcome))
    too_long = history.placed_at + Resilience().max_call_seconds + 60
    assert "ends_with_outcome" in found(altered(history, over_at=too_long))


def test_checker_nothing_is_left_finds_a_task() -> None:
    assert "nothing_is_left" in found(altered(sound(), leftovers=Leftovers(tasks=1)))
    assert "nothing_is_left" in found(altered(sound(), leftovers=Leftovers(calls=1)))
    assert "nothing_is_left" in found(altered(sound(), leftovers=Leftovers(model_sockets=1)))


def test_checker_lead_is_bounded_finds_a_flooded_carrier() -> None:
    history = sound()
    flood = WireEvent(8.0, 1, False, "media", size=20_000)
    assert "lead_is_bounded" in found(altered(history, wire=lambda wire: [*wire, flood]))


def test_checker_others_notice_nothing_finds_a_harmed_neighbour() -> None:
    history = sound(Flood(1.0, 1))
    harmed = altered(history.others[0], healed_at=None)
    assert "others_notice_nothing" in found(altered(history, others=(harmed,)))
    word = words_of_line(history.others[0], "parking")[2]
    cut = altered(history.others[0], tape=silenced(history.others[0], word.began, word.ended))
    assert "others_notice_nothing" in found(altered(history, others=(cut,)))


def test_checker_peers_understand_us_finds_a_refusal() -> None:
    history = sound()
    alert = Alert(1.0, "CA", 1, 31951, "missing_field")
    assert "peers_understand_us" in found(altered(history, call={"alerts": [alert]}))
    session = copy.copy(history.sessions[0])
    session.refused = [(1.0, "invalid_event", "what is this?")]
    assert "peers_understand_us" in found(altered(history, sessions=[session]))


def test_checker_bad_input_is_reported_once_finds_a_flooded_log() -> None:
    history = sound(BadMessages(3.0, 5, "not_json"))
    line = ("CA", "warning", "the carrier sent a message that was not understood (not_json); it was skipped")
    assert "bad_input_is_reported_once" in found(altered(history, reports=[line] * 3))


def test_checker_secrets_stay_in_finds_a_callers_words() -> None:
    history = sound()
    leak = ("CA", "warning", "the caller said: What are your opening hours?")
    assert "secrets_stay_in" in found(altered(history, reports=[leak]))
    assert "secrets_stay_in" in found(altered(history, metrics='callrt_calls_live{caller="+15550100001"} 1'))
    record = ActorRestarted(actor="model", reason="a bug of ours, with the caller's words in it")
    entries = [*history.entries, Entry("CA", 999, 0.0, record)]
    assert "secrets_stay_in" in found(altered(history, entries=entries))


def test_checker_stuck_simulation_is_a_violation() -> None:
    assert "stuck" in found(altered(sound(), stuck="the call did not end"))


def test_checkers_all_have_a_planted_violation() -> None:
    tests = "".join(path.read_text("utf-8") for path in Path(__file__).parent.glob("test_sim_*.py"))
    for checker in CHECKERS:
        assert f"def test_checker_{checker.__name__}_" in tests, checker.__name__


def test_checkers_look_at_every_guarantee() -> None:
    source = "".join(path.read_text("utf-8") for path in Path(checkers_package.__file__).parent.glob("*.py"))
    for guarantee in GUARANTEES:
        assert f'"{guarantee}"' in source, guarantee
