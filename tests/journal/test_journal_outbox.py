"""Laws of the queue: order, bounds, and counts that follow it."""

from __future__ import annotations

from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, invariant, precondition, rule
from journal_helpers import append, said

from callrt.journal.outbox import Item, Outbox
from callrt.journal.store import Placed

ENTRIES_MAX = 6
MUST_MAX = 3


def item(must: bool = False, text: str = "a") -> Item:
    record = said(text)
    return Item(append("CA1", record), must=must, record=record)


def outbox(bytes_max: int = 10_000) -> Outbox:
    return Outbox(entries_max=ENTRIES_MAX, bytes_max=bytes_max, must_commit_max=MUST_MAX)


class OutboxMachine(RuleBasedStateMachine):
    """Against a list: what waits, and what is taken."""

    def __init__(self) -> None:
        super().__init__()
        self.box = outbox()
        self.waiting: list[Item] = []
        self.taken: list[Item] = []

    @rule(must=st.booleans())
    def put(self, must: bool) -> None:
        new = item(must)
        held = [old for old in (*self.waiting, *self.taken) if old.must == must]
        room = len(held) < (MUST_MAX if must else ENTRIES_MAX)
        assert self.box.put(new) == room
        if room:
            self.waiting.append(new)

    @precondition(lambda self: not self.taken)
    @rule(count=st.integers(1, 5))
    def take(self, count: int) -> None:
        self.taken, self.waiting = self.waiting[:count], self.waiting[count:]
        assert list(self.box.take(count)) == self.taken

    @precondition(lambda self: self.taken)
    @rule()
    def done(self) -> None:
        for number, old in enumerate(self.taken, 1):
            old.settle(Placed(number))
        self.box.done()
        self.taken = []

    @precondition(lambda self: self.taken)
    @rule(settled=st.booleans())
    def give_back(self, settled: bool) -> None:
        for old in self.taken:
            if settled and old.must:
                old.settle(Placed(1))
        self.box.give_back()
        self.waiting = [old for old in self.taken if old.result is None and not old.withdrawn] + self.waiting
        self.taken = []

    @precondition(lambda self: any(old.must and not old.withdrawn for old in (*self.waiting, *self.taken)))
    @rule(data=st.data())
    def withdraw(self, data: st.DataObject) -> None:
        candidates = [old for old in (*self.waiting, *self.taken) if old.must and not old.withdrawn]
        one = data.draw(st.sampled_from(candidates))
        if one in self.taken:
            assert not self.box.withdraw(one)
        else:
            assert self.box.withdraw(one)
            self.waiting.remove(one)

    @invariant()
    def counts_follow(self) -> None:
        held = [*self.taken, *self.waiting]
        assert list(self.box) == held
        assert len(self.box) == len(held)
        assert self.box.entries == sum(not old.must for old in held) <= ENTRIES_MAX
        assert self.box.must_commits == sum(old.must for old in held) <= MUST_MAX
        assert self.box.bytes == sum(old.size for old in held if not old.must)
        assert self.box.urgent == any(old.must for old in self.waiting)
        assert self.box.entries_waiting == sum(not old.must for old in self.waiting)


TestOutboxMachine = OutboxMachine.TestCase
TestOutboxMachine.settings = settings(max_examples=60, stateful_step_count=40, deadline=None)


def test_outbox_is_bounded_in_bytes() -> None:
    box = outbox(bytes_max=4_000)
    assert box.put(item(text="x" * 1_000))
    assert not box.put(item(text="x" * 1_000))
    assert box.put(item(must=True, text="x" * 1_000)), "those who wait cannot be pushed out"


def test_outbox_notifies_when_the_fate_is_known() -> None:
    told: list[str] = []
    box = outbox()
    one = item(must=True)
    one.notify = lambda: told.append("decided")
    box.put(one)
    box.take(1)
    assert told == []
    one.settle(Placed(1))
    assert told == ["decided"]
