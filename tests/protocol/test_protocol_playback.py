"""The mouth against a carrier that knows what was heard: laws of playback, and every scenario in words."""

from __future__ import annotations

import math

import pytest
from protocol_fake_carrier import FakeCarrier, Room, speech, twice_and_lost

from callrt.protocol.carriers.events import ClearAudio, SendAudio, SendMark
from callrt.protocol.playback import ItemCut, ItemHeard, Mouth, MouthLimits


def room(**carrier: object) -> Room:
    made = Room()
    made.attach(FakeCarrier(0, **carrier))  # type: ignore[arg-type]
    return made


def marks(commands: list[object]) -> list[str]:
    return [command.name for command in commands if isinstance(command, SendMark)]


def sent(commands: list[object]) -> bytes:
    return b"".join(command.payload for command in commands if isinstance(command, SendAudio))


# -- sending -----------------------------------------------------------------------------------------


def test_first_audio_goes_out_at_once_as_whole_frames() -> None:
    mouth = Mouth()
    mouth.attach(1, 0.0)
    mouth.push("a", 0, b"x" * 500)
    commands = mouth.pump(0.0)
    assert len(sent(commands)) == 480
    assert marks(commands) == ["1:0:a:60"]


def test_remainder_of_a_frame_waits_for_more_audio() -> None:
    mouth = Mouth()
    mouth.attach(1, 0.0)
    mouth.push("a", 0, b"x" * 100)
    assert mouth.pump(0.0) == []
    assert mouth.next_wakeup(0.0) == math.inf
    mouth.push("a", 0, b"y" * 60)
    assert sent(mouth.pump(0.0)) == b"x" * 100 + b"y" * 60


def test_remainder_is_padded_with_silence_at_the_end_of_the_item() -> None:
    mouth = Mouth()
    mouth.attach(1, 0.0)
    mouth.push("a", 0, b"x" * 100)
    mouth.end_item("a")
    assert sent(mouth.pump(0.0)) == b"x" * 100 + b"\xff" * 60
    assert mouth.items(0.0)[0].received_ms == 12


def test_each_chunk_is_followed_by_its_mark() -> None:
    mouth = Mouth()
    mouth.attach(3, 0.0)
    mouth.push("item:with:colons", 0, b"x" * 8000)
    commands = mouth.pump(0.0)
    assert [type(c) for c in commands] == [SendAudio, SendMark] * 3
    assert marks(commands) == [
        "3:0:item:with:colons:200",
        "3:0:item:with:colons:400",
        "3:0:item:with:colons:600",
    ]


def test_nothing_is_sent_without_a_stream() -> None:
    mouth = Mouth()
    mouth.push("a", 0, b"x" * 8000)
    assert mouth.pump(1.0) == []
    assert mouth.next_wakeup(1.0) == math.inf
    assert mouth.unheard_ms(1.0) == 1000
    mouth.attach(1, 2.0)
    assert sent(mouth.pump(2.0))


def test_small_deltas_are_gathered_once_there_is_a_lead() -> None:
    mouth = Mouth()
    mouth.attach(1, 0.0)
    chunks = 0
    for _ in range(100):
        mouth.push("a", 0, b"x" * 160)
        chunks += len(marks(mouth.pump(0.0)))
    assert chunks <= 14


def test_long_speech_plays_without_a_gap_and_completes() -> None:
    r = room()
    r.say(1, 500)
    r.run(11_000)
    assert r.frames() == [(1, n) for n in range(500)]
    assert not any(0 < at < 10_000 for at in r.carrier.dry_at)
    assert r.mouth.items(r.clock)[0].complete
    assert [i for o in r.outcomes for i in o.completed] == ["item_1"]
    assert r.mouth.unheard_ms(r.clock) == 0


def test_pump_is_called_a_few_times_a_second_not_more() -> None:
    r = room()
    r.say(1, 500)
    r.run(10_000)
    ticks_and_marks = 500 + 50
    assert r.pumps < ticks_and_marks * 2


def test_carrier_that_never_echoes_is_still_served() -> None:
    r = room(echoes=False)
    r.say(1, 1500)
    r.run(31_000)
    assert r.frames() == [(1, n) for n in range(1500)]
    assert not any(0 < at < 30_000 for at in r.carrier.dry_at)
    assert r.carrier.most_buffered_ms <= 600
    r.run(11_000)
    assert r.mouth.items(r.clock)[0].complete
    assert r.mouth.next_wakeup(r.clock) == math.inf


def test_carrier_whose_marks_cease_is_held_at_the_bound_and_then_served_again() -> None:
    r = room()
    r.say(1, 1000)
    r.run(1000)
    r.carrier.echoes = False
    r.run(4000)
    assert r.mouth.items(r.clock)[0].sent_ms <= 1000 + 2000
    assert r.mouth.marks_overdue(r.clock) > 3
    r.run(20_000)
    assert len(r.frames()) == 1000


def test_lines_are_said_behind_what_is_queued_and_never_in_its_midst() -> None:
    r = room()
    r.say(1, 40, end=False)
    r.mouth.say("one_moment", speech(9, 30))
    r.run(500)
    r.mouth.push("item_1", 0, speech(1, 80)[40 * 160 :])
    r.mouth.end_item("item_1")
    r.run(3000)
    assert r.frames() == [
        *[(1, n) for n in range(40)],
        *[(9, n) for n in range(30)],
        *[(1, n) for n in range(40, 80)],
    ]
    assert [line for o in r.outcomes for line in o.lines] == ["one_moment"]
    assert [p.item_id for p in r.mouth.items(r.clock)] == ["item_1"]


def test_a_line_said_twice_has_two_names_on_the_wire() -> None:
    mouth = Mouth()
    mouth.attach(1, 0.0)
    mouth.say("hold", b"x" * 160)
    mouth.say("hold", b"x" * 160)
    assert marks(mouth.pump(0.0)) == ["1:0:hold:20", "1:0:hold~2:20"]


def test_content_parts_of_an_item_have_their_own_positions() -> None:
    mouth = Mouth()
    mouth.attach(1, 0.0)
    mouth.push("a", 0, b"x" * 160)
    mouth.push("a", 1, b"y" * 320)
    mouth.end_item("a")
    assert marks(mouth.pump(0.0)) == ["1:0:a:20", "1:0:a/1:40"]
    assert [(p.content_index, p.received_ms) for p in mouth.items(0.0)] == [(0, 20), (1, 40)]


# -- marks -------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "name",
    [
        "",
        ":",
        "::::",
        "responsePart",
        "1:0:a",
        "1:0::20",
        "x:0:a:20",
        "1:0:a:-20",
        "1:0:a:2²",
        "9:0:a:20",
        "1:7:a:20",
    ],
)
def test_a_mark_that_is_not_ours_is_unknown_and_changes_nothing(name: str) -> None:
    mouth = Mouth()
    mouth.attach(1, 0.0)
    mouth.push("a", 0, b"x" * 160)
    mouth.pump(0.0)
    assert mouth.on_mark(name, 0.5).kind == "unknown"
    assert not mouth.items(0.0)[0].heard_ms


def test_duplicate_and_reordered_echoes_are_harmless() -> None:
    mouth = Mouth()
    mouth.attach(1, 0.0)
    mouth.push("a", 0, b"x" * 4800)
    mouth.end_item("a")
    names = marks(mouth.pump(0.0))
    assert mouth.on_mark(names[1], 0.45).kind == "played"
    assert mouth.on_mark(names[0], 0.46).kind == "stale"
    assert mouth.on_mark(names[1], 0.47).kind == "stale"
    assert mouth.items(0.45)[0].heard_ms == 400
    outcome = mouth.on_mark(names[2], 0.65)
    assert (outcome.kind, outcome.completed) == ("played", ("a",))


def test_echo_of_the_previous_reply_does_not_touch_the_next() -> None:
    mouth = Mouth()
    mouth.attach(1, 0.0)
    mouth.push("a", 0, b"x" * 1600)
    mouth.end_item("a")
    (late,) = marks(mouth.pump(0.0))
    mouth.push("b", 0, b"y" * 1600)
    (first,) = marks(mouth.pump(0.3))
    assert mouth.on_mark(first, 0.5).completed == ("a",)
    assert mouth.on_mark(late, 0.6).kind == "stale"
    assert [(p.item_id, p.heard_ms) for p in mouth.items(0.6)] == [("a", 200), ("b", 200)]


def test_an_item_that_ends_after_it_was_heard_completes_at_its_end() -> None:
    mouth = Mouth()
    mouth.attach(1, 0.0)
    mouth.push("a", 0, b"x" * 320)
    (name,) = marks(mouth.pump(0.0))
    assert mouth.on_mark(name, 0.05).completed == ()
    assert mouth.end_item("a")
    assert mouth.items(0.1)[0].complete


def test_playback_that_stalls_is_not_told_as_heard() -> None:
    """The chunk whose mark does not come is as far as it can have got."""
    r = room()
    r.say(1, 100)
    r.run(450)
    assert r.progress(1) > 400
    r.carrier.tick_at += 3000
    r.run(2000)
    assert r.progress(1) <= 600
    assert r.mouth.flush(r.clock).items[0].heard_ms <= 600


def test_a_carrier_ahead_of_the_estimate_is_given_more_at_once() -> None:
    mouth = Mouth()
    mouth.attach(1, 0.0)
    mouth.push("a", 0, b"x" * 16000)
    names = marks(mouth.pump(0.0))
    assert mouth.pump(0.1) == []
    mouth.on_mark(names[-1], 0.1)
    assert len(marks(mouth.pump(0.1))) == 3


def test_overdue_marks_are_evidence() -> None:
    r = room(echoes=False)
    r.say(1, 10)
    assert r.mouth.marks_overdue(r.clock) == 0.0
    r.run(1000)
    assert 0.6 < r.mouth.marks_overdue(r.clock) < 0.9


# -- barge-in ----------------------------------------------------------------------------------------


def test_flush_before_anything_was_played_tells_that_nothing_was_heard() -> None:
    r = room(down=lambda: 50, up=lambda: 50)
    r.say(1, 100)
    r.now += 10
    flush = r.mouth.flush(r.clock)
    assert flush.commands == (ClearAudio(),)
    assert flush.items == (ItemCut("item_1", 0, 0, 2000, True),)


def test_flush_when_nothing_is_unplayed_does_not_clear() -> None:
    r = room()
    r.say(1, 10)
    r.run(1000)
    flush = r.mouth.flush(r.clock)
    assert (flush.commands, flush.items, flush.epoch) == ((), (), 1)


def test_echoes_caused_by_the_clear_are_flushed_never_played() -> None:
    r = room()
    r.say(1, 100)
    r.run(330)
    pending = sum(isinstance(entry, str) for entry in r.carrier.buffer)
    assert pending > 1
    before = len(r.outcomes)
    flush = r.mouth.flush(r.clock)
    r.carrier.write(flush.commands, r.now)
    r.run(100)
    assert [o.kind for o in r.outcomes[before:]] == ["flushed"] * pending
    assert r.mouth.items(r.clock)[0].heard_ms == flush.items[0].heard_ms


@pytest.mark.parametrize("clear_echoes", [True, False])
def test_next_reply_plays_after_a_flush(clear_echoes: bool) -> None:
    r = room(clear_echoes=clear_echoes)
    r.say(1, 100)
    r.run(330)
    heard = len(r.frames())
    r.carrier.write(r.mouth.flush(r.clock).commands, r.now)
    r.say(2, 20)
    r.run(1000)
    assert r.frames()[heard + 1 :] == [(2, n) for n in range(20)] or r.frames()[heard:] == [
        (2, n) for n in range(20)
    ]
    assert [p.complete for p in r.mouth.items(r.clock)] == [False, True]


def test_two_item_reply_interrupted_in_the_first_item() -> None:
    r = room()
    r.say(1, 100)
    r.say(2, 50)
    r.run(700)
    first, second = r.mouth.flush(r.clock).items
    assert (first.item_id, first.received_ms) == ("item_1", 2000)
    assert 500 <= first.heard_ms <= 700
    assert second == ItemCut("item_2", 0, 0, 1000, True)


def test_two_item_reply_interrupted_in_the_second_item() -> None:
    r = room()
    r.say(1, 20)
    r.say(2, 50)
    r.run(900)
    (cut,) = r.mouth.flush(r.clock).items
    assert cut.item_id == "item_2"
    assert 340 <= cut.heard_ms <= 500


def test_interrupted_long_after_generation_was_done() -> None:
    r = room()
    r.say(1, 250)
    r.run(4000)
    flush = r.mouth.flush(r.clock)
    assert flush.commands == (ClearAudio(),)
    assert 3800 <= flush.items[0].heard_ms <= 4000


def test_late_audio_of_a_dead_item_is_dropped_and_counted() -> None:
    r = room()
    r.say(1, 100, end=False)
    r.run(300)
    r.mouth.flush(r.clock)
    assert r.mouth.push("item_1", 0, b"x" * 160) == 160
    assert r.mouth.dropped["dead_item"] == 160
    assert r.mouth.pump(r.clock) == []
    assert r.mouth.push("item_2", 0, b"x" * 160) == 0


def test_an_open_item_of_which_all_was_heard_is_cut_at_what_was_received() -> None:
    r = room()
    r.say(1, 10, end=False)
    r.run(1000)
    flush = r.mouth.flush(r.clock)
    assert flush.commands == ()
    assert flush.items == (ItemCut("item_1", 0, 200, 200, False),)
    assert r.mouth.push("item_1", 0, b"x") == 1


def test_flush_drops_lines_too() -> None:
    r = room()
    r.say(1, 100)
    r.mouth.say("one_moment", speech(9, 20))
    r.run(100)
    assert r.mouth.flush(r.clock).lines == ("one_moment",)
    assert r.mouth.audio_end(r.clock) == r.clock


def test_truncation_never_exceeds_the_models_own_audio() -> None:
    """Padding is ours: an item of 101 ms must not be truncated at 120."""
    mouth = Mouth()
    mouth.attach(1, 0.0)
    mouth.push("a", 0, b"x" * 808)
    (name,) = marks(mouth.pump(0.0))
    assert mouth.on_mark(name, 0.1).completed == ()
    assert mouth.flush(0.2).items == (ItemCut("a", 0, 100, 101, False),)
    mouth.push("b", 0, b"x" * 808)
    mouth.end_item("b")
    mouth.pump(0.3)
    assert mouth.items(9.9)[-1].heard_ms == 101


def test_muted_item_is_refused_before_its_first_audio() -> None:
    mouth = Mouth()
    mouth.mute("a")
    assert mouth.push("a", 0, b"x" * 160) == 160


# -- streams that end ---------------------------------------------------------------------------------


def test_reset_right_after_a_mark_loses_nothing_and_repeats_nothing() -> None:
    r = room()
    r.say(1, 200)
    while not r.outcomes or len(r.outcomes) < 3:
        r.run(1)
    r.drop()
    r.attach(FakeCarrier(r.now))
    r.run(5000)
    assert r.frames() == [(1, n) for n in range(200)]


def test_stop_with_pending_marks_keeps_the_tail() -> None:
    r = room()
    r.say(1, 30)
    r.run(100)
    lost = r.mouth.detach(r.clock)
    assert lost.unheard_ms >= 500
    assert not lost.items[0].complete
    r.attach(FakeCarrier(r.now))
    r.run(2000)
    assert r.mouth.items(r.clock)[0].complete


def test_reset_at_the_seam_of_two_items_goes_on_with_the_first() -> None:
    r = room()
    r.say(1, 20)
    r.say(2, 20)
    r.run(300)
    r.drop()
    r.attach(FakeCarrier(r.now))
    r.run(2000)
    again = r.streams[1].frames()
    assert again == sorted(again)
    assert again[0][0] == 1
    assert again[-1] == (2, 19)


def test_half_open_stream_is_frozen_at_the_last_evidence() -> None:
    r = room()
    r.say(1, 500)
    r.run(2000)
    dead_since = r.clock
    r.carrier.die(r.now)
    r.now += 4000
    r.pump()
    r.mouth.detach(r.clock, dead_since)
    r.attach(FakeCarrier(r.now))
    r.run(12_000)
    twice, lost = twice_and_lost(r.frames(), 500)
    assert lost <= 1
    assert twice <= 10


def test_a_newer_stream_replaces_the_old_one_without_a_gap() -> None:
    r = room()
    r.say(1, 100)
    r.run(500)
    old = r.carrier
    r.carrier.die(r.now)
    r.attach(FakeCarrier(r.now))
    assert r.mouth.generation == 2
    r.run(3000)
    assert r.mouth.on_mark("1:0:item_1:600", r.clock).kind == "stale"
    assert len(set(r.frames())) == 100
    assert len(old.heard) < 30


def test_a_new_stream_that_is_slow_to_begin_is_not_taken_as_heard() -> None:
    """Found by chaos: a carrier whose clock was late lost its second stream before it had played anything of it."""

    def heard_on_the_second_stream(*, echoes: bool) -> int:
        mouth = Mouth()
        mouth.attach(1, 0.0)
        mouth.push("a", 0, b"x" * 24_000)
        first = marks(mouth.pump(0.0))
        if echoes:
            mouth.on_mark(first[0], 0.2)
        mouth.detach(0.2)
        before = mouth.items(0.2)[0].heard_ms
        mouth.attach(2, 1.0)
        for tenths in range(10, 25):
            mouth.pump(tenths / 10)
        mouth.detach(2.5)
        return mouth.items(2.5)[0].heard_ms - before

    assert heard_on_the_second_stream(echoes=True) <= 200
    assert heard_on_the_second_stream(echoes=False) >= 1000


def test_an_older_generation_cannot_attach() -> None:
    mouth = Mouth()
    mouth.attach(2, 0.0)
    with pytest.raises(ValueError, match="not newer"):
        mouth.attach(2, 1.0)


def test_a_mouth_rebuilt_on_a_running_stream_takes_no_echo_of_its_predecessor() -> None:
    mouth = Mouth()
    mouth.attach(4, 0.0, epoch=1)
    mouth.push("a", 0, b"x" * 160)
    (name,) = marks(mouth.pump(0.0))
    assert mouth.on_mark("4:0:a:20", 0.0).kind == "flushed"
    assert mouth.on_mark(name, 0.1).kind == "played"


def test_positions_stand_still_without_a_stream() -> None:
    r = room()
    r.say(1, 100)
    r.run(500)
    r.drop()
    frozen = r.mouth.items(r.clock)[0]
    r.now += 30_000
    assert r.mouth.items(r.clock)[0] == frozen
    assert r.mouth.on_mark("1:0:item_1:600", r.clock).kind == "stale"
    assert r.mouth.marks_overdue(r.clock) == 0


def test_lines_are_dropped_not_replayed() -> None:
    r = room()
    r.mouth.say("one_moment", speech(9, 50))
    r.say(1, 20)
    r.run(200)
    r.carrier.die(r.now)
    assert r.mouth.detach(r.clock).lines == ("one_moment",)
    r.attach(FakeCarrier(r.now))
    r.run(2000)
    assert r.streams[1].frames() == [(1, n) for n in range(20)]


def test_epoch_starts_afresh_with_each_stream() -> None:
    r = room()
    r.mouth.flush(0.0)
    assert r.mouth.epoch == 1
    r.drop()
    r.attach(FakeCarrier(0))
    assert (r.mouth.generation, r.mouth.epoch) == (2, 0)


def test_barge_in_while_no_stream_is_there_cuts_at_the_frozen_position() -> None:
    r = room()
    r.say(1, 100)
    r.run(700)
    r.drop()
    (frozen,) = r.mouth.items(r.clock)
    flush = r.mouth.flush(r.clock + 5)
    assert flush.commands == ()
    assert flush.items[0].heard_ms == frozen.heard_ms


# -- bounds -------------------------------------------------------------------------------------------


def test_queue_bound_drops_the_rest_of_the_item_and_counts_it() -> None:
    mouth = Mouth(MouthLimits(queue_max_ms=1000))
    assert mouth.push("a", 0, b"x" * 9000) == 1000
    assert mouth.push("a", 0, b"x" * 10) == 10
    mouth.say("line", b"x" * 10)
    assert mouth.dropped == {"queue_full": 1020}
    mouth.attach(1, 0.0)
    mouth.end_item("a")
    for name in marks(mouth.pump(0.0)):
        mouth.on_mark(name, 1.0)
    assert mouth.push("b", 0, b"x" * 160) == 0


def test_padding_does_not_open_the_queue_again() -> None:
    mouth = Mouth(MouthLimits(queue_max_ms=1000))
    mouth.push("a", 0, b"x" * 7999)
    mouth.end_item("a")
    mouth.push("b", 0, b"x")
    mouth.end_item("b")
    assert mouth.push("c", 0, b"x" * 500) == 500


def test_number_of_items_is_bounded() -> None:
    mouth = Mouth()
    for n in range(100):
        mouth.push(f"item_{n}", 0, b"x")
    assert len(mouth.items(0.0)) == 64
    assert mouth.dropped == {"too_many_items": 36}


def test_history_of_items_is_bounded_and_keeps_the_newest() -> None:
    r = room()
    for n in range(100):
        r.say(n, 1)
        r.run(60)
    assert [p.item_id for p in r.mouth.items(r.clock)] == [f"item_{n}" for n in range(36, 100)]


def test_audio_after_the_end_of_an_item_is_dropped() -> None:
    mouth = Mouth()
    mouth.push("a", 0, b"x")
    mouth.end_item("a")
    assert mouth.push("a", 0, b"y" * 5) == 5
    assert mouth.dropped == {"ended_item": 5}


def test_complete_and_cut_items_are_told_once_and_forgotten() -> None:
    r = room()
    r.say(1, 10)
    r.say(2, 10)
    r.run(300)
    assert [(p.item_id, p.complete) for p in r.mouth.progress(r.clock)] == [
        ("item_1", True),
        ("item_2", False),
    ]
    r.mouth.flush(r.clock)
    assert [(p.item_id, p.cut) for p in r.mouth.progress(r.clock)] == [("item_2", True)]
    assert r.mouth.progress(r.clock) == r.mouth.items(r.clock) == ()


def test_item_that_never_ends_does_not_keep_what_has_been_heard_behind_it() -> None:
    r = room()
    r.say(1, 10, end=False)
    told = []
    for item in range(2, 100):
        r.say(item, 10)
        r.run(400)
        told += [p.item_id for p in r.mouth.progress(r.clock) if p.complete]
    assert told == [f"item_{item}" for item in range(2, 100)]
    assert [p.item_id for p in r.mouth.items(r.clock)] == ["item_1"]


def two_parts() -> Room:
    r = room()
    r.mouth.push("item_1", 0, speech(1, 10))
    r.mouth.push("item_1", 1, speech(2, 20))
    r.mouth.end_item("item_1")
    r.pump()
    return r


def test_item_of_two_parts_has_been_heard_when_both_have() -> None:
    r = two_parts()
    seen = []
    for _ in range(100):
        r.run(20)
        seen += r.mouth.progress(r.clock)
    assert [p.complete for p in seen] == [False] * (len(seen) - 1) + [True]
    assert [p.heard_ms for p in seen] == sorted(p.heard_ms for p in seen)
    assert seen[-1] == ItemHeard("item_1", 600, complete=True, cut=False)
    assert any(200 < p.heard_ms < 600 for p in seen)


def test_barge_in_in_the_second_part_tells_what_was_heard_of_the_first() -> None:
    r = two_parts()
    while r.mouth.progress(r.clock)[0].heard_ms < 400:
        r.run(20)
    (cut,) = r.mouth.flush(r.clock).items
    assert (cut.content_index, cut.before_ms) == (1, 200)
    assert 0 < cut.heard_ms <= 200
    assert r.mouth.progress(r.clock) == (ItemHeard("item_1", 200 + cut.heard_ms, complete=False, cut=True),)
    assert r.mouth.items(r.clock) == ()


@pytest.mark.parametrize("index", [0, 1])
def test_audio_after_the_end_of_a_forgotten_item_is_dropped(index: int) -> None:
    r = room()
    r.say(1, 10)
    r.run(500)
    assert r.mouth.progress(r.clock)[0].complete
    assert r.mouth.push("item_1", index, b"y" * 160) == 160
    assert r.mouth.dropped == {"dead_item": 160}


def test_items_that_outlive_their_session_do_not_bar_their_ids_in_the_next() -> None:
    r = room()
    r.say(1, 10)
    r.mouth.end_session()
    r.run(500)
    assert r.mouth.progress(r.clock)[0].complete
    assert r.mouth.push("item_1", 0, speech(7, 5)) == 0


def test_item_ids_may_come_again_in_a_new_model_session() -> None:
    r = room()
    r.say(1, 20, end=False)
    r.run(100)
    r.mouth.flush(r.clock)
    assert r.mouth.end_session() == ()
    assert r.mouth.push("item_1", 0, speech(7, 5)) == 0
    r.mouth.end_item("item_1")
    r.run(500)
    assert r.frames()[-5:] == [(7, n) for n in range(5)]


def test_end_of_a_session_lets_arrived_audio_play_to_its_end() -> None:
    r = room()
    r.mouth.push("item_1", 0, speech(1, 20) + b"x" * 10)
    r.mouth.end_session()
    r.run(1000)
    assert r.mouth.items(r.clock)[0].complete
    assert len(r.carrier.heard) == 21


# -- what others ask ----------------------------------------------------------------------------------


def test_audio_end_foretells_when_silence_comes() -> None:
    r = room()
    assert r.mouth.audio_end(5.0) == 5.0
    r.say(1, 200)
    foretold = r.mouth.audio_end(r.clock)
    r.run(6000)
    assert abs(foretold - (r.carrier.heard[-1][0] + 20) / 1000) <= 0.12


def test_speaking_names_what_is_at_the_ear() -> None:
    r = room()
    assert r.mouth.speaking(0.0) is None
    r.say(1, 20)
    r.mouth.say("one_moment", speech(9, 20))
    r.run(150)
    assert r.mouth.speaking(r.clock) == "item_1"
    r.run(450)
    assert r.mouth.speaking(r.clock) == "one_moment"
    r.run(600)
    assert r.mouth.speaking(r.clock) is None


@pytest.mark.parametrize("wrong", [{"chunk_ms": 50}, {"lead_ms": 0}, {"lead_max_ms": 100}, {"presume_ms": 1}])
def test_limits_that_cannot_be_kept_are_refused(wrong: dict[str, int]) -> None:
    with pytest.raises(ValueError):
        MouthLimits(**wrong)
