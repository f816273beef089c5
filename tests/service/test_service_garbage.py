"""Garbage is still collected, and what was loaded before is not looked through again."""

from __future__ import annotations

import gc
import weakref
from collections.abc import Iterator

import pytest

from callrt.service.garbage import THRESHOLDS, collect_rarely


@pytest.fixture(autouse=True)
def _as_it_was() -> Iterator[None]:
    before = gc.get_threshold()
    yield
    gc.unfreeze()
    gc.set_threshold(*before)


class Knot:
    def __init__(self) -> None:
        self.me = self


def test_what_is_there_already_is_not_looked_through_again() -> None:
    collect_rarely()
    assert gc.get_freeze_count() > 10_000
    assert gc.get_threshold() == THRESHOLDS


def test_a_knot_of_objects_is_found_while_others_come_and_stay() -> None:
    collect_rarely()
    knot = weakref.ref(Knot())
    assert knot() is not None
    # What stays is what makes the collector look.
    kept = [[n] for n in range(2 * THRESHOLDS[0])]
    assert knot() is None
    assert len(kept) == 2 * THRESHOLDS[0]
