"""Whatever the model, the caller and the network do: never told more than was heard, nothing lost, no gap."""

from __future__ import annotations

import random
from collections.abc import Callable

from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, invariant, precondition, rule
from protocol_fake_carrier import FakeCarrier, Room, speech, twice_and_lost

from callrt.protocol.playback import MouthLimits

LIMITS = MouthLimits()
MS = st.integers(0, 1000)
LATENCY = st.integers(0, 100)
ROUND_TRIP = st.tuples(LATENCY, LATENCY).filter(lambda t: sum(t) <= 100)
"""Down and up, in ms."""


def jitter(seed: int, most: int) -> Callable[[], int]:
    rng = random.Random(seed)
    return lambda: rng.randint(0, most)


@settings(deadline=None, max_examples=60)
@given(
    deltas=st.lists(st.tuples(st.integers(1, 4000), st.integers(0, 400)), min_size=1, max_size=25),
    latency=st.integers(0, 150),
    phase=st.integers(0, 19),
)
def test_no_gap_while_the_mouth_holds_audio(deltas: list[tuple[int, int]], latency: int, phase: int) -> None:
    """Deltas of any size at any pace: the carrier runs dry only when there was nothing to send."""
    room = Room()
    room.attach(FakeCarrier(0, down=lambda: latency, up=lambda: latency, phase=phase))
    whole = speech(1, sum(size for size, _ in deltas) // 160 + 1)
    at = 0
    sendable: list[tuple[int, int]] = []
    for size, pause in deltas:
        room.mouth.push("item_1", 0, whole[at : at + size])
        at += size
        room.pump()
        sendable.append((room.now, at // 160))
        room.run(pause)
    room.mouth.end_item("item_1")
    room.pump()
    room.run(at // 8 + 1000)
    assert room.mouth.items(room.clock)[0].complete
    plays = [start for start, _ in room.carrier.heard]
    ready = phase
    for n, start in enumerate(plays):
        pushed = next((when for when, frames in sendable if frames > n), room.now)
        earliest = max(ready, pushed + latency)
        assert start <= max(earliest + 20, ready) or n == len(plays) - 1
        ready = start + 20


@settings(deadline=None, max_examples=80)
@given(
    items=st.lists(st.integers(1, 150), min_size=1, max_size=4),
    gaps=st.lists(st.integers(0, 1500), min_size=4, max_size=4),
    looks=st.lists(st.integers(1, 400), min_size=1, max_size=25),
    down=LATENCY,
    up=LATENCY,
    phase=st.integers(0, 19),
)
def test_told_as_heard_is_never_more_and_hardly_less(
    items: list[int], gaps: list[int], looks: list[int], down: int, up: int, phase: int
) -> None:
    room = Room()
    room.attach(FakeCarrier(0, down=lambda: down, up=lambda: up, phase=phase))
    pending = list(enumerate(zip(items, gaps, strict=False), 1))
    next_push = 0
    for look in looks:
        while pending and room.now >= next_push:
            number, (frames, gap) = pending.pop(0)
            room.say(number, frames)
            next_push = room.now + gap
        room.run(look)
        for progress in room.mouth.items(room.clock):
            truth = room.carrier.heard_ms(int(progress.item_id[5:]), room.now)
            assert progress.heard_ms <= truth + 20, (progress, truth, room.now)
            if truth < items[int(progress.item_id[5:]) - 1] * 20:
                assert progress.heard_ms >= truth - (180 + up + 40), (progress, truth, room.now)


@settings(deadline=None, max_examples=80)
@given(
    items=st.lists(st.integers(1, 150), min_size=1, max_size=3),
    when=st.integers(0, 4000),
    down=LATENCY,
    up=LATENCY,
    phase=st.integers(0, 19),
)
def test_barge_in_cuts_at_what_was_heard(items: list[int], when: int, down: int, up: int, phase: int) -> None:
    room = Room()
    room.attach(FakeCarrier(0, down=lambda: down, up=lambda: up, phase=phase))
    for number, frames in enumerate(items, 1):
        room.say(number, frames)
    room.run(when)
    truth = [room.carrier.heard_ms(number, room.now) for number in range(1, len(items) + 1)]
    flush = room.mouth.flush(room.clock)
    cuts = {cut.item_id: cut for cut in flush.items}
    for number, heard in enumerate(truth, 1):
        cut = cuts.get(f"item_{number}")
        if cut is None:
            assert heard >= items[number - 1] * 20 - 20
        else:
            assert cut.heard_ms <= heard
            assert cut.heard_ms >= heard - 600
    assert [cut.item_id for cut in flush.items] == sorted(cuts)
    room.carrier.write(flush.commands, room.now)
    room.run(1000)
    assert all(o.kind != "unknown" for o in room.outcomes)
    assert room.mouth.pump(room.clock) == []


@settings(deadline=None, max_examples=120)
@given(
    frames=st.integers(1, 300),
    drops=st.lists(st.tuples(st.integers(0, 1500), st.integers(0, 3000)), min_size=1, max_size=4),
    round_trip=ROUND_TRIP,
    phase=st.integers(0, 19),
)
def test_resets_at_any_instant_repeat_little_and_lose_nothing(
    frames: int, drops: list[tuple[int, int]], round_trip: tuple[int, int], phase: int
) -> None:
    """Each reset: at most 200 ms twice, at most 20 ms lost."""
    down, up = round_trip
    room = Room()
    room.attach(FakeCarrier(0, down=lambda: down, up=lambda: up, phase=phase))
    room.say(1, frames)
    for after, gap in drops:
        room.run(after)
        room.drop(notice_ms=up)
        room.now += gap
        room.attach(FakeCarrier(room.now, down=lambda: down, up=lambda: up, phase=phase))
    room.run(frames * 20 + 1500)
    twice, lost = twice_and_lost(room.frames(), frames)
    assert lost <= len(drops)
    for before, after_ in zip(room.streams, room.streams[1:], strict=False):
        if before.frames() and after_.frames():
            last, first = before.frames()[-1][1], after_.frames()[0][1]
            assert last - first < 10, "more than 200 ms twice"
            assert first <= last + 2, "more than 20 ms lost"
    assert twice <= 10 * len(drops)
    assert room.mouth.items(room.clock)[0].complete
    for stream in room.streams:
        assert stream.frames() == sorted(set(stream.frames())), "in order, once per stream"


@settings(deadline=None, max_examples=60)
@given(seed=st.integers(0, 2**32 - 1), frames=st.integers(50, 300), when=st.integers(0, 4000))
def test_reset_seen_through_jitter_loses_at_most_a_frame(seed: int, frames: int, when: int) -> None:
    """With the last evidence given, a late notice cannot let the estimate run ahead of the truth."""
    room = Room()
    room.attach(FakeCarrier(0, down=jitter(seed, 60), up=jitter(seed + 1, 60)))
    room.say(1, frames)
    room.run(when)
    died = room.now
    room.carrier.die(died)
    room.now += 500
    room.mouth.detach(room.clock, died / 1000)
    room.attach(FakeCarrier(room.now))
    room.run(frames * 20 + 1500)
    twice, lost = twice_and_lost(room.frames(), frames)
    assert lost <= 1
    assert twice <= 11


class Storm(RuleBasedStateMachine):
    """Everything at once, then calm: what was not cut has been heard to its end."""

    def __init__(self) -> None:
        super().__init__()
        self.room = Room()
        self.pushed: dict[int, int] = {}
        self.open: list[int] = []
        self.cut: list[int] = []
        self.seen: list[str] = []
        self.attached = False
        self.generation_latency = 0
        self.drops = 0

    @rule(latency=st.integers(0, 50), phase=st.integers(0, 19))
    def attach(self, latency: int, phase: int) -> None:
        if self.attached:
            self.drop()
        carrier = FakeCarrier(self.room.now, down=lambda: latency, up=lambda: latency, phase=phase)
        self.generation_latency = latency
        self.room.attach(carrier)
        self.attached = True

    @precondition(lambda self: self.attached)
    @rule()
    def drop(self) -> None:
        self.room.drop(self.generation_latency)
        self.drops += 1
        self.attached = False

    @rule(frames=st.integers(1, 100), end=st.booleans())
    def say(self, frames: int, end: bool) -> None:
        number = len(self.pushed) + 1
        for other in self.open:
            self.room.mouth.end_item(f"item_{other}")
        self.open = []
        self.pushed[number] = frames
        self.room.say(number, frames, end=end)
        if not end:
            self.open = [number]

    @precondition(lambda self: bool(self.open))
    @rule(frames=st.integers(1, 50))
    def say_more(self, frames: int) -> None:
        (number,) = self.open
        before = self.pushed[number]
        self.pushed[number] += frames
        self.room.mouth.push(f"item_{number}", 0, speech(number, before + frames)[before * 160 :])
        self.room.pump()

    @rule(ms=MS)
    def wait(self, ms: int) -> None:
        if self.attached:
            self.room.run(ms)
        else:
            self.room.now += ms

    @precondition(lambda self: bool(self.room.streams))
    @rule(which=st.integers(0, 50), generation=st.integers(0, 3))
    def stray_mark(self, which: int, generation: int) -> None:
        """Echoes of other streams and other epochs, and nonsense."""
        mouth = self.room.mouth
        name = f"{mouth.generation - generation}:{mouth.epoch - 1 - which % 3}:item_{which}:{which * 20}"
        kind = mouth.on_mark(name, self.room.clock).kind
        assert kind != "played"

    @precondition(lambda self: self.attached)
    @rule()
    def barge_in(self) -> None:
        room = self.room
        truth = {n: room.carrier.heard_ms(n, room.now) for n in self.pushed}
        earlier = {n: sum(s.heard_ms(n, room.now) for s in room.streams[:-1]) for n in self.pushed}
        flush = room.mouth.flush(room.clock)
        for cut in flush.items:
            number = int(cut.item_id[5:])
            self.cut.append(number)
            assert cut.heard_ms <= truth[number] + earlier[number]
            assert cut.received_ms == self.pushed[number] * 20
        self.open = [n for n in self.open if n not in self.cut]
        room.carrier.write(flush.commands, room.now)
        room.pump()

    @invariant()
    def nothing_is_created_or_forgotten(self) -> None:
        mouth, now = self.room.mouth, self.room.clock
        progress = mouth.items(now)
        heard = sum(p.heard_ms for p in progress)
        received = sum(p.received_ms for p in progress)
        if len(self.pushed) <= 64:
            assert received == sum(self.pushed.values()) * 20
            assert received == heard + mouth.unheard_ms(now) + mouth.dropped.get("flushed", 0) // 8
        assert all(0 <= p.heard_ms <= p.sent_ms or p.cut for p in progress)
        assert all(p.sent_ms <= p.received_ms for p in progress)

    @invariant()
    def the_lead_is_bounded(self) -> None:
        assert all(s.most_buffered_ms <= LIMITS.lead_ms + LIMITS.chunk_ms + 20 for s in self.room.streams)

    def teardown(self) -> None:
        room = self.room
        for number in self.open:
            room.mouth.end_item(f"item_{number}")
        if not self.attached:
            room.attach(FakeCarrier(room.now))
        room.pump()
        room.run(sum(self.pushed.values()) * 20 + 1000)
        frames = room.frames()
        for number, length in self.pushed.items():
            if number not in self.cut:
                heard = {n for item, n in frames if item == number}
                assert heard <= set(range(length))
                assert length - len(heard) <= self.drops, f"item {number} has a hole"
        for stream in room.streams:
            assert stream.frames() == sorted(set(stream.frames())), "out of order, or twice on one stream"
        assert room.mouth.unheard_ms(room.clock) == 0
        assert room.mouth.speaking(room.clock) is None


TestStorm = Storm.TestCase
TestStorm.settings = settings(deadline=None, max_examples=60, stateful_step_count=30)
