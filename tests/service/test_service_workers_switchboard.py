"""The parent's routing, with workers that are lists of what they were sent."""

from __future__ import annotations

import attrs
import trio
import trio.testing

from callrt.service.workers.messages import (
    Answer,
    Beat,
    Carries,
    Dropped,
    Family,
    FromParent,
    Knock,
    Leaving,
    Question,
    Ready,
    Tell,
    Theirs,
    Told,
    Whose,
    Yours,
)
from callrt.service.workers.switchboard import HOPELESS_TICKS, SILENT_TICKS, TELL_SECONDS, Member, Switchboard

FIELDS = (("CallSid", "CA1"),)


@attrs.define(eq=False)
class Line:
    sent: list[tuple[FromParent, int | None]] = attrs.field(factory=list)

    def send(self, message: FromParent, descriptor: int | None = None) -> bool:
        self.sent.append((message, descriptor))
        return True

    def take(self) -> list[FromParent]:
        taken, self.sent = [message for message, _ in self.sent], []
        return taken


def board(workers: int = 2) -> tuple[Switchboard, list[Member], list[Line]]:
    switchboard = Switchboard()
    lines = [Line() for _ in range(workers)]
    members = [switchboard.joined(number, line) for number, line in enumerate(lines, 1)]
    for member in members:
        switchboard.hear(member, Ready(), None)
    return switchboard, members, lines


def quiet(switchboard: Switchboard, but: Member, ticks: int) -> list[Member]:
    hopeless: list[Member] = []
    for _ in range(ticks):
        hopeless = switchboard.tick()
        switchboard.hear(but, Beat(), None)
    return hopeless


def test_question_goes_to_the_worker_that_has_the_call_and_its_answer_comes_back() -> None:
    switchboard, (one, two), (to_one, to_two) = board()
    switchboard.hear(one, Carries("CA1"), None)
    switchboard.hear(two, Whose(7, "CA1"), None)
    assert to_two.take() == [Theirs(7)]
    switchboard.hear(two, Question(8, "CA1", "/twilio/action", FIELDS), None)
    [asked] = to_one.take()
    assert isinstance(asked, Question)
    assert (asked.call_sid, asked.path, asked.fields) == ("CA1", "/twilio/action", FIELDS)
    switchboard.hear(one, Answer(asked.id, 200, b"<Response/>", "text/xml"), None)
    assert to_two.take() == [Answer(8, 200, b"<Response/>", "text/xml")]
    switchboard.hear(one, Answer(asked.id, 200, b"again", "text/xml"), None)
    assert to_two.take() == []


def test_worker_is_told_that_its_own_call_is_its_own() -> None:
    switchboard, (one, _), (to_one, _) = board()
    switchboard.hear(one, Carries("CA1"), None)
    switchboard.hear(one, Whose(1, "CA1"), None)
    switchboard.hear(one, Question(2, "CA1", "/twilio/action", FIELDS), None)
    assert to_one.take() == [Yours(1), Yours(2)]


def test_media_socket_is_passed_with_what_was_read_from_it() -> None:
    switchboard, (one, two), (to_one, _) = board()
    switchboard.hear(one, Carries("CA1"), None)
    switchboard.hear(two, Knock("CA1", b"GET /"), 42)
    assert to_one.sent == [(Knock("CA1", b"GET /"), 42)]


def test_question_to_a_worker_that_dies_is_asked_again_elsewhere() -> None:
    switchboard, (one, two, three), (to_one, to_two, to_three) = board(3)
    switchboard.hear(one, Carries("CA1"), None)
    switchboard.hear(two, Carries("CA2"), None)
    switchboard.hear(two, Question(5, "CA1", "/twilio/action", FIELDS), None)
    assert len(to_one.take()) == 1
    switchboard.left(one)
    [asked] = to_three.take()
    assert isinstance(asked, Question), "the one with the fewest calls"
    switchboard.left(three)
    assert to_two.take() == [Yours(5)]
    switchboard.left(three)
    assert switchboard.homes.load(two.serial) == 2


def test_silent_worker_is_passed_over_and_in_the_end_hopeless() -> None:
    switchboard, (one, two), (_, to_two) = board()
    switchboard.hear(one, Carries("CA1"), None)
    switchboard.hear(two, Question(5, "CA1", "/twilio/action", FIELDS), None)
    assert quiet(switchboard, two, SILENT_TICKS - 1) == []
    assert to_two.take() == [], "it may be busy"
    quiet(switchboard, two, 1)
    assert to_two.take() == [Yours(5)]
    assert one.state == "silent"
    switchboard.hear(one, Dropped("CA1", False), None)
    switchboard.hear(one, Whose(1, "CA1"), None)
    assert one.line.take()[-1] == Theirs(1), "awake again, it finds its call taken over"
    quiet(switchboard, two, HOPELESS_TICKS - 1)
    assert quiet(switchboard, two, 1) == [one]


def test_worker_that_leaves_keeps_its_calls_and_gets_no_new_ones() -> None:
    switchboard, (one, two), (_, to_two) = board()
    switchboard.hear(one, Carries("CA1"), None)
    switchboard.hear(one, Leaving(), None)
    assert one.wants_to_leave.is_set()
    switchboard.hear(two, Whose(1, "CA1"), None)
    assert to_two.take() == [Theirs(1)]
    switchboard.hear(one, Whose(1, "CA2"), None)
    assert one.line.take() == [Theirs(1)]
    switchboard.hear(one, Dropped("CA1", False), None)
    switchboard.hear(two, Whose(2, "CA1"), None)
    assert to_two.take() == [Yours(2)]


def test_worker_that_starts_gets_nothing() -> None:
    switchboard, (one,), (to_one,) = board(1)
    switchboard.joined(2, Line())
    for number in range(4):
        switchboard.hear(one, Whose(number, f"CA{number}"), None)
    assert to_one.take() == [Yours(number) for number in range(4)]


async def test_inquiry_ends_with_the_last_answer_or_the_death_of_who_owes_it(
    autojump_clock: trio.testing.MockClock,
) -> None:
    switchboard, (one, two, three), lines = board(3)
    answers: list[list[int]] = []

    async def inquire() -> None:
        told = await switchboard.inquire("calls")
        answers.append([member.number for member, _ in told])

    async with trio.open_nursery() as nursery:
        nursery.start_soon(inquire)
        await trio.testing.wait_all_tasks_blocked()
        [tell] = lines[1].take()
        assert isinstance(tell, Tell)
        switchboard.hear(two, Told(tell.id), None)
        switchboard.hear(one, Told(tell.id), None)
        await trio.testing.wait_all_tasks_blocked()
        assert answers == []
        switchboard.left(three)
    assert answers == [[1, 2]]
    begun = trio.current_time()
    await inquire()
    assert trio.current_time() - begun == TELL_SECONDS
    assert answers[1] == []


def test_counts_of_a_dead_worker_stay() -> None:
    switchboard, (one, two), _ = board()
    family = Family("callrt_x", "counter", "X.", (("callrt_x_total", (), 2.0),))
    switchboard.hear(one, Beat((family,)), None)
    switchboard.hear(two, Told(99, (family,)), None)
    switchboard.left(one)
    assert b"callrt_x_total 4.0" in switchboard.totals.exposition()
