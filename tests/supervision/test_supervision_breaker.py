"""Conformance: the circuit breaker."""

from __future__ import annotations

import pytest
import trio
from supervision_world import World, conformance, settle

from callrt.supervision import BreakerChanged, BreakerOpen, Breakers, CircuitBreaker, SpecError


async def works() -> str:
    await trio.lowlevel.checkpoint()
    return "fine"


async def fails() -> None:
    await trio.lowlevel.checkpoint()
    raise LookupError


async def fail(breaker: CircuitBreaker, times: int = 1) -> None:
    for _ in range(times):
        with pytest.raises(LookupError):
            await breaker.call(fails)


@conformance
async def test_cbr_1_failures_in_a_row_open_it_and_calls_fail_without_running(world: World) -> None:
    breaker = CircuitBreaker(max_failures=3, call_timeout=2.0, reset_after=10.0)
    await fail(breaker, 2)
    assert await breaker.call(works) == "fine"
    await fail(breaker, 2)
    assert breaker.state == "closed"
    with pytest.raises(trio.TooSlowError):
        await breaker.call(trio.sleep, 5.0)
    assert trio.current_time() == 2.0
    assert breaker.state == "open"
    ran = False

    async def run() -> None:
        nonlocal ran
        ran = True

    with pytest.raises(BreakerOpen) as caught:
        await breaker.call(run)
    assert not ran
    assert caught.value.retry_at == 12.0
    assert breaker.refused == 1


@conformance
async def test_cbr_2_exactly_one_trial_after_the_reset_time(world: World) -> None:
    breaker = CircuitBreaker(max_failures=1, reset_after=10.0)
    await fail(breaker)
    await trio.sleep(9.9)
    with pytest.raises(BreakerOpen):
        await breaker.call(works)
    await trio.sleep(0.1)
    outcomes: list[str] = []

    async def attempt() -> None:
        try:
            await breaker.call(trio.sleep, 1.0)
            outcomes.append("ran")
        except BreakerOpen:
            outcomes.append("refused")

    async with trio.open_nursery() as nursery:
        for _ in range(10):
            nursery.start_soon(attempt)
        await settle()
        assert breaker.state == "half_open"
        assert outcomes == ["refused"] * 9
    assert outcomes[-1] == "ran"
    assert breaker.state == "closed"
    assert await breaker.call(works) == "fine"


@conformance
async def test_cbr_3_failed_trial_grows_the_reset_time_up_to_its_cap(world: World) -> None:
    changes: list[BreakerChanged] = []
    breaker = CircuitBreaker(
        max_failures=1,
        reset_after=1.0,
        factor=2.0,
        cap=3.0,
        reports=lambda fact: changes.append(fact),  # type: ignore[arg-type]
    )
    await fail(breaker)
    for reset in (1.0, 2.0, 3.0, 3.0):
        assert breaker.retry_at == trio.current_time() + reset
        await trio.sleep(reset)
        await fail(breaker)
    await trio.sleep(3.0)
    await breaker.call(works)
    await fail(breaker)
    assert breaker.retry_at == trio.current_time() + 1.0
    assert [change.state for change in changes] == [
        "open",
        *["half_open", "open"] * 4,
        "half_open",
        "closed",
        "open",
    ]


@conformance
async def test_cancelled_call_is_neither_failure_nor_success(world: World) -> None:
    breaker = CircuitBreaker(max_failures=1, reset_after=1.0)
    with trio.move_on_after(1):
        await breaker.call(trio.sleep_forever)
    assert breaker.state == "closed"
    await fail(breaker)
    await trio.sleep(1)
    with trio.move_on_after(1):
        await breaker.call(trio.sleep_forever)
    assert await breaker.call(works) == "fine"


@conformance
async def test_result_from_before_the_breaker_opened_counts_no_more(world: World) -> None:
    breaker = CircuitBreaker(max_failures=2, reset_after=1.0)
    old = breaker.admit()
    await fail(breaker, 2)
    old.succeeded()
    assert breaker.state == "open"
    await trio.sleep(1)
    trial = breaker.admit()
    trial.succeeded()
    trial.failed()
    assert breaker.state == "closed"


@conformance
async def test_breakers_are_shared_by_name(world: World) -> None:
    breakers = Breakers()
    one = breakers.named("openai", max_failures=1)
    assert breakers.named("openai", max_failures=1) is one
    assert breakers.named("other", max_failures=1) is not one
    with pytest.raises(SpecError, match="openai"):
        breakers.named("openai", max_failures=2)
    assert [breaker.name for breaker in breakers.all()] == ["openai", "other"]
    with pytest.raises(SpecError, match="max_failures"):
        CircuitBreaker(max_failures=0)
