"""Which worker has which call: even, steady, and gone with the worker."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, invariant, rule

from callrt.service.workers.homes import Homes


def test_new_calls_go_to_the_worker_with_the_fewest() -> None:
    homes = Homes()
    placed = [homes.place(f"CA{n}", [1, 2, 3], asker=1) for n in range(9)]
    assert [placed.count(worker) for worker in (1, 2, 3)] == [3, 3, 3]
    homes.dropped(2, "CA1", ended=True)
    assert placed[1] == 2
    assert homes.place("new", [1, 2, 3], asker=1) == 2


def test_of_equals_the_one_that_was_asked_takes_the_call() -> None:
    assert Homes().place("CA1", [1, 2, 3], asker=3) == 3


def test_call_keeps_its_worker_also_after_its_end() -> None:
    homes = Homes()
    assert homes.place("CA1", [1, 2], asker=2) == 2
    homes.place("CA2", [1, 2], asker=2)
    homes.dropped(2, "CA1", ended=True)
    assert homes.place("CA1", [1, 2], asker=1) == 2
    assert homes.load(2) == 0, "a question about an ended call is no call"


def test_leaving_worker_keeps_live_and_ended_calls_and_gets_no_others() -> None:
    homes = Homes()
    for call in ("live", "ended", "moved"):
        homes.carries(1, call)
    homes.dropped(1, "ended", ended=True)
    homes.dropped(1, "moved", ended=False)
    answers = {
        call: homes.place(call, [2], leaving=[1], asker=2) for call in ("live", "ended", "moved", "new")
    }
    assert answers == {"live": 1, "ended": 1, "moved": 2, "new": 2}


def test_dead_workers_calls_find_another_home() -> None:
    homes = Homes()
    homes.carries(1, "live")
    homes.carries(1, "ended")
    homes.dropped(1, "ended", ended=True)
    homes.gone(1)
    assert homes.place("live", [2], asker=2) == 2
    assert homes.place("ended", [2], asker=2) == 2


def test_worker_that_lost_a_call_cannot_drop_it_for_the_one_that_has_it() -> None:
    homes = Homes()
    homes.carries(1, "CA1")
    homes.carries(2, "CA1")
    homes.dropped(1, "CA1", ended=False)
    assert homes.place("CA1", [1, 2], asker=1) == 2


def test_without_workers_the_asker_answers() -> None:
    assert Homes().place("CA1", [], asker=7) == 7


@given(st.lists(st.integers(0, 30), max_size=80), st.integers(1, 5))
def test_what_is_remembered_of_past_calls_is_bounded(calls: list[int], most: int) -> None:
    homes = Homes(past_max=most)
    for call in calls:
        worker = homes.place(f"CA{call}", [1, 2], asker=1)
        homes.dropped(worker, f"CA{call}", ended=True)
        assert len(homes._past) <= most
        assert not homes._live


class Spreading(RuleBasedStateMachine):
    """Any order of events: loads are true, and no living worker's call is given away."""

    def __init__(self) -> None:
        super().__init__()
        self.homes = Homes()
        self.workers = [1, 2, 3]
        self.next = 4
        self.live: dict[str, int] = {}

    @rule(call=st.integers(0, 9), asker=st.integers(0, 2))
    def ask(self, call: int, asker: int) -> None:
        sid = f"CA{call}"
        home = self.homes.place(sid, self.workers, asker=self.workers[asker])
        assert home in self.workers
        assert self.live.get(sid, home) == home
        if sid not in self.live and self.homes._live.get(sid) == home:
            self.live[sid] = home

    @rule(call=st.integers(0, 9), ended=st.booleans())
    def end(self, call: int, ended: bool) -> None:
        home = self.live.pop(f"CA{call}", None)
        if home is not None:
            self.homes.dropped(home, f"CA{call}", ended=ended)

    @rule(which=st.integers(0, 2))
    def die(self, which: int) -> None:
        self.homes.gone(self.workers[which])
        self.live = {call: home for call, home in self.live.items() if home != self.workers[which]}
        self.workers[which] = self.next
        self.next += 1

    @invariant()
    def loads_are_true(self) -> None:
        for worker in self.workers:
            assert self.homes.load(worker) == sum(home == worker for home in self.live.values())


TestSpreading = Spreading.TestCase
