"""Waiting in little room: a flag is an event, a bell remembers one ring."""

from __future__ import annotations

from typing import Any

import pytest
import trio

from callrt.supervision.waiting import Bell, Flag


async def test_flag_wakes_all_who_wait_and_nobody_waits_after_it(autojump_clock: Any) -> None:
    flag, woken = Flag(), []

    async def wait(name: str) -> None:
        await flag.wait()
        woken.append((name, trio.current_time()))

    async with trio.open_nursery() as nursery:
        nursery.start_soon(wait, "a")
        nursery.start_soon(wait, "b")
        await trio.sleep(1)
        assert not flag.is_set()
        flag.set()
        flag.set()
    await wait("late")
    assert sorted(woken) == [("a", 1.0), ("b", 1.0), ("late", 1.0)]
    assert flag.is_set()


async def test_flag_calls_who_has_no_task_once_and_not_when_it_is_too_late() -> None:
    flag, called = Flag(), []
    assert flag.call(lambda: called.append("first"))
    assert flag.call(lambda: called.append("second"))
    async with trio.open_nursery() as nursery:
        nursery.start_soon(flag.wait)
        await trio.testing.wait_all_tasks_blocked()
        flag.set()
        flag.set()
    assert called == ["first", "second"]
    assert not flag.call(lambda: called.append("late"))
    assert called == ["first", "second"]


@pytest.mark.parametrize("thing", [Flag, Bell])
async def test_a_wait_is_a_checkpoint_and_cancelled_without_effect(thing: Any, autojump_clock: Any) -> None:
    waited = thing()
    with trio.move_on_after(1) as scope:
        await waited.wait()
    assert scope.cancelled_caught
    signal = waited.set if thing is Flag else waited.ring
    signal()
    with trio.CancelScope() as scope:
        scope.cancel()
        await waited.wait()
    assert scope.cancelled_caught
    with trio.fail_after(1):
        await waited.wait()  # what was signalled is still there


async def test_bell_remembers_one_ring_and_what_was_rung_meanwhile_is_taken_along(
    autojump_clock: Any,
) -> None:
    bell = Bell()
    bell.ring()
    bell.ring()
    await bell.wait()
    async with trio.open_nursery() as nursery:
        nursery.start_soon(bell.wait)
        await trio.testing.wait_all_tasks_blocked()
        bell.ring()
        bell.ring()  # the waiter has not run yet: it is told of both at once
    bell.ring()
    bell.hush()
    with trio.move_on_after(1) as scope:
        await bell.wait()
    assert scope.cancelled_caught
